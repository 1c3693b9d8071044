package metricsql

import "strings"

// Kind says which part of the engine a function belongs to.
type Kind uint8

// The kinds of functions.
const (
	KindUnknown Kind = iota
	KindRollup
	KindTransform
	KindLabel
	KindAggregate
)

// FunctionKind returns the kind of a function or aggregate; the case of the name does not matter.
// The empty name, a union, is a transform.
func FunctionKind(name string) Kind {
	s, ok := signatureOf(name)
	if !ok {
		return KindUnknown
	}
	return s.kind
}

// IsAggregate reports whether name is an aggregate.
func IsAggregate(name string) bool { return FunctionKind(name) == KindAggregate }

// signature describes the arguments of a function. Each letter of args stands
// for one argument: v a set of series, s a scalar, t a constant string,
// T a constant string or a list of them, r the argument under a rollup. The
// first min arguments must be there. The last repeat letters may be repeated as a
// group; with middle set, it is the last letter but one that may be repeated.
type signature struct {
	kind   Kind
	args   string
	min    int
	repeat int
	middle bool
}

func exactly(kind Kind, args string) (signature, bool) {
	return signature{kind: kind, args: args, min: len(args)}, true
}

func atLeast(kind Kind, args string, minArgs int) (signature, bool) {
	return signature{kind: kind, args: args, min: minArgs}, true
}

// signatureOf returns the signature of a function or an aggregate.
func signatureOf(name string) (signature, bool) {
	name = strings.ToLower(name)
	for _, of := range []func(string) (signature, bool){rollupSignature, transformSignature, rangeSignature, labelSignature, aggregateSignature} {
		if s, ok := of(name); ok {
			return s, true
		}
	}
	return signature{}, false
}

func rollupSignature(name string) (signature, bool) {
	switch name {
	case "absent_over_time", "ascent_over_time", "avg_over_time", "changes", "changes_prometheus", "count_over_time",
		"decreases_over_time", "default_rollup", "delta", "delta_prometheus", "deriv", "deriv_fast", "descent_over_time",
		"distinct_over_time", "first_over_time", "geomean_over_time", "histogram_over_time", "idelta", "ideriv", "increase",
		"increase_prometheus", "increase_pure", "increases_over_time", "integrate", "irate", "lag", "last_over_time", "lifetime",
		"mad_over_time", "max_over_time", "median_over_time", "min_over_time", "mode_over_time", "outlier_iqr_over_time",
		"present_over_time", "range_over_time", "rate", "rate_over_sum", "rate_prometheus", "resets", "scrape_interval",
		"stale_samples_over_time", "stddev_over_time", "stdvar_over_time", "sum2_over_time", "sum_over_time", "tfirst_over_time",
		"timestamp", "timestamp_with_name", "tlast_change_over_time", "tlast_over_time", "tmax_over_time", "tmin_over_time",
		"zscore_over_time":
		return exactly(KindRollup, "r")
	case "count_eq_over_time", "count_gt_over_time", "count_le_over_time", "count_ne_over_time", "share_eq_over_time",
		"share_gt_over_time", "share_le_over_time", "sum_eq_over_time", "sum_gt_over_time", "sum_le_over_time",
		"duration_over_time", "predict_linear":
		return exactly(KindRollup, "rs")
	case "holt_winters":
		return exactly(KindRollup, "rss")
	case "quantile_over_time", "hoeffding_bound_lower", "hoeffding_bound_upper":
		return exactly(KindRollup, "sr")
	case "count_values_over_time":
		return exactly(KindRollup, "tr")
	case "aggr_over_time":
		return exactly(KindRollup, "Tr")
	case "quantiles_over_time":
		return signature{kind: KindRollup, args: "tsr", min: 3, middle: true}, true
	case "rollup", "rollup_candlestick", "rollup_delta", "rollup_deriv", "rollup_increase", "rollup_rate", "rollup_scrape_interval":
		return atLeast(KindRollup, "rt", 1)
	}
	return signature{}, false
}

