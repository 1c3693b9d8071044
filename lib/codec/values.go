package codec

import (
	"encoding/binary"
	"math"

	"vmcluster/lib/errkind"
)

// The formats of a column of values, in its first byte.
const (
	valuesRaw     = 0 // 8 bytes each
	valuesConst   = 1 // 8 bytes once
	valuesDecimal = 2 // scale, exceptions, integer column of value*10^scale
	valuesBits    = 3 // integer column of ordered bit patterns
	valuesSplit   = 4 // scale, exceptions, integer columns of value*10^scale and of units in the last place
	valuesStream  = 8 // stream: see Stream
)

// maxScale is the largest number of decimals that is tried. More cannot be
// exact for numbers of ordinary size.
const maxScale = 18

// mantissaLimit bounds mantissas, so that their differences do not overflow.
const mantissaLimit = 1 << 62

// AppendValues appends a column of at most MaxColumnLen values in the format
// that takes the fewest bytes.
func (e *Encoder) AppendValues(dst []byte, values []float64) []byte {
	if len(values) == 0 {
		return append(dst, valuesRaw)
	}
	facts := FactsOf(values)
	if facts.Has(Constant) {
		return appendConst(append(dst, formatByte(valuesConst, facts)), values[0])
	}
	start := len(dst)
	dst = e.appendAsInts(dst, values)
	if len(dst)-start <= 8*len(values) {
		dst[start] |= formatByte(0, facts)
		return dst
	}
	return appendRaw(dst[:start], values, facts)
}

// AppendValuesQuick appends a column which will not be kept: AppendValues would spend more time on values that are no short decimals than it
// takes to send them as they are.
func (e *Encoder) AppendValuesQuick(dst []byte, values []float64) []byte {
	if len(values) == 0 {
		return append(dst, valuesRaw)
	}
	facts := FactsOf(values)
	if facts.Has(Constant) {
		return appendConst(append(dst, formatByte(valuesConst, facts)), values[0])
	}
	start := len(dst)
	if scale, promising := chooseScale(values); promising {
		if dst, _ = e.appendDecimal(dst, values, scale); len(dst)-start <= 8*len(values) {
			dst[start] |= formatByte(0, facts)
			return dst
		}
	}
	return appendRaw(dst[:start], values, facts)
}

