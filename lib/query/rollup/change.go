package rollup

import "math"

// changeFunc returns functions of how values change, which may use the sample before the window.
func changeFunc(name string) func(*window) float64 {
	switch name {
	case "increase", "delta":
		return delta
	case "increase_pure":
		return increasePure
	case "increase_prometheus", "delta_prometheus":
		return deltaPrometheus
	case "rate_prometheus":
		return func(w *window) float64 { return deltaPrometheus(w) / seconds(w.width) }
	case "idelta":
		return idelta
	case "rate", "deriv_fast":
		return rate
	case "irate", "ideriv":
		return irate
	case "changes":
		return changes
	case "changes_prometheus":
		return changesPrometheus
	case "increases_over_time":
		return increases
	case "resets", "decreases_over_time":
		return decreases
	case "ascent_over_time":
		return ascent
	case "descent_over_time":
		return descent
	case "integrate":
		return integrate
	}
	return nil
}

// start returns the value that changes in the window are counted from: that of
// the sample before it, else the first in the window, which is then taken off the values.
func (w *window) start() (v float64, rest []float64) {
	if w.hasPrev {
		return w.prevValue, w.values
	}
	return w.values[0], w.values[1:]
}

func delta(w *window) float64 {
	if w.empty() {
		return zeroIf(w.hasPrev)
	}
	switch {
	case w.hasPrev:
		return w.last() - w.prevValue
	case w.hasFar:
		return w.last() - w.farValue
	}
	return w.last() - firstStart(w)
}

// firstStart guesses the value of a series before its first sample. A counter is often
// born with its first increments; it started at 0 if the first value is of the
// size of later changes. A large value means that it was counting elsewhere before.
func firstStart(w *window) float64 {
	change := 0.0
	if len(w.values) > 1 {
		change = w.values[1] - w.values[0]
	} else if w.hasNext {
		change = w.nextValue - w.values[0]
	}
	if math.Abs(w.values[0]) < 10*(math.Abs(change)+1) {
		return 0
	}
	return w.values[0]
}

func increasePure(w *window) float64 {
	if w.empty() {
		return zeroIf(w.hasPrev)
	}
	switch {
	case w.hasPrev:
		return w.last() - w.prevValue
	case w.hasFar:
		return w.last() - w.farValue
	}
	return w.last()
}

func deltaPrometheus(w *window) float64 {
	if len(w.values) < 2 {
		return nan()
	}
	return w.last() - w.values[0]
}

func idelta(w *window) float64 {
	n := len(w.values)
	switch {
	case n == 0:
		return zeroIf(w.hasPrev)
	case n == 1 && w.hasPrev:
		return w.values[0] - w.prevValue
	case n == 1:
		return w.values[0]
	}
	return w.values[n-1] - w.values[n-2]
}

func rate(w *window) float64 {
	n := len(w.values)
	if w.hasPrev {
		if n == 0 {
			return 0
		}
		return (w.values[n-1] - w.prevValue) / seconds(w.times[n-1]-w.prevTime)
	}
	if n < 2 {
		return nan()
	}
	return (w.values[n-1] - w.values[0]) / seconds(w.times[n-1]-w.times[0])
}

func irate(w *window) float64 {
	n := len(w.values)
	if n == 0 {
		return nan()
	}
	for i := n - 2; i >= 0; i-- {
		if w.times[i] < w.times[n-1] {
			return (w.values[n-1] - w.values[i]) / seconds(w.times[n-1]-w.times[i])
		}
	}
	if w.hasPrev {
		return (w.values[n-1] - w.prevValue) / seconds(w.times[n-1]-w.prevTime)
	}
	return zeroIf(n > 1)
}

// differs reports whether b is another value than a, beyond rounding.
func differs(a, b float64) bool {
	return a != b && !(a != a && b != b) && !(math.Abs(b-a) < 1e-12*math.Abs(b))
}

func changes(w *window) float64 {
	if w.empty() {
		return zeroIf(w.hasPrev)
	}
	n := 0
	previous := w.prevValue
	if !w.hasPrev {
		previous = w.farValue
		if !w.hasFar {
			previous = w.values[0]
			n = 1
		}
	}
	return float64(n + countChanges(previous, w.values))
}

func countChanges(previous float64, values []float64) int {
	n := 0
	for _, v := range values {
		if differs(previous, v) {
			n++
		}
		previous = v
	}
	return n
}

func changesPrometheus(w *window) float64 {
	if w.empty() {
		return nan()
	}
	return float64(countChanges(w.values[0], w.values[1:]))
}

func increases(w *window) float64 {
	return w.countSteps(func(previous, v float64) bool { return v > previous })
}

func decreases(w *window) float64 {
	return w.countSteps(func(previous, v float64) bool { return v < previous })
}

func (w *window) countSteps(counts func(previous, v float64) bool) float64 {
	if w.empty() {
		return zeroIf(w.hasPrev)
	}
	previous, rest := w.start()
	n := 0
	for _, v := range rest {
		if counts(previous, v) && differs(previous, v) {
			n++
		}
		previous = v
	}
	return float64(n)
}

func ascent(w *window) float64 {
	return w.sumSteps(func(previous, v float64) float64 { return v - previous })
}

func descent(w *window) float64 {
	return w.sumSteps(func(previous, v float64) float64 { return previous - v })
}

func (w *window) sumSteps(step func(previous, v float64) float64) float64 {
	if w.empty() {
		return zeroIf(w.hasPrev)
	}
	previous, rest := w.start()
	total := 0.0
	for _, v := range rest {
		if d := step(previous, v); d > 0 {
			total += d
		}
		previous = v
	}
	return total
}

// integrate holds each value until the next sample. Nothing is known after the last sample of a series.
func integrate(w *window) float64 {
	if w.empty() && !w.hasPrev {
		return nan()
	}
	total := 0.0
	values, times := w.values, w.times
	var v float64
	var since int64
	if w.hasPrev {
		v, since = w.prevValue, w.leftEdge()
	} else {
		v, since = values[0], times[0]
		values, times = values[1:], times[1:]
	}
	for i := range values {
		total += v * seconds(times[i]-since)
		v, since = values[i], times[i]
	}
	if w.hasNext {
		total += v * seconds(w.end-since)
	}
	return total
}
