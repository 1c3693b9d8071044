package index

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"vmcluster/lib/memory"
)

// TestKeyCache asks for random keys, the last ones most often: what comes is always right, what is asked for all the time stays, and memory stays bounded.
func TestKeyCache(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := newKeyCache(memory.NewBudget(keyCacheShare * 40_000))
	key := func(id uint32) string { return fmt.Sprintf("the key of series %d", id) }
	misses := 0
	for i := range 100_000 {
		id := uint32(7)
		if i%50 != 0 {
			id = rng.Uint32N(2000)
		}
		got, ok := c.appendKey([]byte("before "), id)
		if ok && string(got) != "before "+key(id) || !ok && string(got) != "before " {
			t.Fatalf("series %d: %q, %t", id, got, ok)
		}
		if !ok {
			c.add(id, []byte(key(id)))
			if id == 7 {
				misses++
			}
		}
		if n := c.heapBytes(); n > 2*40_000 { // slices grow by up to their size
			t.Fatalf("the cache takes %d bytes", n)
		}
	}
	if misses > 2 {
		t.Errorf("a series which is always asked for was forgotten %d times", misses)
	}
}

func TestKeyCacheConcurrent(t *testing.T) {
	c := newKeyCache(memory.NewBudget(keyCacheShare * 20_000))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for range 20_000 {
				id := rng.Uint32N(500)
				if got, ok := c.appendKey(nil, id); ok && string(got) != fmt.Sprint(id) {
					t.Errorf("series %d has the key %q", id, got)
					return
				}
				c.add(id, fmt.Append(nil, id))
			}
		})
	}
	wg.Wait()
}
