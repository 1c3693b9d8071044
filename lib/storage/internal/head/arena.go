package head

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmcluster/lib/invariants"
)

const (
	segmentBytes = 4 << 20
	unitBytes    = 4
	segmentUnits = segmentBytes / unitBytes
	maxSegments  = 1 << 32 / segmentUnits
)

// ref is a place in an arena, in units of 4 bytes. 0 is none.
type ref uint32

// arena hands out memory outside of the Go heap, which the garbage collector neither scans nor doubles. It is given back as
// a whole.
type arena struct {
	onHeap   bool // for the race detector, which sees only memory of Go
	segments atomic.Pointer[[]unsafe.Pointer]

	mu struct {
		sync.Mutex
		used int // bytes of the last segment
		maps [][]byte
	}
}

// alloc returns n zero bytes, at a multiple of align, which is a power of two.
func (a *arena) alloc(n, align int, d *Delta) (ref, unsafe.Pointer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := (a.mu.used + align - 1) &^ (align - 1)
	if len(a.mu.maps) == 0 || at+n > segmentBytes {
		at = a.grow(align)
	}
	d.Bytes += int64(at + n - a.mu.used)
	a.mu.used = (at + n + unitBytes - 1) &^ (unitBytes - 1)
	d.Bytes += int64(a.mu.used - at - n)
	segment := len(a.mu.maps) - 1
	return ref(segment*segmentUnits + at/unitBytes), unsafe.Pointer(&a.mu.maps[segment][at])
}

// grow adds a segment and returns the place of the first allocation in it. What is left of the last one was never touched.
func (a *arena) grow(align int) int {
	invariants.Check(len(a.mu.maps) < maxSegments, "a head is larger than %d bytes", int64(maxSegments)*segmentBytes)
	m := a.newSegment()
	a.mu.maps = append(a.mu.maps, m)
	segments := make([]unsafe.Pointer, len(a.mu.maps))
	for i := range a.mu.maps {
		segments[i] = unsafe.Pointer(&a.mu.maps[i][0])
	}
	a.segments.Store(&segments)
	a.mu.used = 0
	if len(a.mu.maps) > 1 {
		return 0
	}
	return align // 0 is no ref
}

func (a *arena) newSegment() []byte {
	if !a.onHeap {
		if m, err := unix.Mmap(-1, 0, segmentBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
			return m
		}
		// Out of mappings, which are limited more than memory is.
		a.onHeap = true
	}
	return make([]byte, segmentBytes)
}

// at returns the memory at r.
func (a *arena) at(r ref) unsafe.Pointer {
	return unsafe.Add((*a.segments.Load())[r/segmentUnits], uintptr(r%segmentUnits)*unitBytes)
}

// bytes returns n bytes at r.
func (a *arena) bytes(r ref, n int) []byte { return unsafe.Slice((*byte)(a.at(r)), n) }

// release gives all memory back. Nothing of it may be used any more.
func (a *arena) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.segments.Store(nil)
	for _, m := range a.mu.maps {
		_ = unix.Munmap(m) // fails for memory of the heap only
	}
	a.mu.maps, a.mu.used = nil, 0
}

// A tape is a list of cells which grows word by word. Its last cell points to the first one. A cell is a ref to the
// next and words; the first has fewer of them, since most series need few.
type tape struct {
	cell ref    // the last; 0 is an empty tape
	fill uint16 // bytes in it
	mark uint16 // the owner's: here it costs nothing
}

const (
	cellHeader     = 4
	firstCellBytes = 32
	cellBytes      = 48
)

// appendWord adds a word.
func (h *Head) appendWord(t *tape, word uint64, d *Delta) {
	if t.cell == 0 {
		r, p := h.cells.alloc(cellHeader+firstCellBytes, unitBytes, d)
		*(*ref)(p) = r
		t.cell, t.fill = r, 0
	}
	p := h.cells.at(t.cell)
	first := *(*ref)(p)
	if t.fill >= cellCap(first, t.cell) {
		r, next := h.cells.alloc(cellHeader+cellBytes, unitBytes, d)
		*(*ref)(next), *(*ref)(p) = first, r
		t.cell, t.fill = r, 0
		p = next
	}
	binary.LittleEndian.PutUint64(unsafe.Slice((*byte)(unsafe.Add(p, cellHeader+int(t.fill))), 8), word)
	t.fill += 8
}

// cellCap returns the bytes of a cell whose tape starts with first.
func cellCap(first, cell ref) uint16 {
	if first == cell {
		return firstCellBytes
	}
	return cellBytes
}

// appendTape appends the words of a tape to dst.
func (h *Head) appendTape(dst []byte, t tape) []byte {
	if t.cell == 0 {
		return dst
	}
	first := *(*ref)(h.cells.at(t.cell))
	for r := first; r != t.cell; {
		p := h.cells.at(r)
		dst = append(dst, unsafe.Slice((*byte)(unsafe.Add(p, cellHeader)), cellCap(first, r))...)
		r = *(*ref)(p)
	}
	return append(dst, unsafe.Slice((*byte)(unsafe.Add(h.cells.at(t.cell), cellHeader)), t.fill)...)
}
