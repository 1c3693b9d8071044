package gather

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode holds series in memory and fails on demand.
type fakeNode struct {
	series    []storageapi.Series // sorted by key
	names     []string
	searchErr error // of all calls
	streamErr error // after failAfter series
	failAfter int
	closed    int
	opened    int
	block     chan struct{} // until it is closed, nil: never, the node gives no more than blockAt series
	blockAt   int
}

// wait waits while the node is blocked.
func (n *fakeNode) wait(ctx context.Context, pos int) {
	if n.block != nil && pos == n.blockAt {
		select {
		case <-n.block:
		case <-ctx.Done():
		}
	}
}

func (n *fakeNode) Search(ctx context.Context, _ *model.SearchQuery) (storageapi.SeriesIterator, error) {
	if n.searchErr != nil {
		return nil, n.searchErr
	}
	n.opened++
	return &fakeIterator{n: n, ctx: ctx}, nil
}

func (n *fakeNode) LabelNames(ctx context.Context, _ *model.SearchQuery, _ int) (storageapi.Strings, error) {
	n.wait(ctx, n.blockAt)
	return storageapi.Strings{Values: n.names}, cmp.Or(ctx.Err(), n.searchErr)
}

func (n *fakeNode) LabelValues(_ context.Context, _ *model.SearchQuery, _ string, limit int) (storageapi.Strings, error) {
	names := n.names
	if limit > 0 {
		names = names[:min(limit, len(names))]
	}
	return storageapi.Strings{Values: names}, n.searchErr
}

func (n *fakeNode) Tenants(context.Context, model.TimeRange) (storageapi.Tenants, error) {
	var tenants []model.TenantID
	for i := range n.names {
		tenants = append(tenants, model.TenantID{AccountID: uint32(i)})
	}
	return storageapi.Tenants{Values: tenants}, n.searchErr
}

// fakeIterator reuses its memory as far as the contract allows.
type fakeIterator struct {
	n       *fakeNode
	ctx     context.Context
	pos     int
	current storageapi.Series
	buf     []byte
	err     error
}

func (it *fakeIterator) Next() bool {
	clear(it.buf) // what was handed out is no longer valid
	it.buf = it.buf[:0]
	it.current.Blocks = it.current.Blocks[:0]
	it.n.wait(it.ctx, it.pos)
	if it.n.streamErr != nil && it.pos == it.n.failAfter {
		it.err = it.n.streamErr
		return false
	}
	if it.err = it.ctx.Err(); it.err != nil || it.pos == len(it.n.series) {
		return false
	}
	s := &it.n.series[it.pos]
	it.pos++
	it.current.Key = it.copy(s.Key)
	for _, b := range s.Blocks {
		b.Timestamps, b.Values = it.copy(b.Timestamps), it.copy(b.Values)
		it.current.Blocks = append(it.current.Blocks, b)
	}
	return true
}

func (it *fakeIterator) copy(b []byte) []byte {
	start := len(it.buf)
	it.buf = append(it.buf, b...)
	return it.buf[start:len(it.buf):len(it.buf)]
}

func (it *fakeIterator) At() *storageapi.Series        { return &it.current }
func (it *fakeIterator) Err() error                    { return it.err }
func (it *fakeIterator) Coverage() storageapi.Coverage { return storageapi.Coverage{} }
func (it *fakeIterator) Close() error {
	it.n.closed++
	return nil
}

func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func newGather(t testing.TB, nodes ...*fakeNode) *Gather { return newGatherWith(t, Config{}, nodes...) }

