package apitest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

func cases() []testCase {
	return []testCase{
		{"empty store", testEmpty},
		{"filters", testFilters},
		{"filters on missing labels", testMissingLabels},
		{"filter sets", testFilterSets},
		{"bad regular expression", testBadRegexp},
		{"tenants are isolated", testTenants},
		{"tenants by month", testTenantsByMonth},
		{"time range", testTimeRange},
		{"order and duplicates", testOrder},
		{"special values", testSpecialValues},
		{"same series twice in a batch", testSeriesTwice},
		{"limits", testLimits},
		{"labels", testLabels},
		{"labels by day", testLabelsByDay},
		{"odd labels", testOddLabels},
		{"cancelled context", testCancelled},
		{"close in the middle", testClose},
		{"many samples", testManySamples},
		{"many series", testManySeries},
		{"batch is not kept", testBatchNotKept},
		{"newest samples", testDetail},
		{"native histograms", testHistograms},
		{"random", testRandom},
	}
}

func testEmpty(t *testing.T, e *env) {
	e.twice(t, func() {
		e.want(t, nil, e.all(), []string{}...)
		names, err := e.Searcher.LabelNames(context.Background(), &model.SearchQuery{Range: e.all()}, 0)
		if err != nil || len(names.Values) != 0 {
			t.Errorf("label names %q, %v", names.Values, err)
		}
		tenants, err := e.Searcher.Tenants(context.Background(), e.all())
		if err != nil || len(tenants.Values) != 0 {
			t.Errorf("tenants %v, %v", tenants.Values, err)
		}
		e.ingest(t, &model.Batch{})
	})
}

func testFilters(t *testing.T, e *env) {
	var b model.Batch
	all := []string{"m{a=1}", "m{a=1,b=x}", "m{a=2,b=y}", "n{a=1}"}
	for _, s := range all {
		addTo(t, &b, model.TenantID{}, s, at(e.Base, 1))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		for _, c := range []struct {
			filters []string
			want    []string
		}{
			{nil, all},
			{[]string{"__name__=m"}, []string{"m{a=1}", "m{a=1,b=x}", "m{a=2,b=y}"}},
			{[]string{"__name__=none"}, []string{}},
			{[]string{"a=1"}, []string{"m{a=1}", "m{a=1,b=x}", "n{a=1}"}},
			{[]string{"a!=1"}, []string{"m{a=2,b=y}"}},
			{[]string{"a=~1|2", "__name__!=n"}, []string{"m{a=1}", "m{a=1,b=x}", "m{a=2,b=y}"}},
			{[]string{"a=~[2-9]"}, []string{"m{a=2,b=y}"}},
			{[]string{"a!~2.*"}, []string{"m{a=1}", "m{a=1,b=x}", "n{a=1}"}},
			{[]string{"__name__=~(m|n)", "a=1", "b!~.+"}, []string{"m{a=1}", "n{a=1}"}},
			{[]string{"b=~x"}, []string{"m{a=1,b=x}"}},
			{[]string{"b=~x", "b=y"}, []string{}},
			{[]string{"a=~"}, []string{}},
			{[]string{"__name__=~.*"}, all},
			{[]string{"__name__!~m"}, []string{"n{a=1}"}},
		} {
			e.want(t, [][]model.TagFilter{filters(t, c.filters...)}, e.all(), c.want...)
		}
	})
}

