package vector

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

var nan = math.NaN()

// ser makes a series from text such as m{a=1,b=2} and points.
func ser(text string, values ...float64) *Series {
	name, rest, _ := strings.Cut(text, "{")
	s := &Series{Name: name, Values: slices.Clone(values)}
	for pair := range strings.SplitSeq(strings.TrimSuffix(rest, "}"), ",") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			setLabel(s, k, v)
		}
	}
	return s
}

func set(series ...*Series) Arg { return Arg{Series: series} }

func num(v float64, points int) Arg { return set(Scalar(constant(v, points))) }

func str(s string) Arg { return Arg{Str: s, IsString: true} }

// render writes series as name{a=1} v v v, in their order, rounded to 9 digits.
func render(series []*Series) string {
	var lines []string
	for _, s := range series {
		var labels, values []string
		for _, l := range s.Labels {
			labels = append(labels, l.Name+"="+l.Value)
		}
		for _, v := range s.Values {
			values = append(values, fmt.Sprintf("%.9g", v))
		}
		lines = append(lines, s.Name+"{"+strings.Join(labels, ",")+"} "+strings.Join(values, " "))
	}
	return strings.Join(lines, "\n")
}

func checkSeries(t *testing.T, what string, got []*Series, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %s", what, err)
		return
	}
	if text := render(got); text != strings.Join(want, "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", what, text, strings.Join(want, "\n"))
	}
}

func gridOf(points int) Grid { return Grid{Start: 0, End: int64(points-1) * 60_000, Step: 60_000} }

func TestSeriesTransforms(t *testing.T) {
	g := []float64{1, 2, 2, 2, nan, nan, nan, nan, 3, 4}
	v := []float64{1, 2, 4, 8, 16, 32}
	for _, tc := range []struct {
		name   string
		values []float64
		arg    float64 // given if it is not NaN
		first  bool    // the scalar comes first
		want   string
	}{
		{"running_avg", g, nan, false, "{} 1 1.5 1.66666667 1.75 1.75 1.75 1.75 1.75 1.88888889 2.1"},
		{"running_sum", []float64{nan, 1, nan, 2}, nan, false, "{} NaN 1 1 3"},
		{"range_sum", []float64{nan, 1, nan, 2}, nan, false, "{} 3 3 3 3"},
		{"range_max", g, nan, false, "{} 4 4 4 4 4 4 4 4 4 4"},
		{"interpolate", g, nan, false, "m{} 1 2 2 2 2.2 2.4 2.6 2.8 3 4"},
		{"interpolate", []float64{nan, 1, nan, 3, nan}, nan, false, "m{} NaN 1 2 3 NaN"},
		{"keep_last_value", []float64{nan, 1, nan, 3, nan}, nan, false, "m{} NaN 1 1 3 3"},
		{"keep_next_value", []float64{nan, 1, nan, 3, nan}, nan, false, "m{} 1 1 3 3 NaN"},
		{"sgn", []float64{-2, nan, 5}, nan, false, "{} -1 0 1"},
		{"remove_resets", []float64{10, 40, 1000, 990, 860, 900, 100, 3, 5}, nan, false, "m{} 10 40 1000 1000 1860 1900 2000 2003 2005"},
		{"smooth_exponential", v, 0.5, false, "m{} 1 1.5 2.75 5.375 10.6875 21.34375"},
		{"range_trim_spikes", v, 0.4, true, "m{} NaN 2 4 8 16 NaN"},
		{"range_trim_zscore", []float64{1, 1, 1, 1, 9}, 1.5, true, "m{} 1 1 1 1 NaN"},
		{"range_trim_outliers", []float64{1, 2, 3, 4, 90}, 3, true, "m{} 1 2 3 4 NaN"},
		{"range_quantile", []float64{1, 2, nan, 4, 8}, 0.5, true, "m{} 3 3 3 3 3"},
		{"range_median", []float64{3, nan, 1, 2}, nan, false, "m{} 2 2 2 2"},
		{"range_mad", []float64{1, 1, 2, 2, 9}, nan, false, "m{} 1 1 1 1 1"},
		{"range_stdvar", []float64{1, nan, 3}, nan, false, "m{} 1 1 1"},
		{"range_zscore", []float64{1, nan, 3}, nan, false, "m{} -1 NaN 1"},
		{"range_normalize", []float64{2, nan, 4, 3}, nan, false, "m{} 0 NaN 1 0.5"},
		{"range_first", []float64{nan, 7, 8}, nan, false, "m{} 7 7 7"},
		{"range_last", []float64{nan, 7, nan}, nan, false, "m{} 7 7 7"},
		{"range_linear_regression", []float64{1, nan, 3}, nan, false, "m{} 1 2 3"},
		{"round", []float64{2.5, -2.5, 2.4}, nan, false, "m{} 3 -3 2"},
		{"round", []float64{0.35, 7.77}, 0.1, false, "m{} 0.3 7.8"},
		{"round", []float64{1}, 0, false, "m{} NaN"},
		{"clamp_max", []float64{1, 5, nan}, 3, false, "m{} 1 3 NaN"},
		{"clamp_min", []float64{1, 5, nan}, 3, false, "m{} 3 5 NaN"},
		{"bitmap_and", []float64{13, nan}, 6, false, "{} 4 NaN"},
		{"bitmap_xor", []float64{13}, 6, false, "{} 11"},
		{"hour", []float64{3600*5 + 59.9, nan}, nan, false, "{} 5 NaN"},
		{"days_in_month", []float64{31 * 86400}, nan, false, "{} 28"},
		{"day_of_week", []float64{0}, nan, false, "{} 4"},
		{"day_of_year", []float64{86400 * 364.5}, nan, false, "{} 365"},
		{"deg", []float64{math.Pi}, nan, false, "{} 180"},
	} {
		args := []Arg{set(ser("m{}", tc.values...))}
		if !math.IsNaN(tc.arg) || tc.name == "round" && tc.arg == 0 {
			args = append(args, num(tc.arg, len(tc.values)))
		}
		if tc.first {
			slices.Reverse(args)
		}
		got, err := Transform(tc.name, args, gridOf(len(tc.values)), Options{})
		checkSeries(t, fmt.Sprintf("%s %v", tc.name, tc.values), got, err, tc.want)
	}
}

