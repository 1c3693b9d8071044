package rollup

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The samples below are 60s apart unless said, and times are seconds since the first one.
const base = int64(1768370400000)

func at(offsets ...float64) []int64 {
	out := make([]int64, len(offsets))
	for i, s := range offsets {
		out[i] = base + int64(s*1000)
	}
	return out
}

func minutes(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = base + int64(i)*60000
	}
	return out
}

type call struct {
	name     string
	texts    []string
	args     []float64
	window   float64 // seconds
	start    float64
	end      float64
	step     float64 // 0: 60
	lookback float64
}

// eval returns "offset:value ..." of the points, one string per result series, prefixed with label=.
func eval(t *testing.T, c call, times []int64, values []float64) []string {
	t.Helper()
	f, err := New(c.name, c.texts)
	if err != nil {
		t.Fatal(err)
	}
	if c.step == 0 {
		c.step = 60
	}
	p := Params{Start: base + int64(c.start*1000), End: base + int64(c.end*1000), Step: int64(c.step * 1000),
		Window: int64(c.window * 1000), Lookback: int64(c.lookback * 1000)}
	for _, a := range c.args {
		p.Args = append(p.Args, slices.Repeat([]float64{a}, p.points()))
	}
	var out []string
	NewEvaluator(f, p).Eval(times, values, func(label string, values []float64) {
		var points []string
		if label != "" {
			points = append(points, label+"=")
		}
		for k, v := range values {
			if !math.IsNaN(v) {
				points = append(points, fmt.Sprintf("%g:%.10g", (float64(p.Start-base)+float64(k)*float64(p.Step))/1000, v))
			}
		}
		out = append(out, strings.Join(points, " "))
	})
	return out
}

