package bytesutil

import (
	"sync"
	"unsafe"
)

// String returns b as a string without a copy. The string is valid only as
// long as b is neither changed nor reused.
func String(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Bytes returns the bytes of s without a copy. They must never be written to.
func Bytes(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// EqualInts reports whether two columns are equal, many numbers at a time.
func EqualInts(a, b []int64) bool {
	return unsafe.String((*byte)(unsafe.Pointer(unsafe.SliceData(a))), 8*len(a)) == unsafe.String((*byte)(unsafe.Pointer(unsafe.SliceData(b))), 8*len(b))
}

// Resize returns b with length n, reallocated when its capacity is too small.
// The contents are undefined.
func Resize(b []byte, n int) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	return make([]byte, n, n+n/4)
}

// Buffer is a byte slice which can be pooled without an allocation per Put.
type Buffer struct{ B []byte }

// Pool is a pool of buffers. Buffers whose capacity has grown beyond MaxCap
// bytes are left to the garbage collector, so that one huge request does not
// pin memory for ever. The zero value is ready to use.
type Pool struct {
	MaxCap int // bytes; 0 means 4 MiB
	p      sync.Pool
}

// Get returns an empty buffer.
func (p *Pool) Get() *Buffer {
	if v := p.p.Get(); v != nil {
		return v.(*Buffer)
	}
	return &Buffer{}
}

// Put gives the buffer back. The caller must not use it afterwards.
func (p *Pool) Put(b *Buffer) {
	limit := p.MaxCap
	if limit == 0 {
		limit = 4 << 20
	}
	if cap(b.B) > limit {
		return
	}
	b.B = b.B[:0]
	p.p.Put(b)
}
