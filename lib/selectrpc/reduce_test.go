package selectrpc

import (
	"context"
	"math"
	"reflect"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
	"vmcluster/lib/tsblock"
)

func goldenFragment() *query {
	q := goldenQuery()
	q.method = methodReduce
	q.search.KeysOnly = false
	q.fragment = &fragment.Fragment{
		Search: q.search, Function: "quantile_over_time", Texts: []string{"a", ""}, Args: [][]float64{{0.5, 0.5, 0.5}, {1, 2.5, math.Inf(1)}}, KeepName: true,
		Start: 1794268800000, End: 1794268920000, Step: 60_000, Window: 300_000, Lookback: 1, MinStaleness: 2, KeepStaleMarkers: true, DedupIntervalMs: 1000,
		Aggregate: "sum", Grouping: fragment.GroupWithout, Labels: []string{"instance", "job"},
		MaxSamples: 1e9, MaxSamplesPerSeries: 7, Exclude: []uint32{1, 2, 1 << 31, math.MaxUint32},
	}
	return q
}

func goldenResult() *fragment.Result {
	block := tsblock.Block{MinTimestamp: 1000, MaxTimestamp: 2000, Count: 2, Timestamps: []byte{1, 2, 3}, Values: []byte{4, 5}}
	return &fragment.Result{
		SeriesRead: 3, SamplesRead: 720, Fingerprints: []uint32{5, 5, 70_000, math.MaxUint32},
		Groups: []fragment.Group{
			{First: []byte("key"), Name: "m", Labels: []model.Label{{Name: "job", Value: "a"}}, Counts: []float64{1, 2, 0}, Values: []float64{0.1, 1e300, 0}, Rests: []float64{1e-18, 0, 0}},
			{First: []byte("later"), Counts: []float64{3, 3, 3}, Values: []float64{1, 2, 3}, Rests: []float64{0, 0, 0}},
		},
		Excluded: []fragment.Series{{Key: []byte("a"), Blocks: []tsblock.Block{block, block}}, {Key: []byte("b")}},
	}
}

// fixedReducer answers what it was given.
type fixedReducer struct {
	reduction storageapi.Reduction
	err       error
	asked     *fragment.Fragment
}

func (r *fixedReducer) Reduce(_ context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	r.asked = f
	return r.reduction, r.err
}

// goldenReduced returns the items of the answer with goldenResult.
func goldenReduced(t *testing.T) []byte {
	t.Helper()
	server := NewServer(ServerOptions{Reducer: &fixedReducer{reduction: storageapi.Reduction{Results: []*fragment.Result{goldenResult()}}}})
	c := &call{server: server, query: goldenFragment()}
	w := &itemWriter{}
	if _, err := c.reduce(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	return w.buf
}

func TestReducedRoundTrip(t *testing.T) {
	b := goldenReduced(t)
	if got, err := parseReduced(nil, 3, b); err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], goldenResult()) {
		t.Fatalf("%+v, %v; want %+v", got, err, goldenResult())
	}
	if got, err := parseReduced(nil, 3, slices.Concat(b, b)); err != nil || len(got) != 2 || !reflect.DeepEqual(got[0], got[1]) {
		t.Fatalf("two results: %+v, %v", got, err)
	}
	for i := range b {
		// A cut between items is for the end of the stream to notice.
		if _, err := parseReduced(nil, 3, b[:i]); err != nil && errkind.Of(err) != errkind.Corrupt {
			t.Errorf("an answer cut at %d gives %v", i, err)
		}
	}
	if _, err := parseReduced(nil, 3, []byte{reducedGroup}); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a group before the figures gives %v", err)
	}
}

func TestFragmentsRejected(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fragment.Fragment)
		kind   errkind.Kind
	}{
		"no step":          {func(f *fragment.Fragment) { f.Step = 0 }, errkind.BadRequest},
		"end before start": {func(f *fragment.Fragment) { f.End = f.Start - 1 }, errkind.BadRequest},
		"too many points":  {func(f *fragment.Fragment) { f.End, f.Step, f.Args = f.Start+maxFragmentPoints, 1, nil }, errkind.BadRequest},
		"far away":         {func(f *fragment.Fragment) { f.Start, f.End = math.MinInt64, math.MinInt64 }, errkind.BadRequest},
		"negative window":  {func(f *fragment.Fragment) { f.Window = -1 }, errkind.BadRequest},
		"unknown grouping": {func(f *fragment.Fragment) { f.Grouping = 3 }, errkind.Unsupported},
	} {
		q := goldenFragment()
		c.change(q.fragment)
		if _, err := parseQuery(q.appendTo(nil)); errkind.Of(err) != c.kind {
			t.Errorf("%s: %v; want kind %s", name, err, c.kind)
		}
	}
}

