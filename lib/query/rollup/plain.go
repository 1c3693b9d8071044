package rollup

import "math"

// plainFunc returns functions of the values in the window alone.
func plainFunc(name string) func(*window) float64 {
	switch name {
	case defaultRollup, "last_over_time":
		return last
	case "first_over_time":
		return first
	case "count_over_time":
		return count
	case "sum_over_time":
		return sum
	case "avg_over_time":
		return average
	case "min_over_time":
		return minimum
	case "max_over_time":
		return maximum
	case "sum2_over_time":
		return sumOfSquares
	case "present_over_time":
		return present
	case "absent_over_time":
		return absent
	case "range_over_time":
		return func(w *window) float64 { return maximum(w) - minimum(w) }
	case "geomean_over_time":
		return geomean
	case "distinct_over_time":
		return distinct
	case "rate_over_sum":
		return func(w *window) float64 { return sum(w) / seconds(w.width) }
	case "stale_samples_over_time":
		return staleSamples
	}
	return nil
}

func last(w *window) float64 {
	if w.empty() {
		return nan()
	}
	return w.last()
}

func first(w *window) float64 {
	if w.empty() {
		return nan()
	}
	return w.values[0]
}

func count(w *window) float64 {
	if w.empty() {
		return nan()
	}
	return float64(len(w.values))
}

func sum(w *window) float64 {
	if w.empty() {
		return nan()
	}
	total := 0.0
	for _, v := range w.values {
		total += v
	}
	return total
}

func average(w *window) float64 { return sum(w) / float64(len(w.values)) }

func minimum(w *window) float64 {
	if w.empty() {
		return nan()
	}
	least := w.values[0]
	for _, v := range w.values {
		if v < least || least != least {
			least = v
		}
	}
	return least
}

func maximum(w *window) float64 {
	if w.empty() {
		return nan()
	}
	most := w.values[0]
	for _, v := range w.values {
		if v > most || most != most {
			most = v
		}
	}
	return most
}

func sumOfSquares(w *window) float64 {
	if w.empty() {
		return nan()
	}
	total := 0.0
	for _, v := range w.values {
		total += v * v
	}
	return total
}

func present(w *window) float64 {
	if w.empty() {
		return nan()
	}
	return 1
}

func absent(w *window) float64 {
	if w.empty() {
		return 1
	}
	return nan()
}

func geomean(w *window) float64 {
	if w.empty() {
		return nan()
	}
	product := 1.0
	for _, v := range w.values {
		product *= v
	}
	return math.Pow(product, 1/float64(len(w.values)))
}

func distinct(w *window) float64 {
	if w.empty() {
		return nan()
	}
	values := w.sorted()
	n := 1
	for i := 1; i < len(values); i++ {
		if values[i] != values[i-1] {
			n++
		}
	}
	return float64(n)
}

func staleSamples(w *window) float64 {
	if w.empty() {
		return nan()
	}
	n := 0
	for _, v := range w.values {
		if IsStale(v) {
			n++
		}
	}
	return float64(n)
}

// A candlestick takes the sample before the window in only when it lies exactly on the left edge.

func (w *window) onEdge() bool { return w.hasPrev && w.prevTime >= w.leftEdge() }

func candleOpen(w *window) float64 {
	if w.onEdge() {
		return w.prevValue
	}
	return first(w)
}

func candleClose(w *window) float64 {
	if w.empty() && w.onEdge() {
		return w.prevValue
	}
	return last(w)
}

func candleLow(w *window) float64 {
	v := minimum(w)
	if w.onEdge() && !(v <= w.prevValue) {
		return w.prevValue
	}
	return v
}

func candleHigh(w *window) float64 {
	v := maximum(w)
	if w.onEdge() && !(v >= w.prevValue) {
		return w.prevValue
	}
	return v
}
