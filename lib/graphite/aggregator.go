package graphite

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// aggregator puts several values, of which NaN are missing, into one; NaN when there is nothing to say.
type aggregator struct {
	name string
	f    func(values []float64) float64
}

// over applies the aggregate when at least the given share of values is known.
func (a aggregator) over(values []float64, xFilesFactor float64) float64 {
	known := 0
	for _, v := range values {
		if !isNull(v) {
			known++
		}
	}
	if known == 0 && a.name != "count" && a.name != "avg_zero" || float64(known) < xFilesFactor*float64(len(values)) {
		return math.NaN()
	}
	return finite(a.f(values))
}

// consolidator returns the aggregate with a name, or the average.
func consolidator(name string) aggregator {
	if a, ok := aggregatorOf(name); ok {
		return a
	}
	return aggregator{"average", meanOf}
}

// aggregatorOf returns the aggregate with a name, with or without "Series" at its end; an empty name is the average, and p95 the 95th percentile.
func aggregatorOf(name string) (aggregator, bool) {
	short := strings.TrimSuffix(name, "Series")
	switch short {
	case "", "average", "avg":
		return aggregator{"average", meanOf}, true
	case "avg_zero":
		return aggregator{short, func(v []float64) float64 { return sumOf(v) / float64(len(v)) }}, true
	case "median":
		return aggregator{short, func(v []float64) float64 { return percentile(sorted(v), 50, true) }}, true
	case "sum", "total":
		return aggregator{"sum", sumOf}, true
	case "min":
		return aggregator{short, minOf}, true
	case "max":
		return aggregator{short, maxOf}, true
	case "diff":
		return aggregator{short, diffOf}, true
	case "stddev":
		return aggregator{short, func(v []float64) float64 { return math.Sqrt(varianceOf(v)) }}, true
	case "count":
		return aggregator{short, countOf}, true
	case "range", "rangeOf":
		return aggregator{"range", func(v []float64) float64 { return maxOf(v) - minOf(v) }}, true
	case "multiply":
		return aggregator{short, productOf}, true
	case "last", "current":
		return aggregator{"last", lastOf}, true
	case "first":
		return aggregator{short, firstOf}, true
	}
	digits, ok := strings.CutPrefix(short, "p")
	if n, err := strconv.ParseFloat(digits, 64); ok && err == nil && n >= 0 && n <= 100 {
		return aggregator{short, func(v []float64) float64 { return percentile(sorted(v), n, false) }}, true
	}
	return aggregator{}, false
}

// aggregatorNames lists the aggregates for messages and editors.
func aggregatorNames() []string {
	return []string{"average", "avg", "avg_zero", "count", "current", "diff", "first", "last", "max", "median", "min", "multiply", "range", "rangeOf", "stddev", "sum", "total"}
}

func sumOf(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		if !isNull(v) {
			sum += v
		}
	}
	return sum
}

func countOf(values []float64) float64 {
	n := 0
	for _, v := range values {
		if !isNull(v) {
			n++
		}
	}
	return float64(n)
}

func meanOf(values []float64) float64 { return sumOf(values) / countOf(values) }

func minOf(values []float64) float64 {
	lowest := math.NaN()
	for _, v := range values {
		if !(v >= lowest) && !isNull(v) {
			lowest = v
		}
	}
	return lowest
}

func maxOf(values []float64) float64 {
	highest := math.NaN()
	for _, v := range values {
		if !(v <= highest) && !isNull(v) {
			highest = v
		}
	}
	return highest
}

// diffOf takes the other known values from the first known one.
func diffOf(values []float64) float64 {
	first := firstOf(values)
	return 2*first - sumOf(values)
}

// productOf is missing as soon as one factor is.
func productOf(values []float64) float64 {
	product := 1.0
	for _, v := range values {
		product *= v
	}
	return product
}

func lastOf(values []float64) float64 {
	for _, v := range slices.Backward(values) {
		if !isNull(v) {
			return v
		}
	}
	return math.NaN()
}

func firstOf(values []float64) float64 {
	for _, v := range values {
		if !isNull(v) {
			return v
		}
	}
	return math.NaN()
}

// varianceOf is the variance of a whole population.
func varianceOf(values []float64) float64 {
	mean, n, sum := meanOf(values), 0.0, 0.0
	for _, v := range values {
		if !isNull(v) {
			sum += (v - mean) * (v - mean)
			n++
		}
	}
	return sum / n
}

// sorted returns the known values in order.
func sorted(values []float64) []float64 {
	known := make([]float64, 0, len(values))
	for _, v := range values {
		if !isNull(v) {
			known = append(known, v)
		}
	}
	slices.Sort(known)
	return known
}

// percentile returns the nth percentile of sorted values: the value at rank n/100*(count+1), rounded up, or, with
// interpolation, between its neighbours.
func percentile(values []float64, n float64, interpolate bool) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	rank := n / 100 * float64(len(values)+1)
	whole := int(rank)
	fraction := rank - float64(whole)
	if !interpolate && fraction > 0 {
		whole++
	}
	switch {
	case whole <= 0:
		return values[0]
	case whole > len(values):
		return values[len(values)-1]
	}
	v := values[whole-1]
	if interpolate && whole < len(values) {
		v += fraction * (values[whole] - v)
	}
	return v
}
