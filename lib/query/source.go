package query

import (
	"context"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// Source finds series and their samples.
type Source interface {
	// Select returns the series that q selects, by ascending canonical key. The caller closes the iterator.
	Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error)
	// Reading tells which of the samples found count.
	Reading() Reading
}

// Reading is which of the samples of a series count.
type Reading struct {
	// DedupIntervalMs is the width of the buckets of which only the newest sample counts; 0 means that all do.
	DedupIntervalMs int64
	// KeepNaN keeps NaN samples other than staleness markers. The language takes NaN for "no point", so they are left out otherwise.
	KeepNaN bool
	// Deduplicated counts the samples left out for DedupIntervalMs; nil counts nothing.
	Deduplicated *metrics.Counter
}

// SeriesIterator walks over series. It is used by one goroutine.
type SeriesIterator interface {
	// Next moves to the next series; false at the end or on an error.
	Next() bool
	// At returns the current series. It and everything it points to are valid until the next call of Next or Close.
	At() *EncodedSeries
	// Err returns the error that ended the iteration, or nil.
	Err() error
	// Partial tells whether the answer may lack stored data. It is final once Next has returned false.
	Partial() bool
	// Close frees all resources, also in the middle of an iteration.
	Close() error
}

// EncodedSeries is a series as a Source finds it. It is decoded by whoever evaluates it.
type EncodedSeries struct {
	Key    []byte          // canonical series key
	Blocks []tsblock.Block // in any order; they may overlap each other, and reach beyond the range asked for
	// Derived is set when the series is made as it is read, and another range gives it other samples where both have some.
	Derived bool
}

// RawSeries is a series with its samples within the range asked for.
type RawSeries struct {
	// Labels are as model.ParseSeriesKey gives them: the metric name first, if
	// there is one, then the others by ascending name.
	Labels     []model.Label
	Timestamps []int64 // strictly ascending, in Unix milliseconds
	Values     []float64
	Facts      tsblock.Facts // what is known of the values; nothing in case of doubt
}
