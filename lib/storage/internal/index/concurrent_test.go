package index

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConcurrent has writers, readers, flushes and merges at once on real files.
func TestConcurrent(t *testing.T) {
	ix := mustOpen(t, vfs.OS(), t.TempDir())
	const writers, perWriter = 3, 600
	var done atomic.Bool
	var writing, others sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range perWriter {
				key := testKey(t, model.TenantID{}, model.MetricNameLabel, "m", "i", fmt.Sprint(i), "shared", fmt.Sprint(i%7), "w", fmt.Sprint(w%2))
				id, _, _ := ix.Add(model.HashSeriesKey(key), key)
				ix.MarkActive(id, int32(i%3))
				if got, ok, _ := ix.Lookup(model.HashSeriesKey(key), key); !ok || got != id {
					t.Errorf("Lookup = %d, %v; want %d", got, ok, id)
				}
			}
		})
	}
	background := func(f func() error) {
		others.Go(func() {
			for !done.Load() {
				if err := f(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	background(ix.Flush)
	background(func() error { return ix.Merge(ctx) })
	background(func() error { return readAround(t, ix) })
	background(func() error {
		_, err := ix.LabelValues(ctx, Query{LastDay: 9}, "i", 10)
		ix.SizeBytes()
		return err
	})
	writing.Wait()
	done.Store(true)
	others.Wait()
	if got := ix.SeriesCount(); got != 2*perWriter {
		t.Errorf("%d series; want %d", got, 2*perWriter)
	}
	must(t, readAround(t, ix))
	closed(t, ix)
}

// readAround checks that found series pass the filter they were found by.
func readAround(t *testing.T, ix *Index) error {
	filters := []model.TagFilter{{Name: "shared", Value: "[23]", Op: model.Regexp}, {Name: "i", Value: "1.*", Op: model.Regexp}, {Name: "w", Value: "0", Op: model.NotEqual}}
	ids, err := ix.Search(ctx, Query{Filters: [][]model.TagFilter{filters}, LastDay: 9})
	if err != nil {
		return err
	}
	return ix.Keys(ctx, ids, func(id uint32, key []byte) bool {
		_, labels, err := model.ParseSeriesKey(nil, key)
		if err != nil || labelValue(labels, "w") != "1" || labelValue(labels, "i")[0] != '1' {
			t.Errorf("found %s, %v", model.SeriesKeyString(key), err)
		}
		return true
	})
}
