package query

import (
	"context"

	"vmcluster/lib/model"
)

// Source finds series and their samples.
type Source interface {
	// Select returns the series that q selects, by ascending canonical key. The caller closes the iterator.
	Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error)
}

// SeriesIterator walks over series. It is used by one goroutine.
type SeriesIterator interface {
	// Next moves to the next series; false at the end or on an error.
	Next() bool
	// At returns the current series. It and everything it points to are valid until the next call of Next or Close.
	At() *RawSeries
	// Err returns the error that ended the iteration, or nil.
	Err() error
	// Partial tells whether the answer may lack stored data. It is final once Next has returned false.
	Partial() bool
	// Close frees all resources, also in the middle of an iteration.
	Close() error
}

// RawSeries is a series with its samples within the range asked for.
type RawSeries struct {
	// Labels are as model.ParseSeriesKey gives them: the metric name first, if
	// there is one, then the others by ascending name.
	Labels     []model.Label
	Timestamps []int64 // strictly ascending, in Unix milliseconds
	Values     []float64
}
