package query

import (
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

// An aggregate over a rollup of a selector is folded: results go into their groups series by series while the
// selector is read on, so that a series per group is held, not one per input. Each batch has
// a fold of its own; they are merged in the order of the batches, so the same samples give the same sums.

// selectorCall returns the call if e is a rollup of a selector, or else nil.
func (ev *evaluation) selectorCall(e metricsql.Expr, g vector.Grid) (*rollupCall, error) {
	arg := e
	f, isFunc := e.(*metricsql.FuncExpr)
	if isFunc {
		i := metricsql.RollupArgIndex(f)
		if i < 0 || i >= len(f.Args) || f.Name == "absent_over_time" {
			return nil, nil
		}
		arg = f.Args[i]
	}
	re := asRollupArg(arg)
	if _, ok := re.Expr.(*metricsql.MetricExpr); !ok || re.At != nil || isFunc && re.IsSubquery() {
		return nil, nil
	}
	if !isFunc {
		return defaultCall(re)
	}
	if err := metricsql.CheckArgs(f); err != nil {
		return nil, err
	}
	return ev.prepareRollup(f, g)
}

// evalFolded evaluates the call and aggregates its results on the way.
func (ev *evaluation) evalFolded(o *vector.AggregateOptions, c *rollupCall, g vector.Grid) ([]*vector.Series, error) {
	c.fold = o
	series, err := ev.evalRollup(c, g)
	if g.Start < g.End { // by first series, the order of groups would depend on the range
		vector.Sort(series)
	}
	return series, err
}

// detailOf returns what a call needs of each series. At a single time, the value of a selector is that of its newest
// sample in the range, and whether there is one is all that counting takes.
func (c *rollupCall) detail(points int) model.Detail {
	if points != 1 || c.f.Name != "default_rollup" {
		return model.AllSamples
	}
	if c.fold != nil && (c.fold.Name == "count" || c.fold.Name == "group") {
		return model.NewestKind
	}
	return model.NewestSample
}
