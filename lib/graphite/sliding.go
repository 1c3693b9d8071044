package graphite

import "math"

// slider computes an aggregate of each window of a series in constant time per value, by van Herk's method: values are cut into blocks
// as long as the window, which then is the end of one block and the start of the next. Nothing is ever subtracted, so no
// rounding errors pile up. Its memory is reused.
type slider struct {
	op             func(a, b float64) float64
	mean           bool
	prefix, suffix []float64
	known          []int // how many of the values before an index are known
}

// newSlider returns a slider for an aggregate, or nil if the aggregate needs all values of a window at once.
func newSlider(agg aggregator) *slider {
	switch agg.name {
	case "sum":
		return &slider{op: add}
	case "average":
		return &slider{op: add, mean: true}
	case "min":
		return &slider{op: lower}
	case "max":
		return &slider{op: higher}
	}
	return nil
}

func add(a, b float64) float64 { return a + b }

func lower(a, b float64) float64 {
	if b < a {
		return b
	}
	return a
}

func higher(a, b float64) float64 {
	if b > a {
		return b
	}
	return a
}

// join applies op to what is known.
func (w *slider) join(a, b float64) float64 {
	switch {
	case isNull(a):
		return b
	case isNull(b):
		return a
	}
	return w.op(a, b)
}

// load prepares windows of so many values of a series.
func (w *slider) load(values []float64, points int) {
	w.prefix, w.suffix = append(w.prefix[:0], values...), append(w.suffix[:0], values...)
	w.known = append(w.known[:0], 0)
	for i, v := range values {
		n := w.known[i]
		if !isNull(v) {
			n++
		}
		w.known = append(w.known, n)
		if i%points != 0 {
			w.prefix[i] = w.join(w.prefix[i-1], v)
		}
	}
	for i := len(values) - 2; i >= 0; i-- {
		if (i+1)%points != 0 {
			w.suffix[i] = w.join(values[i], w.suffix[i+1])
		}
	}
}

// at returns the aggregate of the values from first up to, not including, end: a window as load was told, or the beginning of one that
// starts before the series.
func (w *slider) at(first, end, points int, xFilesFactor float64) float64 {
	n := w.known[end] - w.known[first]
	if n == 0 || float64(n) < xFilesFactor*float64(end-first) {
		return math.NaN()
	}
	v := w.prefix[end-1]
	if end-first == points && first%points != 0 {
		v = w.join(w.suffix[first], v)
	}
	if w.mean {
		v /= float64(n)
	}
	return finite(v)
}
