package query

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
)

const sampleBefore = 5 * 60 * 1000 // how much earlier the sample before the first window is looked for

// rollupCall is a rollup function with its settled arguments.
type rollupCall struct {
	f        *rollup.Func
	keepName bool
	args     [][]float64 // scalars
	texts    []string    // the string arguments, which f was made of
	arg      *metricsql.RollupExpr
	fold     *vector.AggregateOptions // set when only this aggregate of the results is wanted
	firsts   bool                     // groups of the fold note their first series
}

// evalDefault evaluates selectors and brackets outside of rollup functions: the last value in each window.
func (ev *evaluation) evalDefault(arg *metricsql.RollupExpr, g vector.Grid) ([]*vector.Series, error) {
	c, err := defaultCall(arg)
	if err != nil {
		return nil, err
	}
	return ev.evalRollup(c, g)
}

func defaultCall(arg *metricsql.RollupExpr) (*rollupCall, error) {
	f, err := rollup.New("default_rollup", nil)
	if err != nil {
		return nil, err
	}
	if _, ok := arg.Expr.(*metricsql.MetricExpr); ok && arg.IsSubquery() {
		// The last value of the last values is the last value: only the window counts.
		plain := *arg
		plain.Step, plain.InheritStep = nil, false
		arg = &plain
	}
	return &rollupCall{f: f, keepName: true, arg: arg}, nil
}

// evalRollupFunc evaluates a call of a rollup function.
func (ev *evaluation) evalRollupFunc(x *metricsql.FuncExpr, g vector.Grid) ([]*vector.Series, error) {
	c, err := ev.prepareRollup(x, g)
	if err != nil {
		return nil, err
	}
	if err := ev.checkConversion(x.Name, c.arg); err != nil {
		return nil, err
	}
	if x.Name == "absent_over_time" {
		return ev.evalAbsentOverTime(c, g)
	}
	return ev.evalRollup(c, g)
}

// prepareRollup sorts the arguments into series, scalars and strings. Their number was checked.
func (ev *evaluation) prepareRollup(x *metricsql.FuncExpr, g vector.Grid) (*rollupCall, error) {
	c := &rollupCall{keepName: x.KeepMetricNames || rollup.KeepsName(x.Name)}
	index := metricsql.RollupArgIndex(x)
	for i, arg := range x.Args {
		list, isText := metricsql.StringList(arg)
		switch {
		case i == index:
			c.arg = asRollupArg(arg)
		case isText && !metricsql.ScalarArg(x, i):
			c.texts = append(c.texts, list...)
		default:
			values, err := ev.scalarArg(x.Name, i, arg, g)
			if err != nil {
				return nil, err
			}
			c.args = append(c.args, values)
		}
	}
	var err error
	c.f, err = rollup.New(x.Name, c.texts)
	return c, err
}

// scalarArg evaluates an argument which has to be one series.
func (ev *evaluation) scalarArg(name string, i int, arg metricsql.Expr, g vector.Grid) ([]float64, error) {
	series, err := ev.eval(arg, g)
	if err != nil {
		return nil, err
	}
	if len(series) != 1 {
		return nil, errkind.New(errkind.Unprocessable, "cannot use arg #%d of %s as a number: it has %d series; want exactly 1", i+1, name, len(series))
	}
	return series[0].Values, nil
}

// asRollupArg returns the argument of a rollup function in its full form.
func asRollupArg(arg metricsql.Expr) *metricsql.RollupExpr {
	if re, ok := arg.(*metricsql.RollupExpr); ok {
		return re
	}
	return &metricsql.RollupExpr{Expr: arg}
}

// checkConversion refuses or logs a subquery which is not written as one.
func (ev *evaluation) checkConversion(name string, arg *metricsql.RollupExpr) error {
	if _, ok := arg.Expr.(*metricsql.MetricExpr); ok || arg.Window != nil || arg.IsSubquery() {
		return nil
	}
	if ev.e.cfg.DisableImplicitConversion && name != "timestamp" {
		return errkind.New(errkind.BadRequest, "cannot use %s in %s: it is neither a selector nor a subquery, and -search.disableImplicitConversion is set; write %s((...)[window:step])",
			metricsql.String(arg.Expr), name, name)
	}
	if ev.e.cfg.LogImplicitConversion {
		ev.e.log.Warnf("query %q uses %s over an expression without a window; it is taken as a subquery [1i:1i]", ev.req.Query, name)
	}
	return nil
}

// farthest bounds windows, offsets and times, so that sums of them do not overflow.
const farthest = int64(1e15) // milliseconds, some 30 thousand years

