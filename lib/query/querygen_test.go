package query

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"vmcluster/lib/metricsql"
)

// queryGen writes random queries of MetricsQL over the series of randomFleet: x with the labels i and g.
type queryGen struct{ rng *rand.Rand }

func (g *queryGen) oneOf(list ...string) string { return list[g.rng.IntN(len(list))] }

func (g *queryGen) chance(n int) bool { return g.rng.IntN(n) == 0 }

func (g *queryGen) selector() string {
	return g.oneOf("x", "x", "x", `x{g="1"}`, `x{g=~"0|2"}`, `{__name__="x",i!="3"}`, `x{g="0" or i="4"}`, `x{nope=""}`, `{i=~"[0-4]", g!="1"}`)
}

func (g *queryGen) when() string {
	return g.oneOf("", "", "", "", "", " offset 1m", " offset -45s", " @ end()", " @ (start() + 60) offset 30s", " @ 1768370900", " offset 2i")
}

func (g *queryGen) window() string { return g.oneOf("", "[1m]", "[3m]", "[5m]", "[2i]", "[45s]") }

func (g *queryGen) rolled(depth int) string {
	if depth > 0 && g.chance(3) {
		return "(" + g.vector(depth-1) + ")" + g.oneOf("[5m:1m]", "[3m:]", "[2m:20s]", "")
	}
	return g.selector() + g.window() + g.when()
}

func (g *queryGen) rollup(depth int) string {
	q := g.rolled(depth)
	keep := g.oneOf("", "", " keep_metric_names")
	switch g.rng.IntN(9) {
	case 0:
		return "quantile_over_time(" + g.phi() + ", " + q + ")" + keep
	case 1:
		return g.oneOf("count_eq", "count_gt", "count_le", "count_ne", "share_gt", "share_le", "sum_eq", "sum_gt", "sum_le", "duration") + "_over_time(" + q + ", " + g.number() + ")" + keep
	case 2:
		return g.oneOf(`aggr_over_time(("min_over_time", "rate"), `, `aggr_over_time(("max_over_time", "count_over_time"), `, `aggr_over_time("increases_over_time", `) + q + ")"
	case 3:
		return g.oneOf("rollup", "rollup_candlestick", "rollup_rate", "rollup_delta", "rollup_increase", "rollup_deriv", "rollup_scrape_interval") + "(" + q + g.oneOf(")", `, "max")`)
	case 4:
		return g.oneOf("holt_winters("+q+", 0.4, 0.3)", "predict_linear("+q+", 60)", "hoeffding_bound_upper(0.9, "+q+")", `quantiles_over_time("phi", 0.2, 0.8, `+q+")", `count_values_over_time("v", `+q+")", "histogram_over_time("+q+")")
	}
	return g.oneOf("rate", "increase", "delta", "irate", "idelta", "deriv", "deriv_fast", "changes", "resets", "lag", "lifetime", "integrate", "scrape_interval", "increase_pure", "ideriv", "rate_over_sum",
		"increase_prometheus", "rate_prometheus", "delta_prometheus", "changes_prometheus", "timestamp", "default_rollup", "absent_over_time", "avg_over_time", "min_over_time", "max_over_time", "sum_over_time",
		"count_over_time", "stddev_over_time", "stdvar_over_time", "last_over_time", "first_over_time", "median_over_time", "mad_over_time", "mode_over_time", "range_over_time", "sum2_over_time", "geomean_over_time",
		"distinct_over_time", "ascent_over_time", "descent_over_time", "increases_over_time", "decreases_over_time", "tmin_over_time", "tmax_over_time", "tfirst_over_time", "tlast_over_time",
		"tlast_change_over_time", "zscore_over_time", "outlier_iqr_over_time", "stale_samples_over_time", "present_over_time") + "(" + q + ")" + keep
}

func (g *queryGen) phi() string { return g.oneOf("0", "0.3", "0.5", "0.9", "1", "-1", "2") }

