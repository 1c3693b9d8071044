package head

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"

	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const (
	openSamples = 32  // samples of an open chunk before it is sealed
	lateSamples = 128 // samples of a late list before it is sealed
	cellSize    = 12
	sampleSize  = 16
	noDay       = math.MinInt32
)

// cell is a sample of an open chunk in 12 bytes: milliseconds since the first
// sample of the chunk and the bits of the value.
type cell struct{ delta, low, high uint32 }

func (c cell) value() float64 {
	return math.Float64frombits(uint64(c.high)<<32 | uint64(c.low))
}

type series struct {
	mu     sync.Mutex
	first  int64           // timestamp of open[0]
	last   int64           // newest timestamp which went through the open chunk
	open   []cell          // in time order
	sealed []byte          // records of encoded chunks
	late   *[]model.Sample // in order of arrival
	day    int32           // of the sample appended last
}

// empty reports whether the series has never had a sample in its open chunk.
func (s *series) empty() bool { return len(s.open) == 0 && len(s.sealed) == 0 }

func (s *series) push(x model.Sample, d *Delta) {
	if len(s.open) == 0 {
		s.first = x.Timestamp
	}
	if len(s.open) == cap(s.open) {
		grown := make([]cell, len(s.open), min(openSamples, max(4, 2*cap(s.open))))
		copy(grown, s.open)
		d.Bytes += int64(cap(grown)-cap(s.open)) * cellSize
		s.open = grown
	}
	delta := x.Timestamp - s.first
	if delta>>32 != 0 { // the arguments of Check would be allocated for every sample
		invariants.Check(false, "a chunk of samples would span %d ms", delta)
	}
	bits := math.Float64bits(x.Value)
	s.open = append(s.open, cell{delta: uint32(delta), low: uint32(bits), high: uint32(bits >> 32)})
	s.last = x.Timestamp
	d.Rows++
}

// appendLate takes a sample at or before the newest one.
func (s *series) appendLate(h *Head, x model.Sample, d *Delta) {
	if n := len(s.open); n > 0 && x.Timestamp == s.last && math.Float64bits(s.open[n-1].value()) == math.Float64bits(x.Value) {
		return
	}
	if s.late == nil {
		s.late = new([]model.Sample)
		d.Bytes += 24
	}
	before := cap(*s.late)
	*s.late = append(*s.late, x)
	d.Bytes += int64(cap(*s.late)-before) * sampleSize
	d.Rows++
	if len(*s.late) < lateSamples {
		return
	}
	e := h.encode.Get().(*encoder)
	b := e.appendLate(nil, *s.late)
	s.seal(&b, d)
	h.encode.Put(e)
	*s.late = (*s.late)[:0]
}

func (s *series) sealOpen(h *Head, d *Delta) {
	e := h.encode.Get().(*encoder)
	b := e.appendOpen(nil, s)
	s.seal(&b, d)
	h.encode.Put(e)
	s.open = s.open[:0]
}

// A record of sealed is a header and the two columns of a block. The header
// has the number of samples and the lengths of the columns (2 bytes each), the first
// timestamp (8) and the distance to the last (4).
const recordHeader = 2 + 2 + 2 + 8 + 4

func (s *series) seal(b *tsblock.Block, d *Delta) {
	need := recordHeader + len(b.Timestamps) + len(b.Values)
	invariants.Check(len(b.Timestamps) <= math.MaxUint16 && len(b.Values) <= math.MaxUint16, "a chunk of %d samples takes %d bytes", b.Count, need)
	if len(s.sealed)+need > cap(s.sealed) {
		grown := make([]byte, len(s.sealed), len(s.sealed)+len(s.sealed)/4+need)
		copy(grown, s.sealed)
		d.Bytes += int64(cap(grown) - cap(s.sealed))
		s.sealed = grown
	}
	dst := binary.LittleEndian.AppendUint16(s.sealed, uint16(b.Count))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(b.Timestamps)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(b.Values)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.MinTimestamp))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.MaxTimestamp-b.MinTimestamp))
	dst = append(dst, b.Timestamps...)
	s.sealed = append(dst, b.Values...)
}

// appendSealed appends the sealed blocks which overlap r. They alias src.
func appendSealed(dst []tsblock.Block, src []byte, r model.TimeRange) []tsblock.Block {
	for len(src) > 0 {
		minTimestamp := int64(binary.LittleEndian.Uint64(src[6:]))
		timestampsEnd := recordHeader + int(binary.LittleEndian.Uint16(src[2:]))
		end := timestampsEnd + int(binary.LittleEndian.Uint16(src[4:]))
		b := tsblock.Block{
			MinTimestamp: minTimestamp,
			MaxTimestamp: minTimestamp + int64(binary.LittleEndian.Uint32(src[14:])),
			Count:        int(binary.LittleEndian.Uint16(src)),
			Timestamps:   src[recordHeader:timestampsEnd:timestampsEnd],
			Values:       src[timestampsEnd:end:end],
		}
		if b.MinTimestamp <= r.Max && b.MaxTimestamp >= r.Min {
			dst = append(dst, b)
		}
		src = src[end:]
	}
	return dst
}

// encoder is scratch memory for encoding chunks.
type encoder struct {
	columns tsblock.Encoder
	samples tsblock.Samples
	late    []model.Sample
	buf     []byte
}

// appendOpen encodes the open chunk to the end of *buf, or to the encoder's own
// memory when buf is nil.
func (e *encoder) appendOpen(buf *[]byte, s *series) tsblock.Block {
	e.samples.Reset()
	for _, c := range s.open {
		e.samples.Append(s.first+int64(c.delta), c.value())
	}
	return e.encode(buf)
}

// appendLate is appendOpen for a list of late samples.
func (e *encoder) appendLate(buf *[]byte, late []model.Sample) tsblock.Block {
	e.late = append(e.late[:0], late...)
	slices.SortStableFunc(e.late, func(a, b model.Sample) int {
		switch {
		case a.Timestamp < b.Timestamp:
			return -1
		case a.Timestamp > b.Timestamp:
			return 1
		}
		return 0
	})
	e.samples.Reset()
	for _, x := range e.late {
		e.samples.Append(x.Timestamp, x.Value)
	}
	return e.encode(buf)
}

func (e *encoder) encode(buf *[]byte) tsblock.Block {
	var b tsblock.Block
	if buf == nil {
		e.buf, b = e.columns.AppendEncode(e.buf[:0], &e.samples)
		return b
	}
	*buf, b = e.columns.AppendEncode(*buf, &e.samples)
	return b
}
