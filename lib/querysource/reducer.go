package querysource

import (
	"context"
	"fmt"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
)

// ReducerOptions are what a Reducer works with.
type ReducerOptions struct {
	Searcher storageapi.Searcher
	Logger   *logger.Logger
	Metrics  *metrics.Set
	Budget   *memory.Budget // of groups and of long series while they are evaluated; may be nil
}

// Reducer implements storageapi.Reducer.
type Reducer struct {
	engine   *query.Engine
	declined *metrics.Counter
}

var _ storageapi.Reducer = (*Reducer)(nil)

// NewReducer returns a Reducer.
func NewReducer(o ReducerOptions) *Reducer {
	engine := query.New(&query.Config{}, query.Options{Source: &wholeSource{o.Searcher}, Logger: o.Logger, Metrics: o.Metrics, Budget: o.Budget})
	return &Reducer{engine: engine, declined: o.Metrics.Counter("vm_query_fragments_declined_total")}
}

// Reduce evaluates a fragment.
func (r *Reducer) Reduce(ctx context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	step := trace.From(ctx).Begin("aggregate the series")
	res, partial, err := r.engine.Reduce(step.Within(ctx), f)
	if step != nil {
		step.End("%s", outcome(res, err))
	}
	if err != nil {
		return storageapi.Reduction{}, errkind.New(errkind.Of(err), "cannot evaluate a part of the query: %w", err).WithRetryAfter(errkind.RetryAfterOf(err))
	}
	reduction := storageapi.Reduction{Coverage: storageapi.Coverage{Partial: partial}}
	if res == nil {
		r.declined.Inc()
	} else {
		reduction.Results = []*fragment.Result{res}
	}
	return reduction, nil
}

// outcome tells what a fragment has come to, for its trace.
func outcome(res *fragment.Result, err error) string {
	switch {
	case err != nil:
		return ": " + err.Error()
	case res == nil:
		return ": not worth it here, the series are to be read"
	}
	return fmt.Sprintf(": %d groups of %d series with %d samples, %d series handed over as they are", len(res.Groups), res.SeriesRead, res.SamplesRead, len(res.Excluded))
}

// wholeSource is a store as a source of series without native histograms. Where there are some, a fragment is not evaluated but its series are read.
type wholeSource struct{ searcher storageapi.Searcher }

// Select starts a search. It fails with query.ErrNotWorthIt at the first native histogram.
func (s *wholeSource) Select(ctx context.Context, q *model.SearchQuery) (query.SeriesIterator, error) {
	asked := *q
	asked.Histograms = model.HistogramParts
	it, err := s.searcher.Search(ctx, &asked)
	if err != nil {
		return nil, err
	}
	return &wholeSeries{SeriesIterator: it}, nil
}

// Reading returns which samples count, which fragments say themselves.
func (*wholeSource) Reading() query.Reading { return query.Reading{} }

// wholeSeries ends with an error at the first native histogram.
type wholeSeries struct {
	storageapi.SeriesIterator
	series query.EncodedSeries
	err    error
}

// Next moves to the next series.
func (w *wholeSeries) Next() bool {
	if w.err != nil || !w.SeriesIterator.Next() {
		return false
	}
	s := w.SeriesIterator.At()
	if hasHistograms(s.Blocks) {
		w.err = query.ErrNotWorthIt
		return false
	}
	w.series = query.EncodedSeries{Key: s.Key, Blocks: s.Blocks}
	return true
}

// At returns the current series, valid until the next call of Next.
func (w *wholeSeries) At() *query.EncodedSeries { return &w.series }

// Partial reports whether data may be missing; final after the last Next.
func (w *wholeSeries) Partial() bool { return w.Coverage().Partial }

// Err returns what ended the search.
func (w *wholeSeries) Err() error {
	if w.err != nil {
		return w.err
	}
	return w.SeriesIterator.Err()
}
