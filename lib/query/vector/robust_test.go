package vector

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

func transformNames() []string {
	return strings.Fields(
		"abs absent acos acosh asin asinh atan atanh ceil cos cosh deg drop_empty_series exp floor histogram_avg " +
			"histogram_stddev histogram_stdvar interpolate keep_last_value keep_next_value ln log10 log2 prometheus_buckets rad " +
			"remove_resets scalar sgn sin sinh sort sort_desc sqrt tan tanh vector end now pi start step time day_of_month " +
			"day_of_week day_of_year days_in_month hour minute month year rand rand_exponential rand_normal bitmap_and bitmap_or " +
			"bitmap_xor clamp_max clamp_min smooth_exponential clamp round buckets_limit histogram_fraction limit_offset " +
			"histogram_quantile histogram_share histogram_quantiles timezone_offset union range_avg range_first range_last " +
			"range_linear_regression range_mad range_max range_median range_min range_stddev range_stdvar range_sum range_zscore " +
			"running_avg running_max running_min running_sum range_normalize range_quantile range_trim_outliers range_trim_spikes " +
			"range_trim_zscore alias label_value drop_common_labels label_copy label_move label_set label_del label_keep " +
			"label_graphite_group label_join label_lowercase label_uppercase sort_by_label sort_by_label_desc " +
			"sort_by_label_numeric sort_by_label_numeric_desc label_map label_match label_mismatch label_replace label_transform " +
			"labels_equal")
}

func aggregateNames() []string {
	return strings.Fields(
		"any avg count distinct geomean group histogram mad max median min mode share stddev stdvar sum sum2 zscore " +
			"outliers_iqr bottomk limitk outliers_mad outliersk quantile topk bottomk_avg bottomk_last bottomk_max bottomk_median " +
			"bottomk_min topk_avg topk_last topk_max topk_median topk_min count_values quantiles")
}

func randomSeries(r *rand.Rand, points int) []*Series {
	var series []*Series
	for range r.IntN(5) {
		s := ser(fmt.Sprintf("m%d{a=%d,le=%d,vmrange=%d...%d}", r.IntN(2), r.IntN(3), r.IntN(4), r.IntN(2), 2+r.IntN(2)), constant(0, points)...)
		if r.IntN(2) == 0 {
			setLabel(s, vmrangeLabel, "")
		}
		if r.IntN(4) == 0 {
			s = Scalar(s.Values)
		}
		for i := range s.Values {
			s.Values[i] = []float64{nan, 0, -1, 1, 2.5, 1e300, math.Inf(1), math.Inf(-1), r.NormFloat64()}[r.IntN(9)]
		}
		series = append(series, s)
	}
	return series
}

func randomArgs(r *rand.Rand, points int) []Arg {
	var args []Arg
	onlyStrings := 0
	if r.IntN(2) == 0 { // often a set of series followed by strings
		args = append(args, set(randomSeries(r, points)...))
		onlyStrings = 2
	}
	for range r.IntN(6) {
		switch kind := r.IntN(3); max(kind, onlyStrings) {
		case 0:
			args = append(args, set(randomSeries(r, points)...))
		case 1:
			args = append(args, num([]float64{nan, 0, -1, 1, 2.5, 1e300, math.Inf(1)}[r.IntN(7)], points))
		default:
			args = append(args, str([]string{"a", "le", "", "x=y", "1", "__name__", "(.)"}[r.IntN(7)]))
		}
	}
	return args
}

// TestAnyArgumentsAreSafe calls everything with arguments which mostly make no
// sense: the answer is series of the right length, or an error of kind Unprocessable.
func TestAnyArgumentsAreSafe(t *testing.T) {
	seed := uint64(rand.Uint32())
	r := rand.New(rand.NewPCG(seed, 2))
	check := func(what string, points int, got []*Series, err error) {
		t.Helper()
		if err != nil && errkind.Of(err) != errkind.Unprocessable {
			t.Fatalf("seed %d: %s: kind %v of %v", seed, what, errkind.Of(err), err)
		}
		for _, s := range got {
			if len(s.Values) != points {
				t.Fatalf("seed %d: %s: %d points; want %d", seed, what, len(s.Values), points)
			}
			for i := 1; i < len(s.Labels); i++ {
				if s.Labels[i-1].Name >= s.Labels[i].Name {
					t.Fatalf("seed %d: %s: labels %v are not in order", seed, what, s.Labels)
				}
			}
		}
	}
	answered := map[string]bool{}
	for range 300 {
		points := 1 + r.IntN(6)
		for _, name := range transformNames() {
			got, err := Transform(name, randomArgs(r, points), gridOf(points), Options{KeepMetricNames: r.IntN(2) == 0})
			check(name, points, got, err)
			answered[name] = answered[name] || err == nil
		}
		for _, name := range aggregateNames() {
			o := AggregateOptions{Name: name, Grouping: GroupOp(r.IntN(3)), Labels: []string{"a", "__name__"}[:r.IntN(3)], Limit: r.IntN(3)}
			got, err := Aggregate(o, randomArgs(r, points))
			check(name, points, got, err)
			answered[name] = answered[name] || err == nil
		}
		for _, op := range strings.Fields("+ - * / % ^ atan2 == != < > <= >= and or unless if ifnot default") {
			fill := 1.5
			o := BinaryOptions{
				Op: op, Bool: r.IntN(2) == 0, Match: MatchOp(r.IntN(3)), MatchLabels: []string{"a", "le"}[:r.IntN(3)], KeepMetricNames: r.IntN(2) == 0,
				SwapSides: r.IntN(4) == 0 && comparisonFunction(op) != nil, RightFiltered: r.IntN(2) == 0, RightIsList: r.IntN(2) == 0,
			}
			if o.Match != MatchAll {
				o.Join, o.JoinLabels = JoinOp(r.IntN(3)), [][]string{nil, {"*"}, {"le", "nope"}}[r.IntN(3)]
			}
			if r.IntN(2) == 0 {
				o.FillLeft = &fill
			}
			if r.IntN(2) == 0 {
				o.FillRight = &fill
			}
			got, err := Binary(o, randomSeries(r, points), randomSeries(r, points))
			check(fmt.Sprintf("%+v", o), points, got, err)
			answered[op] = answered[op] || err == nil
		}
	}
	var missed []string
	for name, ok := range answered {
		if !ok {
			missed = append(missed, name)
		}
	}
	if len(missed) > 8 { // a few want arguments which chance seldom gives
		t.Errorf("seed %d: these never succeeded, so they were hardly tried: %v", seed, missed)
	}
}
