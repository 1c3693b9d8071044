package query

import (
	"math"
	"slices"
	"strings"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/rollup"
)

// Why a point may depend on the range that is asked for, see "Points and the range asked for" in docs/metricsql.md.
const (
	byBounds   = "the range is what it gives"
	byAll      = "it looks at all points of the range"
	byPresence = "which series are there, or have a point at all, depends on the range"
	byOrder    = "it chooses by the order of series, which follows from their last points"
	byEstimate = "the distance of samples is estimated from the last ones read"
	byBefore   = "it looks at samples before those that are read for its first windows"
	byAfter    = "it looks at what follows the window"
	byStart    = "it looks at the sample behind the first one of a series"
	byResets   = "the resets undone before the range are part of its values"
)

// rangeRules tell from the tree of a query whether its points are the same in all ranges. They know what the samples are like.
type rangeRules struct {
	interval int64 // the distance of any two samples; 0 if it varies. Then there are samples before and after everything that is read
	longest  int64 // the longest distance of two samples of a series while it lives
	floor    int64 // -search.minStalenessInterval
	lookback int64 // -search.maxLookback, not above what is tolerated at any distance of samples and any step; 0: not set
	instants bool  // ranges are compared with instant queries
}

// spacing is what is known of the samples under a rollup.
type spacing struct {
	interval int64 // 0: varies
	longest  int64
	ends     bool // series may begin and end where it is seen
	early    bool // samples before the first window are always read
	after    bool // samples after the last window are always read
}

// reason says why the points of e depend on the range; empty if they do not.
func (r rangeRules) reason(e metricsql.Expr, step int64) string {
	switch x := e.(type) {
	case *metricsql.MetricExpr:
		return r.rollupReason("default_rollup", nil, &metricsql.RollupExpr{Expr: x}, step)
	case *metricsql.RollupExpr:
		return r.rollupReason("default_rollup", nil, x, step)
	case *metricsql.FuncExpr:
		return r.callReason(x, step)
	case *metricsql.AggrExpr:
		return r.aggregateReason(x, step)
	case *metricsql.BinaryExpr:
		return r.binaryReason(x, step)
	}
	return ""
}

func (r rangeRules) reasonOf(args []metricsql.Expr, step int64) string {
	for _, arg := range args {
		if reason := r.reason(arg, step); reason != "" {
			return reason
		}
	}
	return ""
}

func (r rangeRules) callReason(x *metricsql.FuncExpr, step int64) string {
	if i := metricsql.RollupArgIndex(x); i >= 0 {
		for k, arg := range x.Args {
			if k != i && r.reason(arg, step) != "" {
				return r.reason(arg, step)
			}
		}
		var texts []string
		if list, ok := metricsql.StringList(x.Args[0]); ok {
			texts = list
		}
		return r.rollupReason(x.Name, texts, asRollupArg(x.Args[i]), step)
	}
	switch name := x.Name; {
	case name == "start" || name == "end":
		return byBounds
	case strings.HasPrefix(name, "range_"), strings.HasPrefix(name, "running_"), strings.HasPrefix(name, "keep_"),
		slices.Contains([]string{"interpolate", "smooth_exponential", "remove_resets", "limit_offset", "buckets_limit"}, name):
		return byAll
	case slices.Contains([]string{"sgn", "union", "", "scalar", "drop_common_labels"}, name) && !r.allTotal(x.Args, step):
		return byPresence
	}
	return r.reasonOf(x.Args, step)
}

func (r rangeRules) aggregateReason(x *metricsql.AggrExpr, step int64) string {
	switch name := x.Name; {
	case strings.HasPrefix(name, "outliers"), strings.HasPrefix(name, "topk_"), strings.HasPrefix(name, "bottomk_"), name == "histogram":
		return byAll
	case (name == "any" || name == "limitk" || x.Limit > 0) && !r.allTotal(x.Args, step):
		return byPresence
	case (name == "any" || x.Limit > 0) && slices.ContainsFunc(x.Args, reorders):
		return byOrder
	}
	return r.reasonOf(x.Args, step)
}

