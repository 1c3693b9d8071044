package query

import (
	"context"
	"sync/atomic"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/vector"
)

// evaluation is the state of one query. It is used by one goroutine; workers may
// call reserve and interrupted, and settle what they have read.
type evaluation struct {
	e        *Engine
	cfg      *Config // that of the engine, or with the limits of a fragment
	reading  Reading
	ctx      context.Context
	req      *Request
	lookback int64

	uses    map[string]int // how often each selector occurs in the query
	fetched map[fetchKey]*fetched
	// keptBytes are reserved for fetched until the end.
	keptBytes int64

	added []string // labels which functions added to series, in the order they first did

	seriesFetched atomic.Int64
	samplesRead   atomic.Int64
	partial       bool
	reserved      atomic.Int64 // bytes
	peak          atomic.Int64 // the most that was reserved at a time
	limit         int64        // of reserved; 0: none
	refused       atomic.Bool  // memory was
}

func (e *Engine) newEvaluation(ctx context.Context, r *Request, expr metricsql.Expr, step int64) *evaluation {
	ev := &evaluation{e: e, cfg: e.cfg, reading: e.source.Reading(), ctx: ctx, req: r, lookback: e.lookback(r, step), uses: map[string]int{}, fetched: map[fetchKey]*fetched{}}
	ev.limit = e.memoryLimit()
	countSelectors(expr, ev.uses)
	return ev
}

// release gives back what the evaluation reserved.
func (ev *evaluation) release() {
	ev.e.samplesPerQuery.Update(float64(ev.samplesRead.Load()))
	ev.e.seriesPerQuery.Update(float64(ev.seriesFetched.Load()))
	if n := ev.reserved.Swap(0); n > 0 && ev.e.budget != nil {
		ev.e.budget.Release(n)
	}
}

// memoryLimit returns how many bytes a query may reserve; 0 means any number. By default one query cannot take all of
// the budget, since others, and writes, need some of it.
func (e *Engine) memoryLimit() int64 {
	switch {
	case e.cfg.MaxMemoryPerQuery > 0:
		return int64(e.cfg.MaxMemoryPerQuery)
	case e.budget != nil:
		return e.budget.Limit() / 2
	}
	return 0
}

// reserve takes memory for samples or points until the end of the evaluation.
func (ev *evaluation) reserve(n int64) error {
	used := ev.reserved.Add(n)
	if ev.limit > 0 && used > ev.limit {
		ev.reserved.Add(-n)
		ev.refused.Store(true)
		return errkind.New(errkind.Unprocessable, "cannot use more than %d bytes of memory for one query (%d are in use, %d more are needed); select fewer series, shorten the range, raise the step or -search.maxMemoryPerQuery",
			ev.limit, used-n, n)
	}
	if ev.e.budget != nil {
		if err := ev.e.budget.ReserveMore(n, used-n, "a query"); err != nil {
			ev.reserved.Add(-n)
			ev.refused.Store(true)
			return err
		}
	}
	for peak := ev.peak.Load(); used > peak && !ev.peak.CompareAndSwap(peak, used); {
		peak = ev.peak.Load()
	}
	return nil
}

// explain adds how far the query came to the error of a refused reservation. By now all workers have settled.
func (ev *evaluation) explain(err error) error {
	if err == nil || !ev.refused.Load() {
		return err
	}
	return errkind.New(errkind.Of(err), "%w; %d series and %d samples had been read until then", err, ev.seriesFetched.Load(), ev.samplesRead.Load()).WithRetryAfter(errkind.RetryAfterOf(err))
}

// guard is reserve for long computations: it fails as well when the query was given up.
func (ev *evaluation) guard(n int64) error {
	if err := ev.interrupted(); err != nil || n == 0 {
		return err
	}
	return ev.reserve(n)
}

// reserveSeries takes memory for n series of a grid.
func (ev *evaluation) reserveSeries(n int, g vector.Grid) error {
	if n <= 0 {
		return nil
	}
	return ev.reserve(int64(n) * (int64(g.Points())*8 + seriesBytes))
}

// giveBack releases a part of what was reserved before the end of the evaluation.
func (ev *evaluation) giveBack(n int64) {
	ev.reserved.Add(-n)
	if ev.e.budget != nil {
		ev.e.budget.Release(n)
	}
}

// countSelectors counts the selectors of the tree by their text.
func countSelectors(expr metricsql.Expr, uses map[string]int) {
	metricsql.Visit(expr, func(e metricsql.Expr) bool {
		if m, ok := e.(*metricsql.MetricExpr); ok {
			uses[metricsql.String(m)]++
		}
		return true
	})
}
