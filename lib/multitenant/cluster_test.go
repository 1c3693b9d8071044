package multitenant

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/clustertest"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// clusterStores are the stores of a cluster, without descriptions.
type clusterStores struct {
	storageapi.Searcher
	storageapi.Catalog
	storageapi.Reducer
	storageapi.MetadataReader
	storageapi.ExemplarReader
}

// TestCluster reads all tenants of a cluster in many searches at a time, more than the nodes serve at once.
func TestCluster(t *testing.T) {
	const tenants, series, readers = 30, 100, 24
	c := clustertest.New(t, 2)
	for i := range uint32(tenants) {
		var b model.Batch
		for k := range series {
			if err := b.AddSeries(model.TenantID{AccountID: i / 2, ProjectID: i}, []model.Label{{Name: "__name__", Value: "m"}, {Name: "k", Value: fmt.Sprint(k)}}); err != nil {
				t.Fatal(err)
			}
			b.AddSample(base, float64(k))
		}
		if err := c.Ingester.Ingest(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Options{Stores: &clusterStores{c.Searcher, c.Catalog, c.Reducer, nil, nil}, Config: &Config{}, Metrics: metrics.NewSet(), Now: time.Now})
	count := func(ctx context.Context, q *model.SearchQuery) (n int, err error) {
		it, err := s.Search(ctx, q)
		if err != nil {
			return 0, err
		}
		for it.Next() {
			n++
		}
		if err = it.Err(); err == nil {
			err = it.Close()
		}
		return n, err
	}
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			q, want := all(), tenants*series
			if i%2 == 1 {
				q = all([]model.TagFilter{is("k", "7"), is(model.AccountLabel, fmt.Sprint(i))})
				want = 0
				if i < tenants/2 {
					want = 2
				}
			}
			if n, err := count(t.Context(), q); err != nil || n != want {
				t.Errorf("reader %d: %d series, %v; want %d", i, n, err, want)
			}
		})
	}
	wg.Wait()
	if n, err := s.DeleteSeries(t.Context(), all([]model.TagFilter{is(model.ProjectLabel, "29")})); err != nil || n != series {
		t.Errorf("deleted %d series, %v", n, err)
	}
	if n, err := count(t.Context(), all()); err != nil || n != (tenants-1)*series {
		t.Errorf("%d series are left, %v", n, err)
	}
}
