package query

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
)

func newCache(f *liveFleet, budget *memory.Budget, maxBytes int64) *Cache {
	return NewCache(CacheOptions{Versions: f, Budget: budget, Metrics: metrics.NewSet(), MaxBytes: maxBytes})
}

// restart puts another cache in the place of the one that is there, by way of a file, and returns how many results are taken up.
func (f *liveFleet) restart(t *testing.T, e *Engine, o CacheOrigin) int {
	t.Helper()
	var file bytes.Buffer
	saved, err := e.cache.Save(&file, o)
	if err != nil {
		t.Fatal(err)
	}
	e.ResetCache()
	o.Stores ^= 0xabcdef
	f.versions.Instance ^= 0xabcdef // the process has another number for the same stores
	e.cache = newCache(f, e.budget, 0)
	loaded, err := e.cache.Load(&file, o)
	if err != nil || loaded != saved {
		t.Fatalf("%d results are loaded, %v; %d were saved", loaded, err, saved)
	}
	return loaded
}

var testOrigin = CacheOrigin{Identity: [32]byte{1, 2, 3}, Stores: 77, MaxBytes: 1 << 20}

// TestCacheSurvives asks on after a restart: what was kept is used for what it is used without one, unless the samples have changed
// meanwhile, or the stores are others.
func TestCacheSurvives(t *testing.T) {
	for _, query := range []string{"sum(rate(x[5m])) by (g)", "x", "max_over_time(x[2m])", "avg(x) without (i)"} {
		for why, change := range map[string]func(f *liveFleet){
			"partial hit: ":         func(*liveFleet) {},
			"samples have changed":  func(f *liveFleet) { f.lateAt(f.targets[0], f.now-1800_001) },
			"samples have changed ": func(f *liveFleet) { f.remove() },
			" samples have changed": func(f *liveFleet) { f.versions.Instance++ },
		} {
			f := steady(t, 4)
			with, without, _ := cachedEngines(t, f)
			warm(t, f, with, without, query)
			if n := f.restart(t, with, testOrigin); n != 1 {
				t.Errorf("%d results survive", n)
			}
			change(f)
			f.tick()
			wantNote(t, askBoth(t, with, without, lastHour(f, query)), string(bytes.TrimSpace([]byte(why))))
		}
	}
}

