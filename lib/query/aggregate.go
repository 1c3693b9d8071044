package query

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/vector"
)

func (ev *evaluation) evalAggr(x *metricsql.AggrExpr, g vector.Grid) ([]*vector.Series, error) {
	if err := metricsql.CheckArgs(x); err != nil {
		return nil, err
	}
	series, err := ev.aggregate(x, g)
	if err != nil {
		return nil, err
	}
	if limit := ev.e.cfg.MaxSeriesPerAggrFunc; limit > 0 && len(series) > limit {
		return nil, errkind.New(errkind.Unprocessable, "cannot produce %d series with %s: at most %d are allowed; group by fewer labels or raise -search.maxSeriesPerAggrFunc",
			len(series), x.Name, limit)
	}
	return series, nil
}

func (ev *evaluation) aggregate(x *metricsql.AggrExpr, g vector.Grid) ([]*vector.Series, error) {
	o := vector.AggregateOptions{Name: x.Name, Grouping: grouping(x.Grouping), Labels: x.Labels, Limit: x.Limit, Guard: ev.guard}
	if len(x.Args) == 1 && vector.CanFold(&o) {
		if c, err := ev.selectorCall(x.Args[0], g); err != nil {
			return nil, err
		} else if c != nil {
			return ev.evalFolded(&o, c, g)
		}
	}
	args, err := ev.evalArgs(x.Args, g)
	if err != nil {
		return nil, err
	}
	t := ev.track(x, seriesOf(args)...)
	series, err := vector.Aggregate(o, args)
	t.done(series)
	return series, err
}

func grouping(op metricsql.GroupOp) vector.GroupOp {
	switch op {
	case metricsql.GroupBy:
		return vector.GroupBy
	case metricsql.GroupWithout:
		return vector.GroupWithout
	}
	return vector.GroupNone
}
