package query

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/vector"
)

// checkEstimate refuses queries which need more memory than they may have whatever is stored, before anything is read for
// them. What selectors find cannot be known before; it is accounted for while it is read.
func (ev *evaluation) checkEstimate(expr metricsql.Expr, g vector.Grid) error {
	if ev.limit <= 0 {
		return nil
	}
	if n := leastBytes(expr, g); n > ev.limit {
		return errkind.New(errkind.Unprocessable, "cannot evaluate the query: it needs at least %d bytes of memory for %d points per series, whatever its selectors find, and at most %d are allowed for one query; "+
			"simplify it, shorten the range, raise the step or -search.maxMemoryPerQuery", n, g.Points(), ev.limit)
	}
	return nil
}

// leastBytes returns how many bytes the evaluation of an expression reserves at least: those of the constants in all parts that are always evaluated.
func leastBytes(expr metricsql.Expr, g vector.Grid) int64 {
	switch x := expr.(type) {
	case *metricsql.NumberExpr, *metricsql.StringExpr, *metricsql.DurationExpr:
		return int64(g.Points())*8 + seriesBytes
	case *metricsql.BinaryExpr:
		switch {
		case needsBothSides(x):
			return leastBytes(x.Left, g) + leastBytes(x.Right, g)
		case rightFirst(x):
			return leastBytes(x.Right, g)
		}
		return leastBytes(x.Left, g)
	case *metricsql.AggrExpr:
		return leastBytesOf(x.Args, g)
	case *metricsql.FuncExpr:
		if metricsql.FunctionKind(x.Name) == metricsql.KindRollup {
			return 0 // arguments are evaluated at times of their own, and strings are not evaluated
		}
		return leastBytesOf(x.Args, g)
	}
	return 0
}

func leastBytesOf(args []metricsql.Expr, g vector.Grid) int64 {
	n := int64(0)
	for _, arg := range args {
		n += leastBytes(arg, g)
	}
	return n
}
