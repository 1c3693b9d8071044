package vector

import "vmcluster/lib/model"

// Grid is the sequence of evaluation times Start, Start+Step, ... <= End, in
// Unix milliseconds. Step is positive.
type Grid struct {
	Start int64
	End   int64
	Step  int64
}

// Points returns the number of evaluation times.
func (g Grid) Points() int { return int((g.End-g.Start)/g.Step) + 1 }

// At returns the i-th evaluation time in Unix milliseconds.
func (g Grid) At(i int) int64 { return g.Start + int64(i)*g.Step }

// Series is one series on a grid.
type Series struct {
	Name   string        // metric name, may be empty
	Labels []model.Label // ascending by name, without the metric name; shared between series, so never changed in place
	Values []float64     // one per grid point; NaN means no point
}
