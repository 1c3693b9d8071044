package router

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
)

const (
	incompleteMetric = `vm_rpc_rows_incompletely_replicated_total{name="vminsert"}`
	droppedMetric    = `vm_rpc_rows_dropped_on_overload_total{name="vminsert"}`
)

func (c *cluster) count(t *testing.T, name string) int {
	t.Helper()
	n, err := strconv.Atoi(c.metric(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// holders returns how many nodes have acknowledged a row.
func (c *cluster) holders(row string) int {
	n := 0
	for _, node := range c.nodes {
		node.mu.Lock()
		n += min(node.rows[row], 1)
		node.mu.Unlock()
	}
	return n
}

// eachRow calls f with the name of each row of a batch and the series it belongs to.
func eachRow(b *model.Batch, f func(i int, row string)) {
	for i := range b.Len() {
		for _, row := range rowsOf(b, i) {
			f(i, row)
		}
	}
}

func mustIngest(t *testing.T, c *cluster, b *model.Batch) {
	t.Helper()
	if err := c.Ingest(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestCopiesAreOnPreferredNodes(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for copies := 1; copies <= n; copies++ {
			c := newClusterWith(t, n, Config{ReplicationFactor: copies})
			b := makeBatch(t, 200, 2, 0)
			mustIngest(t, c, b)
			all := slices.Repeat([]bool{true}, n)
			eachRow(b, func(i int, row string) {
				for _, node := range c.Router.nodes.Load().ring.FillFirst(make([]uint64, copies), b.Hash(i), all) {
					if c.nodes[node].rows[row] != 1 {
						t.Fatalf("%d copies on %d nodes: node %d has row %s %d times", copies, n, node, row, c.nodes[node].rows[row])
					}
				}
				if got := c.holders(row); got != copies {
					t.Fatalf("%d copies on %d nodes: row %s is on %d", copies, n, row, got)
				}
			})
			if got := c.count(t, incompleteMetric); got != 0 {
				t.Errorf("%d copies on %d nodes: %d rows count as incomplete", copies, n, got)
			}
		}
	}
}

func TestIncompleteReplicationIsCounted(t *testing.T) {
	c := newClusterWith(t, 3, Config{ReplicationFactor: 2})
	c.nodes[0].set(fail(errkind.Unavailable))
	b := makeBatch(t, 100, 2, 0)
	mustIngest(t, c, b)
	if got := c.count(t, incompleteMetric); got != 0 {
		t.Errorf("%d rows count as incomplete although two nodes are left", got)
	}
	c.nodes[1].set(fail(errkind.Draining))
	for k := 1; k <= 2; k++ { // the node fails within the call, then it is known
		b = makeBatch(t, 100, 2, k)
		mustIngest(t, c, b)
		eachRow(b, func(_ int, row string) {
			if got := c.holders(row); got != 1 {
				t.Fatalf("one node is left, and row %s is on %d", row, got)
			}
		})
		if got := c.count(t, incompleteMetric); got != k*200 {
			t.Errorf("%d rows count as incomplete; want %d", got, k*200)
		}
	}
	c.nodes[2].set(fail(errkind.Unavailable))
	if err := c.Ingest(t.Context(), makeBatch(t, 100, 2, 9)); errkind.Of(err) != errkind.Unavailable || errkind.RetryAfterOf(err) == 0 {
		t.Errorf("no node is left, and the error is %v", err)
	}
}

// The share of a lost node is spread evenly, also when it is lost within the call, and nothing else moves.
func TestLostShareIsSpreadEvenly(t *testing.T) {
	const n, lost = 5, 2
	for copies := 1; copies <= 3; copies++ {
		whole, broken := newClusterWith(t, n, Config{ReplicationFactor: copies}), newClusterWith(t, n, Config{ReplicationFactor: copies})
		broken.nodes[lost].set(fail(errkind.Unavailable))
		for k := range 2 {
			for _, c := range []*cluster{whole, broken} {
				mustIngest(t, c, makeBatch(t, 20_000, 1, k))
			}
		}
		share := len(whole.nodes[lost].rows)
		want := float64(share) / (n - 1)
		for i := range n {
			moved := 0
			for row := range broken.nodes[i].rows {
				moved += 1 - whole.nodes[i].rows[row]
			}
			if i == lost {
				continue
			}
			if len(broken.nodes[i].rows) != len(whole.nodes[i].rows)+moved {
				t.Errorf("%d copies: rows of the healthy node %d have moved", copies, i)
			}
			if d := float64(moved)/want - 1; d < -0.1 || d > 0.1 {
				t.Errorf("%d copies: node %d takes over %d of %d rows, %.1f %% off an even share", copies, i, moved, share, d*100)
			}
			name := fmt.Sprintf(`{name="vminsert", addr="node%d:8400", rpc_call="metric_rows"}`, i)
			if got := broken.count(t, "vm_rpc_rows_rerouted_to_here_total"+name); got != moved {
				t.Errorf("%d copies: %d rows count as re-routed to node %d; want %d", copies, got, i, moved)
			}
		}
		name := fmt.Sprintf(`{name="vminsert", addr="node%d:8400", rpc_call="metric_rows"}`, lost)
		if got := broken.count(t, "vm_rpc_rows_rerouted_from_here_total"+name); got != share {
			t.Errorf("%d copies: %d rows count as re-routed from the lost node; want %d", copies, got, share)
		}
	}
}

// Whatever nodes do, with any number of copies: each acknowledged row is on as many distinct nodes as it has copies or as there are
// nodes which never failed; on no more of them; rows with fewer copies are counted; nothing is invented.
func TestAcknowledgedRowsHaveTheirCopies(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, round))
		n := 1 + rng.IntN(6)
		w := &world{cluster: newClusterWith(t, n, Config{ReplicationFactor: 1 + rng.IntN(n)}), sent: map[string]bool{}}
		for i, node := range w.nodes {
			if rng.IntN(2) == 0 {
				w.steady++
				continue
			}
			node.reply = moody(rand.New(rand.NewPCG(seed+round, uint64(i))))
		}
		var wg sync.WaitGroup
		for k := range 4 {
			wg.Go(func() { w.writeMuch(t, k) })
		}
		wg.Wait()
		w.check(t)
	}
}

// moody returns replies that fail at random, mostly so that another node may take the rows.
func moody(rng *rand.Rand) func() error {
	kinds := []errkind.Kind{errkind.Unavailable, errkind.ReadOnly, errkind.Draining, errkind.Overloaded, errkind.Timeout, errkind.BadRequest, errkind.Internal}
	failing := rng.Float64()
	return func() error {
		if rng.IntN(20) == 0 {
			time.Sleep(time.Duration(rng.IntN(1000)) * time.Microsecond) // it is slow, and others overtake it
		}
		if rng.Float64() > failing {
			return nil
		}
		if rng.IntN(4) == 0 {
			return errkind.New(errkind.Unavailable, "half of it is stored: %w", errHalf).WithRetryAfter(time.Nanosecond)
		}
		kind := kinds[rng.IntN(5)]
		if rng.IntN(20) == 0 {
			kind = kinds[rng.IntN(len(kinds))]
		}
		return errkind.New(kind, "failed").WithRetryAfter(time.Nanosecond)
	}
}

// world is a cluster and what was sent to it.
type world struct {
	*cluster
	steady int // nodes which never fail

	mu    sync.Mutex
	sent  map[string]bool // rows
	acked []string
}

func (w *world) writeMuch(t *testing.T, writer int) {
	for k := range 30 {
		b := makeBatch(t, 1+(k*7+writer)%40, 1+k%3, writer*1000+k)
		w.mu.Lock()
		eachRow(b, func(_ int, row string) { w.sent[row] = true })
		w.mu.Unlock()
		if w.Ingest(t.Context(), b) == nil {
			w.mu.Lock()
			eachRow(b, func(_ int, row string) { w.acked = append(w.acked, row) })
			w.mu.Unlock()
		}
	}
}

func (w *world) check(t *testing.T) {
	t.Helper()
	copies, incomplete := w.Router.config.ReplicationFactor, 0
	for _, row := range w.acked {
		n := w.holders(row)
		if n < max(1, min(copies, w.steady)) || n > copies {
			t.Fatalf("%d copies, %d nodes, %d of which never fail: acknowledged row %s is on %d nodes", copies, len(w.nodes), w.steady, row, n)
		}
		if n < copies {
			incomplete++
		}
	}
	if got := w.count(t, incompleteMetric); got != incomplete {
		t.Errorf("%d rows count as incomplete; want %d of %d", got, incomplete, len(w.acked))
	}
	for i, node := range w.nodes {
		for row, n := range node.rows {
			if !w.sent[row] || n != 1 {
				t.Errorf("node %d has row %s %d times, which was sent: %v", i, row, n, w.sent[row])
			}
		}
		for _, row := range node.halves {
			if !w.sent[row] {
				t.Errorf("node %d has row %s, which nobody sent", i, row)
			}
		}
	}
}

// hangingNode answers when it is let go, or its caller gives up.
type hangingNode struct {
	*fakeNode
	free chan struct{}
}

func (n hangingNode) Ingest(ctx context.Context, b *model.Batch) error {
	select {
	case <-n.free:
		return n.fakeNode.Ingest(ctx, b)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hang lets node 1 hang until the result is closed.
func (c *cluster) hang() chan struct{} {
	free := make(chan struct{})
	c.Router.nodes.Load().nodes[1].Ingester = hangingNode{c.nodes[1], free}
	return free
}

// ingestAtOnce makes calls at the same time and returns how long the last one took, by the clock of the bubble.
func ingestAtOnce(t *testing.T, c *cluster, calls, salt int) time.Duration {
	t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for k := range calls {
		wg.Go(func() {
			b := makeBatch(t, 300, 1, salt*100+k)
			if err := c.Ingest(t.Context(), b); err != nil || c.missing(b) > 0 {
				t.Errorf("%d rows are missing, error %v", c.missing(b), err)
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

func TestSlowNode(t *testing.T) {
	for _, tc := range []struct {
		what  string
		nodes int
		cfg   Config
		kind  errkind.Kind
		after time.Duration // its rows go elsewhere
	}{
		{"three nodes", 3, Config{}, errkind.Overloaded, slowLag},
		{"two nodes", 2, Config{}, errkind.Timeout, 3 * time.Second},
		{"-disableRerouting", 3, Config{DisableRerouting: true}, errkind.Timeout, maxAttempt},
		{"two copies", 3, Config{ReplicationFactor: 2}, errkind.Timeout, 3 * time.Second},
		{"two copies, -vmstorageUserTimeout", 3, Config{ReplicationFactor: 2, HangTimeout: 5 * time.Second}, errkind.Timeout, 5 * time.Second},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClusterWith(t, tc.nodes, tc.cfg)
				free := c.hang()
				took, kind := ingestAtOnce(t, c, 4, 1), c.health(1).kind
				if took < tc.after || took > tc.after+slowLag/4 || kind != tc.kind {
					t.Errorf("calls took %s, the node counts as %s", took, kind)
				}
				if took := ingestAtOnce(t, c, 1, 2); took > 0 {
					t.Errorf("a call during the cool-down took %s", took)
				}
				time.Sleep(maxHint)
				// One call at a time finds out whether the node is still slow, the others do not wait for it.
				if took := ingestAtOnce(t, c, 4, 3); took > tc.after+slowLag/4 {
					t.Errorf("calls with a probe took %s", took)
				}
				close(free)
				time.Sleep(maxHint)
				if took := ingestAtOnce(t, c, 4, 4); took > 0 || c.health(1).kind != errkind.OK {
					t.Errorf("the node has recovered, a call took %s, and the node counts as %s", took, c.health(1).kind)
				}
			})
		})
	}
}

// With as many nodes as copies there is nobody else: rows wait, rather than have fewer copies, as long as a node may take.
func TestHangingNodeIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterWith(t, 2, Config{ReplicationFactor: 2})
		free := c.hang()
		defer close(free)
		b := makeBatch(t, 300, 1, 1)
		began := time.Now()
		mustIngest(t, c, b)
		if took := time.Since(began); took < maxAttempt || c.missing(b) > 0 {
			t.Errorf("the call took %s, %d rows are missing", took, c.missing(b))
		}
	})
}

// Pieces that wait when a node is found to hang do not wait for their own time, and a node that answers others does not hang.
func TestPiecesLeaveHangingNodeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterWith(t, 3, Config{ReplicationFactor: 2})
		answer := c.hang()
		began := time.Now()
		var wg sync.WaitGroup
		send := func(after time.Duration, salt int) {
			wg.Go(func() {
				time.Sleep(time.Until(began.Add(after)))
				b := makeBatch(t, 300, 1, salt)
				if err := c.Ingest(t.Context(), b); err != nil || c.missing(b) > 0 {
					t.Errorf("%d rows are missing, error %v", c.missing(b), err)
				}
			})
		}
		send(0, 1)
		time.Sleep(2 * time.Second)
		close(answer) // the first call is answered, so the node is alive
		synctest.Wait()
		free := c.hang()
		defer close(free)
		send(2*time.Second, 2)
		send(4*time.Second, 3)
		wg.Wait()
		if took := time.Since(began); took < 5*time.Second || took > 5*time.Second+slowLag/4 {
			t.Errorf("the calls took %s; want 5 s, 3 s after the last answer", took)
		}
	})
}

