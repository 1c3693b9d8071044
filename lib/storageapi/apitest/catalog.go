package apitest

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// catalogCases are about storageapi.Catalog.
func catalogCases() []testCase {
	list := []testCase{
		{"delete", testDelete},
		{"delete and come back", testComeBack},
		{"delete over months and tenants", testDeleteSpread},
		{"delete: limits and errors", testDeleteErrors},
		{"delete: random", testDeleteRandom},
		{"series count", testSeriesCount},
		{"status", testStatus},
		{"usage of metrics", testNameStats},
	}
	for i := range list {
		run := list[i].run
		list[i].run = func(t *testing.T, e *env) {
			if e.Catalog == nil {
				t.Skip("the store offers no catalog")
			}
			run(t, e)
		}
	}
	return list
}

// copies is how many nodes keep each series.
func (e *env) copies() int { return max(1, e.Copies) }

// remove deletes series of the first tenant and fails unless there were want of them.
func (e *env) remove(t *testing.T, want int, filters ...string) {
	t.Helper()
	q := &model.SearchQuery{Filters: sets(t, filters...)}
	n, err := e.Catalog.DeleteSeries(context.Background(), q)
	if err != nil {
		t.Fatalf("cannot delete %q: %s", filters, err)
	}
	if n != want*e.copies() {
		t.Errorf("deleting %q took %d series; want %d in %d copies", filters, n, want, e.copies())
	}
}

// sets makes one set of the filters, or none of none.
func sets(t *testing.T, texts ...string) [][]model.TagFilter {
	t.Helper()
	if len(texts) == 0 {
		return nil
	}
	return [][]model.TagFilter{filters(t, texts...)}
}

func testDelete(t *testing.T, e *env) {
	for _, s := range []string{"m{a=1}", "m{a=2}", "n{a=1}"} {
		e.add(t, model.TenantID{}, s, at(e.Base, 1), at(e.Base+secondMs, 2))
	}
	e.remove(t, 0, "__name__=none")
	e.remove(t, 1, "__name__=m", "a=1")
	e.twice(t, func() {
		e.want(t, nil, e.all(), "m{a=2}", "n{a=1}")
		for label, want := range map[string][]string{"a": {"1", "2"}, "__name__": {"m", "n"}} {
			got, err := e.Searcher.LabelValues(context.Background(), &model.SearchQuery{Range: e.all()}, label, 0)
			if err != nil || !slices.Equal(got.Values, want) {
				t.Errorf("values of %s: %q, %v; want %q", label, got.Values, err, want)
			}
		}
	})
	e.remove(t, 0, "__name__=m", "a=1") // again
	e.remove(t, 2)
	e.twice(t, func() {
		e.want(t, nil, e.all())
		tenants, err := e.Searcher.Tenants(context.Background(), e.all())
		if err != nil || len(tenants.Values) != 0 {
			t.Errorf("tenants %v, %v after all series were deleted", tenants.Values, err)
		}
	})
}

// testComeBack sends a series again after its deletion: old samples stay away, new ones count.
func testComeBack(t *testing.T, e *env) {
	for round := range 3 {
		e.add(t, model.TenantID{}, "m{a=1}", at(e.Base, float64(round)), at(e.Base+int64(round+1)*secondMs, 7))
		if round == 1 {
			e.settle(t)
		}
		e.wantSamples(t, e.all(), at(e.Base, float64(round)), at(e.Base+int64(round+1)*secondMs, 7))
		e.remove(t, 1, "a=1")
		e.wantSamples(t, e.all())
	}
	e.add(t, model.TenantID{}, "m{a=1}", at(e.Base+90*secondMs, 5))
	e.twice(t, func() { e.wantSamples(t, e.all(), at(e.Base+90*secondMs, 5)) })
}

func testDeleteSpread(t *testing.T, e *env) {
	other := model.TenantID{AccountID: 7}
	for _, day := range []int64{-44, -20, 0} {
		e.add(t, model.TenantID{}, "m{a=1}", at(e.Base+day*dayMs, 1))
		e.add(t, model.TenantID{}, "m{a=2}", at(e.Base+day*dayMs, 1))
		e.add(t, other, "m{a=1}", at(e.Base+day*dayMs, 1))
	}
	e.remove(t, 1, "a=1")
	e.twice(t, func() {
		e.want(t, nil, e.all(), "m{a=2}")
		if got := e.search(t, &model.SearchQuery{Tenant: other, Range: e.all()}); len(got) != 1 || len(got[0].samples) != 3 {
			t.Errorf("another tenant has %d series left; want 1 with 3 samples", len(got))
		}
	})
}