func TestTimeFunctions(t *testing.T) {
	g := Grid{Start: 1768373399_500, End: 1768373519_500, Step: 60_000}
	for name, want := range map[string]string{
		"time":  "{} 1.7683734e+09 1.76837346e+09 1.76837352e+09",
		"start": "{} 1.7683734e+09 1.7683734e+09 1.7683734e+09",
		"step":  "{} 60 60 60",
		"now":   "{} 1.5 1.5 1.5",
		"hour":  "{} 6 6 6",
		"year":  "{} 2026 2026 2026",
	} {
		got, err := Transform(name, nil, g, Options{Now: 1500})
		checkSeries(t, name, got, err, want)
	}
	got, err := Transform("timezone_offset", []Arg{str("")}, g, Options{})
	checkSeries(t, "timezone_offset", got, err, "{} 0 0 0")
	a, _ := Transform("rand", []Arg{num(5, 3)}, g, Options{})
	b, _ := Transform("rand", []Arg{num(5, 3)}, g, Options{})
	if render(a) != render(b) {
		t.Errorf("rand(5) gives %s and then %s", render(a), render(b))
	}
}

func TestLabelFunctions(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"label_set", []string{"a", "x", "b", "", "c", "3"}, "m{a=x,c=3} 1"},
		{"label_set", []string{"__name__", "n"}, "n{a=A1,b=2} 1"},
		{"label_del", []string{"a", "__name__"}, "{b=2} 1"},
		{"label_keep", []string{"a"}, "{a=A1} 1"},
		{"label_keep", []string{"a", "__name__"}, "m{a=A1} 1"},
		{"label_copy", []string{"a", "d", "nope", "b"}, "m{a=A1,b=2,d=A1} 1"},
		{"label_move", []string{"a", "d", "b", "a"}, "m{a=2,d=A1} 1"},
		{"label_move", []string{"a", "a"}, "m{a=A1,b=2} 1"},
		{"label_join", []string{"j", "-", "a", "b", "__name__"}, "m{a=A1,b=2,j=A1-2-m} 1"},
		{"label_join", []string{"a", "", "nope"}, "m{b=2} 1"},
		{"label_map", []string{"b", "2", "two", "", "none"}, "m{a=A1,b=two} 1"},
		{"label_map", []string{"c", "", "none"}, "m{a=A1,b=2,c=none} 1"},
		{"label_lowercase", []string{"a"}, "m{a=a1,b=2} 1"},
		{"label_replace", []string{"c", "${1}-$2", "a", "(.)(.)"}, "m{a=A1,b=2,c=A-1} 1"},
		{"label_replace", []string{"c", "$1z", "a", "(.)(.)"}, "m{a=A1,b=2} 1"},
		{"label_replace", []string{"c", "x", "a", "A"}, "m{a=A1,b=2} 1"},
		{"label_transform", []string{"a", "[A-Z]", "<$0>"}, "m{a=<A>1,b=2} 1"},
		{"label_match", []string{"a", "A."}, "m{a=A1,b=2} 1"},
		{"label_match", []string{"a", "A"}, ""},
		{"label_mismatch", []string{"nope", ".+"}, "m{a=A1,b=2} 1"},
		{"labels_equal", []string{"a", "b"}, ""},
		{"label_value", []string{"b"}, "{a=A1,b=2} 2"},
		{"label_value", []string{"a"}, "{a=A1,b=2} NaN"},
		{"alias", []string{"n"}, "n{a=A1,b=2} 1"},
	} {
		args := []Arg{set(ser("m{a=A1,b=2}", 1))}
		for _, s := range tc.args {
			args = append(args, str(s))
		}
		got, err := Transform(tc.name, args, gridOf(1), Options{})
		checkSeries(t, fmt.Sprint(tc.name, tc.args), got, err, tc.want)
	}
	got, err := Transform("drop_common_labels", []Arg{set(ser("m{a=1,b=2}", 1)), set(ser("m{a=1,b=3}", 1))}, gridOf(1), Options{})
	checkSeries(t, "drop_common_labels", got, err, "{b=2} 1", "{b=3} 1")
	got, err = Transform("label_graphite_group", []Arg{set(ser("web.n1.mem{}", 1)), num(1, 1), num(9, 1)}, gridOf(1), Options{})
	checkSeries(t, "label_graphite_group", got, err, "n1.{} 1")
}