func transformSignature(name string) (signature, bool) {
	switch name {
	case "abs", "absent", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "deg", "drop_empty_series",
		"exp", "floor", "histogram_avg", "histogram_stddev", "histogram_stdvar", "interpolate", "keep_last_value",
		"keep_next_value", "ln", "log10", "log2", "prometheus_buckets", "rad", "remove_resets", "scalar", "sgn", "sin", "sinh",
		"sort", "sort_desc", "sqrt", "tan", "tanh", "vector":
		return exactly(KindTransform, "v")
	case "end", "now", "pi", "start", "step", "time":
		return exactly(KindTransform, "")
	case "day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year":
		return atLeast(KindTransform, "v", 0)
	case "rand", "rand_exponential", "rand_normal":
		return atLeast(KindTransform, "s", 0)
	case "bitmap_and", "bitmap_or", "bitmap_xor", "clamp_max", "clamp_min", "smooth_exponential":
		return exactly(KindTransform, "vs")
	case "clamp":
		return exactly(KindTransform, "vss")
	case "round":
		return atLeast(KindTransform, "vs", 1)
	case "buckets_limit":
		return exactly(KindTransform, "sv")
	case "histogram_fraction", "limit_offset":
		return exactly(KindTransform, "ssv")
	case "histogram_quantile", "histogram_share":
		return atLeast(KindTransform, "svt", 2)
	case "histogram_quantiles":
		return signature{kind: KindTransform, args: "tsv", min: 3, middle: true}, true
	case "timezone_offset":
		return exactly(KindTransform, "t")
	case "union", "":
		return signature{kind: KindTransform, args: "v", repeat: 1}, true
	}
	return signature{}, false
}

// rangeSignature knows the transforms which look at all points of a series.
func rangeSignature(name string) (signature, bool) {
	switch name {
	case "range_avg", "range_first", "range_last", "range_linear_regression", "range_mad", "range_max", "range_median", "range_min",
		"range_stddev", "range_stdvar", "range_sum", "range_zscore", "running_avg", "running_max", "running_min", "running_sum":
		return exactly(KindTransform, "v")
	case "range_normalize":
		return signature{kind: KindTransform, args: "v", min: 1, repeat: 1}, true
	case "range_quantile", "range_trim_outliers", "range_trim_spikes", "range_trim_zscore":
		return exactly(KindTransform, "sv")
	}
	return signature{}, false
}

func labelSignature(name string) (signature, bool) {
	switch name {
	case "alias", "label_value":
		return exactly(KindLabel, "vt")
	case "drop_common_labels":
		return signature{kind: KindLabel, args: "v", min: 1, repeat: 1}, true
	case "label_copy", "label_move", "label_set":
		return signature{kind: KindLabel, args: "vtt", min: 1, repeat: 2}, true
	case "label_del", "label_keep":
		return signature{kind: KindLabel, args: "vt", min: 1, repeat: 1}, true
	case "label_graphite_group":
		return signature{kind: KindLabel, args: "vs", min: 2, repeat: 1}, true
	case "label_join":
		return signature{kind: KindLabel, args: "vttt", min: 3, repeat: 1}, true
	case "label_lowercase", "label_uppercase", "sort_by_label", "sort_by_label_desc", "sort_by_label_numeric", "sort_by_label_numeric_desc":
		return signature{kind: KindLabel, args: "vt", min: 2, repeat: 1}, true
	case "label_map":
		return signature{kind: KindLabel, args: "vttt", min: 2, repeat: 2}, true
	case "label_match", "label_mismatch":
		return exactly(KindLabel, "vtt")
	case "label_replace":
		return exactly(KindLabel, "vtttt")
	case "label_transform":
		return exactly(KindLabel, "vttt")
	case "labels_equal":
		return signature{kind: KindLabel, args: "vtt", min: 3, repeat: 1}, true
	}
	return signature{}, false
}

func aggregateSignature(name string) (signature, bool) {
	switch name {
	case "any", "avg", "count", "distinct", "geomean", "group", "histogram", "mad", "max", "median", "min", "mode", "share", "stddev",
		"stdvar", "sum", "sum2", "zscore":
		return signature{kind: KindAggregate, args: "v", min: 1, repeat: 1}, true
	case "outliers_iqr":
		return exactly(KindAggregate, "v")
	case "bottomk", "limitk", "outliers_mad", "outliersk", "quantile", "topk":
		return exactly(KindAggregate, "sv")
	case "bottomk_avg", "bottomk_last", "bottomk_max", "bottomk_median", "bottomk_min", "topk_avg", "topk_last", "topk_max",
		"topk_median", "topk_min":
		return atLeast(KindAggregate, "svt", 2)
	case "count_values":
		return exactly(KindAggregate, "tv")
	case "quantiles":
		return signature{kind: KindAggregate, args: "tsv", min: 3, middle: true}, true
	}
	return signature{}, false
}
