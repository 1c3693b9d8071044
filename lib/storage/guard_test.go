package storage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs"
)

// TestFilesTruncatedWhileOpen makes every page of every mapped file a fault, as a bad sector does, under a running storage: whatever is asked is
// answered, partially or with an error that names a file, new samples of known series are taken, and the storage closes.
func TestFilesTruncatedWhileOpen(t *testing.T) {
	cfg := testConfig()
	cfg.DataPath = t.TempDir()
	o, log := logged(t, vfs.OS())
	s := openTest(t, cfg, o)
	now := testNow().UnixMilli()
	for _, name := range []string{"a", "b"} {
		ingest(t, s, named(t, name, now, 1))
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	ingest(t, s, named(t, "a", now+1, 2)) // known to the hot table
	for _, pattern := range []string{"index/seg-*", "parts/*/values", "parts/*/timestamps", "parts/*/blocks"} {
		files, err := filepath.Glob(filepath.Join(cfg.DataPath, "data", "*", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		for _, f := range files {
			if err := os.Truncate(f, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx := context.Background()
	q := &model.SearchQuery{Range: allTime()}
	if _, cov := readCovered(t, s, allTime()); !cov.Partial || !strings.Contains(cov.Failed[0].Err.Error(), cfg.DataPath) {
		t.Errorf("the answer of a search is %+v", cov)
	}
	if values, err := s.LabelValues(ctx, q, model.MetricNameLabel, 0); err != nil || !values.Coverage.Partial {
		t.Errorf("label values %+v, %v", values, err)
	}
	calls := map[string]func() error{
		"tenants":    func() error { _, err := s.Tenants(ctx, allTime()); return err },
		"count":      func() error { _, err := s.SeriesCount(ctx, model.TenantID{}); return err },
		"status":     func() error { _, err := s.Status(ctx, &storageapi.StatusQuery{Search: *q, TopN: 3}); return err },
		"new series": func() error { return s.Ingest(ctx, named(t, "new", now, 1)) },
	}
	for name, call := range calls {
		if err := call(); err == nil || !strings.Contains(err.Error(), cfg.DataPath) {
			t.Errorf("%s: error %v; want one that names a file", name, err)
		}
	}
	if err := s.Ingest(ctx, named(t, "new", now, 1)); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("a new series gives %v; want kind unavailable", err)
	}
	ingest(t, s, named(t, "a", now+2, 3))
	_ = s.sum()
	_ = s.Merge(ctx, "") // fails
	if _, err := s.CreateSnapshot(ctx); err != nil && !strings.Contains(err.Error(), cfg.DataPath) {
		t.Errorf("snapshot: %v", err)
	}
	if err := s.Close(); err != nil && !strings.Contains(err.Error(), cfg.DataPath) {
		t.Errorf("close: %v", err)
	}
	wantLog(t, log, "an answer lacks samples or series: cannot read")
}
