package downsample

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/tsblock"
)

const interval = 300_000

var stale = math.Float64frombits(0x7ff0000000000002)

// all is the level which reaches every sample.
func all(interval int64) Levels { return Levels{{Before: math.MaxInt64, Interval: interval}} }

// TestLevels reduces a series in one go with two levels, and step by step as time passes.
func TestLevels(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		s := counter(rng, 600)
		first, last := s.Timestamps[0], s.Timestamps[s.Len()-1]
		main, columns := *s, Aggregates{}
		for now := first; ; now += rng.Int64N((last - first) / 4) {
			levels := Levels{
				{Before: IntervalEnd(now, interval) - interval, Interval: interval},
				{Before: IntervalEnd(now-(last-first)/3, 3*interval) - 3*interval, Interval: 3 * interval},
			}
			var nextMain, raw tsblock.Samples
			var nextColumns Aggregates
			for i, at := range main.Timestamps {
				// What is reached by now and has no column yet is raw.
				if at <= levels[0].Before && (columns.Len() == 0 || at > columns.Timestamps[columns.Len()-1]) {
					raw.Append(at, main.Values[i])
				}
			}
			var r Reducer
			r.Main(&nextMain, &main, levels)
			Columns(&nextColumns, &raw, &columns, levels)
			main, columns = nextMain, nextColumns
			if now <= last {
				continue
			}
			var want tsblock.Samples
			var wantColumns Aggregates
			var reached tsblock.Samples
			for i, at := range s.Timestamps {
				if at <= levels[0].Before {
					reached.Append(at, s.Values[i])
				}
			}
			r.Main(&want, s, levels)
			Columns(&wantColumns, &reached, &Aggregates{}, levels)
			if !slices.Equal(main.Timestamps, want.Timestamps) || !slices.Equal(columns.Timestamps, wantColumns.Timestamps) || !slices.Equal(columns.Count, wantColumns.Count) ||
				!slices.Equal(columns.Min, wantColumns.Min) || !slices.Equal(columns.Max, wantColumns.Max) || !slices.Equal(columns.Sum, wantColumns.Sum) {
				t.Fatalf("reducing step by step keeps %d samples and %d intervals; at once %d and %d", main.Len(), columns.Len(), want.Len(), wantColumns.Len())
			}
			break
		}
	}
}

// counter returns samples every 10 to 20 s with gaps, resets and markers.
func counter(rng *rand.Rand, n int) *tsblock.Samples {
	s := &tsblock.Samples{}
	t, v := rng.Int64N(1<<40), float64(rng.IntN(1000))
	lastReset, seen := int64(0), v // the last number, by which a fall is large or small
	for range n {
		t += 10_000 + rng.Int64N(10_000)
		v += float64(rng.IntN(50))
		switch {
		case rng.IntN(60) == 0:
			t += rng.Int64N(4 * interval)
		case t-lastReset > interval && rng.IntN(20) == 0:
			v, lastReset = float64(rng.IntN(int(seen/2)+1)), t
		case rng.IntN(40) == 0:
			s.Append(t, stale)
			continue
		}
		s.Append(t, v)
		seen = v
	}
	return s
}

// increase is the sum of what a counter has grown from the number at or before from up to to.
func increase(s *tsblock.Samples, from, to int64) float64 {
	sum, previous := 0.0, math.NaN()
	for i, t := range s.Timestamps {
		v := s.Values[i]
		if math.IsNaN(v) || t > to {
			continue
		}
		if t > from && !math.IsNaN(previous) {
			if sum += v - previous; v < previous {
				sum += previous
			}
		}
		previous = v
	}
	return sum
}

func TestIncreaseIsExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		s := counter(rng, 200+rng.IntN(800))
		var once, twice tsblock.Samples
		var r Reducer
		r.Main(&once, s, all(interval))
		r.Main(&twice, &once, all(3*interval))
		if once.Len() > s.Len()*3/4 && s.Len() > 300 {
			t.Errorf("%d of %d samples are kept", once.Len(), s.Len())
		}
		for range 30 {
			from := s.Timestamps[rng.IntN(s.Len())]
			to := from + rng.Int64N(20*interval)
			for _, c := range []struct {
				reduced  *tsblock.Samples
				interval int64
			}{{&once, interval}, {&twice, 3 * interval}} {
				a, b := IntervalEnd(from, c.interval), IntervalEnd(to, c.interval)
				if got, want := increase(c.reduced, a, b), increase(s, a, b); got != want {
					t.Fatalf("increase from %d to %d at interval %d is %v; want %v", a, b, c.interval, got, want)
				}
			}
		}
	}
}

