package index

import (
	"encoding/binary"
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2"
)

// Numbers of the portable serialisation of roaring bitmaps.
const (
	cookieNoRuns    = 12346
	cookieRuns      = 12347
	offsetsFrom     = 4 // containers from which on a bitmap with runs has offsets
	maxArrayLength  = 4096
	bitsetBytes     = 1 << 13
	runBytes        = 4
	descriptorBytes = 4
)

// bitmapHead is the start of a serialised bitmap.
type bitmapHead struct {
	runs        []byte // a bit per container
	descriptors []byte // key and cardinality - 1 of each container
	offsets     []byte // of each container, unless it has none
	containers  reader
}

func openBitmapHead(data []byte) (h bitmapHead, ok bool) {
	r := reader{b: data}
	cookie := r.u32()
	count := uint64(cookie>>16) + 1
	switch {
	case cookie == cookieNoRuns:
		count = uint64(r.u32())
	case cookie&0xffff == cookieRuns:
		h.runs = r.bytes((count + 7) / 8)
	default:
		return h, false
	}
	if count > 1<<16 {
		return h, false
	}
	h.descriptors = r.bytes(descriptorBytes * count)
	if h.runs == nil || count >= offsetsFrom {
		h.offsets = r.bytes(4 * count)
	}
	h.containers = r
	return h, !r.bad
}

func (h *bitmapHead) len() int { return len(h.descriptors) / descriptorBytes }

func (h *bitmapHead) isRun(i int) bool { return h.runs != nil && h.runs[i/8]>>(i%8)&1 != 0 }

func (h *bitmapHead) key(i int) uint16 {
	return binary.LittleEndian.Uint16(h.descriptors[descriptorBytes*i:])
}

func (h *bitmapHead) cardinality(i int) int {
	return int(binary.LittleEndian.Uint16(h.descriptors[descriptorBytes*i+2:])) + 1
}

// firstOfBitmap returns the smallest id of a serialised bitmap, unless reading it takes more than a look.
func firstOfBitmap(data []byte) (uint32, bool) {
	h, ok := openBitmapHead(data)
	if !ok || h.len() == 0 {
		return 0, false
	}
	if h.isRun(0) {
		h.containers.bytes(2) // the number of runs
	} else if h.cardinality(0) > maxArrayLength {
		return 0, false
	}
	low := h.containers.bytes(2)
	if h.containers.bad {
		return 0, false
	}
	return uint32(h.key(0))<<16 | uint32(binary.LittleEndian.Uint16(low)), true
}

// isValidBitmap reports whether data is a whole and well-formed serialised bitmap. Set operations crash on others, and the disk
// may have gone bad since the checksum was verified. It reads each byte once; the check of the library takes time
// that grows with the square of the number of runs.
func isValidBitmap(data []byte) bool {
	h, ok := openBitmapHead(data)
	if !ok {
		return false
	}
	r := &h.containers
	for i := range h.len() {
		if i > 0 && h.key(i) <= h.key(i-1) {
			return false
		}
		if h.offsets != nil && int(binary.LittleEndian.Uint32(h.offsets[4*i:])) != len(data)-len(r.b) {
			return false
		}
		switch n := h.cardinality(i); {
		case h.isRun(i):
			ok = areRuns(r.bytes(runBytes*uint64(r.u16())), n)
		case n > maxArrayLength:
			ok = isBitset(r.bytes(bitsetBytes), n)
		default:
			ok = isArray(r.bytes(2 * uint64(n)))
		}
		if !ok || r.bad {
			return false
		}
	}
	return len(r.b) == 0
}

// decodeBitmap reads a serialised bitmap. It keeps no reference to data.
func decodeBitmap(data []byte) (*roaring.Bitmap, bool) {
	if !isValidBitmap(data) {
		return nil, false
	}
	b := roaring.New()
	return b, b.UnmarshalBinary(data) == nil
}

func areRuns(b []byte, cardinality int) bool {
	end := -2 // last number of the run before
	for ; len(b) >= runBytes; b = b[runBytes:] {
		start, more := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
		if start <= end+1 || start+more > 0xffff {
			return false
		}
		end = start + more
		cardinality -= more + 1
	}
	return cardinality == 0
}

func isArray(b []byte) bool {
	last := -1
	for ; len(b) >= 2; b = b[2:] {
		v := int(binary.LittleEndian.Uint16(b))
		if v <= last {
			return false
		}
		last = v
	}
	return true
}

func isBitset(b []byte, cardinality int) bool {
	for ; len(b) >= 8; b = b[8:] {
		cardinality -= bits.OnesCount64(binary.LittleEndian.Uint64(b))
	}
	return cardinality == 0
}
