package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const minute = int64(60000)

// worked returns the series of the worked examples: samples each minute from oracleStart on, with a hole in G.
func worked() *memSource {
	m := newMemSource()
	add := func(name string, values ...float64) {
		times := make([]int64, len(values))
		for i := range times {
			times[i] = oracleStart + int64(i)*minute
		}
		m.add(map[string]string{"__name__": name}, times, values)
	}
	add("R", 10, 40, 1000, 990, 860, 900, 100, 3, 5)
	add("V", 1, 2, 4, 8, 16, 32)
	m.add(map[string]string{"__name__": "G"}, []int64{oracleStart, oracleStart + minute, oracleStart + 8*minute, oracleStart + 9*minute}, []float64{1, 2, 3, 4})
	for le, v := range map[string]float64{"1": 1, "2": 3, "+Inf": 4} {
		m.add(map[string]string{"__name__": "b", "le": le}, []int64{oracleStart}, []float64{v})
	}
	return m
}

// ask evaluates over start..end seconds after oracleStart with a step of a minute.
func ask(e *Engine, query string, start, end int64) (*Result, error) {
	return e.QueryRange(context.Background(), &Request{Query: query, Start: oracleStart + start*1000, End: oracleStart + end*1000, Step: minute, NoCache: true})
}

// flat renders results as name{labels} offset:value ... with offsets in seconds; series are joined by |.
func flat(res *Result) string {
	var out []string
	for _, s := range res.Series {
		line := model.LabelsString(s.Labels)
		for i, v := range s.Values {
			line += fmt.Sprintf(" %g:%.6g", float64(s.Timestamps[i]-oracleStart)/1000, v)
		}
		out = append(out, line)
	}
	return strings.Join(out, "|")
}

func TestWorkedExamples(t *testing.T) {
	e := testEngine(t, worked())
	for _, tc := range []struct {
		query      string
		start, end int64
		want       string
	}{
		{"increase(R[1m])", 60, 480, "{} 60:30 120:960 180:0 240:860 300:40 360:100 420:3 480:2"},
		{"remove_resets(R)", 0, 480, "R 0:10 60:40 120:1000 180:1000 240:1860 300:1900 360:2000 420:2003 480:2005"},
		{"G", 0, 540, "G 0:1 60:2 120:2 180:2 480:3 540:4"},
		{"running_avg(G)", 0, 540, "{} 0:1 60:1.5 120:1.66667 180:1.75 240:1.75 300:1.75 360:1.75 420:1.75 480:1.88889 540:2.1"},
		{"interpolate(G)", 0, 540, "G 0:1 60:2 120:2 180:2 240:2.2 300:2.4 360:2.6 420:2.8 480:3 540:4"},
		{"G default 0", 0, 540, "G 0:1 60:2 120:2 180:2 240:0 300:0 360:0 420:0 480:3 540:4"},
		{"G or on() vector(9)", 0, 540, "G 0:1 60:2 120:2 180:2 480:3 540:4|{} 240:9 300:9 360:9 420:9"},
		{"G offset 1m", 0, 300, "G 60:1 120:2 180:2"},
		{"smooth_exponential(V,0.5)", 0, 300, "V 0:1 60:1.5 120:2.75 180:5.375 240:10.6875 300:21.3438"},
		{"range_trim_spikes(0.4, V)", 0, 300, "V 60:2 120:4 180:8 240:16"},
		{"sum_over_time(V[2m:30s])", 120, 120, "{} 120:9"},
		{`histogram_quantile(0.5, b, "b")`, 0, 0, `{} 0:1.5|{b="lower"} 0:1|{b="upper"} 0:2`},
		{`histogram_share(1.5, b, "b")`, 0, 0, `{} 0:0.5|{b="lower"} 0:0.25|{b="upper"} 0:0.75`},
		{"histogram_avg(b)", 0, 0, "{} 0:1.16667"},
		{"histogram_stdvar(b)", 0, 0, "{} 0:0.222222"},
		{`topk_max(1, b, "rest")`, 0, 0, `{rest="rest"} 0:4|b{le="+Inf"} 0:4`},
		{"V @ (end()-60)", 0, 60, "V 0:1 60:1"},
		{"sum(V) + sum(G)", 60, 60, "{} 60:4"},
		{"nothing + round(1,2,3)", 0, 0, ""},
		{"absent(nothing{a='1'})", 0, 0, `{a="1"} 0:1`},
	} {
		res, err := ask(e, tc.query, tc.start, tc.end)
		if err != nil {
			t.Errorf("%s: %s", tc.query, err)
		} else if got := flat(res); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.query, got, tc.want)
		}
	}
}

