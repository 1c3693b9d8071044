package promqlapi

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"

	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/tsblock"
)

// histograms are the native histograms of a series, merged with its samples by time.
type histograms struct {
	found   tsblock.HistogramSamples
	scratch tsblock.Scratch
	times   []int64 // of both
	at      []int32 // for each time the index of a sample, or the complement of that of a histogram; nil: the series has no histograms
	held    int64   // bytes there is memory reserved for

	parsed nativehistogram.Histogram
	custom []float64 // bounds of the histogram before, which later ones share
}

// hasHistograms reports whether one of the blocks holds native histograms.
func hasHistograms(blocks []tsblock.Block) bool {
	return slices.ContainsFunc(blocks, func(b tsblock.Block) bool { return b.Content() == tsblock.Histograms })
}

// read decodes the histograms of a series with the given samples.
func (h *histograms) read(s *series, blocks []tsblock.Block, times []int64) error {
	h.found.Reset()
	if err := tsblock.ReadHistograms(&h.found, blocks, s.r, s.run.h.o.Reading.DedupIntervalMs, &h.scratch); err != nil {
		return err
	}
	if err := h.reserve(s); err != nil {
		return err
	}
	h.merge(times)
	return nil
}

// decodedBytes returns the most that a histogram takes once it is decoded: a count takes a byte or more of the payload.
func decodedBytes(payload []byte) int64 { return 256 + 8*int64(len(payload)) }

// reserve takes the memory of the histograms: of those in the iterator, and of those which the engine makes of them.
func (h *histograms) reserve(s *series) error {
	largest := int64(0)
	for _, p := range h.found.Payloads {
		largest = max(largest, decodedBytes(p))
	}
	n := int64(h.found.HeapBytes()) + int64(h.found.Len())*largest
	need := s.points * largest
	if n > h.held {
		need, h.held = need+n-h.held, n
	}
	return s.run.reserve(need)
}

// merge puts samples and histograms into the order of time. Of both at one time, the histogram counts.
func (h *histograms) merge(times []int64) {
	h.times, h.at = h.times[:0], slices.Grow(h.at[:0], 1)
	i := 0
	for k, t := range h.found.Timestamps {
		for ; i < len(times) && times[i] < t; i++ {
			h.times, h.at = append(h.times, times[i]), append(h.at, int32(i))
		}
		if i < len(times) && times[i] == t {
			i++
		}
		h.times, h.at = append(h.times, t), append(h.at, ^int32(k))
	}
	for ; i < len(times); i++ {
		h.times, h.at = append(h.times, times[i]), append(h.at, int32(i))
	}
}

// decode puts histogram k into the form of the engine, in the memory of fh if that is not nil.
func (h *histograms) decode(k int, fh *histogram.FloatHistogram) (*histogram.FloatHistogram, error) {
	p := &h.parsed
	if err := p.Parse(h.found.Payloads[k]); err != nil {
		return nil, err
	}
	if fh == nil {
		fh = &histogram.FloatHistogram{}
	}
	fh.CounterResetHint, fh.Schema, fh.ZeroThreshold, fh.Sum = hintOf(p.Hint), p.Schema, p.ZeroThreshold, p.Sum
	fh.Count, fh.ZeroCount = p.FloatCount, p.FloatZero
	if !p.Float {
		fh.Count, fh.ZeroCount = float64(p.Count), float64(p.ZeroCount)
	}
	fh.PositiveSpans, fh.PositiveBuckets = buckets(fh.PositiveSpans, fh.PositiveBuckets, &p.Positive)
	fh.NegativeSpans, fh.NegativeBuckets = buckets(fh.NegativeSpans, fh.NegativeBuckets, &p.Negative)
	fh.CustomValues = nil
	if p.Schema == nativehistogram.CustomBuckets {
		if h.custom == nil || !slices.Equal(h.custom, p.CustomValues) { // the engine keeps them, so they never change
			h.custom = append([]float64{}, p.CustomValues...)
		}
		fh.CustomValues = h.custom
	}
	return fh, nil
}

// hintOf returns what holds of the histogram before this one whichever that is: there may have been others between them, which were left out.
func hintOf(hint nativehistogram.ResetHint) histogram.CounterResetHint {
	switch hint {
	case nativehistogram.Reset:
		return histogram.CounterReset
	case nativehistogram.Gauge:
		return histogram.GaugeType
	}
	return histogram.UnknownCounterReset
}

func buckets(spans []histogram.Span, counts []float64, b *nativehistogram.Buckets) ([]histogram.Span, []float64) {
	spans, counts = spans[:0], append(counts[:0], b.Floats...)
	for _, s := range b.Spans {
		spans = append(spans, histogram.Span{Offset: s.Offset, Length: s.Length})
	}
	for _, n := range b.Counts {
		counts = append(counts, float64(n))
	}
	return spans, counts
}

// histogram appends [seconds,{"count":"...","sum":"...","buckets":[[bounds,"low","high","count"],...]}] without empty buckets. What bounds says: 0, the lower one is
// open, 1, the upper one, 2, both, 3, none.
func (w *writer) histogram(p promql.HPoint) {
	w.b = appendTime(append(w.b, '['), p.T)
	w.b = appendFloat(append(w.b, `,{"count":"`...), p.H.Count)
	w.b = appendFloat(append(w.b, `","sum":"`...), p.H.Sum)
	w.b = append(w.b, '"')
	separator := `,"buckets":[[`
	for it := p.H.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		w.b = append(append(w.b, separator...), boundsOf(b.LowerInclusive, b.UpperInclusive))
		for _, v := range [...]float64{b.Lower, b.Upper, b.Count} {
			w.b = append(appendFloat(append(w.b, ',', '"'), v), '"')
		}
		w.b = append(w.b, ']')
		separator = ",["
	}
	if separator == ",[" {
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, '}', ']')
}

func boundsOf(lowInside, highInside bool) byte {
	switch {
	case lowInside && highInside:
		return '3'
	case lowInside:
		return '1'
	case highInside:
		return '0'
	}
	return '2'
}