func testDeleteErrors(t *testing.T, e *env) {
	for _, s := range []string{"m{a=1}", "m{a=2}", "m{a=3}", "m{a=4}", "m{a=5}", "m{a=6}", "m{a=7}", "m{a=8}"} {
		e.add(t, model.TenantID{}, s, at(e.Base, 1))
	}
	ctx := context.Background()
	if _, err := e.Catalog.DeleteSeries(ctx, &model.SearchQuery{Filters: sets(t, "a=~(")}); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("deleting by a bad regular expression: %v", err)
	}
	if e.copies() == 1 && e.Nodes <= 1 { // otherwise each node counts for itself
		if _, err := e.Catalog.DeleteSeries(ctx, &model.SearchQuery{MaxSeries: 7}); errkind.Of(err) != errkind.Unprocessable {
			t.Errorf("deleting 8 series where 7 may be: %v", err)
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := e.Catalog.DeleteSeries(canceled, &model.SearchQuery{}); err == nil {
		t.Error("a cancelled deletion tells of no error")
	}
	if got := e.search(t, &model.SearchQuery{Range: e.all(), KeysOnly: true}); e.copies() == 1 && e.Nodes <= 1 && len(got) != 8 {
		t.Errorf("%d series are left after deletions which failed; want 8", len(got))
	}
}

// testDeleteRandom compares with the model.
func testDeleteRandom(t *testing.T, e *env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	want := NewMemory()
	names := []string{"m{a=1}", "m{a=1,b=x}", "m{a=2}", "n{a=1}", "n{b=y}", "o"}
	for step := range 120 {
		switch r := rng.IntN(10); {
		case r < 7:
			var b model.Batch
			ts := e.Base - rng.Int64N(40)*dayMs
			addTo(t, &b, model.TenantID{}, names[rng.IntN(len(names))], at(ts, float64(step)), at(ts+rng.Int64N(5000), 1))
			e.ingest(t, &b)
			if err := want.Ingest(context.Background(), &b); err != nil {
				t.Fatal(err)
			}
		case r < 8:
			q := &model.SearchQuery{Filters: sets(t, []string{"a=1", "b=x", "__name__=n", "__name__=~m|o"}[rng.IntN(4)])}
			n, err := want.DeleteSeries(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Catalog.DeleteSeries(context.Background(), q)
			if err != nil || got != n*e.copies() {
				t.Fatalf("step %d: deleted %d, %v; want %d", step, got, err, n)
			}
		case r < 9:
			if rng.IntN(3) == 0 {
				e.settle(t)
			}
		}
		q := &model.SearchQuery{Range: e.all()}
		expected, err := collect(context.Background(), want, q)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.search(t, q); !slices.EqualFunc(got, expected, equalFound) {
			t.Fatalf("step %d: %d series; want %d, or their samples differ", step, len(got), len(expected))
		}
	}
}

func equalFound(a, b found) bool { return a.key == b.key && slices.Equal(a.samples, b.samples) }

func testSeriesCount(t *testing.T, e *env) {
	count := func(tenant model.TenantID, want int) {
		t.Helper()
		got, err := e.Catalog.SeriesCount(context.Background(), tenant)
		if err != nil || got.Value != uint64(want*e.copies()) || got.Coverage.Partial {
			t.Errorf("%d series of tenant %s, %v; want %d in %d copies", got.Value, tenant, err, want, e.copies())
		}
	}
	count(model.TenantID{}, 0)
	for _, day := range []int64{-44, -20, 0} {
		e.add(t, model.TenantID{}, "m{a=1}", at(e.Base+day*dayMs, 1))
	}
	count(model.TenantID{AccountID: 3}, 0)
	e.add(t, model.TenantID{}, "m{a=2}", at(e.Base, 1))
	e.add(t, model.TenantID{AccountID: 3}, "m{a=2}", at(e.Base, 1))
	e.twice(t, func() {
		count(model.TenantID{}, 2)
		count(model.TenantID{AccountID: 3}, 1)
	})
	e.remove(t, 1, "a=1")
	count(model.TenantID{}, 1)
}

func testStatus(t *testing.T, e *env) {
	for _, s := range []string{"m{a=1,b=x}", "m{a=2,b=x}", "n{a=1}", "gone{a=1}"} {
		e.add(t, model.TenantID{}, s, at(e.Base, 1))
	}
	e.add(t, model.TenantID{}, "yesterday", at(e.Base-dayMs, 1))
	e.add(t, model.TenantID{AccountID: 1}, "m", at(e.Base, 1))
	e.remove(t, 1, "__name__=gone")
	today := model.TimeRange{Min: e.Base, Max: e.Base + dayMs - 1}
	ask := func(topN int, filters ...string) storageapi.Status {
		t.Helper()
		q := &storageapi.StatusQuery{Search: model.SearchQuery{Range: today, Filters: sets(t, filters...)}, FocusLabel: "a", TopN: topN}
		got, err := e.Catalog.Status(context.Background(), q)
		if err != nil || got.Coverage.Partial {
			t.Fatalf("status: %v, %+v", err, got.Coverage)
		}
		return got
	}
	n := uint64(e.copies())
	e.twice(t, func() {
		s := ask(10)
		if s.TotalSeries != 3*n || s.TotalLabelPairs != 8*n {
			t.Errorf("%d series with %d label pairs; want 3 and 8 in %d copies", s.TotalSeries, s.TotalLabelPairs, n)
		}
		wantEntries(t, "metric names", s.SeriesByMetricName, entry("m", 2*n), entry("n", n))
		wantEntries(t, "label names", s.SeriesByLabelName, entry("__name__", 3*n), entry("a", 3*n), entry("b", 2*n))
		wantEntries(t, "focus label", s.SeriesByFocusLabelValue, entry("1", 2*n), entry("2", n))
		wantEntries(t, "label pairs", s.SeriesByLabelPair, entry("__name__=m", 2*n), entry("a=1", 2*n), entry("b=x", 2*n), entry("__name__=n", n), entry("a=2", n))
		if len(s.ValuesByLabelName) != 3 || e.Nodes <= 1 && s.ValuesByLabelName[2] != entry("b", n) {
			t.Errorf("values by label: %+v", s.ValuesByLabelName)
		}
		wantEntries(t, "two label pairs", ask(2).SeriesByLabelPair, entry("__name__=m", 2*n), entry("a=1", 2*n))
		wantEntries(t, "metric names of a filter", ask(10, "a=1").SeriesByMetricName, entry("m", n), entry("n", n))
		wantEntries(t, "nothing", ask(10, "a=9").SeriesByLabelPair)
	})
}

func entry(name string, count uint64) storageapi.StatusEntry {
	return storageapi.StatusEntry{Name: name, Count: count}
}

func wantEntries(t *testing.T, what string, got []storageapi.StatusEntry, want ...storageapi.StatusEntry) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %+v; want %+v", what, got, want)
	}
}