func appendRaw(dst []byte, values []float64, facts Facts) []byte {
	dst = append(dst, formatByte(valuesRaw, facts))
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// appendAsInts appends the column as decimals, as ordered bits or split. All are
// tried when decimals are long or do not fit many of the values.
func (e *Encoder) appendAsInts(dst []byte, values []float64) []byte {
	start := len(dst)
	scale, promising := chooseScale(values)
	if promising {
		exceptions := 0
		dst, exceptions = e.appendDecimal(dst, values, scale)
		few := len(values) / 8
		if len(values) >= splitFrom {
			few /= 4
		}
		if scale < 14 && exceptions <= few {
			return dst
		}
	}
	best := start // the end of the smallest so far; start when there is none
	if promising {
		best = len(dst)
	}
	keep := func() {
		if size := len(dst) - best; best == start || size < best-start {
			copy(dst[start:], dst[best:])
			best = start + size
		}
		dst = dst[:best]
	}
	split := false
	if scale, split = chooseSplit(values); split {
		dst = e.appendSplit(dst, values, scale)
		keep()
	}
	e.ints = resizeInts(e.ints, len(values))
	dst = e.AppendInts(append(dst, valuesBits), orderedBits(e.ints, values))
	keep()
	return dst
}

func isConst(values []float64) bool {
	first := math.Float64bits(values[0])
	for _, v := range values {
		if math.Float64bits(v) != first {
			return false
		}
	}
	return true
}

// scaled returns value*scale as an integer, if dividing it again gives the same bits.
func scaled(value, scale float64) (mantissa int64, exact bool) {
	product := value * scale
	if !(math.Abs(product) < mantissaLimit) { // also NaN
		return 0, false
	}
	mantissa = int64(math.RoundToEven(product))
	return mantissa, math.Float64bits(float64(mantissa)/scale) == math.Float64bits(value)
}

// chooseScale looks at some of the values and returns the number of decimals that
// makes the column smallest when values which need more become exceptions.
func chooseScale(values []float64) (scale int, promising bool) {
	const sampleLen, exceptionBits, bitsPerDecimal = 32, 80, 3.33
	var counts [maxScale + 1]int
	n := min(len(values), sampleLen)
	fit := 0
	previous := 0
	for i := range n {
		v := values[i*len(values)/n]
		if s, ok := decimalsOf(v, previous); ok {
			counts[s]++
			fit++
			previous = s
		}
	}
	if fit*4 < n*3 {
		return 0, false
	}
	bestCost, fewer := math.Inf(1), 0
	for s, c := range counts {
		if c == 0 {
			continue
		}
		fewer += c
		if cost := float64(n-fewer)*exceptionBits + float64(fewer)*bitsPerDecimal*float64(s); cost < bestCost {
			scale, bestCost = s, cost
		}
	}
	return scale, true
}

// decimalsOf returns the smallest number of decimals with which v is exact.
func decimalsOf(v float64, hint int) (decimals int, ok bool) {
	if hint > 0 {
		if _, exact := scaled(v, math.Pow10(hint)); exact {
			if _, exact = scaled(v, math.Pow10(hint-1)); !exact {
				return hint, true
			}
		}
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, false
	}
	for s := range maxScale + 1 {
		if _, exact := scaled(v, math.Pow10(s)); exact {
			return s, true
		}
	}
	return 0, false
}

// appendDecimal appends the column as decimals and returns the number of exceptions.
func (e *Encoder) appendDecimal(dst []byte, values []float64, scale int) ([]byte, int) {
	power := math.Pow10(scale)
	e.ints = resizeInts(e.ints, len(values))
	ints := e.ints
	exceptions := 0
	previous := int64(0)
	for i, v := range values {
		m, exact := scaled(v, power)
		if !exact {
			exceptions++
			m = previous
		}
		ints[i] = m
		previous = m
	}
	dst = append(dst, valuesDecimal, byte(scale))
	dst = AppendUvarint(dst, uint64(exceptions))
	if exceptions > 0 {
		dst = appendExceptions(dst, values, power)
	}
	return e.AppendInts(dst, ints), exceptions
}

// appendExceptions appends the distances and bits of the values which are no decimals.
func appendExceptions(dst []byte, values []float64, power float64) []byte {
	next := 0
	for i, v := range values {
		if _, exact := scaled(v, power); exact {
			continue
		}
		dst = appendException(dst, i-next, v)
		next = i + 1
	}
	return dst
}

// orderedBits fills dst with integers which are ordered as the values are.
func orderedBits(dst []int64, values []float64) []int64 {
	for i, v := range values {
		dst[i] = flipNegative(int64(math.Float64bits(v)))
	}
	return dst
}

// flipNegative maps the bits of a float to its rank and back.
func flipNegative(x int64) int64 { return x ^ int64(uint64(x>>63)>>1) }

// appendConst appends the bits of a value, highest byte first, without the zero bytes at the end.
func appendConst(dst []byte, value float64) []byte {
	for b := math.Float64bits(value); b != 0; b <<= 8 {
		dst = append(dst, byte(b>>56))
	}
	return dst
}

// constOf reads what appendConst wrote.
func constOf(src []byte) (value float64, err error) {
	if len(src) > 8 || len(src) > 0 && src[len(src)-1] == 0 {
		return 0, errkind.New(errkind.Corrupt, "cannot decode constant of %d bytes: want at most 8, the last of them not 0", len(src))
	}
	var b [8]byte
	copy(b[:], src)
	return math.Float64frombits(binary.BigEndian.Uint64(b[:])), nil
}

// DecodeValues appends the n values of a column to dst. Src is the whole
// column. Errors are of kind Corrupt; dst is then returned unchanged.
func DecodeValues(dst []float64, src []byte, n int) ([]float64, error) {
	return DecodeValuesFrom(dst, src, n, 0)
}

// DecodeValuesFrom is DecodeValues for the values from index from on. The fewer they are,
// the less of the column is decoded; damage in the rest is not noticed.
func DecodeValuesFrom(dst []float64, src []byte, n, from int) ([]float64, error) {
	if len(src) == 0 || src[0] >= 0x80 || n < 0 || n > MaxColumnLen || from < 0 || from > n {
		return dst, errkind.New(errkind.Corrupt, "cannot decode %d values from the %dth on from %d bytes: the format byte is missing or unknown, or there are more than %d",
			n, from, len(src), MaxColumnLen)
	}
	format, src := src[0]&formatMask, src[1:]
	start := len(dst)
	dst = growFloats(dst, n-from)
	out := dst[start:]
	var err error
	switch {
	case format == valuesRaw && len(src) == 8*n:
		for i := range out {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(src[8*(from+i):]))
		}
	case format == valuesConst:
		var v float64
		v, err = constOf(src)
		for i := range out {
			out[i] = v
		}
	case format == valuesDecimal:
		err = decodeDecimal(out, src, n)
	case format == valuesBits:
		err = decodeIntsAsValues(out, src, n, -1)
	case format == valuesSplit:
		err = decodeSplit(out, src, n)
	case format == valuesStream:
		err = decodeStream(out, src, n)
	default:
		err = errkind.New(errkind.Corrupt, "format %d does not go with %d bytes", format, len(src)+1)
	}
	if err != nil {
		return dst[:start], errkind.New(errkind.Corrupt, "cannot decode column of %d values: %w", n, err)
	}
	return dst, nil
}

