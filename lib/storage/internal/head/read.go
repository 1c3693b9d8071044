package head

import (
	"math"
	"slices"
	"sync/atomic"
	"unsafe"

	"vmcluster/lib/codec"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// AppendBlocks appends the blocks of the series which overlap r, in no
// particular order; they may overlap each other. They are copied to the end of *buf, but for timestamps: those of
// series with the same timestamps are the same slice, which nobody changes. The blocks stay valid as long as *buf's bytes are not overwritten.
//
// When there is one block only, its timestamps strictly increase.
func (h *Head) AppendBlocks(dst []tsblock.Block, buf *[]byte, id uint32, r model.TimeRange) []tsblock.Block {
	p := h.page(id)
	if p == nil {
		return dst
	}
	e := h.encoders.Get().(*encoder)
	defer h.encoders.Put(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.series[id%pageSeries]
	if !s.used() {
		return dst
	}
	if s.extra != 0 {
		x := (*extras)(h.cells.at(s.extra))
		dst = h.appendSealed(dst, buf, x.sealed, e, r)
		if x.lateLen > 0 {
			if b := e.late(buf, h.lateOf(x.late, int(x.lateLen))); overlaps(&b, r) {
				dst = append(dst, b)
			}
		}
	}
	b := h.timestamps(runOf(s), e, buf)
	if !overlaps(&b, r) {
		return dst
	}
	start := len(*buf)
	*buf = h.appendOpen(*buf, s)
	b.Values = (*buf)[start:len(*buf):len(*buf)]
	return append(dst, b)
}

func overlaps(b *tsblock.Block, r model.TimeRange) bool {
	return b.MinTimestamp <= r.Max && b.MaxTimestamp >= r.Min
}

// appendOpen appends the column of values of the run which goes on.
func (h *Head) appendOpen(dst []byte, s *series) []byte {
	if s.stream.IsConst() {
		return codec.AppendConst(dst, s.stream.First())
	}
	dst = s.stream.Header().AppendTo(dst)
	return s.stream.AppendTail(h.appendTape(dst, s.tape))
}

// appendSealed appends the list of sealed blocks which starts at at.
func (h *Head) appendSealed(dst []tsblock.Block, buf *[]byte, at ref, e *encoder, r model.TimeRange) []tsblock.Block {
	for at != 0 {
		run := (*sealedRun)(h.cells.at(at))
		var b tsblock.Block
		if run.group == noGroup {
			b = h.lateBlock(at, buf)
		} else {
			b = h.timestamps(window{group: run.group, start: run.start, count: run.count}, e, buf)
		}
		if overlaps(&b, r) {
			if run.group != noGroup {
				start := len(*buf)
				*buf = h.appendSealedRun(*buf, run)
				b.Values = (*buf)[start:len(*buf):len(*buf)]
			}
			dst = append(dst, b)
		}
		at = run.next
	}
	return dst
}

func (h *Head) appendSealedRun(dst []byte, run *sealedRun) []byte {
	last := uint64(run.high)<<32 | uint64(run.low)
	if run.lead == 0 {
		return codec.AppendConst(dst, math.Float64frombits(last))
	}
	return h.appendTape(codec.StreamHeader{Lead: run.lead, Last: last}.AppendTo(dst), tape{cell: run.cell, fill: run.fill})
}

// lateBlock copies sealed late samples.
func (h *Head) lateBlock(at ref, buf *[]byte) tsblock.Block {
	const header = int(unsafe.Sizeof(sealedLate{}))
	l := (*sealedLate)(h.cells.at(at))
	middle, size := header+int(l.timestamps), header+int(l.timestamps)+int(l.values)
	start := len(*buf)
	*buf = append(*buf, h.cells.bytes(at, size)[header:]...)
	columns := (*buf)[start:len(*buf):len(*buf)]
	middle -= header
	return tsblock.Block{MinTimestamp: l.min, MaxTimestamp: l.max, Count: int(l.count), Timestamps: columns[:middle:middle], Values: columns[middle:]}
}

// window is a run of timestamps of a group.
type window struct {
	group uint32
	start uint16
	count uint16
}

func runOf(s *series) window {
	return window{group: s.group, start: s.tape.mark, count: uint16(s.stream.Len())}
}

// columnSlots bounds the columns which are kept for reading.
const columnSlots = 4096

// columnCache keeps encoded timestamps of groups.
type columnCache [columnSlots]atomic.Pointer[column]

type column struct {
	window
	block tsblock.Block // without values
}

// timestamps returns the block of a window, without values. A column which only one series has goes to *buf.
func (h *Head) timestamps(w window, e *encoder, buf *[]byte) tsblock.Block {
	if atomic.LoadUint32(&h.group(w.group).members) == 1 {
		return e.window(h, w, buf)
	}
	cache := h.columns.Load()
	if cache == nil {
		h.columns.CompareAndSwap(nil, &columnCache{})
		cache = h.columns.Load()
	}
	hash := (uint64(w.group)*0x9e3779b97f4a7c15 + uint64(w.start)<<16 + uint64(w.count)) * 0x9e3779b97f4a7c15
	slot := &cache[hash>>52]
	if c := slot.Load(); c != nil && c.window == w {
		return c.block
	}
	c := &column{window: w}
	var own []byte
	c.block = e.window(h, w, &own)
	slot.Store(c)
	return c.block
}

// encoder is scratch memory for encoding.
type encoder struct {
	codec   codec.Encoder
	columns tsblock.Encoder
	offsets offsets
	samples tsblock.Samples
	sorted  []model.Sample
	buf     []byte

	histograms tsblock.HistogramSamples
	blocks     []tsblock.Block
}

// window encodes the timestamps of a window to the end of *buf.
func (e *encoder) window(h *Head, w window, buf *[]byte) tsblock.Block {
	e.offsets.read(h, w.group)
	e.offsets.head = nil // the encoder must not keep the head
	invariants.Check(int(w.start)+int(w.count) <= len(e.offsets.offsets) && w.count > 0, "a series has samples beyond the end of its group")
	timestamps := e.offsets.offsets[w.start : w.start+w.count]
	base := h.group(w.group).base
	for i := range timestamps {
		timestamps[i] += base
	}
	start := len(*buf)
	*buf = e.codec.AppendTimestamps(*buf, timestamps)
	return tsblock.Block{MinTimestamp: timestamps[0], MaxTimestamp: timestamps[len(timestamps)-1], Count: len(timestamps), Timestamps: (*buf)[start:len(*buf):len(*buf)]}
}

// late encodes late samples to the end of *buf.
func (e *encoder) late(buf *[]byte, late []model.Sample) tsblock.Block {
	e.sorted = append(e.sorted[:0], late...)
	slices.SortStableFunc(e.sorted, func(a, b model.Sample) int {
		switch {
		case a.Timestamp < b.Timestamp:
			return -1
		case a.Timestamp > b.Timestamp:
			return 1
		}
		return 0
	})
	e.samples.Reset()
	for _, x := range e.sorted {
		e.samples.Append(x.Timestamp, x.Value)
	}
	var b tsblock.Block
	*buf, b = e.columns.AppendEncode(*buf, &e.samples)
	return b
}