// duration returns the length of a window, a step or an offset.
func duration(d *metricsql.DurationExpr, step int64) (int64, error) {
	n := d.Duration(step)
	if n > farthest || n < -farthest {
		return 0, errkind.New(errkind.BadRequest, "cannot use a duration of %dms: at most %dms are supported", n, farthest)
	}
	return n, nil
}

// evalRollup applies @ and offset and evaluates the call.
func (ev *evaluation) evalRollup(c *rollupCall, g vector.Grid) ([]*vector.Series, error) {
	inner := g
	if c.arg.At != nil {
		t, err := ev.evalAt(c.arg.At, g)
		if err != nil {
			return nil, err
		}
		inner.Start, inner.End = t, t
	}
	offset, err := duration(c.arg.Offset, g.Step)
	if err != nil {
		return nil, err
	}
	inner.Start -= offset
	inner.End -= offset
	if c.f.Label != "" {
		ev.addedLabel(c.f.Label)
	}
	series, err := ev.evalWindows(c, inner)
	if err != nil || c.arg.At == nil {
		return series, err
	}
	if err := ev.reserveSeries(len(series), g); err != nil {
		return nil, err
	}
	for _, s := range series {
		v := s.Values[0]
		s.Values = make([]float64, g.Points())
		for k := range s.Values {
			s.Values[k] = v
		}
	}
	return series, nil
}

// evalAt returns the time that an @ modifier names.
func (ev *evaluation) evalAt(at metricsql.Expr, g vector.Grid) (int64, error) {
	series, err := ev.eval(at, g)
	if err != nil {
		return 0, err
	}
	if len(series) != 1 {
		return 0, errkind.New(errkind.Unprocessable, "cannot use %s after @: it has %d series; want exactly 1", metricsql.String(at), len(series))
	}
	for _, v := range series[0].Values {
		if math.Abs(v*1000) > float64(farthest) {
			break
		}
		if !math.IsNaN(v) {
			return int64(v * 1000), nil
		}
	}
	return 0, errkind.New(errkind.Unprocessable, "cannot use %s after @: it has no points, or its time is out of range", metricsql.String(at))
}

// evalWindows evaluates the call on a grid, over stored samples or over a subquery.
func (ev *evaluation) evalWindows(c *rollupCall, g vector.Grid) ([]*vector.Series, error) {
	window, err := duration(c.arg.Window, g.Step)
	if err != nil {
		return nil, err
	}
	if window < 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot use window %dms: it must not be negative", window)
	}
	p := rollup.Params{Start: g.Start, End: g.End, Step: g.Step, Window: window, Lookback: ev.lookback,
		MinStaleness: millis(ev.e.cfg.MinStalenessInterval), KeepStaleMarkers: ev.e.cfg.NoStaleMarkers, Args: c.args, Guard: ev.guard}
	m, isSelector := c.arg.Expr.(*metricsql.MetricExpr)
	if isSelector && !c.arg.IsSubquery() {
		return ev.rollupSelector(c, m, p)
	}
	return ev.rollupSubquery(c, p)
}

// readRange returns the times of the samples that the windows and the samples before them may lie in.
func (ev *evaluation) readRange(c *rollupCall, p *rollup.Params) model.TimeRange {
	r := model.TimeRange{Min: p.Start - max(p.Window, p.Step), Max: p.End}
	if rollup.ReadsSampleBefore(c.f.Name) {
		before := int64(sampleBefore)
		if p.MinStaleness > 0 {
			before = p.MinStaleness
		}
		r.Min -= before
	}
	if c.f.Shifts() {
		r.Min += p.Step
		r.Max += p.Step
	}
	return r
}

func (ev *evaluation) rollupSelector(c *rollupCall, m *metricsql.MetricExpr, p rollup.Params) ([]*vector.Series, error) {
	r := ev.readRange(c, &p)
	sel, ok := ev.selection(m, r, c.detail(int((p.End-p.Start)/p.Step)+1))
	if !ok {
		return nil, nil
	}
	sel.aspect = c.aspect()
	if series, ok, err := ev.fromCache(c, sel, p); ok || err != nil {
		return series, err
	}
	if series, ok, err := ev.pushDown(c, sel, p); ok || err != nil {
		return series, err
	}
	run := newRollupRun(ev, c, p, r)
	err := run.read(sel)
	series, runErr := run.finish()
	return series, cmp.Or(err, runErr)
}

// rollupOutput turns the results of an evaluator into series.
type rollupOutput struct {
	ev     *evaluation
	c      *rollupCall
	p      *rollup.Params
	bytes  int64  // of the points of one result series
	key    []byte // of the current series
	name   string
	labels []model.Label
	lent   bool // labels belong to someone else
	series []*vector.Series
	fold   *vector.Fold // takes the results instead of series, if only their aggregate is wanted
	noted  []keptSeries // by a run with a seam
	err    error
}

