package query

import (
	"context"
	"errors"
	"sync"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

// Options are what an Engine works with.
type Options struct {
	Source  Source
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget
	Cache   *Cache // of results; nil for none
	Now     func() time.Time
}

// Engine evaluates queries.
type Engine struct {
	cfg              *Config
	source           Source
	log              *logger.Logger
	budget           *memory.Budget
	now              func() time.Time
	queries          *metrics.Counter
	failures         *metrics.Counter
	samplesPerQuery  *metrics.Histogram
	samplesPerSeries *metrics.Histogram
	seriesPerQuery   *metrics.Histogram
	pushed           *metrics.Counter
	notPushed        *metrics.Counter
	cache            *Cache    // nil: results are not kept
	batches          sync.Pool // of *batch
	workers          sync.Pool // of *rollupWorker
}

// New returns an engine. The configuration is used as it stands and must not change later.
func New(cfg *Config, o Options) *Engine {
	e := &Engine{cfg: cfg, source: o.Source, log: o.Logger, budget: o.Budget, cache: o.Cache, now: o.Now}
	if e.now == nil {
		e.now = time.Now
	}
	e.queries = o.Metrics.Counter("vm_query_evaluations_total")
	e.failures = o.Metrics.Counter("vm_query_evaluation_errors_total")
	e.samplesPerQuery = o.Metrics.Histogram("vm_rows_read_per_query")
	e.samplesPerSeries = o.Metrics.Histogram("vm_rows_read_per_series")
	e.seriesPerQuery = o.Metrics.Histogram("vm_series_read_per_query")
	e.pushed = o.Metrics.Counter(`vm_query_fragments_total{evaluated_by="storage"}`)
	e.notPushed = o.Metrics.Counter(`vm_query_fragments_total{evaluated_by="vmselect"}`)
	return e
}

// Query evaluates an instant query at r.Start. A query which is nothing but
// selector[d] answers raw samples, one which is nothing but expr[d:s] a range; both are a Matrix.
//
// Errors are of kind BadRequest for text that cannot be evaluated at all, Unprocessable for failed
// evaluations and exceeded limits, Overloaded for lack of memory, Timeout and
// Canceled by the context, or whatever kind the source gives.
func (e *Engine) Query(ctx context.Context, r *Request) (*Result, error) {
	res, err := e.instant(ctx, r)
	return res, e.finish(err, "cannot evaluate query %q at time %d with step %dms: %w", r.Query, r.Start, r.Step)
}

// QueryRange evaluates a query at r.Start, r.Start+r.Step, ... up to r.End. Errors are those of Query.
func (e *Engine) QueryRange(ctx context.Context, r *Request) (*Result, error) {
	res, err := e.overRange(ctx, r)
	return res, e.finish(err, "cannot evaluate query %q from %d to %d with step %dms: %w", r.Query, r.Start, r.End, r.Step)
}

// finish counts the query and puts what was asked in front of its error.
func (e *Engine) finish(err error, format string, args ...any) error {
	e.queries.Inc()
	if err == nil {
		return nil
	}
	e.failures.Inc()
	return errkind.New(errkind.Of(err), format, append(args, err)...).WithRetryAfter(errkind.RetryAfterOf(err))
}

func (e *Engine) parse(query string) (metricsql.Expr, error) {
	if limit := int(e.cfg.MaxQueryLen); limit > 0 && len(query) > limit {
		return nil, errkind.New(errkind.BadRequest, "cannot parse query of %d bytes: at most %d are allowed; shorten it or raise -search.maxQueryLen", len(query), limit)
	}
	expr, err := metricsql.Parse(query)
	if err != nil {
		return nil, err
	}
	if e.cfg.TreatDotsAsIs {
		literalDots(expr)
	}
	return shareFilters(expr), nil
}

func (e *Engine) instant(ctx context.Context, r *Request) (*Result, error) {
	expr, err := e.parse(r.Query)
	if err != nil {
		return nil, err
	}
	step := r.Step
	if step == 0 {
		step = e.InstantStep(r)
	}
	if step < 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot use step %dms: it must be positive", step)
	}
	if r.Start < -farthest || r.Start > farthest || step > farthest {
		return nil, errkind.New(errkind.BadRequest, "cannot use time=%d and step=%d: at most %dms from 1970 are supported", r.Start, step, farthest)
	}
	if re, ok := expr.(*metricsql.RollupExpr); ok && re.At == nil && re.Window.Duration(step) > 0 {
		return e.instantWindow(ctx, r, re, step)
	}
	at := r.Start
	if offset := e.latencyOffset(r); !r.NoCache && abs(e.now().UnixMilli()-at) < offset {
		at = max(e.now().UnixMilli()-offset, -farthest)
	}
	ev := e.newEvaluation(ctx, r, expr, step)
	defer ev.release()
	g := vector.Grid{Start: at, End: at, Step: step}
	res, err := ev.result(expr, g, Vector)
	if err != nil {
		return nil, err
	}
	for i := range res.Series {
		res.Series[i].Timestamps[0] = r.Start
	}
	return res, nil
}