func TestWorkedExamples(t *testing.T) {
	resets := []float64{10, 40, 1000, 990, 860, 900, 100, 3, 5}
	hole, holeTimes := []float64{1, 2, 3, 4}, at(0, 60, 480, 540)
	doubling := []float64{1, 2, 4, 8, 16, 32}
	for _, tc := range []struct {
		c      call
		times  []int64
		values []float64
		want   string
	}{
		{call{name: "increase", window: 60, end: 480}, minutes(9), resets, "0:10 60:30 120:960 180:0 240:860 300:40 360:100 420:3 480:2"},
		{call{name: "default_rollup", end: 540}, holeTimes, hole, "0:1 60:2 120:2 180:2 480:3 540:4"},
		{call{name: "increase", window: 60, end: 540}, holeTimes, hole, "0:1 60:1 120:0 180:0 240:0 480:1 540:1"},
		{call{name: "changes", window: 60, end: 540}, holeTimes, hole, "0:1 60:1 120:0 180:0 240:0 480:1 540:1"},
		{call{name: "rate", window: 60, end: 540}, holeTimes, hole, "60:0.01666666667 120:0 180:0 240:0 540:0.01666666667"},
		{call{name: "lag", end: 540}, holeTimes, hole, "0:0 60:0 120:60 180:120 240:180 480:0 540:0"},
		{call{name: "increase", window: 60, end: 540, lookback: 120}, holeTimes, hole, "0:1 60:1 120:0 180:0 480:3 540:1"},
		{call{name: "default_rollup", end: 540, lookback: 30}, holeTimes, hole, "0:1 60:2 480:3 540:4"},
		{call{name: "default_rollup", window: 300, end: 540, lookback: 30}, holeTimes, hole, "0:1 60:2 120:2 180:2 240:2 300:2 480:3 540:4"},
		{call{name: "duration_over_time", window: 540, start: 540, end: 540, args: []float64{120}}, holeTimes, hole, "540:60"},
		{call{name: "delta", window: 120, end: 300}, minutes(6), doubling, "0:1 60:2 120:3 180:6 240:12 300:24"},
		{call{name: "rate", window: 30, start: 120, end: 240}, minutes(6), doubling, "120:0.03333333333 180:0.06666666667 240:0.1333333333"},
		{call{name: "irate", window: 30, start: 120, end: 120}, minutes(6), doubling, "120:0.03333333333"},
		{call{name: "idelta", window: 30, start: 120, end: 120}, minutes(6), doubling, "120:2"},
		{call{name: "deriv", window: 180, start: 300, end: 300}, minutes(6), doubling, "300:0.2"},
		{call{name: "integrate", window: 120, start: 180, end: 240}, minutes(6), doubling, "180:360 240:720"},
		{call{name: "rollup_delta", texts: []string{"min"}, window: 120, start: 240, end: 300}, minutes(6), doubling, "240:8 300:16"},
		{call{name: "rollup_delta", texts: []string{"avg"}, window: 120, start: 240, end: 300}, minutes(6), doubling, "240:12 300:16"},
		{call{name: "rollup_candlestick", window: 120, start: 180, end: 180}, minutes(6), doubling, "open= 180:4|close= 180:8|low= 180:4|high= 180:8"},
		{call{name: "holt_winters", window: 180, start: 240, end: 240, args: []float64{0.5, 0.5}}, minutes(6), doubling, "240:12.75"},
		{call{name: "hoeffding_bound_upper", window: 180, start: 240, end: 240, args: []float64{0.9}}, minutes(6), doubling, "240:16.76717771"},
		{call{name: "outlier_iqr_over_time", window: 360, start: 300, end: 300}, minutes(6), doubling, "300:32"},
		{call{name: "mode_over_time", window: 180, start: 60, end: 180}, minutes(4), []float64{3, 1, 3, 1}, "60:1 120:3 180:1"},
		{call{name: "mode_over_time", window: 180, start: 180, end: 180}, minutes(4), []float64{3, 1, 2, 2}, "180:2"},
		{call{name: "mode_over_time", window: 180, start: 120, end: 120}, minutes(3), []float64{3, 1, 3}, "120:3"},
		{call{name: "quantile_over_time", window: 240, start: 180, end: 180, args: []float64{0.5}}, minutes(4), []float64{1, 2, 4, 8}, "180:3"},
		{call{name: "increase", window: 120, start: 60, end: 60}, minutes(2), []float64{3, 5}, "60:5"},
		{call{name: "increase", window: 120, start: 60, end: 60}, minutes(2), []float64{500000, 500002}, "60:2"},
		{call{name: "increase", window: 120, start: 60, end: 60}, minutes(2), []float64{900, 1600}, "60:1600"},
		{call{name: "increase", window: 120, start: 60, end: 60}, minutes(1), []float64{8.25}, "60:8.25"},
		{call{name: "increase", window: 120, start: 60, end: 60}, minutes(1), []float64{77}, "60:0"},
		{call{name: "count_over_time", window: 120, start: 119.999, end: 120, step: 0.001}, minutes(4), doubling[:4], "119.999:2 120:2"},
		{call{name: "increase", window: 30, start: 110, end: 110}, minutes(2), []float64{1, 2}, ""},
	} {
		got := strings.Join(eval(t, tc.c, tc.times, tc.values), "|")
		if got != tc.want {
			t.Errorf("%+v\n got %s\nwant %s", tc.c, got, tc.want)
		}
	}
}

func TestStaleMarkers(t *testing.T) {
	stale := math.Float64frombits(staleBits)
	values := []float64{1, 2, stale, 4}
	for name, want := range map[string]string{
		"default_rollup":          "60:2 180:4",
		"last_over_time":          "60:2 120:2 180:4",
		"count_over_time":         "60:2 120:1 180:1",
		"stale_samples_over_time": "60:0 120:1 180:1",
	} {
		if got := eval(t, call{name: name, window: 120, start: 60, end: 180}, minutes(4), values)[0]; got != want {
			t.Errorf("%s: got %s; want %s", name, got, want)
		}
	}
	if got := eval(t, call{name: "count_over_time", window: 120, end: 60}, minutes(2), []float64{stale, stale}); len(got) != 0 {
		t.Errorf("a series of nothing but markers gives %q", got)
	}
}

func TestUndoResetsIsPiecewise(t *testing.T) {
	for _, tc := range []struct {
		values, want     []float64
		gap              int64 // between the last two samples
		lookback, window int64
	}{
		{[]float64{10, 40, 1000, 990, 860, 900, 100, 3, 5}, []float64{10, 40, 1000, 1000, 1860, 1900, 2000, 2003, 2005}, 60000, 0, 0},
		{[]float64{5, 9, 3}, []float64{5, 9, 3}, 400001, 300000, 100000},
		{[]float64{5, 9, 3}, []float64{5, 9, 12}, 400000, 300000, 100000},
	} {
		times := minutes(len(tc.values))
		times[len(times)-1] = times[len(times)-2] + tc.gap
		got := undoResets(times, tc.values, tc.lookback, tc.window)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%v became %v; want %v", tc.values, got, tc.want)
		}
	}
}