func testMissingLabels(t *testing.T, e *env) {
	var b model.Batch
	for _, s := range []string{"m", "m{a=1}", "m{b=1}", "{a=1}"} {
		addTo(t, &b, model.TenantID{}, s, at(e.Base, 1))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		for _, c := range []struct {
			filter string
			want   []string
		}{
			{"a=", []string{"m", "m{b=1}"}},
			{"a!=", []string{"{a=1}", "m{a=1}"}},
			{"a=~", []string{"m", "m{b=1}"}},
			{"a=~.*", []string{"{a=1}", "m", "m{a=1}", "m{b=1}"}},
			{"a=~.+", []string{"{a=1}", "m{a=1}"}},
			{"a=~|1", []string{"{a=1}", "m", "m{a=1}", "m{b=1}"}},
			{"a=~|2", []string{"m", "m{b=1}"}},
			{"a!~|1", []string{}},
			{"a!~.*", []string{}},
			{"a!~.+", []string{"m", "m{b=1}"}},
			{"a!~2", []string{"{a=1}", "m", "m{a=1}", "m{b=1}"}},
			{"a!=1", []string{"m", "m{b=1}"}},
			{"none=", []string{"{a=1}", "m", "m{a=1}", "m{b=1}"}},
			{"none=x", []string{}},
			{"none!=x", []string{"{a=1}", "m", "m{a=1}", "m{b=1}"}},
			{"__name__=", []string{"{a=1}"}},
			{"__name__!=", []string{"m", "m{a=1}", "m{b=1}"}},
		} {
			e.want(t, [][]model.TagFilter{filters(t, c.filter)}, e.all(), c.want...)
		}
	})
}

func testFilterSets(t *testing.T, e *env) {
	var b model.Batch
	for _, s := range []string{"m{a=1}", "m{a=2}", "m{a=3}", "n{a=1}"} {
		addTo(t, &b, model.TenantID{}, s, at(e.Base, 1))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		set := func(texts ...string) []model.TagFilter { return filters(t, texts...) }
		e.want(t, [][]model.TagFilter{set("a=2"), set("__name__=n")}, e.all(), "m{a=2}", "n{a=1}")
		e.want(t, [][]model.TagFilter{set("a=1"), set("__name__=m", "a!=2")}, e.all(), "m{a=1}", "m{a=3}", "n{a=1}")
		e.want(t, [][]model.TagFilter{set("a=7"), set("a=8")}, e.all(), []string{}...)
		e.want(t, [][]model.TagFilter{set("a=7"), {}}, e.all(), "m{a=1}", "m{a=2}", "m{a=3}", "n{a=1}")
		e.want(t, [][]model.TagFilter{}, e.all(), "m{a=1}", "m{a=2}", "m{a=3}", "n{a=1}")
	})
}

func testBadRegexp(t *testing.T, e *env) {
	e.add(t, model.TenantID{}, "m{a=1}", at(e.Base, 1))
	q := &model.SearchQuery{Range: e.all(), Filters: [][]model.TagFilter{filters(t, "a=~(")}}
	_, err := collect(context.Background(), e.Searcher, q)
	if k := errkind.Of(err); k != errkind.BadRequest && k != errkind.Unprocessable {
		t.Errorf("searching a=~\"(\" gives error %v of kind %s; want a bad request", err, k)
	}
}

func testTenants(t *testing.T, e *env) {
	tenants := []model.TenantID{{}, {AccountID: 7}, {AccountID: 7, ProjectID: 9}, {AccountID: math.MaxUint32, ProjectID: math.MaxUint32}}
	var b model.Batch
	for i, tenant := range tenants {
		addTo(t, &b, tenant, "m{shared=1}", at(e.Base, float64(i)))
		addTo(t, &b, tenant, fmt.Sprintf("own%d{l%d=v%d}", i, i, i), at(e.Base, 1))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		for i, tenant := range tenants {
			q := &model.SearchQuery{Tenant: tenant, Range: e.all()}
			results := e.search(t, q)
			if got, want := keys(t, results), []string{"m{shared=1}", fmt.Sprintf("own%d{l%d=v%d}", i, i, i)}; !slices.Equal(got, want) {
				t.Errorf("tenant %s sees %q; want %q", tenant, got, want)
			} else if results[0].samples[0] != at(e.Base, float64(i)) {
				t.Errorf("tenant %s sees the samples of another one", tenant)
			}
			e.wantStrings(t, q, "", model.MetricNameLabel, fmt.Sprintf("l%d", i), "shared")
			e.wantStrings(t, q, model.MetricNameLabel, "m", fmt.Sprintf("own%d", i))
		}
		if got := e.search(t, &model.SearchQuery{Tenant: model.TenantID{ProjectID: 9}, Range: e.all()}); len(got) != 0 {
			t.Errorf("an unknown tenant sees %q", keys(t, got))
		}
		e.wantTenants(t, e.all(), tenants...)
	})
}

