package head

import (
	"math"
	"sync/atomic"
	"unsafe"

	"vmcluster/lib/codec"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
)

const (
	lateSamples = 128 // samples of a late list before it is sealed
	sampleSize  = 16
	// steadyRun is the number of samples after which a series may stay in its group, or join another, when it
	// leaves the rhythm. Others are better alone: each change costs a sealed run.
	steadyRun = 16
)

// series is one series: a cache line, without pointers. Its newest samples are a run: values in a stream, with
// the timestamps of a group from position tape.mark on.
type series struct {
	stream codec.Stream
	group  uint32
	tape   tape
	extra  ref // extras; 0 if there are none
}

// extras are what few series have.
type extras struct {
	sealed  ref // the latest sealedRun or sealedLate
	late    ref // late samples in order of arrival
	lateLen uint16
	lateCap uint16
}

// used reports whether the series has samples.
func (s *series) used() bool { return s.stream.Len() > 0 }

// next returns the position of the next sample in the group.
func (s *series) next() uint32 { return uint32(s.tape.mark) + uint32(s.stream.Len()) }

// append adds samples. The caller holds the lock of the page.
func (h *Head) append(s *series, id uint32, samples []model.Sample, d *Delta) {
	d.before = d.first
	for i := range samples {
		x := &samples[i]
		if d.near.t == x.Timestamp && d.near.group == s.group && d.near.pos == s.next() && s.used() && d.head == h {
			if d.newDay {
				d.Days = append(d.Days, Day{ID: id, Day: unixDay(x.Timestamp)})
			}
		} else if !h.place(s, id, x, d) {
			continue
		}
		if i == 0 {
			d.first = d.near
		}
		s.stream.Append(x.Value)
		for s.stream.Full() {
			h.appendWord(&s.tape, s.stream.Take(), d)
		}
		d.Rows++
	}
}

// place finds the timestamp of a sample in a group, such that its value can be appended; or
// puts a late one aside and returns false.
func (h *Head) place(s *series, id uint32, x *model.Sample, d *Delta) bool {
	t := x.Timestamp
	d.Range.Min, d.Range.Max = min(d.Range.Min, t), max(d.Range.Max, t)
	if d.head != h {
		none := spot{group: noGroup}
		d.head, d.near, d.first, d.before = h, none, none, none
	}
	changed := true // the series may not have been seen on this day
	if !s.used() {
		h.join(s, t, d)
	} else {
		last := h.timestamp(s.group, s.next()-1, d)
		changed = unixDay(last) != unixDay(t)
		if t <= last {
			if changed {
				d.Days = append(d.Days, Day{ID: id, Day: unixDay(t)})
			}
			if t < last || !s.stream.Repeats(x.Value) {
				h.appendLate(s, *x, d)
			}
			return false
		}
		if !h.follows(s, t, d) {
			h.move(s, t, d)
		}
	}
	d.near = spot{group: s.group, pos: s.next(), t: t}
	d.newDay = d.near.pos > 0 && unixDay(h.timestamp(s.group, d.near.pos-1, d)) != unixDay(t)
	if changed {
		d.Days = append(d.Days, Day{ID: id, Day: unixDay(t)})
	}
	return true
}

// follows reports whether t is the next timestamp of the group of s.
func (h *Head) follows(s *series, t int64, d *Delta) bool {
	pos := s.next()
	if pos < atomic.LoadUint32(&h.group(s.group).count) {
		return h.timestamp(s.group, pos, d) == t
	}
	return h.extend(s.group, pos, t, d)
}

// move seals the run of a series which has left the rhythm of its group, and starts another.
func (h *Head) move(s *series, t int64, d *Delta) {
	if s.stream.Len() < steadyRun {
		h.sealRun(s, d)
		h.joinNew(s, t, d)
		return
	}
	if s.next() >= maxPositions {
		h.moveOn(s, t, d)
		return
	}
	pos, found := h.find(s.group, s.next()+1, t, d)
	h.sealRun(s, d)
	if found {
		s.tape.mark = uint16(pos)
		return
	}
	h.join(s, t, d)
}

// moveOn is move for a series at the end of a full group. Those which come there later follow the first one.
func (h *Head) moveOn(s *series, t int64, d *Delta) {
	full := h.group(s.group)
	h.sealRun(s, d)
	if next := atomic.LoadUint32(&full.next); next != 0 && h.timestamp(next-1, 0, d) == t {
		h.enter(s, spot{group: next - 1})
		return
	}
	h.join(s, t, d)
	if s.tape.mark == 0 {
		atomic.StoreUint32(&full.next, s.group+1)
	}
}

