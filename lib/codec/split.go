package codec

import (
	"encoding/binary"
	"math"
	"math/bits"

	"vmcluster/lib/errkind"
)

// Sums of decimals which were added as floats are nearly decimals: 1.527208672999999 is the
// nearest float of 1.527208673 but for some units in the last place. Such a column is split into the decimals and
// these units, both integers which grow slowly. Both parts are exact, so it does not matter
// how well the decimals fit.

// splitFrom is the length of a column from which it is split.
const splitFrom = 48

// splitOf returns the integer nearest to value*power, and by how many floats value is behind integer/power.
func splitOf(value, power float64) (mantissa, units int64, ok bool) {
	product := value * power
	if !(math.Abs(product) < mantissaLimit) { // also NaN
		return 0, 0, false
	}
	mantissa = int64(math.RoundToEven(product))
	return mantissa, rankOf(value) - rankOf(float64(mantissa)/power), true
}

func rankOf(v float64) int64 { return flipNegative(int64(math.Float64bits(v))) }

// chooseSplit looks at pairs of neighbours in three places and returns the number of decimals which leaves
// the fewest bits; not ok when the ordered bits as they are take about as few.
func chooseSplit(values []float64) (scale int, ok bool) {
	const pieceLen, headerBits = 12, 2
	if len(values) < splitFrom {
		return 0, false
	}
	plain := 0
	scales := [...]uint8{2, 3, 6, 9, 12, 15} // what units of measurement have
	var costs [len(scales)]int
	for _, start := range []int{0, (len(values) - pieceLen) / 2, len(values) - pieceLen} {
		piece := values[start : start+pieceLen]
		for i := 1; i < len(piece); i++ {
			plain += bits.Len64(ZigZag(rankOf(piece[i]) - rankOf(piece[i-1])))
		}
		for i, s := range scales {
			costs[i] += splitCost(piece, math.Pow10(int(s)))
		}
	}
	best := 0
	for i := range costs {
		if costs[i] < costs[best] {
			best = i
		}
	}
	return int(scales[best]), costs[best]+3*pieceLen*headerBits < plain
}

// splitCost returns the bits of the differences of neighbours under one scale.
func splitCost(piece []float64, power float64) int {
	const exceptionBits = 80
	cost := 0
	mantissa, units, _ := splitOf(piece[0], power)
	for _, v := range piece[1:] {
		m, u, ok := splitOf(v, power)
		if !ok {
			cost += exceptionBits
			continue
		}
		cost += bits.Len64(ZigZag(m-mantissa)) + bits.Len64(ZigZag(u-units))
		mantissa, units = m, u
	}
	return cost
}

// appendSplit appends the column as decimals and units in the last place.
func (e *Encoder) appendSplit(dst []byte, values []float64, scale int) []byte {
	power := math.Pow10(scale)
	e.ints = resizeInts(e.ints, len(values))
	e.units = resizeInts(e.units, len(values))
	exceptions := 0
	var m, u int64
	for i, v := range values {
		if nextM, nextU, ok := splitOf(v, power); ok {
			m, u = nextM, nextU
		} else {
			exceptions++
		}
		e.ints[i], e.units[i] = m, u
	}
	dst = append(dst, valuesSplit, byte(scale))
	dst = AppendUvarint(dst, uint64(exceptions))
	next := 0
	for i, v := range values {
		if exceptions == 0 {
			break
		}
		if _, _, ok := splitOf(v, power); !ok {
			dst = appendException(dst, i-next, v)
			next = i + 1
		}
	}
	e.column = e.AppendInts(e.column[:0], e.ints)
	dst = AppendBytes(dst, e.column)
	return e.AppendInts(dst, e.units)
}

// decodeSplit decodes the last len(dst) of n values.
func decodeSplit(dst []float64, src []byte, n int) error {
	h, src, err := cutDecimalHeader(src, n)
	if err != nil {
		return err
	}
	mantissas, src, err := CutBytes(src)
	if err != nil {
		return err
	}
	var m, u intsDecoder
	if err := m.init(mantissas, n); err != nil {
		return err
	}
	if err := u.init(src, n); err != nil {
		return err
	}
	var readers [2]*tokenReader
	if m.needsTokens() {
		var t tokenReader
		readers[0] = &t
		if err := m.startTokens(&t, n); err != nil {
			return err
		}
	}
	if u.needsTokens() {
		var t tokenReader
		readers[1] = &t
		if err := u.startTokens(&t, n); err != nil {
			return err
		}
	}
	if err := decodePairs(dst, n, math.Pow10(h.scale), [2]*intsDecoder{&m, &u}, readers); err != nil {
		return err
	}
	_, err = walkExceptions(dst, h.list, h.exceptions, n)
	return err
}

// decodePairs decodes the two columns of a split one.
func decodePairs(dst []float64, n int, power float64, columns [2]*intsDecoder, readers [2]*tokenReader) error {
	whole := len(dst) == n
	var mantissas, units [groupLen]int64
	for len(dst) > 0 {
		run := min(n, groupLen)
		if err := columns[0].next(mantissas[:run], readers[0]); err != nil {
			return err
		}
		if err := columns[1].next(units[:run], readers[1]); err != nil {
			return err
		}
		n -= run
		skip := run - min(run, len(dst))
		out := dst[len(dst)-(run-skip):]
		dst = dst[:len(dst)-len(out)]
		for i, x := range mantissas[skip:run] {
			out[i] = math.Float64frombits(uint64(flipNegative(rankOf(float64(x)/power) + units[skip+i])))
		}
	}
	if !whole {
		return nil
	}
	if err := columns[0].finish(readers[0]); err != nil {
		return err
	}
	return columns[1].finish(readers[1])
}

// decimalHeader is what decimals and split columns start with.
type decimalHeader struct {
	scale      int
	exceptions uint64
	list       []byte // of the exceptions, and what follows
}

func cutDecimalHeader(src []byte, n int) (h decimalHeader, tail []byte, err error) {
	if len(src) == 0 || src[0] > maxScale {
		return h, src, errkind.New(errkind.Corrupt, "cannot decode decimals: their scale is missing or more than %d", maxScale)
	}
	h.scale = int(src[0])
	if h.exceptions, h.list, err = CutUvarint(src[1:]); err != nil {
		return h, src, err
	}
	tail, err = walkExceptions(nil, h.list, h.exceptions, n)
	return h, tail, err
}

func appendException(dst []byte, gap int, v float64) []byte {
	return binary.LittleEndian.AppendUint64(AppendUvarint(dst, uint64(gap)), math.Float64bits(v))
}
