package multitenant

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/fragment"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const base = apitest.DefaultBase

// fakeStores are a store in memory which counts what it is asked, and fails on demand.
type fakeStores struct {
	*apitest.Memory
	lists          atomic.Int64 // how often the tenants were asked for
	open, mostOpen int
	partialList    bool
	partialSearch  bool
	failSearch     *model.TenantID // whose iterator ends with an error
}

var errAway = errkind.New(errkind.Unavailable, "connection refused")

func away() storageapi.Coverage {
	return storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: "node-2:8401", Err: errAway}}}
}

func (f *fakeStores) Tenants(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	f.lists.Add(1)
	list, err := f.Memory.Tenants(ctx, r)
	if f.partialList {
		list.Coverage = away()
	}
	return list, err
}

func (f *fakeStores) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	it, err := f.Memory.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	f.open++
	f.mostOpen = max(f.mostOpen, f.open)
	return &fakeIterator{SeriesIterator: it, f: f, fails: f.failSearch != nil && *f.failSearch == q.Tenant}, nil
}

func (f *fakeStores) Reduce(context.Context, *fragment.Fragment) (storageapi.Reduction, error) {
	return storageapi.Reduction{Results: []*fragment.Result{{}}}, nil
}

type fakeIterator struct {
	storageapi.SeriesIterator
	f             *fakeStores
	fails, closed bool
}

func (it *fakeIterator) Err() error {
	if it.fails {
		return errAway
	}
	return it.SeriesIterator.Err()
}

func (it *fakeIterator) Coverage() storageapi.Coverage {
	if it.f.partialSearch {
		return away()
	}
	return storageapi.Coverage{}
}

func (it *fakeIterator) Close() error {
	if !it.closed {
		it.closed = true
		it.f.open--
	}
	return it.SeriesIterator.Close()
}

type env struct {
	*fakeStores
	s   *Searcher
	now time.Time
}

func newEnv(keep time.Duration) *env {
	e := &env{fakeStores: &fakeStores{Memory: apitest.NewMemory()}, now: time.UnixMilli(base)}
	e.s = New(Options{Stores: e.fakeStores, Config: &Config{TenantCacheExpire: flagvalue.Duration(keep)}, Metrics: metrics.NewSet(), Now: func() time.Time { return e.now }})
	return e
}

// add stores a sample of the series name{a="b",...}, given as alternating names and values, for the tenant.
func (e *env) add(t *testing.T, tenant string, ts int64, labels ...string) {
	t.Helper()
	id, err := model.ParseTenantID(tenant)
	if err != nil {
		t.Fatal(err)
	}
	var list []model.Label
	for i := 0; i < len(labels); i += 2 {
		list = append(list, model.Label{Name: labels[i], Value: labels[i+1]})
	}
	var b model.Batch
	if err := b.AddSeries(id, list); err != nil {
		t.Fatal(err)
	}
	b.AddSample(ts, float64(ts%97))
	if err := e.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

func all(sets ...[]model.TagFilter) *model.SearchQuery {
	return &model.SearchQuery{AllTenants: true, Range: model.TimeRange{Min: base - 1000, Max: base + 1000}, Filters: sets}
}

func is(name, value string) model.TagFilter { return model.TagFilter{Name: name, Value: value} }

// read returns the series as texts with how many samples they have, and checks what is promised of the order.
func read(t *testing.T, s storageapi.Searcher, q *model.SearchQuery) (list []string, coverage storageapi.Coverage, err error) {
	t.Helper()
	it, err := s.Search(t.Context(), q)
	if err != nil {
		return nil, coverage, err
	}
	defer func() {
		if err := errors.Join(it.Close(), it.Close()); err != nil {
			t.Error(err)
		}
	}()
	seen := map[string]bool{}
	var last model.TenantID
	for it.Next() {
		key := it.At().Key
		tenant, labels, err := model.ParseSeriesKey(nil, key)
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(key)] || tenant.Compare(last) < 0 {
			t.Fatalf("%s comes after tenant %s, or again", model.SeriesKeyString(key), last)
		}
		seen[string(key)], last = true, tenant
		samples := 0
		for _, b := range it.At().Blocks {
			samples += b.Count
		}
		list = append(list, fmt.Sprint(model.LabelsString(labels), " ", samples))
	}
	return list, it.Coverage(), it.Err()
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q; want %q", what, got, want)
	}
}