func TestAlignment(t *testing.T) {
	e := testEngine(t, worked())
	// The example of the rules: 84 points asked for, off the grid of minutes.
	for _, tc := range []struct {
		points     int64
		nocache    bool
		start, end int64
	}{
		{84, false, 360, 360 + 83*60}, {84, true, 407, 407 + 83*60}, {49, false, 407, 407 + 48*60},
	} {
		r := &Request{Start: 407000, End: 407000 + (tc.points-1)*minute + 30000, Step: minute, NoCache: tc.nocache}
		g, err := e.rangeGrid(r)
		if err != nil || g.Start != tc.start*1000 || g.At(g.Points()-1) != tc.end*1000 || int64(g.Points()) != tc.points {
			t.Errorf("%+v: %+v, %v", tc, g, err)
		}
	}
	if g := align(vector.Grid{Start: -125, End: 10000, Step: 100}); g.Start != -200 || g.Points() != 102 {
		t.Errorf("before 1970: %+v", g)
	}
}

func TestTimesOfRequests(t *testing.T) {
	e := testEngine(t, worked())
	res, err := e.QueryRange(context.Background(), &Request{Query: "time()", Start: 1000000, End: 0})
	if err != nil || res.Grid != (vector.Grid{Start: 1000000, End: 1300000, Step: 300000}) {
		t.Errorf("a range that ends before it starts: %+v, %v", res, err)
	}
	if _, err := e.QueryRange(context.Background(), &Request{Query: "1", Start: 0, End: 1, Step: -1}); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("a negative step: %v", err)
	}
	now := testNow().UnixMilli()
	for _, tc := range []struct {
		nocache bool
		at      int64
		want    float64
	}{{false, now - 1000, float64(now-30000) / 1000}, {true, now - 1000, float64(now-1000) / 1000}, {false, now - 31000, float64(now-31000) / 1000}} {
		res, err := e.Query(context.Background(), &Request{Query: "time()", Start: tc.at, NoCache: tc.nocache})
		if err != nil || len(res.Series) != 1 || res.Series[0].Timestamps[0] != tc.at || res.Series[0].Values[0] != tc.want {
			t.Errorf("%+v: %v, %v", tc, res, err)
		}
	}
}

func TestLatePointsAreHeldBack(t *testing.T) {
	now := testNow().UnixMilli()
	run := func(end, step int64, override *int64) []float64 {
		t.Helper()
		e := testEngine(t, worked())
		res, err := e.QueryRange(context.Background(), &Request{Query: "time()", Start: now - 60000, End: end, Step: step, NoCache: true, LatencyOffset: override})
		if err != nil {
			t.Fatal(err)
		}
		out := slices.Clone(res.Series[0].Values)
		for i := range out {
			out[i] -= float64(now) / 1000
		}
		return out
	}
	five := int64(5000)
	for _, tc := range []struct {
		end, step int64
		override  *int64
		want      []float64
	}{
		{now, 10000, nil, []float64{-60, -50, -40, -30, -30, -30, -30}},
		{now, 10000, &five, []float64{-60, -50, -40, -30, -20, -10, -10}},
		{now + 10000, 10000, nil, []float64{-60, -50, -40, -30, -30, -30, -30, -30}},
		{now + 20000, 10000, nil, []float64{-60, -50, -40, -30, -20, -10, 0, 10, 20}},
		{now, 60000, nil, []float64{-60, 0}},
	} {
		if got := run(tc.end, tc.step, tc.override); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: got %v", tc, got)
		}
	}
}

