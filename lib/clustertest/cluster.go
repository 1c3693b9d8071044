package clustertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"vmcluster/lib/gather"
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/querysource"
	"vmcluster/lib/router"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/storage"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/transport"
	"vmcluster/lib/vfs/memfs"
)

// Cluster is a running cluster: write with Ingester, read with Searcher.
type Cluster struct {
	Ingester storageapi.Ingester
	Searcher storageapi.Searcher
	Reducer  storageapi.Reducer
	Versions storageapi.Versioner
	Catalog  storageapi.Catalog
	Nodes    []*Node

	t       *testing.T
	network *transport.MemoryNetwork
	clients []interface{ Close() error }
}

// Options describe a cluster.
type Options struct {
	Groups []string      // the group of each node; there are as many nodes
	Gather gather.Config // of Searcher, Reducer and Catalog
}

// Node is one storage node.
type Node struct {
	Name    string
	Group   string
	Storage *storage.Storage // nil while stopped
	FS      *memfs.FS

	c       *Cluster
	inserts *insertrpc.Server
	selects *selectrpc.Server
	serving chan struct{} // closed when both servers have ended
}

// New starts a cluster of n storage nodes, which ends with the test. The
// storages take what package apitest sends.
func New(t *testing.T, n int) *Cluster { return NewWith(t, Options{Groups: make([]string, n)}) }

// NewWith starts a cluster as New does.
func NewWith(t *testing.T, o Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t, network: transport.NewMemoryNetwork()}
	t.Cleanup(c.close)
	for i, group := range o.Groups {
		node := &Node{Name: fmt.Sprintf("node-%d", i), Group: group, FS: memfs.New(memfs.Options{}), c: c}
		c.Nodes = append(c.Nodes, node)
		node.Start()
	}
	c.Ingester = c.NewWriter(router.Config{}, c.Nodes, nil)
	g := c.NewReader(o.Gather, c.Nodes, nil)
	c.Searcher, c.Reducer, c.Catalog, c.Versions = g, g, g, g
	return c
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s takes too long", what)
		}
	}
}

func (c *Cluster) close() {
	for _, client := range c.clients {
		if err := client.Close(); err != nil {
			c.t.Error(err)
		}
	}
	for _, n := range c.Nodes {
		n.Stop()
	}
}

func (n *Node) insertAddr() string { return n.Name + ":8400" }
func (n *Node) selectAddr() string { return n.Name + ":8401" }

// Start opens the storage of a stopped node and serves it.
func (n *Node) Start() {
	t := n.c.t
	t.Helper()
	cfg := storage.DefaultConfig("/data")
	if err := cfg.RetentionPeriod.Set("100y"); err != nil {
		t.Fatal(err)
	}
	// Samples of the suite lie around a fixed time.
	now := func() time.Time { return time.UnixMilli(apitest.DefaultBase).Add(24 * time.Hour) }
	var err error
	n.Storage, err = storage.Open(cfg, storage.Options{FS: n.FS, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 30), Now: now})
	if err != nil {
		t.Fatalf("cannot open storage of %s: %s", n.Name, err)
	}
	n.inserts = insertrpc.NewServer(insertrpc.ServerOptions{Ingester: n.Storage})
	reduce := querysource.NewReducer(querysource.ReducerOptions{Searcher: n.Storage, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	n.selects = selectrpc.NewServer(selectrpc.ServerOptions{Searcher: n.Storage, Admin: n.Storage, Catalog: n.Storage, Reducer: reduce, Versioner: n.Storage})
	n.serving = make(chan struct{})
	done := make(chan struct{}, 2)
	n.serve(n.insertAddr(), n.inserts.Serve, done)
	n.serve(n.selectAddr(), n.selects.Serve, done)
	go func(serving chan struct{}) {
		<-done
		<-done
		close(serving)
	}(n.serving)
}

func (n *Node) serve(addr string, serve func(net.Listener) error, done chan<- struct{}) {
	ln, err := n.c.network.Listen(addr)
	if err != nil {
		n.c.t.Fatal(err)
	}
	go func() {
		_ = serve(ln) // ends when the server is closed
		done <- struct{}{}
	}()
}

// Stop stops the node gracefully. Stopping a stopped node does nothing.
func (n *Node) Stop() {
	if n.Storage == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, err := range []error{n.inserts.Shutdown(ctx), n.selects.Shutdown(ctx)} {
		if err != nil {
			n.c.t.Error(err)
		}
	}
	<-n.serving
	if err := n.Storage.Close(); err != nil {
		n.c.t.Error(err)
	}
	n.Storage = nil
}

// Crash cuts all connections of the node and takes away what its file system
// had not made durable, as a power cut would. Start brings it back.
func (n *Node) Crash(rng *rand.Rand) {
	// Connections first: what is acknowledged after the disk has stopped would
	// be lost by no fault of the storage.
	n.inserts.Close()
	n.selects.Close()
	<-n.serving
	survived := n.FS.Crash(rng)
	// The old process writes to a disk that nobody reads any more.
	_ = n.Storage.Close()
	n.FS, n.Storage = survived, nil
}
