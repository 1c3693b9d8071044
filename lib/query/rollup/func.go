package rollup

import (
	"strings"

	"vmcluster/lib/errkind"
)

// Func is a prepared rollup function.
type Func struct {
	// Name is the name of the function in lower case.
	Name string
	// Label is the label that tells the result series of one input apart; empty when there is one result.
	Label string

	outputs    []output
	perValue   perValueFunc
	undoResets bool
	keepsStale bool // sees staleness markers
	carries    bool // its window is limited by the lookback
	shift      bool // reports at t what it finds at t+step, and leaves out samples at the right edge
}

// output is one result series.
type output struct {
	label  string // value of Func.Label
	pre    preKind
	widens bool
	eval   func(*window) float64
	// ends does the same by the ends of windows, or is nil; changes says which ends it takes.
	ends    endsFunc
	changes bool
}

// perValueFunc evaluates functions whose result series depend on the data.
type perValueFunc func(e *Evaluator, times []int64, values []float64, gap int64, emit func(label string, values []float64))

// New prepares the function. Texts are its string arguments in order: the label
// name of count_values_over_time and quantiles_over_time, the functions of
// aggr_over_time, or the one output of a rollup function. Errors are of kind Unprocessable.
func New(name string, texts []string) (*Func, error) {
	f := &Func{Name: name, undoResets: undoesResets(name), carries: name == defaultRollup,
		keepsStale: name == defaultRollup || name == "stale_samples_over_time"}
	switch {
	case name == aggregate:
		return f, f.setAggregate(texts)
	case name == countValues || name == quantiles:
		return f, f.setPerLabel(texts)
	case name == histogram:
		f.Label, f.perValue = "vmrange", evalHistogram
		return f, nil
	case isMulti(name):
		return f, f.setMulti(texts)
	}
	eval := simple(name)
	if eval == nil {
		return nil, errkind.New(errkind.Unprocessable, "unsupported rollup function %q", name)
	}
	if len(texts) > 0 {
		return nil, errkind.New(errkind.Unprocessable, "cannot use string argument %q in %s: it takes none", texts[0], name)
	}
	f.outputs = []output{{widens: widensWindow(name), eval: eval, ends: endsFuncOf(name), changes: undoesResets(name) || name == "deriv_fast"}}
	return f, nil
}

// ScalarArgs returns the number of scalar arguments which the function takes
// besides the series; -1 means one or more.
func ScalarArgs(name string) int {
	switch name {
	case quantiles:
		return -1
	case "holt_winters", "double_exponential_smoothing":
		return 2
	case "quantile_over_time", "predict_linear", "duration_over_time", "hoeffding_bound_lower", "hoeffding_bound_upper",
		"count_eq_over_time", "count_ne_over_time", "count_le_over_time", "count_gt_over_time",
		"sum_eq_over_time", "sum_le_over_time", "sum_gt_over_time",
		"share_eq_over_time", "share_le_over_time", "share_gt_over_time":
		return 1
	}
	return 0
}

func (f *Func) setAggregate(names []string) error {
	f.Label = "rollup"
	if len(names) == 0 {
		return errkind.New(errkind.Unprocessable, "cannot evaluate %s: it needs at least one function name", aggregate)
	}
	for _, label := range names {
		name := strings.ToLower(label)
		if name == "iqr_over_time" {
			name = "outlier_iqr_over_time"
		}
		eval := simple(name)
		if eval == nil || ScalarArgs(name) != 0 {
			return errkind.New(errkind.Unprocessable, "cannot use function %q in %s: it is unknown, or takes further arguments, or has several results", label, aggregate)
		}
		f.outputs = append(f.outputs, output{label: label, eval: eval})
		f.undoResets = f.undoResets || undoesResets(name)
	}
	return nil
}

func (f *Func) setPerLabel(texts []string) error {
	if len(texts) != 1 {
		return errkind.New(errkind.Unprocessable, "cannot evaluate %s: it takes one label name; got %d", f.Name, len(texts))
	}
	f.Label = texts[0]
	f.perValue = evalQuantiles
	if f.Name == countValues {
		f.perValue = evalCountValues
	}
	return nil
}

func isMulti(name string) bool {
	switch name {
	case "rollup", "rollup_candlestick", "rollup_delta", "rollup_deriv", "rollup_increase", "rollup_rate", "rollup_scrape_interval":
		return true
	}
	return false
}

// setMulti sets the outputs of the functions whose result series are labelled rollup.
func (f *Func) setMulti(texts []string) error {
	if len(texts) > 1 {
		return errkind.New(errkind.Unprocessable, "cannot evaluate %s: it takes at most one output name; got %d", f.Name, len(texts))
	}
	f.Label = "rollup"
	pre, widens := multiPreKind(f.Name), widensWindow(f.Name)
	var all []output
	if f.Name == "rollup_candlestick" {
		f.shift = true
		all = []output{{label: "open", eval: candleOpen}, {label: "close", eval: candleClose}, {label: "low", eval: candleLow}, {label: "high", eval: candleHigh}}
	} else {
		all = []output{{label: "min", eval: minimum}, {label: "max", eval: maximum}, {label: "avg", eval: average}}
	}
	for _, o := range all {
		o.pre, o.widens = pre, widens
		if len(texts) == 0 {
			f.outputs = append(f.outputs, o)
			continue
		}
		if o.label == texts[0] {
			f.outputs = []output{o}
			if !f.shift { // a candlestick keeps its label
				f.Label, f.outputs[0].label = "", ""
			}
		}
	}
	if len(f.outputs) == 0 {
		return errkind.New(errkind.Unprocessable, "cannot evaluate %s: unknown output %q; want min, max or avg, or open, close, low or high for rollup_candlestick", f.Name, texts[0])
	}
	return nil
}

func multiPreKind(name string) preKind {
	switch name {
	case "rollup_delta", "rollup_increase":
		return preDelta
	case "rollup_deriv", "rollup_rate":
		return preDeriv
	case "rollup_scrape_interval":
		return preGap
	}
	return preNone
}

// simple returns the evaluation of a function with one result, or nil.
func simple(name string) func(*window) float64 {
	for _, table := range []func(string) func(*window) float64{plainFunc, changeFunc, timeFunc, statFunc, matchFunc} {
		if eval := table(name); eval != nil {
			return eval
		}
	}
	return nil
}

// Shifts reports whether the function looks one step ahead of the evaluation time.
func (f *Func) Shifts() bool { return f.shift }

// LabelsResults reports whether a function tells several results of one series apart by a label.
func LabelsResults(name string) bool {
	return name == aggregate || name == countValues || name == histogram || name == quantiles || isMulti(name)
}
