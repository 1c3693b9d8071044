package rollup

import "math"

// window is what a function sees at one evaluation time.
type window struct {
	values []float64 // the samples in the window, by time
	times  []int64

	// The last sample at or before the left edge, when it is close enough.
	prevValue float64
	prevTime  int64
	hasPrev   bool

	// The last sample at or before the left edge, however far.
	farValue float64
	hasFar   bool

	// The first sample after the evaluation time.
	nextValue float64
	hasNext   bool

	end   int64 // evaluation time
	width int64
	point int         // index of the evaluation time
	args  [][]float64 // scalar arguments, one value per evaluation time

	scratch  []float64
	scratch2 []float64
}

// arg returns scalar argument i at the current point.
func (w *window) arg(i int) float64 { return w.args[i][w.point] }

func (w *window) last() float64    { return w.values[len(w.values)-1] }
func (w *window) lastTime() int64  { return w.times[len(w.times)-1] }
func (w *window) empty() bool      { return len(w.values) == 0 }
func (w *window) leftEdge() int64  { return w.end - w.width }
func seconds(millis int64) float64 { return float64(millis) / 1000 }

// sorted returns the values of the window in ascending order, in memory that the next call reuses.
func (w *window) sorted() []float64 {
	w.scratch = append(w.scratch[:0], w.values...)
	sortFloats(w.scratch)
	return w.scratch
}

func nan() float64 { return math.NaN() }

// zeroIf returns 0 when ok holds and else no point.
func zeroIf(ok bool) float64 {
	if ok {
		return 0
	}
	return math.NaN()
}
