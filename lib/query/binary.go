package query

import (
	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/vector"
)

func (ev *evaluation) evalBinary(x *metricsql.BinaryExpr, g vector.Grid) ([]*vector.Series, error) {
	left, right, err := ev.evalSides(x, g)
	if err != nil {
		return nil, err
	}
	many := left
	if x.Join == metricsql.JoinRight {
		many = right
	}
	t := ev.track(x, many)
	o := binaryOptions(x)
	o.Guard = ev.guard
	series, err := vector.Binary(o, left, right)
	t.done(series)
	return series, err
}

// evalSides evaluates both sides. The second is left out, and stays empty, where the first
// alone settles that the result is empty.
func (ev *evaluation) evalSides(x *metricsql.BinaryExpr, g vector.Grid) (left, right []*vector.Series, err error) {
	first, second := x.Left, x.Right
	swapped := rightFirst(x)
	if swapped {
		first, second = second, first
	}
	a, err := ev.eval(first, g)
	if err != nil {
		return nil, nil, err
	}
	var b []*vector.Series
	if len(a) > 0 || needsBothSides(x) {
		if b, err = ev.eval(ev.narrow(x, second, a), g); err != nil {
			return nil, nil, err
		}
	}
	if swapped {
		return b, a, nil
	}
	return a, b, nil
}

// rightFirst reports whether an empty right side makes the result empty.
func rightFirst(x *metricsql.BinaryExpr) bool {
	return x.Op == "and" || x.Op == "if" || x.FillLeft != nil && x.FillRight == nil
}

// needsBothSides reports whether the result may have points although one side has none, or
// whether a side is an aggregate into one group, which is cheap to have.
func needsBothSides(x *metricsql.BinaryExpr) bool {
	return x.Op == "or" || x.Op == "default" || x.FillLeft != nil && x.FillRight != nil || isTotal(x.Left) || isTotal(x.Right)
}

// isTotal reports whether e aggregates everything into one group.
func isTotal(e metricsql.Expr) bool {
	x, ok := e.(*metricsql.AggrExpr)
	return ok && x.Grouping == metricsql.GroupNone
}

func binaryOptions(x *metricsql.BinaryExpr) vector.BinaryOptions {
	return vector.BinaryOptions{
		Op: x.Op, Bool: x.Bool, MatchLabels: x.MatchLabels, JoinLabels: x.JoinLabels, JoinPrefix: x.JoinPrefix,
		Match: matching(x.Match), Join: joining(x.Join), FillLeft: x.FillLeft, FillRight: x.FillRight, KeepMetricNames: x.KeepMetricNames,
		SwapSides: swapsSides(x), RightFiltered: isFilter(x.Right), RightIsList: isList(x.Right),
	}
}

func matching(op metricsql.MatchOp) vector.MatchOp {
	switch op {
	case metricsql.MatchOn:
		return vector.MatchOn
	case metricsql.MatchIgnoring:
		return vector.MatchIgnoring
	}
	return vector.MatchAll
}

func joining(op metricsql.JoinOp) vector.JoinOp {
	switch op {
	case metricsql.JoinLeft:
		return vector.JoinLeft
	case metricsql.JoinRight:
		return vector.JoinRight
	}
	return vector.JoinNone
}

// swapsSides reports whether a comparison such as 3 < m is answered as m > 3.
func swapsSides(x *metricsql.BinaryExpr) bool {
	if !isComparison(x.Op) || isNumber(x.Right) {
		return false
	}
	f, ok := x.Left.(*metricsql.FuncExpr)
	return isNumber(x.Left) || ok && f.Name == "time"
}

func isNumber(e metricsql.Expr) bool {
	switch e.(type) {
	case *metricsql.NumberExpr, *metricsql.DurationExpr:
		return true
	}
	return false
}

func isComparison(op string) bool {
	switch op {
	case "==", "!=", "<", ">", "<=", ">=":
		return true
	}
	return false
}

// isFilter reports whether e is a comparison that leaves out points of series.
func isFilter(e metricsql.Expr) bool {
	x, ok := e.(*metricsql.BinaryExpr)
	return ok && isComparison(x.Op) && !x.Bool
}

// isList reports whether e lists expressions: (a, b) or union(a, b).
func isList(e metricsql.Expr) bool {
	x, ok := e.(*metricsql.FuncExpr)
	return ok && (x.Name == "" || x.Name == "union")
}
