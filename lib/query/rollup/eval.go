package rollup

import "math"

// Params are the inputs of an evaluation that all series share. Times are in milliseconds.
type Params struct {
	Start int64
	End   int64
	Step  int64 // positive
	// Ranged says that a single evaluation time is one of a range.
	Ranged bool
	// Window is the width as written in the query; 0 means not written.
	Window int64
	// Lookback limits how far values are carried; 0 means no limit.
	Lookback int64
	// MinStaleness is the least tolerated gap between samples; 0 means none.
	MinStaleness int64
	// KeepStaleMarkers leaves staleness markers among the samples.
	KeepStaleMarkers bool
	// Args are the scalar arguments in order, without the series; each has one value per evaluation time.
	Args [][]float64
	// Guard is asked before memory is taken for so many bytes of results which emit has not seen yet, and
	// with 0 now and then within long evaluations. Its error ends the evaluation, see Evaluator.Err. May be nil.
	Guard func(bytes int64) error
}

func (p *Params) points() int { return int((p.End-p.Start)/p.Step) + 1 }

// Evaluator evaluates one function over many series, one at a time. It is used by one goroutine.
type Evaluator struct {
	f      *Func
	p      Params
	w      window
	times  []int64
	values []float64
	undone []float64 // values without resets
	pre    [preKinds][]float64
	dst    []float64 // result of the current output
	reuse  bool      // dst, when emit does not own it
	column column
	work   int // samples and windows since the guard was asked last
	err    error

	watch        *Watch // nil: facts are not asked for
	traits       traits
	past         *Past // of the current series
	facts        Facts
	noted        bool // facts are those of the current series
	recent       []int64
	joinedTimes  []int64
	joinedValues []float64
}

// workPerGuard is the number of samples in windows after which the guard is asked again.
const workPerGuard = 1 << 20

// NewEvaluator returns an evaluator of f.
func NewEvaluator(f *Func, p Params) *Evaluator {
	e := &Evaluator{}
	e.Reset(f, p)
	return e
}

// Reset makes the evaluator one of f, which keeps nothing but memory. The zero value needs it before anything else.
func (e *Evaluator) Reset(f *Func, p Params) {
	old := *e
	*e = Evaluator{f: f, p: p, times: old.times[:0], values: old.values[:0], undone: old.undone[:0], recent: old.recent[:0], joinedTimes: old.joinedTimes[:0],
		joinedValues: old.joinedValues[:0]}
	e.w.scratch, e.w.scratch2 = old.w.scratch[:0], old.w.scratch2[:0]
	e.column.reuse(&old.column)
	if old.reuse {
		e.dst = old.dst
	}
	if f.shift {
		e.p.Start += p.Step
		e.p.End += p.Step
	}
	e.w.args = p.Args
}

// Release lets go of what belongs to the query. Reset must follow before the evaluator is used again.
func (e *Evaluator) Release() { e.p, e.w.args, e.watch, e.err = Params{}, nil, nil, nil }

// HeapBytes returns about how much memory a Reset would keep.
func (e *Evaluator) HeapBytes() int {
	return 8*(cap(e.times)+cap(e.values)+cap(e.undone)+cap(e.dst)+cap(e.joinedTimes)+cap(e.joinedValues)+cap(e.w.scratch)+cap(e.w.scratch2)) + e.column.heapBytes()
}

// Eval evaluates one series and calls emit for each result series with the value
// of the label Func.Label, or the empty string, and with one value per evaluation
// time, which the callee owns. times and values stay unchanged. A series
// without samples gives nothing. Once the guard has failed, nothing is evaluated any longer.
func (e *Evaluator) Eval(times []int64, values []float64, emit func(label string, values []float64)) {
	e.EvalKnown(times, values, Known{}, emit)
}

// Known is what is known of values, so that it need not be looked for. The zero value is always right.
type Known struct {
	NoStale  bool // there are no staleness markers
	NoResets bool // no value is below the one before
}

// ReuseResults makes the values that emit gets valid until it returns only.
func (e *Evaluator) ReuseResults() { e.reuse = true }

