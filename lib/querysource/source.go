package querysource

import (
	"cmp"
	"context"
	"sync"

	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
)

// New returns the query engine's view of a Searcher, in which native histograms show as their parts. It may be a *Parts already. With a reducer, whose stores are those of the Searcher, the source is a query.Reducer; it may be nil.
func New(s storageapi.Searcher, reducer storageapi.Reducer, reading query.Reading) query.Source {
	parts, ok := s.(*Parts)
	if !ok {
		parts = NewParts(s, nil)
	}
	src := source{parts: parts, reading: reading}
	if reducer != nil {
		return &reducingSource{source: src, reducer: reducer}
	}
	return &src
}

type source struct {
	parts   *Parts
	reading query.Reading
}

// Select starts a search.
func (s *source) Select(ctx context.Context, q *model.SearchQuery) (query.SeriesIterator, error) {
	it, err := s.parts.search(ctx, q)
	if err != nil {
		return nil, err
	}
	return &found{partsIterator: it, failures: failuresOf(ctx)}, nil
}

// Reading returns which samples count.
func (s *source) Reading() query.Reading { return s.reading }

// found hands the answer of a search to the query engine.
type found struct {
	*partsIterator
	failures *Failures // nil: nobody asks
	series   query.EncodedSeries
}

// At returns the current series, valid until the next call of Next.
func (f *found) At() *query.EncodedSeries {
	s := f.current
	f.series = query.EncodedSeries{Key: s.Key, Blocks: s.Blocks, Derived: f.derived}
	return &f.series
}

// Partial reports whether data may be missing; final after the last Next.
func (f *found) Partial() bool { return f.Coverage().Partial }

// Close ends the search.
func (f *found) Close() error {
	f.failures.Add(f.Coverage().Failed)
	return f.partsIterator.Close()
}

// reducingSource is a source whose stores evaluate parts of queries.
type reducingSource struct {
	source
	reducer storageapi.Reducer
}

// Reduce evaluates a fragment.
func (s *reducingSource) Reduce(ctx context.Context, f *fragment.Fragment) (*query.Reduced, error) {
	r, err := s.reducer.Reduce(ctx, f)
	if err != nil {
		return nil, err
	}
	if len(r.Results) == 0 {
		return &query.Reduced{Declined: cmp.Or(r.Declined, "not worth it")}, nil
	}
	failuresOf(ctx).Add(r.Coverage.Failed)
	return &query.Reduced{Results: r.Results, Partial: r.Coverage.Partial}, nil
}

// Failures collects which nodes failed during a query, for its answer to name them. It is safe for concurrent use.
type Failures struct {
	mu struct {
		sync.Mutex
		coverage storageapi.Coverage
	}
}

type failuresKey struct{}

// WithFailures returns a context for a query whose failures of nodes are collected.
func WithFailures(ctx context.Context, f *Failures) context.Context {
	return context.WithValue(ctx, failuresKey{}, f)
}

func failuresOf(ctx context.Context) *Failures {
	f, _ := ctx.Value(failuresKey{}).(*Failures)
	return f
}

// Add notes failures, the first of each node. On nil it does nothing.
func (f *Failures) Add(failed []storageapi.NodeFailure) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.coverage.Merge(storageapi.Coverage{Failed: failed})
}

// Coverage returns what the query came to, which is known to be partial.
func (f *Failures) Coverage() storageapi.Coverage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return storageapi.Coverage{Partial: true, Failed: f.mu.coverage.Failed}
}
