package rollup

import (
	"math"
	"slices"
)

// What a function gives at a time depends on more than the samples in its window: on how far apart the last samples read are, on
// samples before the window, on all resets since the first sample read. Facts say on what exactly results have depended, so that somebody who keeps results can tell
// whether an evaluation over other times would find the same; a Past is what the evaluation of the times after needs to know.

// recentTimes is how many timestamps the interval between samples is guessed from.
const recentTimes = 21

// Watch asks for facts about results which are to be kept.
type Watch struct {
	// Until is the last evaluation time whose result is to be kept.
	Until int64
	// Settled is the time up to which samples are known to be all there.
	Settled int64
	// From is the time at which an evaluation of later times will begin to read.
	From int64
}

// Carry is a sample, and what is known of its series there.
type Carry struct {
	Known      bool
	Fell       bool    // there was a reset before
	Time       int64   // Unix milliseconds
	Raw        float64 // as stored
	Value      float64 // without resets
	correction float64
}

// Past is what is known of a series before the samples which are read of it.
type Past struct {
	// Times are the last timestamps which were known when the results before were made, ascending.
	Times []int64
	// Carry is the last sample before those which are read.
	Carry Carry
	// From is the time before which nothing is to be known.
	From int64
}

// Facts are what the results of a series depend on, besides the function, its arguments and the samples in the windows.
type Facts struct {
	// Times are the last timestamps up to Watch.Settled. They are shared by series and must not be changed.
	Times []int64
	// Carry is the last sample before Watch.From.
	Carry Carry
	// Last is the last timestamp, Gap the longest tolerated gap between samples.
	Last, Gap int64
	// Over and UpTo bound the gaps with which the results would be the same: those in (Over, UpTo].
	Over, UpTo int64
	// Reach is how much earlier than an evaluation time the earliest sample is that counted for it, if that may be before what is read for
	// the windows as they are written.
	Reach int64
	// Needs is the time of a sample before all windows, without which results would be others; math.MaxInt64 if there is none.
	Needs int64
	// Ended is set when results rest on there being no later samples.
	Ended bool
	// Open is set when results rest on samples after Watch.Settled.
	Open bool
}

// traits say what the facts of a function have to be about.
type traits struct {
	prev, far, next, newest, width bool
	known                          bool
}

func traitsOf(name string) traits {
	switch name {
	case defaultRollup:
		return traits{known: true, newest: true}
	case "rate", "deriv_fast", "irate", "ideriv", "idelta", "resets", "decreases_over_time", "increases_over_time", "ascent_over_time",
		"descent_over_time", "lag", "lifetime", "scrape_interval", "tlast_change_over_time":
		return traits{known: true, prev: true, width: widensWindow(name)}
	case "increase_pure", "changes":
		return traits{known: true, prev: true, far: true}
	case "increase", "delta":
		return traits{known: true, prev: true, far: true, next: true}
	case "avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "count_over_time", "last_over_time", "first_over_time",
		"present_over_time", "sum2_over_time", "stddev_over_time", "stdvar_over_time", "quantile_over_time", "median_over_time", "mad_over_time",
		"range_over_time", "geomean_over_time", "distinct_over_time", "tfirst_over_time", "tlast_over_time", "tmin_over_time", "tmax_over_time",
		"timestamp", "timestamp_with_name", "rate_over_sum", "deriv", "predict_linear", "increase_prometheus", "delta_prometheus", "rate_prometheus",
		"changes_prometheus", "duration_over_time", "outlier_iqr_over_time", "hoeffding_bound_lower", "hoeffding_bound_upper",
		"count_eq_over_time", "count_ne_over_time", "count_le_over_time", "count_gt_over_time", "sum_eq_over_time", "sum_le_over_time",
		"sum_gt_over_time", "share_eq_over_time", "share_le_over_time", "share_gt_over_time", "stale_samples_over_time":
		return traits{known: true, width: widensWindow(name)}
	}
	return traits{}
}

