package storageapi

import (
	"context"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// Ingester takes samples.
type Ingester interface {
	// Ingest stores all samples of the batch and returns once they are durable
	// and visible to searches. Samples outside retention are counted and
	// left out; they are no error. On an error some of the samples may have been stored;
	// sending the same batch again, here or elsewhere, is harmless.
	//
	// The kinds Unavailable, ReadOnly, Draining, Overloaded and Timeout mean
	// that another node may take the batch. The batch is not retained after
	// the return and is never changed.
	Ingest(ctx context.Context, batch *model.Batch) error
}

// Searcher finds series and samples. All answers are deterministic: the same
// question over the same data gives the same bytes.
type Searcher interface {
	// Search returns the series that q selects, by ascending key, each once.
	// Limits that are exceeded are errors of kind Unprocessable, either here or at
	// the iterator. The caller closes the iterator.
	Search(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error)

	// LabelNames returns the sorted label names, __name__ included, of the series
	// that q selects, at most limit (0: no limit).
	LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (Strings, error)

	// LabelValues returns the sorted non-empty values of one label of the series
	// that q selects, at most limit (0: no limit).
	LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (Strings, error)

	// Tenants returns the sorted tenants that have samples in the months that r touches.
	Tenants(ctx context.Context, r model.TimeRange) (Tenants, error)
}

// Admin is housekeeping on a node.
type Admin interface {
	// Flush makes everything taken so far durable in parts and searchable.
	Flush(ctx context.Context) error
	// Merge starts merging all parts of the partitions whose name starts with prefix
	// (YYYY_MM; empty for all) and returns when it is done.
	Merge(ctx context.Context, prefix string) error
}

// SeriesIterator walks over series by ascending key, each key once. It is used by one
// goroutine at a time.
//
//	for it.Next() { use(it.At()) }
//	err := it.Err(); cov := it.Coverage(); it.Close()
type SeriesIterator interface {
	// Next moves to the next series; false at the end or on an error.
	Next() bool
	// At returns the current series. It and everything it points to are valid
	// until the next call of Next or Close.
	At() *Series
	// Err returns the error that ended the iteration, or nil.
	Err() error
	// Coverage tells whether the answer is whole. It is final once Next has returned false.
	Coverage() Coverage
	// Close frees all resources, also in the middle of an iteration. It may be called again.
	Close() error
}

// Series is one found series.
type Series struct {
	Key []byte // canonical series key
	// Blocks hold the samples within the range asked for, and possibly some
	// outside of it, ordered by MinTimestamp. Blocks may overlap in
	// time. Empty when only keys were asked for.
	Blocks []tsblock.Block
}

// Coverage tells how much of the data an answer rests on.
type Coverage struct {
	// Partial is set when the answer may lack data which is stored somewhere.
	Partial bool
	// Failed names the nodes that did not answer.
	Failed []NodeFailure
	// Open is set by iterators of several nodes' series which have not ended: whether the answer so far is whole will be known at
	// the end only.
	Open bool
}

// NodeFailure is a node which did not answer, and why.
type NodeFailure struct {
	Node string
	Err  error
}

// Merge adds what other lacks to c, each node once with its first failure.
func (c *Coverage) Merge(other Coverage) {
	c.Partial = c.Partial || other.Partial
	for _, f := range other.Failed {
		if !slices.ContainsFunc(c.Failed, func(known NodeFailure) bool { return known.Node == f.Node }) {
			c.Failed = append(c.Failed, f)
		}
	}
}

// Strings is a list of names or values with its coverage.
type Strings struct {
	Values   []string
	Coverage Coverage
}

// Tenants is a list of tenants with its coverage.
type Tenants struct {
	Values   []model.TenantID
	Coverage Coverage
}
