package prompb

import (
	"math"

	"vmcluster/lib/errkind"
	"vmcluster/lib/nativehistogram"
)

// appendMessage reads a field the message of which stays undecoded.
func (r *reader) appendMessage(dst []span, wire int, what string) []span {
	start, end := r.bytes(wire, what)
	return append(dst, span{start, end})
}

// decodeHistogram reads a message which the walk has passed. Both versions have the same fields.
//
//	message Histogram  { uint64 count_int = 1; double count_float = 2; double sum = 3; sint32 schema = 4; double zero_threshold = 5;
//	                     uint64 zero_count_int = 6; double zero_count_float = 7;
//	                     repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9; repeated double negative_counts = 10;
//	                     repeated BucketSpan positive_spans = 11; repeated sint64 positive_deltas = 12; repeated double positive_counts = 13;
//	                     ResetHint reset_hint = 14; int64 timestamp = 15; repeated double custom_values = 16; int64 start_timestamp = 17; }
//	message BucketSpan { sint32 offset = 1; uint32 length = 2; }
func decodeHistogram(body []byte, s span, h *nativehistogram.Histogram) (timestamp int64, err error) {
	r := reader{b: body, pos: s.start, end: s.end}
	h.Reset()
	for r.pos < r.end {
		field, wire := r.tag()
		if field == 15 && wire == wireVarint {
			timestamp = int64(r.varint())
			continue
		}
		r.histogramField(h, field, wire)
	}
	if r.fault != "" {
		return 0, errkind.New(errkind.BadRequest, "cannot decode histogram of %d bytes at offset %d: %s", s.end-s.start, r.faultPos-s.start, r.fault)
	}
	return timestamp, nil
}

func (r *reader) histogramField(h *nativehistogram.Histogram, field, wire int) {
	switch field {
	case 8:
		h.Negative.Spans = r.bucketSpan(h.Negative.Spans, wire)
	case 9:
		h.Negative.Counts = r.deltas(h.Negative.Counts, wire)
	case 10:
		h.Negative.Floats = r.doubles(h.Negative.Floats, wire, nativehistogram.MaxBuckets)
	case 11:
		h.Positive.Spans = r.bucketSpan(h.Positive.Spans, wire)
	case 12:
		h.Positive.Counts = r.deltas(h.Positive.Counts, wire)
	case 13:
		h.Positive.Floats = r.doubles(h.Positive.Floats, wire, nativehistogram.MaxBuckets)
	case 16:
		h.CustomValues = r.doubles(h.CustomValues, wire, nativehistogram.MaxCustomValues)
	default:
		r.histogramNumber(h, field, wire)
	}
}

// histogramNumber reads a field which is one number. Of the two forms of a count, the last one sent holds.
func (r *reader) histogramNumber(h *nativehistogram.Histogram, field, wire int) {
	switch {
	case field == 1 && wire == wireVarint:
		h.Count, h.FloatCount, h.Float = r.varint(), 0, false
	case field == 2 && wire == wireFixed64:
		h.FloatCount, h.Count, h.Float = r.double(), 0, true
	case field == 3 && wire == wireFixed64:
		h.Sum = r.double()
	case field == 4 && wire == wireVarint:
		h.Schema = unzigzag32(r.varint())
	case field == 5 && wire == wireFixed64:
		h.ZeroThreshold = r.double()
	case field == 6 && wire == wireVarint:
		h.ZeroCount, h.FloatZero = r.varint(), 0
	case field == 7 && wire == wireFixed64:
		h.FloatZero, h.ZeroCount = r.double(), 0
	case field == 14 && wire == wireVarint:
		h.Hint = nativehistogram.ResetHint(min(r.varint(), math.MaxUint8))
	case field <= 7 || field == 14 || field == 15:
		r.fail(r.pos, "the histogram has a wrong wire type")
	default:
		r.skip(field, wire)
	}
}

func (r *reader) double() float64 { return math.Float64frombits(r.fixed64()) }

func unzigzag32(u uint64) int32 { return int32(uint32(u)>>1) ^ -int32(u&1) }

// bucketSpan reads a span. Spans beyond what Check allows say nothing.
func (r *reader) bucketSpan(dst []nativehistogram.Span, wire int) []nativehistogram.Span {
	m := r.message(wire, "span of buckets")
	var s nativehistogram.Span
	for m.pos < m.end {
		field, wire := m.tag()
		switch {
		case field == 1 && wire == wireVarint:
			s.Offset = unzigzag32(m.varint())
		case field == 2 && wire == wireVarint:
			s.Length = uint32(m.varint())
		case field == 1 || field == 2:
			m.fail(m.pos, "the span of buckets has a wrong wire type")
		default:
			m.skip(field, wire)
		}
	}
	r.adopt(&m)
	if len(dst) > 4*nativehistogram.MaxBuckets {
		return dst
	}
	return append(dst, s)
}

// deltas reads differences of counts, a packed list or a single one, and appends the counts. Those beyond what Check allows say nothing.
func (r *reader) deltas(dst []uint64, wire int) []uint64 {
	last := uint64(0)
	if len(dst) > 0 {
		last = dst[len(dst)-1]
	}
	if wire == wireVarint {
		return append(dst, last+unzigzag(r.varint()))
	}
	m := r.message(wire, "list of counts")
	for m.pos < m.end && len(dst) <= nativehistogram.MaxBuckets {
		last += unzigzag(m.varint())
		dst = append(dst, last)
	}
	r.adopt(&m)
	return dst
}

func unzigzag(u uint64) uint64 { return u>>1 ^ -(u & 1) }

// doubles reads numbers, a packed list or a single one, and appends them. Those beyond the limit, which Check does not allow, say nothing but the first.
func (r *reader) doubles(dst []float64, wire, limit int) []float64 {
	if wire == wireFixed64 {
		return append(dst, r.double())
	}
	m := r.message(wire, "list of numbers")
	for m.pos < m.end && len(dst) <= limit {
		dst = append(dst, m.double())
	}
	r.adopt(&m)
	return dst
}

// Histograms returns how many native histograms the current series has.
func (d *Decoder[L]) Histograms() int { return len(d.histograms) }

// Histogram decodes a native histogram of the current series into h, whose memory is used again. An error, of kind BadRequest, is about this
// one only. What it says is not checked.
func (d *Decoder[L]) Histogram(i int, h *nativehistogram.Histogram) (timestamp int64, err error) {
	return decodeHistogram(d.body, d.histograms[i], h)
}

// Histograms returns how many native histograms the current series has.
func (d *DecoderV2) Histograms() int { return len(d.histograms) }

// Histogram is that of a Decoder.
func (d *DecoderV2) Histogram(i int, h *nativehistogram.Histogram) (timestamp int64, err error) {
	return decodeHistogram(d.body, d.histograms[i], h)
}
