package nativehistogram

import "math"

// ResetHint is what the sender says of the histogram before this one. The numbers are part of the payload and those of Prometheus' protocols.
type ResetHint uint8

// The hints.
const (
	UnknownReset ResetHint = 0
	Reset        ResetHint = 1 // counters started anew
	NoReset      ResetHint = 2
	Gauge        ResetHint = 3 // not a counter
)

// CustomBuckets is the schema of histograms whose bounds are listed.
const CustomBuckets = -53

// Span is a run of buckets: Length of them, after a gap of Offset; the first offset is an index and may be negative.
type Span struct {
	Offset int32
	Length uint32
}

// Buckets are those of one sign. One of the lists is used, as Histogram.Float says; counts are absolute, one per bucket of the spans.
type Buckets struct {
	Spans  []Span
	Counts []uint64
	Floats []float64
}

// Histogram is a native histogram. The memory of its slices is used again by Parse.
type Histogram struct {
	Hint          ResetHint
	Schema        int32 // -4 to 8: the bounds are powers of 2^(2^-Schema); CustomBuckets
	Float         bool  // counts are fractional
	ZeroThreshold float64
	Sum           float64
	Count         uint64 // unless Float
	ZeroCount     uint64
	FloatCount    float64 // if Float
	FloatZero     float64
	Positive      Buckets
	Negative      Buckets
	CustomValues  []float64 // ascending upper bounds, without +Inf; for CustomBuckets
}

// Reset empties the histogram and keeps its memory.
func (h *Histogram) Reset() {
	*h = Histogram{Positive: h.Positive.empty(), Negative: h.Negative.empty(), CustomValues: h.CustomValues[:0]}
}

func (b *Buckets) empty() Buckets {
	return Buckets{Spans: b.Spans[:0], Counts: b.Counts[:0], Floats: b.Floats[:0]}
}

// staleBits are those of the value which ends a series.
const staleBits = 0x7ff0000000000002

// Stale reports whether the histogram says that its series has ended, as a sample does that is a staleness marker.
func (h *Histogram) Stale() bool { return math.Float64bits(h.Sum) == staleBits }
