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
		if back, ok := decodeBitmap(data); !ok || !back.Equals(b) {
			t.Fatalf("%v became %v, %t", b, back, ok)
		}
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

// FuzzBitmap checks that what is taken for valid is valid for the library too.
func FuzzBitmap(f *testing.F) {
	for _, b := range []*roaring.Bitmap{roaring.New(), roaring.BitmapOf(1, 2, 3, 70000, 1<<20, 1<<30), roaring.BitmapOf(1, 5, 9)} {
		for range 2 {
			data, err := b.ToBytes()
			must(f, err)
			f.Add(data)
			b.AddRange(100000, 200000)
			b.RunOptimize()
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, ok := decodeBitmap(data)
		if isValidBitmap(data) != ok {
			t.Fatal("a bitmap which was checked cannot be read")
		}
		if !ok || b.IsEmpty() {
			return
		}
		if err := b.Validate(); err != nil {
			t.Fatalf("%v is taken for valid: %s", b, err)
		}
		if first, ok := firstOfBitmap(data); ok && first != b.Minimum() {
			t.Fatalf("first of %v is %d", b, first)
		}
	})
}