func TestLabelFunctionsLeaveSharedLabelsAlone(t *testing.T) {
	shared := []model.Label{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}
	for _, name := range []string{"label_del", "label_set", "label_move", "label_keep"} {
		s := &Series{Labels: shared, Values: []float64{1}}
		if _, err := Transform(name, []Arg{set(s), str("a"), str("b")}, gridOf(1), Options{}); err != nil {
			t.Fatal(err)
		}
		if model.LabelsString(shared) != `{a="1",b="2"}` {
			t.Fatalf("%s changed the labels of others: %v", name, shared)
		}
	}
}

func TestSetsAndOrder(t *testing.T) {
	g := gridOf(2)
	got, err := Transform("", []Arg{set(ser("a{}", 1, 1)), set(ser("a{}", 2, 2), ser("b{}", 3, 3))}, g, Options{})
	checkSeries(t, "union", got, err, "a{} 1 1", "b{} 3 3")
	got, err = Transform("union", []Arg{num(1, 2), num(1, 2)}, g, Options{})
	checkSeries(t, "union of scalars", got, err, "{} 1 1", "{} 1 1")
	values := func() Arg { return set(ser("a{}", 5, 1), ser("b{}", 3, nan), ser("c{}", 9, 2), ser("d{}", nan, nan)) }
	got, err = Transform("sort", []Arg{values()}, g, Options{})
	checkSeries(t, "sort", got, err, "d{} NaN NaN", "b{} 3 NaN", "a{} 5 1", "c{} 9 2")
	got, err = Transform("sort_desc", []Arg{values()}, g, Options{})
	checkSeries(t, "sort_desc", got, err, "d{} NaN NaN", "b{} 3 NaN", "c{} 9 2", "a{} 5 1")
	got, err = Transform("limit_offset", []Arg{num(2, 2), num(1, 2), values()}, g, Options{})
	checkSeries(t, "limit_offset", got, err, "b{} 3 NaN", "c{} 9 2")
	got, err = Transform("drop_empty_series", []Arg{set(ser("d{}", nan, nan))}, g, Options{})
	checkSeries(t, "drop_empty_series", got, err, "")
	got, err = Transform("absent", []Arg{values()}, g, Options{})
	checkSeries(t, "absent", got, err, "{} NaN NaN")
	got, err = Transform("absent", []Arg{set()}, g, Options{AbsentLabels: []model.Label{{Name: "a", Value: "1"}}})
	checkSeries(t, "absent of nothing", got, err, "{a=1} 1 1")
	for text, want := range map[string]string{"12.5": "{} 12.5 12.5", "x": "{} NaN NaN", "0x10": "{} NaN NaN", "Inf": "{} +Inf +Inf"} {
		got, err = Transform("scalar", []Arg{str(text)}, g, Options{})
		checkSeries(t, "scalar "+text, got, err, want)
	}
	got, err = Transform("scalar", []Arg{values()}, g, Options{})
	checkSeries(t, "scalar of many", got, err, "{} NaN NaN")
	labels := []*Series{ser("m{v=v10}", 1), ser("m{v=v2.9}", 1), ser("m{v=+Inf}", 1), ser("m{v=7}", 1), ser("m{v=-2}", 1)}
	got, err = Transform("sort_by_label_numeric", []Arg{set(labels...), str("v")}, gridOf(1), Options{})
	checkSeries(t, "sort_by_label_numeric", got, err, "m{v=-2} 1", "m{v=7} 1", "m{v=+Inf} 1", "m{v=v2.9} 1", "m{v=v10} 1")
}

