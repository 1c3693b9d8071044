package index

import "encoding/binary"

const (
	minChunk = 4 << 10
	maxChunk = 256 << 10
)

// arena keeps byte strings in large chunks, so that millions of them cost the garbage
// collector nothing. What was put never moves or changes. The zero value is empty.
type arena struct {
	chunks [][]byte
	used   int // bytes of the last chunk
}

// put copies b and returns a reference to it, which is never 0.
func (a *arena) put(b []byte) uint64 {
	if n := len(a.chunks); n == 0 || len(a.chunks[n-1])-a.used < len(b) {
		a.grow(len(b))
	}
	last := len(a.chunks) - 1
	copy(a.chunks[last][a.used:], b)
	ref := uint64(last)<<32 | uint64(a.used)
	a.used += len(b)
	return ref
}

func (a *arena) grow(need int) {
	size := minChunk
	if n := len(a.chunks); n > 0 {
		size = min(2*len(a.chunks[n-1]), maxChunk)
	}
	a.chunks = append(a.chunks, make([]byte, max(size, need+1)))
	a.used = 1 // so that no reference is 0
}

func (a *arena) sizeBytes() int64 {
	n := int64(0)
	for _, c := range a.chunks {
		n += int64(len(c))
	}
	return n
}

// at returns the chunk from the reference on. The reader has to know where to stop.
func (a *arena) at(ref uint64) []byte { return a.chunks[ref>>32][uint32(ref):] }

// pairAt returns the label pair at the reference: its whole encoding, and the value
// in it. A pair is uvarint length, name, uvarint length, value; the empty name stands
// for the metric name.
func (a *arena) pairAt(ref uint64) (encoded, value []byte) {
	b := a.at(ref)
	nameLen, n := binary.Uvarint(b)
	start := n + int(nameLen)
	valueLen, n := binary.Uvarint(b[start:])
	start += n
	end := start + int(valueLen)
	return b[:end:end], b[start:end:end]
}