func newRollupOutput(ev *evaluation, c *rollupCall, p *rollup.Params) *rollupOutput {
	return &rollupOutput{ev: ev, c: c, p: p, bytes: ((p.End-p.Start)/p.Step + 1) * 8}
}

// begin starts with no results.
func (o *rollupOutput) begin() {
	o.series, o.fold, o.noted, o.err = nil, nil, nil, nil
	if o.c.fold != nil {
		o.fold = vector.NewFold(*o.c.fold, int((o.p.End-o.p.Start)/o.p.Step)+1)
	}
}

// setLabels starts the results of a series with the given labels, the name first. They are copied when they are needed for longer.
func (o *rollupOutput) setLabels(labels []model.Label) {
	o.name, o.labels, o.lent = "", labels, true
	if len(labels) > 0 && labels[0].Name == model.MetricNameLabel {
		o.name, o.labels = labels[0].Value, labels[1:]
	}
}

// add is called with each result of the current series.
func (o *rollupOutput) add(label string, values []float64) {
	if o.err != nil {
		return
	}
	if o.fold != nil {
		o.err = o.addToFold(label, values)
		return
	}
	if o.err = o.ev.reserve(o.bytes + vector.SeriesSize(o.labels)); o.err != nil {
		return
	}
	o.own()
	s := &vector.Series{Labels: o.labels, Values: values}
	if o.c.keepName {
		s.Name = o.name
	}
	if o.c.f.Label != "" {
		s.Labels = withLabel(o.labels, o.c.f.Label, label)
	}
	o.series = append(o.series, s)
}

// own copies the labels of the current series.
func (o *rollupOutput) own() {
	if !o.lent {
		return
	}
	o.lent = false
	o.labels = copyLabels(o.labels)
	if o.c.keepName {
		o.name = strings.Clone(o.name)
	}
}

// addToFold aggregates a result.
func (o *rollupOutput) addToFold(label string, values []float64) error {
	labels, name := o.labels, ""
	if o.c.keepName {
		name = o.name
	}
	if o.c.f.Label != "" {
		labels = withLabel(labels, o.c.f.Label, label)
	}
	before := o.fold.Bytes()
	o.fold.Add(name, labels, values)
	more := o.fold.Bytes() - before
	if more == 0 {
		return nil
	}
	if o.c.firsts {
		o.fold.SetFirst(o.key)
	}
	return o.ev.reserve(more)
}

// withLabel returns a copy of labels in which name has the value.
func withLabel(labels []model.Label, name, value string) []model.Label {
	out := make([]model.Label, 0, len(labels)+1)
	i, found := slices.BinarySearchFunc(labels, name, func(l model.Label, name string) int {
		switch {
		case l.Name < name:
			return -1
		case l.Name > name:
			return 1
		}
		return 0
	})
	out = append(append(out, labels[:i]...), model.Label{Name: name, Value: value})
	if found {
		i++
	}
	return append(out, labels[i:]...)
}

// rollupSubquery evaluates the inner expression on its own grid and takes its points as samples.
func (ev *evaluation) rollupSubquery(c *rollupCall, p rollup.Params) ([]*vector.Series, error) {
	step, err := duration(c.arg.Step, p.Step)
	if err != nil {
		return nil, err
	}
	if step <= 0 {
		step = p.Step
	}
	window := p.Window
	if window == 0 {
		window = p.Step
	}
	shift := int64(0)
	if c.f.Shifts() {
		shift = p.Step
	}
	inner := vector.Grid{Start: floorTo(p.Start+shift-window-step-sampleBefore, step), End: ceilTo(p.End+shift+step, step), Step: step}
	points := (inner.End-inner.Start)/step + 1
	if limit := int64(ev.e.cfg.MaxPointsPerSubquerySeries); limit > 0 && points > limit {
		return nil, errkind.New(errkind.Unprocessable, "cannot evaluate a subquery at %d points per series: at most %d are allowed; raise its step, shorten its window, or raise -search.maxPointsSubqueryPerTimeseries",
			points, limit)
	}
	series, err := ev.eval(c.arg.Expr, inner)
	if err != nil {
		return nil, err
	}
	out := newRollupOutput(ev, c, &p)
	evaluator := rollup.NewEvaluator(c.f, p)
	var times []int64
	var values []float64
	for _, s := range series {
		if err := ev.interrupted(); err != nil {
			return nil, err
		}
		times, values = times[:0], values[:0]
		for k, v := range s.Values {
			if !math.IsNaN(v) {
				times, values = append(times, inner.At(k)), append(values, v)
			}
		}
		out.name, out.labels = s.Name, s.Labels // its own already
		evaluator.Eval(times, values, out.add)
		if err := cmp.Or(out.err, evaluator.Err()); err != nil {
			return nil, err
		}
	}
	return out.series, nil
}
