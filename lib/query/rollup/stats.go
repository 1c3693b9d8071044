package rollup

import (
	"math"
	"slices"
)

// statFunc returns functions of how the values in the window are spread.
func statFunc(name string) func(*window) float64 {
	switch name {
	case "stddev_over_time":
		return stddev
	case "stdvar_over_time":
		return stdvar
	case "mad_over_time":
		return mad
	case "median_over_time":
		return func(w *window) float64 { return quantileSorted(0.5, w.sorted()) }
	case "quantile_over_time":
		return func(w *window) float64 { return quantileSorted(w.arg(0), w.sorted()) }
	case "mode_over_time":
		return mode
	case "zscore_over_time":
		return zscore
	case "outlier_iqr_over_time":
		return outlierIQR
	case "hoeffding_bound_lower":
		return func(w *window) float64 { return average(w) - hoeffding(w) }
	case "hoeffding_bound_upper":
		return func(w *window) float64 { return average(w) + hoeffding(w) }
	case "deriv":
		return deriv
	case "predict_linear":
		return predictLinear
	case "holt_winters", "double_exponential_smoothing":
		return holtWinters
	}
	return nil
}

func sortFloats(a []float64) { slices.Sort(a) }

// quantileSorted returns the phi-quantile of ascending values, linear between neighbours.
func quantileSorted(phi float64, a []float64) float64 {
	switch {
	case len(a) == 0 || math.IsNaN(phi):
		return nan()
	case phi < 0:
		return math.Inf(-1)
	case phi > 1:
		return math.Inf(1)
	}
	rank := phi * float64(len(a)-1)
	i := int(rank)
	fraction := rank - float64(i)
	return a[i]*(1-fraction) + a[min(i+1, len(a)-1)]*fraction
}

// stdvar returns the population variance by the method of Welford, which does
// not lose digits when the values are large against their spread.
func stdvar(w *window) float64 {
	if w.empty() {
		return nan()
	}
	if len(w.values) == 1 {
		return 0
	}
	mean, squares := 0.0, 0.0
	for i, v := range w.values {
		d := v - mean
		mean += d / float64(i+1)
		squares += d * (v - mean)
	}
	return squares / float64(len(w.values))
}

func stddev(w *window) float64 { return math.Sqrt(stdvar(w)) }

func mad(w *window) float64 {
	if w.empty() {
		return nan()
	}
	median := quantileSorted(0.5, w.sorted())
	w.scratch2 = w.scratch2[:0]
	for _, v := range w.values {
		w.scratch2 = append(w.scratch2, math.Abs(v-median))
	}
	sortFloats(w.scratch2)
	return quantileSorted(0.5, w.scratch2)
}

// mode counts runs in the sorted values; the sample before the window stands in front of them.
func mode(w *window) float64 {
	values := w.sorted()
	if w.hasPrev {
		w.scratch = slices.Insert(values, 0, w.prevValue)
		values = w.scratch
	}
	best, bestRun := nan(), 0
	for i := 0; i < len(values); {
		j := i + 1
		for j < len(values) && values[j] == values[i] {
			j++
		}
		if j-i > bestRun {
			best, bestRun = values[i], j-i
		}
		i = j
	}
	return best
}

// zscore gives no point when the series may have ended.
func zscore(w *window) float64 {
	interval, behind := scrapeInterval(w), lag(w)
	if math.IsNaN(interval) || math.IsNaN(behind) || behind > interval {
		return nan()
	}
	distance := w.last() - average(w)
	if distance == 0 {
		return 0
	}
	return distance / stddev(w)
}

func outlierIQR(w *window) float64 {
	if len(w.values) < 2 {
		return nan()
	}
	values := w.sorted()
	q25, q75 := quantileSorted(0.25, values), quantileSorted(0.75, values)
	reach := 1.5 * (q75 - q25)
	if v := w.last(); v > q75+reach || v < q25-reach {
		return v
	}
	return nan()
}

func hoeffding(w *window) float64 {
	phi := w.arg(0)
	if w.empty() {
		return nan()
	}
	spread := maximum(w) - minimum(w)
	switch {
	case len(w.values) == 1 || spread == 0 || phi <= 0:
		return 0
	case phi >= 1:
		return math.Inf(1)
	}
	return spread * math.Sqrt(math.Log(1/(1-phi))/(2*float64(len(w.values))))
}

// regression fits a line by least squares and returns its value at the
// evaluation time and its slope per second. The window is not empty.
func regression(w *window) (value, slope float64) {
	if len(w.values) == 1 || w.constant() {
		return w.values[0], 0
	}
	n := float64(len(w.values))
	var sumT, sumV, sumTV, sumTT float64
	for i, v := range w.values {
		t := seconds(w.times[i] - w.end)
		sumT += t
		sumV += v
		sumTV += t * v
		sumTT += t * t
	}
	d := sumTT - sumT*sumT/n
	if math.Abs(d) >= 1e-6 {
		slope = (sumTV - sumT*sumV/n) / d
	}
	return sumV/n - slope*sumT/n, slope
}

func (w *window) constant() bool {
	for _, v := range w.values {
		if v != w.values[0] {
			return false
		}
	}
	return true
}

func deriv(w *window) float64 {
	if w.empty() {
		return nan()
	}
	_, slope := regression(w)
	return slope
}

func predictLinear(w *window) float64 {
	if w.empty() {
		return nan()
	}
	value, slope := regression(w)
	if len(w.values) == 1 {
		return value
	}
	return value + slope*w.arg(0)
}

// holtWinters is double exponential smoothing.
func holtWinters(w *window) float64 {
	sf, tf := w.arg(0), w.arg(1)
	if w.empty() || !(sf >= 0 && sf <= 1) || !(tf >= 0 && tf <= 1) {
		return nan()
	}
	s, rest := w.start()
	if len(rest) == 0 {
		return s
	}
	b := rest[0] - s
	for _, v := range rest {
		next := sf*v + (1-sf)*(s+b)
		b = tf*(next-s) + (1-tf)*b
		s = next
	}
	return s
}
