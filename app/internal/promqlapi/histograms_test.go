package promqlapi

import (
	"github.com/prometheus/prometheus/model/histogram"

	"vmcluster/lib/nativehistogram"
)

// payload returns a histogram of Prometheus in the form in which it is stored.
func payload(h *histogram.FloatHistogram) []byte {
	sign := func(spans []histogram.Span, counts []float64) (b nativehistogram.Buckets) {
		for _, s := range spans {
			b.Spans = append(b.Spans, nativehistogram.Span{Offset: s.Offset, Length: s.Length})
		}
		b.Floats = counts
		return b
	}
	ours := nativehistogram.Histogram{
		Hint: nativehistogram.ResetHint(h.CounterResetHint), Schema: h.Schema, Float: true, ZeroThreshold: h.ZeroThreshold, Sum: h.Sum, FloatCount: h.Count, FloatZero: h.ZeroCount,
		Positive: sign(h.PositiveSpans, h.PositiveBuckets), Negative: sign(h.NegativeSpans, h.NegativeBuckets), CustomValues: h.CustomValues,
	}
	return ours.Append(nil)
}
