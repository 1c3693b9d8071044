package graphite

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
)

// Source finds series.
type Source interface {
	// Fetch returns the series which q selects, with q.Points values each, which q.Grid makes and counts.
	Fetch(ctx context.Context, q *Query) ([]*Series, error)
}

// Query selects series by a path or by tags, and the times of their values.
type Query struct {
	Text    string
	Pattern *Pattern  // nil: by tags
	Tags    []TagExpr // all of them hold
	Start   int64     // Unix ms, a multiple of Step
	Step    int64     // ms
	Points  int
	// Aggregate names what puts the samples of a step into one value; empty for the average.
	Aggregate string

	run *Run
}

// Hold reserves memory of the request, until it is answered or Release gives it back. Grid does so for values.
func (q *Query) Hold(bytes int64) error { return q.run.holdBytes(bytes) }

// Release gives back what Hold has reserved.
func (q *Query) Release(bytes int64) {
	q.run.limits.Budget.Release(bytes)
	q.run.reserved -= bytes
}

// End returns the time after the last step.
func (q *Query) End() int64 { return q.Start + int64(q.Points)*q.Step }

// Grid puts samples, sorted by time, into the steps that they fall into. An error is about memory.
func (q *Query) Grid(timestamps []int64, values []float64) ([]float64, error) {
	if err := q.run.hold(q.Points); err != nil {
		return nil, err
	}
	agg := consolidator(q.Aggregate)
	out := make([]float64, q.Points)
	for i := range out {
		out[i] = math.NaN()
	}
	for i := 0; i < len(timestamps); {
		k := (timestamps[i] - q.Start) / q.Step
		if timestamps[i] < q.Start || k >= int64(q.Points) {
			i++
			continue
		}
		end, j := q.Start+(k+1)*q.Step, i+1
		for j < len(timestamps) && timestamps[j] < end {
			j++
		}
		if j == i+1 {
			out[k] = finite(values[i])
		} else {
			out[k] = agg.over(values[i:j], 0)
		}
		i = j
	}
	return out, nil
}

// Request is what all targets of a request have in common.
type Request struct {
	From  int64 // Unix ms
	Until int64 // Unix ms, itself not included
	Step  int64 // ms, of what is read from the storage
	// XFilesFactor is the share of values which must be known where several are put into one.
	XFilesFactor float64
	Now          time.Time // in the time zone of the request
}

// Limits bound a request.
type Limits struct {
	MaxPointsPerSeries int
	// MaxPathLen cuts the texts of paths in names; 0 means no limit.
	MaxPathLen int
	// MaxBytes is how much of the budget a request may reserve; 0 means half of it.
	MaxBytes int64
	Budget   *memory.Budget
}

// Run evaluates the targets of one request. It belongs to one goroutine.
type Run struct {
	engine   *Engine
	source   Source
	req      Request
	limits   Limits
	fetched  map[string][]*Series
	reserved int64
}

// NewRun returns a run, to be closed once its answers are used no more.
func (e *Engine) NewRun(source Source, req Request, limits Limits) *Run {
	if limits.MaxBytes <= 0 {
		limits.MaxBytes = limits.Budget.Limit() / 2
	}
	return &Run{engine: e, source: source, req: req, limits: limits, fetched: map[string][]*Series{}}
}

// Close gives the memory back.
func (r *Run) Close() {
	r.limits.Budget.Release(r.reserved)
	r.reserved = 0
}

// scope is the range a part of a target is evaluated in.
type scope struct {
	from, until int64
	withUntil   bool // there is a value at until
	aggregate   string
	depth       int
}

// Render evaluates a target. The series are shared with other targets; nobody may change them.
func (r *Run) Render(ctx context.Context, target string) ([]*Series, error) {
	e, err := Parse(target)
	if err != nil {
		return nil, err
	}
	if r.req.Step <= 0 || r.req.Until < r.req.From {
		return nil, errkind.New(errkind.BadRequest, "cannot evaluate a range of %d to %d with a step of %d ms", r.req.From, r.req.Until, r.req.Step)
	}
	return r.eval(ctx, e, scope{from: r.req.From, until: r.req.Until})
}

func (r *Run) eval(ctx context.Context, e Expr, sc scope) ([]*Series, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch e := e.(type) {
	case Path:
		return r.fetchPath(ctx, string(e), sc)
	case Number:
		return r.fetchPath(ctx, e.Text, sc)
	case *Call:
		return r.call(ctx, e, sc)
	case evaluated:
		return e.list, nil
	}
	return nil, errkind.New(errkind.BadRequest, "cannot draw %s: want a path or a function call", Print(e))
}

func (r *Run) fetchPath(ctx context.Context, path string, sc scope) ([]*Series, error) {
	p, err := ParsePattern(path, '.')
	if err != nil {
		return nil, err
	}
	return r.fetch(ctx, &Query{Text: path, Pattern: p}, sc)
}

