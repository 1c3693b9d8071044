package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs/memfs"
)

// TestFinder looks for flushed series in the order of their ids, backwards, and in random order.
func TestFinder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ix := mustOpen(t, memfs.New(memfs.Options{}), "index")
	defer func() { must(t, ix.Close()) }()
	keys := realKeys(t, 4000)
	ids := make([]uint32, len(keys))
	add := func(from, to int) {
		for i := from; i < to; i++ {
			ids[i], _, _ = ix.Add(model.HashSeriesKey(keys[i]), keys[i])
		}
	}
	add(0, 1500)
	must(t, ix.Flush())
	add(1500, 3000)
	must(t, ix.Flush())
	add(3000, 3500) // not durable
	deleted := map[int]bool{7: true, 8: true, 600: true, 2999: true}
	for i := range deleted {
		must(t, ix.Delete(roaring.BitmapOf(ids[i])))
	}
	orders := map[string]func() []int{
		"ids":       func() []int { return upTo(len(keys)) },
		"backwards": func() []int { list := upTo(len(keys)); slices.Reverse(list); return list },
		"random":    func() []int { return rng.Perm(len(keys)) },
		"every third": func() (list []int) {
			for i := 0; i < len(keys); i += 3 {
				list = append(list, i)
			}
			return list
		},
		"pairs": func() (list []int) { // each series twice
			for i := range keys {
				list = append(list, i, i)
			}
			return list
		},
	}
	var f Finder
	for name, order := range orders {
		f.Open(ix)
		for _, i := range order() {
			id, ok, err := f.Find(model.HashSeriesKey(keys[i]), keys[i])
			must(t, err)
			if want := i < 3000 && !deleted[i]; ok != want || ok && id != ids[i] {
				t.Fatalf("%s: series %d is found as %d, %t; want %d, %t", name, i, id, ok, ids[i], want)
			}
		}
	}
	if !f.IsOpen() {
		t.Error("the finder is not open")
	}
	f.Close()
	f.Close()
	if f.IsOpen() {
		t.Error("the finder is open")
	}
}

// TestFinderGuesses: series in the order of ids need no look into the hash table.
func TestFinderGuesses(t *testing.T) {
	ix := mustOpen(t, memfs.New(memfs.Options{}), "index")
	defer func() { must(t, ix.Close()) }()
	keys := realKeys(t, 3000)
	for _, key := range keys {
		ix.Add(model.HashSeriesKey(key), key)
	}
	must(t, ix.Flush())
	var f Finder
	f.Open(ix)
	defer f.Close()
	guessed := 0
	for i, key := range keys {
		if f.guesses && f.guess(key) {
			guessed++
		}
		if id, ok, err := f.Find(model.HashSeriesKey(key), key); err != nil || !ok || id != uint32(i) {
			t.Fatalf("series %d is found as %d, %t", i, id, ok)
		}
	}
	if guessed < len(keys)-2 {
		t.Errorf("%d of %d series are guessed", guessed, len(keys))
	}
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