func TestOneTenant(t *testing.T) {
	apitest.Run(t, func(*testing.T) apitest.Target {
		e := newEnv(time.Minute)
		return apitest.Target{Ingester: e.Memory, Searcher: e.s, Catalog: e.s}
	})
}

func TestLabels(t *testing.T) {
	e := newEnv(0)
	e.add(t, "4294967295:1", base, "__name__", "up", "zone", "z", "a", "b")
	e.add(t, "7", base, "__name__", "up", "Upper", "x", "vm_b", "y")
	e.add(t, "7", base, "__name__", "up", "vm_account_id", "1", "exported_vm_account_id", "2", "vm_project_id", "3")
	e.add(t, "7", base, "__name__", "up")
	got, _, err := read(t, e.s, all())
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, "series", got,
		`up{vm_account_id="7",vm_project_id="0"} 1`,
		`up{Upper="x",vm_account_id="7",vm_b="y",vm_project_id="0"} 1`,
		`up{exported_exported_vm_account_id="1",exported_vm_account_id="2",exported_vm_project_id="3",vm_account_id="7",vm_project_id="0"} 1`,
		`up{a="b",vm_account_id="4294967295",vm_project_id="1",zone="z"} 1`)
	if _, _, err := read(t, e.s, all([]model.TagFilter{{Name: model.AccountLabel, Value: "(", Op: model.Regexp}})); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("a bad expression: %v", err)
	}
}

// TestRandom compares with all series of all tenants, filtered afterwards.
func TestRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		e := newEnv(0)
		for range rng.IntN(50) {
			e.addRandom(t, rng)
		}
		for range 20 {
			e.compare(t, randomSets(rng))
		}
	}
}

func pick(rng *rand.Rand, list ...string) string { return list[rng.IntN(len(list))] }

func (e *env) addRandom(t *testing.T, rng *rand.Rand) {
	t.Helper()
	labels := []string{"__name__", pick(rng, "m", "n")}
	for _, name := range []string{"a", "job", "z"} {
		if rng.IntN(2) == 0 {
			labels = append(labels, name, pick(rng, "1", "2", "7"))
		}
	}
	e.add(t, fmt.Sprintf("%d:%d", rng.IntN(4)*7, rng.IntN(3)), base, labels...)
}

func randomSets(rng *rand.Rand) (sets [][]model.TagFilter) {
	for range rng.IntN(3) {
		set := []model.TagFilter{}
		for range rng.IntN(4) {
			set = append(set, model.TagFilter{
				Name: pick(rng, "__name__", "a", "job", model.AccountLabel, model.ProjectLabel), Op: model.FilterOp(rng.IntN(4)),
				Value: pick(rng, "", "0", "1", "2", "7", "14", "m", "1|2", "1.*", ".+"),
			})
		}
		sets = append(sets, set)
	}
	return sets
}

