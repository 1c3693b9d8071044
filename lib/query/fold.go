package query

import (
	"math"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/vector"
)

// fold aggregates the results of a rollup batch by batch while the selector is
// read on, so that an aggregate over many series holds a series per group, not one per
// input. Batches have the same bounds and are joined in the same order each time.
type fold struct {
	first vector.AggregateOptions // applied to each batch
	rest  vector.AggregateOptions // applied to the results of all batches
	mean  bool                    // series carry how many points were summed up behind their points
}

// foldOf returns how to evaluate an aggregate in parts, or nil if that is not possible.
func foldOf(o vector.AggregateOptions) *fold {
	if o.Limit > 0 {
		return nil
	}
	f := &fold{first: o, rest: o}
	switch o.Name {
	case "sum", "min", "max", "group":
	case "count", "sum2":
		f.rest.Name = "sum"
	case "avg":
		f.mean = true
		f.first.Name, f.rest.Name = "sum", "sum"
	default:
		return nil
	}
	return f
}

// batch aggregates the results of one batch.
func (f *fold) batch(series []*vector.Series) ([]*vector.Series, error) {
	if f.mean {
		for _, s := range series {
			s.Values = withPresence(s.Values)
		}
	}
	return vector.Aggregate(f.first, []vector.Arg{{Series: series}})
}

// withPresence returns the values followed by a 1 for each that is a point.
func withPresence(values []float64) []float64 {
	out := append(make([]float64, 0, 2*len(values)), values...)
	for _, v := range values {
		if !math.IsNaN(v) {
			v = 1
		}
		out = append(out, v)
	}
	return out
}

// join aggregates the results of all batches.
func (f *fold) join(series []*vector.Series) ([]*vector.Series, error) {
	series, err := vector.Aggregate(f.rest, []vector.Arg{{Series: series}})
	if err != nil || !f.mean {
		return series, err
	}
	for _, s := range series {
		n := len(s.Values) / 2
		for k := range n {
			s.Values[k] /= s.Values[n+k]
		}
		s.Values = s.Values[:n:n]
	}
	return series, nil
}

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
func (ev *evaluation) evalFolded(f *fold, c *rollupCall, g vector.Grid) ([]*vector.Series, error) {
	c.fold = f
	series, err := ev.evalRollup(c, g)
	if err != nil {
		return nil, err
	}
	return f.join(series)
}
