package readside

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

type noVersions struct{}

func (noVersions) Versions(context.Context, model.TenantID, model.TimeRange) ([]query.Version, error) {
	return nil, nil
}

func emptyCache() *query.Cache {
	return query.NewCache(query.CacheOptions{Versions: noVersions{}, Budget: memory.NewBudget(1 << 30), Metrics: metrics.NewSet()})
}

// results is how many are in the file that fullCache reads.
const results = 3

// fullCache returns a cache with the results that package query keeps for its own test.
func fullCache(t *testing.T) *query.Cache {
	t.Helper()
	file, err := os.ReadFile("../../../lib/query/testdata/result_cache.bin")
	if err != nil {
		t.Fatal(err)
	}
	c := emptyCache()
	if n, err := c.Load(bytes.NewReader(file), query.CacheOrigin{Identity: [32]byte{1, 2, 3}}); err != nil || n != results {
		t.Fatalf("%d results, %v", n, err)
	}
	return c
}

// held returns how many results a cache keeps.
func held(t *testing.T, c *query.Cache) int {
	t.Helper()
	n, err := c.Save(&bytes.Buffer{}, query.CacheOrigin{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func testFile(t *testing.T, fs vfs.FS, log *bytes.Buffer) *cacheFile {
	t.Helper()
	var cfg logger.Config
	cfg.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError))
	l, err := logger.New(&cfg, log, metrics.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	return &cacheFile{fs: fs, dir: "/cache", settings: "x", stores: func() (uint64, []string) { return 7, []string{"a", "b"} }, logger: l}
}

func TestCacheFile(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(f *cacheFile)
		unwanted bool
		want     int
		log      string
	}{
		"the same":           {func(*cacheFile) {}, false, results, "loaded 3 cached results"},
		"other settings":     {func(f *cacheFile) { f.settings = "y" }, false, 0, "are not used: it was written by another version, with other flags, or for other storage nodes"},
		"other nodes":        {func(f *cacheFile) { f.stores = func() (uint64, []string) { return 7, []string{"a"} } }, false, 0, "are not used"},
		"another number":     {func(f *cacheFile) { f.stores = func() (uint64, []string) { return 8, []string{"a", "b"} } }, false, results, "loaded 3"},
		"to start without":   {func(*cacheFile) {}, true, 0, "loaded 0"},
		"another directory":  {func(f *cacheFile) { f.dir = "/other" }, false, 0, ""},
		"a file of nonsense": {func(f *cacheFile) { _ = vfs.WriteFileDurable(f.fs, "/cache/result_cache.bin", []byte("nonsense")) }, false, 0, "starting without any"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			f := testFile(t, memfs.New(memfs.Options{}), &log)
			f.save(fullCache(t))
			c.change(f)
			cache := emptyCache()
			f.load(cache, !c.unwanted)
			if n := held(t, cache); n != c.want || !strings.Contains(log.String(), c.log) {
				t.Errorf("%d results; want %d and %q in\n%s", n, c.want, c.log, &log)
			}
			f.load(cache, true)
			if n := held(t, cache); n != c.want {
				t.Errorf("%d results the second time", n)
			}
		})
	}
}

// TestCacheFileFaults lets each operation on the disk fail and the machine crash after it: what is found then is whole or is not there.
func TestCacheFileFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	whole, none := 0, 0
	for at := int64(1); ; at++ {
		disk := memfs.New(memfs.Options{})
		faulty := faultfs.New(disk)
		faulty.SetFault(faultfs.Fault{At: at, Sticky: rng.IntN(2) == 0, Short: true})
		var log bytes.Buffer
		testFile(t, faulty, &log).save(fullCache(t))
		failed := strings.Contains(log.String(), "cannot save cached results")
		for _, fs := range []vfs.FS{disk, disk.Crash(rng)} {
			cache := emptyCache()
			testFile(t, fs, &log).load(cache, true)
			switch held(t, cache) {
			case results:
				whole++
			case 0:
				none++
				if !failed {
					t.Errorf("fault %d: the results are lost although they were saved", at)
				}
			default:
				t.Errorf("fault %d: only some results are found", at)
			}
		}
		if strings.Contains(log.String(), "starting without any") {
			t.Errorf("fault %d: a damaged file is found:\n%s", at, &log)
		}
		if !failed {
			break
		}
	}
	if whole == 0 || none == 0 {
		t.Errorf("%d times all results, %d times none", whole, none)
	}
}

// TestCacheFileUnreadable starts although the file cannot be read or removed.
func TestCacheFileUnreadable(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Read, faultfs.Remove} {
		faulty := faultfs.New(memfs.New(memfs.Options{}))
		var log bytes.Buffer
		f := testFile(t, faulty, &log)
		f.save(fullCache(t))
		faulty.SetFault(faultfs.Fault{At: 1, Sticky: true, Kinds: []faultfs.Kind{kind}})
		cache := emptyCache()
		f.load(cache, true)
		if n := held(t, cache); n != 0 || !strings.Contains(log.String(), "starting without any") {
			t.Errorf("%s fails: %d results, log\n%s", kind, n, &log)
		}
	}
}

func TestCacheFileName(t *testing.T) {
	fs := memfs.New(memfs.Options{})
	f := testFile(t, fs, &bytes.Buffer{})
	f.save(fullCache(t))
	list, err := fs.ReadDir("/cache")
	if err != nil || len(list) != 1 || filepath.Base(list[0].Name) != cacheFileName {
		t.Errorf("the directory has %v, %v", list, err)
	}
}
