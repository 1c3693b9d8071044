package index

import (
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

func TestFirstOfBitmap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	answered := 0
	for range 500 {
		b := roaring.New()
		for range 1 + rng.IntN(20) {
			start := uint64(rng.Uint32N(1 << (1 + rng.IntN(31))))
			b.AddRange(start, start+1+rng.Uint64N(5000))
			b.Add(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			b.RunOptimize()
		}
		data, err := b.ToBytes()
		must(t, err)
		got, ok := firstOfBitmap(data)
		if ok && got != b.Minimum() {
			t.Fatalf("first of %v is %d; want %d", b, got, b.Minimum())
		}
		if ok {
			answered++
		}
		firstOfBitmap(data[:rng.IntN(len(data))])
	}
	if answered < 300 {
		t.Errorf("only %d of 500 were answered", answered)
	}
}
