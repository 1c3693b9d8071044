package codec

import (
	"encoding/binary"
	"math/bits"

	"vmcluster/lib/errkind"
)

// Packed is an array of unsigned integers, each in as many bits as the
// largest needs, which is read in place: it aliases the bytes it was cut from.
type Packed struct {
	data  []byte
	base  uint64
	mask  uint64
	width uint
	n     int
}

const packedHeader = 1 + 8 // width, base

// AppendPacked appends xs as an array for CutPacked.
func AppendPacked[T ~uint16 | ~uint32 | ~uint64](dst []byte, xs []T) []byte {
	var low, high uint64
	if len(xs) > 0 {
		low, high = uint64(xs[0]), uint64(xs[0])
	}
	for _, x := range xs {
		low, high = min(low, uint64(x)), max(high, uint64(x))
	}
	width := uint(bits.Len64(high - low))
	if width > 56 {
		width = 64 // so that one load reads an integer
	}
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(width)), low)
	var group [groupLen]uint64
	for len(xs) > 0 {
		n := min(len(xs), groupLen) // full groups end at a byte
		for i, x := range xs[:n] {
			group[i] = uint64(x) - low
		}
		dst = appendBits(dst, group[:n], width)
		xs = xs[n:]
	}
	var padding [packPadding]byte
	return append(dst, padding[:]...)
}

// CutPacked reads an array of n integers from the front of src.
func CutPacked(src []byte, n int) (p Packed, tail []byte, err error) {
	if n < 0 || uint64(n) > 1<<40 || len(src) < packedHeader {
		return p, src, errkind.New(errkind.Corrupt, "cannot read packed array of %d integers from %d bytes", n, len(src))
	}
	width := uint(src[0])
	size := packedHeader + packedSize(n, width) + packPadding
	if (width > 56 && width != 64) || len(src) < size {
		return p, src, errkind.New(errkind.Corrupt, "cannot read packed array of %d integers of %d bits from %d bytes", n, width, len(src))
	}
	p = Packed{data: src[packedHeader:size], base: binary.LittleEndian.Uint64(src[1:]), width: width, n: n}
	if width > 0 {
		p.mask = ^uint64(0) >> (64 - width)
	}
	return p, src[size:], nil
}

// Len returns the number of integers.
func (p *Packed) Len() int { return p.n }

// At returns the integer at index i, which must be less than Len.
func (p *Packed) At(i int) uint64 {
	pos := uint(i) * p.width
	return binary.LittleEndian.Uint64(p.data[pos>>3:])>>(pos&7)&p.mask + p.base
}