func newGatherWith(t testing.TB, cfg Config, nodes ...*fakeNode) *Gather {
	t.Helper()
	g, err := New(Options{Nodes: named(nodes...), Config: cfg, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func named(nodes ...*fakeNode) []Node {
	var list []Node
	for i, n := range nodes {
		list = append(list, Node{Name: fmt.Sprint("node", i), Searcher: n})
	}
	return list
}

// randomNodes returns nodes with random series and all of them together: what
// a whole answer must be.
func randomNodes(rng *rand.Rand, nodes, series int) ([]*fakeNode, []storageapi.Series) {
	all := make([]storageapi.Series, 0, series)
	list := make([]*fakeNode, nodes)
	for i := range list {
		list[i] = &fakeNode{}
	}
	for k := range series {
		key := []byte(fmt.Sprintf("tenant00key%06d", k*3))
		whole := storageapi.Series{Key: key}
		for i, n := range list {
			if rng.IntN(3) > 0 {
				continue
			}
			s := storageapi.Series{Key: key}
			for range 1 + rng.IntN(3) {
				ts := make([]byte, 8+rng.IntN(2000))
				binary.LittleEndian.PutUint64(ts, rng.Uint64())
				s.Blocks = append(s.Blocks, tsblock.Block{MinTimestamp: rng.Int64N(5), MaxTimestamp: int64(i), Count: k, Timestamps: ts, Values: ts[:8]})
			}
			sortBlocks(s.Blocks)
			n.series = append(n.series, s)
			whole.Blocks = append(whole.Blocks, s.Blocks...)
		}
		if len(whole.Blocks) > 0 {
			sortBlocks(whole.Blocks)
			all = append(all, whole)
		}
	}
	return list, all
}

func sortBlocks(b []tsblock.Block) {
	slices.SortStableFunc(b, func(x, y tsblock.Block) int { return cmp.Compare(x.MinTimestamp, y.MinTimestamp) })
}

func sameSeries(a, b *storageapi.Series) bool {
	return bytes.Equal(a.Key, b.Key) && slices.EqualFunc(a.Blocks, b.Blocks, func(x, y tsblock.Block) bool {
		return x.MinTimestamp == y.MinTimestamp && x.MaxTimestamp == y.MaxTimestamp && x.Count == y.Count &&
			bytes.Equal(x.Timestamps, y.Timestamps) && bytes.Equal(x.Values, y.Values)
	})
}

func TestMergeAgainstModel(t *testing.T) {
	rng := newRand(t)
	for range 30 {
		nodes, want := randomNodes(rng, 1+rng.IntN(6), rng.IntN(1500))
		it, err := newGather(t, nodes...).Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for ; it.Next(); i++ {
			if i >= len(want) || !sameSeries(it.At(), &want[i]) {
				t.Fatalf("series %d is %q", i, it.At().Key)
			}
		}
		if i != len(want) || it.Err() != nil || it.Coverage().Partial || it.Next() {
			t.Fatalf("%d of %d series, error %v, coverage %v", i, len(want), it.Err(), it.Coverage())
		}
		closeAll(t, it, nodes)
	}
}

func closeAll(t *testing.T, it storageapi.SeriesIterator, nodes []*fakeNode) {
	t.Helper()
	for range 2 {
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range nodes {
		if n.opened != n.closed {
			t.Errorf("node %d: %d iterators opened, %d closed", i, n.opened, n.closed)
		}
	}
}

func TestEarlyClose(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		nodes, _ := randomNodes(rng, 4, 3000)
		it, err := newGather(t, nodes...).Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for range rng.IntN(100) {
			it.Next()
		}
		closeAll(t, it, nodes)
		if it.Next() {
			t.Error("there is a series after Close")
		}
	}
}

func TestNodeFailsMidStream(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		nodes, _ := randomNodes(rng, 3, 2000)
		bad := rng.IntN(3)
		nodes[bad].streamErr = errkind.New(errkind.Unavailable, "connection lost")
		nodes[bad].failAfter = rng.IntN(len(nodes[bad].series))
		want := map[string]bool{}
		for i, n := range nodes {
			most := len(n.series)
			if i == bad {
				most = n.failAfter
			}
			for _, s := range n.series[:most] {
				want[string(s.Key)] = true
			}
		}
		g := newGather(t, nodes...)
		it, err := g.Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for it.Next() {
			n++
			if !want[string(it.At().Key)] {
				t.Fatalf("series %q comes from nowhere", it.At().Key)
			}
		}
		cov := it.Coverage()
		if n != len(want) || it.Err() != nil || !cov.Partial || len(cov.Failed) != 1 || cov.Failed[0].Node != fmt.Sprint("node", bad) {
			t.Fatalf("%d of %d series, error %v, coverage %v", n, len(want), it.Err(), cov)
		}
		if g.partial[actionSearch].Get() != 1 {
			t.Error("the partial answer is not counted")
		}
		closeAll(t, it, nodes)
	}
}

// drain reads an answer to its end.
func drain(ctx context.Context, g *Gather, q *model.SearchQuery) (series int, cov storageapi.Coverage, err error) {
	it, err := g.Search(ctx, q)
	if err != nil {
		return 0, cov, err
	}
	defer it.Close()
	for it.Next() {
		series++
	}
	return series, it.Coverage(), it.Err()
}

func TestFailuresMidStreamThatEndTheAnswer(t *testing.T) {
	down := errkind.New(errkind.Unavailable, "connection lost")
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		all  bool
		want errkind.Kind
	}{
		"all nodes":       {t.Context(), down, true, errkind.Unavailable},
		"denied":          {WithDenyPartial(t.Context()), down, false, errkind.Unavailable},
		"limit of a node": {t.Context(), errkind.New(errkind.Unprocessable, "too many samples"), false, errkind.Unprocessable},
	} {
		nodes, _ := randomNodes(newRand(t), 3, 500)
		for i := range nodes {
			if i == 0 || c.all {
				nodes[i].streamErr, nodes[i].failAfter = c.err, 10
			}
		}
		if _, _, err := drain(c.ctx, newGather(t, nodes...), &model.SearchQuery{}); errkind.Of(err) != c.want {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestFailuresAtTheStart(t *testing.T) {
	nodes, _ := randomNodes(newRand(t), 3, 100)
	nodes[2].searchErr = errkind.New(errkind.Unavailable, "cannot dial")
	g := newGather(t, nodes...)
	n, cov, err := drain(t.Context(), g, &model.SearchQuery{})
	if n == 0 || !cov.Partial || len(cov.Failed) != 1 || err != nil {
		t.Errorf("%d series, coverage %v, error %v", n, cov, err)
	}
	if _, _, err := drain(WithDenyPartial(t.Context()), g, &model.SearchQuery{}); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "node2") {
		t.Errorf("denied: error %v", err)
	}
	nodes[0].searchErr = errkind.New(errkind.BadRequest, "bad regexp")
	if _, _, err := drain(t.Context(), g, &model.SearchQuery{}); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("error %v", err)
	}
	for _, n := range nodes {
		n.searchErr = errors.New("broken")
	}
	if _, _, err := drain(t.Context(), g, &model.SearchQuery{}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("all nodes are broken: error %v", err)
	}
	for i, n := range nodes {
		if n.opened != n.closed {
			t.Errorf("node %d: %d iterators opened, %d closed", i, n.opened, n.closed)
		}
	}
}

func TestMaxSeriesOverAllNodes(t *testing.T) {
	nodes, all := randomNodes(newRand(t), 3, 100)
	g := newGather(t, nodes...)
	if n, _, err := drain(t.Context(), g, &model.SearchQuery{MaxSeries: len(all)}); err != nil || n != len(all) {
		t.Errorf("%d of %d series, error %v", n, len(all), err)
	}
	if _, _, err := drain(t.Context(), g, &model.SearchQuery{MaxSeries: len(all) - 1}); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("error %v", err)
	}
}

func TestCanceledWhileReading(t *testing.T) {
	nodes, _ := randomNodes(newRand(t), 3, 5000)
	ctx, cancel := context.WithCancel(t.Context())
	it, err := newGather(t, nodes...).Search(ctx, &model.SearchQuery{})
	if err != nil {
		t.Fatal(err)
	}
	it.Next()
	cancel()
	for it.Next() {
	}
	if errkind.Of(it.Err()) != errkind.Canceled {
		t.Errorf("error %v", it.Err())
	}
	closeAll(t, it, nodes)
}

// TestCoverageBeforeTheEnd checks that readers who stop early learn of nodes which did not answer at all.
func TestCoverageBeforeTheEnd(t *testing.T) {
	nodes, _ := randomNodes(newRand(t), 3, 300)
	nodes[1].searchErr = errkind.New(errkind.Unavailable, "down")
	it, err := newGather(t, nodes...).Search(t.Context(), &model.SearchQuery{})
	if err != nil || !it.Next() {
		t.Fatal(err)
	}
	for _, when := range []string{"in the middle", "after Close"} {
		if c := it.Coverage(); !c.Partial || len(c.Failed) != 1 {
			t.Errorf("%s: coverage %+v", when, c)
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnions(t *testing.T) {
	a, b := &fakeNode{names: []string{"a", "c", "d"}}, &fakeNode{names: []string{"b", "c", "e", "f"}}
	down := &fakeNode{searchErr: errkind.New(errkind.Unavailable, "down"), names: []string{"zzz"}}
	ctx, q := t.Context(), &model.SearchQuery{}
	for _, c := range []struct {
		limit int
		want  string
	}{{0, "a b c d e f"}, {3, "a b c"}, {6, "a b c d e f"}, {7, "a b c d e f"}} {
		got, err := newGather(t, a, b).LabelValues(ctx, q, "x", c.limit)
		if err != nil || strings.Join(got.Values, " ") != c.want || got.Coverage.Partial {
			t.Errorf("limit %d: %v, %v", c.limit, got, err)
		}
	}
	g := newGather(t, a, down, b)
	names, err := g.LabelNames(ctx, q, 0)
	if err != nil || len(names.Values) != 6 || !names.Coverage.Partial || g.partial[actionLabelNames].Get() != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := g.LabelNames(WithDenyPartial(ctx), q, 0); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("denied: error %v", err)
	}
	tenants, err := g.Tenants(ctx, model.TimeRange{})
	if err != nil || len(tenants.Values) != 4 || !tenants.Coverage.Partial {
		t.Errorf("%v, %v", tenants, err)
	}
	if got, err := newGather(t, &fakeNode{}).LabelNames(ctx, q, 0); err != nil || got.Values == nil {
		t.Errorf("an empty answer is %v, %v; want an empty list, not nil", got.Values, err)
	}
}

func TestNoNodes(t *testing.T) {
	if _, err := New(Options{Logger: logger.Discard(), Metrics: metrics.NewSet()}); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("error %v", err)
	}
}

func BenchmarkMerge(b *testing.B) {
	for _, n := range []int{1, 2, 4} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			const series = 10_000
			column := make([]byte, 200)
			nodes := make([]*fakeNode, n)
			for i := range nodes {
				nodes[i] = &fakeNode{}
			}
			for k := range series {
				s := storageapi.Series{Key: []byte(fmt.Sprintf("tenant00node_cpu_seconds_total%06d", k)), Blocks: []tsblock.Block{{Timestamps: column, Values: column}}}
				nodes[k%n].series = append(nodes[k%n].series, s)
			}
			g := newGather(b, nodes...)
			b.ReportAllocs()
			for b.Loop() {
				got, _, err := drain(b.Context(), g, &model.SearchQuery{})
				if err != nil || got != series {
					b.Fatal(got, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/series")
		})
	}
}
