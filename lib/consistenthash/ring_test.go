package consistenthash

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func names(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("vmstorage-%d:8400", i)
	}
	return s
}

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// deviation returns the largest relative distance of a share from the even share.
func deviation(counts []int) float64 {
	total, worst := 0, 0.0
	for _, c := range counts {
		total += c
	}
	mean := float64(total) / float64(len(counts))
	for _, c := range counts {
		worst = max(worst, float64(c)/mean-1, 1-float64(c)/mean)
	}
	return worst
}

const keys = 200_000

func TestSpreadIsEven(t *testing.T) {
	rng := newRand(t)
	for _, n := range []int{2, 3, 4, 5, 8, 16, 32} {
		r := New(names(n))
		counts := make([]int, n)
		for range keys {
			counts[r.First(rng.Uint64())]++
		}
		d := deviation(counts)
		t.Logf("%2d nodes: share deviates by at most %.2f%%", n, d*100)
		if d > 0.06 { // over five standard deviations at 32 nodes
			t.Errorf("%d nodes: shares %v deviate by %.1f%%", n, counts, d*100)
		}
	}
}

func TestSpreadIsEvenForSimilarHashes(t *testing.T) {
	r := New(names(5))
	counts := make([]int, 5)
	for i := range uint64(keys) {
		counts[r.First(i)]++
	}
	if d := deviation(counts); d > 0.03 {
		t.Errorf("shares %v deviate by %.1f%%", counts, d*100)
	}
}

func TestAddingANodeMovesOnlyItsShare(t *testing.T) {
	rng := newRand(t)
	for _, n := range []int{1, 2, 3, 4, 8, 31} {
		before, after := New(names(n)), New(names(n+1))
		moved := 0
		for range keys {
			h := rng.Uint64()
			a, b := before.First(h), after.First(h)
			if a == b {
				continue
			}
			moved++
			if b != n {
				t.Fatalf("a key moved from node %d to %d, neither of which is new", a, b)
			}
		}
		share, want := float64(moved)/keys, 1/float64(n+1)
		t.Logf("%2d to %2d nodes: %.2f%% move, ideal %.2f%%", n, n+1, share*100, want*100)
		if share < want*0.94 || share > want*1.06 {
			t.Errorf("%d nodes: adding one moves %.2f%% of keys; want about %.2f%%", n, share*100, want*100)
		}
	}
}

func TestLostNodeSpreadsEvenly(t *testing.T) {
	rng := newRand(t)
	const n = 6
	r := New(names(n))
	usable := []bool{true, true, false, true, true, true}
	counts := make([]int, n)
	for range keys {
		h := rng.Uint64()
		first, got := r.First(h), r.FirstOf(h, usable)
		if first != 2 && got != first {
			t.Fatalf("key of the live node %d moved to %d", first, got)
		}
		if first == 2 {
			counts[got]++
		}
	}
	if d := deviation(slices.Delete(counts, 2, 3)); d > 0.06 {
		t.Errorf("shares of the lost node %v deviate by %.1f%%", counts, d*100)
	}
}

func first(r *Ring, hash uint64, n int, usable []bool) []int {
	var list []int
	for _, i := range r.FillFirst(make([]uint64, n), hash, usable) {
		list = append(list, int(i))
	}
	return list
}

func TestPreferenceList(t *testing.T) {
	rng := newRand(t)
	for range 2000 {
		n := 1 + rng.IntN(12)
		list := names(n)
		r := New(list)
		h := rng.Uint64()
		all := first(r, h, n+3, slices.Repeat([]bool{true}, n))
		sorted := slices.Sorted(slices.Values(all))
		if len(all) != n || slices.Compact(sorted)[0] != 0 || sorted[n-1] != n-1 {
			t.Fatalf("preference list %v of %d nodes is no permutation", all, n)
		}
		if r.First(h) != all[0] {
			t.Fatalf("First is %d, the list %v", r.First(h), all)
		}
		usable := make([]bool, n)
		want := -1
		for i := range usable {
			usable[i] = rng.IntN(2) == 0
		}
		for _, i := range all {
			if usable[i] {
				want = i
				break
			}
		}
		if got := r.FirstOf(h, usable); got != want {
			t.Fatalf("FirstOf(%v) is %d; want %d of %v", usable, got, want, all)
		}
		// Filled in one pass is what is found by looking for the first one again and again.
		live, some := slices.Clone(usable), rng.IntN(n+2)
		var one []int
		for next := r.FirstOf(h, live); next >= 0 && len(one) < some; next = r.FirstOf(h, live) {
			one, live[next] = append(one, next), false
		}
		if got := first(r, h, some, usable); !slices.Equal(got, one) {
			t.Fatalf("the first %d of %v are %v; want %v", some, usable, got, one)
		}
		// The order of the list of names has no influence.
		slices.Reverse(list)
		for k, i := range first(New(list), h, n, slices.Repeat([]bool{true}, n)) {
			if n-1-i != all[k] {
				t.Fatalf("reversed list gives another order than %v", all)
			}
		}
	}
}

func TestEmptyRing(t *testing.T) {
	r := New(nil)
	if r.Len() != 0 || r.First(1) != -1 || r.FirstOf(1, nil) != -1 || len(r.FillFirst(make([]uint64, 3), 1, nil)) != 0 {
		t.Error("an empty ring prefers some node")
	}
}

// The placement of data on disk depends on these figures.
func TestPlacementIsFrozen(t *testing.T) {
	r := New([]string{"a:8400", "b:8400", "c:8400", "d:8400", "e:8400"})
	got := ""
	for _, h := range []uint64{0, 1, 2, 1 << 63, 0xdeadbeef, 0x123456789abcdef} {
		got += fmt.Sprint(first(r, h, 5, []bool{true, true, true, true, true}))
	}
	const want = "[0 1 3 4 2][1 0 4 2 3][1 0 3 4 2][4 2 1 3 0][3 4 1 0 2][3 0 2 4 1]"
	if got != want {
		t.Errorf("placement is %s; want %s", got, want)
	}
}

func BenchmarkFillFirst(b *testing.B) {
	for _, n := range []int{3, 4, 8, 32} {
		for _, copies := range []int{2, 3} {
			r, usable, dst := New(names(n)), slices.Repeat([]bool{true}, n), make([]uint64, copies)
			b.Run(fmt.Sprintf("%d of %d", copies, n), func(b *testing.B) {
				h := uint64(1)
				for range b.N {
					h += 0x9e3779b97f4a7c15
					if got := r.FillFirst(dst, h, usable); len(got) != copies {
						b.Fatal(got)
					}
				}
			})
		}
	}
}

func BenchmarkFirst(b *testing.B) {
	for _, n := range []int{2, 4, 8, 32} {
		r := New(names(n))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sum, h := 0, uint64(1)
			for range b.N {
				h += 0x9e3779b97f4a7c15
				sum += r.First(h)
			}
			if sum < 0 {
				b.Fatal(sum)
			}
		})
	}
}
