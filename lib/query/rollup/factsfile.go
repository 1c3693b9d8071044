package rollup

import (
	"encoding/binary"
	"math"
)

// AppendTo appends the facts but for Times, see docs/format/result_cache.md.
func (f *Facts) AppendTo(dst []byte) []byte {
	flags := byte(0)
	for i, is := range [...]bool{f.Ended, f.Open, f.Carry.Known, f.Carry.Fell} {
		if is {
			flags |= 1 << i
		}
	}
	dst = append(dst, flags)
	for _, n := range []int64{f.Last, f.Gap, f.Over, f.UpTo, f.Reach, f.Needs, f.Carry.Time} {
		dst = binary.AppendVarint(dst, n)
	}
	for _, v := range []float64{f.Carry.Raw, f.Carry.Value, f.Carry.correction} {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// CutFacts reads what AppendTo wrote from the front of src; false when it is none of that.
func CutFacts(src []byte) (f Facts, tail []byte, ok bool) {
	if len(src) == 0 || src[0] >= 1<<4 {
		return f, src, false
	}
	flags := src[0]
	src = src[1:]
	f.Ended, f.Open, f.Carry.Known, f.Carry.Fell = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
	for _, n := range []*int64{&f.Last, &f.Gap, &f.Over, &f.UpTo, &f.Reach, &f.Needs, &f.Carry.Time} {
		x, size := binary.Varint(src)
		if size <= 0 {
			return f, src, false
		}
		*n, src = x, src[size:]
	}
	for _, v := range []*float64{&f.Carry.Raw, &f.Carry.Value, &f.Carry.correction} {
		if len(src) < 8 {
			return f, src, false
		}
		*v, src = math.Float64frombits(binary.LittleEndian.Uint64(src)), src[8:]
	}
	return f, src, true
}
