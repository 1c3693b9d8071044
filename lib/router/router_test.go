package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/gather"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode answers by a function and remembers the rows it acknowledged.
type fakeNode struct {
	mu     sync.Mutex
	reply  func() error
	rows   map[string]int // samples it acknowledged, by key and timestamp
	halves []string       // samples it stored without acknowledging them
	calls  int
}

// errHalf is the answer of a node which stores half of a batch and does not acknowledge any of it.
var errHalf = errors.New("gone in the middle")

func (n *fakeNode) set(reply func() error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reply = reply
}

func (n *fakeNode) Ingest(ctx context.Context, b *model.Batch) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.reply != nil {
		if err := n.reply(); err != nil {
			n.storeHalf(b, err)
			return err
		}
	}
	for i := range b.Len() {
		if b.Hash(i) != model.HashSeriesKey(b.Key(i)) {
			return errors.New("the hash does not belong to the key")
		}
		for _, row := range rowsOf(b, i) {
			n.rows[row]++
		}
	}
	return nil
}

func (n *fakeNode) storeHalf(b *model.Batch, err error) {
	if !errors.Is(err, errHalf) {
		return
	}
	for i := range (b.Len() + 1) / 2 {
		n.halves = append(n.halves, rowsOf(b, i)...)
	}
}

// rowsOf names the rows of a series.
func rowsOf(b *model.Batch, i int) (rows []string) {
	for _, s := range b.Samples(i) {
		rows = append(rows, fmt.Sprintf("%x@%d=%v", b.Key(i), s.Timestamp, s.Value))
	}
	for _, h := range b.AppendHistograms(nil, i) {
		rows = append(rows, fmt.Sprintf("%x@%d=%s", b.Key(i), h.Timestamp, h.Payload))
	}
	return rows
}

func fail(kind errkind.Kind) func() error {
	return func() error { return errkind.New(kind, "it is %s", kind) }
}

type cluster struct {
	*Router
	nodes []*fakeNode
	set   *metrics.Set
}

func newCluster(t testing.TB, n int) *cluster { return newClusterWith(t, n, Config{}) }

func newClusterWith(t testing.TB, n int, cfg Config) *cluster {
	t.Helper()
	c := &cluster{set: metrics.NewSet()}
	var nodes []Node
	for i := range n {
		f := &fakeNode{rows: map[string]int{}}
		c.nodes = append(c.nodes, f)
		nodes = append(nodes, Node{Name: fmt.Sprintf("node%d:8400", i), Ingester: f})
	}
	r, err := New(Options{Config: cfg, Nodes: nodes, Logger: logger.Discard(), Metrics: c.set})
	if err != nil {
		t.Fatal(err)
	}
	r.nodes.Load().window.pieces = 2 // whatever the machine has
	c.Router = r
	return c
}

// health returns what is known of a node. Nothing may be under way.
func (c *cluster) health(node int) *health { return &c.Router.nodes.Load().states[node].health }

func (c *cluster) metric(t *testing.T, name string) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.set.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("there is no metric %s in\n%s", name, b.String())
	return ""
}

func makeBatch(t testing.TB, series, rows, salt int) *model.Batch {
	t.Helper()
	b := &model.Batch{}
	for i := range series {
		if err := b.AddSeries(model.TenantID{AccountID: uint32(i % 3)}, []model.Label{
			{Name: model.MetricNameLabel, Value: "metric"}, {Name: "i", Value: fmt.Sprint(i)},
		}); err != nil {
			t.Fatal(err)
		}
		for j := range rows {
			if j == 0 && i%5 == 1 { // so some series have no samples at all
				b.AddHistogram(int64(salt*1000), []byte("a histogram"))
				continue
			}
			b.AddSample(int64(salt*1000+j), float64(i))
		}
	}
	return b
}

// missing returns the rows of b which no node acknowledged.
func (c *cluster) missing(b *model.Batch) int {
	missing := 0
	for i := range b.Len() {
		for _, row := range rowsOf(b, i) {
			found := false
			for _, n := range c.nodes {
				n.mu.Lock()
				found = found || n.rows[row] > 0
				n.mu.Unlock()
			}
			if !found {
				missing++
			}
		}
	}
	return missing
}

