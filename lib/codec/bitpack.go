package codec

import "encoding/binary"

// groupLen is the number of integers that are bit-packed together.
const groupLen = 128

// packPadding is how many bytes beyond the packed ones unpackBits may read.
const packPadding = 8

// packedSize returns the bytes which n integers of width bits take.
func packedSize(n int, width uint) int { return (n*int(width) + 7) / 8 }

// appendBits appends the integers, each less than 1<<width, least significant bit first.
func appendBits(dst []byte, src []uint64, width uint) []byte {
	if width == 0 {
		return dst
	}
	var acc uint64
	var used uint
	for _, v := range src {
		acc |= v << used
		if used+width < 64 {
			used += width
			continue
		}
		dst = binary.LittleEndian.AppendUint64(dst, acc)
		acc = v >> (64 - used)
		used = used + width - 64
	}
	for ; used > 8; used -= 8 {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	if used > 0 {
		dst = append(dst, byte(acc))
	}
	return dst
}

// unpackBits reads len(dst) integers of width bits and adds ref to each. Src must be packPadding
// bytes longer than the packed integers.
func unpackBits(dst []int64, src []byte, width uint, ref int64) {
	if width == 0 {
		for i := range dst {
			dst[i] = ref
		}
		return
	}
	// Narrow integers: several come out of one load.
	whole := len(dst) &^ 7
	switch {
	case width <= 8:
		unpackEights(dst[:whole], src, width, ref)
	case width <= 16:
		unpackFours(dst[:whole], src, width, ref)
	default:
		whole = 0
	}
	if width > 56 {
		unpackWide(dst, src, width, ref)
		return
	}
	mask := uint64(1)<<width - 1
	pos := uint(whole) * width
	for i := whole; i < len(dst); i++ {
		dst[i] = int64(binary.LittleEndian.Uint64(src[pos>>3:])>>(pos&7)&mask) + ref
		pos += width
	}
}

// unpackEights is unpackBits for a multiple of eight integers of at most 8 bits:
// eight of them take width bytes.
func unpackEights(dst []int64, src []byte, width uint, ref int64) {
	mask := uint64(1)<<width - 1
	for at := uint(0); len(dst) >= 8; at += width {
		v := binary.LittleEndian.Uint64(src[at:])
		d := dst[:8:8]
		d[0] = int64(v&mask) + ref
		v >>= width & 63
		d[1] = int64(v&mask) + ref
		v >>= width & 63
		d[2] = int64(v&mask) + ref
		v >>= width & 63
		d[3] = int64(v&mask) + ref
		v >>= width & 63
		d[4] = int64(v&mask) + ref
		v >>= width & 63
		d[5] = int64(v&mask) + ref
		v >>= width & 63
		d[6] = int64(v&mask) + ref
		v >>= width & 63
		d[7] = int64(v&mask) + ref
		dst = dst[8:]
	}
}

// unpackFours is unpackBits for a multiple of four integers of 9 to 16 bits. Four
// of them start at a byte or, with an odd width, in the middle of one.
func unpackFours(dst []int64, src []byte, width uint, ref int64) {
	mask := uint64(1)<<width - 1
	for pos := uint(0); len(dst) >= 4; pos += 4 * width {
		v := binary.LittleEndian.Uint64(src[pos>>3:]) >> (pos & 7)
		d := dst[:4:4]
		d[0] = int64(v&mask) + ref
		v >>= width & 63
		d[1] = int64(v&mask) + ref
		v >>= width & 63
		d[2] = int64(v&mask) + ref
		v >>= width & 63
		d[3] = int64(v&mask) + ref
		dst = dst[4:]
	}
}

// unpackWide is unpackBits for integers that may straddle nine bytes.
func unpackWide(dst []int64, src []byte, width uint, ref int64) {
	mask := ^uint64(0) >> (64 - width)
	pos := uint(0)
	for i := range dst {
		at, shift := pos>>3, pos&7
		v := binary.LittleEndian.Uint64(src[at:]) >> shift
		if shift+width > 64 {
			v |= uint64(src[at+8]) << (64 - shift)
		}
		dst[i] = int64(v&mask) + ref
		pos += width
	}
}
