package query

import (
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/tsblock"
)

// Decoder turns encoded series into samples. Its memory is reused by the next call. It belongs to one goroutine.
type Decoder struct {
	Range   model.TimeRange
	Reading Reading

	samples tsblock.Samples
	scratch tsblock.Scratch
	series  RawSeries
}

// Decode returns the series, or nil if it has no samples in the range. The answer is valid until the next
// call, and as long as the key is, which the labels alias.
func (d *Decoder) Decode(key []byte, blocks []tsblock.Block) (*RawSeries, error) {
	d.samples.Reset()
	if err := tsblock.ReadRange(&d.samples, blocks, d.Range, d.Reading.DedupIntervalMs, &d.scratch); err != nil {
		return nil, err
	}
	if n := d.scratch.TakeDeduplicated(); n > 0 && d.Reading.Deduplicated != nil {
		d.Reading.Deduplicated.Add(n)
	}
	facts := d.scratch.Facts()
	if !d.Reading.KeepNaN && !facts.Has(tsblock.NoNaN) && dropNaN(&d.samples) {
		facts = 0
	}
	if d.samples.Len() == 0 {
		return nil, nil
	}
	var err error
	if _, d.series.Labels, err = model.ParseSeriesKey(d.series.Labels[:0], key); err != nil {
		return nil, err
	}
	d.series.Timestamps, d.series.Values, d.series.Facts = d.samples.Timestamps, d.samples.Values, facts
	return &d.series, nil
}

// reset makes the decoder one of another range, which keeps nothing but memory and columns of timestamps.
func (d *Decoder) reset(r model.TimeRange, reading Reading) {
	labels := d.series.Labels[:cap(d.series.Labels)]
	clear(labels)
	d.Range, d.Reading, d.series = r, reading, RawSeries{Labels: labels[:0]}
}

// heapBytes returns about how much memory it holds.
func (d *Decoder) heapBytes() int { return sampleBytes*cap(d.samples.Values) + d.scratch.HeapBytes() }

// forget lets go of the memory of a long series.
func (d *Decoder) forget() { d.samples, d.series = tsblock.Samples{}, RawSeries{} }

// dropNaN removes NaN samples other than staleness markers, and reports whether there were any.
func dropNaN(s *tsblock.Samples) bool {
	isPlainNaN := func(v float64) bool { return v != v && !rollup.IsStale(v) }
	if !slices.ContainsFunc(s.Values, isPlainNaN) {
		return false
	}
	n := 0
	for i, v := range s.Values {
		if !isPlainNaN(v) {
			s.Timestamps[n], s.Values[n] = s.Timestamps[i], v
			n++
		}
	}
	s.Timestamps, s.Values = s.Timestamps[:n], s.Values[:n]
	return true
}

// longSeries is the number of samples of a series from which on the memory it is decoded to is reserved.
const longSeries = 32 << 10

// LongSeriesBytes returns the memory which a series takes while it is decoded and evaluated, if that is much, else 0.
func LongSeriesBytes(blocks []tsblock.Block) int64 {
	n := 0
	for i := range blocks {
		n += blocks[i].Count
	}
	if n <= longSeries {
		return 0
	}
	return int64(n) * sampleBytes
}

// holdFor reserves the memory which a series takes while it is decoded and evaluated, if that is much.
func (ev *evaluation) holdFor(blocks []tsblock.Block) (int64, error) {
	bytes := LongSeriesBytes(blocks)
	if bytes == 0 {
		return 0, nil
	}
	return bytes, ev.reserve(bytes)
}