func TestLookbackFlags(t *testing.T) {
	stale := math.Float64frombits(0x7ff0000000000002)
	m := worked()
	m.add(map[string]string{"__name__": "S"}, []int64{oracleStart, oracleStart + minute, oracleStart + 2*minute}, []float64{1, stale, 2})
	const short, carried = "G 0:1 60:2 480:3 540:4", "G 0:1 60:2 120:2 180:2 480:3 540:4"
	for _, tc := range []struct{ flags, query, want string }{
		{"", "G", carried},
		{"-search.maxLookback=30s", "G", short},
		{"-search.maxStalenessInterval=30s", "G", short},
		{"-search.maxLookback=2m -search.maxStalenessInterval=30s", "G", "G 0:1 60:2 120:2 480:3 540:4"},
		{"-search.setLookbackToStep", "G", short},
		{"-search.minStalenessInterval=10m", "G", "G 0:1 60:2 120:2 180:2 240:2 300:2 360:2 420:2 480:3 540:4"},
		{"-search.maxLookback=2m", "increase(G[1m])", "{} 0:1 60:1 120:0 180:0 480:3 540:1"},
		{"", "count_over_time(S[5m])", "{} 0:1 60:1 120:2 180:2 240:2 300:1 360:1"},
		{"-search.noStaleMarkers", "count_over_time(S[5m])", "{} 0:1 60:2 120:3 180:3 240:3 300:2 360:1"},
	} {
		res, err := ask(testEngine(t, m, strings.Fields(tc.flags)...), tc.query, 0, 540)
		if err != nil || flat(res) != tc.want {
			t.Errorf("%s with %q\n got %v %v\nwant %s", tc.query, tc.flags, flat(res), err, tc.want)
		}
	}
	for flags, want := range map[string]string{"-search.setLookbackToStep": "G 2", "-search.setLookbackToStep -search.maxLookback=1m": ""} {
		res, err := testEngine(t, m, strings.Fields(flags)...).Query(context.Background(), &Request{Query: "G", Start: oracleStart + 2*minute, NoCache: true})
		if got := flat(res); err != nil || strings.ReplaceAll(got, "120:", "") != want {
			t.Errorf("an instant query with %q: %v %v; want %q", flags, got, err, want)
		}
	}
	off := int64(0)
	e := testEngine(t, m, "-search.maxLookback=30s")
	res, err := e.QueryRange(context.Background(), &Request{Query: "G", Start: oracleStart, End: oracleStart + 9*minute, Step: minute, NoCache: true, MaxLookback: &off})
	if err != nil || flat(res) != carried {
		t.Errorf("the argument does not override the flag: %v %v", res, err)
	}
}

func TestTimesOutOfRange(t *testing.T) {
	e := testEngine(t, worked())
	for _, query := range []string{
		"sum_over_time(V[292277000y:1ms])", "V[292277000y]", "V offset 292277000y", "V offset -292277000y", "sum_over_time(V[1m:292277000y])",
		"V @ 1e300", "V @ Inf", "sum_over_time((V offset -292277000y)[5m:1m])", "sum_over_time(V[1e15:1e15])",
	} {
		for _, start := range []int64{0, -1e17, 1e17} {
			res, err := ask(e, query, start, start+60)
			if kind := errkind.Of(err); kind != errkind.BadRequest && kind != errkind.Unprocessable {
				t.Errorf("%s at %d: %v, %v", query, start, res, err)
			}
		}
	}
	huge := int64(math.MaxInt64)
	for _, query := range []string{"V", "sum_over_time(V[1m:1s])", "sum_over_time(time()[1m:1i])", "rollup_candlestick(V)"} {
		r := Request{Query: query, Start: testNow().UnixMilli(), Step: 1e15, LatencyOffset: &huge}
		source := &rangeSource{memSource: worked()}
		if res, err := testEngine(t, source).Query(context.Background(), &r); err != nil && errkind.Of(err) != errkind.Unprocessable || source.inverted {
			t.Errorf("%s with a huge latency offset: %v, %v; its range is inverted: %t", query, res, err, source.inverted)
		}
	}
	for _, r := range []Request{{Start: math.MaxInt64}, {Start: math.MinInt64}, {Step: math.MaxInt64}, {Step: -1}} {
		for _, query := range []string{"V", "rollup_candlestick(V)", "sum_over_time(V[1m:1s])", "V[5m]", "sum_over_time((V)[5i:1i])"} {
			r.Query = query
			if res, err := e.Query(context.Background(), &r); errkind.Of(err) != errkind.BadRequest {
				t.Errorf("%s at %d with step %d: %v, %v", query, r.Start, r.Step, res, err)
			}
		}
	}
}

