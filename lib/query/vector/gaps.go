package vector

import "math"

// gapFunction finds functions which fill gaps or look back along a series.
func (c *call) gapFunction() (func() ([]*Series, error), bool) {
	switch c.name {
	case "keep_last_value":
		return c.perSeries(keepLast)
	case "keep_next_value":
		return c.perSeries(keepNext)
	case "interpolate":
		return c.perSeries(interpolate)
	case "remove_resets":
		return c.perSeries(removeResets)
	case "smooth_exponential":
		return c.smoothExponential, true
	case "running_sum":
		return c.perSeries(func(values []float64) { running(values, func(a, v float64, _ int) float64 { return a + v }) })
	case "running_min":
		return c.perSeries(func(values []float64) { running(values, func(a, v float64, _ int) float64 { return min(a, v) }) })
	case "running_max":
		return c.perSeries(func(values []float64) { running(values, func(a, v float64, _ int) float64 { return max(a, v) }) })
	case "running_avg":
		return c.perSeries(func(values []float64) { running(values, runningAverage) })
	}
	return nil, false
}

func keepLast(values []float64) {
	last := math.NaN()
	for i, v := range values {
		if math.IsNaN(v) {
			values[i] = last
		} else {
			last = v
		}
	}
}

func keepNext(values []float64) {
	next := math.NaN()
	for i := len(values) - 1; i >= 0; i-- {
		if math.IsNaN(values[i]) {
			values[i] = next
		} else {
			next = values[i]
		}
	}
}

// interpolate fills gaps between points linearly.
func interpolate(values []float64) {
	last := -1
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if last >= 0 {
			from, slope := values[last], (v-values[last])/float64(i-last)
			for k := last + 1; k < i; k++ {
				values[k] = from + slope*float64(k-last)
			}
		}
		last = i
	}
}

// removeResets raises all points behind a fall of a counter. A fall by less
// than an eighth is taken for disorder: the result stays flat.
func removeResets(values []float64) {
	correction, previous := 0.0, math.NaN()
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if v < previous {
			if d := previous - v; 8*d < previous {
				correction += d
			} else {
				correction += previous
			}
		}
		previous = v
		values[i] = v + correction
	}
}

func (c *call) smoothExponential() ([]*Series, error) {
	series, err := c.set(0, 2)
	if err != nil {
		return nil, err
	}
	factors, err := c.scalar(1)
	if err != nil {
		return nil, err
	}
	for _, s := range series {
		smooth(s.Values, factors)
	}
	return series, nil
}

func smooth(values, factors []float64) {
	start := 0
	for start < len(values) && (math.IsNaN(values[start]) || math.IsInf(values[start], 0)) {
		start++
	}
	if start == len(values) {
		return
	}
	avg := values[start]
	for i := start + 1; i < len(values); i++ {
		v := values[i]
		if math.IsNaN(v) {
			continue
		}
		if !math.IsInf(v, 0) {
			f := factors[i]
			if math.IsNaN(f) {
				f = 1
			}
			f = min(max(f, 0), 1)
			avg = avg*(1-f) + v*f
		}
		values[i] = avg
	}
}

// running replaces points by what f gathers from the points so far. Gaps repeat
// it. f gets the position of v, counted from the first point.
func running(values []float64, f func(a, v float64, i int) float64) {
	start := 0
	for start < len(values) && math.IsNaN(values[start]) {
		start++
	}
	if start == len(values) {
		return
	}
	a := values[start]
	for i, v := range values[start+1:] {
		if !math.IsNaN(v) {
			a = f(a, v, i+1)
		}
		values[start+1+i] = a
	}
}

// runningAverage weights by the position in the range, gaps included.
func runningAverage(a, v float64, i int) float64 { return a + (v-a)/float64(i+1) }