func TestHistograms(t *testing.T) {
	buckets := func() Arg { return set(ser("b{le=+Inf}", 4), ser("b{le=1}", 1), ser("b{le=2}", 3)) }
	one := gridOf(1)
	for _, tc := range []struct {
		name string
		arg  float64
		want []string
	}{
		{"histogram_quantile", 0.5, []string{"{} 1.5", "{b=lower} 1", "{b=upper} 2"}},
		{"histogram_quantile", 0.9, []string{"{} 2", "{b=lower} 2", "{b=upper} +Inf"}},
		{"histogram_quantile", 1.5, []string{"{} +Inf", "{b=lower} 4", "{b=upper} +Inf"}},
		{"histogram_quantile", -1, []string{"{} -Inf", "{b=lower} -Inf", "{b=upper} 1"}},
		{"histogram_share", 1.5, []string{"{} 0.5", "{b=lower} 0.25", "{b=upper} 0.75"}},
		{"histogram_share", 5, []string{"{} 0.75", "{b=lower} 0.75", "{b=upper} 1"}},
		{"histogram_share", -1, []string{"{} 0", "{b=lower} 0", "{b=upper} 0"}},
	} {
		got, err := Transform(tc.name, []Arg{num(tc.arg, 1), buckets(), str("b")}, one, Options{})
		checkSeries(t, fmt.Sprint(tc.name, tc.arg), got, err, tc.want...)
	}
	got, err := Transform("histogram_avg", []Arg{buckets()}, one, Options{})
	checkSeries(t, "histogram_avg", got, err, "{} 1.16666667")
	got, err = Transform("histogram_stdvar", []Arg{buckets()}, one, Options{})
	checkSeries(t, "histogram_stdvar", got, err, "{} 0.222222222")
	got, err = Transform("histogram_fraction", []Arg{num(1, 1), num(2, 1), buckets()}, one, Options{})
	checkSeries(t, "histogram_fraction", got, err, "{} 0.5")
	got, err = Transform("histogram_quantiles", []Arg{str("phi"), num(0.5, 1), num(0.25, 1), buckets()}, one, Options{})
	checkSeries(t, "histogram_quantiles", got, err, "{phi=0.5} 1.5", "{phi=0.25} 1")
	negative := set(ser("b{le=-1}", 1), ser("b{le=0}", 3), ser("b{le=3}", 7), ser("b{le=+Inf}", 7))
	got, err = Transform("histogram_quantile", []Arg{num(0.42, 1), negative}, one, Options{})
	checkSeries(t, "negative bounds", got, err, "{} -0.03")
	got, err = Transform("prometheus_buckets", []Arg{set(ser("b{vmrange=3...4}", 2), ser("b{vmrange=0...1}", 5), ser("b{vmrange=bad}", 1), ser("b{}", 1))}, one, Options{})
	checkSeries(t, "prometheus_buckets", got, err, "b{le=1} 5", "b{le=3} 5", "b{le=4} 7", "b{le=+Inf} 7")
	many := set(ser("b{le=1}", 1), ser("b{le=2}", 2), ser("b{le=3}", 12), ser("b{le=4}", 20), ser("b{le=+Inf}", 20))
	got, err = Transform("buckets_limit", []Arg{num(1, 1), many}, one, Options{})
	checkSeries(t, "buckets_limit", got, err, "b{le=1} 1", "b{le=3} 12", "b{le=4} 20")
}

