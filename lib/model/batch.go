package model

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"vmcluster/lib/invariants"
)

func quote(s string) string { return strconv.Quote(s) }

// Sample is one measured value.
type Sample struct {
	Timestamp int64 // Unix time in milliseconds
	Value     float64
}

// Batch is a set of series with new samples on its way to storage. It holds
// everything in flat arrays, so that a pooled batch costs no allocation
// and the garbage collector nothing to scan. The same series may occur more
// than once. The zero value is an empty batch.
//
// Series may be numbered in the space of the batch's producer; their keys are then made at the
// first call of Key, which few need.
//
// Ownership: a batch belongs to its creator. An Ingester may read it until
// Ingest returns and keeps nothing of it. Since Key remembers what it has made, one goroutine
// at a time uses a batch.
type Batch struct {
	series  []batchSeries
	samples []Sample
	keys    []byte
	labels  []Label // scratch of AddSeries
	// histograms are in the order of their series, which few have.
	histograms []batchHistogram
	payloads   []byte
	space      *Space
	keyer      Keyer
}

type batchSeries struct {
	hash uint64
	// where is the hint for the keyer, or, once the key is there, its start and end among the keys in 32 bits each.
	where       uint64
	sampleStart uint32
	samplesEnd  uint32
	number      uint32
	made        bool // the key is there
}

const batchSeriesBytes = 32

// Histogram is a native histogram, measured at one time.
type Histogram struct {
	Timestamp int64  // Unix time in milliseconds
	Payload   []byte // in the form of package nativehistogram
}

type batchHistogram struct {
	timestamp  int64
	series     uint32
	start, end uint32 // of the payload
}

const batchHistogramBytes = 24

// span returns start and end of keys or samples as they are kept. A batch is far smaller than 4 GiB.
func span(start, end int) uint64 {
	invariants.Check(uint64(end) <= math.MaxUint32, "batch of more than 4 GiB of keys")
	return uint64(start)<<32 | uint64(end)
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.series, b.samples, b.keys = b.series[:0], b.samples[:0], b.keys[:0]
	clear(b.labels)
	b.labels = b.labels[:0]
	b.histograms, b.payloads = b.histograms[:0], b.payloads[:0]
	b.space, b.keyer = nil, nil
}

// Len returns the number of series.
func (b *Batch) Len() int { return len(b.series) }

// Rows returns the number of samples of all series, native histograms among them.
func (b *Batch) Rows() int { return len(b.samples) + len(b.histograms) }

// HistogramRows returns the number of native histograms of all series.
func (b *Batch) HistogramRows() int { return len(b.histograms) }

// RowsOf returns the number of samples of series i, native histograms among them.
func (b *Batch) RowsOf(i int) int {
	s := &b.series[i]
	n := int(s.samplesEnd - s.sampleStart)
	if len(b.histograms) > 0 {
		n += b.histogramsOf(i)
	}
	return n
}

func (b *Batch) histogramsOf(i int) (n int) {
	for at := b.firstHistogram(i); at < len(b.histograms) && b.histograms[at].series == uint32(i); at++ {
		n++
	}
	return n
}

// HistogramBytes returns what the native histograms of all series take.
func (b *Batch) HistogramBytes() int { return len(b.histograms)*batchHistogramBytes + len(b.payloads) }

// Size returns the bytes of memory the batch's arrays hold, used or not.
func (b *Batch) Size() int {
	return cap(b.series)*batchSeriesBytes + cap(b.samples)*16 + cap(b.keys) + cap(b.labels)*32 + cap(b.histograms)*batchHistogramBytes + cap(b.payloads)
}

// SetSpace sets the space of the numbers that AddNumbered gets, and who makes the keys. The batch is empty. The keyer is
// asked until the batch is reset.
func (b *Batch) SetSpace(space *Space, keyer Keyer) {
	invariants.Check(len(b.series) == 0, "space set in a batch which has series")
	b.space, b.keyer = space, keyer
}

// Space returns the space of the numbers, nil when no series is numbered.
func (b *Batch) Space() *Space { return b.space }

// AddSeries starts a new series with a copy of the given labels; AddSample calls that
// follow go to it. The labels are sorted in place. On error, which is of
// kind BadRequest, the batch is unchanged.
func (b *Batch) AddSeries(t TenantID, labels []Label) error {
	start := len(b.keys)
	keys, err := AppendSeriesKey(b.keys, t, labels)
	if err != nil {
		b.keys = keys[:start]
		return err
	}
	b.keys = keys
	b.push(batchSeries{hash: HashSeriesKey(b.keys[start:]), where: span(start, len(b.keys)), made: true, number: NoNumber})
	return nil
}

// AddKey starts a new series with a copy of a canonical key and its hash.
func (b *Batch) AddKey(key []byte, hash uint64) {
	start := len(b.keys)
	b.keys = append(b.keys, key...)
	b.push(batchSeries{hash: hash, where: span(start, len(b.keys)), made: true, number: NoNumber})
}

// AddNumbered starts a new series which has a number in the space of the batch. Hash is that of its key.
func (b *Batch) AddNumbered(number uint32, hash, hint uint64) {
	b.push(batchSeries{hash: hash, where: hint, number: number})
}

// SetNumber gives the series added last a number in the space of the batch.
func (b *Batch) SetNumber(number uint32) { b.series[len(b.series)-1].number = number }