// A small batch, all of whose rows go to the slow node, is taken back as well.
func TestSlowNodeAndBatchForItAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		free := c.hang()
		defer close(free)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				var b model.Batch
				if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprint("m", i)}}); err != nil {
					t.Error(err)
				}
				b.AddSample(1, 1)
				if err := c.Ingest(t.Context(), &b); err != nil || c.missing(&b) > 0 {
					t.Errorf("error %v", err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took > slowLag+slowLag/4 {
			t.Errorf("the calls took %s", took)
		}
	})
}

func TestDisableReroutingOnUnavailable(t *testing.T) {
	for _, copies := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			c := newClusterWith(t, 3, Config{ReplicationFactor: copies, DisableReroutingOnUnavailable: true})
			c.nodes[1].set(fail(errkind.Unavailable))
			go func() {
				time.Sleep(5 * time.Second)
				c.nodes[1].set(nil)
			}()
			if took := ingestAtOnce(t, c, 3, 1); took < 5*time.Second || took > 5*time.Second+maxCoolDown {
				t.Errorf("calls took %s, the node was away for 5 s", took)
			}
			name := `{name="vminsert", addr="node1:8400", rpc_call="metric_rows"}`
			if got := c.count(t, "vm_rpc_rows_rerouted_from_here_total"+name); got != 0 || len(c.nodes[1].rows) == 0 {
				t.Errorf("%d rows were re-routed, the node has %d", got, len(c.nodes[1].rows))
			}
			c.nodes[1].set(fail(errkind.Draining))
			began := time.Now()
			err := c.Ingest(t.Context(), makeBatch(t, 300, 1, 9))
			if errkind.Of(err) != errkind.Unavailable || errkind.RetryAfterOf(err) == 0 || !strings.Contains(err.Error(), "node1:8400") || time.Since(began) > maxAttempt {
				t.Errorf("after %s the error is %v", time.Since(began), err)
			}
			c.nodes[1].set(fail(errkind.ReadOnly))
			time.Sleep(maxHint)
			mustIngest(t, c, makeBatch(t, 300, 1, 10)) // a read-only node is not waited for
		})
	}
}

func TestDropSamplesOnOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClusterWith(t, 3, Config{DisableRerouting: true, DropSamplesOnOverload: true})
		b := makeBatch(t, 300, 1, 0)
		mustIngest(t, c, b)
		share := len(c.nodes[1].rows)
		free := c.hang()
		var wg sync.WaitGroup
		for k := range 2 { // as many as the window has room for
			wg.Go(func() {
				if err := c.Ingest(t.Context(), makeBatch(t, 300, 1, 1+k)); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(slowLag)
		b = makeBatch(t, 300, 1, 5)
		began := time.Now()
		mustIngest(t, c, b)
		if got := c.count(t, droppedMetric); got != share || c.missing(b) != share || time.Since(began) > 0 {
			t.Errorf("%d rows count as dropped and %d are missing after %s; want %d", got, c.missing(b), time.Since(began), share)
		}
		close(free)
		wg.Wait()
		if got := c.count(t, droppedMetric); got != share {
			t.Errorf("%d rows count as dropped", got)
		}
		c.nodes[1].set(fail(errkind.Overloaded))
		mustIngest(t, c, makeBatch(t, 300, 1, 6))
		if got := c.count(t, droppedMetric); got != 2*share {
			t.Errorf("%d rows count as dropped; want %d", got, 2*share)
		}
	})
}