// reorders reports whether the order of series follows from their points.
func reorders(e metricsql.Expr) bool {
	found := false
	metricsql.Visit(e, func(e metricsql.Expr) bool {
		switch x := e.(type) {
		case *metricsql.FuncExpr:
			found = found || strings.HasPrefix(x.Name, "sort")
		case *metricsql.AggrExpr:
			found = found || strings.HasPrefix(x.Name, "topk") || strings.HasPrefix(x.Name, "bottomk")
		}
		return !found
	})
	return found
}

func (r rangeRules) binaryReason(x *metricsql.BinaryExpr, step int64) string {
	if reason := r.reasonOf([]metricsql.Expr{x.Left, x.Right}, step); reason != "" {
		return reason
	}
	left, right := r.total(x.Left, step), r.total(x.Right, step)
	switch {
	case mayBeScalar(x.Left) || mayBeScalar(x.Right):
		return byPresence
	case x.FillLeft != nil || x.FillRight != nil:
		if !left || !right {
			return byPresence
		}
	case x.Op == "default", x.Op == "or":
		if !left {
			return byPresence // series are filled if they are there
		}
	case x.Op == "!=", x.Bool, x.Op == "^", isComparison(x.Op) && isList(x.Right):
		if !right && !swapsSides(x) {
			return byPresence // a gap differs from a value, and NaN from a missing partner
		}
	}
	return ""
}

// mayBeScalar reports whether an expression may be one series without labels in one range and several in another.
func mayBeScalar(e metricsql.Expr) bool {
	found := false
	metricsql.Visit(e, func(e metricsql.Expr) bool {
		x, ok := e.(*metricsql.BinaryExpr)
		found = found || ok && x.Op == "or"
		return !found
	})
	return found
}

// rollupReason judges a rollup of selectors or of a subquery.
func (r rangeRules) rollupReason(name string, texts []string, arg *metricsql.RollupExpr, step int64) string {
	if arg.At != nil {
		if _, ok := arg.At.(*metricsql.NumberExpr); ok {
			return "" // evaluated once, at a time which is always the same
		}
		return byBounds
	}
	m, isSelector := arg.Expr.(*metricsql.MetricExpr)
	if isSelector && (!arg.IsSubquery() || name == "default_rollup") {
		if m.FilterSets == nil {
			return ""
		}
		s := spacing{interval: r.interval, longest: r.longest, ends: r.interval == 0}
		return r.windowReason(name, texts, windows{arg.Window.Duration(step), step}, s)
	}
	inner, sub := r.inner(arg, step)
	if reason := inner.reason(arg.Expr, sub); reason != "" {
		return reason
	}
	if undoes(name, texts) {
		return byResets // values are any: they may fall below 0, and what is undone rounds
	}
	s := spacing{interval: sub, longest: sub, early: true, after: true}
	if !inner.total(arg.Expr, sub) {
		s = spacing{longest: math.MaxInt64, ends: true, early: true, after: true}
	}
	return r.windowReason(name, texts, windows{arg.Window.Duration(step), step}, s)
}

// inner returns the rules and the step of the expression in a subquery, which is evaluated over a range in any case.
func (r rangeRules) inner(arg *metricsql.RollupExpr, step int64) (rangeRules, int64) {
	r.instants = false
	if sub := arg.Step.Duration(step); sub > 0 {
		return r, sub
	}
	return r, step
}

type windows struct{ written, step int64 }

// gap returns the longest tolerated distances of samples in ranges and in instant queries; false if they depend on the samples read.
func (r rangeRules) gap(s spacing, step int64) (ranges, instants int64, known bool) {
	floor := r.floor
	switch {
	case r.lookback > 0:
		return r.lookback, r.lookback, true
	case s.interval > 0:
		ranges = max(inflated(s.interval), floor)
	case s.longest < math.MaxInt64 && floor >= inflated(s.longest) && floor >= inflated(step):
		ranges = floor
	default:
		return 0, 0, false
	}
	if !r.instants {
		return ranges, ranges, true
	}
	return ranges, max(step, floor), true
}