// TestReduceOverNetwork sends fragments whose answers take many frames, are declined, or fail.
func TestReduceOverNetwork(t *testing.T) {
	network := transport.NewMemoryNetwork()
	ln, err := network.Listen("node:8401")
	if err != nil {
		t.Fatal(err)
	}
	reducer := &fixedReducer{}
	server := NewServer(ServerOptions{Reducer: reducer})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(ln) // ends with Close
	}()
	client := NewClient(ClientOptions{Addr: "node:8401", Dial: network.Dial})
	defer func() {
		_ = client.Close() // nothing is under way
		server.Close()
		<-done
	}()
	large := goldenResult()
	large.Fingerprints = nil
	for i := range 100_000 {
		large.Fingerprints = append(large.Fingerprints, uint32(i)*40_000)
	}
	for i := range large.Excluded {
		for range 40 {
			b := tsblock.Block{MinTimestamp: 1, MaxTimestamp: 2, Count: 2, Timestamps: make([]byte, 3000), Values: make([]byte, 5000)}
			large.Excluded[i].Blocks = append(large.Excluded[i].Blocks, b)
		}
	}
	q := goldenFragment()
	reducer.reduction = storageapi.Reduction{Results: []*fragment.Result{large}, Coverage: storageapi.Coverage{Partial: true}}
	got, err := client.Reduce(context.Background(), q.fragment)
	if err != nil || len(got.Results) != 1 || !got.Coverage.Partial || !reflect.DeepEqual(got.Results[0], large) {
		t.Errorf("a large answer: %v, partial %t", err, got.Coverage.Partial)
	}
	if !reflect.DeepEqual(reducer.asked, q.fragment) {
		t.Errorf("asked %+v; want %+v", reducer.asked, q.fragment)
	}
	reducer.reduction.Results = []*fragment.Result{goldenResult(), large, goldenResult()}
	if got, err = client.Reduce(context.Background(), q.fragment); err != nil || !reflect.DeepEqual(got.Results, reducer.reduction.Results) {
		t.Errorf("three results: %d, %v", len(got.Results), err)
	}
	reducer.reduction = storageapi.Reduction{Declined: "not now", ForNow: true}
	if got, err = client.Reduce(context.Background(), q.fragment); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("declined for now: %+v, %v", got, err)
	}
	reducer.reduction = storageapi.Reduction{}
	if got, err = client.Reduce(context.Background(), q.fragment); err != nil || len(got.Results) != 0 {
		t.Errorf("declined: %+v, %v", got, err)
	}
	reducer.err = errkind.New(errkind.Unprocessable, "too much")
	if _, err = client.Reduce(context.Background(), q.fragment); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("a failure gives %v", err)
	}
}

// TestSeveralResultsForOlderNode: who does not say that he can take several results gets none, and no frame that he cannot read.
func TestSeveralResultsForOlderNode(t *testing.T) {
	reducer := &fixedReducer{reduction: storageapi.Reduction{Results: []*fragment.Result{goldenResult(), goldenResult()}}}
	c := &call{server: NewServer(ServerOptions{Reducer: reducer}), query: goldenFragment()}
	w := &itemWriter{}
	if _, err := c.reduce(t.Context(), w); errkind.Of(err) != errkind.Unsupported || len(w.buf) != 0 {
		t.Errorf("got %d bytes, %v", len(w.buf), err)
	}
	c.query.several = true
	if _, err := c.reduce(t.Context(), w); err != nil || len(w.buf) == 0 {
		t.Errorf("got %d bytes, %v", len(w.buf), err)
	}
}

func FuzzReduced(f *testing.F) {
	f.Add([]byte{reducedFigures, 1, 2, reducedFingerprints, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseReduced(nil, 3, data)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("error %v is of kind %s", err, errkind.Of(err))
			}
			return
		}
		n := len(list)
		for _, res := range list {
			n += len(res.Fingerprints) + len(res.Groups) + len(res.Excluded)
		}
		if n > len(data) {
			t.Fatal("more items than bytes")
		}
	})
}
