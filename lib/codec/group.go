package codec

import (
	"math/bits"

	"vmcluster/lib/errkind"
)

// A group is up to 128 integers as
//
//	width | 0x80 if there are exceptions   1 byte
//	ref                                     varint
//	exceptions, if any: count 1 byte, positions 1 byte each, high parts varint each
//	low width bits of (x - ref), bit-packed
//
// An exception is an integer for which x-ref is negative or needs more than
// width bits; its high part is (x-ref)>>width, signed.

const groupHasExceptions = 0x80

// widthCounts counts integers by the number of their significant bits.
type widthCounts [65]int32

// packing is a width and the bytes that integers take with it.
type packing struct {
	width uint
	size  int
}

// best returns the packing that makes n integers with these counts smallest.
func (h *widthCounts) best(n int) packing {
	top := 64
	for top > 0 && h[top] == 0 {
		top--
	}
	best := packing{uint(top), packedSize(n, uint(top))}
	exceptions := h[top]
	for b := top - 1; b >= 0; b-- {
		if int(exceptions) > n/2 {
			break
		}
		if h[b] == 0 && b > 0 {
			continue // packs better at the next lower width in use
		}
		cost := packedSize(n, uint(b)) + 1
		for l := b + 1; l <= top; l++ {
			// A position byte and a varint with a sign bit.
			cost += int(h[l]) * (1 + (l-b+7)/7)
		}
		if cost < best.size {
			best = packing{uint(b), cost}
		}
		exceptions += h[b]
	}
	return best
}

// appendGroup appends 1 to 128 integers.
func appendGroup(dst []byte, xs []int64) []byte {
	ref, width := groupFrame(xs)
	var low [groupLen]uint64
	var positions [groupLen]uint8
	exceptions := 0
	mask := ^uint64(0)
	if width < 64 {
		mask = 1<<width - 1
	}
	for i, x := range xs {
		r := uint64(x - ref)
		low[i&(groupLen-1)] = r & mask
		if r > mask {
			positions[exceptions] = uint8(i)
			exceptions++
		}
	}
	if exceptions == 0 {
		dst = AppendVarint(append(dst, byte(width)), ref)
		return appendBits(dst, low[:len(xs)], width)
	}
	dst = AppendVarint(append(dst, byte(width)|groupHasExceptions), ref)
	dst = append(dst, byte(exceptions))
	dst = append(dst, positions[:exceptions]...)
	for _, p := range positions[:exceptions] {
		dst = AppendVarint(dst, (xs[p]-ref)>>width)
	}
	return appendBits(dst, low[:len(xs)], width)
}

// groupFrame chooses the frame of reference and the width of a group. Integers far from
// the median become exceptions; the frame is the smallest of the others.
func groupFrame(xs []int64) (ref int64, width uint) {
	center := sampleMedian(xs)
	var h widthCounts
	for _, x := range xs {
		h[bits.Len64(ZigZag(x-center))]++
	}
	if int(h[0]) == len(xs) {
		return center, 0
	}
	limit := ^uint64(0) >> (64 - h.best(len(xs)).width) // shifts of 64 give 0
	low, high := center, center
	for _, x := range xs {
		if ZigZag(x-center) > limit {
			continue
		}
		low, high = min(low, x), max(high, x)
	}
	return low, uint(bits.Len64(uint64(high - low)))
}

// sampleMedian returns the median of at most nine evenly spaced integers.
func sampleMedian(xs []int64) int64 {
	var sample [9]int64
	n := min(len(xs), len(sample))
	for i := range n {
		x := xs[i*len(xs)/n]
		j := i
		for ; j > 0 && sample[j-1] > x; j-- {
			sample[j] = sample[j-1]
		}
		sample[j] = x
	}
	return sample[n/2]
}

// decodeGroup decodes len(dst) integers, at most 128, and returns what follows them.
func decodeGroup(dst []int64, src []byte) (tail []byte, err error) {
	if len(src) < 2 {
		return src, errGroup("it is cut off")
	}
	head := src[0]
	width := uint(head &^ groupHasExceptions)
	if width > 64 {
		return src, errGroup("its width exceeds 64 bits")
	}
	ref, src, err := CutVarint(src[1:])
	if err != nil {
		return src, err
	}
	if head&groupHasExceptions == 0 {
		return unpackGroup(dst, src, width, ref)
	}
	if len(src) == 0 || int(src[0]) > len(dst) || len(src) < 1+int(src[0]) {
		return src, errGroup("its list of exceptions is cut off")
	}
	positions := src[1 : 1+int(src[0])]
	src = src[1+len(positions):]
	var highs [groupLen]int64
	for i, p := range positions {
		if int(p) >= len(dst) {
			return src, errGroup("an exception lies behind its end")
		}
		if highs[i&(groupLen-1)], src, err = CutVarint(src); err != nil {
			return src, err
		}
	}
	if src, err = unpackGroup(dst, src, width, ref); err != nil {
		return src, err
	}
	for i, p := range positions {
		dst[p] += highs[i&(groupLen-1)] << width
	}
	return src, nil
}

func unpackGroup(dst []int64, src []byte, width uint, ref int64) (tail []byte, err error) {
	size := packedSize(len(dst), width)
	if len(src) < size {
		return src, errGroup("its packed integers are cut off")
	}
	if len(src) >= size+packPadding {
		unpackBits(dst, src, width, ref)
		return src[size:], nil
	}
	var padded [groupLen*8 + packPadding]byte
	copy(padded[:], src)
	unpackBits(dst, padded[:], width, ref)
	return src[size:], nil
}

func errGroup(cause string) error {
	return errkind.New(errkind.Corrupt, "cannot decode group of integers: %s", cause)
}