func (e *env) wantTenants(t *testing.T, r model.TimeRange, want ...model.TenantID) {
	t.Helper()
	got, err := e.Searcher.Tenants(context.Background(), r)
	if err != nil || !slices.Equal(got.Values, want) {
		t.Errorf("tenants in %s are %v, %v; want %v", r, got.Values, err, want)
	}
}

func testTenantsByMonth(t *testing.T, e *env) {
	early, late := e.Base-40*dayMs, e.Base
	e.add(t, model.TenantID{AccountID: 1}, "m", at(early, 1))
	e.add(t, model.TenantID{AccountID: 2}, "m", at(late, 1))
	e.twice(t, func() {
		e.wantTenants(t, model.TimeRange{Min: early, Max: early}, model.TenantID{AccountID: 1})
		e.wantTenants(t, model.TimeRange{Min: late, Max: late}, model.TenantID{AccountID: 2})
		e.wantTenants(t, model.TimeRange{Min: early, Max: late}, model.TenantID{AccountID: 1}, model.TenantID{AccountID: 2})
		e.wantTenants(t, model.TimeRange{Min: late - 3000*dayMs, Max: late - 2000*dayMs})
	})
}

func testTimeRange(t *testing.T, e *env) {
	samples := []sample{at(e.Base, 0), at(e.Base+1, 1), at(e.Base+2, 2), at(e.Base+dayMs, 3)}
	e.add(t, model.TenantID{}, "m", samples...)
	r := func(from, to int64) model.TimeRange { return model.TimeRange{Min: e.Base + from, Max: e.Base + to} }
	e.twice(t, func() {
		e.wantSamples(t, r(0, 0), samples[0])
		e.wantSamples(t, r(1, 1), samples[1])
		e.wantSamples(t, r(0, 1), samples[:2]...)
		e.wantSamples(t, r(1, 2), samples[1:3]...)
		e.wantSamples(t, r(3, dayMs-1))
		e.wantSamples(t, r(3, dayMs), samples[3])
		e.wantSamples(t, r(-dayMs, -1))
		e.wantSamples(t, r(dayMs+1, 2*dayMs-1))
		e.wantSamples(t, r(2, 1))
		e.wantSamples(t, model.TimeRange{Min: 0, Max: math.MaxInt64}, samples...)
		e.wantSamples(t, model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64}, samples...)
	})
}

func testOrder(t *testing.T, e *env) {
	for _, s := range []sample{at(e.Base+3, 3), at(e.Base+1, 1), at(e.Base+2, 2), at(e.Base-35*dayMs, 5), at(e.Base+1, 1)} {
		e.add(t, model.TenantID{}, "m", s)
	}
	want := []sample{at(e.Base-35*dayMs, 5), at(e.Base+1, 1), at(e.Base+2, 2), at(e.Base+3, 3)}
	e.twice(t, func() { e.wantSamples(t, e.all(), want...) })
	e.add(t, model.TenantID{}, "m", at(e.Base+2, 7), at(e.Base+1, 0.5), at(e.Base, 9), at(e.Base+2, -7))
	want = []sample{at(e.Base-35*dayMs, 5), at(e.Base, 9), at(e.Base+1, 1), at(e.Base+2, 7), at(e.Base+3, 3)}
	e.twice(t, func() { e.wantSamples(t, e.all(), want...) })
}