func TestVmranges(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0...1.000e-09", 1e-9: "0...1.000e-09", 1: "8.799e-01...1.000e+00", 1.1: "1.000e+00...1.136e+00", 1e18: "8.799e+17...1.000e+18",
		2e18: "1.000e+18...+Inf", -1: "",
	} {
		if got := vmrangeOf(v); got != want {
			t.Errorf("vmrangeOf(%g) = %q; want %q", v, got, want)
		}
	}
}

func TestAggregates(t *testing.T) {
	series := func() Arg {
		return set(ser("m{a=1,g=x}", 1, nan), ser("m{a=2,g=x}", 3, nan), ser("m{a=3,g=x}", 3, nan), ser("m{a=4,g=y}", 5, 2), ser("m{a=5,g=y}", nan, nan))
	}
	for _, tc := range []struct {
		name string
		args []Arg
		want []string
	}{
		{"sum", nil, []string{"{g=x} 7 NaN", "{g=y} 5 2"}},
		{"sum2", nil, []string{"{g=x} 19 NaN", "{g=y} 25 4"}},
		{"count", nil, []string{"{g=x} 3 NaN", "{g=y} 1 1"}},
		{"avg", nil, []string{"{g=x} 2.33333333 NaN", "{g=y} 5 2"}},
		{"min", nil, []string{"{g=x} 1 NaN", "{g=y} 5 2"}},
		{"max", nil, []string{"{g=x} 3 NaN", "{g=y} 5 2"}},
		{"group", nil, []string{"{g=x} 1 NaN", "{g=y} 1 1"}},
		{"geomean", nil, []string{"{g=x} 2.08008382 NaN", "{g=y} 5 2"}},
		{"distinct", nil, []string{"{g=x} 2 NaN", "{g=y} 1 1"}},
		{"median", nil, []string{"{g=x} 3 NaN", "{g=y} 5 2"}},
		{"mad", nil, []string{"{g=x} 0 NaN", "{g=y} 0 0"}},
		{"mode", nil, []string{"{g=x} 3 NaN", "{g=y} 5 2"}},
		{"stdvar", nil, []string{"{g=x} 0.888888889 NaN", "{g=y} 0 0"}},
		{"any", nil, []string{"m{a=1,g=x} 1 NaN", "m{a=4,g=y} 5 2"}},
		{"share", nil, []string{"m{a=1,g=x} 0.142857143 NaN", "m{a=2,g=x} 0.428571429 NaN", "m{a=3,g=x} 0.428571429 NaN", "m{a=4,g=y} 1 1"}},
		{"quantile", []Arg{num(0.25, 2)}, []string{"{g=x} 2 NaN", "{g=y} 5 2"}},
		{"quantiles", []Arg{str("p"), num(0, 2), num(1, 2)}, []string{"{g=x,p=0} 1 NaN", "{g=x,p=1} 3 NaN", "{g=y,p=0} 5 2", "{g=y,p=1} 5 2"}},
		{"count_values", []Arg{str("v")}, []string{"{g=x,v=1} 1 NaN", "{g=x,v=3} 2 NaN", "{g=y,v=5} 1 NaN", "{g=y,v=2} NaN 1"}},
		{"topk", []Arg{num(1, 2)}, []string{"m{a=2,g=x} 3 NaN", "m{a=4,g=y} 5 2"}},
		{"bottomk", []Arg{num(1.9, 2)}, []string{"m{a=1,g=x} 1 NaN", "m{a=4,g=y} 5 2"}},
		{"topk", []Arg{num(-1, 2)}, []string{""}},
		{"outliersk", []Arg{num(1, 2)}, []string{"m{a=1,g=x} 1 NaN", "m{a=4,g=y} 5 2"}},
		{"outliers_mad", []Arg{num(1, 2)}, []string{"m{a=1,g=x} 1 NaN"}},
	} {
		arg := series()
		got, err := Aggregate(AggregateOptions{Name: tc.name, Grouping: GroupBy, Labels: []string{"g"}}, append(tc.args, arg))
		checkSeries(t, tc.name, got, err, tc.want...)
	}
	got, err := Aggregate(AggregateOptions{Name: "sum", Grouping: GroupWithout, Labels: []string{"a"}}, []Arg{series(), series()})
	checkSeries(t, "sum without of two arguments", got, err, "{g=x} 14 NaN", "{g=y} 10 4")
	got, err = Aggregate(AggregateOptions{Name: "count", Grouping: GroupBy, Labels: []string{"__name__", "nope"}}, []Arg{series()})
	checkSeries(t, "count by name", got, err, "m{} 4 1")
	got, err = Aggregate(AggregateOptions{Name: "sum", Grouping: GroupBy, Labels: []string{"g"}, Limit: 1}, []Arg{series()})
	checkSeries(t, "limit", got, err, "{g=x} 7 NaN")
	got, err = Aggregate(AggregateOptions{Name: "topk_max"}, []Arg{num(1, 1), set(ser("b{le=1}", 1), ser("b{le=2}", 3), ser("b{le=+Inf}", 4)), str("rest")})
	checkSeries(t, "topk_max with rest", got, err, "{rest=rest} 4", "b{le=+Inf} 4")
	got, err = Aggregate(AggregateOptions{Name: "histogram"}, []Arg{set(ser("a{}", 1), ser("b{}", 1.1), ser("c{}", 0))})
	checkSeries(t, "histogram", got, err, "{le=1.000e-09} 1", "{le=8.799e-01} 1", "{le=1.000e+00} 2", "{le=1.136e+00} 3", "{le=+Inf} 3")
	got, err = Aggregate(AggregateOptions{Name: "outliers_iqr"}, []Arg{set(ser("a{}", 1), ser("b{}", 2), ser("c{}", 3), ser("d{}", 99))})
	checkSeries(t, "outliers_iqr", got, err, "d{} 99")
}

