package apitest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// ExemplarTarget is an empty store of exemplars under test.
type ExemplarTarget struct {
	Writer storageapi.ExemplarWriter
	Reader storageapi.ExemplarReader
}

// RunExemplars checks the contracts about exemplars against the stores that factory returns, which must accept times from DefaultBase on. Every call of
// factory must return a fresh, empty store.
func RunExemplars(t *testing.T, factory func(t *testing.T) ExemplarTarget) {
	for name, run := range map[string]func(*testing.T, ExemplarTarget){
		"selection": testExemplarSelection,
		"order":     testExemplarOrder,
		"limit":     testExemplarLimit,
		"buffers":   testExemplarBuffers,
		"canceled":  testExemplarCanceled,
		"random":    testExemplarsAtRandom,
	} {
		t.Run(name, func(t *testing.T) { run(t, factory(t)) })
	}
}

// Exemplar makes one of the series name{job} with the label trace_id, at a time in milliseconds after DefaultBase.
func Exemplar(tenant model.TenantID, name, job, trace string, afterMs int64) model.Exemplar {
	key, err := model.AppendSeriesKey(nil, tenant, []model.Label{{Name: model.MetricNameLabel, Value: name}, {Name: "job", Value: job}})
	if err != nil {
		panic(err)
	}
	labels, err := model.AppendExemplarLabels(nil, []model.Label{{Name: "trace_id", Value: trace}})
	if err != nil {
		panic(err)
	}
	return model.Exemplar{Series: key, Labels: labels, Timestamp: DefaultBase + afterMs, Value: float64(afterMs)}
}

// ExemplarQuery asks for the exemplars of the series which one set of filters selects, at any time.
func ExemplarQuery(tenant model.TenantID, filters ...model.TagFilter) *storageapi.ExemplarQuery {
	return &storageapi.ExemplarQuery{Search: model.SearchQuery{Tenant: tenant, Range: model.TimeRange{Min: DefaultBase, Max: DefaultBase + 1<<40}, Filters: [][]model.TagFilter{filters}}}
}

