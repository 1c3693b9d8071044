package remoteread

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/query"
	"vmcluster/lib/tsblock"
)

// found is a series with its samples and native histograms. No time occurs in both.
type found struct {
	times      []int64
	values     []float64
	histograms tsblock.HistogramSamples
}

// decoder decodes the series of a query. Its memory is used again for the next one.
type decoder struct {
	query.Decoder
	found   found
	scratch tsblock.Scratch
}

// decode returns a series, or nil if it has nothing in the range.
func (d *decoder) decode(key []byte, blocks []tsblock.Block) (*found, error) {
	f := &d.found
	f.times, f.values = nil, nil
	f.histograms.Reset()
	s, err := d.Decode(key, blocks)
	if err != nil {
		return nil, err
	}
	if s != nil {
		f.times, f.values = s.Timestamps, s.Values
	}
	if err := tsblock.ReadHistograms(&f.histograms, blocks, d.Range, d.Reading.DedupIntervalMs, &d.scratch); err != nil {
		return nil, err
	}
	if f.histograms.Len() > 0 {
		f.preferHistograms()
	}
	if len(f.times)+f.histograms.Len() == 0 {
		return nil, nil
	}
	return f, nil
}

// preferHistograms leaves out samples at the time of a histogram.
func (f *found) preferHistograms() {
	n, k := 0, 0
	for i, t := range f.times {
		for k < f.histograms.Len() && f.histograms.Timestamps[k] < t {
			k++
		}
		if k == f.histograms.Len() || f.histograms.Timestamps[k] != t {
			f.times[n], f.values[n] = t, f.values[i]
			n++
		}
	}
	f.times, f.values = f.times[:n], f.values[:n]
}

// chunks cuts a series into chunks, each of which has values of one kind.
func (f *found) chunks(dst []chunk) ([]chunk, error) {
	times, values, histograms := f.times, f.values, f.histograms.Slice(0, f.histograms.Len())
	var err error
	for len(times)+histograms.Len() > 0 && err == nil {
		until := int64(math.MaxInt64)
		if histograms.Len() > 0 {
			until = histograms.Timestamps[0]
		}
		n, _ := slices.BinarySearch(times, until)
		if n == 0 && histograms.Len() == 0 {
			n = len(times)
		}
		if n > 0 {
			dst, err = encodeChunks(dst, times[:n], values[:n])
			times, values = times[n:], values[n:]
			continue
		}
		n = histograms.Len()
		if len(times) > 0 {
			n, _ = slices.BinarySearch(histograms.Timestamps, times[0])
		}
		var e histogramEncoder
		dst, err = e.encode(dst, histograms.Slice(0, n))
		histograms = histograms.Slice(n, histograms.Len())
	}
	return dst, err
}

// histogramEncoder makes chunks of native histograms.
type histogramEncoder struct {
	parsed   nativehistogram.Histogram
	chunk    chunkenc.Chunk // nil: none has begun
	appender chunkenc.Appender
	float    bool
	from, to int64
}

// encode cuts histograms into chunks with whole or fractional counts. The library of Prometheus begins a new one at counter resets.
func (e *histogramEncoder) encode(dst []chunk, s tsblock.HistogramSamples) ([]chunk, error) {
	for i, t := range s.Timestamps {
		if err := e.parsed.Parse(s.Payloads[i]); err != nil {
			return dst, err
		}
		if e.chunk != nil && (e.float != e.parsed.Float || e.chunk.NumSamples() >= samplesPerChunk) {
			dst = e.end(dst)
		}
		if e.chunk == nil {
			if err := e.begin(t); err != nil {
				return dst, err
			}
		}
		next, recoded, appender, err := e.append(t)
		if err != nil {
			return dst, err
		}
		if next != nil {
			if !recoded {
				dst = e.end(dst)
				e.from = t
			}
			e.chunk = next
		}
		e.appender, e.to = appender, t
	}
	if e.chunk != nil {
		dst = e.end(dst)
	}
	return dst, nil
}

func (e *histogramEncoder) begin(t int64) (err error) {
	e.float, e.from = e.parsed.Float, t
	if e.float {
		e.chunk = chunkenc.NewFloatHistogramChunk()
	} else {
		e.chunk = chunkenc.NewHistogramChunk()
	}
	e.appender, err = e.chunk.Appender()
	return err
}

func (e *histogramEncoder) end(dst []chunk) []chunk {
	dst = append(dst, chunk{minTime: e.from, maxTime: e.to, encoding: e.chunk.Encoding(), data: e.chunk.Bytes()})
	e.chunk = nil
	return dst
}