func TestErrorsAreUnprocessable(t *testing.T) {
	two := set(ser("a{}", 1), ser("b{}", 2))
	for what, f := range map[string]func() ([]*Series, error){
		"too few":      func() ([]*Series, error) { return Transform("round", nil, gridOf(1), Options{}) },
		"too many":     func() ([]*Series, error) { return Transform("abs", []Arg{two, two}, gridOf(1), Options{}) },
		"not a scalar": func() ([]*Series, error) { return Transform("clamp_max", []Arg{two, two}, gridOf(1), Options{}) },
		"not a string": func() ([]*Series, error) { return Transform("label_del", []Arg{two, two}, gridOf(1), Options{}) },
		"odd pairs":    func() ([]*Series, error) { return Transform("label_set", []Arg{two, str("a")}, gridOf(1), Options{}) },
		"bad regexp": func() ([]*Series, error) {
			return Transform("label_match", []Arg{two, str("a"), str("(")}, gridOf(1), Options{})
		},
		"bad zone": func() ([]*Series, error) {
			return Transform("timezone_offset", []Arg{str("Nowhere/City")}, gridOf(1), Options{})
		},
		"unknown": func() ([]*Series, error) { return Transform("nosuch", nil, gridOf(1), Options{}) },
		"buckets_limit": func() ([]*Series, error) {
			return Transform("buckets_limit", []Arg{num(0, 1), two}, gridOf(1), Options{})
		},
		"histogram_fraction": func() ([]*Series, error) {
			return Transform("histogram_fraction", []Arg{num(1, 1), num(1, 1), two}, gridOf(1), Options{})
		},
		"empty aggregate":    func() ([]*Series, error) { return Aggregate(AggregateOptions{Name: "sum"}, nil) },
		"unknown aggregate":  func() ([]*Series, error) { return Aggregate(AggregateOptions{Name: "nosuch"}, []Arg{two}) },
		"k is no scalar":     func() ([]*Series, error) { return Aggregate(AggregateOptions{Name: "topk"}, []Arg{two, two}) },
		"label is no string": func() ([]*Series, error) { return Aggregate(AggregateOptions{Name: "count_values"}, []Arg{two, two}) },
		"duplicates":         func() ([]*Series, error) { return nil, CheckDuplicates([]*Series{ser("a{x=1}", 1), ser("a{x=1}", 2)}) },
		"unknown operator":   func() ([]*Series, error) { return Binary(BinaryOptions{Op: "?"}, two.Series, two.Series) },
	} {
		if _, err := f(); errkind.Of(err) != errkind.Unprocessable {
			t.Errorf("%s: %v of kind %v", what, err, errkind.Of(err))
		}
	}
}

