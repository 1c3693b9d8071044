package insertrpc

import (
	"encoding/binary"
	"math"
	"math/bits"

	"vmcluster/lib/codec"
)

// The forms of a value, by its first byte, relative to the bits of the last
// value of the series:
//
//	0          the same bits
//	1..127     whole numbers; zigzag of the difference
//	128..135   whole numbers; zigzag of the difference in 1..8 little endian bytes
//	136..199   136 + 8*z + n-1: the bits differ; z leading zero bytes of the
//	           exclusive or are left out, n little endian bytes follow, zero bytes
//	           at the end are left out
const (
	valueSame   = 0
	valueDelta  = 128
	valueXor    = 136
	valueForms  = valueXor + 64
	maxWhole    = 1 << 53
	maxValueLen = 9
)

// whole returns the number with the given bits when it is a whole one that
// float64 and int64 both represent exactly; -0 is none.
func whole(b uint64) (int64, bool) {
	f := math.Float64frombits(b)
	n := int64(f)
	return n, float64(n) == f && n < maxWhole && n > -maxWhole && b != 1<<63
}

func appendValue(dst []byte, last, value uint64) []byte {
	if value == last {
		return append(dst, valueSame)
	}
	if n, ok := whole(value); ok {
		if m, ok := whole(last); ok {
			return appendDelta(dst, codec.ZigZag(n-m))
		}
	}
	x := value ^ last
	z := bits.LeadingZeros64(x) / 8
	tail := bits.TrailingZeros64(x) / 8
	n := 8 - z - tail
	dst = append(dst, byte(valueXor+8*z+n-1))
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], x>>(8*tail))
	return append(dst, buf[:n]...)
}

func appendDelta(dst []byte, d uint64) []byte {
	if d < valueDelta {
		return append(dst, byte(d))
	}
	n := (bits.Len64(d) + 7) / 8
	dst = append(dst, byte(valueDelta+n-1))
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], d)
	return append(dst, buf[:n]...)
}

// cutValue reads the value at the front of src, which follows last. Size is 0
// when src does not hold one.
func cutValue(src []byte, last uint64) (value uint64, size int) {
	if len(src) == 0 {
		return 0, 0
	}
	form := int(src[0])
	switch {
	case form == valueSame:
		return last, 1
	case form < valueDelta:
		return addWhole(last, uint64(form)), 1
	case form < valueXor:
		n := form - valueDelta + 1
		if len(src) <= n {
			return 0, 0
		}
		return addWhole(last, littleEndian(src[1:], n)), 1 + n
	case form < valueForms:
		z, n := (form-valueXor)/8, (form-valueXor)%8+1
		if z+n > 8 || len(src) <= n {
			return 0, 0
		}
		return last ^ littleEndian(src[1:], n)<<(8*(8-z-n)), 1 + n
	}
	return 0, 0
}

func addWhole(last, d uint64) uint64 {
	return math.Float64bits(float64(int64(math.Float64frombits(last)) + codec.UnZigZag(d)))
}

// littleEndian reads n bytes, 1 to 8, of src.
func littleEndian(src []byte, n int) uint64 {
	if len(src) >= 8 {
		return binary.LittleEndian.Uint64(src) & (math.MaxUint64 >> (64 - 8*n))
	}
	x := uint64(0)
	for i := range n {
		x |= uint64(src[i]) << (8 * i)
	}
	return x
}