// rangeSource notices times that have overflowed.
type rangeSource struct {
	*memSource
	inverted bool
}

func (s *rangeSource) Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error) {
	s.inverted = s.inverted || q.Range.Min > q.Range.Max
	return s.memSource.Select(ctx, q)
}

func TestInstantWindows(t *testing.T) {
	e := testEngine(t, worked())
	for query, want := range map[string]string{
		"V[2m]":             "V 60:2 120:4",
		"V[2m] offset 1m":   "V 0:1 60:2",
		"V[2m:1m]":          "V 0:1 60:2 120:4",
		"sum(V)[1m:30s]":    "{} 60:2 90:2 120:4",
		"nothing[5m]":       "",
		"{__name__=''}[5m]": "",
	} {
		res, err := e.Query(context.Background(), &Request{Query: query, Start: oracleStart + 2*minute, NoCache: true})
		if err != nil || res.Type != Matrix || flat(res) != want {
			t.Errorf("%s: %v %v; want %s", query, res, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		flag, query, figure string
		kind                errkind.Kind
	}{
		{"-search.maxPointsPerTimeseries=5", "1", "10", errkind.Unprocessable},
		{"-search.maxPointsSubqueryPerTimeseries=50", "sum_over_time(V[1m:1s])", "50", errkind.Unprocessable},
		{"-search.maxSamplesPerQuery=10", "V + V + R", "10", errkind.Unprocessable},
		{"-search.maxSamplesPerSeries=5", "V", "6", errkind.Unprocessable},
		{"-search.maxUniqueTimeseries=2", "b", "2", errkind.Unprocessable},
		{"-search.maxResponseSeries=2", "b[1h]", "3", errkind.Unprocessable},
		{"-search.maxSeriesPerAggrFunc=2", "sum(b) by (le)", "3", errkind.Unprocessable},
		{"-search.maxMemoryPerQuery=900", "b", "900", errkind.Unprocessable},
		{"-search.maxQueryLen=3", "1234", "3", errkind.BadRequest},
		{"-search.disableImplicitConversion", "rate(sum(R))", "sum(R)", errkind.BadRequest},
	} {
		name, _, _ := strings.Cut(tc.flag, "=")
		_, err := ask(testEngine(t, worked(), tc.flag), tc.query, 0, 540)
		if errkind.Of(err) != tc.kind || err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), tc.figure) {
			t.Errorf("%s: %s gives %v; want kind %v with the flag and %s", tc.flag, tc.query, err, tc.kind, tc.figure)
		}
		if _, err := ask(testEngine(t, worked()), strings.TrimPrefix(tc.query, "1234"), 0, 540); err != nil && tc.query != "1234" {
			t.Errorf("%s without the flag: %v", tc.query, err)
		}
	}
	e := testEngine(t, worked(), "-search.disableImplicitConversion")
	for _, query := range []string{"timestamp(sum(R))", "rate(sum(R)[5m])", "rate(sum(R)[5m:])"} {
		if _, err := ask(e, query, 0, 540); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestMemoryBudget(t *testing.T) {
	budget := memory.NewBudget(2000)
	e := New(&Config{}, Options{Source: worked(), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: budget})
	for range 3 {
		if _, err := ask(e, "V", 0, 60); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(e, "{__name__!=''}", 0, 6000); errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), "more than 1000 bytes") {
			t.Fatalf("more than half of the budget: %v", err)
		}
	}
	if err := budget.Reserve(1500, "others"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(e, "V + V", 0, 240); errkind.Of(err) != errkind.Overloaded {
		t.Errorf("more than others leave: %v", err)
	}
	budget.Release(1500)
	if budget.Used() != 0 {
		t.Errorf("%d bytes stay reserved", budget.Used())
	}
}

// TestMemoryOfWhatFunctionsMake checks that what queries make out of little input counts as memory.
func TestMemoryOfWhatFunctionsMake(t *testing.T) {
	source := fleet(40, 60)
	long := make([]int64, 3*longSeries)
	for i := range long {
		long[i] = oracleStart + int64(i)
	}
	source.add(map[string]string{"__name__": "long"}, long, make([]float64, len(long)))
	source.add(map[string]string{"__name__": "h_bucket", "le": "1"}, long[:10], make([]float64, 10))
	source.add(map[string]string{"__name__": "h_bucket", "le": "+Inf"}, long[:10], []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 9})
	e := testEngine(t, source, "-search.maxMemoryPerQuery=1MiB")
	phis := strings.Repeat("0.1,", 200)
	for query, points := range map[string]int64{
		"(" + strings.Repeat("1,", 200) + "1)":                1000,
		"(" + strings.Repeat("time(),", 200) + "1)":           1000,
		`label_set(1` + strings.Repeat(`,"a","b"`, 100) + `)`: 1000,
		"x @ start()":                    5000,
		`count_values("v", x)`:           2000,
		`quantiles("q", ` + phis + ` x)`: 400,
		`histogram(x)`:                   2000,
		`x * on() group_left(i) label_move(x, "g", "h")`:  60,
		`histogram_quantiles("q", ` + phis + ` h_bucket)`: 400,
		`count_values_over_time("v", x[1h])`:              1000,
		`quantiles_over_time("q", ` + phis + ` x[1h])`:    400,
		"sum(long)": 100,
	} {
		_, err := e.QueryRange(context.Background(), &Request{Query: query, Start: oracleStart, End: oracleStart + (points-1)*1000, Step: 1000, NoCache: true})
		if errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), "-search.maxMemoryPerQuery") {
			t.Errorf("%.60s: %.300v", query, err)
		}
	}
	if used := e.budget.Used(); used != 0 {
		t.Errorf("%d bytes stay reserved", used)
	}
}

