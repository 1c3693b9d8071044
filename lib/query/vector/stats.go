package vector

import (
	"math"
	"slices"
)

// quantile interpolates linearly between the closest ranks of sorted values. Infinite
// values may give NaN.
func quantile(phi float64, sorted []float64) float64 {
	switch {
	case len(sorted) == 0 || math.IsNaN(phi):
		return math.NaN()
	case phi < 0:
		return math.Inf(-1)
	case phi > 1:
		return math.Inf(1)
	}
	rank := phi * float64(len(sorted)-1)
	lower := math.Floor(rank)
	i := int(lower)
	frac := rank - lower
	upper := min(i+1, len(sorted)-1)
	return sorted[i]*(1-frac) + sorted[upper]*frac
}

// appendPresent appends the values which are points.
func appendPresent(dst, values []float64) []float64 {
	for _, v := range values {
		if !math.IsNaN(v) {
			dst = append(dst, v)
		}
	}
	return dst
}

// median returns the quantile 0.5 of values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	return quantile(0.5, values)
}

// mad returns the median of the distances to the median. It changes values.
func mad(values []float64) float64 {
	m := median(values)
	for i, v := range values {
		values[i] = math.Abs(v - m)
	}
	return median(values)
}

// mode returns the most frequent of values, which it sorts; the smallest if there are several.
func mode(values []float64) float64 {
	slices.Sort(values)
	best, bestRun := math.NaN(), 0
	for i := 0; i < len(values); {
		end := i + 1
		for end < len(values) && values[end] == values[i] {
			end++
		}
		if end-i > bestRun {
			best, bestRun = values[i], end-i
		}
		i = end
	}
	return best
}

// distinct counts the different values. It sorts them.
func distinct(values []float64) float64 {
	slices.Sort(values)
	n := 0
	for i, v := range values {
		if i == 0 || v != values[i-1] {
			n++
		}
	}
	return float64(n)
}

// moments gathers mean and variance in one pass (Welford).
type moments struct {
	count float64
	mean  float64
	sum2  float64 // of the squared distances to the mean
}

func (m *moments) add(v float64) {
	m.count++
	d := v - m.mean
	m.mean += d / m.count
	m.sum2 += d * (v - m.mean)
}

// variance returns the population variance: NaN without values, 0 for a single one even if it is infinite.
func (m *moments) variance() float64 {
	if m.count == 1 {
		return 0
	}
	return m.sum2 / m.count
}

func momentsOf(values []float64) moments {
	var m moments
	for _, v := range values {
		if !math.IsNaN(v) {
			m.add(v)
		}
	}
	return m
}