// WhyNoFacts returns why there are no facts about a function; empty when there are.
func WhyNoFacts(name string) string {
	switch {
	case traitsOf(name).known:
		return ""
	case LabelsResults(name):
		return "it has several results per series"
	case name == "integrate":
		return "it holds the last value until the sample after the window"
	case name == "mode_over_time" || name == "zscore_over_time" || name == "holt_winters" || name == "double_exponential_smoothing":
		return "it takes the sample before its window if that happens to be read"
	}
	return "nothing is known about it"
}

// Widens reports whether windows of the function, as they are written, grow with the interval between samples.
func Widens(name string, window int64) bool { return window == 0 && widensWindow(name) }

// Watch makes the evaluator note facts about each series.
func (e *Evaluator) Watch(w Watch) {
	e.watch = &w
	e.traits = traitsOf(e.f.Name)
	e.traits.width = e.traits.width && e.p.Window == 0
}

// EvalAfter is EvalKnown for the samples of a series of which more is known; nil is nothing.
func (e *Evaluator) EvalAfter(past *Past, times []int64, values []float64, known Known, emit func(label string, values []float64)) {
	e.past = past
	e.noted = false
	e.EvalKnown(times, values, known, emit)
	e.past = nil
}

// Facts returns the facts about the series evaluated last, valid until the next one; nil when it had no samples.
func (e *Evaluator) Facts() *Facts {
	if !e.noted {
		return nil
	}
	return &e.facts
}

// End completes the facts of a series of a function which has no sample in a window from an evaluation time on.
func (f *Facts) End(name string, t int64) {
	switch of := traitsOf(name); {
	case of.prev:
		f.Ended = true
	case of.newest:
		f.UpTo = min(f.UpTo, t-f.Times[len(f.Times)-1])
	}
}

// GapOf returns the longest tolerated gap between samples of a series whose last timestamps are given.
func (p *Params) GapOf(recent []int64) int64 {
	c := column{}
	return c.gapOf(p, recent)
}

// Since returns the timestamps from a time on.
func Since(times []int64, from int64) []int64 {
	i, _ := slices.BinarySearch(times, from)
	return times[i:]
}

// join puts what is known of the past in front of the samples, and returns the last timestamps of all.
func (e *Evaluator) join(times []int64, values []float64, known *Known) ([]int64, []float64, []int64) {
	past := e.past
	e.recent = e.recent[:0]
	for _, t := range Since(past.Times, past.From) {
		if t < times[0] {
			e.recent = append(e.recent, t)
		}
	}
	e.recent = append(e.recent, times[max(0, len(times)-recentTimes):]...)
	e.recent = e.recent[max(0, len(e.recent)-recentTimes):]
	c := &past.Carry
	if !c.Known || c.Time < past.From {
		return times, values, e.recent
	}
	known.NoResets = known.NoResets && !c.Fell && !(values[0] < c.Raw)
	e.joinedTimes = append(append(e.joinedTimes[:0], c.Time), times...)
	e.joinedValues = append(append(e.joinedValues[:0], c.Value), values...)
	return e.joinedTimes, e.joinedValues, e.recent
}

// carry returns the past which has been joined.
func (e *Evaluator) carry() Carry {
	if e.past == nil || e.past.Carry.Time < e.past.From {
		return Carry{}
	}
	return e.past.Carry
}

// before returns the index of the last sample before a time, or -1.
func before(times []int64, t int64) int {
	i, _ := slices.BinarySearch(times, t)
	return i - 1
}