// TestLabelsDoNotExplode checks queries whose functions double a label again and again.
func TestLabelsDoNotExplode(t *testing.T) {
	e := testEngine(t, fleet(2, 10))
	for _, call := range [][2]string{
		{`label_join(`, `,"i","","i","i")`},
		{`label_join(`, `,"__name__","","__name__","__name__")`},
		{`label_replace(`, `,"i","$1$1","i","(.*)")`},
		{`label_transform(`, `,"i",".","xx")`},
	} {
		query := strings.Repeat(call[0], 60) + "x" + strings.Repeat(call[1], 60)
		if _, err := ask(e, query, 0, 0); errkind.Of(err) != errkind.Unprocessable {
			t.Errorf("%s: %.300v", call[1], err)
		}
	}
	huge := `label_join(x,"i",""` + strings.Repeat(`,"i"`, 3000) + ")"
	for range 2 {
		huge = `label_join(` + huge + `,"i",""` + strings.Repeat(`,"i"`, 300) + ")"
	}
	if _, err := ask(e, huge, 0, 0); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("%.300v", err)
	}
}

// Aggregates hold a series per group, however many series they read.
func TestAggregatesNeedLittleMemory(t *testing.T) {
	e := testEngine(t, fleet(20000, 5), "-search.maxMemoryPerQuery=7MiB")
	for query, want := range map[string]int{
		"sum(x)": 1, "avg(rate(x[5m])) by (g)": 10, "count by (g) (max_over_time(x[1m]))": 10, "min without (i) (x offset 1m)": 10, "max(x)": 1, "group(x)": 1, "sum2(x)": 1,
	} {
		res, err := ask(e, query, 0, 1800)
		if err != nil || len(res.Series) != want || res.SeriesFetched != 20000 {
			t.Errorf("%s: %v %v; want %d series", query, res, err, want)
		}
	}
	if _, err := ask(e, "stddev(x)", 0, 1800); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("an aggregate that needs all series at once: %v", err)
	}
}

