package promqlapi

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
)

// randomQueries are shapes of queries; they are asked at random times.
var randomQueries = []string{
	`a`, `a{Zone="z"}`, `{__name__=~"a|b",x!~"1|3"}`, `a offset 7m`, `a @ end()`, `a @ start() offset -3m`, `timestamp(a)`, `-a`, `a or b`, `a + on(x) group_left b`,
	`rate(a[3m])`, `increase(b[1h])`, `delta(a[90s])`, `irate(b[5m])`, `resets(a[20m])`, `changes(b[20m])`, `deriv(a[10m])`, `predict_linear(a[10m], 60)`,
	`sum by (x) (a)`, `avg(a)`, `topk(2, a)`, `quantile(0.3, b)`, `stddev without (x) (a)`, `count_values("v", a)`, `max by (Zone) (rate(a[4m]))`,
	`avg_over_time(a[10m])`, `last_over_time(b[15m])`, `count_over_time(a[1h])`, `present_over_time(b[4m])`, `quantile_over_time(0.9, a[30m])`, `sum_over_time(a[10m:1m])`, `max_over_time(rate(a[2m])[20m:])`,
	`absent(a{x="nosuch"})`, `absent_over_time(b[1m])`, `label_replace(a, "y", "$1", "x", "(.*)")`, `a > 0`, `a == bool b`, `a unless b{x="1"}`, `sort_desc(b)`, `a[7m]`, `b[3m:30s]`, `vector(time())`, `scalar(b{x="2"})`, `a / a`,
	`h`, `rate(h[5m])`, `increase(h[20m])`, `irate(h[3m])`, `delta(h[5m])`, `sum(rate(h[5m]))`, `sum by (x) (h)`, `avg(h)`, `count(h)`, `histogram_quantile(0.9, rate(h[10m]))`,
	`histogram_quantile(0.5, sum(rate(h[10m])))`, `histogram_fraction(0, 1, h)`, `histogram_count(h)`, `histogram_sum(increase(h[1h]))`, `histogram_avg(h)`, `histogram_stddev(h)`,
	`sum_over_time(h[5m])`, `last_over_time(h[10m])`, `resets(h[1h])`, `changes(h[20m])`, `h == h offset 1m`, `h * 2`, `h - h offset 5m`, `h[4m]`, `rate(h[5m:1m])`, `{__name__=~"a|h"}`, `timestamp(h)`,
	`present_over_time(h[2m])`, `count_over_time(h[30m])`, `count_values("v", h)`, `h{x="1"} offset 10m`, `quantile_over_time(0.5, h[10m])`, `-h`,
}

// TestRandom: whatever the data, its cut into parts and the range, the answer is that of the same engine over a naive store.
func TestRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	for range 3 {
		e, n := newEnv(t), &naive{}
		randomData(t, r, e, n)
		for range 150 {
			query := randomQueries[r.IntN(len(randomQueries))]
			start := t0 + r.Int64N(4*3600_000)
			args := pairs("query", query, "time", seconds(start))
			path, end, step := "/select/0/promql/api/v1/query", start, int64(0)
			if q := query[len(query)-1]; r.IntN(2) == 0 && q != ']' {
				step = 1 + r.Int64N(600_000)
				end = start + r.Int64N(50*step)
				path += "_range"
				args = pairs("query", query, "start", seconds(start), "end", seconds(end), "step", seconds(step))
			}
			status, body := e.ask(http.MethodGet, path, args)
			want, err := n.result(t, e.promql, query, start, end, step)
			var got promAnswer
			if jsonErr := json.Unmarshal([]byte(body), &got); jsonErr != nil {
				t.Fatalf("%s: %s", jsonErr, body)
			}
			if (err != nil) != (status != http.StatusOK) || !slices.Equal(elements(string(got.Data.Result)), elements(want)) {
				t.Fatalf("%s from %d to %d step %d:\nnaive %s %v\nours  %d %s", query, start, end, step, want, err, status, body)
			}
		}
	}
}

// randomData stores series with gaps and odd values, in a few batches with flushes between them.
func randomData(t *testing.T, r *rand.Rand, e *env, n *naive) {
	t.Helper()
	odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1), stale, 0, -1e300, 1e-300}
	for i := range 12 {
		labels := map[string]string{"__name__": string("ab"[i%2]), "x": fmt.Sprint(i / 2)}
		if i%3 == 0 {
			labels["Zone"] = "z"
		}
		interval := []int64{1000, 15_000, 60_000}[r.IntN(3)]
		var times []int64
		var values []float64
		value := 0.0
		for at := t0 - 3600_000 + r.Int64N(interval); at < t0+3*3600_000; at += interval + r.Int64N(2) {
			if value += float64(r.IntN(10)); r.IntN(200) == 0 {
				value = 0
			}
			v := value
			if r.IntN(100) == 0 {
				v = odd[r.IntN(len(odd))]
			}
			if r.IntN(100) == 0 {
				at += r.Int64N(900_000)
			}
			times, values = append(times, at), append(values, v)
		}
		samples := make([]naiveSample, len(times))
		for k, at := range times {
			samples[k] = naiveSample{at: at, value: values[k]}
		}
		if i%4 == 1 { // some of the numbers are histograms instead
			labels["__name__"] = "h"
			randomHistograms(r, samples)
		}
		n.put(t, labels, samples)
		cut := r.IntN(len(times))
		for _, part := range [][]naiveSample{samples[cut:], samples[:cut]} {
			e.put(t, model.TenantID{}, labels, part)
			if r.IntN(6) > 0 {
				continue
			}
			if err := e.store.db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// randomHistograms replaces most samples by histograms of one kind, then of another.
func randomHistograms(r *rand.Rand, samples []naiveSample) {
	sources := []*histogramtest.Source{histogramtest.New(r, histogramtest.Kind(r.IntN(histogramtest.Kinds))), histogramtest.New(r, histogramtest.Kind(r.IntN(histogramtest.Kinds)))}
	turn := r.IntN(2 * len(samples))
	for i := range samples {
		s := &samples[i]
		if r.IntN(20) == 0 {
			continue
		}
		h := sources[btoi(i > turn)].Next()
		if r.IntN(50) == 0 {
			h.Sum = stale // which ends the series
		}
		s.bytes, s.h = h.Append(nil), asRead(promOf(h))
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
