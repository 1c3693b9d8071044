package apitest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

func testCancelled(t *testing.T, e *env) {
	e.add(t, model.TenantID{}, "m{a=1}", at(e.Base, 1))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	q := &model.SearchQuery{Range: e.all()}
	check := func(what string, err error) {
		t.Helper()
		if errkind.Of(err) != errkind.Canceled {
			t.Errorf("%s with a cancelled context gives error %v of kind %s; want canceled", what, err, errkind.Of(err))
		}
	}
	_, err := collect(ctx, e.Searcher, q)
	check("Search", err)
	_, err = e.Searcher.LabelNames(ctx, q, 0)
	check("LabelNames", err)
	_, err = e.Searcher.LabelValues(ctx, q, "a", 0)
	check("LabelValues", err)
	_, err = e.Searcher.Tenants(ctx, e.all())
	check("Tenants", err)
	var b model.Batch
	addTo(t, &b, model.TenantID{}, "m{a=2}", at(e.Base, 1))
	if err := e.Ingester.Ingest(ctx, &b); err != nil {
		check("Ingest", err)
	}
	if got := keys(t, e.search(t, q)); !slices.Contains(got, "m{a=1}") {
		t.Errorf("the store answers %q after cancelled calls", got)
	}
}

func testClose(t *testing.T, e *env) {
	var b model.Batch
	for i := range 500 {
		addTo(t, &b, model.TenantID{}, fmt.Sprintf("m{i=%03d}", i), at(e.Base, float64(i)), at(e.Base+1, 1))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		for _, n := range []int{0, 1, 250} {
			it, err := e.Searcher.Search(context.Background(), &model.SearchQuery{Range: e.all()})
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if !it.Next() {
					t.Fatalf("the iterator ends early: %v", it.Err())
				}
			}
			closeIterator(it)
			if it.Next() {
				t.Error("Next returns true after Close")
			}
		}
		if got := e.search(t, &model.SearchQuery{Range: e.all()}); len(got) != 500 {
			t.Errorf("%d series after closing iterators in the middle; want 500", len(got))
		}
	})
}

// testManySamples has one series of 50,000 samples which spans months.
func testManySamples(t *testing.T, e *env) {
	const n = 50000
	step := 40 * dayMs / n
	want := make([]sample, n)
	for i := range want {
		want[i] = at(e.Base-40*dayMs+int64(i)*step+int64(i%7), math.Sin(float64(i)))
	}
	// In pieces, and not in order.
	for _, i := range []int{3, 0, 4, 1, 2} {
		e.add(t, model.TenantID{}, "big", want[i*n/5:(i+1)*n/5]...)
		e.add(t, model.TenantID{}, fmt.Sprintf("other%d", i), at(e.Base-40*dayMs, float64(i)))
	}
	e.twice(t, func() {
		q := &model.SearchQuery{Range: e.all(), Filters: [][]model.TagFilter{filters(t, "__name__=big")}}
		for _, cut := range [][2]int{{0, n}, {1, n - 1}, {n / 2, n/2 + 1}, {n / 3, 2 * n / 3}} {
			q.Range = model.TimeRange{Min: want[cut[0]].ts, Max: want[cut[1]-1].ts}
			got := e.search(t, q)
			if len(got) != 1 || !slices.Equal(got[0].samples, want[cut[0]:cut[1]]) {
				t.Fatalf("%d series in %s: %s", len(got), q.Range, difference(got[0].samples, want[cut[0]:cut[1]]))
			}
		}
		if got := keys(t, e.search(t, &model.SearchQuery{Range: e.all()})); len(got) != 6 {
			t.Errorf("series %q; want 6", got)
		}
	})
}

func testManySeries(t *testing.T, e *env) {
	const n = 5000
	var b model.Batch
	for i := range n {
		addTo(t, &b, model.TenantID{}, fmt.Sprintf("m{even=%t,i=%04d}", i%2 == 0, i), at(e.Base+int64(i), float64(i)))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		got := e.search(t, &model.SearchQuery{Range: e.all(), Filters: [][]model.TagFilter{filters(t, "even=true")}})
		if len(got) != n/2 {
			t.Fatalf("%d series; want %d", len(got), n/2)
		}
		for i, f := range got {
			if want := at(e.Base+int64(2*i), float64(2*i)); len(f.samples) != 1 || f.samples[0] != want {
				t.Fatalf("series %d is %v; want %v", i, f, want)
			}
		}
		values, err := e.Searcher.LabelValues(context.Background(), &model.SearchQuery{Range: e.all()}, "i", 0)
		if err != nil || len(values.Values) != n || !slices.IsSorted(values.Values) {
			t.Errorf("%d values, %v; want %d sorted ones", len(values.Values), err, n)
		}
	})
}

func testBatchNotKept(t *testing.T, e *env) {
	var b model.Batch
	for i := range 50 {
		b.Reset()
		addTo(t, &b, model.TenantID{}, fmt.Sprintf("m{i=%02d}", i), at(e.Base+int64(i), float64(i)))
		e.ingest(t, &b)
	}
	e.twice(t, func() {
		for i, f := range e.search(t, &model.SearchQuery{Range: e.all()}) {
			if want := at(e.Base+int64(i), float64(i)); len(f.samples) != 1 || f.samples[0] != want {
				t.Fatalf("series %d is %v; want %v", i, f, want)
			}
		}
	})
}