func TestHealthyNodesShareRows(t *testing.T) {
	c := newCluster(t, 4)
	b := makeBatch(t, 1000, 2, 0)
	if err := c.Ingest(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if n := c.missing(b); n > 0 {
		t.Errorf("%d rows are missing", n)
	}
	for i, n := range c.nodes {
		if len(n.rows) < 350 || len(n.rows) > 650 {
			t.Errorf("node %d has %d of 2000 rows", i, len(n.rows))
		}
	}
}

func TestDeadNodeIsDetouredAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.nodes[1].set(fail(errkind.Unavailable))
		for i := range 10 {
			b := makeBatch(t, 300, 1, i)
			if err := c.Ingest(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if n := c.missing(b); n > 0 {
				t.Fatalf("%d rows are missing", n)
			}
		}
		if n := c.nodes[1].calls; n != 1 {
			t.Errorf("the dead node was asked %d times within its cool-down", n)
		}
		from := c.metric(t, `vm_rpc_rows_rerouted_from_here_total{name="vminsert", addr="node1:8400", rpc_call="metric_rows"}`)
		to0 := c.metric(t, `vm_rpc_rows_rerouted_to_here_total{name="vminsert", addr="node0:8400", rpc_call="metric_rows"}`)
		if from == "0" || to0 == "0" || c.metric(t, `vm_rpc_reroutes_total{name="vminsert"}`) != "1" {
			t.Errorf("re-routed %s rows, %s of them to node 0", from, to0)
		}
		time.Sleep(minCoolDown) // of the bubble's clock
		c.nodes[1].set(nil)
		if err := c.Ingest(t.Context(), makeBatch(t, 300, 1, 99)); err != nil || len(c.nodes[1].rows) == 0 {
			t.Errorf("the node is back and has %d rows, error %v", len(c.nodes[1].rows), err)
		}
	})
}

func TestReadOnlyNode(t *testing.T) {
	c := newCluster(t, 2)
	c.nodes[0].set(fail(errkind.ReadOnly))
	b := makeBatch(t, 100, 1, 0)
	if err := c.Ingest(t.Context(), b); err != nil || c.missing(b) > 0 {
		t.Fatalf("%d rows missing, error %v", c.missing(b), err)
	}
}

func TestAllNodesDown(t *testing.T) {
	c := newCluster(t, 3)
	c.nodes[0].set(fail(errkind.Unavailable))
	c.nodes[1].set(fail(errkind.ReadOnly))
	c.nodes[2].set(fail(errkind.Draining))
	for range 2 { // also when all are cooling down
		err := c.Ingest(t.Context(), makeBatch(t, 100, 1, 0))
		if errkind.Of(err) != errkind.Unavailable || errkind.RetryAfterOf(err) <= 0 {
			t.Fatalf("error %v", err)
		}
		for _, part := range []string{"node0:8400", "unavailable", "node1:8400", "node2:8400"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q does not say %q", err, part)
			}
		}
	}
	c.nodes[1].set(nil) // cooling down, but the only one left
	b := makeBatch(t, 100, 1, 1)
	if err := c.Ingest(t.Context(), b); err != nil || c.missing(b) > 0 {
		t.Errorf("%d rows missing, error %v", c.missing(b), err)
	}
}

func TestRefusalIsNotRerouted(t *testing.T) {
	c := newCluster(t, 3)
	c.nodes[1].set(fail(errkind.BadRequest))
	err := c.Ingest(t.Context(), makeBatch(t, 300, 1, 0))
	if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), "node1:8400") {
		t.Fatalf("error %v", err)
	}
	if n := c.metric(t, `vm_rpc_reroutes_total{name="vminsert"}`); n != "0" {
		t.Errorf("%s reroutes", n)
	}
}

func TestCanceledCallBlamesNoNode(t *testing.T) {
	c := newCluster(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Ingest(ctx, makeBatch(t, 100, 1, 0)); errkind.Of(err) != errkind.Canceled {
		t.Errorf("error %v", err)
	}
	for i := range c.nodes {
		if c.health(i).kind != errkind.OK {
			t.Errorf("node %d is blamed", i)
		}
	}
}

// blockingNode waits for the end of the context.
type blockingNode struct{}

func (blockingNode) Ingest(ctx context.Context, _ *model.Batch) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestHungNodeEndsWithTheContext(t *testing.T) {
	r, err := New(Options{Nodes: []Node{{Name: "a", Ingester: blockingNode{}}}, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.Ingest(ctx, makeBatch(t, 100, 1, 0)); errkind.Of(err) != errkind.Timeout {
		t.Errorf("error %v", err)
	}
}

// TestHungNodeLeavesTimeForOthers: a caller who gives as much time as the router gives a node is answered before it is over.
func TestHungNodeLeavesTimeForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.Router.nodes.Load().nodes[1].Ingester = blockingNode{}
		ctx, cancel := context.WithTimeout(t.Context(), maxAttempt)
		defer cancel()
		b := makeBatch(t, 100, 1, 0)
		if err := c.Ingest(ctx, b); err != nil || c.missing(b) > 0 {
			t.Errorf("error %v, %d series are missing", err, c.missing(b))
		}
		if kind := c.health(1).kind; kind != errkind.Timeout {
			t.Errorf("the node that hangs is %s", kind)
		}
	})
}

