package histogramtest

import (
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	nh "vmcluster/lib/nativehistogram"
)

// Message makes the message of a histogram as Prometheus sends it.
func Message(h *nh.Histogram, timestamp int64) prompb.Histogram {
	m := prompb.Histogram{Sum: h.Sum, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, ResetHint: prompb.Histogram_ResetHint(h.Hint), Timestamp: timestamp, CustomValues: h.CustomValues}
	spans := func(list []nh.Span) (out []prompb.BucketSpan) {
		for _, s := range list {
			out = append(out, prompb.BucketSpan{Offset: s.Offset, Length: s.Length})
		}
		return out
	}
	deltas := func(counts []uint64) (out []int64) {
		last := uint64(0)
		for _, n := range counts {
			out = append(out, int64(n-last))
			last = n
		}
		return out
	}
	m.PositiveSpans, m.NegativeSpans = spans(h.Positive.Spans), spans(h.Negative.Spans)
	if h.Float {
		m.Count, m.ZeroCount = &prompb.Histogram_CountFloat{CountFloat: h.FloatCount}, &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: h.FloatZero}
		m.PositiveCounts, m.NegativeCounts = h.Positive.Floats, h.Negative.Floats
	} else {
		m.Count, m.ZeroCount = &prompb.Histogram_CountInt{CountInt: h.Count}, &prompb.Histogram_ZeroCountInt{ZeroCountInt: h.ZeroCount}
		m.PositiveDeltas, m.NegativeDeltas = deltas(h.Positive.Counts), deltas(h.Negative.Counts)
	}
	return m
}

// MessageV2 makes the message of remote write 2.0 of that of 1.0, which has the same fields.
func MessageV2(m *prompb.Histogram) (v2 writev2.Histogram) {
	b, err := m.Marshal()
	if err == nil {
		err = v2.Unmarshal(b)
	}
	if err != nil {
		panic(err) // never: it is a test that made it
	}
	return v2
}