// randomTest compares a store with Memory.
type randomTest struct {
	*env
	rng   *rand.Rand
	model *Memory
}

func testRandom(t *testing.T, e *env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := &randomTest{env: e, rng: rand.New(rand.NewPCG(seed, 0)), model: NewMemory()}
	for round := range 30 {
		r.write(t)
		if e.Admin != nil && r.rng.IntN(4) == 0 {
			r.admin(t)
		}
		for range 5 {
			r.compareSearch(t)
			r.compareLabels(t)
		}
		if t.Failed() {
			t.Fatalf("failed in round %d with seed %d", round, seed)
		}
	}
}

func (r *randomTest) write(t *testing.T) {
	var b model.Batch
	for range 1 + r.rng.IntN(20) {
		addTo(t, &b, r.tenant(), r.series())
		// Few distinct times in some batches, so that timestamps meet.
		spread := []int64{10, dayMs, 45 * dayMs}[r.rng.IntN(3)]
		for range r.rng.IntN(50) {
			b.AddSample(r.Base+dayMs-1-r.rng.Int64N(spread), r.value())
		}
	}
	r.ingest(t, &b)
	if err := r.model.Ingest(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
}

func (r *randomTest) admin(t *testing.T) {
	err := r.Admin.Flush(context.Background())
	if err == nil && r.rng.IntN(2) == 0 {
		err = r.Admin.Merge(context.Background(), "")
	}
	if err != nil {
		t.Fatalf("cannot flush or merge: %s", err)
	}
}

func (r *randomTest) tenant() model.TenantID {
	return model.TenantID{AccountID: uint32(r.rng.IntN(2)), ProjectID: uint32(r.rng.IntN(2))}
}

func (r *randomTest) series() string {
	s := []string{"", "m", "n"}[r.rng.IntN(3)] + "{"
	for _, name := range []string{"a", "b", "c"} {
		if v := r.rng.IntN(4); v > 0 {
			s += name + "=x" + strconv.Itoa(v) + ","
		}
	}
	return s + "}"
}

func (r *randomTest) value() float64 {
	switch r.rng.IntN(10) {
	case 0:
		return math.Float64frombits(staleMarker)
	case 1:
		return math.Float64frombits(r.rng.Uint64())
	case 2:
		return math.Copysign(0, -1)
	}
	return float64(r.rng.IntN(100))
}

func (r *randomTest) query() *model.SearchQuery {
	q := &model.SearchQuery{Tenant: r.tenant()}
	for range r.rng.IntN(3) {
		set := []model.TagFilter{}
		for range r.rng.IntN(3) {
			f := model.TagFilter{Name: []string{"a", "b", "c", model.MetricNameLabel}[r.rng.IntN(4)], Op: model.FilterOp(r.rng.IntN(4))}
			values := []string{"", "x1", "x2", "m", "n"}
			if f.Op == model.Regexp || f.Op == model.NotRegexp {
				values = []string{"", "x1|x2", "x.", ".*", ".+", "m|", "x[23]", "m|n", "n.*"}
			}
			f.Value = values[r.rng.IntN(len(values))]
			set = append(set, f)
		}
		q.Filters = append(q.Filters, set)
	}
	return q
}

func (r *randomTest) compareSearch(t *testing.T) {
	q := r.query()
	q.Range.Max = r.Base + dayMs - r.rng.Int64N(46*dayMs)
	q.Range.Min = q.Range.Max - r.rng.Int64N([]int64{5, dayMs, 45 * dayMs}[r.rng.IntN(3)])
	got := r.search(t, q)
	want, err := collect(context.Background(), r.model, q)
	if err != nil {
		t.Fatal(err)
	}
	if g, w := keys(t, got), keys(t, want); !slices.Equal(g, w) {
		t.Errorf("query %+v: got series %q; want %q", *q, g, w)
		return
	}
	for i := range got {
		if !slices.Equal(got[i].samples, want[i].samples) {
			t.Errorf("query %+v, series %q: %s", *q, keys(t, got[i:i+1]), difference(got[i].samples, want[i].samples))
		}
	}
}

// compareLabels asks for whole days, for which answers by the day and by the
// millisecond are the same.
func (r *randomTest) compareLabels(t *testing.T) {
	q := r.query()
	q.KeysOnly = true
	q.Range.Min = r.Base - dayMs*r.rng.Int64N(46)
	q.Range.Max = q.Range.Min + dayMs*(1+r.rng.Int64N(30)) - 1
	ctx := context.Background()
	want, err := collect(ctx, r.model, q)
	if err != nil {
		t.Fatal(err)
	}
	if g, w := keys(t, r.search(t, q)), keys(t, want); !slices.Equal(g, w) {
		t.Errorf("query %+v: got keys %q; want %q", *q, g, w)
	}
	wantNames, err1 := r.model.LabelNames(ctx, q, 0)
	wantValues, err2 := r.model.LabelValues(ctx, q, "a", 0)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	r.wantStrings(t, q, "", wantNames.Values...)
	r.wantStrings(t, q, "a", wantValues.Values...)
}