func (s *ExemplarTarget) add(t *testing.T, list ...model.Exemplar) {
	t.Helper()
	if err := s.Writer.AddExemplars(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func (s *ExemplarTarget) want(t *testing.T, q *storageapi.ExemplarQuery, want ...model.Exemplar) {
	t.Helper()
	got, err := s.Reader.Exemplars(t.Context(), q)
	if err != nil || got.Coverage.Partial || !SameExemplars(got.Items, want) {
		t.Errorf("%+v:\n got %s, partial %v, error %v\nwant %s", q, describeExemplars(got.Items), got.Coverage.Partial, err, describeExemplars(want))
	}
}

// SameExemplars reports whether the lists are equal.
func SameExemplars(a, b []model.Exemplar) bool {
	return slices.EqualFunc(a, b, func(a, b model.Exemplar) bool {
		return string(a.Series) == string(b.Series) && a.Compare(&b) == 0
	})
}

func describeExemplars(list []model.Exemplar) (text string) {
	for i := range list {
		e := &list[i]
		text += fmt.Sprintf("\n%s %q %d %v", model.SeriesKeyString(e.Series), e.Labels, e.Timestamp-DefaultBase, e.Value)
	}
	return text
}

func testExemplarSelection(t *testing.T, s ExemplarTarget) {
	other := model.TenantID{AccountID: 7, ProjectID: 9}
	var none model.TenantID
	a1, a2, b1 := Exemplar(none, "a", "x", "1", 1000), Exemplar(none, "a", "y", "2", 2000), Exemplar(none, "b", "x", "3", 3000)
	there := Exemplar(other, "a", "x", "4", 1000)
	s.want(t, ExemplarQuery(none))
	s.add(t, b1, a2)
	s.add(t, there, a1)
	s.add(t)
	s.want(t, ExemplarQuery(none), a1, a2, b1)
	s.want(t, ExemplarQuery(other), there)
	s.want(t, ExemplarQuery(model.TenantID{AccountID: 7}))
	named := func(op model.FilterOp, value string) model.TagFilter {
		return model.TagFilter{Name: model.MetricNameLabel, Op: op, Value: value}
	}
	job := func(op model.FilterOp, value string) model.TagFilter {
		return model.TagFilter{Name: "job", Op: op, Value: value}
	}
	s.want(t, ExemplarQuery(none, named(model.Equal, "a")), a1, a2)
	s.want(t, ExemplarQuery(none, named(model.Equal, "a"), job(model.Equal, "y")), a2)
	s.want(t, ExemplarQuery(none, named(model.Regexp, "a|b"), job(model.NotEqual, "y")), a1, b1)
	s.want(t, ExemplarQuery(none, job(model.NotRegexp, "x.*")), a2)
	s.want(t, ExemplarQuery(none, model.TagFilter{Name: "nosuch", Value: ""}, named(model.NotEqual, "a")), b1)
	s.want(t, ExemplarQuery(none, named(model.Equal, "nosuch")))
	q := ExemplarQuery(none, named(model.Equal, "b"))
	q.Search.Filters = append(q.Search.Filters, []model.TagFilter{job(model.Equal, "y")})
	s.want(t, q, a2, b1)
	q = ExemplarQuery(none)
	q.Search.Range = model.TimeRange{Min: a1.Timestamp, Max: a2.Timestamp}
	s.want(t, q, a1, a2)
	q.Search.Range = model.TimeRange{Min: a1.Timestamp + 1, Max: a2.Timestamp - 1}
	s.want(t, q)
}

func testExemplarOrder(t *testing.T, s ExemplarTarget) {
	var none model.TenantID
	first, second := Exemplar(none, "m", "x", "b", 1000), Exemplar(none, "m", "x", "a", 2000)
	sameTime := Exemplar(none, "m", "x", "b", 2000)
	odd := sameTime
	odd.Value = math.NaN()
	bare := Exemplar(none, "m", "x", "", 3000)
	s.add(t, bare, odd, second)
	s.add(t, sameTime, first, second, odd, bare)
	s.add(t, first)
	s.want(t, ExemplarQuery(none), first, second, sameTime, odd, bare)
}

func testExemplarLimit(t *testing.T, s ExemplarTarget) {
	var none model.TenantID
	var list []model.Exemplar
	for i := range 2000 {
		list = append(list, Exemplar(none, "m", fmt.Sprintf("%04d", i/10), fmt.Sprint(i), int64(i)))
	}
	s.add(t, list...)
	q := ExemplarQuery(none)
	s.want(t, q, list...)
	q.Limit = len(list)
	s.want(t, q, list...)
	q.Limit--
	if _, err := s.Reader.Exemplars(t.Context(), q); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("beyond the limit the error is %v", err)
	}
}

// testExemplarBuffers changes the memory which exemplars were in.
func testExemplarBuffers(t *testing.T, s ExemplarTarget) {
	var none model.TenantID
	e, same := Exemplar(none, "m", "x", "1", 1000), Exemplar(none, "m", "x", "1", 1000)
	s.add(t, e)
	clear(e.Series)
	clear(e.Labels)
	s.want(t, ExemplarQuery(none), same)
}

func testExemplarCanceled(t *testing.T, s ExemplarTarget) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var none model.TenantID
	if err := s.Writer.AddExemplars(ctx, []model.Exemplar{Exemplar(none, "m", "x", "1", 1000)}); err == nil {
		t.Error("a canceled write succeeds")
	}
	if _, err := s.Reader.Exemplars(ctx, ExemplarQuery(none)); err == nil {
		t.Error("a canceled query succeeds")
	}
}

// testExemplarsAtRandom compares with Memory.
func testExemplarsAtRandom(t *testing.T, s ExemplarTarget) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	memory := NewMemory()
	for range 50 {
		var list []model.Exemplar
		for range rng.IntN(30) {
			tenant := model.TenantID{AccountID: uint32(rng.IntN(2))}
			list = append(list, Exemplar(tenant, fmt.Sprintf("m%d", rng.IntN(4)), fmt.Sprintf("j%d", rng.IntN(3)), fmt.Sprint(rng.IntN(3)), int64(rng.IntN(20))))
		}
		s.add(t, list...)
		if err := memory.AddExemplars(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		q := randomExemplarQuery(rng)
		want, err := memory.Exemplars(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		s.want(t, q, want.Items...)
	}
}

func randomExemplarQuery(rng *rand.Rand) *storageapi.ExemplarQuery {
	q := &storageapi.ExemplarQuery{Search: model.SearchQuery{Tenant: model.TenantID{AccountID: uint32(rng.IntN(2))}}}
	from := DefaultBase + int64(rng.IntN(20))
	q.Search.Range = model.TimeRange{Min: from, Max: from + int64(rng.IntN(20))}
	for range rng.IntN(3) {
		var set []model.TagFilter
		for range rng.IntN(3) {
			f := model.TagFilter{Name: "job", Op: model.FilterOp(rng.IntN(4)), Value: []string{"j0", "j1", "", "j.", "j0|j2"}[rng.IntN(5)]}
			if rng.IntN(2) == 0 {
				f.Name, f.Value = model.MetricNameLabel, []string{"m0", "m1", "", "m[12]", "m3|m0"}[rng.IntN(5)]
			}
			set = append(set, f)
		}
		q.Search.Filters = append(q.Search.Filters, set)
	}
	return q
}