// undoResets returns the values of a series of which nothing else is known without resets.
func undoResets(times []int64, values []float64, lookback, window int64) []float64 {
	e := NewEvaluator(&Func{}, Params{Lookback: lookback, Window: window})
	e.column.load(&e.p, times, nil)
	if first := firstReset(times, values, lookback+window, lookback > 0, Carry{}); first < len(values) {
		values, _ = e.undoResets(times, values, first)
	}
	return values
}

// TestUndoResetsBits compares random values, strange ones among them, with what the rule says word for word. Up to the first reset values
// stay as they are, so that they do not depend on what comes later.
func TestUndoResetsBits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	strange := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), -7, 5e-324}
	for range 3000 {
		values := make([]float64, 1+rng.IntN(30))
		for i := range values {
			if values[i] = rng.Float64() * 100; rng.IntN(3) == 0 && i > 0 {
				values[i] = values[i-1]
			} else if rng.IntN(12) == 0 {
				values[i] = strange[rng.IntN(len(strange))]
			}
		}
		times := minutes(len(values))
		if rng.IntN(3) == 0 {
			for i := rng.IntN(len(times)); i < len(times); i++ {
				times[i] += 600_000
			}
		}
		lookback := int64(rng.IntN(2)) * 300_000
		want := slices.Clone(values)
		correction, fell := 0.0, false
		for i := 1; i < len(values); i++ {
			switch {
			case lookback > 0 && times[i]-times[i-1] > lookback:
				correction = 0
				continue
			case values[i] < values[i-1]:
				correction += Drop(values[i-1], values[i])
				fell = true
			}
			if fell {
				want[i] = max(values[i]+correction, want[i-1])
			}
		}
		got := undoResets(times, values, lookback, 0)
		for i := range want {
			if math.Float64bits(got[i]) != math.Float64bits(want[i]) && (got[i] == got[i] || want[i] == want[i]) {
				t.Fatalf("%v became %v; want %v", values, got, want)
			}
		}
	}
}

func TestScrapeInterval(t *testing.T) {
	for _, tc := range []struct {
		times []int64
		want  int64
	}{
		{at(0, 60, 480, 540), 132000},
		{at(0), 7000},
		{nil, 7000},
		{at(0, 1, 2, 3), 1000},
	} {
		if got := (&column{}).scrapeInterval(tc.times, 7000); got != tc.want {
			t.Errorf("%v: got %d; want %d", tc.times, got, tc.want)
		}
	}
	for in, want := range map[int64]int64{1000: 5000, 3000: 9000, 6000: 12000, 15000: 22500, 30000: 37500, 60000: 67500} {
		if got := inflate(in); got != want {
			t.Errorf("inflate(%d) = %d; want %d", in, got, want)
		}
	}
}

