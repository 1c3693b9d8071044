package nativehistogram

import (
	"math"
	"slices"
	"strconv"
)

// Range is a bucket: Count observations above Low, up to High.
type Range struct {
	Low, High float64
	Count     float64
}

// AppendVMRange appends the value of the label vmrange of a bucket.
func AppendVMRange(dst []byte, low, high float64) []byte {
	dst = append(strconv.AppendFloat(dst, low, 'e', 3, 64), "..."...)
	return strconv.AppendFloat(dst, high, 'e', 3, 64)
}

// AppendRanges appends the buckets that are not empty, ascending. The zero bucket is among them; with bounds so close to it that they overlap, it stays what it
// is. The first of custom buckets begins at 0 if it ends above that, as everywhere where quantiles are made of it.
func (h *Histogram) AppendRanges(dst []Range) []Range {
	start := len(dst)
	dst = h.appendSign(dst, &h.Negative, -1)
	slices.Reverse(dst[start:])
	if zero := h.zero(); zero != 0 {
		dst = append(dst, Range{-h.ZeroThreshold, h.ZeroThreshold, zero})
	}
	return h.appendSign(dst, &h.Positive, 1)
}

func (h *Histogram) zero() float64 {
	if h.Float {
		return h.FloatZero
	}
	return float64(h.ZeroCount)
}

// Total returns the count of all observations.
func (h *Histogram) Total() float64 {
	if h.Float {
		return h.FloatCount
	}
	return float64(h.Count)
}

func (h *Histogram) appendSign(dst []Range, b *Buckets, sign float64) []Range {
	index, i := int64(0), 0
	for _, s := range b.Spans {
		index += int64(s.Offset)
		for range s.Length {
			dst = h.appendRange(dst, index, sign, b.at(i, h.Float))
			i++
			index++
		}
	}
	return dst
}

func (h *Histogram) appendRange(dst []Range, index int64, sign, count float64) []Range {
	if count == 0 {
		return dst
	}
	low, high := h.bounds(index)
	if sign < 0 {
		low, high = -high, -low
	}
	return append(dst, Range{low, high, count})
}

func (b *Buckets) at(i int, float bool) float64 {
	if float {
		return b.Floats[i]
	}
	return float64(b.Counts[i])
}

// bounds returns those of a bucket on the positive side.
func (h *Histogram) bounds(index int64) (low, high float64) {
	if h.Schema != CustomBuckets {
		return Bound(h.Schema, index-1), Bound(h.Schema, index)
	}
	low, high = math.Inf(-1), math.Inf(1)
	if index < int64(len(h.CustomValues)) {
		high = h.CustomValues[index]
	}
	if index > 0 {
		low = h.CustomValues[index-1]
	} else if high > 0 {
		low = 0
	}
	return low, high
}

// Bound returns the upper bound of a bucket of an exponential schema: 2^(index * 2^-schema). The bucket of the largest number ends with it, and
// the one behind that is for infinity.
func Bound(schema int32, index int64) float64 {
	var exponent int64
	fraction := 1.0
	if schema <= 0 {
		exponent = index << -schema
	} else {
		exponent = index >> schema
		if rest := index - exponent<<schema; rest != 0 {
			fraction = math.Exp2(math.Ldexp(float64(rest), -int(schema)))
		}
	}
	if exponent == 1024 && fraction == 1 {
		return math.MaxFloat64
	}
	return math.Ldexp(fraction, int(min(max(exponent, -2000), 2000)))
}
