package index

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

func guardKey(i int) []byte {
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "i", Value: fmt.Sprint(i)}})
	if err != nil {
		panic(err)
	}
	return key
}

// TestPagesWhichCannotBeRead truncates the files of an open index, which makes every page of its segments a fault as a bad sector does:
// every call that reads them gives an error which names the file, and the index can be closed.
func TestPagesWhichCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	ix, err := Open(Options{FS: vfs.OS(), Dir: dir, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	must(t, err)
	const n = 3000
	for round := range 2 {
		for i := range n {
			key := guardKey(round*n + i)
			id, _, err := ix.Add(model.HashSeriesKey(key), key)
			must(t, err)
			ix.MarkActive(id, 20000)
		}
		must(t, ix.Flush())
	}
	segments, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
	must(t, err)
	for _, path := range segments {
		must(t, os.Truncate(path, 0))
	}
	ctx := context.Background()
	query := Query{Filters: [][]model.TagFilter{{{Name: "i", Value: "1.*", Op: model.Regexp}}}, FirstDay: 20000, LastDay: 20000}
	key, fresh := guardKey(1), guardKey(5*n)
	calls := map[string]func() error{
		"Lookup": func() error { _, _, err := ix.Lookup(model.HashSeriesKey(key), key); return err },
		"Finder": func() error {
			var f Finder
			f.Open(ix)
			defer f.Close()
			_, _, err := f.Find(model.HashSeriesKey(key), key)
			return err
		},
		"Add":       func() error { _, _, err := ix.Add(model.HashSeriesKey(fresh), fresh); return err },
		"AppendKey": func() error { _, err := ix.AppendKey(nil, 1); return err },
		"Keys": func() error {
			ids, err := ix.Known()
			if err == nil {
				err = ix.Keys(ctx, ids, func(uint32, []byte) bool { return true })
			}
			return err
		},
		"Search":      func() error { _, err := ix.Search(ctx, query); return err },
		"LabelNames":  func() error { _, err := ix.LabelNames(ctx, query, 0); return err },
		"LabelValues": func() error { _, err := ix.LabelValues(ctx, query, "i", 0); return err },
		"Status": func() error {
			_, err := ix.Status(ctx, StatusQuery{FirstDay: 20000, LastDay: 20000, TopN: 5})
			return err
		},
		"Tenants": func() error { _, err := ix.Tenants(); return err },
		"Merge":   func() error { return ix.Merge(ctx) },
	}
	for name, call := range calls {
		for range 2 { // locks are given back
			if err := call(); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), dir+"/"+segmentPrefix) {
				t.Errorf("%s: error %v of kind %s; want kind corrupt, and the name of the file", name, err, errkind.Of(err))
			}
		}
	}
	if err := ix.Restore(9*n, guardKey(7*n)); errkind.Of(err) != errkind.Internal || !strings.Contains(err.Error(), dir) {
		t.Errorf("Restore: %v", err)
	}
	if got := ix.SeriesCount(); got != 2*n {
		t.Errorf("%d series", got)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*"+tempSuffix)); err != nil || len(left) > 0 {
		t.Errorf("a merge that failed has left %q, %v", left, err)
	}
	must(t, ix.Close())
}

// TestMissingDay removes the file of a day, which the manifest lists: it is told, counted, and every series counts as active.
func TestMissingDay(t *testing.T) {
	dir := t.TempDir()
	o := Options{FS: vfs.OS(), Dir: dir, Logger: logger.Discard(), Metrics: metrics.NewSet()}
	ix, err := Open(o)
	must(t, err)
	for i := range 10 {
		key := guardKey(i)
		id, _, err := ix.Add(model.HashSeriesKey(key), key)
		must(t, err)
		ix.MarkActive(id, int32(20000+i%2))
		must(t, ix.Flush())
	}
	must(t, ix.Close())
	must(t, os.Remove(filepath.Join(dir, dayName(20001))))
	for round, want := range []int{1, 0} {
		o.Metrics = metrics.NewSet()
		ix, err = Open(o)
		must(t, err)
		if got := int(o.Metrics.Counter("vm_corrupt_index_total").Get()); got != want {
			t.Errorf("start %d: %d files counted as damaged; want %d", round, got, want)
		}
		for day, want := range map[int32]uint64{20000: 5, 20001: 10} {
			ids, err := ix.Search(context.Background(), Query{Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: "m"}}}, FirstDay: day, LastDay: day})
			if err != nil || ids.GetCardinality() != want {
				t.Errorf("start %d: %d series on day %d, %v; want %d", round, ids.GetCardinality(), day, err, want)
			}
		}
		must(t, ix.Close())
	}
}
