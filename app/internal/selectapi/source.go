package selectapi

import (
	"context"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// NewSource returns the query engine's view of a Searcher: series with decoded labels and samples.
func NewSource(s storageapi.Searcher, dedupIntervalMs int64) query.Source {
	return &source{searcher: s, dedupIntervalMs: dedupIntervalMs}
}

type source struct {
	searcher        storageapi.Searcher
	dedupIntervalMs int64
}

// Select starts a search.
func (s *source) Select(ctx context.Context, q *model.SearchQuery) (query.SeriesIterator, error) {
	it, err := s.searcher.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	return &decoder{it: it, r: q.Range, dedupIntervalMs: s.dedupIntervalMs}, nil
}

// decoder turns blocks into samples, one series at a time. Its buffers are reused.
type decoder struct {
	it              storageapi.SeriesIterator
	r               model.TimeRange
	dedupIntervalMs int64
	samples         tsblock.Samples
	scratch         tsblock.Scratch
	series          query.RawSeries
	err             error
}

// Next moves to the next series that has samples in the range.
func (d *decoder) Next() bool {
	for d.err == nil && d.it.Next() {
		s := d.it.At()
		d.samples.Reset()
		if d.err = tsblock.ReadRange(&d.samples, s.Blocks, d.r, d.dedupIntervalMs, &d.scratch); d.err != nil {
			return false
		}
		if d.samples.Len() == 0 {
			continue
		}
		_, d.series.Labels, d.err = model.ParseSeriesKey(d.series.Labels[:0], s.Key)
		d.series.Timestamps, d.series.Values = d.samples.Timestamps, d.samples.Values
		return d.err == nil
	}
	return false
}

// At returns the current series, valid until the next call of Next.
func (d *decoder) At() *query.RawSeries { return &d.series }

// Err returns what ended the iteration early.
func (d *decoder) Err() error {
	if d.err != nil {
		return d.err
	}
	return d.it.Err()
}

// Partial reports whether data may be missing; final after the last Next.
func (d *decoder) Partial() bool { return d.it.Coverage().Partial }

// Close ends the search.
func (d *decoder) Close() error { return d.it.Close() }

// partialError says which nodes did not answer.
func partialError(c storageapi.Coverage) error {
	text := ""
	for _, f := range c.Failed {
		text += "; " + f.Node + ": " + f.Err.Error()
	}
	return errkind.New(errkind.Unavailable, "cannot answer completely, since some of the storage nodes are unavailable%s; allow partial responses with deny_partial_response=0 and without -search.denyPartialResponse, or bring the nodes back", text)
}