func testSpecialValues(t *testing.T, e *env) {
	negativeZero := math.Copysign(0, -1)
	bits := []uint64{
		staleMarker, math.Float64bits(math.NaN()), 0x7ff8000000001234, 0xfff8000000000001, 0x7ff0000000000001,
		math.Float64bits(negativeZero), 0, math.Float64bits(math.Inf(1)), math.Float64bits(math.Inf(-1)),
		math.Float64bits(math.MaxFloat64), math.Float64bits(math.SmallestNonzeroFloat64), 1,
		math.Float64bits(1 << 53), math.Float64bits(-(1 << 53) - 2), math.Float64bits(math.Pi),
	}
	var want []sample
	for i, b := range bits {
		want = append(want, sample{e.Base + int64(i)*15*secondMs, b})
	}
	e.add(t, model.TenantID{}, "m", want...)
	e.twice(t, func() { e.wantSamples(t, e.all(), want...) })
	// At one timestamp: numbers stay before NaN, NaN before the stale marker.
	e.add(t, model.TenantID{}, "m", at(want[0].ts, math.NaN()), at(want[1].ts, -3), at(want[6].ts, negativeZero), sample{want[14].ts, staleMarker})
	want[0].bits, want[1].bits, want[6].bits = math.Float64bits(math.NaN()), math.Float64bits(-3), math.Float64bits(negativeZero)
	e.twice(t, func() { e.wantSamples(t, e.all(), want...) })
}

func testSeriesTwice(t *testing.T, e *env) {
	var b model.Batch
	addTo(t, &b, model.TenantID{}, "m{a=1}", at(e.Base+1, 1), at(e.Base+2, 2))
	addTo(t, &b, model.TenantID{}, "m{a=2}", at(e.Base, 1))
	addTo(t, &b, model.TenantID{}, "m{a=1}", at(e.Base, 0), at(e.Base+2, 3))
	e.ingest(t, &b)
	e.ingest(t, &b)
	e.twice(t, func() {
		got := e.search(t, &model.SearchQuery{Range: e.all()})
		want := []sample{at(e.Base, 0), at(e.Base+1, 1), at(e.Base+2, 3)}
		if len(got) != 2 || !slices.Equal(got[0].samples, want) {
			t.Errorf("got %v", got)
		}
	})
}

func testLimits(t *testing.T, e *env) {
	var b model.Batch
	for i := range 10 {
		addTo(t, &b, model.TenantID{}, fmt.Sprintf("m{i=%d}", i), at(e.Base, 1))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		for _, keysOnly := range []bool{false, true} {
			for _, limit := range []int{0, 1, 9, 10, 11} {
				q := &model.SearchQuery{Range: e.all(), MaxSeries: limit, KeysOnly: keysOnly}
				got, err := collect(context.Background(), e.Searcher, q)
				exceeded := limit > 0 && limit < 10
				if exceeded && errkind.Of(err) != errkind.Unprocessable {
					t.Errorf("MaxSeries %d: error %v of kind %s; want unprocessable", limit, err, errkind.Of(err))
				}
				if !exceeded && (err != nil || len(got) != 10) {
					t.Errorf("MaxSeries %d: %d series, %v", limit, len(got), err)
				}
			}
		}
	})
}

// wantStrings checks label names (label is empty) or values, without and with limits.
func (e *env) wantStrings(t *testing.T, q *model.SearchQuery, label string, want ...string) {
	t.Helper()
	for _, limit := range []int{0, 1, len(want), len(want) + 1} {
		get := e.Searcher.LabelNames
		if label != "" {
			get = func(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
				return e.Searcher.LabelValues(ctx, q, label, limit)
			}
		}
		got, err := get(context.Background(), q, limit)
		if err != nil || got.Coverage.Partial {
			t.Errorf("label %q, limit %d: coverage %+v, error %v", label, limit, got.Coverage, err)
			continue
		}
		n := len(want)
		if limit > 0 {
			n = min(n, limit)
		}
		sorted := slices.IsSorted(got.Values) && len(slices.Compact(slices.Clone(got.Values))) == len(got.Values)
		if len(got.Values) != n || !sorted || !isSuperset(want, got.Values) {
			t.Errorf("label %q of %v in %s, limit %d: got %q; want %d of %q", label, q.Filters, q.Range, limit, got.Values, n, want)
		}
	}
}

