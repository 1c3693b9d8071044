package vector

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/model"
)

// TestFoldIsAggregate compares aggregates that are folded in parts with those over all series at once.
func TestFoldIsAggregate(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, name := range []string{"sum", "sum2", "count", "avg", "group", "min", "max"} {
		for _, o := range []AggregateOptions{
			{Name: name}, {Name: name, Grouping: GroupBy, Labels: []string{"g"}}, {Name: name, Grouping: GroupBy, Labels: []string{"g", "i", "none"}},
			{Name: name, Grouping: GroupBy, Labels: []string{model.MetricNameLabel, "g"}}, {Name: name, Grouping: GroupWithout, Labels: []string{"i"}}, {Name: name, Grouping: GroupBy},
		} {
			for range 20 {
				compareFold(t, rng, o)
			}
		}
	}
	if CanFold(&AggregateOptions{Name: "sum", Limit: 3}) || CanFold(&AggregateOptions{Name: "median"}) {
		t.Error("aggregates with a limit, and those of all values at once, cannot be folded")
	}
}

func compareFold(t *testing.T, rng *rand.Rand, o AggregateOptions) {
	t.Helper()
	points, gaps := 1+rng.IntN(5), []int{0, 3, 13}[rng.IntN(3)] // one value in so many is missing; none with 0
	var series []*Series
	total, part := NewFold(o, points), NewFold(o, points)
	for i := range rng.IntN(40) {
		s := &Series{Name: fmt.Sprint("m", i%2), Labels: []model.Label{{Name: "g", Value: fmt.Sprint(rng.IntN(4))}, {Name: "i", Value: fmt.Sprint(i)}}, Values: make([]float64, points)}
		for k := range s.Values {
			s.Values[k] = float64(rng.IntN(100) - 50)
			if gaps > 0 && rng.IntN(gaps) == 0 {
				s.Values[k] = math.NaN()
			}
		}
		series = append(series, s)
		lent := append([]float64(nil), s.Values...)
		part.Add(s.Name, s.Labels, lent)
		clear(lent)
		if rng.IntN(5) == 0 {
			total.Merge(part)
			part = NewFold(o, points)
			part.Reuse(total.TakeFree())
		}
	}
	total.Merge(part)
	groups := len(total.groups)
	got := total.Series()
	want, err := Aggregate(o, []Arg{{Series: series}})
	if err != nil || len(got) != len(want) || groups != len(want) {
		t.Fatalf("%+v: %d groups, %v; want %d", o, len(got), err, len(want))
	}
	for i := range want {
		if string(appendKey(nil, got[i])) != string(appendKey(nil, want[i])) {
			t.Fatalf("%+v: group %d is %s; want %s", o, i, seriesString(got[i]), seriesString(want[i]))
		}
		for k, v := range want[i].Values { // small whole numbers: sums are exact in any order
			if g := got[i].Values[k]; g != v && !(g != g && v != v) {
				t.Fatalf("%+v: point %d of %s is %v; want %v", o, k, seriesString(want[i]), g, v)
			}
		}
	}
}

// TestFirstOfSum compares the sum of a single series, whose values are taken as they are, with that of the series and zeros.
func TestFirstOfSum(t *testing.T) {
	values := []float64{1.5, 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), 5e-324, math.MaxFloat64}
	for _, name := range []string{"sum", "avg"} {
		one, two := NewFold(AggregateOptions{Name: name}, len(values)), NewFold(AggregateOptions{Name: "sum"}, len(values))
		one.Add("m", nil, slices.Clone(values))
		two.Add("m", nil, make([]float64, len(values)))
		two.Add("m", nil, slices.Clone(values))
		got, want := one.Series()[0].Values, two.Series()[0].Values
		for i := range want {
			if math.Float64bits(got[i]) != math.Float64bits(want[i]) {
				t.Errorf("%s: point %d is %v; want %v", name, i, got[i], want[i])
			}
		}
	}
}
