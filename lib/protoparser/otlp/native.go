package otlp

import (
	"fmt"
	"math"

	"vmcluster/lib/nativehistogram"
)

// usualThreshold is the end of the zero bucket of a point that names none, as Prometheus has it.
const usualThreshold = 1e-128

// native stores an exponential histogram as a native one. Its buckets are the same, counted from one more. What is finer than native histograms can
// be becomes coarser; what is coarser has no counterpart.
func (w *writer) native(p *point) {
	h := &w.h
	h.Reset()
	h.Schema, h.Count, h.Sum, h.ZeroCount, h.ZeroThreshold = p.scale, p.count, p.sum, p.zeroCount, p.zeroThreshold
	if h.ZeroThreshold == 0 {
		h.ZeroThreshold = usualThreshold
	}
	if w.metric.delta {
		h.Hint = nativehistogram.Gauge // it does not count on from the one before
	}
	if !p.positive.appendTo(&h.Positive) || !p.negative.appendTo(&h.Negative) {
		w.invalid(fmt.Sprintf("the buckets of an exponential histogram are not between %d and %d", math.MinInt32, math.MaxInt32))
		return
	}
	h.Reduce()
	if err := h.Check(); err != nil {
		w.invalid(err.Error())
		return
	}
	if w.start(p, part{}) {
		w.payload = h.Append(w.payload[:0])
		w.c.Histogram(int64(p.time/1e6), w.payload)
	}
}

// maxGap is how many empty buckets a span has in its middle: they take less room than a new span.
const maxGap = 2

// appendTo adds the buckets to empty ones; false when there are some beyond the largest index.
func (b *buckets) appendTo(dst *nativehistogram.Buckets) bool {
	next := int64(0) // behind the last one
	for i, count := range b.counts {
		if count == 0 {
			continue
		}
		index := int64(b.offset) + int64(i) + 1
		gap := index - next
		if index > math.MaxInt32 {
			return false
		}
		if n := len(dst.Spans); n > 0 && gap <= maxGap {
			for range gap {
				dst.Counts = append(dst.Counts, 0)
			}
			dst.Spans[n-1].Length += uint32(gap) + 1
		} else {
			dst.Spans = append(dst.Spans, nativehistogram.Span{Offset: int32(gap), Length: 1})
		}
		dst.Counts = append(dst.Counts, count)
		next = index + 1
	}
	return true
}
