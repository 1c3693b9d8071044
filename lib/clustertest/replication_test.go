package clustertest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/gather"
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/router"
	"vmcluster/lib/selectrpc"
)

// replicate makes the cluster write the given number of copies. The result has the metrics of writes.
func (c *Cluster) replicate(copies int) *metrics.Set {
	c.t.Helper()
	set := metrics.NewSet()
	var nodes []router.Node
	for _, n := range c.Nodes {
		client := insertrpc.NewClient(insertrpc.ClientOptions{Addr: n.insertAddr(), Dial: c.network.Dial, Metrics: set})
		c.clients = append(c.clients, client)
		nodes = append(nodes, router.Node{Name: n.Name, Ingester: client, Reachable: client.Reachable})
		waitFor(c.t, "connection to "+n.Name, client.Reachable)
	}
	r, err := router.New(router.Options{Config: router.Config{ReplicationFactor: copies}, Nodes: nodes, Logger: logger.Discard(), Metrics: set})
	if err != nil {
		c.t.Fatal(err)
	}
	c.Ingester = r
	return set
}

// readWithout makes the cluster read from all nodes but one.
func (c *Cluster) readWithout(missing *Node) {
	c.t.Helper()
	var nodes []gather.Node
	for _, n := range c.Nodes {
		if n == missing {
			continue
		}
		client := selectrpc.NewClient(selectrpc.ClientOptions{Addr: n.selectAddr(), Dial: c.network.Dial})
		c.clients = append(c.clients, client)
		nodes = append(nodes, gather.Node{Name: n.Name, Searcher: client, Catalog: client})
		waitFor(c.t, "connection to "+n.Name, client.Reachable)
	}
	g, err := gather.New(gather.Options{Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.Searcher = g
}

// TestReplicasOutliveNodes writes two copies while nodes lose power or are stopped in turn. Everything that was acknowledged is found without any one of the nodes.
func TestReplicasOutliveNodes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := New(t, 3)
	set := c.replicate(2)
	acked := acknowledged{samples: map[string]map[int64]float64{}}
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() { write(t.Context(), c, w, &acked, stop) })
	}
	for range 8 {
		waitForGrowth(t, &acked)
		n := c.Nodes[rng.IntN(len(c.Nodes))]
		if rng.IntN(2) == 0 {
			n.Stop()
		} else {
			n.Crash(rng)
		}
		waitForGrowth(t, &acked) // the others take its share
		sent := set.Counter(fmt.Sprintf(`vm_rpc_rows_sent_total{name="vminsert", addr=%q, rpc_call="metric_rows"}`, n.insertAddr()))
		before := sent.Get()
		n.Start()
		waitFor(t, n.Name+" to get rows again", func() bool { return sent.Get() > before })
	}
	close(stop)
	writers.Wait()
	if n := set.Counter(`vm_rpc_rows_incompletely_replicated_total{name="vminsert"}`).Get(); n > 0 {
		t.Errorf("%d rows have one copy only, although two nodes were always there", n)
	}
	for _, missing := range c.Nodes {
		c.readWithout(missing)
		compare(t, c, &acked)
	}
}