func TestAggregatesDoNotDependOnOrder(t *testing.T) {
	seed := uint64(rand.Uint32())
	r := rand.New(rand.NewPCG(seed, 1))
	names := []string{"sum", "avg", "min", "max", "count", "group", "stddev", "median", "mad", "mode", "distinct", "geomean", "sum2", "histogram"}
	for round := range 50 {
		var series []*Series
		for i := range 2 + r.IntN(12) {
			s := ser(fmt.Sprintf("m{a=%d,g=%d}", i, r.IntN(3)), constant(0, 4)...)
			for k := range s.Values {
				s.Values[k] = float64(1 + r.IntN(8))
				if r.IntN(4) == 0 {
					s.Values[k] = nan
				}
			}
			series = append(series, s)
		}
		shuffled := slices.Clone(series)
		r.Shuffle(len(shuffled), func(i, k int) { shuffled[i], shuffled[k] = shuffled[k], shuffled[i] })
		for _, name := range names {
			o := AggregateOptions{Name: name, Grouping: GroupBy, Labels: []string{"g"}}
			a, errA := Aggregate(o, []Arg{set(slices.Clone(series)...)})
			b, errB := Aggregate(o, []Arg{set(slices.Clone(shuffled)...)})
			Sort(a)
			Sort(b)
			if render(a) != render(b) || errA != nil || errB != nil {
				t.Fatalf("seed %d round %d: %s gives\n%s (%v) and\n%s (%v)", seed, round, name, render(a), errA, render(b), errB)
			}
		}
	}
}

func BenchmarkSumBy(b *testing.B) {
	var series []*Series
	for i := range 10_000 {
		series = append(series, ser(fmt.Sprintf("m{host=h%d,job=j%d,path=/x}", i, i%20), constant(float64(i), 60)...))
	}
	o := AggregateOptions{Name: "sum", Grouping: GroupBy, Labels: []string{"job"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Aggregate(o, []Arg{set(slices.Clone(series)...)}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestGuardEndsLongAggregates checks that aggregates over many series can be stopped.
func TestGuardEndsLongAggregates(t *testing.T) {
	stop := errors.New("stop")
	asked := 0
	guard := func(bytes int64) error {
		if asked++; bytes == 0 && asked > 1 { // the first time is before the group
			return stop
		}
		return nil
	}
	for _, name := range []string{"median", "quantile", "quantiles", "topk", "bottomk"} {
		asked = 0
		args := []Arg{set(manySeries(1<<12, 1<<9)...)}
		switch name {
		case "quantile", "topk", "bottomk":
			asked = 1
			args = append([]Arg{num(1, 1<<9)}, args...)
		case "quantiles":
			args = append([]Arg{str("q"), num(1, 1<<9)}, args...)
		}
		if got, err := Aggregate(AggregateOptions{Name: name, Guard: guard}, args); !errors.Is(err, stop) {
			t.Errorf("%s: %d series, error %v", name, len(got), err)
		}
	}
}

func manySeries(n, points int) []*Series {
	series := make([]*Series, n)
	for i := range series {
		series[i] = &Series{Labels: []model.Label{{Name: "i", Value: strconv.Itoa(i)}}, Values: constant(float64(i), points)}
	}
	return series
}