// Aggregating in parts gives what aggregating at once gives.
func TestFoldedAggregates(t *testing.T) {
	e := testEngine(t, fleet(3000, 60))
	for _, name := range []string{"sum", "min", "max", "count", "avg", "group", "sum2"} {
		for _, by := range []string{"", " by (g)", " without (i)", " by (__name__)", " by (nope)"} {
			folded, err := ask(e, name+"(rate(x[2m]) keep_metric_names)"+by, 0, 1200)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := ask(e, name+"(rate(x[2m]) keep_metric_names or nothing)"+by, 0, 1200)
			if err != nil {
				t.Fatal(err)
			}
			comparePoints(t, name+by, pointsOf(plain), pointsOf(folded))
			if len(plain.Series) == 0 {
				t.Fatalf("%s%s gives nothing", name, by)
			}
		}
	}
}

func pointsOf(res *Result) map[string]map[int64]float64 {
	out := map[string]map[int64]float64{}
	for _, s := range res.Series {
		points := map[int64]float64{}
		for i, v := range s.Values {
			points[s.Timestamps[i]] = v
		}
		out[model.LabelsString(s.Labels)] = points
	}
	return out
}

func TestErrorsKeepTheirKind(t *testing.T) {
	e := testEngine(t, worked())
	for query, want := range map[string]errkind.Kind{
		"sum(": errkind.BadRequest, "nope(1)": errkind.BadRequest, "": errkind.BadRequest,
		"rate()": errkind.Unprocessable, "V @ NaN": errkind.Unprocessable, "label_set(b, 'le', '1')": errkind.Unprocessable,
	} {
		if _, err := ask(e, query, 0, 60); errkind.Of(err) != want {
			t.Errorf("%q: %v; want kind %v", query, err, want)
		} else if want == errkind.Unprocessable && !strings.Contains(err.Error(), fmt.Sprintf("%q", query)) {
			t.Errorf("the error does not name the query: %v", err)
		}
	}
}

func TestDeadline(t *testing.T) {
	e := testEngine(t, worked())
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	if _, err := e.Query(ctx, &Request{Query: "V", Start: oracleStart}); errkind.Of(err) != errkind.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if _, err := e.Query(ctx, &Request{Query: "V", Start: oracleStart}); errkind.Of(err) != errkind.Canceled {
		t.Errorf("after the caller went away: %v", err)
	}
}

// brokenSource fails in the middle, or cancels the query there.
type brokenSource struct {
	*memSource
	at     int
	err    error
	cancel func()
}

type brokenIterator struct {
	SeriesIterator
	s *brokenSource
	n int
}

func (s *brokenSource) Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error) {
	it, err := s.memSource.Select(ctx, q)
	return &brokenIterator{SeriesIterator: it, s: s}, err
}

func (it *brokenIterator) Next() bool {
	it.n++
	if it.n == it.s.at && it.s.cancel != nil {
		it.s.cancel()
	}
	return (it.n < it.s.at || it.s.err == nil) && it.SeriesIterator.Next()
}

func (it *brokenIterator) Err() error { return it.s.err }

func fleet(series, samples int) *memSource {
	m := newMemSource()
	times, values := make([]int64, samples), make([]float64, samples)
	for i := range series {
		for k := range times {
			times[k], values[k] = oracleStart+int64(k)*15000, float64(i+k*(1+i%7))
		}
		m.add(map[string]string{"__name__": "x", "i": fmt.Sprintf("%06d", i), "g": fmt.Sprint(i % 10)}, times, values)
	}
	return m
}

