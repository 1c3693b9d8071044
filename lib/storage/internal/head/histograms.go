package head

import (
	"encoding/binary"
	"slices"
	"sync"
	"unsafe"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const (
	histogramShards = 16
	// A series has native histograms in a buffer until there are sealCount, or openHistograms bytes, for which it has no more room; then they are sealed
	// into a block. A column of fewer takes much more for each.
	sealCount       = 32
	openHistograms  = 16 << 10
	firstHistograms = 1 << 10
	histogramHeader = 12 // timestamp and size
	// histogramListBytes is about what a list takes in the map.
	histogramListBytes = 2 * int64(unsafe.Sizeof(histogramList{}))
	sealedHistHeader   = int(unsafe.Sizeof(sealedHistograms{}))
)

// histogramShard is the native histograms of some series, which few series have.
type histogramShard struct {
	mu    sync.Mutex
	lists map[uint32]histogramList
}

// histogramList is the native histograms of a series: sealed blocks, and a buffer with those that came later, each as timestamp, size and payload.
type histogramList struct {
	day    int32 // of the histogram before
	count  uint16
	used   uint32 // bytes of the buffer
	size   uint32
	open   ref
	sealed ref // the latest sealedHistograms
	newest int64
}

// sealedHistograms is the head of a block in the arena; its columns follow.
type sealedHistograms struct {
	next               ref
	count              uint32
	timestamps, values uint32 // bytes
	min, max           int64
}

// AppendHistograms is Append for native histograms. A payload has at most tsblock.MaxHistogramBytes.
func (h *Head) AppendHistograms(id uint32, list []model.Histogram, d *Delta) {
	shard := &h.histograms[id%histogramShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	l, ok := shard.lists[id]
	if !ok {
		if shard.lists == nil {
			shard.lists = map[uint32]histogramList{}
		}
		d.series++
		d.Bytes += histogramListBytes
	}
	for i := range list {
		x := &list[i]
		day := unixDay(x.Timestamp)
		if !ok || day != l.day {
			d.Days = append(d.Days, Day{ID: id, Day: day})
		}
		if l.day = day; !ok || x.Timestamp > l.newest {
			l.newest = x.Timestamp
		}
		ok = true
		d.Range.Min, d.Range.Max = min(d.Range.Min, x.Timestamp), max(d.Range.Max, x.Timestamp)
		h.makeRoom(&l, histogramHeader+len(x.Payload), d)
		at := h.cells.bytes(l.open, int(l.size))[l.used:l.used:l.size]
		at = binary.LittleEndian.AppendUint64(at, uint64(x.Timestamp))
		at = binary.LittleEndian.AppendUint32(at, uint32(len(x.Payload)))
		l.used += uint32(len(append(at, x.Payload...)))
		l.count++
	}
	shard.lists[id] = l
	d.Rows += int64(len(list))
	h.histogramRows.Add(int64(len(list)))
}

// makeRoom makes room for n bytes in the buffer of a list.
func (h *Head) makeRoom(l *histogramList, n int, d *Delta) {
	if int(l.used)+n > int(l.size) && (l.count >= sealCount || l.count > 0 && int(l.used)+n > openHistograms) {
		h.sealHistograms(l, d)
	}
	if int(l.used)+n <= int(l.size) {
		return
	}
	size := max(firstHistograms, min(2*int(l.size), openHistograms), int(l.used)+n)
	at, _ := h.cells.alloc(size, unitBytes, d)
	if l.used > 0 {
		copy(h.cells.bytes(at, size), h.cells.bytes(l.open, int(l.used)))
	}
	l.open, l.size = at, uint32(size)
}

// sealHistograms makes a block of what is in the buffer.
func (h *Head) sealHistograms(l *histogramList, d *Delta) {
	e := h.encoders.Get().(*encoder)
	defer h.encoders.Put(e)
	e.buf = e.buf[:0]
	e.blocks = h.encodeHistograms(e.blocks[:0], &e.buf, l, e)
	for i := range e.blocks {
		b := &e.blocks[i]
		size := sealedHistHeader + len(b.Timestamps) + len(b.Values)
		r, p := h.cells.alloc(size, 8, d)
		*(*sealedHistograms)(p) = sealedHistograms{next: l.sealed, count: uint32(b.Count),
			timestamps: uint32(len(b.Timestamps)), values: uint32(len(b.Values)), min: b.MinTimestamp, max: b.MaxTimestamp}
		columns := h.cells.bytes(r, size)[sealedHistHeader:]
		copy(columns[copy(columns, b.Timestamps):], b.Values)
		l.sealed = r
	}
	l.used, l.count = 0, 0
}

// encodeHistograms appends the blocks of what is in the buffer, which alias *buf.
func (h *Head) encodeHistograms(dst []tsblock.Block, buf *[]byte, l *histogramList, e *encoder) []tsblock.Block {
	e.histograms.Reset()
	for rest := h.cells.bytes(l.open, int(l.used)); len(rest) > 0; {
		end := histogramHeader + int(binary.LittleEndian.Uint32(rest[8:]))
		e.histograms.Append(int64(binary.LittleEndian.Uint64(rest)), rest[histogramHeader:end])
		rest = rest[end:]
	}
	e.histograms.Sort(0)
	dst, *buf = e.columns.AppendHistogramBlocks(dst, *buf, &e.histograms)
	return dst
}

// Histograms returns the number of native histograms.
func (h *Head) Histograms() int64 { return h.histogramRows.Load() }

// AppendHistogramBlocks is AppendBlocks for native histograms.
func (h *Head) AppendHistogramBlocks(dst []tsblock.Block, buf *[]byte, id uint32, r model.TimeRange) []tsblock.Block {
	if h.Histograms() == 0 {
		return dst
	}
	shard := &h.histograms[id%histogramShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	l, ok := shard.lists[id]
	if !ok {
		return dst
	}
	start := len(dst)
	for at := l.sealed; at != 0; {
		s := (*sealedHistograms)(h.cells.at(at))
		b := tsblock.Block{MinTimestamp: s.min, MaxTimestamp: s.max, Count: int(s.count)}
		if overlaps(&b, r) {
			from, middle := len(*buf), len(*buf)+int(s.timestamps)
			*buf = append(*buf, h.cells.bytes(at, sealedHistHeader+int(s.timestamps+s.values))[sealedHistHeader:]...)
			b.Timestamps, b.Values = (*buf)[from:middle:middle], (*buf)[middle:len(*buf):len(*buf)]
			dst = append(dst, b)
		}
		at = s.next
	}
	if l.count > 0 {
		e := h.encoders.Get().(*encoder)
		defer h.encoders.Put(e)
		dst = h.encodeHistograms(dst, buf, &l, e)
	}
	kept := slices.DeleteFunc(dst[start:], func(b tsblock.Block) bool { return !overlaps(&b, r) })
	return dst[:start+len(kept)]
}

// appendHistogramIDs appends the ids of the series with a native histogram at or after a time.
func (h *Head) appendHistogramIDs(dst []uint32, since int64) []uint32 {
	if h.Histograms() == 0 {
		return dst
	}
	for i := range h.histograms {
		shard := &h.histograms[i]
		shard.mu.Lock()
		for id, l := range shard.lists {
			if l.newest >= since {
				dst = append(dst, id)
			}
		}
		shard.mu.Unlock()
	}
	slices.Sort(dst)
	return slices.Compact(dst)
}

// hasHistograms reports whether the head holds native histograms of the series.
func (h *Head) hasHistograms(id uint32) bool {
	shard := &h.histograms[id%histogramShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	_, ok := shard.lists[id]
	return ok
}
