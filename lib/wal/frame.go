package wal

import (
	"encoding/binary"
	"math"
	"math/bits"

	"vmcluster/lib/errkind"
)

// The first byte of a frame's contents is its version. Only frames with native histograms have the second.
const (
	frameVersion     = 1
	histogramVersion = 2
)

// A control byte starts every entry. Its low two bits say how the series id is
// given, or that the entry is no sample.
const (
	idSame   = 0 // the id of the sample before
	idNext   = 1 // that plus one
	idDelta  = 2 // a varint with the difference follows
	noSample = 3 // the rest of the control byte is an entry kind
)

// Bit 2 of a sample's control byte: the timestamp differs from the predicted
// one and a varint with the difference follows.
const timestampDelta = 1 << 2

// Bits 3 to 7 of a sample's control byte say how the value is given.
const (
	valueShift   = 3
	valueSame    = 0  // the bits of the value before
	valueZero    = 1  // 0
	valueOne     = 2  // 1
	valueInt     = 2  // +k: zigzag integer of k = 1..6 bytes
	valueDecimal = 8  // +k: the same, in thousandths
	valueBits    = 14 // +k: the k = 1..8 highest bytes of the bits, the others are 0
	valueCodes   = valueBits + 8 + 1
	maxIntBytes  = 6
	decimalScale = 1000
)

// Entry kinds: control bytes with the low bits noSample.
const (
	entrySeries    = noSample | 0<<2
	entryPartition = noSample | 1<<2
	entryHistogram = noSample | 2<<2
)

// Bounds of the encoded size of entries, in bytes.
const (
	maxPartitionBytes = 1 + binary.MaxVarintLen32
	maxSampleBytes    = 1 + 2*binary.MaxVarintLen64 + 8
	maxSeriesBytes    = 1 + 2*binary.MaxVarintLen64 // without the key
	maxHistogramBytes = 1 + 3*binary.MaxVarintLen64 // without the payload
)

// frameState is what both halves predict from. Both start with zeros.
type frameState struct {
	partition uint32
	seriesID  uint32 // of the last series entry
	id        uint32 // of the last sample
	timestamp int64  // of the last sample
	first     int64  // timestamp of the first sample of the last run
	delta     int64  // difference of the last two timestamps in a run
	bits      uint64 // of the last value

	histogramID   uint32 // of the last histogram
	histogramTime int64
}

// FrameEncoder builds the contents of one frame. The zero value is an empty
// frame. It is not safe for concurrent use.
type FrameEncoder struct {
	frameState
	buf []byte
}

// Reset empties the frame and keeps its memory.
func (e *FrameEncoder) Reset() {
	e.frameState = frameState{}
	e.buf = e.buf[:0]
}

// Len returns the size of the frame in bytes; 0 means that nothing was added.
// The log takes frames of up to MaxFrameBytes.
func (e *FrameEncoder) Len() int { return len(e.buf) }

// Bytes returns the frame, valid until the next call of another method.
func (e *FrameEncoder) Bytes() []byte { return e.buf }

// AddSeries adds the key of a new series. It must come before the samples of the series.
func (e *FrameEncoder) AddSeries(partition, id uint32, key []byte) {
	e.reserve(maxPartitionBytes + maxSeriesBytes + len(key))
	e.setPartition(partition)
	e.buf = append(e.buf, entrySeries)
	e.buf = binary.AppendVarint(e.buf, int64(id)-int64(e.seriesID))
	e.buf = binary.AppendUvarint(e.buf, uint64(len(key)))
	e.buf = append(e.buf, key...)
	e.seriesID = id
}

// reserve makes room for n bytes.
func (e *FrameEncoder) reserve(n int) {
	if cap(e.buf)-len(e.buf) < n {
		grown := make([]byte, len(e.buf), max(1024, 2*cap(e.buf), len(e.buf)+n+1))
		copy(grown, e.buf)
		e.buf = grown
	}
	if len(e.buf) == 0 {
		e.buf = append(e.buf, frameVersion)
		e.reserve(n)
	}
}