func TestOverloadedEverywhere(t *testing.T) {
	for _, drop := range []bool{false, true} {
		for _, copies := range []int{1, 2} {
			c := newClusterWith(t, 3, Config{ReplicationFactor: copies, DropSamplesOnOverload: drop})
			for _, n := range c.nodes {
				n.set(fail(errkind.Overloaded))
			}
			err := c.Ingest(t.Context(), makeBatch(t, 300, 1, 0))
			if dropped := c.count(t, droppedMetric); drop && (err != nil || dropped != 300) || !drop && (errkind.Of(err) != errkind.Overloaded || dropped != 0) {
				t.Errorf("drop %v, %d copies: error %v, %d rows dropped", drop, copies, err, dropped)
			}
		}
	}
}

func TestMemoryIsReserved(t *testing.T) {
	budget := memory.NewBudget(2 * batchBytes(makeBatch(t, 100, 1, 0)))
	for _, drop := range []bool{false, true} {
		set := metrics.NewSet()
		r, err := New(Options{
			Config: Config{ReplicationFactor: 2, DropSamplesOnOverload: drop}, Nodes: []Node{{Name: "a", Ingester: apitest.NewMemory()}, {Name: "b", Ingester: apitest.NewMemory()}},
			Logger: logger.Discard(), Metrics: set, Budget: budget,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Ingest(t.Context(), makeBatch(t, 100, 1, 0)); err != nil {
			t.Errorf("a batch for which there is memory fails: %v", err)
		}
		err = r.Ingest(t.Context(), makeBatch(t, 101, 1, 0))
		if drop && err != nil || !drop && (errkind.Of(err) != errkind.Overloaded || errkind.RetryAfterOf(err) == 0) {
			t.Errorf("drop %v: error %v", drop, err)
		}
		if got := (&cluster{set: set}).count(t, droppedMetric); got != 101 && drop || got != 0 && !drop {
			t.Errorf("drop %v: %d rows count as dropped", drop, got)
		}
		if used := budget.Used(); used != 0 {
			t.Errorf("%d bytes stay reserved", used)
		}
	}
}

// Nodes can be replaced under load; what is known of those which stay is kept, and nothing is lost.
func TestSetNodes(t *testing.T) {
	c := newClusterWith(t, 4, Config{ReplicationFactor: 2})
	all := c.Router.nodes.Load().nodes
	c.nodes[0].set(fail(errkind.ReadOnly))
	mustIngest(t, c, makeBatch(t, 100, 1, 0))
	for _, bad := range [][]Node{nil, all[:1], {all[0], all[0]}} {
		if _, err := c.SetNodes(bad); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%d nodes give error %v", len(bad), err)
		}
	}
	held := c.Router.acquire() // as a call under way does
	unused, err := c.SetNodes(all[:3])
	if err != nil {
		t.Fatal(err)
	}
	mustIngest(t, c, makeBatch(t, 10, 1, 7))
	select {
	case <-unused:
		t.Error("the former nodes are said to be unused")
	default:
	}
	c.Router.release(held)
	<-unused
	if kind := c.health(0).kind; kind != errkind.ReadOnly {
		t.Errorf("the node counts as %s", kind)
	}
	before := c.nodes[3].calls
	b := makeBatch(t, 100, 1, 1)
	mustIngest(t, c, b)
	if c.nodes[3].calls != before {
		t.Error("a node which was taken out got rows")
	}
	eachRow(b, func(_ int, row string) {
		if n := c.holders(row); n != 2 {
			t.Fatalf("row %s is on %d nodes", row, n)
		}
	})
	w := &world{cluster: c, steady: 3, sent: map[string]bool{}}
	for _, n := range c.nodes {
		n.rows = map[string]int{}
	}
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() { w.writeMuch(t, k) })
	}
	for k := range 200 {
		if unused, err = c.SetNodes(all[k%2 : 3+k%2]); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	<-unused
	w.check(t)
}
