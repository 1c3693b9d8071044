package rollup

import "slices"

// perValue are the functions whose number of result series depends on the data.
const (
	countValues   = "count_values_over_time"
	histogram     = "histogram_over_time"
	quantiles     = "quantiles_over_time"
	aggregate     = "aggr_over_time"
	defaultRollup = "default_rollup"
)

// ReadsSampleBefore reports whether the function looks at the sample before its
// window, so that more than the windows themselves has to be read.
func ReadsSampleBefore(name string) bool {
	switch name {
	case "ascent_over_time", "changes", "decreases_over_time", defaultRollup, "delta", "deriv_fast", "descent_over_time",
		"idelta", "ideriv", "increase", "increase_pure", "increases_over_time", "integrate", "irate", "lag", "lifetime",
		"rate", "resets", "rollup", "rollup_candlestick", "rollup_delta", "rollup_deriv", "rollup_increase", "rollup_rate",
		"rollup_scrape_interval", "scrape_interval", "tlast_change_over_time":
		return true
	}
	return false
}

// KeepsName reports whether results keep the metric name without keep_metric_names.
func KeepsName(name string) bool {
	switch name {
	case "avg_over_time", defaultRollup, "first_over_time", "geomean_over_time", "hoeffding_bound_lower", "hoeffding_bound_upper",
		"holt_winters", "double_exponential_smoothing", "last_over_time", "max_over_time", "median_over_time", "min_over_time",
		"mode_over_time", "predict_linear", "quantile_over_time", quantiles, "rollup", "rollup_candlestick", "timestamp_with_name":
		return true
	}
	return false
}

// widensWindow reports whether a window that is not written grows from the step
// to the longest tolerated gap between samples.
func widensWindow(name string) bool {
	switch name {
	case defaultRollup, "deriv", "deriv_fast", "ideriv", "irate", "rate", "rate_over_sum", "rollup", "rollup_candlestick",
		"rollup_deriv", "rollup_rate", "rollup_scrape_interval", "scrape_interval", "timestamp":
		return true
	}
	return false
}

// undoesResets reports whether the function sees a counter without its resets.
func undoesResets(name string) bool {
	return slices.Contains([]string{
		"rate", "rate_prometheus", "increase", "increase_prometheus", "increase_pure", "irate", "rollup_rate", "rollup_increase",
	}, name)
}