// fetch reads series, or takes what another part of the request has read.
func (r *Run) fetch(ctx context.Context, q *Query, sc scope) ([]*Series, error) {
	q.Step, q.Start, q.Aggregate = r.req.Step, floorTo(sc.from, r.req.Step), sc.aggregate
	points := ceilDiv(sc.until-q.Start, q.Step)
	if sc.withUntil {
		points = floorDiv(sc.until-q.Start, q.Step) + 1
	}
	if err := r.checkPoints(points); err != nil {
		return nil, err
	}
	q.Points, q.run = int(max(0, points)), r
	key := fmt.Sprintf("%s\x00%d\x00%d\x00%s", q.Text, q.Start, q.Points, q.Aggregate)
	if list, ok := r.fetched[key]; ok {
		return list, nil
	}
	list, err := r.source.Fetch(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		s.Path, s.XFilesFactor = q.Text, r.req.XFilesFactor
	}
	slices.SortStableFunc(list, func(a, b *Series) int { return cmp.Compare(a.Name, b.Name) })
	r.fetched[key] = list
	return list, nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// checkPoints refuses series which are too long.
func (r *Run) checkPoints(n int64) error {
	if most := r.limits.MaxPointsPerSeries; most > 0 && n > int64(most) {
		return errkind.New(errkind.Unprocessable, "cannot evaluate %d points per series: at most %d are allowed; narrow the time range, give a larger storage_step than %s, or raise -search.graphiteMaxPointsPerSeries",
			n, most, time.Duration(r.req.Step)*time.Millisecond)
	}
	return nil
}

// seriesBytes is what a series takes beside its values.
const seriesBytes = 256

// hold reserves the memory of a series with n values.
func (r *Run) hold(n int) error { return r.holdBytes(seriesBytes + 8*int64(n)) }

func (r *Run) holdBytes(bytes int64) error {
	if r.reserved+bytes > r.limits.MaxBytes {
		return errkind.New(errkind.Unprocessable, "cannot use more than %d bytes of memory for one query (%d are in use, %d more are needed); select fewer series, shorten the range, give a larger storage_step than %s, or raise -search.maxMemoryPerQuery",
			r.limits.MaxBytes, r.reserved, bytes, time.Duration(r.req.Step)*time.Millisecond)
	}
	if err := r.limits.Budget.ReserveMore(bytes, r.reserved, "Graphite series"); err != nil {
		return err
	}
	r.reserved += bytes
	return nil
}

// call is a function that is being evaluated.
type call struct {
	run   *Run
	ctx   context.Context
	fn    *Function
	expr  *Call
	scope scope
	args  map[string]argument
	work  int // since the last look at ctx
}

func (r *Run) call(ctx context.Context, e *Call, sc scope) ([]*Series, error) {
	f := r.engine.functions[e.Name]
	if f == nil {
		return nil, errkind.New(errkind.BadRequest, "unknown function %q", e.Name)
	}
	if sc.depth++; sc.depth > maxDepth {
		return nil, errkind.New(errkind.BadRequest, "cannot evaluate %s(): more than %d nested calls", e.Name, maxDepth)
	}
	args, err := f.bind(e)
	if err != nil {
		return nil, err
	}
	c := &call{run: r, ctx: ctx, fn: f, expr: e, scope: sc, args: args}
	list, err := f.eval(c)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = r.holdNames(list)
	}
	if err != nil || f.keepsPath {
		return list, err
	}
	path := r.cut(Print(e))
	for i, s := range list {
		if err := r.hold(len(s.Values)); err != nil {
			return nil, err
		}
		list[i] = s.copyOf()
		list[i].Path = path
	}
	return list, nil
}

// maxName is the longest name of a series in bytes. Nested replacements could make names grow without end.
const maxName = 4096

// holdNames reserves the memory of long names and refuses those that are too long.
func (r *Run) holdNames(list []*Series) error {
	for _, s := range list {
		if len(s.Name) > maxName {
			return errkind.New(errkind.Unprocessable, "cannot name a series %.50q... of %d bytes: at most %d are allowed; shorten it with alias() or aliasByNode()", s.Name, len(s.Name), maxName)
		}
		if len(s.Name) > seriesBytes/2 {
			if err := r.hold(len(s.Name) / 8); err != nil {
				return err
			}
		}
	}
	return nil
}

// tired counts work, in values, and reports now and then whether the request has been given up.
func (c *call) tired(work int) bool {
	if c.work += work; c.work < 1<<18 {
		return false
	}
	c.work = 0
	return c.ctx.Err() != nil
}

// cut shortens a text of paths to what is allowed.
func (r *Run) cut(text string) string {
	most := r.limits.MaxPathLen
	if most <= 0 || len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// list evaluates the series of a parameter.
func (c *call) list(name string) ([]*Series, error) { return c.listIn(name, c.scope) }

func (c *call) listIn(name string, sc scope) ([]*Series, error) {
	exprs := c.args[name].exprs
	if len(exprs) == 1 {
		list, err := c.run.eval(c.ctx, exprs[0], sc)
		return slices.Clone(list), err
	}
	var all []*Series
	for _, e := range exprs {
		list, err := c.run.eval(c.ctx, e, sc)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// each evaluates the parameter seriesList and puts every series through f.
func (c *call) each(f func(s *Series) *Series) ([]*Series, error) {
	list, err := c.list("seriesList")
	for i, s := range list {
		if c.tired(len(s.Values)) {
			return nil, c.ctx.Err()
		}
		list[i] = f(s)
	}
	return list, err
}
