package gather

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// fakeCatalog gives prepared answers.
type fakeCatalog struct {
	storageapi.Catalog
	status  storageapi.Status
	names   storageapi.NameStats
	err     error
	deleted int
}

func (c *fakeCatalog) DeleteSeries(context.Context, *model.SearchQuery) (int, error) {
	if c.err == nil {
		c.deleted++
	}
	return 2, c.err
}

func (c *fakeCatalog) SeriesCount(context.Context, model.TenantID) (storageapi.Count, error) {
	return storageapi.Count{Value: 5}, c.err
}

func (c *fakeCatalog) Status(context.Context, *storageapi.StatusQuery) (storageapi.Status, error) {
	return c.status, c.err
}

func (c *fakeCatalog) NameStats(_ context.Context, q *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	if q.Limit != 0 || q.MaxRequests >= 0 {
		return storageapi.NameStats{}, errors.New("a node must not cut its records")
	}
	return c.names, c.err
}

func (c *fakeCatalog) ResetNameStats(context.Context) error { return c.err }

func gatherCatalogs(t *testing.T, replicas int, list ...*fakeCatalog) *Gather {
	t.Helper()
	o := Options{Logger: logger.Discard(), Metrics: metrics.NewSet(), Config: Config{ReplicationFactor: Factors{Default: replicas}}}
	for i, c := range list {
		o.Nodes = append(o.Nodes, Node{Name: fmt.Sprint("node", i), Searcher: &fakeNode{}, Catalog: c})
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestChangesNeedAllNodes(t *testing.T) {
	ctx := context.Background()
	good, bad := &fakeCatalog{}, &fakeCatalog{}
	g := gatherCatalogs(t, 2, good, bad) // copies do not help: a node that missed it brings the series back
	if n, err := g.DeleteSeries(ctx, &model.SearchQuery{}); n != 4 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	bad.err = errkind.New(errkind.Unavailable, "no connection")
	_, err := g.DeleteSeries(ctx, &model.SearchQuery{})
	if errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "1 of 2 storage nodes") || !strings.Contains(err.Error(), "node1: no connection") {
		t.Errorf("with a node away: %v", err)
	}
	if good.deleted != 2 {
		t.Errorf("the other node has deleted %d times; want 2", good.deleted)
	}
	if err := g.ResetNameStats(ctx); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("a reset with a node away: %v", err)
	}
	bad.err = errkind.New(errkind.Unprocessable, "too many")
	if _, err := g.DeleteSeries(ctx, &model.SearchQuery{}); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("with a query at fault: %v", err)
	}
}

func TestCountsWithNodesAway(t *testing.T) {
	ctx := context.Background()
	away := errkind.New(errkind.Unavailable, "no connection")
	g := gatherCatalogs(t, 1, &fakeCatalog{}, &fakeCatalog{err: away}, &fakeCatalog{})
	if n, err := g.SeriesCount(ctx, model.TenantID{}); err != nil || n.Value != 10 || !n.Coverage.Partial {
		t.Errorf("count %+v, %v", n, err)
	}
	if s, err := g.Status(ctx, &storageapi.StatusQuery{TopN: 1}); err != nil || !s.Coverage.Partial {
		t.Errorf("status %+v, %v", s, err)
	}
	if _, err := g.Status(WithDenyPartial(ctx), &storageapi.StatusQuery{TopN: 1}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("a status which must be whole: %v", err)
	}
	if _, err := g.NameStats(ctx, &storageapi.NameStatsQuery{MaxRequests: -1}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("usage with a node away: %v", err)
	}
	g = gatherCatalogs(t, 1, &fakeCatalog{err: away})
	if _, err := g.SeriesCount(ctx, model.TenantID{}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("no node answers: %v", err)
	}
}

// TestStatusIsSummed: a name which is on top of no node's list is on top of the sum.
func TestStatusIsSummed(t *testing.T) {
	entry := func(name string, n uint64) storageapi.StatusEntry {
		return storageapi.StatusEntry{Name: name, Count: n, Usage: storageapi.Usage{Requests: n, LastRequestSecs: int64(n)}}
	}
	a := &fakeCatalog{status: storageapi.Status{TotalSeries: 3, TotalLabelPairs: 9, SeriesByMetricName: []storageapi.StatusEntry{entry("x", 5), entry("both", 4)}}}
	b := &fakeCatalog{status: storageapi.Status{TotalSeries: 4, TotalLabelPairs: 8, SeriesByMetricName: []storageapi.StatusEntry{entry("y", 5), entry("both", 3)}}}
	s, err := gatherCatalogs(t, 1, a, b).Status(context.Background(), &storageapi.StatusQuery{TopN: 2})
	want := []storageapi.StatusEntry{{Name: "both", Count: 7, Usage: storageapi.Usage{Requests: 4, LastRequestSecs: 4}}, entry("x", 5)}
	if err != nil || s.TotalSeries != 7 || s.TotalLabelPairs != 17 || !slices.Equal(s.SeriesByMetricName, want) {
		t.Errorf("%+v, %v; want metric names %+v", s, err, want)
	}
}

func TestNameStatsAreMerged(t *testing.T) {
	record := func(name string, n uint64) storageapi.NameRecord {
		return storageapi.NameRecord{Name: name, Usage: storageapi.Usage{Requests: n, LastRequestSecs: int64(n)}}
	}
	a := &fakeCatalog{names: storageapi.NameStats{SinceSecs: 20, Tracked: 2, MaxBytes: 10, CurrentBytes: 1, Records: []storageapi.NameRecord{record("m", 0), record("n", 7)}}}
	b := &fakeCatalog{names: storageapi.NameStats{SinceSecs: 10, Tracked: 3, MaxBytes: 10, CurrentBytes: 2, Records: []storageapi.NameRecord{record("o", 0), record("m", 4)}}}
	g := gatherCatalogs(t, 1, a, b)
	s, err := g.NameStats(context.Background(), &storageapi.NameStatsQuery{Limit: 2, MaxRequests: 5})
	want := []storageapi.NameRecord{record("o", 0), record("m", 4)}
	if err != nil || s.SinceSecs != 10 || s.Tracked != 3 || s.MaxBytes != 20 || s.CurrentBytes != 3 || !slices.Equal(s.Records, want) {
		t.Errorf("%+v, %v; want records %+v", s, err, want)
	}
}
