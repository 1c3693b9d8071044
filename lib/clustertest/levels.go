package clustertest

import (
	"context"
	"net"
	"testing"
	"time"

	"vmcluster/lib/gather"
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/router"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/storageapi"
)

// Level is an insert and a select node before some of the storage nodes, which serve both protocols: a cluster of a lower level.
type Level struct {
	Name    string
	Group   string
	Gather  *gather.Gather
	Ingests storageapi.Ingester

	c       *Cluster
	inserts *insertrpc.Server
	selects *selectrpc.Server
	serving []chan struct{}
}

// NewLevel starts a lower level over the given nodes, or over levels which are lower still. It ends with the test.
func (c *Cluster) NewLevel(name string, g *gather.Gather, in storageapi.Ingester) *Level {
	c.t.Helper()
	l := &Level{Name: name, Gather: g, Ingests: in, c: c}
	c.t.Cleanup(l.Stop)
	l.Start()
	return l
}

// Start serves the level, also after Stop.
func (l *Level) Start() {
	l.c.t.Helper()
	g := l.Gather
	l.selects = selectrpc.NewServer(selectrpc.ServerOptions{Searcher: g, Catalog: g, Reducer: g, Versioner: g, Metadata: g, Exemplars: g, Name: "vmselect", Level: true})
	l.inserts = insertrpc.NewServer(insertrpc.ServerOptions{Ingester: l.Ingests})
	l.serve(":8401", l.selects.Serve)
	l.serve(":8400", l.inserts.Serve)
}

func (l *Level) serve(port string, serve func(net.Listener) error) {
	ln, err := l.c.network.Listen(l.Name + port)
	if err != nil {
		l.c.t.Fatal(err)
	}
	done := make(chan struct{})
	l.serving = append(l.serving, done)
	go func() {
		defer close(done)
		_ = serve(ln) // ends when the server is closed
	}()
}

// Stop stops the level gracefully, and leaves the nodes below as they are. Stopping a stopped one does nothing.
func (l *Level) Stop() {
	if l.serving == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, err := range []error{l.inserts.Shutdown(ctx), l.selects.Shutdown(ctx)} {
		if err != nil {
			l.c.t.Error(err)
		}
	}
	for _, done := range l.serving {
		<-done
	}
	l.serving = nil
}

// NewReader returns what a vmselect reads with that has the given nodes and levels.
func (c *Cluster) NewReader(cfg gather.Config, nodes []*Node, levels []*Level) *gather.Gather {
	c.t.Helper()
	var readFrom []gather.Node
	add := func(name, addr, group string) {
		client := selectrpc.NewClient(selectrpc.ClientOptions{Addr: addr, Dial: c.network.Dial})
		c.clients = append(c.clients, client)
		readFrom = append(readFrom, gather.Node{Name: name, Group: group, Searcher: client, Catalog: client, Reducer: client, Versioner: client, Metadata: client, Exemplars: client})
		waitFor(c.t, "connection to "+name, client.Reachable)
	}
	for _, n := range nodes {
		add(n.Name, n.selectAddr(), n.Group)
	}
	for _, l := range levels {
		add(l.Name, l.Name+":8401", l.Group)
	}
	g, err := gather.New(gather.Options{Nodes: readFrom, Config: cfg, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		c.t.Fatal(err)
	}
	return g
}

// NewWriter returns what a vminsert writes with that has the given nodes and levels.
func (c *Cluster) NewWriter(cfg router.Config, nodes []*Node, levels []*Level) *router.Router {
	c.t.Helper()
	var writeTo []router.Node
	add := func(name, addr string) {
		client := insertrpc.NewClient(insertrpc.ClientOptions{Addr: addr, Dial: c.network.Dial})
		c.clients = append(c.clients, client)
		writeTo = append(writeTo, router.Node{Name: name, Ingester: client, Reachable: client.Reachable})
		waitFor(c.t, "connection to "+name, client.Reachable)
	}
	for _, n := range nodes {
		add(n.Name, n.insertAddr())
	}
	for _, l := range levels {
		add(l.Name, l.Name+":8400")
	}
	r, err := router.New(router.Options{Nodes: writeTo, Config: cfg, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// NewTwoLevels starts a cluster of so many storage nodes for each of the lower levels, and writes and reads through these.
func NewTwoLevels(t *testing.T, sizes ...int) (*Cluster, []*Level) {
	t.Helper()
	total := 0
	for _, n := range sizes {
		total += n
	}
	c := New(t, total)
	levels := c.Split(sizes...)
	c.Ingester = c.NewWriter(router.Config{}, nil, levels)
	g := c.NewReader(gather.Config{}, nil, levels)
	c.Searcher, c.Reducer, c.Catalog, c.Versions = g, g, g, g
	return c, levels
}

// Split starts a lower level for the first sizes[0] nodes, for the next sizes[1], and so on.
func (c *Cluster) Split(sizes ...int) []*Level {
	c.t.Helper()
	var levels []*Level
	nodes := c.Nodes
	for i, n := range sizes {
		own := nodes[:n]
		nodes = nodes[n:]
		name := string(rune('a'+i)) + "-level"
		levels = append(levels, c.NewLevel(name, c.NewReader(gather.Config{}, own, nil), c.NewWriter(router.Config{}, own, nil)))
	}
	return levels
}