// ValueAt returns the value at index i of the n values of a column; i must be less
// than n. The last one is found without decoding the others. Errors are of kind Corrupt.
func ValueAt(src []byte, n, i int) (float64, error) {
	if v, ok := StreamLast(src); ok && i == n-1 {
		return v, nil
	}
	if len(src) > 0 && i == n-1 && src[0]&formatMask != valuesRaw && !IsStream(src) {
		v, err := lastValue(src[0]&formatMask, src[1:], n)
		if err != nil {
			return 0, errkind.New(errkind.Corrupt, "cannot read the last of %d values: %w", n, err)
		}
		return v, nil
	}
	var buf [groupLen]float64
	d := buf[:0]
	if n-i > len(buf) {
		d = make([]float64, 0, n-i)
	}
	d, err := DecodeValuesFrom(d, src, n, i)
	if err != nil {
		return 0, err
	}
	return d[0], nil
}

// lastValue reads what the header of a column says of the last value.
func lastValue(format byte, src []byte, n int) (float64, error) {
	switch format {
	case valuesConst:
		return constOf(src)
	case valuesBits:
		x, err := lastInt(src)
		return math.Float64frombits(uint64(flipNegative(x))), err
	case valuesDecimal, valuesSplit:
		h, src, err := cutDecimalHeader(src, n)
		if err != nil {
			return 0, err
		}
		units := int64(0)
		if format == valuesSplit {
			var mantissas []byte
			if mantissas, src, err = CutBytes(src); err != nil {
				return 0, err
			}
			if units, err = lastInt(src); err != nil {
				return 0, err
			}
			src = mantissas
		}
		m, err := lastInt(src)
		if err != nil {
			return 0, err
		}
		last := [1]float64{float64(m) / math.Pow10(h.scale)}
		if units != 0 {
			last[0] = math.Float64frombits(uint64(flipNegative(rankOf(last[0]) + units)))
		}
		_, err = walkExceptions(last[:], h.list, h.exceptions, n)
		return last[0], err
	}
	return 0, errkind.New(errkind.Corrupt, "format %d is unknown", format)
}