// inflated is the distance of samples that is tolerated at an interval.
func inflated(interval int64) int64 {
	switch {
	case interval <= 2000:
		return interval * 5
	case interval <= 4000:
		return interval * 3
	case interval <= 8000:
		return interval * 2
	case interval <= 16_000:
		return interval + interval/2
	case interval <= 32_000:
		return interval + interval/4
	}
	return interval + interval/8
}

// windowReason judges a function over samples.
func (r rangeRules) windowReason(name string, texts []string, w windows, s spacing) string {
	switch {
	case name == "aggr_over_time" && undoes(name, texts), undoes(name, nil) && r.lookback > 0 && (s.longest > r.lookback+w.written || name == "increase_pure"):
		return byResets
	case name == "aggr_over_time":
		return r.aggregatedReason(texts, w, s)
	}
	ranges, instants, known := r.gap(s, w.step)
	width := w.written
	if width == 0 {
		width = w.step
		if widens(name) {
			switch {
			case !known, max(width, ranges) != max(width, instants):
				return byEstimate
			case !rollup.ReadsSampleBefore(name) && !s.early && ranges > width:
				return byBefore // a step is read before the range, not the window
			}
			width = max(width, ranges)
		}
	}
	if name == "default_rollup" && r.lookback > 0 {
		width = min(width, r.lookback)
	}
	if seesAfter(name) && (!s.after || s.ends) {
		return byAfter
	}
	if s.ends && (name == "increase" || name == "delta" || name == "rollup_scrape_interval") {
		return byStart
	}
	if !seesBefore(name) {
		return ""
	}
	before := max(w.written, w.step) + sampleBefore // that is read
	if r.floor > 0 && !s.early {
		before += r.floor - sampleBefore
	}
	switch {
	case !known, r.lookback == 0 && min(ranges, instants) < s.longest:
		return byEstimate
	case !rollup.ReadsSampleBefore(name) && !s.early, r.lookback == 0 && width+s.longest > before:
		return byBefore
	case width < s.longest && seesGaps(name) && (!s.after || s.ends):
		return byAfter // an empty window gives 0 only if the series goes on
	}
	return ""
}

// aggregatedReason judges the functions of aggr_over_time: without a window all of them look back a step.
func (r rangeRules) aggregatedReason(names []string, w windows, s spacing) string {
	if w.written == 0 {
		w.written = w.step
	}
	for _, name := range names {
		if seesBefore(name) && !s.early {
			return byBefore
		}
		if reason := r.windowReason(name, nil, w, s); reason != "" {
			return reason
		}
	}
	return ""
}

func widens(name string) bool {
	return slices.Contains([]string{"default_rollup", "deriv", "deriv_fast", "ideriv", "irate", "rate", "rate_over_sum", "rollup", "rollup_candlestick", "rollup_deriv", "rollup_rate",
		"rollup_scrape_interval", "scrape_interval", "timestamp"}, name)
}

// seesAfter reports whether a function looks at the sample after its window, or at whether there is one.
func seesAfter(name string) bool {
	return slices.Contains([]string{"integrate", "rollup_delta", "rollup_increase", "rollup_deriv", "rollup_rate"}, name)
}

// seesBefore reports whether a function looks at the sample before its window.
func seesBefore(name string) bool {
	return seesGaps(name) || slices.Contains([]string{"irate", "ideriv", "lifetime", "scrape_interval", "tlast_change_over_time", "holt_winters", "zscore_over_time"}, name)
}

