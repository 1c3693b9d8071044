package selectapi

import (
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/storageapi"
)

// NewSource returns the query engine's view of a Searcher, and of a Reducer over the same stores, which may be nil.
func NewSource(s storageapi.Searcher, reducer storageapi.Reducer, dedupIntervalMs int64, set *metrics.Set) query.Source {
	deduplicated := set.Counter(`vm_deduplicated_samples_total{type="select"}`)
	src := querysource.New(s, reducer, query.Reading{DedupIntervalMs: dedupIntervalMs, Deduplicated: deduplicated})
	if r, ok := src.(query.Reducer); ok {
		return &tracedReducer{tracedSource{src}, r}
	}
	return &tracedSource{src}
}

// decoder turns blocks into samples as they are stored, NaN included, one series at a time. Its buffers are reused.
type decoder struct {
	it     storageapi.SeriesIterator
	d      query.Decoder
	series *query.RawSeries
	err    error
}

func newDecoder(it storageapi.SeriesIterator, r model.TimeRange, dedupIntervalMs int64) *decoder {
	return &decoder{it: it, d: query.Decoder{Range: r, Reading: query.Reading{DedupIntervalMs: dedupIntervalMs, KeepNaN: true}}}
}

// Next moves to the next series that has samples in the range.
func (d *decoder) Next() bool {
	for d.err == nil && d.it.Next() {
		s := d.it.At()
		if d.series, d.err = d.d.Decode(s.Key, s.Blocks); d.series != nil {
			return true
		}
	}
	return false
}

// At returns the current series, valid until the next call of Next.
func (d *decoder) At() *query.RawSeries { return d.series }

// Err returns what ended the iteration early.
func (d *decoder) Err() error {
	if d.err != nil {
		return d.err
	}
	return d.it.Err()
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
