package query

import (
	"math"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

// result evaluates the whole query and shapes the answer.
func (ev *evaluation) result(expr metricsql.Expr, g vector.Grid, t ResultType) (*Result, error) {
	if err := ev.checkEstimate(expr, g); err != nil {
		return nil, err
	}
	series, err := ev.eval(expr, g)
	if err != nil {
		return nil, ev.explain(err)
	}
	if err := vector.CheckDuplicates(withPoints(series)); err != nil {
		return nil, err
	}
	if !keepsOrder(expr) {
		ev.sort(series)
	}
	res := &Result{Type: t, Grid: g}
	res.Series = make([]ResultSeries, 0, len(series))
	for _, s := range series {
		n := countPoints(s.Values)
		if n == 0 {
			continue
		}
		if err := ev.guard(int64(n) * sampleBytes); err != nil {
			return nil, ev.explain(err)
		}
		res.Series = append(res.Series, ev.points(s, g, n))
	}
	return res, ev.complete(res)
}

// complete checks the size of the answer and adds the figures of the evaluation.
func (ev *evaluation) complete(res *Result) error {
	if limit := ev.e.cfg.MaxResponseSeries; limit > 0 && len(res.Series) > limit {
		return errkind.New(errkind.Unprocessable, "cannot answer %d series: at most %d are allowed; aggregate or filter them, or raise -search.maxResponseSeries", len(res.Series), limit)
	}
	res.Partial, res.SeriesFetched, res.SamplesRead = ev.partial, int(ev.seriesFetched.Load()), int(ev.samplesRead.Load())
	res.MemoryBytes = ev.peak.Load()
	if ev.req.HoldMemory && ev.e.budget != nil {
		ev.hold(res)
	}
	return nil
}

// hold leaves the reservation of what the result takes to the result.
func (ev *evaluation) hold(res *Result) {
	n := int64(0)
	for i := range res.Series {
		s := &res.Series[i]
		n += int64(len(s.Values))*sampleBytes + seriesBytes
	}
	res.budget, res.held = ev.e.budget, min(n, ev.reserved.Load())
	ev.reserved.Add(-res.held)
}

func countPoints(values []float64) int {
	n := 0
	for _, v := range values {
		if !math.IsNaN(v) {
			n++
		}
	}
	return n
}

// points returns the series, which has n points, without the missing ones.
func (ev *evaluation) points(s *vector.Series, g vector.Grid, n int) ResultSeries {
	rs := ResultSeries{Labels: fullLabels(s), Timestamps: make([]int64, 0, n), Values: make([]float64, 0, n)}
	for k, v := range s.Values {
		if !math.IsNaN(v) {
			rs.Timestamps = append(rs.Timestamps, g.At(k))
			rs.Values = append(rs.Values, v)
		}
	}
	ev.round(rs.Values)
	return rs
}

// round applies Request.RoundDigits.
func (ev *evaluation) round(values []float64) {
	digits := ev.req.RoundDigits
	if digits == nil {
		return
	}
	factor := math.Pow10(*digits)
	for i, v := range values {
		if r := math.Round(v*factor) / factor; !math.IsInf(r, 0) && !math.IsNaN(r) {
			values[i] = r
		}
	}
}

func fullLabels(s *vector.Series) []model.Label {
	if s.Name == "" {
		return s.Labels
	}
	out := make([]model.Label, 0, len(s.Labels)+1)
	return append(append(out, model.Label{Name: model.MetricNameLabel, Value: s.Name}), s.Labels...)
}

// withPoints returns the series that have a point.
func withPoints(series []*vector.Series) []*vector.Series {
	out := make([]*vector.Series, 0, len(series))
	for _, s := range series {
		if hasPoint(s.Values) {
			out = append(out, s)
		}
	}
	return out
}

func hasPoint(values []float64) bool {
	for _, v := range values {
		if !math.IsNaN(v) {
			return true
		}
	}
	return false
}

// keepsOrder reports whether the outermost node settles the order of the answer.
func keepsOrder(expr metricsql.Expr) bool {
	switch x := expr.(type) {
	case *metricsql.FuncExpr:
		return strings.HasPrefix(x.Name, "sort") || x.Name == "limit_offset"
	case *metricsql.AggrExpr:
		return strings.HasPrefix(x.Name, "topk") || strings.HasPrefix(x.Name, "bottomk") || x.Name == "outliersk"
	case *metricsql.BinaryExpr:
		return x.Op == "or"
	}
	return false
}

// rawSamples answers the samples of a selector as they are stored.
func (ev *evaluation) rawSamples(m *metricsql.MetricExpr, r model.TimeRange) (*Result, error) {
	res := &Result{Type: Matrix, Raw: true, Grid: vector.Grid{Start: r.Min, End: r.Max, Step: 1}}
	sel, ok := ev.selection(m, r, model.AllSamples)
	if !ok {
		return res, ev.complete(res)
	}
	err := ev.eachSeries(sel, func(s *RawSeries) error {
		if err := ev.reserve(int64(len(s.Values))*sampleBytes + vector.SeriesSize(s.Labels)); err != nil {
			return err
		}
		rs := ResultSeries{}
		for i, v := range s.Values {
			if !math.IsNaN(v) {
				rs.Timestamps = append(rs.Timestamps, s.Timestamps[i])
				rs.Values = append(rs.Values, v)
			}
		}
		if len(rs.Values) > 0 {
			ev.round(rs.Values)
			rs.Labels = copyLabels(s.Labels)
			res.Series = append(res.Series, rs)
		}
		return nil
	})
	if err != nil {
		return nil, ev.explain(err)
	}
	return res, ev.complete(res)
}