// TestMainStream checks what stays in cases worked out by hand.
func TestMainStream(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name   string
		times  []int64
		values []float64
		want   []int64
	}{
		{"first and last of each interval", []int64{10, 20, 100, 101, 150, 200}, []float64{1, 2, 3, 4, 5, 6}, []int64{10, 100, 101, 200}},
		{"both sides of a reset", []int64{10, 20, 30, 40, 90}, []float64{1, 9, 2, 3, 4}, []int64{10, 20, 30, 90}},
		{"a reset between intervals", []int64{10, 20, 101, 120, 130}, []float64{1, 9, 2, 3, 4}, []int64{10, 20, 101, 130}},
		{"a gauge", []int64{10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99}, []float64{9, 1, 9, 1, 9, 1, 9, 1, 9, 1, 9}, []int64{10, 99}},
		{"a small fall is no reset", []int64{10, 20, 30, 90}, []float64{1, 100, 90, 110}, []int64{10, 90}},
		{"a gap", []int64{10, 20, 90, 310, 320, 390}, []float64{1, 2, 3, 4, 5, 6}, []int64{10, 90, 310, 390}},
		{"a marker at the end stays, others go", []int64{10, 20, 30, 90, 110, 150, 160}, []float64{1, nan, 3, stale, nan, 5, 6}, []int64{10, 30, 90, 150, 160}},
		{"markers only", []int64{10, 20}, []float64{stale, stale}, []int64{20}},
		{"ends belong to the interval", []int64{100, 101, 150, 200}, []float64{1, 2, 3, 4}, []int64{100, 101, 200}},
	} {
		s := tsblock.Samples{Timestamps: c.times, Values: c.values}
		var got tsblock.Samples
		var r Reducer
		r.Main(&got, &s, all(100))
		if !slices.Equal(got.Timestamps, c.want) {
			t.Errorf("%s: kept %v; want %v", c.name, got.Timestamps, c.want)
		}
		for i, at := range got.Timestamps {
			if j := slices.Index(c.times, at); math.Float64bits(got.Values[i]) != math.Float64bits(c.values[j]) {
				t.Errorf("%s: the sample at %d changed its value", c.name, at)
			}
		}
	}
}

// naiveColumns computes aggregates over everything at once.
func naiveColumns(s *tsblock.Samples, interval int64) map[int64]cell {
	out := map[int64]cell{}
	for i, v := range s.Values {
		if math.IsNaN(v) {
			continue
		}
		at := s.Timestamps[i]
		x := cell{at: at, low: v, high: v, sum: v, count: 1}
		if c, ok := out[IntervalEnd(at, interval)]; ok {
			c.add(x)
			x = c
		}
		out[IntervalEnd(at, interval)] = x
	}
	return out
}

// TestColumns reduces a random half of the samples first, then the rest with it, to a finer and a coarser interval.
func TestColumns(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		s := counter(rng, 300)
		var parts [2]tsblock.Samples
		for i, at := range s.Timestamps {
			p := &parts[rng.IntN(2)]
			p.Append(at, s.Values[i])
		}
		var none, fine, both, coarse Aggregates
		Columns(&fine, &parts[0], &none, all(interval))
		Columns(&both, &parts[1], &fine, all(interval))
		Columns(&coarse, &tsblock.Samples{}, &both, all(12*interval))
		compare(t, &both, naiveColumns(s, interval), interval)
		compare(t, &coarse, naiveColumns(s, 12*interval), 12*interval)
	}
}

func compare(t *testing.T, got *Aggregates, want map[int64]cell, interval int64) {
	t.Helper()
	if got.Len() != len(want) || !slices.IsSorted(got.Timestamps) {
		t.Fatalf("%d intervals; want %d", got.Len(), len(want))
	}
	for i, at := range got.Timestamps {
		w := want[IntervalEnd(at, interval)]
		if g := (cell{at, got.Min[i], got.Max[i], got.Sum[i], got.Count[i]}); g != w { // sums of integers are exact
			t.Fatalf("interval ending at %d is %+v; want %+v", IntervalEnd(at, interval), g, w)
		}
	}
}
