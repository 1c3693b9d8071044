package bytesutil

import "testing"

func TestEqualInts(t *testing.T) {
	if !EqualInts(nil, []int64{}) || EqualInts(nil, []int64{0}) {
		t.Error("nothing is not nothing")
	}
	for n := range 40 {
		a, b := make([]int64, n), make([]int64, n, n+1)
		for i := range a {
			a[i] = int64(i) * 0x123456789abcdef
			b[i] = a[i]
		}
		if !EqualInts(a, b) || EqualInts(a, append(b, 0)) {
			t.Fatalf("%d numbers", n)
		}
		for i := range b {
			b[i] ^= 1 << (i % 64)
			if EqualInts(a, b) {
				t.Fatalf("a difference at %d of %d is missed", i, n)
			}
			b[i] = a[i]
		}
	}
}