// EvalKnown is Eval for values of which something is known.
func (e *Evaluator) EvalKnown(times []int64, values []float64, known Known, emit func(label string, values []float64)) {
	if !e.f.keepsStale && !e.p.KeepStaleMarkers && !known.NoStale {
		times, values = e.dropStale(times, values)
	}
	if len(times) == 0 || e.err != nil {
		return
	}
	var recent []int64
	if e.past != nil {
		times, values, recent = e.join(times, values, &known)
	}
	gap := e.column.load(&e.p, times, recent)
	raw, reset, correction := values, len(values), 0.0
	if e.f.undoResets && !known.NoResets {
		if reset = firstReset(times, values, e.p.Lookback+e.p.Window, e.p.Lookback > 0, e.carry()); reset < len(values) {
			values, correction = e.undoResets(times, values, reset)
		}
	}
	if e.f.perValue != nil {
		e.f.perValue(e, times, values, gap, emit)
		return
	}
	for i := range e.pre {
		e.pre[i] = e.pre[i][:0]
	}
	for i := range e.f.outputs {
		o := &e.f.outputs[i]
		e.newResult()
		if e.run(o, times, e.preprocess(o.pre, times, values), gap, nil); e.err != nil {
			return
		}
		emit(o.label, e.dst)
	}
	if e.watch != nil {
		e.note(gap, raw, values, reset, correction)
	}
}

// newResult makes room for one value per evaluation time.
func (e *Evaluator) newResult() {
	n := e.p.points()
	if !e.reuse || cap(e.dst) < n {
		e.dst = make([]float64, n)
	}
	e.dst = e.dst[:n]
}

// Err returns the error of the guard, or nil.
func (e *Evaluator) Err() error { return e.err }

// ask asks the guard, and reports whether to go on.
func (e *Evaluator) ask(bytes int64) bool {
	e.work = 0
	if e.err == nil && e.p.Guard != nil {
		e.err = e.p.Guard(bytes)
	}
	return e.err == nil
}

// run moves the window over all evaluation times and calls visit at each, or,
// without visit, stores the value of the output in e.dst.
func (e *Evaluator) run(o *output, times []int64, values []float64, gap int64, visit func(k int, w *window)) {
	w := &e.w
	width := e.width(o, gap)
	w.width = width
	n := len(times)
	if visit == nil && o.ends != nil && !e.f.shift {
		list := e.column.endsOf(&e.p, width, o.changes)
		if e.work += len(list); e.work <= workPerGuard || e.ask(0) {
			o.ends(e.dst, values, list)
		}
		return
	}
	t := e.p.Start
	for k, at := range e.column.windows(&e.p, width, e.f.shift) {
		i, j := int(at.from), int(at.to)
		if e.work += j - i + 1; e.work > workPerGuard && !e.ask(0) {
			return
		}
		left := t - width
		w.end, w.point = t, k
		w.values, w.times = values[i:j], times[i:j]
		w.hasPrev = i > 0 && i < n && times[i-1] > left-gap
		if w.hasPrev {
			w.prevValue, w.prevTime = values[i-1], times[i-1]
		}
		w.hasFar = i > 0 && (e.p.Lookback <= 0 || e.reaches(times[i-1], times, i, j, left))
		if w.hasFar {
			w.farValue = values[i-1]
		}
		w.hasNext = j < n
		if w.hasNext {
			w.nextValue = values[j]
		}
		if visit == nil {
			e.dst[k] = o.eval(w)
		} else if visit(k, w); e.err != nil {
			return
		}
		t += e.p.Step
	}
}

// reaches reports whether the sample at t is within the lookback of the first
// sample in the window i..j, or of the left edge of an empty window.
func (e *Evaluator) reaches(t int64, times []int64, i, j int, left int64) bool {
	if i < j {
		left = times[i]
	}
	return left-t < e.p.Lookback
}

// width returns the width of the window of one output.
func (e *Evaluator) width(o *output, gap int64) int64 {
	if e.p.Window > 0 {
		return e.p.Window
	}
	width := e.p.Step
	if o.widens {
		width = max(width, gap)
	}
	if e.f.carries && e.p.Lookback > 0 {
		width = min(width, e.p.Lookback)
	}
	return width
}

// IsStale reports whether v is the staleness marker.
func IsStale(v float64) bool { return math.Float64bits(v) == staleBits }

const staleBits = 0x7ff0000000000002

// dropStale returns the samples without staleness markers.
func (e *Evaluator) dropStale(times []int64, values []float64) ([]int64, []float64) {
	if !hasStale(values) {
		return times, values
	}
	e.times, e.values = e.times[:0], e.values[:0]
	for i, v := range values {
		if !IsStale(v) {
			e.times = append(e.times, times[i])
			e.values = append(e.values, v)
		}
	}
	return e.times, e.values
}

func hasStale(values []float64) bool {
	for _, v := range values {
		if IsStale(v) {
			return true
		}
	}
	return false
}