// TestAllNodesOfAKind: who chooses among clusters must know that one has no room, or is busy.
func TestAllNodesOfAKind(t *testing.T) {
	for _, tc := range []struct{ first, others, want errkind.Kind }{
		{errkind.ReadOnly, errkind.ReadOnly, errkind.ReadOnly},
		{errkind.Overloaded, errkind.Overloaded, errkind.Overloaded},
		{errkind.ReadOnly, errkind.Unavailable, errkind.Unavailable},
		{errkind.Overloaded, errkind.ReadOnly, errkind.Unavailable},
		{errkind.Draining, errkind.Draining, errkind.Unavailable},
	} {
		c := newCluster(t, 3)
		for i, n := range c.nodes {
			if n.set(fail(tc.others)); i == 0 {
				n.set(fail(tc.first))
			}
		}
		if err := c.Ingest(t.Context(), makeBatch(t, 100, 1, 0)); errkind.Of(err) != tc.want {
			t.Errorf("%s and %s: error %v", tc.first, tc.others, err)
		}
	}
}

// TestHungNodeIsDetoured checks that a node which takes requests and never answers does not stop writes.
func TestHungNodeIsDetoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.Router.nodes.Load().nodes[1].Ingester = blockingNode{}
		for i := range 3 {
			b := makeBatch(t, 100, 1, i)
			if err := c.Ingest(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if n := c.missing(b); n > 0 {
				t.Errorf("%d rows are missing", n)
			}
		}
		if kind := c.health(1).kind; kind != errkind.Timeout {
			t.Errorf("the node counts as %s", kind)
		}
	})
}

func TestProbesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		c.nodes[2].set(fail(errkind.Unavailable))
		if err := c.Ingest(t.Context(), makeBatch(t, 100, 1, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(maxHint)
		c.nodes[2].set(nil)
		// These calls claim the probe; most have no row for the node.
		for i := range 50 {
			if err := c.Ingest(t.Context(), makeBatch(t, 1, 1, i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Ingest(t.Context(), makeBatch(t, 100, 1, 7)); err != nil || len(c.nodes[2].rows) == 0 {
			t.Errorf("the node came back and has %d rows, error %v", len(c.nodes[2].rows), err)
		}
	})
}

func TestBadNodeLists(t *testing.T) {
	for _, tc := range []struct {
		nodes  []Node
		copies int
		says   string
	}{
		{nil, 1, "-storageNode"},
		{[]Node{{Name: "a"}, {Name: "b"}, {Name: "a"}}, 1, "twice"},
		{[]Node{{Name: "a"}, {Name: "b"}}, 3, "-replicationFactor=3 copies of samples on 2 storage nodes"},
		{[]Node{{Name: "a"}, {Name: "b"}}, -1, "-replicationFactor=-1"},
	} {
		_, err := New(Options{Config: Config{ReplicationFactor: tc.copies}, Nodes: tc.nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
		if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v and %d copies give error %v; want %q in it", tc.nodes, tc.copies, err, tc.says)
		}
	}
}

// A router and a gather over stores are a store.
func TestConformance(t *testing.T) {
	for n := 1; n <= 4; n++ {
		t.Run(fmt.Sprint(n, " nodes"), func(t *testing.T) {
			apitest.Run(t, func(t *testing.T) apitest.Target {
				var in []Node
				var out []gather.Node
				for i := range n {
					m := apitest.NewMemory()
					in = append(in, Node{Name: fmt.Sprint("node", i), Ingester: m})
					out = append(out, gather.Node{Name: fmt.Sprint("node", i), Searcher: m, Catalog: m})
				}
				r, err := New(Options{Nodes: in, Logger: logger.Discard(), Metrics: metrics.NewSet()})
				if err != nil {
					t.Fatal(err)
				}
				g, err := gather.New(gather.Options{Nodes: out, Logger: logger.Discard(), Metrics: metrics.NewSet()})
				if err != nil {
					t.Fatal(err)
				}
				return apitest.Target{Ingester: r, Searcher: g, Catalog: g, Nodes: n}
			})
		})
	}
}

type nullIngester struct{}

func (nullIngester) Ingest(context.Context, *model.Batch) error { return nil }

var _ storageapi.Ingester = nullIngester{}

func BenchmarkIngest(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4, 8} {
		for copies := 1; copies <= min(n, 3); copies++ {
			b.Run(fmt.Sprintf("%d nodes/%d copies", n, copies), func(b *testing.B) { benchmarkIngest(b, n, copies) })
		}
	}
}

func benchmarkIngest(b *testing.B, n, copies int) {
	var nodes []Node
	for i := range n {
		nodes = append(nodes, Node{Name: fmt.Sprint("node", i), Ingester: nullIngester{}})
	}
	r, err := New(Options{Config: Config{ReplicationFactor: copies}, Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		b.Fatal(err)
	}
	batch := makeBatch(b, 10_000, 1, 0)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Ingest(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/row")
}