// AddHistogram adds a native histogram of a series; the payload is any bytes. Histograms of one series should be added one after the other.
func (e *FrameEncoder) AddHistogram(partition, id uint32, timestamp int64, payload []byte) {
	e.reserve(maxPartitionBytes + maxHistogramBytes + len(payload))
	e.buf[0] = histogramVersion
	e.setPartition(partition)
	e.buf = append(e.buf, entryHistogram)
	e.buf = binary.AppendVarint(e.buf, int64(id)-int64(e.histogramID))
	e.buf = binary.AppendVarint(e.buf, timestamp-e.histogramTime)
	e.buf = binary.AppendUvarint(e.buf, uint64(len(payload)))
	e.buf = append(e.buf, payload...)
	e.histogramID, e.histogramTime = id, timestamp
}

func (e *FrameEncoder) setPartition(partition uint32) {
	if partition == e.partition {
		return
	}
	e.partition = partition
	e.buf = append(e.buf, entryPartition)
	e.buf = binary.AppendUvarint(e.buf, uint64(partition))
}

// AddSample adds one sample; timestamp is in Unix milliseconds. Samples of one
// series should be added one after the other, and series by rising id.
func (e *FrameEncoder) AddSample(partition, id uint32, timestamp int64, value float64) {
	if len(e.buf) == 0 || cap(e.buf)-len(e.buf) < maxPartitionBytes+maxSampleBytes {
		e.reserve(maxPartitionBytes + maxSampleBytes)
	}
	if partition != e.partition {
		e.setPartition(partition)
	}
	start := len(e.buf)
	b := e.buf[start:cap(e.buf)]
	n := 1
	var control byte
	predicted := e.first
	switch id - e.id {
	case 0:
		control = idSame
		predicted = e.timestamp + e.delta
	case 1:
		control = idNext
	default:
		control = idDelta
		n = putVarint(b, n, int64(id)-int64(e.id))
	}
	if timestamp != predicted {
		control |= timestampDelta
		n = putVarint(b, n, timestamp-predicted)
	}
	e.advance(control&3, id, timestamp)
	code := byte(valueSame)
	if valueBits := math.Float64bits(value); valueBits != e.bits {
		e.bits = valueBits
		code, n = putValue(b, n, value)
	}
	b[0] = control | code<<valueShift
	e.buf = e.buf[:start+n]
}