// compare checks series, label names and label values of a search.
func (e *env) compare(t *testing.T, sets [][]model.TagFilter) {
	t.Helper()
	var want []string
	names, values := map[string]bool{}, map[string]bool{}
	tenants, err := e.Tenants(t.Context(), all().Range)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range tenants.Values {
		it, err := e.Memory.Search(t.Context(), &model.SearchQuery{Tenant: tenant, Range: all().Range})
		if err != nil {
			t.Fatal(err)
		}
		for it.Next() {
			_, labels, _ := model.ParseSeriesKey(nil, slices.Clone(it.At().Key))
			account, project, _ := strings.Cut(tenant.String(), ":")
			labels = append(labels, model.Label{Name: model.AccountLabel, Value: account}, model.Label{Name: model.ProjectLabel, Value: project})
			if !passes(t, sets, labels) {
				continue
			}
			slices.SortFunc(labels, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
			want = append(want, model.LabelsString(labels)+" 1")
			for _, l := range labels {
				names[l.Name], values[l.Name+"="+l.Value] = true, true
			}
		}
	}
	for _, keysOnly := range []bool{false, true} {
		q := all(sets...)
		q.KeysOnly = keysOnly
		got, _, err := read(t, e.s, q)
		if keysOnly {
			for i := range got {
				got[i] = strings.TrimSuffix(got[i], " 0") + " 1"
			}
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("filters %v: got %q, %v; want %q", sets, got, err, want)
		}
	}
	found, err := e.s.LabelNames(t.Context(), all(sets...), 0)
	if err != nil || len(found.Values) != len(names) || !slices.IsSorted(found.Values) {
		t.Fatalf("filters %v: label names %q, %v; want %v", sets, found.Values, err, names)
	}
	n := 0
	for name := range names {
		found, err := e.s.LabelValues(t.Context(), all(sets...), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		n += len(found.Values)
		for _, v := range found.Values {
			if !values[name+"="+v] {
				t.Fatalf("filters %v: label %s has no value %q", sets, name, v)
			}
		}
	}
	if n != len(values) {
		t.Fatalf("filters %v: %d values; want %v", sets, n, values)
	}
}

// passes evaluates filters one by one.
func passes(t *testing.T, sets [][]model.TagFilter, labels []model.Label) bool {
	t.Helper()
	return len(sets) == 0 || slices.ContainsFunc(sets, func(set []model.TagFilter) bool {
		return !slices.ContainsFunc(set, func(f model.TagFilter) bool {
			m, err := f.Compile()
			if err != nil {
				t.Fatal(err)
			}
			value := ""
			for _, l := range labels {
				if l.Name == f.Name {
					value = l.Value
				}
			}
			return !m.Match(value)
		})
	})
}

func TestLimits(t *testing.T) {
	e := newEnv(0)
	for i := range 20 {
		e.add(t, fmt.Sprint(i), base, "__name__", "m", "label", fmt.Sprint(i))
	}
	q := all()
	q.MaxSeries = 20
	if got, _, err := read(t, e.s, q); err != nil || len(got) != 20 {
		t.Errorf("%d series, %v", len(got), err)
	}
	if e.mostOpen != concurrency || e.open != 0 {
		t.Errorf("%d iterators were open at a time, %d still are; want %d and none", e.mostOpen, e.open, concurrency)
	}
	q.MaxSeries = 19
	if _, _, err := read(t, e.s, q); errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), "exceeds 19") || e.open != 0 {
		t.Errorf("%v, %d are open", err, e.open)
	}
	values, err := e.s.LabelValues(t.Context(), all(), "label", 3)
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, "three values", values.Values, "0", "1", "10")
	it, err := e.s.Search(t.Context(), all())
	if err != nil || !it.Next() || !it.Next() || !it.Next() || e.open < 2 {
		t.Fatalf("%v, %d are open", err, e.open)
	}
	if err := it.Close(); err != nil || e.open != 0 || it.Next() {
		t.Errorf("after closing in the middle: %v, %d are open", err, e.open)
	}
}

// TestLargeAnswers: what waits for its reader in a storage node keeps others from being served, so one at a time.
func TestLargeAnswers(t *testing.T) {
	e := newEnv(0)
	for i := range 5 {
		e.add(t, fmt.Sprint(i), base, "__name__", strings.Repeat("m", smallAnswer))
	}
	if got, _, err := read(t, e.s, all()); err != nil || len(got) != 5 || e.mostOpen != 1 {
		t.Errorf("%d series, %v, %d iterators open at a time", len(got), err, e.mostOpen)
	}
}

