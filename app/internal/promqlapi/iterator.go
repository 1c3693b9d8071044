package promqlapi

import (
	"context"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"vmcluster/app/internal/held"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/tsblock"
)

// series is a found series. It is decoded anew by each iterator.
type series struct {
	run    *run
	ctx    context.Context // of the query
	r      model.TimeRange
	set    *held.Set
	index  int
	points int64 // that the engine may make of it
	labels labels.Labels
}

// Labels implements storage.Series.
func (s *series) Labels() labels.Labels { return s.labels }

// Iterator implements storage.Series. An iterator of ours which the engine is done with is used again.
func (s *series) Iterator(old chunkenc.Iterator) chunkenc.Iterator {
	it, ok := old.(*iterator)
	if !ok || it.run != s.run {
		it = &iterator{run: s.run}
	}
	it.reset(s)
	return it
}

// iterator walks over the decoded samples and native histograms of a series.
type iterator struct {
	run        *run
	decoder    query.Decoder
	times      []int64
	values     []float64
	histograms *histograms // nil: there were none so far
	at         []int32     // where the value of a time is, see histograms; nil: there are samples only
	pos        int         // -1 before the first
	held       int         // samples there is memory reserved for
	err        error
}

// reset decodes a series.
func (it *iterator) reset(s *series) {
	it.times, it.values, it.at, it.pos, it.err = nil, nil, nil, -1, s.ctx.Err()
	if it.err != nil {
		return
	}
	blocks := s.set.Blocks(s.index)
	n := 0
	for i := range blocks {
		n += blocks[i].Count
	}
	if n > it.held {
		if it.err = s.run.reserve(int64(n-it.held) * iteratorBytes); it.err != nil {
			return
		}
		it.held = n
	}
	it.decoder.Range, it.decoder.Reading = s.r, s.run.h.o.Reading
	raw, err := it.decoder.Decode(s.set.Key(s.index), blocks)
	if err != nil {
		it.err = err
		return
	}
	if raw != nil {
		it.times, it.values = raw.Timestamps, raw.Values
	}
	if hasHistograms(blocks) && !it.readHistograms(s, blocks) {
		return
	}
	it.err = s.run.count(len(it.times))
	if it.err != nil {
		it.times = nil
	}
}

func (it *iterator) readHistograms(s *series, blocks []tsblock.Block) bool {
	if it.histograms == nil {
		it.histograms = &histograms{}
	}
	h := it.histograms
	if it.err = h.read(s, blocks, it.times); it.err != nil {
		it.times = nil
		return false
	}
	it.times, it.at = h.times, h.at
	return true
}

// kind returns what is at the current time. The engine knows native histograms with fractional counts only.
func (it *iterator) kind() chunkenc.ValueType {
	if it.at != nil && it.at[it.pos] < 0 {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// Next implements chunkenc.Iterator.
func (it *iterator) Next() chunkenc.ValueType {
	if it.pos+1 >= len(it.times) {
		it.pos = len(it.times)
		return chunkenc.ValNone
	}
	it.pos++
	return it.kind()
}

// unixMs is a time in Unix milliseconds. Under its own name, so that go vet does not take Seek for that of io.Seeker.
type unixMs = int64

// Seek implements chunkenc.Iterator.
func (it *iterator) Seek(t unixMs) chunkenc.ValueType {
	const near = 8 // samples; the engine mostly moves by a few
	it.pos = max(it.pos, 0)
	for end := it.pos + near; it.pos < end; it.pos++ {
		if it.pos >= len(it.times) {
			it.pos = len(it.times)
			return chunkenc.ValNone
		}
		if it.times[it.pos] >= t {
			return it.kind()
		}
	}
	if it.pos < len(it.times) {
		rest := it.times[it.pos:]
		it.pos += sort.Search(len(rest), func(i int) bool { return rest[i] >= t })
	}
	if it.pos >= len(it.times) {
		it.pos = len(it.times)
		return chunkenc.ValNone
	}
	return it.kind()
}

// At implements chunkenc.Iterator.
func (it *iterator) At() (int64, float64) {
	if it.at != nil {
		return it.times[it.pos], it.values[it.at[it.pos]]
	}
	return it.times[it.pos], it.values[it.pos]
}

// AtHistogram implements chunkenc.Iterator. It is for values of a kind which are never here.
func (*iterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) { return 0, nil }

// AtFloatHistogram implements chunkenc.Iterator. After a damaged histogram there is nothing more.
func (it *iterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t := it.times[it.pos]
	fh, err := it.histograms.decode(int(^it.at[it.pos]), fh)
	if err != nil {
		it.err, it.times = err, nil
		return t, &histogram.FloatHistogram{}
	}
	return t, fh
}

// AtT implements chunkenc.Iterator.
func (it *iterator) AtT() int64 { return it.times[it.pos] }

// AtST implements chunkenc.Iterator. There are no start timestamps.
func (*iterator) AtST() int64 { return 0 }

// Err implements chunkenc.Iterator.
func (it *iterator) Err() error { return it.err }
