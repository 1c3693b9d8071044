package storage

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

const testPath = "/data"

// testNow is within what apitest.DefaultBase asks for.
func testNow() time.Time { return time.UnixMilli(apitest.DefaultBase + 3600_000).UTC() }

func testConfig() Config {
	cfg := DefaultConfig(testPath)
	cfg.RetentionPeriod = flagvalue.NewRetention("100d")
	return cfg
}

func testOptions(fsys vfs.FS) Options {
	return Options{FS: fsys, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(256 << 20), Now: testNow}
}

func openTest(t testing.TB, cfg Config, o Options) *Storage {
	t.Helper()
	s, err := Open(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeTest(t testing.TB, s *Storage) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := s.o.Budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget are still in use after Close", n)
	}
}

func TestConformanceInMemory(t *testing.T) {
	apitest.Run(t, func(t *testing.T) apitest.Target {
		s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
		t.Cleanup(func() { closeTest(t, s) })
		return apitest.Target{Ingester: s, Searcher: s, Admin: s, Catalog: s}
	})
}

// unsynced is a file system which does not wait for the disk, for tests on real files in which nothing crashes.
type unsynced struct{ vfs.FS }

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error { return nil }

func (u unsynced) Create(path string) (vfs.File, error) {
	f, err := u.FS.Create(path)
	return unsyncedFile{f}, err
}

func (u unsynced) OpenAppend(path string) (vfs.File, error) {
	f, err := u.FS.OpenAppend(path)
	return unsyncedFile{f}, err
}

func (unsynced) SyncDir(string) error { return nil }

func TestConformanceOnDisk(t *testing.T) {
	apitest.Run(t, func(t *testing.T) apitest.Target {
		cfg := testConfig()
		cfg.DataPath = t.TempDir()
		s := openTest(t, cfg, testOptions(unsynced{vfs.OS()}))
		t.Cleanup(func() { closeTest(t, s) })
		return apitest.Target{Ingester: s, Searcher: s, Admin: s, Catalog: s}
	})
}

// flushing is an Ingester which flushes and merges at random, so that answers come from all levels.
type flushing struct {
	*Storage
	rng *rand.Rand
}

func (f *flushing) Ingest(ctx context.Context, b *model.Batch) error {
	if err := f.Storage.Ingest(ctx, b); err != nil {
		return err
	}
	if f.rng.IntN(3) == 0 {
		return f.Flush(ctx)
	}
	if f.rng.IntN(6) == 0 {
		return f.Merge(ctx, "")
	}
	return nil
}

func TestConformanceWithFlushes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	apitest.Run(t, func(t *testing.T) apitest.Target {
		s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
		t.Cleanup(func() { closeTest(t, s) })
		return apitest.Target{Ingester: &flushing{s, rand.New(rand.NewPCG(seed, 1))}, Searcher: s, Admin: s, Catalog: s}
	})
}
