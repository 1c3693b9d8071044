package gather

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storageapi"
)

// fakeReducer holds series by their fingerprints.
type fakeReducer struct {
	fingerprints []uint32
	late         []uint32 // come between the first call and the second
	decline      bool
	err          error
	calls        int
}

func (r *fakeReducer) Reduce(_ context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	r.calls++
	if r.err != nil || r.decline {
		return storageapi.Reduction{}, r.err
	}
	res := &fragment.Result{}
	for _, x := range r.fingerprints {
		if f.Excludes(x) {
			res.Excluded = append(res.Excluded, fragment.Series{Key: fmt.Append(nil, x)})
		} else {
			res.Fingerprints = append(res.Fingerprints, x)
		}
	}
	r.fingerprints = append(r.fingerprints, r.late...)
	slices.Sort(r.fingerprints)
	r.late = nil
	return storageapi.Reduction{Results: []*fragment.Result{res}}, nil
}

// reduceWorld is a gather over reducers with a clock.
type reduceWorld struct {
	*Gather
	clock time.Time
}

func newReduceWorld(t *testing.T, replication int, reducers ...storageapi.Reducer) *reduceWorld {
	t.Helper()
	w := &reduceWorld{clock: time.Unix(1e9, 0)}
	o := Options{Logger: logger.Discard(), Metrics: metrics.NewSet(), Config: Config{ReplicationFactor: Factors{Default: replication}}, Now: func() time.Time { return w.clock }}
	for i, r := range reducers {
		o.Nodes = append(o.Nodes, Node{Name: fmt.Sprint("node", i), Searcher: &fakeNode{}, Reducer: r})
	}
	var err error
	if w.Gather, err = New(o); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *reduceWorld) reduce(t *testing.T) storageapi.Reduction {
	t.Helper()
	r, err := w.Reduce(t.Context(), &fragment.Fragment{Step: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReduceExclusive(t *testing.T) {
	a, b := &fakeReducer{fingerprints: []uint32{1, 3, 5}}, &fakeReducer{fingerprints: []uint32{2, 4}}
	r := newReduceWorld(t, 1, a, b).reduce(t)
	if len(r.Results) != 2 || a.calls != 1 || b.calls != 1 {
		t.Errorf("%d results after %d and %d calls; want 2 after one each", len(r.Results), a.calls, b.calls)
	}
}

func TestReduceExcludesShared(t *testing.T) {
	a, b := &fakeReducer{fingerprints: []uint32{1, 2, 3}}, &fakeReducer{fingerprints: []uint32{2, 3, 4}}
	r := newReduceWorld(t, 1, a, b).reduce(t)
	if len(r.Results) != 2 || !slices.Equal(r.Results[0].Fingerprints, []uint32{1}) || !slices.Equal(r.Results[1].Fingerprints, []uint32{4}) ||
		len(r.Results[0].Excluded) != 2 || len(r.Results[1].Excluded) != 2 {
		t.Errorf("got %+v", r.Results)
	}
}

// TestReduceHoldsBack has series come to a second node all the time, or too many shared, or nodes that cannot: then series are
// read, and nobody is asked again for a while.
func TestReduceHoldsBack(t *testing.T) {
	var many []uint32
	for i := range uint32(1000) {
		many = append(many, i)
	}
	older := errkind.New(errkind.Unsupported, "what is that?")
	for name, pair := range map[string][2]*fakeReducer{
		"a series comes between the rounds": {{fingerprints: []uint32{1, 2}}, {fingerprints: []uint32{2}, late: []uint32{1}}},
		"replicas":                          {{fingerprints: many}, {fingerprints: many}},
		"an older node":                     {{fingerprints: []uint32{1}}, {err: older}},
	} {
		w := newReduceWorld(t, 1, pair[0], pair[1])
		if r := w.reduce(t); len(r.Results) != 0 {
			t.Errorf("%s: got %+v", name, r.Results)
		}
		calls := pair[1].calls
		if w.reduce(t); pair[1].calls != calls {
			t.Errorf("%s: the nodes were asked again at once", name)
		}
		w.clock = w.clock.Add(holdBack + time.Second)
		if w.reduce(t); pair[1].calls == calls {
			t.Errorf("%s: the nodes were not asked again later", name)
		}
	}
}

func TestReduceDeclined(t *testing.T) {
	a, b := &fakeReducer{fingerprints: []uint32{1}}, &fakeReducer{decline: true}
	w := newReduceWorld(t, 1, a, b)
	for range 2 { // another query may be worth it
		if r := w.reduce(t); len(r.Results) != 0 {
			t.Errorf("got %+v", r.Results)
		}
	}
	if b.calls != 2 {
		t.Errorf("%d calls; want 2", b.calls)
	}
	if r := newReduceWorld(t, 2, a, b).reduce(t); len(r.Results) != 0 || r.Declined == "" {
		t.Error("replicas were aggregated twice, or nobody said why not")
	}
	if r := newReduceWorld(t, 1, a, nil).reduce(t); len(r.Results) != 0 || r.Declined == "" {
		t.Error("a node that does not offer it was left out")
	}
}

func TestReduceFailures(t *testing.T) {
	a, b := &fakeReducer{fingerprints: []uint32{1}}, &fakeReducer{err: errkind.New(errkind.Unavailable, "gone")}
	w := newReduceWorld(t, 1, a, b)
	r := w.reduce(t)
	if len(r.Results) != 1 || !r.Coverage.Partial || len(r.Coverage.Failed) != 1 {
		t.Errorf("without a node: %+v", r)
	}
	if _, err := w.Reduce(WithDenyPartial(t.Context()), &fragment.Fragment{Step: 1}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("partial answers denied: %v", err)
	}
	b.err = errkind.New(errkind.Unprocessable, "too many series")
	if _, err := w.Reduce(t.Context(), &fragment.Fragment{Step: 1}); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("a limit: %v", err)
	}
}

// keyed holds series whose keys have their fingerprints.
func keyed(keys ...string) *keyedReducer { return &keyedReducer{keys: keys} }

type keyedReducer struct {
	keys  []string
	calls int
}

func (r *keyedReducer) Reduce(_ context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	r.calls++
	res := &fragment.Result{}
	for _, key := range r.keys {
		if x := fragment.Fingerprint([]byte(key)); f.Excludes(x) {
			res.Excluded = append(res.Excluded, fragment.Series{Key: []byte(key)})
		} else {
			res.Fingerprints = append(res.Fingerprints, x)
		}
	}
	slices.Sort(res.Fingerprints)
	return storageapi.Reduction{Results: []*fragment.Result{res}}, nil
}

// TestReduceThroughLevels has gathers below a gather. What nodes of one level share is handed over by it, and by the nodes of another level which have it,
// too; all results come up as they are.
func TestReduceThroughLevels(t *testing.T) {
	nodes := []*keyedReducer{keyed("a", "x", "y"), keyed("b", "x", "z"), keyed("c", "y", "z"), keyed("d", "x")}
	low1, low2 := newReduceWorld(t, 1, nodes[0], nodes[1]), newReduceWorld(t, 1, nodes[2], nodes[3])
	r := newReduceWorld(t, 1, low1, low2).reduce(t)
	if len(r.Results) != 4 {
		t.Fatalf("got %d results: %+v", len(r.Results), r)
	}
	for i, res := range r.Results {
		var handedOver []string
		for _, s := range res.Excluded {
			handedOver = append(handedOver, string(s.Key))
		}
		alone := fragment.Fingerprint([]byte(nodes[i].keys[0]))
		if !slices.Equal(res.Fingerprints, []uint32{alone}) || !slices.Equal(handedOver, nodes[i].keys[1:]) {
			t.Errorf("node %d aggregates %v and hands over %v; want %v alone", i, res.Fingerprints, handedOver, alone)
		}
	}
}

// TestReduceOverDecliningLevel: a level that will decline for a while is not asked for a while, whatever it is asked.
func TestReduceOverDecliningLevel(t *testing.T) {
	copies := newReduceWorld(t, 2, keyed("a"), keyed("a"))
	if r := copies.reduce(t); !r.ForNow || r.Declined == "" {
		t.Errorf("copies: %+v", r)
	}
}

func TestSharedFingerprints(t *testing.T) {
	for _, c := range []struct {
		lists [][]uint32
		want  []uint32
	}{
		{nil, nil},
		{[][]uint32{{1, 1, 2}}, nil},
		{[][]uint32{{1, 1, 2}, {1, 3}}, []uint32{1}},
		{[][]uint32{{1, 5}, {2, 6}, {0, 5, 6}}, []uint32{5, 6}},
		{[][]uint32{{1, 5}, {}, {1, 1, 5, 5}, {1}}, []uint32{1, 5}},
	} {
		if got := fragment.Shared(c.lists); !reflect.DeepEqual(got, c.want) {
			t.Errorf("Shared(%v) is %v; want %v", c.lists, got, c.want)
		}
	}
}