func TestFailures(t *testing.T) {
	e := newEnv(time.Hour)
	for i := range 5 {
		e.add(t, fmt.Sprint(i), base, "__name__", "m")
	}
	e.failSearch = &model.TenantID{AccountID: 3}
	got, _, err := read(t, e.s, all())
	if !errors.Is(err, errAway) || len(got) != 4 || e.open != 0 {
		t.Errorf("%d series, %v, %d are open", len(got), err, e.open)
	}
	e.failSearch, e.partialSearch = nil, true
	if _, coverage, err := read(t, e.s, all()); err != nil || !coverage.Partial || len(coverage.Failed) != 1 {
		t.Errorf("%+v, %v", coverage, err)
	}
	e.partialSearch, e.partialList = false, true
	e.now = e.now.Add(2 * time.Hour)
	for range 2 { // a list which may lack tenants is not kept
		lists := e.lists.Load()
		if _, coverage, err := read(t, e.s, all()); err != nil || !coverage.Partial || e.lists.Load() != lists+1 {
			t.Errorf("%+v, %v, %d lists", coverage, err, e.lists.Load()-lists)
		}
	}
	if n, err := e.s.DeleteSeries(t.Context(), all()); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "node-2:8401") || n != 0 {
		t.Errorf("deleted %d, %v", n, err)
	}
	if _, err := e.s.NameStats(t.Context(), &storageapi.NameStatsQuery{AllTenants: true}); errkind.Of(err) != errkind.Unavailable {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.s.Search(ctx, all()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTenantCache(t *testing.T) {
	e := newEnv(time.Minute)
	e.add(t, "1", base, "__name__", "m")
	count := func(want int, lists int64) {
		t.Helper()
		if got, _, err := read(t, e.s, all()); err != nil || len(got) != want || e.lists.Load() != lists {
			t.Errorf("%q, %v after %d lists; want %d after %d", got, err, e.lists.Load(), want, lists)
		}
	}
	count(1, 1)
	e.add(t, "2", base, "__name__", "m")
	count(1, 1)
	e.now = e.now.Add(time.Minute)
	count(2, 2)
	other := all()
	other.Range.Min -= 40 * 24 * 3600 * 1000
	if _, _, err := read(t, e.s, other); err != nil || e.lists.Load() != 3 {
		t.Errorf("%v, %d lists: other months are another list", err, e.lists.Load())
	}
	for i := range 2 * maxTenantLists {
		other.Range.Min = base - int64(i)*31*24*3600*1000
		if _, err := e.s.LabelNames(t.Context(), other, 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.s.tenants.mu.lists); n > maxTenantLists {
		t.Errorf("%d lists are kept", n)
	}
}

func TestDelete(t *testing.T) {
	e := newEnv(time.Hour)
	for i := range 6 {
		e.add(t, fmt.Sprint(i), base-int64(i)*40*24*3600*1000, "__name__", "m")
		e.add(t, fmt.Sprint(i), base, "__name__", "n")
	}
	if _, _, err := read(t, e.s, &model.SearchQuery{AllTenants: true, Range: allTime()}); err != nil { // the list is kept
		t.Fatal(err)
	}
	e.add(t, "9", base, "__name__", "m")
	q := all([]model.TagFilter{is("__name__", "m"), {Name: model.AccountLabel, Value: "0", Op: model.NotEqual}})
	q.MaxSeries = 5
	if n, err := e.s.DeleteSeries(t.Context(), q); errkind.Of(err) != errkind.Unprocessable || n != 0 || e.Rows() != 13 {
		t.Errorf("%d deleted, %v, %d rows are left: more series than allowed match", n, err, e.Rows())
	}
	q.MaxSeries = 6
	if n, err := e.s.DeleteSeries(t.Context(), q); err != nil || n != 6 || e.Rows() != 7 {
		t.Errorf("%d deleted, %v, %d rows are left", n, err, e.Rows())
	}
}

func TestStatus(t *testing.T) {
	e := newEnv(0)
	for _, tenant := range []string{"1", "2", "2:5"} {
		e.add(t, tenant, base, "__name__", "m", "t", tenant)
		e.add(t, tenant, base, "__name__", "m", "t", "x")
	}
	e.add(t, "2", base, "__name__", "n")
	q := &storageapi.StatusQuery{Search: *all([]model.TagFilter{is(model.AccountLabel, "2")}), TopN: 2, FocusLabel: "t"}
	for range 3 {
		if _, _, err := read(t, e.s, all([]model.TagFilter{is("__name__", "m"), is(model.ProjectLabel, "5")})); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := read(t, e.s, all([]model.TagFilter{is("__name__", "m")})); err != nil {
		t.Fatal(err)
	}
	s, err := e.s.Status(t.Context(), q)
	if err != nil || s.TotalSeries != 5 || s.TotalLabelPairs != 9 || len(s.SeriesByMetricName) != 2 || len(s.SeriesByLabelPair) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if m := s.SeriesByMetricName[0]; m.Name != "m" || m.Count != 4 || m.Usage.Requests != 5 {
		t.Errorf("%+v", m)
	}
	if f := s.SeriesByFocusLabelValue; len(f) != 2 || f[0] != (storageapi.StatusEntry{Name: "x", Count: 2}) {
		t.Errorf("%+v", f)
	}
	q.Search.MaxSeries = 4
	if _, err := e.s.Status(t.Context(), q); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("more series than allowed: %v", err)
	}
	names, err := e.s.NameStats(t.Context(), &storageapi.NameStatsQuery{AllTenants: true, MaxRequests: -1})
	if err != nil || len(names.Records) != 2 || names.Records[0].Name != "n" || names.Records[1].Usage.Requests != 6 || names.MaxBytes == 0 {
		t.Errorf("%+v, %v", names, err)
	}
	names, err = e.s.NameStats(t.Context(), &storageapi.NameStatsQuery{AllTenants: true, MaxRequests: 5, Limit: 1, Pattern: "m|n"})
	if err != nil || len(names.Records) != 1 || names.Records[0].Name != "n" {
		t.Errorf("%+v, %v", names, err)
	}
}

func TestMetadata(t *testing.T) {
	e := newEnv(0)
	e.add(t, "5", base, "__name__", "m")
	var list []model.Metadata
	for _, m := range []string{"b", "a", "c"} {
		list = append(list, model.Metadata{Tenant: model.TenantID{AccountID: 5}, Metric: m, Help: "same"}, model.Metadata{Metric: m, Help: "same"}, model.Metadata{Metric: m, Help: "other"})
	}
	if err := e.AddMetadata(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	got, err := e.s.Metadata(t.Context(), &storageapi.MetadataQuery{AllTenants: true, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range got.Items {
		texts = append(texts, m.Metric+" "+m.Help)
	}
	wantList(t, "descriptions", texts, "a other", "a same", "b other", "b same")
}

func TestReduce(t *testing.T) {
	e := newEnv(0)
	for _, everyone := range []bool{false, true} {
		f := &fragment.Fragment{}
		f.Search.AllTenants = everyone
		if r, err := e.s.Reduce(t.Context(), f); err != nil || len(r.Results) == 0 != everyone {
			t.Errorf("all tenants %t: %d results, %v", everyone, len(r.Results), err)
		}
	}
}

func TestExemplars(t *testing.T) {
	e := newEnv(0)
	five := model.TenantID{AccountID: 5}
	for _, tenant := range []string{"5", "7:9"} {
		e.add(t, tenant, base, "__name__", "m")
	}
	list := []model.Exemplar{
		apitest.Exemplar(five, "m", "x", "1", 1000), apitest.Exemplar(five, "m", "x", "2", 2000), apitest.Exemplar(five, "n", "x", "3", 1000),
		apitest.Exemplar(model.TenantID{AccountID: 7, ProjectID: 9}, "m", "x", "4", 1000),
	}
	for i := range list {
		list[i].Timestamp = base + int64(i)
	}
	if err := e.AddExemplars(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		filters []model.TagFilter
		limit   int
		want    []string
	}{
		{[]model.TagFilter{is("__name__", "m")}, 3, []string{`m{job="x",vm_account_id="5",vm_project_id="0"} 0`, `m{job="x",vm_account_id="5",vm_project_id="0"} 1`, `m{job="x",vm_account_id="7",vm_project_id="9"} 3`}},
		{[]model.TagFilter{is("vm_account_id", "5"), is("__name__", "n")}, 0, []string{`n{job="x",vm_account_id="5",vm_project_id="0"} 2`}},
		{[]model.TagFilter{is("vm_account_id", "6")}, 0, nil},
	} {
		q := &storageapi.ExemplarQuery{Search: *all(c.filters), Limit: c.limit}
		got, err := e.s.Exemplars(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, x := range got.Items {
			_, labels, err := model.ParseSeriesKey(nil, x.Series)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, fmt.Sprint(model.LabelsString(labels), " ", x.Timestamp-base))
		}
		wantList(t, "exemplars", texts, c.want...)
		if q.Limit = 2; len(c.want) > 2 {
			if _, err := e.s.Exemplars(t.Context(), q); errkind.Of(err) != errkind.Unprocessable {
				t.Errorf("beyond the limit the error is %v", err)
			}
		}
	}
	q := &storageapi.ExemplarQuery{Search: model.SearchQuery{Tenant: five, Range: all().Range}}
	if got, err := e.s.Exemplars(t.Context(), q); err != nil || !apitest.SameExemplars(got.Items, list[:3]) {
		t.Errorf("one tenant: %+v, %v", got, err)
	}
}