func TestSourceErrorsAndCancellation(t *testing.T) {
	m := fleet(2000, 100) // several batches, so that workers take part
	broken := errkind.New(errkind.Unavailable, "node is gone")
	_, err := ask(testEngine(t, &brokenSource{memSource: m, at: 1500, err: broken}), "sum(x)", 0, 600)
	if errkind.Of(err) != errkind.Unavailable || !errors.Is(err, broken) {
		t.Errorf("broken source: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := testEngine(t, &brokenSource{memSource: m, at: 1500, cancel: cancel})
	if _, err := e.Query(ctx, &Request{Query: "sum(x)", Start: oracleStart}); errkind.Of(err) != errkind.Canceled {
		t.Errorf("canceled while fetching: %v", err)
	}
	limited := testEngine(t, m, "-search.maxMemoryPerQuery=100KiB")
	if _, err := ask(limited, "sum by (i) (x)", 0, 600); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("memory limit inside a worker: %v", err)
	}
}

func TestEnforcedFilters(t *testing.T) {
	e := testEngine(t, fleet(20, 10))
	eq := func(name, value string) model.TagFilter {
		return model.TagFilter{Name: name, Value: value, Op: model.Equal}
	}
	for _, tc := range []struct {
		sets [][]model.TagFilter
		want string
	}{
		{nil, "{} 0:20"},
		{[][]model.TagFilter{{eq("g", "1")}}, "{} 0:2"},
		{[][]model.TagFilter{{eq("g", "1")}, {eq("g", "2"), eq("i", "000002")}}, "{} 0:3"},
		{[][]model.TagFilter{{eq("g", "none")}}, ""},
	} {
		res, err := e.Query(context.Background(), &Request{Query: "count(x)", Start: oracleStart, NoCache: true, EnforcedFilters: tc.sets})
		if err != nil || flat(res) != tc.want {
			t.Errorf("%v: %v, %v; want %s", tc.sets, res, err, tc.want)
		}
	}
}

func TestRepeatedSelectorsAreFetchedOnce(t *testing.T) {
	m := fleet(10, 10)
	e := testEngine(t, m)
	for query, want := range map[string]int{"sum(x) / count(x)": 1, "sum(x)": 1, "x - x offset 1m": 2, "sum(rate(x[5m])) / sum(rate(x[5m]))": 1} {
		m.calls = 0
		res, err := ask(e, query, 0, 60)
		if err != nil || m.calls != want || len(res.Series) == 0 {
			t.Errorf("%s: %d searches, %v; want %d", query, m.calls, err, want)
		}
	}
}

func TestRoundDigits(t *testing.T) {
	e := testEngine(t, worked())
	for digits, want := range map[int]float64{0: 3, 2: 3.14, 400: math.Pi, -1: 0} {
		res, err := e.Query(context.Background(), &Request{Query: "pi()", Start: oracleStart, RoundDigits: &digits})
		if err != nil || res.Series[0].Values[0] != want {
			t.Errorf("%d digits: %v, %v", digits, res, err)
		}
	}
}

func TestGraphiteRegexp(t *testing.T) {
	for in, want := range map[string]string{
		"a.*.c": `a\.[^.]*\.c`, "a.{b,c}d": `a\.(?:b|c)d`, "a?": "a[^.]", "x[0-9].y": `x[0-9]\.y`, "a,b": "a,b", "ü.(": `ü\.\(`, "a{b": `a\{b`,
	} {
		if got := graphiteRegexp(in); got != want {
			t.Errorf("%s: got %s; want %s", in, got, want)
		}
	}
}

// queries for properties; all are over fleet or randomFleet.
func propertyQueries() []string {
	return []string{
		"x", "rate(x[3m])", "increase(x[2m])", "sum(rate(x[3m])) by (g)", "max_over_time(x[1m])", "avg by (g) (x)", "quantile(0.3, x)",
		"changes(x[5m])", "last_over_time(x[45s])", "stddev_over_time(x[4m])", "topk(3, x)", "count_values('v', x % 3)", "x > 30", "abs(x) - x offset 1m",
		"deriv(x[3m])", "lag(x[10m])", "integrate(x[3m])", "mode_over_time(x[2m])", "sum(x) / count(x)", "x and x > 10",
	}
}

func randomFleet(rng *rand.Rand, series int) *memSource {
	m := newMemSource()
	for i := range series {
		var times []int64
		var values []float64
		t := oracleStart + rng.Int64N(30000)
		for range 20 + rng.IntN(200) {
			t += 1000 + rng.Int64N(29000)
			times, values = append(times, t), append(values, float64(rng.IntN(50)))
		}
		m.add(map[string]string{"__name__": "x", "i": fmt.Sprint(i), "g": fmt.Sprint(i % 3)}, times, values)
	}
	return m
}

func comparePoints(t *testing.T, query string, want, got map[string]map[int64]float64) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%s: %d series and %d series", query, len(want), len(got))
	}
	for name, points := range want {
		if len(points) != len(got[name]) {
			t.Fatalf("%s: %s has %d points and %d points", query, name, len(points), len(got[name]))
		}
		for ts, v := range points {
			if w, ok := got[name][ts]; !ok || !closeEnough(v, w) {
				t.Fatalf("%s: %s at %d is %v and %v", query, name, ts, v, w)
			}
		}
	}
}