// join puts a series into a group which has t, a new one if none is at hand.
func (h *Head) join(s *series, t int64, d *Delta) {
	at, ok := h.spotOf(t, d)
	if !ok {
		at = spot{group: h.newGroup(t, d)}
	}
	h.enter(s, at)
}

// joinNew puts a series into a group which starts with t.
func (h *Head) joinNew(s *series, t int64, d *Delta) {
	at, ok := h.spotOf(t, d)
	if !ok || at.pos > 0 {
		at = spot{group: h.newGroup(t, d)}
	}
	h.enter(s, at)
}

func (h *Head) enter(s *series, at spot) {
	atomic.AddUint32(&h.group(at.group).members, 1)
	s.group, s.tape.mark = at.group, uint16(at.pos)
}

// spotOf returns a place of t in a group: the one where the series before has a sample, the one where the run
// of appends to it started, or the end of any group.
func (h *Head) spotOf(t int64, d *Delta) (spot, bool) {
	if d.near.group != noGroup && d.near.t == t {
		return d.near, true
	}
	if d.before.group != noGroup && d.before.t == t {
		return d.before, true
	}
	return h.tip(t)
}

// extrasOf returns the extras of s, which it makes if needed.
func (h *Head) extrasOf(s *series, d *Delta) *extras {
	if s.extra == 0 {
		s.extra, _ = h.cells.alloc(int(unsafe.Sizeof(extras{})), unitBytes, d)
	}
	return (*extras)(h.cells.at(s.extra))
}

// sealRun ends the run of s.
func (h *Head) sealRun(s *series, d *Delta) {
	x := h.extrasOf(s, d)
	r, p := h.cells.alloc(int(unsafe.Sizeof(sealedRun{})), unitBytes, d)
	run := (*sealedRun)(p)
	*run = sealedRun{next: x.sealed, group: s.group, start: s.tape.mark, count: uint16(s.stream.Len())}
	last := math.Float64bits(s.stream.First())
	if !s.stream.IsConst() {
		header := s.stream.Header()
		last = header.Last
		for s.stream.End(); s.stream.Full(); {
			h.appendWord(&s.tape, s.stream.Take(), d)
		}
		run.lead, run.cell, run.fill = header.Lead, s.tape.cell, s.tape.fill
	}
	run.low, run.high = uint32(last), uint32(last>>32)
	x.sealed = r
	s.stream, s.tape = codec.Stream{}, tape{}
}

// appendLate takes a sample at or before the newest one.
func (h *Head) appendLate(s *series, sample model.Sample, d *Delta) {
	x := h.extrasOf(s, d)
	if x.lateLen == x.lateCap {
		n := min(lateSamples, max(4, 4*int(x.lateCap)))
		r, _ := h.cells.alloc(n*sampleSize, 8, d)
		copy(h.lateOf(r, n), h.lateOf(x.late, int(x.lateLen)))
		x.late, x.lateCap = r, uint16(n)
	}
	h.lateOf(x.late, int(x.lateCap))[x.lateLen] = sample
	x.lateLen++
	d.Rows++
	if x.lateLen < lateSamples {
		return
	}
	e := h.encoders.Get().(*encoder)
	h.sealLate(x, e, d)
	h.encoders.Put(e)
	x.lateLen = 0
}

func (h *Head) lateOf(r ref, n int) []model.Sample {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*model.Sample)(h.cells.at(r)), n)
}

func (h *Head) sealLate(x *extras, e *encoder, d *Delta) {
	const header = int(unsafe.Sizeof(sealedLate{}))
	e.buf = e.buf[:0]
	b := e.late(&e.buf, h.lateOf(x.late, int(x.lateLen)))
	size := header + len(b.Timestamps) + len(b.Values)
	invariants.Check(len(b.Timestamps) <= math.MaxUint16 && len(b.Values) <= math.MaxUint16, "%d late samples take %d bytes", b.Count, size)
	r, p := h.cells.alloc(size, 8, d)
	l := (*sealedLate)(p)
	*l = sealedLate{next: x.sealed, group: noGroup, count: uint16(b.Count), timestamps: uint16(len(b.Timestamps)), values: uint16(len(b.Values)),
		min: b.MinTimestamp, max: b.MaxTimestamp}
	copy(h.cells.bytes(r, size)[header:], b.Timestamps)
	copy(h.cells.bytes(r, size)[header+len(b.Timestamps):], b.Values)
	x.sealed = r
}
