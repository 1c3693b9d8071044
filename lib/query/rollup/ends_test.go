package rollup

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestEndsAreWindows compares functions evaluated by the ends of windows with the same functions evaluated window by window.
func TestEndsAreWindows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, name := range []string{"rate", "deriv_fast", defaultRollup, "last_over_time"} {
		for range 300 {
			p := Params{Start: 1_000_000 + rng.Int64N(100_000), Step: 1 + rng.Int64N(60_000)}
			p.End = p.Start + p.Step*rng.Int64N(40)
			if rng.IntN(2) == 0 {
				p.Window = 1 + rng.Int64N(300_000)
			}
			if rng.IntN(4) == 0 {
				p.Lookback = 1 + rng.Int64N(300_000)
			}
			if rng.IntN(4) == 0 {
				p.MinStaleness = rng.Int64N(300_000)
			}
			compareEnds(t, rng, name, p)
		}
	}
}

func compareEnds(t *testing.T, rng *rand.Rand, name string, p Params) {
	t.Helper()
	fast, err := New(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	slow, _ := New(name, nil)
	slow.outputs[0].ends = nil
	if fast.outputs[0].ends == nil {
		t.Fatalf("%s is not evaluated by the ends of windows", name)
	}
	a, b := NewEvaluator(fast, p), NewEvaluator(slow, p)
	a.ReuseResults()
	var times []int64
	for range 5 { // series which share timestamps, and others
		if len(times) == 0 || rng.IntN(2) == 0 {
			times = times[:0]
			for at := p.Start - 400_000; at < p.End+100_000; at += 1 + rng.Int64N(40_000) {
				times = append(times, at)
			}
		}
		values := oddValues(rng, len(times))
		var got, want []float64
		known := Known{}
		a.EvalKnown(times, values, known, func(_ string, v []float64) { got = append(got, v...) })
		b.Eval(times, values, func(_ string, v []float64) { want = append(want, v...) })
		if len(got) != len(want) {
			t.Fatalf("%s %+v: %d points; want %d", name, p, len(got), len(want))
		}
		for k := range want {
			if math.Float64bits(got[k]) != math.Float64bits(want[k]) && !(got[k] != got[k] && want[k] != want[k]) {
				t.Fatalf("%s %+v: point %d is %v; want %v", name, p, k, got[k], want[k])
			}
		}
	}
}

// oddValues returns a counter with resets, gaps of NaN, staleness markers and infinities.
func oddValues(rng *rand.Rand, n int) []float64 {
	values := make([]float64, n)
	total := 0.0
	for i := range values {
		total += float64(rng.IntN(100))
		values[i] = total
		switch rng.IntN(30) {
		case 0:
			total = 0
		case 1:
			values[i] = math.Float64frombits(staleBits)
		case 2:
			values[i] = math.NaN()
		case 3:
			values[i] = math.Inf(1)
		}
	}
	return values
}

// TestKnownFacts checks that what is known of values changes no result.
func TestKnownFacts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p := Params{Start: 0, End: 600_000, Step: 30_000, Window: 90_000}
	for _, name := range []string{"rate", "increase", "irate", "max_over_time", defaultRollup, "rollup_rate"} {
		f, err := New(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, b := NewEvaluator(f, p), NewEvaluator(f, p)
		for range 50 {
			var times []int64
			var values []float64
			total := 0.0
			for at := int64(-90_000); at < p.End; at += 1 + rng.Int64N(20_000) {
				total += float64(rng.IntN(5))
				times, values = append(times, at), append(values, total)
			}
			got, want := map[string][]float64{}, map[string][]float64{}
			a.EvalKnown(times, values, Known{NoStale: true, NoResets: true}, func(label string, v []float64) { got[label] = v })
			b.Eval(times, values, func(label string, v []float64) { want[label] = v })
			for label := range want {
				for k, v := range want[label] {
					if math.Float64bits(v) != math.Float64bits(got[label][k]) {
						t.Fatalf("%s %s: point %d is %v; want %v", name, label, k, got[label][k], v)
					}
				}
			}
		}
	}
}
