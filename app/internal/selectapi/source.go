package selectapi

import (
	"context"
	"slices"
	"strings"
	"sync"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// NewSource returns the query engine's view of a Searcher: series with decoded labels and samples. NaN samples are
// left out, since the language takes NaN for "no point"; staleness markers, which mean something to it, are kept.
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
	missing, _ := ctx.Value(missingKey{}).(*missingNodes)
	return &decoder{it: it, r: q.Range, dedupIntervalMs: s.dedupIntervalMs, dropNaN: true, missing: missing}, nil
}

// decoder turns blocks into samples, one series at a time. Its buffers are reused.
type decoder struct {
	it              storageapi.SeriesIterator
	r               model.TimeRange
	dedupIntervalMs int64
	dropNaN         bool
	missing         *missingNodes // nil: nobody asks
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
		if d.dropNaN {
			dropNaN(&d.samples)
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
func (d *decoder) Close() error {
	if d.missing != nil {
		d.missing.add(d.it.Coverage().Failed)
	}
	return d.it.Close()
}

// dropNaN removes NaN samples other than staleness markers.
func dropNaN(s *tsblock.Samples) {
	isPlainNaN := func(v float64) bool { return v != v && !rollup.IsStale(v) }
	if !slices.ContainsFunc(s.Values, isPlainNaN) {
		return
	}
	n := 0
	for i, v := range s.Values {
		if !isPlainNaN(v) {
			s.Timestamps[n], s.Values[n] = s.Timestamps[i], v
			n++
		}
	}
	s.Timestamps, s.Values = s.Timestamps[:n], s.Values[:n]
}

// missingNodes collects which nodes failed during a query, for its answer to name them.
type missingNodes struct {
	mu struct {
		sync.Mutex
		failed []storageapi.NodeFailure
	}
}

type missingKey struct{}

// add notes failures, the first of each node.
func (m *missingNodes) add(failed []storageapi.NodeFailure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range failed {
		if !slices.ContainsFunc(m.mu.failed, func(known storageapi.NodeFailure) bool { return known.Node == f.Node }) {
			m.mu.failed = append(m.mu.failed, f)
		}
	}
}

// coverage returns what the query came to.
func (m *missingNodes) coverage() storageapi.Coverage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return storageapi.Coverage{Partial: true, Failed: m.mu.failed}
}

// partialError says which nodes did not answer.
func partialError(c storageapi.Coverage) error {
	var b strings.Builder
	for _, f := range c.Failed {
		b.WriteString("; " + f.Node + ": " + f.Err.Error())
	}
	return errkind.New(errkind.Unavailable, "cannot answer completely, since some of the storage nodes are unavailable%s; "+
		"bring the nodes back; queries without deny_partial_response=1 at a vmselect without -search.denyPartialResponse get partial answers", b.String())
}

// limitError adds the path's own limit to an error about too many series, which names that of the storage.
func limitError(err error, flagName string, limit int) error {
	if errkind.Of(err) != errkind.Unprocessable {
		return err
	}
	return errkind.New(errkind.Unprocessable, "%w; the limit at this path is -%s=%d", err, flagName, limit)
}