func testNameStats(t *testing.T, e *env) {
	for _, s := range []string{"m{a=1}", "m{a=2}", "n{a=1}", "never"} {
		e.add(t, model.TenantID{}, s, at(e.Base, 1))
	}
	for range 3 {
		e.search(t, &model.SearchQuery{Range: e.all(), Filters: sets(t, "__name__=m")})
	}
	e.search(t, &model.SearchQuery{Range: e.all(), Filters: sets(t, "__name__=~m|n")})
	e.search(t, &model.SearchQuery{Range: e.all(), KeysOnly: true}) // asks for no samples
	ask := func(q storageapi.NameStatsQuery, want ...string) {
		t.Helper()
		got, err := e.Catalog.NameStats(context.Background(), &q)
		if err != nil {
			t.Fatalf("usage of metrics: %s", err)
		}
		names := []string{}
		for _, r := range got.Records {
			names = append(names, r.Name)
			wantRequests := map[string]uint64{"m": 4, "n": 1, "never": 0}[r.Name]
			if r.Usage.Requests != wantRequests || (r.Usage.LastRequestSecs > 0) != (wantRequests > 0) {
				t.Errorf("usage of %s is %+v; want %d requests", r.Name, r.Usage, wantRequests)
			}
		}
		if !slices.Equal(names, want) || got.SinceSecs == 0 {
			t.Errorf("%+v: metrics %q since %d; want %q", q, names, got.SinceSecs, want)
		}
	}
	ask(storageapi.NameStatsQuery{MaxRequests: -1}, "never", "n", "m")
	ask(storageapi.NameStatsQuery{MaxRequests: -1, Limit: 2}, "never", "n")
	ask(storageapi.NameStatsQuery{MaxRequests: 0}, "never")
	ask(storageapi.NameStatsQuery{MaxRequests: -1, Pattern: "^.$"}, "n", "m")
	ask(storageapi.NameStatsQuery{MaxRequests: -1, Tenant: model.TenantID{AccountID: 5}}, []string{}...)
	if _, err := e.Catalog.NameStats(context.Background(), &storageapi.NameStatsQuery{Pattern: "("}); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("a bad pattern: %v", err)
	}
	if err := e.Catalog.ResetNameStats(context.Background()); err != nil {
		t.Fatal(err)
	}
	got, err := e.Catalog.NameStats(context.Background(), &storageapi.NameStatsQuery{MaxRequests: 0})
	if err != nil || len(got.Records) != 3 || got.Tracked != 0 {
		t.Errorf("after a reset %d metrics without requests, %d tracked, %v; want 3 and 0", len(got.Records), got.Tracked, err)
	}
}