// seesGaps reports whether a function gives a point for an empty window when the series goes on.
func seesGaps(name string) bool {
	return slices.Contains([]string{"rate", "deriv_fast", "increase", "increase_pure", "delta", "idelta", "changes", "increases_over_time", "decreases_over_time", "resets", "ascent_over_time",
		"descent_over_time", "lag", "mode_over_time", "integrate", "rollup_candlestick"}, name)
}

// undoes reports whether a function sees its samples without resets.
func undoes(name string, texts []string) bool {
	if name == "aggr_over_time" {
		return slices.ContainsFunc(texts, func(name string) bool { return undoes(name, nil) })
	}
	return slices.Contains([]string{"rate", "rate_prometheus", "increase", "increase_prometheus", "increase_pure", "irate", "rollup_rate", "rollup_increase"}, name)
}

// total reports whether each series of e is there in all ranges, with points at all times or at none. It may say no in case of doubt.
func (r rangeRules) total(e metricsql.Expr, step int64) bool {
	if r.reason(e, step) != "" {
		return false
	}
	switch x := e.(type) {
	case *metricsql.NumberExpr:
		return !math.IsNaN(x.Value) && !math.IsInf(x.Value, 0)
	case *metricsql.StringExpr, *metricsql.DurationExpr:
		return true
	case *metricsql.MetricExpr:
		return r.totalRollup(&metricsql.RollupExpr{Expr: x}, true, step)
	case *metricsql.RollupExpr:
		return r.totalRollup(x, true, step)
	case *metricsql.FuncExpr:
		return r.totalCall(x, step)
	case *metricsql.AggrExpr:
		return r.allTotal(x.Args, step) && !slices.Contains([]string{"topk", "bottomk", "count_values", "share", "zscore", "geomean"}, x.Name)
	case *metricsql.BinaryExpr:
		return strings.Contains("+-*", x.Op) && r.total(x.Left, step) && r.total(x.Right, step)
	}
	return false
}

func (r rangeRules) allTotal(list []metricsql.Expr, step int64) bool {
	return !slices.ContainsFunc(list, func(e metricsql.Expr) bool { return !r.total(e, step) })
}

// totalRollup judges the windows of a rollup, of which nothing depends on the range: whether they are never empty. A
// selector looks as far back as the samples are apart.
func (r rangeRules) totalRollup(arg *metricsql.RollupExpr, widens bool, step int64) bool {
	switch {
	case arg.At != nil:
		return true
	case r.lookback > 0:
		return false
	}
	width := arg.Window.Duration(step)
	if width == 0 {
		width = step
	}
	if _, isSelector := arg.Expr.(*metricsql.MetricExpr); isSelector && (!arg.IsSubquery() || widens) {
		return r.interval > 0 && (width >= r.interval || widens && arg.Window.Duration(step) == 0)
	}
	inner, sub := r.inner(arg, step)
	return width >= sub && inner.total(arg.Expr, sub)
}

func (r rangeRules) totalCall(x *metricsql.FuncExpr, step int64) bool {
	i := metricsql.RollupArgIndex(x)
	if i < 0 {
		gaps := []string{"exp", "ln", "sqrt", "log2", "log10", "asin", "acos", "label_value"}
		return !slices.Contains(gaps, x.Name) && !strings.HasPrefix(x.Name, "histogram_") && r.allTotal(x.Args, step)
	}
	for k, arg := range x.Args {
		n, isNumber := arg.(*metricsql.NumberExpr)
		if isNumber && strings.HasPrefix(x.Name, "quantile") && (n.Value < 0 || n.Value > 1) || k != i && !r.total(arg, step) {
			return false
		}
	}
	if strings.HasSuffix(x.Name, "_prometheus") || slices.Contains([]string{"absent_over_time", "aggr_over_time", "count_values_over_time", "histogram_over_time", "tlast_change_over_time",
		"zscore_over_time", "outlier_iqr_over_time", "geomean_over_time", "rollup_candlestick"}, x.Name) {
		return false
	}
	return r.totalRollup(asRollupArg(x.Args[i]), false, step)
}