func TestBuckets(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0...1.000e-09", 1e-9: "0...1.000e-09", 1: "8.799e-01...1.000e+00", 1.0001: "1.000e+00...1.136e+00",
		1e18: "8.799e+17...1.000e+18", 2e18: "1.000e+18...+Inf", math.Inf(1): "1.000e+18...+Inf", 1000: "8.799e+02...1.000e+03",
	} {
		if got := bucketRange(bucketOf(v)); got != want {
			t.Errorf("%g: got %s; want %s", v, got, want)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 10000 {
		v := math.Pow(10, rng.Float64()*30-10)
		i := bucketOf(v)
		if i != lowest && v <= bound(i-1) || i != highest && v > bound(i) {
			t.Fatalf("%g is put into bucket %s", v, bucketRange(i))
		}
	}
}

func names() []string {
	return strings.Fields(`absent_over_time aggr_over_time ascent_over_time avg_over_time changes changes_prometheus count_eq_over_time
		count_gt_over_time count_le_over_time count_ne_over_time count_over_time count_values_over_time decreases_over_time
		default_rollup delta delta_prometheus deriv deriv_fast descent_over_time distinct_over_time duration_over_time
		first_over_time geomean_over_time histogram_over_time hoeffding_bound_lower hoeffding_bound_upper holt_winters idelta
		ideriv increase increase_prometheus increase_pure increases_over_time integrate irate lag last_over_time lifetime
		mad_over_time max_over_time median_over_time min_over_time mode_over_time outlier_iqr_over_time predict_linear
		present_over_time quantile_over_time quantiles_over_time range_over_time rate rate_over_sum rate_prometheus resets
		rollup rollup_candlestick rollup_delta rollup_deriv rollup_increase rollup_rate rollup_scrape_interval scrape_interval
		share_eq_over_time share_gt_over_time share_le_over_time stale_samples_over_time stddev_over_time stdvar_over_time
		sum2_over_time sum_eq_over_time sum_gt_over_time sum_le_over_time sum_over_time tfirst_over_time timestamp
		timestamp_with_name tlast_change_over_time tlast_over_time tmax_over_time tmin_over_time zscore_over_time`)
}

// prepare returns the function and as many arguments as it needs.
func prepare(t testing.TB, name string, points int) (*Func, [][]float64) {
	t.Helper()
	var texts []string
	switch name {
	case "aggr_over_time":
		texts = []string{"rate", "max_over_time"}
	case "count_values_over_time", "quantiles_over_time":
		texts = []string{"l"}
	}
	f, err := New(name, texts)
	if err != nil {
		t.Fatalf("%s: %s", name, err)
	}
	n := ScalarArgs(name)
	if n < 0 {
		n = 2
	}
	var args [][]float64
	for i := range n {
		args = append(args, slices.Repeat([]float64{0.5 / float64(i+1)}, points))
	}
	return f, args
}

type points map[string][]float64

func run(f *Func, p Params, times []int64, values []float64) points {
	out := points{}
	NewEvaluator(f, p).Eval(times, values, func(label string, values []float64) { out[label] = values })
	return out
}

func same(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b))
}

func randomSeries(rng *rand.Rand) ([]int64, []float64) {
	n := 1 + rng.IntN(80)
	times, values := make([]int64, n), make([]float64, n)
	t := base
	for i := range n {
		t += 1000 + rng.Int64N(60000)
		if rng.IntN(20) == 0 {
			t += 600000
		}
		times[i], values[i] = t, float64(rng.IntN(30))
		if rng.IntN(40) == 0 {
			values[i] = math.Float64frombits(staleBits)
		}
	}
	return times, values
}

// A point does not depend on which other points are asked for, as long as the
// tolerated gap is the same. A lookback settles the gap for ranges and instants alike
// when it is below both: intervals are of a second at least, and so are steps.
func TestPointsAreIndependent(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, name := range names() {
		for range 30 {
			times, values := randomSeries(rng)
			p := Params{Start: base + rng.Int64N(600000), Step: 1000 + rng.Int64N(90000), Lookback: 900, Window: 1 + rng.Int64N(300000)}
			p.End = p.Start + rng.Int64N(40)*p.Step
			f, args := prepare(t, name, p.points())
			p.Args = args
			whole := run(f, p, times, values)
			k := rng.IntN(p.points())
			one := p
			one.Start += int64(k) * p.Step
			one.End = one.Start
			for label, row := range run(f, one, times, values) {
				got, ok := whole[label]
				if !ok || !same(got[k], row[0]) {
					t.Fatalf("%s: point %d of %+v is %v as part of a range and %g alone", name, k, p, got, row[0])
				}
			}
		}
	}
}

// Evaluation must not change its input, nor depend on what was evaluated before, also by another function.
func TestEvaluatorIsClean(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	var e Evaluator
	for _, name := range names() {
		p := Params{Start: base, End: base + 3600000, Step: 37000 + rng.Int64N(9)*1000, Window: 100000}
		f, args := prepare(t, name, p.points())
		p.Args = args
		e.Reset(f, p)
		if rng.IntN(2) == 0 {
			e.ReuseResults()
		}
		var times []int64
		var values []float64
		for i := range 20 {
			if i%3 == 2 { // other values at the same times
				rng.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
			} else {
				times, values = randomSeries(rng)
			}
			timesBefore, valuesBefore := slices.Clone(times), slices.Clone(values)
			want := run(f, p, times, values)
			n := 0
			e.Eval(times, values, func(label string, got []float64) {
				n++
				if !slices.EqualFunc(got, want[label], same) {
					t.Fatalf("%s %s: got %v; want %v", name, label, got, want[label])
				}
			})
			sameBits := func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
			if n != len(want) || !slices.Equal(times, timesBefore) || !slices.EqualFunc(values, valuesBefore, sameBits) {
				t.Fatalf("%s gave %d series instead of %d, or changed its input", name, n, len(want))
			}
		}
		if e.Release(); e.p.Args != nil || e.w.args != nil || e.HeapBytes() == 0 {
			t.Fatalf("%s: an evaluator which is released has arguments, or no memory", name)
		}
	}
}