func (g *queryGen) number() string {
	return g.oneOf("0", "1", "7", "20", "2.5", "1Ki", "5m", "NaN", "Inf")
}

func (g *queryGen) transform(depth int) string {
	v := g.vector(depth - 1)
	switch g.rng.IntN(7) {
	case 0:
		return g.oneOf("clamp_min", "clamp_max", "round", "bitmap_and", "smooth_exponential") + "(" + v + ", 3)"
	case 1:
		return g.oneOf("range_quantile(0.5, ", "range_trim_spikes(0.2, ", "range_trim_outliers(2, ", "range_trim_zscore(1, ", "limit_offset(3, 1, ", "buckets_limit(2, ") + v + ")"
	case 2:
		return g.oneOf("range_", "running_") + g.oneOf("avg", "min", "max", "sum") + "(" + v + ")"
	case 3:
		return g.oneOf("label_set("+v+`, "n", "v")`, "label_del("+v+`, "g")`, "label_keep("+v+`, "g", "i")`, "label_replace("+v+`, "n", "$1", "g", "(.+)")`, "label_join("+v+`, "n", "-", "g", "i")`, "label_move("+v+`, "g", "n")`,
			"label_copy("+v+`, "i", "n")`, "label_value("+v+`, "i")`, "alias("+v+`, "renamed")`, "label_match("+v+`, "i", "[0-3]")`, "label_transform("+v+`, "i", "[02]", "even")`, "drop_common_labels("+v+")")
	case 4:
		return g.oneOf("sort", "sort_desc", "scalar", "vector", "absent", "interpolate", "keep_last_value", "keep_next_value", "remove_resets", "drop_empty_series", "range_first", "range_last", "range_stddev", "range_linear_regression",
			"range_normalize", "range_zscore", "range_mad", "range_median") + "(" + v + ")"
	case 5:
		return g.oneOf("union("+v+", "+g.vector(depth-1)+")", "time()", "step()", "end()", "pi()", "("+v+")")
	}
	return g.oneOf("abs", "ceil", "floor", "exp", "ln", "sqrt", "sgn", "cos", "deg", "log2", "hour", "day_of_week") + "(" + v + ")"
}

