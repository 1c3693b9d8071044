package query

import (
	"math"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/vector"
)

// eval evaluates an expression at the times of a grid. The caller owns the result.
func (ev *evaluation) eval(expr metricsql.Expr, g vector.Grid) ([]*vector.Series, error) {
	if err := ev.interrupted(); err != nil {
		return nil, err
	}
	switch expr.(type) {
	case *metricsql.FuncExpr, *metricsql.AggrExpr, *metricsql.BinaryExpr:
		before := ev.reserved.Load() - ev.keptBytes
		series, err := ev.evalNode(expr, g)
		if err == nil {
			ev.releaseInputs(before, series)
		}
		return series, err
	}
	return ev.evalNode(expr, g)
}

// releaseInputs gives back what a node has reserved beyond its result: its inputs are gone by now, but for the
// samples that are kept for selectors which occur again.
func (ev *evaluation) releaseInputs(before int64, result []*vector.Series) {
	held := ev.reserved.Load() - ev.keptBytes - before
	for _, s := range result {
		held -= int64(len(s.Values))*8 + vector.SeriesSize(s.Labels)
	}
	if held > 0 {
		ev.giveBack(held)
	}
}

// evalNode evaluates one node of the tree.
func (ev *evaluation) evalNode(expr metricsql.Expr, g vector.Grid) ([]*vector.Series, error) {
	switch x := expr.(type) {
	case *metricsql.NumberExpr:
		return ev.constant("", x.Value, g)
	case *metricsql.StringExpr:
		return ev.constant(x.Value, math.NaN(), g)
	case *metricsql.DurationExpr:
		return ev.constant("", float64(x.Duration(g.Step))/1000, g)
	case *metricsql.MetricExpr:
		return ev.evalDefault(&metricsql.RollupExpr{Expr: x}, g)
	case *metricsql.RollupExpr:
		return ev.evalDefault(x, g)
	case *metricsql.FuncExpr:
		return ev.evalFunc(x, g)
	case *metricsql.AggrExpr:
		return ev.evalAggr(x, g)
	case *metricsql.BinaryExpr:
		return ev.evalBinary(x, g)
	}
	return nil, errkind.New(errkind.Internal, "cannot evaluate node of type %T", expr)
}

// constant returns a scalar, or what stands for a string.
func (ev *evaluation) constant(name string, v float64, g vector.Grid) ([]*vector.Series, error) {
	if err := ev.reserveSeries(1, g); err != nil {
		return nil, err
	}
	values := make([]float64, g.Points())
	for k := range values {
		values[k] = v
	}
	return []*vector.Series{{Name: name, Values: values}}, nil
}

func (ev *evaluation) evalFunc(x *metricsql.FuncExpr, g vector.Grid) ([]*vector.Series, error) {
	if err := metricsql.CheckArgs(x); err != nil {
		return nil, err
	}
	if metricsql.FunctionKind(x.Name) == metricsql.KindRollup {
		return ev.evalRollupFunc(x, g)
	}
	args, err := ev.evalArgs(x.Args, g)
	if err != nil {
		return nil, err
	}
	o := vector.Options{KeepMetricNames: x.KeepMetricNames, Now: ev.e.now().UnixMilli(), Guard: ev.guard}
	if x.Name == "absent" {
		o.AbsentLabels = absentLabels(x.Args[0])
	}
	t := ev.track(x, seriesOf(args)...)
	taken := 0
	for _, arg := range args {
		taken += len(arg.Series)
	}
	series, err := vector.Transform(x.Name, args, g, o)
	t.done(series)
	if err == nil {
		err = ev.reserveSeries(len(series)-taken, g) // those that time() and the like have made
	}
	return series, err
}

// evalArgs evaluates the arguments of a transform or an aggregate.
func (ev *evaluation) evalArgs(exprs []metricsql.Expr, g vector.Grid) ([]vector.Arg, error) {
	args := make([]vector.Arg, 0, len(exprs))
	for _, expr := range exprs {
		series, err := ev.eval(expr, g)
		if err != nil {
			return nil, err
		}
		arg := vector.Arg{Series: series}
		if s, ok := expr.(*metricsql.StringExpr); ok {
			arg.Str, arg.IsString = s.Value, true
		}
		args = append(args, arg)
	}
	return args, nil
}

func seriesOf(args []vector.Arg) [][]*vector.Series {
	out := make([][]*vector.Series, len(args))
	for i := range args {
		out[i] = args[i].Series
	}
	return out
}