// The moving window sees the same samples as one found by search.
func TestWindowsAgainstSearch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 300 {
		times, values := randomSeries(rng)
		times, values = (&Evaluator{}).dropStale(times, values)
		if len(times) == 0 {
			continue
		}
		p := Params{Start: base, End: base + 1800000, Step: 1 + rng.Int64N(200000), Window: 1 + rng.Int64N(200000)}
		e := NewEvaluator(&Func{}, p)
		gap := e.column.load(&e.p, times, nil)
		e.run(&output{}, times, values, gap, func(k int, w *window) {
			t1 := p.Start + int64(k)*p.Step
			var inside []int64
			prev, next := int64(-1), int64(-1)
			for _, ts := range times {
				switch {
				case ts <= t1-p.Window:
					prev = ts
				case ts <= t1:
					inside = append(inside, ts)
				case next < 0:
					next = ts
				}
			}
			if !slices.Equal(inside, w.times) || w.hasNext != (next >= 0) || w.hasFar != (prev >= 0) {
				t.Fatalf("at %d: window %v; want %v", t1, w.times, inside)
			}
			wantPrev := prev > t1-p.Window-gap && (len(inside) > 0 || next >= 0)
			if w.hasPrev != wantPrev || wantPrev && w.prevTime != prev {
				t.Fatalf("at %d: sample before %v %d; want %v %d", t1, w.hasPrev, w.prevTime, wantPrev, prev)
			}
		})
	}
}

func TestNewErrors(t *testing.T) {
	for name, texts := range map[string][]string{
		"nope": nil, "rate": {"x"}, "aggr_over_time": {"quantile_over_time"}, "rollup": {"sum"},
		"rollup_rate": {"min", "max"}, "quantiles_over_time": nil, "count_values_over_time": {"a", "b"}, "rollup_candlestick": {"mid"},
	} {
		if _, err := New(name, texts); err == nil {
			t.Errorf("%s with %q is accepted", name, texts)
		}
	}
}

func BenchmarkRate(b *testing.B) {
	const samples, points = 240, 60
	times, values := make([]int64, samples), make([]float64, samples)
	for i := range times {
		times[i], values[i] = base+int64(i)*15000, float64(i*7)
	}
	for _, name := range []string{"rate", "increase", "sum_over_time", "max_over_time", "default_rollup"} {
		b.Run(name, func(b *testing.B) {
			f, _ := prepare(b, name, points)
			e := NewEvaluator(f, Params{Start: base, End: base + (points-1)*60000, Step: 60000, Window: 300000})
			b.ReportAllocs()
			for b.Loop() {
				e.Eval(times, values, func(string, []float64) {})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/samples, "ns/sample")
		})
	}
}

// TestGuard checks that a function over large windows can be stopped, and hands out nothing then.
func TestGuard(t *testing.T) {
	n := workPerGuard / 4
	times, values := make([]int64, n), make([]float64, n)
	for i := range times {
		times[i], values[i] = int64(i), float64(i%2)
	}
	for _, name := range []string{"sum_over_time", "count_values_over_time", "histogram_over_time", "quantiles_over_time"} {
		f, args := prepare(t, name, 10)
		stop := errors.New("stop")
		e := NewEvaluator(f, Params{Start: int64(n), End: int64(n) + 9, Step: 1, Window: int64(n), Args: args, Guard: func(bytes int64) error {
			if bytes > 0 {
				return nil
			}
			return stop
		}})
		e.Eval(times, values, func(string, []float64) { t.Errorf("%s: there is a result", name) })
		if !errors.Is(e.Err(), stop) {
			t.Errorf("%s: error %v", name, e.Err())
		}
	}
}