// advance notes a sample whose id is given as idKind says.
func (s *frameState) advance(idKind byte, id uint32, timestamp int64) {
	if idKind == idSame {
		s.delta = timestamp - s.timestamp
	} else {
		s.first = timestamp
		s.id = id
	}
	s.timestamp = timestamp
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func putVarint(b []byte, n int, v int64) int {
	u := zigzag(v)
	for u >= 0x80 {
		b[n] = byte(u) | 0x80
		u >>= 7
		n++
	}
	b[n] = byte(u)
	return n + 1
}

// roundMagic is 1.5 * 2^52: adding and subtracting it rounds to an integer
// what is below 2^51, and gives an integer in any case.
const roundMagic = 0x1.8p52

// putValue writes the shortest exact form of the value at b[n:], which has room for 8
// bytes, and returns its code and the new n. Every form is tried by computing
// what the decoder will; overflowing conversions give long integers, which are not used, and
// those of NaN depend on the machine.
func putValue(b []byte, n int, value float64) (byte, int) {
	valueAsBits := math.Float64bits(value)
	if rounded := value + roundMagic - roundMagic; math.Float64bits(rounded) == valueAsBits { // not so for -0
		i := int64(value)
		u := zigzag(i)
		switch k := (bits.Len64(u) + 7) / 8; {
		case k > maxIntBytes || math.Float64bits(float64(i)) != valueAsBits: // NaN may be any integer, also a short one
		case uint64(i) <= 1:
			return valueZero + byte(i), n
		default:
			binary.LittleEndian.PutUint64(b[n:], u)
			return valueInt + byte(k), n + k
		}
	}
	// Few significant bits, such as 0.5 or 1e9, are short as they are.
	k := 8 - bits.TrailingZeros64(valueAsBits)/8
	if k > 2 {
		rounded := float64(value*decimalScale) + roundMagic - roundMagic
		if math.Float64bits(rounded/decimalScale) == valueAsBits && value == value {
			u := zigzag(int64(rounded))
			if d := (bits.Len64(u) + 7) / 8; d < k && d <= maxIntBytes {
				binary.LittleEndian.PutUint64(b[n:], u)
				return valueDecimal + byte(d), n + d
			}
		}
	}
	binary.LittleEndian.PutUint64(b[n:], valueAsBits>>(64-8*k))
	return valueBits + byte(k), n + k
}

// FrameVisitor receives the contents of a frame in the order they were added.
// What it gets is valid during the call only. An error ends the decoding and
// is returned as it is.
type FrameVisitor interface {
	Series(partition, id uint32, key []byte) error
	// Samples gets a run of samples of one series, in the order of AddSample;
	// both slices have the same length.
	Samples(partition, id uint32, timestamps []int64, values []float64) error
	Histogram(partition, id uint32, timestamp int64, payload []byte) error
}

// DecodeFrame visits the contents of a frame. Damage is an error of kind
// Corrupt, a frame of a later version one of kind Unsupported; what precedes the damage has been visited.
func DecodeFrame(frame []byte, v FrameVisitor) error {
	var d FrameDecoder
	return d.Decode(frame, v)
}

// maxRun bounds the samples handed to a visitor at once.
const maxRun = 8192

// FrameDecoder decodes frames one after the other and keeps its memory between them. The zero
// value is ready to use.
type FrameDecoder struct {
	frameState
	rest       []byte
	timestamps []int64 // the run being collected, of series id
	values     []float64
}

// Decode does what DecodeFrame does.
func (d *FrameDecoder) Decode(frame []byte, v FrameVisitor) error {
	if len(frame) == 0 {
		return errkind.New(errkind.Corrupt, "cannot decode log frame: it is empty")
	}
	if frame[0] != frameVersion && frame[0] != histogramVersion {
		return errkind.New(errkind.Unsupported,
			"cannot decode log frame of version %d: this program knows versions %d and %d; run the program which wrote it", frame[0], frameVersion, histogramVersion)
	}
	d.frameState = frameState{}
	d.timestamps, d.values = d.timestamps[:0], d.values[:0]
	d.rest = frame[1:]
	for len(d.rest) > 0 {
		if err := d.next(v); err != nil {
			return err
		}
	}
	return d.emit(v)
}

// next decodes one entry.
func (d *FrameDecoder) next(v FrameVisitor) error {
	control := d.rest[0]
	d.rest = d.rest[1:]
	switch {
	case control&3 != noSample:
		return d.sample(control, v)
	case control == entrySeries:
		return d.series(v)
	case control == entryPartition:
		if err := d.emit(v); err != nil {
			return err
		}
		u, ok := d.uvarint()
		if !ok || u > math.MaxUint32 {
			return corrupt("partition")
		}
		d.partition = uint32(u)
		return nil
	case control == entryHistogram:
		return d.histogram(v)
	}
	return corrupt("entry kind")
}

func (d *FrameDecoder) series(v FrameVisitor) error {
	if err := d.emit(v); err != nil {
		return err
	}
	id, ok := d.idAfter(d.seriesID)
	if !ok {
		return corrupt("series id")
	}
	key, ok := d.bytes()
	if !ok {
		return corrupt("series key")
	}
	d.seriesID = id
	return v.Series(d.partition, id, key)
}

func (d *FrameDecoder) histogram(v FrameVisitor) error {
	if err := d.emit(v); err != nil {
		return err
	}
	id, ok := d.idAfter(d.histogramID)
	if !ok {
		return corrupt("id of a histogram")
	}
	u, ok := d.uvarint()
	if !ok {
		return corrupt("timestamp of a histogram")
	}
	payload, ok := d.bytes()
	if !ok {
		return corrupt("histogram")
	}
	d.histogramID, d.histogramTime = id, d.histogramTime+unzigzag(u)
	return v.Histogram(d.partition, id, d.histogramTime, payload)
}

// bytes reads a byte string behind its length.
func (d *FrameDecoder) bytes() ([]byte, bool) {
	size, ok := d.uvarint()
	if !ok || size > uint64(len(d.rest)) {
		return nil, false
	}
	b := d.rest[:size:size]
	d.rest = d.rest[size:]
	return b, true
}

func (d *FrameDecoder) sample(control byte, v FrameVisitor) error {
	id, predicted, ok := d.id, d.first, true
	switch control & 3 {
	case idSame:
		predicted = d.timestamp + d.delta
	case idNext:
		id++ // wraps, as in the encoder
	case idDelta:
		id, ok = d.idAfter(id)
	}
	if !ok {
		return corrupt("id of a sample")
	}
	timestamp := predicted
	if control&timestampDelta != 0 {
		u, ok := d.uvarint()
		if !ok {
			return corrupt("timestamp")
		}
		timestamp += unzigzag(u)
	}
	if !d.value(control >> valueShift) {
		return corrupt("value")
	}
	if control&3 != idSame || len(d.timestamps) == maxRun {
		if err := d.emit(v); err != nil {
			return err
		}
	}
	d.advance(control&3, id, timestamp)
	d.timestamps = append(d.timestamps, timestamp)
	d.values = append(d.values, math.Float64frombits(d.bits))
	return nil
}

// value reads the value given as code says into d.bits.
func (d *FrameDecoder) value(code byte) bool {
	switch {
	case code == valueSame:
	case code == valueZero:
		d.bits = 0
	case code == valueOne:
		d.bits = math.Float64bits(1)
	case code >= valueCodes:
		return false
	case code > valueBits:
		k := int(code - valueBits)
		u, ok := d.fixed(k)
		d.bits = u << (64 - 8*k)
		return ok
	case code > valueDecimal:
		u, ok := d.fixed(int(code - valueDecimal))
		d.bits = math.Float64bits(float64(unzigzag(u)) / decimalScale)
		return ok
	default:
		u, ok := d.fixed(int(code - valueInt))
		d.bits = math.Float64bits(float64(unzigzag(u)))
		return ok
	}
	return true
}

// fixed reads a little-endian number of k bytes, 1 to 8.
func (d *FrameDecoder) fixed(k int) (uint64, bool) {
	if len(d.rest) < k {
		return 0, false
	}
	var u uint64
	if len(d.rest) >= 8 {
		u = binary.LittleEndian.Uint64(d.rest) & (math.MaxUint64 >> (64 - 8*k))
	} else {
		for i := range k {
			u |= uint64(d.rest[i]) << (8 * i)
		}
	}
	d.rest = d.rest[k:]
	return u, true
}

func (d *FrameDecoder) uvarint() (uint64, bool) {
	u, n := binary.Uvarint(d.rest)
	if n <= 0 {
		return 0, false
	}
	d.rest = d.rest[n:]
	return u, true
}

// idAfter reads an id given as the difference to another.
func (d *FrameDecoder) idAfter(id uint32) (uint32, bool) {
	u, ok := d.uvarint()
	delta := unzigzag(u)
	if !ok || delta < -math.MaxUint32 || delta > math.MaxUint32 {
		return 0, false
	}
	sum := int64(id) + delta
	return uint32(sum), sum >= 0 && sum <= math.MaxUint32
}

// emit hands the collected run to the visitor.
func (d *FrameDecoder) emit(v FrameVisitor) error {
	if len(d.timestamps) == 0 {
		return nil
	}
	err := v.Samples(d.partition, d.id, d.timestamps, d.values)
	d.timestamps, d.values = d.timestamps[:0], d.values[:0]
	return err
}

func corrupt(what string) error {
	return errkind.New(errkind.Corrupt, "cannot decode log frame: bad %s", what)
}
