package vector

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// TestFoldParts deals series to several folds, in any order, and compares what their parts come to with
// one fold of all series, to the last bit.
func TestFoldParts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, name := range []string{"sum", "sum2", "count", "avg", "group", "min", "max"} {
		for _, o := range []AggregateOptions{{Name: name}, {Name: name, Grouping: GroupBy, Labels: []string{"g"}}, {Name: name, Grouping: GroupWithout, Labels: []string{"i", "g"}}} {
			for range 20 {
				compareParts(t, rng, o)
			}
		}
	}
}

func compareParts(t *testing.T, rng *rand.Rand, o AggregateOptions) {
	t.Helper()
	const points = 4
	whole := NewFold(o, points)
	folds := make([]*Fold, 1+rng.IntN(4))
	for i := range folds {
		folds[i] = NewFold(o, points)
	}
	for i := range 50 {
		labels := []model.Label{{Name: "g", Value: fmt.Sprint(rng.IntN(4))}, {Name: "i", Value: fmt.Sprintf("%03d", i)}}
		values := make([]float64, points)
		for k := range values {
			values[k] = rng.NormFloat64() * math.Pow10(rng.IntN(24)-12)
			if rng.IntN(4) == 0 {
				values[k] = math.NaN()
			}
			if rng.IntN(500) == 0 {
				values[k] = math.Inf(1 - 2*rng.IntN(2))
			}
		}
		for _, f := range []*Fold{whole, folds[rng.IntN(len(folds))]} {
			before := f.Len()
			f.Add("m", labels, values)
			if f.Len() > before {
				f.SetFirst([]byte(labels[1].Value))
			}
		}
	}
	rng.Shuffle(len(folds), func(i, j int) { folds[i], folds[j] = folds[j], folds[i] })
	var lists [][]Part
	for _, f := range folds {
		lists = append(lists, f.Parts())
	}
	fold, err := FoldParts(o, points, lists...)
	if err != nil {
		t.Fatal(err)
	}
	got, want := fold.Series(), whole.Series()
	if len(got) != len(want) {
		t.Fatalf("%+v: %d groups; want %d", o, len(got), len(want))
	}
	for i := range want {
		if seriesString(got[i]) != seriesString(want[i]) {
			t.Fatalf("%+v: group %d is %s; want %s", o, i, seriesString(got[i]), seriesString(want[i]))
		}
		for k, v := range want[i].Values {
			if g := got[i].Values[k]; math.Float64bits(g) != math.Float64bits(v) && !(g != g && v != v) {
				t.Fatalf("%+v: point %d of %s is %x; want %x", o, k, seriesString(want[i]), g, v)
			}
		}
	}
}

// TestPartsThatDoNotFit come from a node that is at fault.
func TestPartsThatDoNotFit(t *testing.T) {
	three := []float64{1, 2, 3}
	for _, c := range []struct {
		name string
		part Part
	}{
		{"sum", Part{Counts: three, Values: three}},
		{"count", Part{Counts: three, Values: three, Rests: three}},
		{"max", Part{Counts: three[:2], Values: three}},
		{"avg", Part{Counts: three, Values: three[:1], Rests: three}},
	} {
		if _, err := FoldParts(AggregateOptions{Name: c.name}, 3, []Part{c.part}); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s of %+v: %v", c.name, c.part, err)
		}
	}
}

// TestFoldIsExact sums what plain addition gets wrong.
func TestFoldIsExact(t *testing.T) {
	f := NewFold(AggregateOptions{Name: "sum"}, 1)
	for _, v := range []float64{1, 1e100, 1, -1e100, 1e-30} {
		f.Add("", nil, []float64{v})
	}
	if got := f.Series()[0].Values[0]; got != 2 {
		t.Errorf("the sum is %v; want 2", got)
	}
	f = NewFold(AggregateOptions{Name: "sum"}, 3)
	for _, v := range []float64{math.MaxFloat64, math.MaxFloat64, math.Inf(1)} {
		f.Add("", nil, []float64{v, -v, 1})
	}
	if got := f.Series()[0].Values; !math.IsInf(got[0], 1) || !math.IsInf(got[1], -1) || got[2] != 3 {
		t.Errorf("sums that are not finite: %v", got)
	}
}

func BenchmarkFoldSum(b *testing.B) {
	values := make([]float64, 121)
	for i := range values {
		values[i] = float64(i) * 0.1
	}
	f := NewFold(AggregateOptions{Name: "sum"}, len(values))
	for b.Loop() {
		f.Add("m", nil, values)
	}
}
