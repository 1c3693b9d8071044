package rollup

import (
	"math"
	"slices"
	"strconv"
)

// rows collects result series that come up as values are met.
type rows struct {
	e      *Evaluator
	points int
	keys   []float64
	byKey  map[float64]int
	values [][]float64
}

func newRows(e *Evaluator) *rows {
	return &rows{e: e, points: e.p.points(), byKey: map[float64]int{}}
}

// add counts one more at a point of the series of a key.
func (r *rows) add(key float64, point int) {
	i, ok := r.byKey[key]
	if !ok {
		if !r.e.ask(int64(r.points) * 8) {
			return
		}
		i = len(r.keys)
		r.byKey[key] = i
		r.keys = append(r.keys, key)
		r.values = append(r.values, noPoints(r.points))
	}
	row := r.values[i]
	if math.IsNaN(row[point]) {
		row[point] = 0
	}
	row[point]++
}

// emit hands out all series by ascending key.
func (r *rows) emit(text func(key float64) string, emit func(label string, values []float64)) {
	if r.e.err != nil {
		return
	}
	keys := slices.Sorted(slices.Values(r.keys))
	for _, key := range keys {
		emit(text(key), r.values[r.byKey[key]])
	}
}

func noPoints(n int) []float64 {
	row := make([]float64, n)
	for i := range row {
		row[i] = nan()
	}
	return row
}

func formatShortest(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func evalCountValues(e *Evaluator, times []int64, values []float64, gap int64, emit func(string, []float64)) {
	r := newRows(e)
	e.run(&output{}, times, values, gap, func(k int, w *window) {
		for _, v := range w.values {
			if !math.IsNaN(v) {
				r.add(v, k)
			}
		}
	})
	r.emit(formatShortest, emit)
}

func evalHistogram(e *Evaluator, times []int64, values []float64, gap int64, emit func(string, []float64)) {
	r := newRows(e)
	e.run(&output{}, times, values, gap, func(k int, w *window) {
		for _, v := range w.values {
			if v >= 0 {
				r.add(float64(bucketOf(v)), k)
			}
		}
	})
	r.emit(func(key float64) string { return bucketRange(int(key)) }, emit)
}

func evalQuantiles(e *Evaluator, times []int64, values []float64, gap int64, emit func(string, []float64)) {
	out := make([][]float64, len(e.p.Args))
	if !e.ask(int64(len(out)) * int64(e.p.points()) * 8) {
		return
	}
	for i := range out {
		out[i] = make([]float64, e.p.points())
	}
	e.run(&output{}, times, values, gap, func(k int, w *window) {
		sorted := w.sorted()
		for i := range out {
			out[i][k] = quantileSorted(w.args[i][k], sorted)
		}
	})
	if e.err != nil {
		return
	}
	for i := range out {
		emit(formatShortest(e.p.Args[i][0]), out[i])
	}
}

// Histogram buckets: 18 per power of ten from 1e-9 to 1e18, and one at each end.
const (
	bucketsPerDecade = 18
	firstDecade      = -9
	lastDecade       = 18
	buckets          = (lastDecade - firstDecade) * bucketsPerDecade
	lowest           = -1      // 0...1e-9
	highest          = buckets // 1e18...+Inf
)

// bound returns the upper bound of bucket i, which is the lower bound of the next.
func bound(i int) float64 {
	return math.Pow(10, firstDecade+float64(i+1)/bucketsPerDecade)
}

// bucketOf returns the bucket of a value that is not negative. The upper bound belongs to a bucket.
func bucketOf(v float64) int {
	if v <= bound(lowest) {
		return lowest
	}
	if v > bound(buckets-1) {
		return highest
	}
	i := int(math.Ceil((math.Log10(v)-firstDecade)*bucketsPerDecade)) - 1
	i = min(max(i, 0), buckets-1)
	for i > 0 && v <= bound(i-1) {
		i--
	}
	for i < buckets-1 && v > bound(i) {
		i++
	}
	return i
}

func bucketRange(i int) string {
	lower, upper := "0", "+Inf"
	if i != lowest {
		lower = strconv.FormatFloat(bound(i-1), 'e', 3, 64)
	}
	if i != highest {
		upper = strconv.FormatFloat(bound(i), 'e', 3, 64)
	}
	return lower + "..." + upper
}
