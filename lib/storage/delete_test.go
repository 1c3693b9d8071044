package storage

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs/memfs"
)

// TestDeletionCrashes crashes at random operations of histories with deletions: what was deleted stays away, whatever was in the log.
func TestDeletionCrashes(t *testing.T) {
	crashAgainAndAgain(t, func(c *crashRun, s *Storage) error {
		q := someSeries(c.rng)
		_, err := s.DeleteSeries(context.Background(), q)
		c.n.forget(c.t, q, !c.crashes.Load())
		return err
	})
}

// TestDeletionAgainstModel runs random operations with deletions and clean restarts.
func TestDeletionAgainstModel(t *testing.T) {
	runAgainstModel(t, 1200, true)
}

// TestDeletionFreesSpace: merges leave the samples of deleted series out, of parts which are mostly of such without being asked.
func TestDeletionFreesSpace(t *testing.T) {
	o := testOptions(memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), o)
	defer closeTest(t, s)
	ctx := context.Background()
	ts := testNow().UnixMilli()
	flush := func() {
		t.Helper()
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	ingest(t, s, batchOf(t, 100, ts, 1))
	flush()
	remove := func(pattern string, want int) {
		t.Helper()
		q := &model.SearchQuery{Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Op: model.Regexp, Value: pattern}}}}
		if n, err := s.DeleteSeries(ctx, q); err != nil || n != want {
			t.Fatalf("deleted %d series, %v; want %d", n, err, want)
		}
	}
	remove("m[0-9]", 10)
	wantMetrics(t, o.Metrics, map[string]string{`vm_deleted_metrics_total{type="indexdb"}`: "10"})
	p := s.table.Load().sorted[0]
	s.mergeWhileDue(p)
	if rows := s.sum().Small.Rows; rows != 100 {
		t.Errorf("%d rows; a tenth is not worth a rewrite", rows)
	}
	if err := s.Merge(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if rows := s.sum().Small.Rows; rows != 90 {
		t.Errorf("%d rows after a forced merge; want 90", rows)
	}
	remove("m[1-6].", 60)
	s.mergeWhileDue(p)
	if rows := s.sum().Small.Rows; rows != 30 {
		t.Errorf("%d rows after most series were deleted; want 30", rows)
	}
	wantMetrics(t, o.Metrics, map[string]string{`vm_rows_deleted_total{type="storage/small"}`: "70"})
	ingest(t, s, batchOf(t, 100, ts+1, 2)) // the deleted ones are new
	wantMetrics(t, o.Metrics, map[string]string{"vm_new_timeseries_created_total": "170"})
	remove("m.*", 100) // while they are in the head
	if got := readAll(t, s, allTime()); len(got) != 0 {
		t.Errorf("%d series are left", len(got))
	}
	flush()
	s.mergeWhileDue(p)
	if rows := s.sum().Small.Rows; rows != 0 {
		t.Errorf("%d rows after everything was deleted", rows)
	}
}

// TestDeletionWhileWriting: a writer which goes on gets its samples back, all of them from some point on.
func TestDeletionWhileWriting(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	cfg := testConfig()
	cfg.HeadMaxBytes = 30_000
	s := openTest(t, cfg, testOptions(fsys))
	ctx := context.Background()
	start := testNow().UnixMilli() - 20*dayMs
	for round := range int64(30) {
		stop, stopped := make(chan struct{}), make(chan int64)
		var written atomic.Int64
		go func() {
			n := int64(0)
			for ; ; n++ {
				select {
				case <-stop:
					stopped <- n
					return
				default:
					if err := s.Ingest(ctx, batchOf(t, 1, start+(round*10_000+n)*1000, 1)); err != nil {
						t.Error(err)
					}
					written.Store(n)
				}
			}
		}()
		eventually(t, "a few writes", func() bool { return written.Load() > 20 })
		if _, err := s.DeleteSeries(ctx, &model.SearchQuery{}); err != nil {
			t.Error(err)
		}
		before := written.Load()
		eventually(t, "more writes", func() bool { return written.Load() > before+5 })
		close(stop)
		last := <-stopped
		// Written after the deletion has returned.
		ts := start + (round*10_000+last+1)*1000
		ingest(t, s, batchOf(t, 1, ts, 1))
		got := slices.Collect(valuesOf(readAll(t, s, allTime())))
		if len(got) != 1 || got[0][ts] == 0 {
			t.Fatalf("round %d: %d series, or without the sample written after the deletion", round, len(got))
		}
		// What is there is a suffix of what was written.
		for i := last; i >= 0; i-- {
			if _, ok := got[0][start+(round*10_000+i)*1000]; ok && i < last && i+1 < last {
				if _, next := got[0][start+(round*10_000+i+1)*1000]; !next {
					t.Fatalf("round %d: sample %d is there, and the next is not", round, i)
				}
			}
		}
	}
	closeTest(t, s)
	s = openTest(t, cfg, testOptions(fsys))
	if got := readAll(t, s, allTime()); len(got) != 1 {
		t.Errorf("%d series after a restart; want 1", len(got))
	}
	closeTest(t, s)
}

func valuesOf(m map[string]map[int64]uint64) func(yield func(map[int64]uint64) bool) {
	return func(yield func(map[int64]uint64) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}