// append appends the parsed histogram. What comes back is of chunkenc.Appender.
func (e *histogramEncoder) append(t int64) (next chunkenc.Chunk, recoded bool, appender chunkenc.Appender, err error) {
	p := &e.parsed
	if e.float {
		return e.appender.AppendFloatHistogram(nil, 0, t, &histogram.FloatHistogram{
			CounterResetHint: histogram.CounterResetHint(p.Hint), Schema: p.Schema, ZeroThreshold: p.ZeroThreshold, ZeroCount: p.FloatZero, Count: p.FloatCount, Sum: p.Sum,
			PositiveSpans: spans(p.Positive.Spans), PositiveBuckets: p.Positive.Floats, NegativeSpans: spans(p.Negative.Spans), NegativeBuckets: p.Negative.Floats,
			CustomValues: slices.Clone(p.CustomValues),
		}, false)
	}
	return e.appender.AppendHistogram(nil, 0, t, &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(p.Hint), Schema: p.Schema, ZeroThreshold: p.ZeroThreshold, ZeroCount: p.ZeroCount, Count: p.Count, Sum: p.Sum,
		PositiveSpans: spans(p.Positive.Spans), PositiveBuckets: deltas(p.Positive.Counts), NegativeSpans: spans(p.Negative.Spans), NegativeBuckets: deltas(p.Negative.Counts),
		CustomValues: slices.Clone(p.CustomValues),
	}, false)
}

func spans(list []nativehistogram.Span) []histogram.Span {
	out := make([]histogram.Span, len(list))
	for i, s := range list {
		out[i] = histogram.Span{Offset: s.Offset, Length: s.Length}
	}
	return out
}

// deltas returns the difference of each count to the one before.
func deltas(counts []uint64) []int64 {
	out := make([]int64, len(counts))
	last := uint64(0)
	for i, n := range counts {
		out[i] = int64(n - last)
		last = n
	}
	return out
}

// appendHistograms appends native histograms as messages of a TimeSeries.
func appendHistograms(dst []byte, s *tsblock.HistogramSamples) ([]byte, error) {
	var h nativehistogram.Histogram
	var body []byte
	for i, t := range s.Timestamps {
		if err := h.Parse(s.Payloads[i]); err != nil {
			return dst, err
		}
		body = appendHistogram(body[:0], &h, t)
		dst = append(appendLength(dst, 4, len(body)), body...)
	}
	return dst, nil
}

// appendHistogram appends the fields of a Histogram. Its counts are written even if they are 0, since they say whether they are whole.
func appendHistogram(dst []byte, h *nativehistogram.Histogram, t int64) []byte {
	if h.Float {
		dst = appendDouble(dst, 2, h.FloatCount)
	} else {
		dst = binary.AppendUvarint(append(dst, 1<<3|wireVarint), h.Count)
	}
	dst = appendDouble(dst, 3, h.Sum)
	dst = appendInt(dst, 4, zigzag(int64(h.Schema)))
	dst = appendDouble(dst, 5, h.ZeroThreshold)
	if h.Float {
		dst = appendDouble(dst, 7, h.FloatZero)
	} else {
		dst = binary.AppendUvarint(append(dst, 6<<3|wireVarint), h.ZeroCount)
	}
	dst = appendBuckets(dst, 8, &h.Negative)
	dst = appendBuckets(dst, 11, &h.Positive)
	dst = appendInt(dst, 14, int64(h.Hint))
	dst = appendInt(dst, 15, t)
	if len(h.CustomValues) > 0 {
		dst = binary.AppendUvarint(dst, 16<<3|wireBytes)
		dst = binary.AppendUvarint(dst, uint64(8*len(h.CustomValues)))
		dst = appendDoubles(dst, h.CustomValues)
	}
	return dst
}

// appendBuckets appends spans, deltas and counts, whose fields have numbers one after the other.
func appendBuckets(dst []byte, number byte, b *nativehistogram.Buckets) []byte {
	for _, s := range b.Spans {
		offset := zigzag(int64(s.Offset))
		dst = appendLength(dst, number, sizeOfInt(offset)+sizeOfInt(int64(s.Length)))
		dst = appendInt(appendInt(dst, 1, offset), 2, int64(s.Length))
	}
	if len(b.Counts) > 0 {
		var packed []byte
		for _, n := range deltas(b.Counts) {
			packed = binary.AppendVarint(packed, n)
		}
		dst = append(appendLength(dst, number+1, len(packed)), packed...)
	}
	if len(b.Floats) > 0 {
		dst = appendDoubles(appendLength(dst, number+2, 8*len(b.Floats)), b.Floats)
	}
	return dst
}

func appendDouble(dst []byte, number byte, v float64) []byte {
	return appendDoubles(append(dst, number<<3|wireFixed64), []float64{v})
}

func appendDoubles(dst []byte, values []float64) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// zigzag returns a number as varints of sint32 and sint64 have it.
func zigzag(n int64) int64 { return n<<1 ^ n>>63 }