func (b *Batch) push(s batchSeries) {
	s.sampleStart = uint32(len(b.samples))
	s.samplesEnd = s.sampleStart
	b.series = append(b.series, s)
}

// AddSample adds a sample to the series added last.
func (b *Batch) AddSample(timestamp int64, value float64) {
	invariants.Check(len(b.series) > 0, "sample added to a batch without series")
	b.samples = append(b.samples, Sample{Timestamp: timestamp, Value: value})
	b.series[len(b.series)-1].samplesEnd++
}

// AddHistogram adds a copy of a native histogram to the series added last. A series may have both samples and histograms.
func (b *Batch) AddHistogram(timestamp int64, payload []byte) {
	invariants.Check(len(b.series) > 0, "histogram added to a batch without series")
	start := len(b.payloads)
	b.payloads = append(b.payloads, payload...)
	s := span(start, len(b.payloads))
	b.histograms = append(b.histograms, batchHistogram{timestamp: timestamp, series: uint32(len(b.series) - 1), start: uint32(s >> 32), end: uint32(s)})
}

// AppendHistograms appends the native histograms of series i in the order they were added, which need not be that of time. Payloads alias the
// batch. Hardly any batch has some: look at HistogramRows first.
func (b *Batch) AppendHistograms(dst []Histogram, i int) []Histogram {
	for at := b.firstHistogram(i); at < len(b.histograms) && b.histograms[at].series == uint32(i); at++ {
		_, h := b.HistogramAt(at)
		dst = append(dst, h)
	}
	return dst
}

// firstHistogram returns the place of the first one of series i, or of a later series.
func (b *Batch) firstHistogram(i int) int {
	at, _ := slices.BinarySearchFunc(b.histograms, uint32(i), func(h batchHistogram, series uint32) int { return cmp.Compare(h.series, series) })
	return at
}

// HistogramAt returns one of all native histograms, which are in the order of their series, and the index of its series. The payload aliases the batch.
func (b *Batch) HistogramAt(at int) (series int, h Histogram) {
	x := &b.histograms[at]
	return int(x.series), Histogram{Timestamp: x.timestamp, Payload: b.payloads[x.start:x.end:x.end]}
}

// copyHistograms adds those of series i of src to the series added last.
func (b *Batch) copyHistograms(src *Batch, i int) {
	for _, h := range src.AppendHistograms(nil, i) {
		b.AddHistogram(h.Timestamp, h.Payload)
	}
}

// Append adds series i of src with all its samples. While b is empty it takes over the space of src; series of another
// space lose their numbers.
func (b *Batch) Append(src *Batch, i int) {
	if len(b.series) == 0 {
		b.space, b.keyer = src.space, src.keyer
	}
	s := &src.series[i]
	switch {
	case b.space != src.space || b.keyer != src.keyer:
		b.AddKey(src.Key(i), s.hash)
	case !s.made:
		b.AddNumbered(s.number, s.hash, s.where)
	default:
		b.AddKey(src.Key(i), s.hash)
		b.SetNumber(s.number)
	}
	b.samples = append(b.samples, src.Samples(i)...)
	b.series[len(b.series)-1].samplesEnd = uint32(len(b.samples))
	if len(src.histograms) > 0 {
		b.copyHistograms(src, i)
	}
}

// AppendSome adds the series of src with the given indexes and all their samples, as Append does.
func (b *Batch) AppendSome(src *Batch, indexes []uint32) {
	if len(b.series) == 0 && len(indexes) > 0 {
		b.space, b.keyer = src.space, src.keyer
	}
	if b.space != src.space || b.keyer != src.keyer || len(src.histograms) > 0 {
		for _, i := range indexes {
			b.Append(src, int(i))
		}
		return
	}
	series, samples := slices.Grow(b.series, len(indexes)), slices.Grow(b.samples, len(indexes))
	for _, i := range indexes {
		s := src.series[i]
		from := src.samples[s.sampleStart:s.samplesEnd]
		s.sampleStart = uint32(len(samples))
		if len(from) == 1 {
			samples = append(samples, from[0])
		} else {
			samples = append(samples, from...)
		}
		s.samplesEnd = uint32(len(samples))
		if s.made {
			start := len(b.keys)
			b.keys = append(b.keys, src.keys[s.where>>32:s.where&math.MaxUint32]...)
			s.where = span(start, len(b.keys))
		}
		series = append(series, s)
	}
	b.series, b.samples = series, samples
}

// Key returns the canonical key of series i. It aliases the batch until the next series is added.
func (b *Batch) Key(i int) []byte {
	s := &b.series[i]
	if !s.made {
		start := len(b.keys)
		b.keys = b.keyer.AppendKey(b.keys, s.number, s.where)
		s.where, s.made = span(start, len(b.keys)), true
	}
	start, end := s.where>>32, s.where&math.MaxUint32
	return b.keys[start:end:end]
}

// Hash returns HashSeriesKey of the key of series i.
func (b *Batch) Hash(i int) uint64 { return b.series[i].hash }

// Number returns the number of series i in the space of the batch, or NoNumber.
func (b *Batch) Number(i int) uint32 { return b.series[i].number }

// Samples returns the samples of series i in the order they were added, which
// need not be that of time. They alias the batch.
func (b *Batch) Samples(i int) []Sample {
	s := &b.series[i]
	return b.samples[s.sampleStart:s.samplesEnd:s.samplesEnd]
}