// shuffled gives series in another order than that of their keys.
type shuffled struct {
	*memSource
	rng *rand.Rand
}

func (s *shuffled) Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error) {
	it, err := s.memSource.Select(ctx, q)
	if err != nil {
		return nil, err
	}
	series := it.(*memIterator).series
	s.rng.Shuffle(len(series), func(i, j int) { series[i], series[j] = series[j], series[i] })
	return it, nil
}

// Many series are evaluated by several goroutines; the answer must be that of one.
func TestBatchesKeepOrder(t *testing.T) {
	m := fleet(3000, 60)
	var answers []string
	for _, procs := range []int{1, 4, 4} {
		before := runtime.GOMAXPROCS(procs)
		res, err := ask(testEngine(t, m), "limit_offset(5000, 0, rate(x[5m]))", 0, 600)
		runtime.GOMAXPROCS(before)
		if err != nil || len(res.Series) != 3000 || res.SeriesFetched != 3000 {
			t.Fatalf("%v", err)
		}
		answers = append(answers, res.String())
	}
	if answers[0] != answers[1] || answers[1] != answers[2] {
		t.Error("answers differ with the number of workers")
	}
}

// Any text either evaluates or fails with a kind that is not a fault of ours.
func FuzzQuery(f *testing.F) {
	for i, line := range readLines(f, oracleDir+"queries.tsv") {
		if i%20 == 0 {
			f.Add(strings.Split(line, "\t")[2])
		}
	}
	e := testEngine(f, oracleSource(f), "-search.maxPointsSubqueryPerTimeseries=500", "-search.maxSamplesPerQuery=100000", "-search.maxMemoryPerQuery=16MiB")
	f.Fuzz(func(t *testing.T, query string) {
		for _, mode := range []byte("ifa") {
			switch _, err := oracleAsk(e, query, mode); errkind.Of(err) {
			case errkind.OK, errkind.BadRequest, errkind.Unprocessable:
			default:
				t.Fatalf("%q: %v", query, err)
			}
		}
	})
}

func FuzzGraphiteRegexp(f *testing.F) {
	for _, path := range []string{"a.*.{b,c}", "a[0-9].?", "[", "{,", "[^]", "\xff{*}"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if _, err := regexp.Compile(graphiteRegexp(path)); err != nil {
			t.Fatalf("%q: %s", path, err)
		}
	})
}

func BenchmarkSumRate(b *testing.B) {
	const series, samples, points = 1000, 240, 60
	e := testEngine(b, fleet(series, samples))
	r := &Request{Query: "sum(rate(x[5m]))", Start: oracleStart, End: oracleStart + (points-1)*minute, Step: minute, NoCache: true}
	b.ReportAllocs()
	for b.Loop() {
		res, err := e.QueryRange(context.Background(), r)
		if err != nil || len(res.Series) != 1 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(series*samples), "ns/sample")
}