func (g *queryGen) aggregate(depth int) string {
	v := g.vector(depth - 1)
	by := g.oneOf("", " by (g)", " by (i)", " without (i)", " by (nope)", " by (g, __name__)", " by (g) limit 2")
	switch g.rng.IntN(5) {
	case 0:
		return g.oneOf("topk", "bottomk", "topk_avg", "bottomk_last", "topk_max", "limitk", "outliersk", "outliers_mad") + "(2, " + v + ")" + by
	case 1:
		return g.oneOf("quantile(0.4, "+v+")", `quantiles("phi", 0.1, 0.9, `+v+")", `count_values("v", `+v+")") + by
	}
	return g.oneOf("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "sum2", "geomean", "median", "mad", "mode", "distinct", "any", "share", "zscore", "histogram") + "(" + v + ")" + by
}

func (g *queryGen) binary(depth int) string {
	l, r := g.vector(depth-1), g.vector(depth-1)
	match := g.oneOf("", "", "", " on (i)", " on (i, g)", " ignoring (i)", " on (g) group_left ()", " on (g) group_right (i)", " on (i) group_left (*) prefix \"p_\"")
	switch g.rng.IntN(5) {
	case 0:
		return "(" + l + ") " + g.oneOf("and", "or", "unless") + g.oneOf("", " on (g)", " ignoring (i)") + " (" + r + ")"
	case 1:
		return "(" + l + ") " + g.oneOf("default", "if", "ifnot") + " (" + r + ")"
	case 2:
		return "(" + l + ") " + g.oneOf("==", "!=", "<", ">", "<=", ">=") + g.oneOf("", " bool") + match + " (" + r + ")"
	case 3:
		return g.number() + " " + g.oneOf("+", "-", "*", "/", "%", "^", "<", ">", "==", "default", "or") + " (" + r + ")"
	}
	return "((" + l + ") " + g.oneOf("+", "-", "*", "/", "%", "atan2") + match + g.oneOf("", "", " fill(1)") + " (" + r + "))" + g.oneOf("", "", " keep_metric_names")
}

func (g *queryGen) vector(depth int) string {
	if depth <= 0 {
		return g.selector() + g.when()
	}
	switch g.rng.IntN(9) {
	case 0, 1, 2:
		return g.rollup(depth - 1)
	case 3, 4:
		return g.transform(depth)
	case 5, 6:
		return g.aggregate(depth)
	case 7:
		return g.binary(depth)
	}
	return g.selector() + g.window() + g.when()
}

func (g *queryGen) query() string { return g.vector(1 + g.rng.IntN(3)) }

// outcome evaluates a query; an error is an outcome, too.
func outcome(e *Engine, query string, start, end, step int64) (*Result, string) {
	res, err := e.QueryRange(context.Background(), &Request{Query: query, Start: start, End: end, Step: step, NoCache: true})
	if err != nil {
		text := err.Error()
		return &Result{}, text[strings.LastIndex(text, "ms: ")+1:]
	}
	return res, ""
}

// TestPropertyTexts checks that the same query twice, its canonical text and its pretty text give the same bits. The order of series
// changes rounding only.
func TestPropertyTexts(t *testing.T) {
	failed, points, reordered := 0, 0, 0
	rounds := eachRound(t, 12, func(rng *rand.Rand) {
		g := &queryGen{rng: rng}
		m := randomFleet(rng, 7+rng.IntN(60))
		e, mixed := testEngine(t, m), testEngine(t, &shuffled{memSource: m, rng: rng})
		for range 40 {
			q := g.query()
			step := 5000 + rng.Int64N(60000)
			start := oracleStart + rng.Int64N(600_000)
			end := start + rng.Int64N(12)*step
			want, failure := outcome(e, q, start, end, step)
			if failure != "" {
				failed++
			}
			for _, s := range want.Series {
				points += len(s.Values)
			}
			expr, err := metricsql.Parse(q)
			if err != nil {
				t.Fatalf("%s: %s", q, err)
			}
			pretty, _ := metricsql.Prettify(q)
			for _, text := range []string{q, metricsql.String(expr), pretty} {
				if got, err := outcome(e, text, start, end, step); !sameBits(got, want) || (err == "") != (failure == "") {
					t.Errorf("%s and %s from %d to %d step %d differ:\n%s%s\n%s%s", q, text, start, end, step, want, failure, got, err)
				}
			}
			if choosesByOrder(expr) || failure != "" {
				continue
			}
			reordered++
			if got, err := outcome(mixed, q, start, end, step); err != "" {
				t.Errorf("%s with series in another order: %s", q, err)
			} else if diff := nearly(pointsOf(want), pointsOf(got)); diff != "" {
				t.Errorf("%s with series in another order, from %d to %d step %d: %s", q, start, end, step, diff)
			}
		}
	})
	t.Logf("%d points; %d queries are errors, %d were asked of series in another order", points, failed, reordered)
	if rounds > 1 && (points < 800*rounds || failed > 15*rounds || reordered < 4*rounds) {
		t.Errorf("%d points, %d errors, %d other orders: the queries test little", points, failed, reordered)
	}
}

func nearly(want, got map[string]map[int64]float64) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%d series and %d series", len(want), len(got))
	}
	for name, points := range want {
		if len(points) != len(got[name]) {
			return fmt.Sprintf("%s has %d points and %d points", name, len(points), len(got[name]))
		}
		for at, v := range points {
			if w, ok := got[name][at]; !ok || !closeEnough(v, w) && math.Abs(v-w) > 1e-6 {
				return fmt.Sprintf("%s is %v and %v at %d", name, v, w, at)
			}
		}
	}
	return ""
}