// decodeDecimal decodes the last len(dst) of n values.
func decodeDecimal(dst []float64, src []byte, n int) error {
	h, src, err := cutDecimalHeader(src, n)
	if err != nil {
		return err
	}
	if err := decodeIntsAsValues(dst, src, n, h.scale); err != nil {
		return err
	}
	_, err = walkExceptions(dst, h.list, h.exceptions, n)
	return err
}

// walkExceptions reads the exceptions of n values, puts them into dst, which has the last of the values, and returns what follows.
func walkExceptions(dst []float64, src []byte, count uint64, n int) (tail []byte, err error) {
	at := uint64(0)
	for range count {
		var gap uint64
		if gap, src, err = CutUvarint(src); err != nil {
			return src, err
		}
		if gap >= uint64(n) || at+gap >= uint64(n) || len(src) < 8 {
			return src, errkind.New(errkind.Corrupt, "cannot decode exceptions of decimals: one lies behind the end or is cut off")
		}
		at += gap
		if skipped := n - len(dst); at >= uint64(skipped) {
			dst[at-uint64(skipped)] = math.Float64frombits(binary.LittleEndian.Uint64(src))
		}
		src = src[8:]
		at++
	}
	return src, nil
}

// decodeIntsAsValues decodes the last len(dst) of n integers and divides by 10^scale, or with
// a scale below 0 takes the integers for ordered bits.
func decodeIntsAsValues(dst []float64, src []byte, n, scale int) error {
	var d intsDecoder
	if err := d.init(src, n); err != nil {
		return err
	}
	var tokens *tokenReader
	if d.needsTokens() {
		var t tokenReader
		tokens = &t
		if err := d.startTokens(tokens, n); err != nil {
			return err
		}
	}
	whole := len(dst) == n
	plain := d.predictor == predictDelta && d.divisor == 1 && scale >= 0 // the commonest case by far
	power := math.Pow10(max(scale, 0))
	var buf [groupLen]int64
	for len(dst) > 0 {
		run := buf[:min(n, groupLen)]
		n -= len(run)
		skip := max(0, len(run)-len(dst))
		out := dst[len(dst)-len(run)+skip:]
		dst = dst[:len(dst)-len(out)]
		if plain && skip == 0 {
			if err := d.residuals(run, tokens); err != nil {
				return err
			}
			d.value = sumToValues(out, run, d.last+d.value, power) - d.last
			continue
		}
		if err := d.next(run, tokens); err != nil {
			return err
		}
		intsToValues(out, run[skip:], scale, power)
	}
	if !whole {
		return nil
	}
	return d.finish(tokens)
}

// sumToValues adds up deltas from the last to the first, starting at sum, and divides by power, all in one pass.
func sumToValues(out []float64, deltas []int64, sum int64, power float64) int64 {
	out = out[:len(deltas)]
	if power == 1 {
		for i := len(deltas) - 1; i >= 0; i-- {
			sum += deltas[i]
			out[i] = float64(sum)
		}
		return sum
	}
	for i := len(deltas) - 1; i >= 0; i-- {
		sum += deltas[i]
		out[i] = float64(sum) / power
	}
	return sum
}

func intsToValues(out []float64, ints []int64, scale int, power float64) {
	out = out[:len(ints)]
	switch {
	case scale < 0:
		for i, x := range ints {
			out[i] = math.Float64frombits(uint64(flipNegative(x)))
		}
	case scale == 0:
		for i, x := range ints {
			out[i] = float64(x)
		}
	default:
		for i, x := range ints {
			out[i] = float64(x) / power
		}
	}
}

func growFloats(dst []float64, n int) []float64 {
	if cap(dst)-len(dst) < n {
		grown := make([]float64, len(dst), max(len(dst)+n, 2*cap(dst)))
		copy(grown, dst)
		dst = grown
	}
	return dst[:len(dst)+n]
}
