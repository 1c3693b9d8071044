package query

import (
	"math"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
)

// evalAbsentOverTime gives one series with 1 where no series has samples in the window.
func (ev *evaluation) evalAbsentOverTime(c *rollupCall, g vector.Grid) ([]*vector.Series, error) {
	f, err := rollup.New("present_over_time", nil)
	if err != nil {
		return nil, err
	}
	present := *c
	present.f = f
	series, err := ev.evalRollup(&present, g)
	if err != nil {
		return nil, err
	}
	return []*vector.Series{absentSeries(c.arg.Expr, series, g)}, nil
}

// absentSeries returns the series which has 1 where none of the given series has a point.
func absentSeries(arg metricsql.Expr, series []*vector.Series, g vector.Grid) *vector.Series {
	out := &vector.Series{Labels: absentLabels(arg), Values: make([]float64, g.Points())}
	for k := range out.Values {
		out.Values[k] = 1
	}
	for _, s := range series {
		for k, v := range s.Values {
			if !math.IsNaN(v) {
				out.Values[k] = math.NaN()
			}
		}
	}
	return out
}

// absentLabels returns the labels that a series of the selector is known to have. A label
// named twice takes the last value; an empty value stays.
func absentLabels(arg metricsql.Expr) []model.Label {
	if re, ok := arg.(*metricsql.RollupExpr); ok {
		arg = re.Expr
	}
	m, ok := arg.(*metricsql.MetricExpr)
	if !ok || len(m.FilterSets) != 1 {
		return nil
	}
	var labels []model.Label
	for _, f := range m.FilterSets[0] {
		if f.Op == model.Equal && f.Name != model.MetricNameLabel {
			labels = withLabel(labels, f.Name, f.Value)
		}
	}
	return labels
}