// note completes the facts of a series: raw and values are its samples with and without resets, which begin at index reset.
func (e *Evaluator) note(gap int64, raw, values []float64, reset int, correction float64) {
	c := &e.column
	times := c.times
	if !c.noted {
		c.noted = true
		c.facts = e.columnFacts(gap)
	}
	e.facts, e.noted = c.facts, true
	from := e.carry()
	switch i := c.carryIndex; {
	case i < 0:
		e.facts.Carry = Carry{}
	case i == 0 && from.Known:
		e.facts.Carry = from
	default:
		e.facts.Carry = Carry{Known: true, Fell: reset <= i, Time: times[i], Raw: raw[i], Value: values[i], correction: correction}
	}
	if reset < len(times) && !from.Fell {
		e.facts.Needs = min(e.facts.Needs, times[reset-1])
	}
}

// columnFacts returns those of the facts which follow from the timestamps.
func (e *Evaluator) columnFacts(gap int64) Facts {
	c, w := &e.column, e.watch
	f := Facts{Gap: gap, Last: c.times[len(c.times)-1], Over: math.MinInt64, UpTo: math.MaxInt64, Needs: math.MaxInt64}
	c.carryIndex = before(c.times, w.From)
	recent := e.settledTimes()
	f.Times = slices.Clone(recent[max(0, len(recent)-e.keptTimes()):])
	width := c.width
	if e.traits.width {
		if gap > e.p.Step {
			f.Over, f.UpTo = gap-1, gap
		} else {
			f.UpTo = e.p.Step
		}
	}
	t := e.p.Start
	for _, at := range c.spans {
		if t > w.Until {
			break
		}
		if e.traits.width && at.from < at.to { // the window may begin before what is read
			f.Reach = max(f.Reach, t-c.times[at.from])
		}
		if e.traits.newest {
			e.noteNewest(&f, at, t)
		} else if e.traits.prev {
			e.notePrev(&f, at, t, t-width, gap)
		}
		t += e.p.Step
	}
	return f
}

// settledTimes returns the timestamps of the past and of the column up to Watch.Settled.
func (e *Evaluator) settledTimes() []int64 {
	times := e.column.times
	if e.carry().Known {
		times = times[1:]
	}
	end := before(times, e.watch.Settled+1) + 1
	settled := times[max(0, end-recentTimes):end]
	if e.past == nil {
		return settled
	}
	var all []int64
	for _, t := range Since(e.past.Times, e.past.From) {
		if t < times[0] {
			all = append(all, t)
		}
	}
	return append(all, settled...)
}

// keptTimes is how many of the last timestamps facts hold.
func (e *Evaluator) keptTimes() int {
	if t := &e.traits; t.prev || t.newest || t.width {
		return recentTimes
	}
	return 1
}

// noteNewest takes note of what the last value up to t depends on: it counts while it is younger than the window is wide.
func (e *Evaluator) noteNewest(f *Facts, at span, t int64) {
	i, j := int(at.from), int(at.to)
	if j == 0 {
		return
	}
	age := t - e.column.times[j-1]
	if i == j {
		f.UpTo = min(f.UpTo, age)
		return
	}
	f.Reach = max(f.Reach, age)
	if age >= e.p.Step {
		f.Over = max(f.Over, age)
	}
}

// notePrev takes note of what the samples before and after a window with the given left edge did for its result.
func (e *Evaluator) notePrev(f *Facts, at span, t, left, gap int64) {
	times := e.column.times
	i, j, n := int(at.from), int(at.to), len(times)
	hasPrev := false
	switch {
	case i == 0:
	case i == n:
		f.Ended = true
	case times[i-1] > left-gap:
		hasPrev = true
		f.Over = max(f.Over, left-times[i-1])
		f.Reach = max(f.Reach, t-times[i-1])
	default:
		f.UpTo = min(f.UpTo, left-times[i-1])
	}
	if hasPrev || i == j {
		return
	}
	if e.traits.far && i > 0 {
		f.Needs = min(f.Needs, times[i-1])
	}
	switch {
	case !e.traits.next || j-i > 1:
	case j == n:
		f.Ended = true
	case times[j] > e.watch.Settled:
		f.Open = true
	}
}
