package vector

import (
	"math"
	"strconv"
	"strings"
)

// roundTo rounds v to a multiple of nearest, halves away from zero, and cuts
// the noise behind the decimals of nearest.
func roundTo(v, nearest float64, decimals int) float64 {
	v += math.Copysign(nearest/2, v)
	v -= math.Mod(v, nearest)
	if decimals == 0 {
		v, _ = math.Modf(v)
		return v
	}
	scale := math.Pow10(decimals)
	cut, _ := math.Modf(v * scale)
	return cut / scale
}

// decimalsOf returns how many decimals the shortest form of v has.
func decimalsOf(v float64) int {
	text := strconv.FormatFloat(v, 'f', -1, 64)
	dot := strings.IndexByte(text, '.')
	if dot < 0 {
		return 0
	}
	return len(text) - dot - 1
}
