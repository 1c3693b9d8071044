package index

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

// TestReadKey reads each key of random segments in place and out of filled blocks.
func TestReadKey(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), values: 500}
	fs, n, names := threeSegments(t, w)
	dec, err := newRowDecoder()
	must(t, err)
	defer dec.Close()
	for _, name := range names {
		s, err := openSegment(fs, filepath.Join("/i", name), dec)
		must(t, err)
		checkRows(t, s, func(id uint32) string { return n.keys[id] })
		must(t, s.release())
	}
}

// TestReadRealKeys does the same with blocks which are full and have columns of more than 256 values. Few ids of each block, and many, give
// the same keys, from the cache too.
func TestReadRealKeys(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	keys := realKeys(t, 5000)
	rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	fs := memfs.New(memfs.Options{})
	ix := mustOpen(t, fs, "/i")
	for _, key := range keys {
		_, _, err := ix.Add(model.HashSeriesKey(key), key)
		must(t, err)
	}
	must(t, ix.Flush())
	checkRows(t, ix.mu.state.segments[0], func(id uint32) string { return string(keys[id]) })
	for range 30 {
		every := 1 + rng.IntN(300)
		ids := roaring.New()
		for id := range uint32(len(keys)) {
			if rng.IntN(every) == 0 {
				ids.Add(id)
			}
		}
		var got []uint32
		must(t, ix.Keys(ctx, ids, func(id uint32, key []byte) bool {
			if string(key) != string(keys[id]) {
				t.Fatalf("series %d has the key %q; want %q", id, key, keys[id])
			}
			got = append(got, id)
			return true
		}))
		if !slices.Equal(got, ids.ToArray()) {
			t.Fatalf("Keys visits %v; want %v", got, ids)
		}
	}
	closed(t, ix)
}

func checkRows(t *testing.T, s *segment, want func(id uint32) string) {
	t.Helper()
	var open, full rowBlock
	for i := range s.footer.rowBlocks {
		must(t, s.decodeRows(&full, i))
		must(t, s.openRows(&open, i))
		if !slices.Equal(open.ids, full.ids) {
			t.Fatalf("block %d has the ids %v and %v", i, open.ids, full.ids)
		}
		for row, id := range full.ids {
			got, ok := open.readKey([]byte("x"), row)
			if filled := full.appendKey([]byte("x"), row); !ok || string(got) != string(filled) || string(got) != "x"+want(id) {
				t.Fatalf("series %d is %q, %t in place and %q in a filled block; want %q", id, got, ok, filled, want(id))
			}
		}
	}
}

// TestRowCache asks for random blocks, one of them again and again.
func TestRowCache(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	c := newRowCache(memory.NewBudget(rowCacheShare * 40_000))
	a, b := &segment{}, &segment{}
	misses := 0
	for i := range 20_000 {
		key := rawKey{a, rng.Uint64N(100)}
		if i%10 == 0 {
			key = rawKey{b, 7}
		}
		want := fmt.Sprint(key.block, key.s == b)
		raw, ok := c.get(key)
		if ok && string(raw[:len(want)]) != want {
			t.Fatalf("block %d is %q; want %q", key.block, raw[:len(want)], want)
		}
		if ok {
			continue
		}
		if key.s == b {
			misses++
		}
		c.put(key, append(make([]byte, 0, 1000), want...)[:1000])
		if n := c.heapBytes(); n > 40_000 {
			t.Fatalf("the cache takes %d bytes", n)
		}
	}
	if misses > 1 {
		t.Errorf("a block which is always asked for was forgotten %d times", misses)
	}
	c.put(rawKey{b, 8}, make([]byte, 30_000))
	if _, ok := c.get(rawKey{b, 8}); ok {
		t.Error("a block larger than a generation is kept")
	}
	if _, ok := (*rowCache)(nil).get(rawKey{a, 1}); ok {
		t.Error("no cache has a block")
	}
	(*rowCache)(nil).put(rawKey{a, 1}, nil)
}

func TestIntersects(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		list, ids := roaring.New(), roaring.New()
		for range rng.IntN(30) {
			start := rng.Uint64N(200_000)
			list.AddRange(start, start+rng.Uint64N(50))
			ids.Add(rng.Uint32N(200_000))
		}
		if got, want := intersects(list.ToArray(), ids), list.Intersects(ids); got != want {
			t.Fatalf("%v and %v intersect: %t; want %t", list, ids, got, want)
		}
	}
}

// BenchmarkKeys reads keys of one series of every so many, as a selection of a metric that all targets have does.
func BenchmarkKeys(b *testing.B) {
	keys := benchKeys(b)
	ix := mustOpen(b, vfs.OS(), b.TempDir())
	fillBench(b, ix, keys, hashAll(keys))
	must(b, ix.Flush())
	ix.keys.max = 0 // each key is read from its block
	caches := map[string]*rowCache{"cold": nil, "warm": newRowCache(memory.NewBudget(1 << 40))}
	for _, every := range []int{500, 100, 50, 25, 10, 1} {
		for _, name := range []string{"cold", "warm"} {
			b.Run(fmt.Sprintf("every_%d/%s", every, name), func(b *testing.B) {
				ix.mu.state.segments[0].rows = caches[name]
				ids := roaring.New()
				for id := 0; id < len(keys); id += every {
					ids.Add(uint32(id))
				}
				bytes := 0
				cpu := cpuTime(b)
				for b.Loop() {
					must(b, ix.Keys(ctx, ids, func(_ uint32, key []byte) bool {
						bytes += len(key)
						return true
					}))
				}
				perBlock := float64(b.N) * float64(len(keys)) / rowBlockIDs
				b.ReportMetric(float64(cpuTime(b)-cpu)/1000/perBlock, "cpu-us/block")
			})
		}
	}
	closed(b, ix)
}

// readAll reads everything of the row blocks of a segment; errors are fine, crashes are not.
func readAll(s *segment) {
	var b rowBlock
	for i := range min(s.footer.rowBlocks, 10) {
		if s.openRows(&b, i) != nil {
			continue
		}
		for row := range b.ids {
			key, _ := b.readKey(nil, row)
			_, _, _ = model.ParseSeriesKey(nil, key)
		}
	}
}
