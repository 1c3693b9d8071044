package promqlapi

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
)

// values asks a dialect an instant query and returns its results by their label i.
func (e *env) values(t *testing.T, dialect, query string, at int64) map[string]float64 {
	t.Helper()
	status, body := e.ask(http.MethodGet, "/select/0/"+dialect+"/api/v1/query", pairs("query", query, "time", seconds(at), "nocache", "1", "latency_offset", "1ms"))
	var a promAnswer
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d %s", query, status, body)
	}
	list, diff := results(&a)
	if diff != "" {
		t.Fatalf("%s: %s", query, diff)
	}
	out := map[string]float64{}
	for _, r := range list {
		v, err := strconv.ParseFloat(r.Value[1].(string), 64)
		if err != nil {
			t.Fatalf("%s: %v", query, r)
		}
		out[r.Metric["i"]] = v
	}
	return out
}

// TestDialectsAgree: what MetricsQL finds in the parts of native histograms is what PromQL says of the histograms, quantiles within the resolution of buckets.
func TestDialectsAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	e := newEnv(t)
	resolution := 1.0
	for i := range 6 {
		source := histogramtest.New(rng, []histogramtest.Kind{histogramtest.Whole, histogramtest.Fractional}[i%2])
		source.Resets = 0
		var samples []naiveSample
		for k := range int64(240) {
			h := source.Next()
			resolution = max(resolution, nativehistogram.Bound(h.Schema, 1))
			samples = append(samples, naiveSample{at: t0 + k*15_000, bytes: h.Append(nil)})
		}
		e.put(t, model.TenantID{}, map[string]string{"__name__": "x", "i": fmt.Sprint(i)}, samples)
		if i == 2 {
			if err := e.store.db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, at := range []int64{t0 + 1500_000, t0 + 3000_000, t0 + 239*15_000} {
		for _, tc := range []struct {
			metricsql, promql string
			factor            float64
		}{
			{`x_count`, `histogram_count(x)`, 1},
			{`x_sum`, `histogram_sum(x)`, 1},
			{`sum by (i) (x)`, `histogram_count(x)`, 1},
			{`sum by (i) (x_bucket)`, `histogram_count(x)`, 1},
			{`sum(x_count)`, `histogram_count(sum(x))`, 1},
			{`count(x_count)`, `count(x)`, 1},
			{`sum by (i) (x{vmrange=~".+"})`, `histogram_count(x)`, 1},
			{`histogram_quantile(0.9, x)`, `histogram_quantile(0.9, x)`, resolution},
			{`histogram_quantile(0.9, rate(x[5m]))`, `histogram_quantile(0.9, rate(x[5m]))`, resolution * resolution},
			{`histogram_quantile(0.5, sum by (vmrange) (rate(x_bucket[20m])))`, `histogram_quantile(0.5, sum(rate(x[20m])))`, resolution * resolution},
		} {
			got, want := e.values(t, "prometheus", tc.metricsql, at), e.values(t, "promql", tc.promql, at)
			if len(got) != len(want) || len(want) == 0 {
				t.Errorf("%s: %v; %s: %v", tc.metricsql, got, tc.promql, want)
			}
			for i, w := range want {
				g := got[i]
				if d := math.Abs(math.Log(g / w)); !(d <= math.Log(tc.factor)+1e-9) && !(g <= 1e-9 && w <= 1e-9) {
					t.Errorf("%d: %s is %v for %q; %s is %v", at, tc.metricsql, g, i, tc.promql, w)
				}
			}
		}
	}
}
