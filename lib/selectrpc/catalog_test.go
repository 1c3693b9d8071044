package selectrpc

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

func goldenStatus() storageapi.Status {
	list := func(kind int) []storageapi.StatusEntry {
		return []storageapi.StatusEntry{
			{Name: fmt.Sprintf("first of %d", kind), Count: uint64(1000 * kind), Usage: storageapi.Usage{Requests: uint64(kind), LastRequestSecs: 1794268800}},
			{Name: "", Count: 1},
		}
	}
	return storageapi.Status{
		TotalSeries: 12345, TotalLabelPairs: 1 << 40,
		SeriesByMetricName: list(1), SeriesByLabelName: list(2), SeriesByFocusLabelValue: list(3), SeriesByLabelPair: list(4), ValuesByLabelName: list(5),
	}
}

func goldenNameStats() storageapi.NameStats {
	return storageapi.NameStats{
		SinceSecs: 1794268800, Tracked: 2, MaxBytes: 1 << 30, CurrentBytes: 300,
		Records: []storageapi.NameRecord{{Name: "never"}, {Name: "up", Usage: storageapi.Usage{Requests: 1 << 33, LastRequestSecs: 1794268900}}},
	}
}

func statusBytes(s *storageapi.Status) []byte {
	b := appendStatusTotals(nil, s)
	for kind, list := range statusLists(s) {
		for i := 0; list != nil && i < len(*list); i++ {
			b = appendEntry(b, byte(kind), &(*list)[i])
		}
	}
	return b
}

func nameStatsBytes(s *storageapi.NameStats) []byte {
	b := appendNameTotals(nil, s)
	for i := range s.Records {
		b = appendRecord(b, &s.Records[i])
	}
	return b
}

func TestCatalogMessages(t *testing.T) {
	status, names := goldenStatus(), goldenNameStats()
	var gotStatus storageapi.Status
	if err := parseStatus(&gotStatus, statusBytes(&status)); err != nil || !reflect.DeepEqual(gotStatus, status) {
		t.Errorf("got %+v, %v; want %+v", gotStatus, err, status)
	}
	var gotNames storageapi.NameStats
	if err := parseNameStats(&gotNames, nameStatsBytes(&names)); err != nil || !reflect.DeepEqual(gotNames, names) {
		t.Errorf("got %+v, %v; want %+v", gotNames, err, names)
	}
	for _, want := range []storageapi.NameStatsQuery{
		{MaxRequests: -1}, {MaxRequests: 0, Limit: 5}, {MaxRequests: 7, Pattern: "a.*", Tenant: model.TenantID{AccountID: 1, ProjectID: 2}},
	} {
		q, err := parseQuery(nameStatsQuery(&want).appendTo(nil))
		if err != nil || *q.nameStats() != want {
			t.Errorf("got %+v, %v; want %+v", q.nameStats(), err, want)
		}
	}
	for n := 1; n < len(nameStatsBytes(&names)); n++ { // an answer cut anywhere but between items is an error
		var s storageapi.NameStats
		if err := parseNameStats(&s, nameStatsBytes(&names)[:n]); err == nil && n < 12 {
			t.Errorf("%d bytes are taken for whole totals", n)
		}
	}
	if err := parseStatus(&gotStatus, []byte{itemRecord}); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("an item of a wrong kind: %v", err)
	}
}

func FuzzCatalogMessages(f *testing.F) {
	status, names := goldenStatus(), goldenNameStats()
	f.Add(statusBytes(&status))
	f.Add(nameStatsBytes(&names))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s, again storageapi.Status
		if parseStatus(&s, data) == nil {
			if err := parseStatus(&again, statusBytes(&s)); err != nil || !reflect.DeepEqual(s, again) {
				t.Fatalf("%+v, %v; want %+v", again, err, s)
			}
		}
		var n, nAgain storageapi.NameStats
		if parseNameStats(&n, data) == nil {
			if err := parseNameStats(&nAgain, nameStatsBytes(&n)); err != nil || !reflect.DeepEqual(n, nAgain) {
				t.Fatalf("%+v, %v; want %+v", nAgain, err, n)
			}
		}
	})
}

// fakeCatalog gives large answers, or errors.
type fakeCatalog struct {
	storageapi.Catalog
	status storageapi.Status
	names  storageapi.NameStats
	err    error
}

func (c *fakeCatalog) DeleteSeries(context.Context, *model.SearchQuery) (int, error) { return 7, c.err }
func (c *fakeCatalog) SeriesCount(context.Context, model.TenantID) (storageapi.Count, error) {
	return storageapi.Count{Value: 9, Coverage: goldenCoverage()}, c.err
}
func (c *fakeCatalog) Status(context.Context, *storageapi.StatusQuery) (storageapi.Status, error) {
	return c.status, c.err
}
func (c *fakeCatalog) NameStats(context.Context, *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	return c.names, c.err
}
func (c *fakeCatalog) ResetNameStats(context.Context) error { return c.err }

// TestCatalogOverTheWire sends answers of many frames, coverage and errors.
func TestCatalogOverTheWire(t *testing.T) {
	backend := &fakeCatalog{status: goldenStatus(), names: goldenNameStats()}
	for i := range 20_000 {
		backend.names.Records = append(backend.names.Records, storageapi.NameRecord{Name: fmt.Sprintf("a_metric_with_a_long_name_%d", i), Usage: storageapi.Usage{Requests: uint64(i)}})
		backend.status.SeriesByLabelPair = append(backend.status.SeriesByLabelPair, storageapi.StatusEntry{Name: fmt.Sprintf("label=value-%d", i), Count: uint64(i)})
	}
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: &fake{}, Catalog: backend})
	c := dial(t, n, addr)
	ctx := context.Background()
	if got, err := c.Status(ctx, &storageapi.StatusQuery{TopN: 1}); err != nil || !reflect.DeepEqual(got, backend.status) {
		t.Errorf("status differs: %v", err)
	}
	if got, err := c.NameStats(ctx, &storageapi.NameStatsQuery{}); err != nil || !reflect.DeepEqual(got, backend.names) {
		t.Errorf("usage differs: %v", err)
	}
	if got, err := c.SeriesCount(ctx, model.TenantID{}); err != nil || got.Value != 9 || !got.Coverage.Partial {
		t.Errorf("count %+v, %v", got, err)
	}
	if got, err := c.DeleteSeries(ctx, &model.SearchQuery{}); err != nil || got != 7 {
		t.Errorf("deleted %d, %v", got, err)
	}
	backend.err = errkind.New(errkind.Unprocessable, "too many")
	for name, err := range everyCall(ctx, c) {
		if errkind.Of(err) != errkind.Unprocessable {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, addr = serve(t, n, ServerOptions{Searcher: &fake{}})
	for name, err := range everyCall(ctx, dial(t, n, addr)) {
		if errkind.Of(err) != errkind.Unsupported {
			t.Errorf("%s of a node without catalog: %v", name, err)
		}
	}
}

// everyCall returns the error of each call of a catalog.
func everyCall(ctx context.Context, c storageapi.Catalog) map[string]error {
	_, deleting := c.DeleteSeries(ctx, &model.SearchQuery{})
	_, counting := c.SeriesCount(ctx, model.TenantID{})
	_, status := c.Status(ctx, &storageapi.StatusQuery{})
	_, names := c.NameStats(ctx, &storageapi.NameStatsQuery{})
	return map[string]error{"delete": deleting, "count": counting, "status": status, "names": names, "reset": c.ResetNameStats(ctx)}
}