// savedCache returns a file with the results of some queries, and the fleet they are of.
func savedCache(t testing.TB, o CacheOrigin) (*liveFleet, *Engine, []byte) {
	t.Helper()
	f := steadyFleet(4)
	with, _, _ := cachedEngines(t, f)
	with.cache.seed = 1 // golden files
	f.versions.Instance = 0x0102030405060708
	for _, query := range []string{"sum(rate(x[5m])) by (g)", "x", "max_over_time(x[2m])"} {
		for range 2 {
			if _, err := with.QueryRange(context.Background(), lastHour(f, query)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var file bytes.Buffer
	if n, err := with.cache.Save(&file, o); err != nil || n != 3 {
		t.Fatalf("%d results are saved, %v", n, err)
	}
	return f, with, file.Bytes()
}

func (c *Cache) state() (entries int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.used.Len(), c.mu.bytes
}

// TestCacheFileDamaged changes, cuts and lengthens a file: nothing of it is used.
func TestCacheFileDamaged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	f, with, file := savedCache(t, testOrigin)
	load := func(data []byte, o CacheOrigin) error {
		c := newCache(f, with.budget, 0)
		before := with.budget.Used()
		n, err := c.Load(bytes.NewReader(data), o)
		if entries, size := c.state(); err != nil && (n != 0 || entries != 0 || size != 0 || with.budget.Used() != before) {
			t.Errorf("after %v there are %d results, %d entries, %d bytes", err, n, entries, size)
		}
		c.Reset()
		return err
	}
	if err := load(file, testOrigin); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(file); i += 1 + rng.IntN(50) {
		damaged := slices.Clone(file)
		damaged[i] ^= 1 << rng.IntN(8)
		if err := load(damaged, testOrigin); err == nil {
			t.Errorf("a change of byte %d goes unnoticed", i)
		}
		if err := load(file[:i], testOrigin); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	other := testOrigin
	other.Identity[31]++
	if err := load(file, other); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("another origin: %v", err)
	}
	next := slices.Clone(file)
	next[len(cacheMagic)]++
	if err := load(next, testOrigin); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("another version: %v", err)
	}
}

// TestCacheFileIsBounded leaves out what has not been used for longest, when saving and when loading.
func TestCacheFileIsBounded(t *testing.T) {
	small := testOrigin
	f, with, file := savedCache(t, small)
	small.MaxBytes = int64(len(file)) / 2
	var half bytes.Buffer
	n, err := with.cache.Save(&half, small)
	if err != nil || n == 0 || n == 3 || half.Len() > len(file)/2+1000 {
		t.Errorf("%d results, %d bytes, %v", n, half.Len(), err)
	}
	kept := with.cache.entries()
	_, size := with.cache.state()
	c := newCache(f, with.budget, size-1)
	defer c.Reset()
	if n, err := c.Load(bytes.NewReader(file), testOrigin); err != nil || n == 0 || n == 3 {
		t.Fatalf("%d results, %v", n, err)
	}
	for i, e := range c.entries() {
		if e.key != kept[i].key || e.bytes != kept[i].bytes {
			t.Errorf("result %d is another one, or takes %d bytes instead of %d", i, e.bytes, kept[i].bytes)
		}
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("the disk is full")
	}
	return len(p), nil
}

func TestCacheCannotBeSaved(t *testing.T) {
	_, with, file := savedCache(t, testOrigin)
	for _, left := range []int{0, 100, len(file) - 1} {
		if _, err := with.cache.Save(&failingWriter{left}, testOrigin); err == nil {
			t.Errorf("no error although only %d bytes can be written", left)
		}
	}
}

func TestCacheFileGolden(t *testing.T) {
	const name = "testdata/result_cache.bin"
	f, with, file := savedCache(t, testOrigin)
	if updateFlag() {
		if err := os.WriteFile(name, file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, want) {
		t.Errorf("%d bytes are saved; %s has %d others. A change of the format needs another version; then run the test with -update", len(file), name, len(want))
	}
	c := newCache(f, with.budget, 0)
	defer c.Reset()
	if n, err := c.Load(bytes.NewReader(want), testOrigin); err != nil || n != 3 {
		t.Errorf("%d results, %v", n, err)
	}
}

// readEntry reads anything; what is taken for a result is written and read again alike.
func readEntry(t *testing.T, data []byte) {
	t.Helper()
	key, k, err := parseEntry(data)
	if err != nil {
		return
	}
	again := k.appendTo(codec.AppendBytes(nil, []byte(key)))
	if _, k2, err := parseEntry(again); err != nil || !bytes.Equal(k2.appendTo(codec.AppendBytes(nil, []byte(key))), again) {
		t.Fatalf("read again: %v", err)
	}
}

// TestCacheEntryDamaged changes bytes which checksums do not protect from whoever writes them.
func TestCacheEntryDamaged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	_, with, _ := savedCache(t, testOrigin)
	for _, e := range with.cache.entries() {
		entry := e.kept.appendTo(codec.AppendBytes(nil, []byte(e.key)))
		for range 1000 {
			data := slices.Clone(entry[:len(entry)-rng.IntN(2)*rng.IntN(len(entry))])
			for range rng.IntN(4) {
				data[rng.IntN(min(len(data), 1<<rng.IntN(14)))] = byte(rng.Uint32())
			}
			readEntry(t, data)
		}
	}
}

func FuzzCacheEntry(f *testing.F) {
	_, with, _ := savedCache(f, testOrigin)
	for _, e := range with.cache.entries() {
		f.Add(e.kept.appendTo(codec.AppendBytes(nil, []byte(e.key))))
	}
	f.Fuzz(readEntry)
}

// FuzzCacheFile reads whole files.
func FuzzCacheFile(f *testing.F) {
	fleet, with, file := savedCache(f, testOrigin)
	f.Add(file)
	f.Fuzz(func(t *testing.T, data []byte) {
		c := newCache(fleet, with.budget, 0)
		_, _ = c.Load(bytes.NewReader(data), testOrigin)
		c.Reset()
	})
}

// BenchmarkCacheFile saves and loads some megabytes.
func BenchmarkCacheFile(b *testing.B) {
	f := steadyFleet(2000)
	with, _, _ := cachedEngines(b, f)
	with.now = func() time.Time { return time.UnixMilli(f.now) }
	for range 2 {
		if _, err := with.QueryRange(context.Background(), lastHour(f, "rate(x[5m])")); err != nil {
			b.Fatal(err)
		}
	}
	o := testOrigin
	o.MaxBytes = 1 << 30
	var file bytes.Buffer
	for b.Loop() {
		file.Reset()
		if n, err := with.cache.Save(&file, o); err != nil || n != 1 {
			b.Fatal(n, err)
		}
		c := newCache(f, with.budget, 1<<30)
		if n, err := c.Load(bytes.NewReader(file.Bytes()), o); err != nil || n != 1 {
			b.Fatal(n, err)
		}
		c.Reset()
	}
	b.SetBytes(int64(file.Len()))
}