func testLabels(t *testing.T, e *env) {
	var b model.Batch
	for _, s := range []string{"m{a=1,b=x}", "m{a=2,b=y}", "n{a=1,c=z}", "{d=1}"} {
		addTo(t, &b, model.TenantID{}, s, at(e.Base, 1))
	}
	e.ingest(t, &b)
	e.twice(t, func() {
		q := &model.SearchQuery{Range: e.all()}
		e.wantStrings(t, q, "", model.MetricNameLabel, "a", "b", "c", "d")
		e.wantStrings(t, q, "a", "1", "2")
		e.wantStrings(t, q, model.MetricNameLabel, "m", "n")
		e.wantStrings(t, q, "none")
		q.Filters = [][]model.TagFilter{filters(t, "__name__=m")}
		e.wantStrings(t, q, "", model.MetricNameLabel, "a", "b")
		e.wantStrings(t, q, "b", "x", "y")
		e.wantStrings(t, q, "c")
		q.Filters = [][]model.TagFilter{filters(t, "a=2"), filters(t, "c=~.+")}
		e.wantStrings(t, q, "", model.MetricNameLabel, "a", "b", "c")
		e.wantStrings(t, q, "a", "1", "2")
		q.Filters = [][]model.TagFilter{filters(t, "__name__=")}
		e.wantStrings(t, q, "", "d")
	})
}

func testLabelsByDay(t *testing.T, e *env) {
	e.add(t, model.TenantID{}, "old{x=1}", at(e.Base-40*dayMs, 1))
	e.add(t, model.TenantID{}, "new{y=2}", at(e.Base, 1))
	e.twice(t, func() {
		day := func(n int64) *model.SearchQuery {
			return &model.SearchQuery{Range: model.TimeRange{Min: e.Base + n*dayMs, Max: e.Base + (n+1)*dayMs - 1}}
		}
		e.wantStrings(t, day(-40), "", model.MetricNameLabel, "x")
		e.wantStrings(t, day(0), "", model.MetricNameLabel, "y")
		e.wantStrings(t, day(-40), model.MetricNameLabel, "old")
		e.wantStrings(t, day(0), "y", "2")
		e.wantStrings(t, day(0), "x")
		e.wantStrings(t, day(-1), "")
		e.want(t, nil, day(-40).Range, "old{x=1}")
		e.want(t, nil, day(0).Range, "new{y=2}")
		e.want(t, nil, day(-2).Range, []string{}...)
	})
}

func testOddLabels(t *testing.T, e *env) {
	long := string(slices.Repeat([]byte("long "), 1000))
	all := []model.Label{{Name: "bin", Value: "\x00\x01\xff"}, {Name: "long", Value: long}, {Name: "utf8 name ä", Value: "日本"}, {Name: "re", Value: "a.b|c(d)"}}
	for i := range all {
		var b model.Batch
		if err := b.AddSeries(model.TenantID{}, slices.Clone(all[:i+1])); err != nil {
			t.Fatal(err)
		}
		b.AddSample(e.Base, float64(i))
		e.ingest(t, &b)
	}
	e.twice(t, func() {
		for i, l := range all {
			q := &model.SearchQuery{Range: e.all(), Filters: [][]model.TagFilter{{{Name: l.Name, Value: l.Value}}}}
			if got := e.search(t, q); len(got) != len(all)-i {
				t.Errorf("%d series with %.40q; want %d", len(got), l, len(all)-i)
			}
			e.wantStrings(t, q, l.Name, l.Value)
		}
	})
}
