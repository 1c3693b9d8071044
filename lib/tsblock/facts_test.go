package tsblock

import (
	"math"
	"math/rand/v2"
	"testing"
)

// checkFacts fails the test unless the facts hold for the values; all says that none may be missing.
func checkFacts(t *testing.T, facts Facts, values []float64, all bool) {
	t.Helper()
	want := NoNaN | NeverDecreases | Constant
	previous := math.Inf(-1)
	for _, v := range values {
		if math.Float64bits(v) != math.Float64bits(values[0]) {
			want &^= Constant
		}
		if math.IsNaN(v) {
			want &^= NoNaN
			continue
		}
		if v < previous {
			want &^= NeverDecreases
		}
		previous = v
	}
	if facts&^want != 0 || all && facts != want {
		t.Fatalf("facts %b of %v; want %b", facts, values, want)
	}
}

// factSamples returns samples which often have some of the facts.
func factSamples(r *rand.Rand, start int64, n int) Samples {
	s := randomSamples(r, start, n)
	value := float64(r.IntN(100))
	kind := r.IntN(5)
	for i := range s.Values {
		switch {
		case kind == 0:
			s.Values[i] = value
		case kind == 1 || kind == 2 && i < len(s.Values)-1:
			value += float64(r.IntN(3))
			s.Values[i] = value
		case kind == 2:
			s.Values[i] = stale()
		case kind == 3:
			s.Values[i] = float64(r.IntN(10))
		}
	}
	return s
}

func TestBlockFacts(t *testing.T) {
	r := newRand(t)
	for range 2000 {
		s := factSamples(r, 0, 300)
		_, b := AppendEncode(nil, &s)
		checkFacts(t, b.Facts(), s.Values, true)
		v, ok := b.ConstValue()
		if ok != b.Facts().Has(Constant) || ok && math.Float64bits(v) != math.Float64bits(s.Values[0]) {
			t.Fatalf("constant value %v, %v of %v", v, ok, s.Values)
		}
		for _, i := range []int{0, s.Len() - 1, r.IntN(s.Len())} {
			if v, err := b.ValueAt(i); err != nil || math.Float64bits(v) != math.Float64bits(s.Values[i]) {
				t.Fatalf("value %d of %v is %v, %v", i, s.Values, v, err)
			}
		}
		if v, err := b.LastValue(); err != nil || math.Float64bits(v) != math.Float64bits(s.Values[s.Len()-1]) {
			t.Fatalf("last value of %v is %v, %v", s.Values, v, err)
		}
		if _, err := b.ValueAt(s.Len()); err == nil {
			t.Fatal("there is a value behind the last")
		}
	}
	empty := Block{Count: 1}
	if _, ok := empty.ConstValue(); ok || empty.Facts() != 0 {
		t.Error("a block without columns has facts")
	}
}

func TestReadRangeFacts(t *testing.T) {
	r := newRand(t)
	var scratch Scratch
	for range 3000 {
		var blocks []Block
		start := int64(0)
		for range 1 + r.IntN(4) {
			s := factSamples(r, start, 50)
			_, b := AppendEncode(nil, &s)
			blocks = append(blocks, b)
			start = b.MaxTimestamp + r.Int64N(3)
		}
		tr := everything()
		if r.IntN(2) == 0 {
			tr.Min = r.Int64N(start + 1)
			tr.Max = tr.Min + r.Int64N(start+1)
		}
		var got Samples
		got.Append(-1, 1e9)
		if err := ReadRange(&got, blocks, tr, []int64{0, 0, 20}[r.IntN(3)], &scratch); err != nil {
			t.Fatal(err)
		}
		if got.Len() == 1 {
			if scratch.Facts() != 0 {
				t.Fatal("nothing has facts")
			}
			continue
		}
		checkFacts(t, scratch.Facts(), got.Values[1:], false)
	}
}

func TestSameTimestamps(t *testing.T) {
	encode := func(timestamps ...int64) Block {
		_, b := AppendEncode(nil, &Samples{Timestamps: timestamps, Values: make([]float64, len(timestamps))})
		return b
	}
	a, same := encode(1, 2, 4, 9), encode(1, 2, 4, 9)
	if !a.SameTimestamps(&a) || !a.SameTimestamps(&same) {
		t.Error("equal timestamps differ")
	}
	for _, b := range []Block{encode(1, 2, 5, 9), encode(1, 2, 4, 8), encode(0, 2, 4, 9), encode(1, 2, 3, 4, 9)} {
		if a.SameTimestamps(&b) {
			t.Errorf("block %s has the timestamps of another", &b)
		}
	}
}
