package vector

import (
	"math"
	"slices"
)

// rangeFunction finds functions which look at all points of a series.
func (c *call) rangeFunction() (func() ([]*Series, error), bool) {
	switch c.name {
	case "range_sum":
		return c.perSeries(lastRunning(func(a, v float64, _ int) float64 { return a + v }))
	case "range_min":
		return c.perSeries(lastRunning(func(a, v float64, _ int) float64 { return min(a, v) }))
	case "range_max":
		return c.perSeries(lastRunning(func(a, v float64, _ int) float64 { return max(a, v) }))
	case "range_avg":
		return c.perSeries(lastRunning(runningAverage))
	case "range_first":
		return c.perSeries(func(values []float64) { fill(values, firstPoint(values)) })
	case "range_last":
		return c.perSeries(func(values []float64) { fill(values, lastPoint(values)) })
	case "range_median":
		return c.perSeries(func(values []float64) { rangeQuantile(values, 0.5) })
	case "range_mad":
		return c.perSeries(func(values []float64) { fill(values, mad(appendPresent(nil, values))) })
	case "range_stdvar":
		return c.perSeries(func(values []float64) { m := momentsOf(values); fill(values, m.variance()) })
	case "range_stddev":
		return c.perSeries(func(values []float64) { m := momentsOf(values); fill(values, math.Sqrt(m.variance())) })
	case "range_zscore":
		return c.perSeries(rangeZscore)
	case "range_linear_regression":
		return c.perSeries(func(values []float64) { fitLine(values, float64(c.grid.Step)/1000) })
	case "range_normalize":
		return c.rangeNormalize, true
	case "range_quantile":
		return c.rangeWithScalar(rangeQuantile)
	case "range_trim_spikes":
		return c.rangeWithScalar(trimSpikes)
	case "range_trim_zscore":
		return c.rangeWithScalar(trimZscore)
	case "range_trim_outliers":
		return c.rangeWithScalar(trimOutliers)
	}
	return nil, false
}

func fill(values []float64, v float64) {
	for i := range values {
		values[i] = v
	}
}

// lastRunning returns a function which puts the final running value at all points.
func lastRunning(f func(a, v float64, i int) float64) func(values []float64) {
	return func(values []float64) {
		running(values, f)
		fill(values, lastPoint(values))
	}
}

// rangeQuantile puts the quantile at all points. If there is none, the last point before the end of the range takes its place.
func rangeQuantile(values []float64, phi float64) {
	sorted := appendPresent(nil, values)
	slices.Sort(sorted)
	values[len(values)-1] = quantile(phi, sorted)
	fill(values, lastPoint(values))
}

func firstPoint(values []float64) float64 {
	for _, v := range values {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

func lastPoint(values []float64) float64 {
	for i := len(values) - 1; i >= 0; i-- {
		if !math.IsNaN(values[i]) {
			return values[i]
		}
	}
	return math.NaN()
}

func rangeZscore(values []float64) {
	m := momentsOf(values)
	stddev := math.Sqrt(m.variance())
	for i, v := range values {
		values[i] = (v - m.mean) / stddev
	}
}

// fitLine replaces all points by the line of least squares; stepSeconds is their distance.
func fitLine(values []float64, stepSeconds float64) {
	var n, meanT, meanV float64
	for i, v := range values {
		if !math.IsNaN(v) {
			n++
			meanT += float64(i) * stepSeconds
			meanV += v
		}
	}
	if n == 0 {
		return
	}
	meanT /= n
	meanV /= n
	var cov, varT float64
	for i, v := range values {
		if !math.IsNaN(v) {
			t := float64(i)*stepSeconds - meanT
			cov += t * (v - meanV)
			varT += t * t
		}
	}
	slope := 0.0
	if varT > 0 {
		slope = cov / varT
	}
	for i := range values {
		values[i] = meanV + slope*(float64(i)*stepSeconds-meanT)
	}
}

// rangeNormalize maps each series to 0..1. Series of infinite span vanish.
func (c *call) rangeNormalize() ([]*Series, error) {
	if err := checkCount(c.name, c.args, 1, math.MaxInt); err != nil {
		return nil, err
	}
	var result []*Series
	for _, a := range c.args {
		result = append(result, slices.DeleteFunc(a.set(c.points), func(s *Series) bool { return !normalize(s.Values) })...)
	}
	return result, nil
}

// normalize maps values to 0..1. It returns false if their span is infinite.
func normalize(values []float64) bool {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	span := hi - lo
	if math.IsInf(span, 0) || math.IsNaN(span) {
		return false
	}
	for i, v := range values {
		values[i] = (v - lo) / span
	}
	return true
}

// rangeWithScalar returns a function with a scalar, of which the first point counts, before the series.
func (c *call) rangeWithScalar(f func(values []float64, arg float64)) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, err := c.set(1, 2)
		if err != nil {
			return nil, err
		}
		arg, err := c.scalar(0)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			f(s.Values, first(arg))
		}
		return series, nil
	}, true
}

func trimSpikes(values []float64, phi float64) {
	sorted := appendPresent(nil, values)
	slices.Sort(sorted)
	lo, hi := quantile(phi/2, sorted), quantile(1-phi/2, sorted)
	trim(values, func(v float64) bool { return v > hi || v < lo })
}

func trimZscore(values []float64, z float64) {
	m := momentsOf(values)
	stddev := math.Sqrt(m.variance())
	trim(values, func(v float64) bool { return math.Abs(v-m.mean)/stddev > z })
}

func trimOutliers(values []float64, k float64) {
	sorted := appendPresent(nil, values)
	m := median(sorted)
	limit := k * mad(sorted)
	trim(values, func(v float64) bool { return math.Abs(v-m) > limit })
}

func trim(values []float64, drop func(v float64) bool) {
	for i, v := range values {
		if drop(v) {
			values[i] = math.NaN()
		}
	}
}