// instantWindow answers queries which are one window and nothing else.
func (e *Engine) instantWindow(ctx context.Context, r *Request, re *metricsql.RollupExpr, step int64) (*Result, error) {
	window, err := duration(re.Window, step)
	if err != nil {
		return nil, err
	}
	offset, err := duration(re.Offset, step)
	if err != nil {
		return nil, err
	}
	end := r.Start - offset
	m, isSelector := re.Expr.(*metricsql.MetricExpr)
	if isSelector && !re.IsSubquery() {
		ev := e.newEvaluation(ctx, r, re, step)
		defer ev.release()
		return ev.rawSamples(m, model.TimeRange{Min: end - window + 1, Max: end})
	}
	sub := *r
	sub.Start, sub.End = end-window, end
	if sub.Step, err = duration(re.Step, step); err != nil {
		return nil, err
	}
	if sub.Step <= 0 {
		sub.Step = step
	}
	return e.evalRange(ctx, &sub, re.Expr)
}

func (e *Engine) overRange(ctx context.Context, r *Request) (*Result, error) {
	expr, err := e.parse(r.Query)
	if err != nil {
		return nil, err
	}
	return e.evalRange(ctx, r, expr)
}

func (e *Engine) evalRange(ctx context.Context, r *Request, expr metricsql.Expr) (*Result, error) {
	g, err := e.rangeGrid(r)
	if err != nil {
		return nil, err
	}
	ev := e.newEvaluation(ctx, r, expr, g.Step)
	defer ev.release()
	res, err := ev.result(expr, g, Matrix)
	if err != nil {
		return nil, err
	}
	now, offset := e.now().UnixMilli(), e.latencyOffset(r)
	if g.Step < millis(e.cfg.MaxStepForPointsAdjustment) && g.End > now-offset {
		holdBack(res.Series, g, now, offset)
	}
	return res, nil
}

// ResetCache forgets all results which are kept.
func (e *Engine) ResetCache() {
	if e.cache != nil {
		e.cache.Reset()
	}
}

func (e *Engine) latencyOffset(r *Request) int64 {
	if r.LatencyOffset != nil {
		return *r.LatencyOffset
	}
	return millis(e.cfg.LatencyOffset)
}

// lookback returns how long values are carried; 0 means without limit.
func (e *Engine) lookback(r *Request, step int64) int64 {
	if e.cfg.SetLookbackToStep {
		return step
	}
	return e.longestLookback(r)
}

// InstantStep returns the step of an instant query for which none is given.
func (e *Engine) InstantStep(r *Request) int64 {
	if lookback := e.longestLookback(r); lookback > 0 {
		return lookback
	}
	return defaultStep
}

// longestLookback returns the lookback that is asked for, whatever the step; 0 means without limit.
func (e *Engine) longestLookback(r *Request) int64 {
	switch {
	case r.MaxLookback != nil:
		return *r.MaxLookback
	case e.cfg.MaxLookback > 0:
		return millis(e.cfg.MaxLookback)
	}
	return millis(e.cfg.MaxStalenessInterval)
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// interrupted returns an error once the query was given up or ran out of time.
func (ev *evaluation) interrupted() error {
	switch err := ev.ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return errkind.New(errkind.Timeout, "the query ran out of time; simplify it, shorten its range, or raise the timeout argument or -search.maxQueryDuration: %w", err)
	default:
		return errkind.New(errkind.Canceled, "the query was given up by its caller: %w", err)
	}
}
