package head

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"vmcluster/lib/codec"
	"vmcluster/lib/invariants"
)

const (
	pageGroups   = 32
	maxPositions = 4096 // timestamps of a group
	ringLen      = 8
	groupLocks   = 64
)

// group is a list of ascending timestamps, which the series that are scraped together share. The latest ones can be
// read without a lock, the others come out of the stream.
type group struct {
	base    int64        // the first timestamp
	stream  codec.Stream // of offsets from base
	tape    tape
	count   uint32          // of timestamps; atomic
	members uint32          // series which ever joined; atomic
	next    uint32          // the group which goes on when this one is full, plus 1; atomic
	ring    [ringLen]uint32 // offsets of the latest timestamps; atomic
}

type groupPage [pageGroups]group

// spot is a place in a group and its timestamp.
type spot struct {
	group uint32
	pos   uint32
	t     int64
}

func (h *Head) group(id uint32) *group {
	return &(*h.groups.Load())[id/pageGroups][id%pageGroups]
}

// newGroup starts a group with one timestamp.
func (h *Head) newGroup(t int64, d *Delta) uint32 {
	h.mu.Lock()
	id := h.mu.groupCount
	h.mu.groupCount++
	if id%pageGroups == 0 {
		pages := *h.groups.Load()
		_, p := h.cells.alloc(int(unsafe.Sizeof(groupPage{})), 8, d)
		grown := append(pages[:len(pages):len(pages)], (*groupPage)(p))
		h.groups.Store(&grown)
		d.Bytes += 8
	}
	h.mu.Unlock()
	g := h.group(id)
	lock := h.lockGroup(id)
	g.base = t
	g.append(h, t, d)
	lock.Unlock()
	h.recent[recentSlot(t)].Store(id + 1)
	return id
}

func (h *Head) lockGroup(id uint32) *sync.Mutex {
	l := &h.groupLocks[id%groupLocks]
	l.Lock()
	return l
}

// append adds a timestamp beyond the last one. The caller holds the lock.
func (g *group) append(h *Head, t int64, d *Delta) {
	offset := t - g.base
	if offset>>32 != 0 { // the arguments of Check would be allocated each time
		invariants.Check(false, "a head has samples which are %d ms apart", offset)
	}
	g.stream.AppendInt(offset)
	for g.stream.Full() {
		h.appendWord(&g.tape, g.stream.Take(), d)
	}
	n := g.count
	atomic.StoreUint32(&g.ring[n%ringLen], uint32(offset))
	atomic.StoreUint32(&g.count, n+1)
}

// peek returns the timestamp at pos if it is one of the latest.
func (g *group) peek(pos uint32) (t int64, ok bool) {
	n := atomic.LoadUint32(&g.count)
	if pos >= n || n-pos >= ringLen {
		return 0, false
	}
	offset := atomic.LoadUint32(&g.ring[pos%ringLen])
	// A writer may have come round meanwhile.
	return g.base + int64(offset), atomic.LoadUint32(&g.count)-pos < ringLen
}

// extend makes t the timestamp at pos, or reports that another is or that it cannot be.
func (h *Head) extend(id, pos uint32, t int64, d *Delta) bool {
	g := h.group(id)
	lock := h.lockGroup(id)
	n := g.count
	if n == pos && n < maxPositions {
		g.append(h, t, d)
		lock.Unlock()
		h.recent[recentSlot(t)].Store(id + 1)
		return true
	}
	lock.Unlock()
	if pos >= n {
		return false
	}
	return h.timestamp(id, pos, d) == t
}

// timestamp returns the one at pos, which exists.
func (h *Head) timestamp(id, pos uint32, d *Delta) int64 {
	g := h.group(id)
	if t, ok := g.peek(pos); ok {
		return t
	}
	c := &d.columns[id%deltaColumns]
	if c.head != h || c.group != id || int(pos) >= len(c.offsets) {
		c.read(h, id)
	}
	return g.base + c.offsets[pos]
}

// find returns the position of t at or behind pos.
func (h *Head) find(id, pos uint32, t int64, d *Delta) (uint32, bool) {
	n := atomic.LoadUint32(&h.group(id).count)
	for ; pos < n; pos++ {
		if x := h.timestamp(id, pos, d); x >= t {
			return pos, x == t
		}
	}
	return 0, false
}

func recentSlot(t int64) uint64 { return uint64(t) * 0x9e3779b97f4a7c15 >> (64 - recentBits) }

// tip returns the latest spot of a group which has got t as its latest timestamp not long ago.
func (h *Head) tip(t int64) (spot, bool) {
	id := h.recent[recentSlot(t)].Load()
	if id == 0 {
		return spot{}, false
	}
	g := h.group(id - 1)
	n := atomic.LoadUint32(&g.count)
	last, ok := g.peek(n - 1)
	return spot{group: id - 1, pos: n - 1, t: t}, ok && last == t
}

// offsets are the timestamps of a group, up to some moment.
type offsets struct {
	head    *Head
	group   uint32
	offsets []int64
	buf     []byte
}

// read decodes the timestamps of a group.
func (o *offsets) read(h *Head, id uint32) {
	g := h.group(id)
	lock := h.lockGroup(id)
	n := int(g.count)
	o.buf = g.stream.AppendTail(h.appendTape(o.buf[:0], g.tape))
	lock.Unlock()
	var err error
	o.offsets, err = codec.DecodeStreamInts(o.offsets[:0], o.buf, n)
	if err != nil {
		invariants.Check(false, "the timestamps of a group are damaged: %s", err)
	}
	o.head, o.group = h, id
}

// A sealed run of values which is no longer appended to.
type sealedRun struct {
	next  ref // earlier one of the series
	group uint32
	start uint16
	count uint16
	lead  uint16 // 0 for a constant
	fill  uint16
	cell  ref
	low   uint32 // of the header of the stream, or the value of a constant
	high  uint32
}

// noGroup stands in place of a group where there is none.
const noGroup = ^uint32(0)

// A sealed list of late samples: header, column of timestamps, column of values.
type sealedLate struct {
	next       ref
	group      uint32 // noGroup
	count      uint16
	timestamps uint16 // bytes
	values     uint16 // bytes
	min        int64
	max        int64
}
