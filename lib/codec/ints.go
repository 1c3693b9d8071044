package codec

import (
	"math/bits"
	"slices"

	"vmcluster/lib/errkind"
)

// MaxColumnLen is the largest number of integers or values in a column.
const MaxColumnLen = 1 << 16

// The first byte of an integer column: the predictor in bits 0 and 1, the packing of the residuals
// in bits 2 and 3, in bit 4 whether there is a divisor. All is in reverse order: the
// last integer comes first, so that the end of a column is read without the rest of it.
const (
	predictNone   = 0 // last, (divisor), residuals (x-last)/divisor
	predictDelta  = 1 // last, (divisor), residuals: deltas of (x-last)/divisor
	predictDelta2 = 2 // last, (divisor), last delta, residuals: deltas of deltas of (x-last)/divisor
	predictLinear = 3 // last, step: x = last + i*step, counted from the last
	predictorMask = 3

	packGroups     = 0 << 2
	packTokens     = 1 << 2
	packZeroTokens = 2 << 2
	packMask       = 3 << 2

	hasDivisor = 1 << 4
)

// Encoder encodes columns. It keeps scratch memory, so reusing it saves
// allocations; the zero value is ready to use.
type Encoder struct {
	ints      []int64
	units     []int64
	column    []byte
	reversed  []int64
	residuals []int64
	symbols   []uint8
	plan      tokenPlan // of the latest column
}

// AppendInts appends a column of at most MaxColumnLen integers.
func (e *Encoder) AppendInts(dst []byte, xs []int64) []byte {
	if len(xs) == 0 {
		return dst
	}
	last := xs[len(xs)-1]
	if step, linear := linearStep(xs); linear {
		dst = AppendVarint(append(dst, predictLinear), last)
		return AppendVarint(dst, -step)
	}
	divisor, unchanged := commonDivisor(xs)
	e.reversed = resizeInts(e.reversed, len(xs))
	reverseInts(e.reversed, xs, divisor)
	predictor, groupBytes := choosePredictor(e.reversed)
	if predictor == predictNone && len(xs) >= tokensFrom && unchanged > len(xs)/4 {
		predictor = predictDelta // tokens have short codes for what does not change
	}
	start := len(dst)
	dst = AppendVarint(append(dst, predictor), last)
	if divisor != 1 {
		dst[start] |= hasDivisor
		dst = AppendUvarint(dst, uint64(divisor))
	}
	if predictor == predictDelta2 {
		dst = AppendVarint(dst, e.reversed[1])
	}
	e.residuals = resizeInts(e.residuals, len(xs))
	fillResiduals(e.residuals, e.reversed, predictor)
	reverseRuns(e.residuals)
	dst, packing := e.appendResiduals(dst, groupBytes)
	dst[start] |= packing
	return dst
}

// appendResiduals appends residuals in the packing which takes the fewest bytes. As groups they
// take about groupBytes.
func (e *Encoder) appendResiduals(dst []byte, groupBytes int) ([]byte, byte) {
	rs := e.residuals
	e.plan.bits = 0
	if len(rs) < tokensFrom {
		return appendGroups(dst, rs), packGroups
	}
	if cap(e.symbols) < len(rs) {
		e.symbols = make([]uint8, len(rs))
	}
	planTokens(&e.plan, rs, e.symbols)
	start := len(dst)
	if e.plan.bits > 8*(groupBytes+groupBytes/16) || e.plan.bits < len(rs)*5/4 {
		dst = appendGroups(dst, rs)
		if (len(dst)-start)*8 <= e.plan.bits {
			return dst, packGroups
		}
	}
	dst = appendTokens(dst[:start], rs, e.symbols, &e.plan)
	if e.plan.zero {
		return dst, packZeroTokens
	}
	return dst, packTokens
}

func linearStep(xs []int64) (step int64, linear bool) {
	if len(xs) == 1 {
		return 0, true
	}
	step = xs[1] - xs[0]
	for i := 2; i < len(xs); i++ {
		if xs[i]-xs[i-1] != step {
			return 0, false
		}
	}
	return step, true
}

// commonDivisor returns the greatest common divisor of all differences, and how many of them are 0.
func commonDivisor(xs []int64) (divisor int64, zeros int) {
	low, high := xs[0], xs[0]
	var d uint64
	previous := xs[0]
	for _, x := range xs[1:] {
		low, high = min(low, x), max(high, x)
		delta := uint64(max(x-previous, previous-x))
		previous = x
		if delta == 0 {
			zeros++
			continue
		}
		if d == 1 || delta == d {
			continue
		}
		d = gcd(delta, d)
	}
	if uint64(high)-uint64(low) > 1<<62 {
		return 1, zeros // differences may have wrapped around
	}
	return int64(d), zeros
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// reverseInts sets dst to (x-last)/divisor in reverse order.
func reverseInts(dst, xs []int64, divisor int64) {
	dst = dst[:len(xs)]
	end := len(xs) - 1
	last := xs[end]
	switch {
	case divisor == 1:
		for i, x := range xs {
			dst[end-i] = x - last
		}
	case divisor&(divisor-1) == 0:
		shift := uint(bits.TrailingZeros64(uint64(divisor)))
		for i, x := range xs {
			dst[end-i] = (x - last) >> shift
		}
	default:
		for i, x := range xs {
			dst[end-i] = (x - last) / divisor
		}
	}
}

// choosePredictor estimates the size under each predictor, and returns the least. Of long columns it looks at three pieces.
func choosePredictor(xs []int64) (predictor byte, size int) {
	const piece = groupLen / 2
	if len(xs) < 3 {
		return predictDelta, 0
	}
	pieces := [3][]int64{xs}
	looked := len(xs)
	if looked >= 3*piece {
		pieces = [3][]int64{xs[:piece], xs[len(xs)/2-piece/2:][:piece], xs[len(xs)-piece:]}
		looked = 3 * piece
	}
	low := xs[0] // of all pieces: without a predictor a column which wanders has a wide frame
	for _, p := range pieces {
		for _, x := range p {
			low = min(low, x)
		}
	}
	var s predictorSizes
	for _, p := range pieces {
		if len(p) > 0 {
			s.add(p, low)
		}
	}
	predictor, size = predictDelta2, s.delta2
	switch {
	case s.delta <= s.plain && s.delta <= s.delta2:
		predictor, size = predictDelta, s.delta
	case s.plain <= s.delta2:
		predictor, size = predictNone, s.plain
	}
	return predictor, size * len(xs) / looked
}

// predictorSizes are estimates in bytes.
type predictorSizes struct {
	plain, delta, delta2 int
}

// add adds the sizes of three or more integers, the least of which is low, as if they were one group.
func (s *predictorSizes) add(xs []int64, low int64) {
	var deltas [9]int64
	for i := range deltas {
		at := 1 + i*(len(xs)-1)/len(deltas)
		deltas[i] = xs[at] - xs[at-1]
	}
	center := sampleMedian(deltas[:])
	var plain, delta, delta2 widthCounts
	previous, previousDelta := xs[1], xs[1]-xs[0]
	for _, x := range xs[2:] {
		d := x - previous
		plain[bits.Len64(uint64(x-low))]++
		delta[bits.Len64(ZigZag(d-center))]++
		delta2[bits.Len64(ZigZag(d-previousDelta))]++
		previous, previousDelta = x, d
	}
	n := len(xs) - 2
	s.plain += plain.best(n).size
	s.delta += delta.best(n).size
	s.delta2 += delta2.best(n).size
}

// fillResiduals sets dst to what the predictor leaves of xs. The residuals of integers which the header gives
// already are replaced by the next one, so that they disturb no frame.
func fillResiduals(dst, xs []int64, predictor byte) {
	dst = dst[:len(xs)]
	switch predictor {
	case predictNone:
		copy(dst, xs)
		dst[0] = dst[1]
	case predictDelta:
		previous := xs[0]
		for i, x := range xs {
			dst[i] = x - previous
			previous = x
		}
		dst[0] = dst[1]
	default:
		previous, previousDelta := xs[0], int64(0)
		for i, x := range xs {
			d := x - previous
			dst[i] = d - previousDelta
			previous, previousDelta = x, d
		}
		dst[0], dst[1] = dst[2], dst[2]
	}
}

// reverseRuns brings the residuals of each run of 128 back to the order of time, so that decoders write forwards.
func reverseRuns(rs []int64) {
	for len(rs) > 0 {
		n := min(len(rs), groupLen)
		slices.Reverse(rs[:n])
		rs = rs[n:]
	}
}

func appendGroups(dst []byte, rs []int64) []byte {
	for len(rs) > 0 {
		n := min(len(rs), groupLen)
		dst = appendGroup(dst, rs[:n])
		rs = rs[n:]
	}
	return dst
}

// DecodeInts appends the n integers of a column to dst. Src is the whole column.
func DecodeInts(dst []int64, src []byte, n int) ([]int64, error) {
	var d intsDecoder
	if err := d.init(src, n); err != nil {
		return dst, err
	}
	var tokens *tokenReader
	if d.needsTokens() {
		var t tokenReader
		tokens = &t
		if err := d.startTokens(tokens, n); err != nil {
			return dst, err
		}
	}
	start := len(dst)
	dst = growInts(dst, n)
	for left := dst[start:]; len(left) > 0; {
		at := max(0, len(left)-groupLen)
		if err := d.next(left[at:], tokens); err != nil {
			return dst[:start], err
		}
		left = left[:at]
	}
	if err := d.finish(tokens); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// intsDecoder decodes an integer column in runs of up to 128, from the end of the column to its start.
type intsDecoder struct {
	src       []byte
	predictor byte
	packing   byte
	started   bool
	last      int64
	divisor   int64
	value     int64 // the latest one, before it is multiplied
	delta     int64
}

func (d *intsDecoder) init(src []byte, n int) error {
	if n < 0 || n > MaxColumnLen {
		return errkind.New(errkind.Corrupt, "cannot decode column of %d integers: want at most %d", n, MaxColumnLen)
	}
	if n == 0 {
		d.src, d.predictor = src, predictLinear
		return nil
	}
	if len(src) == 0 || src[0] > predictorMask|packMask|hasDivisor || src[0]&packMask > packZeroTokens {
		return errkind.New(errkind.Corrupt, "cannot decode column of integers of %d bytes: its first byte is missing or unknown", len(src))
	}
	head := src[0]
	d.predictor, d.packing = head&predictorMask, head&packMask
	var err error
	if d.last, src, err = CutVarint(src[1:]); err != nil {
		return err
	}
	if d.predictor == predictLinear {
		if head != predictLinear {
			return errkind.New(errkind.Corrupt, "cannot decode column of integers: first byte %d is unknown", head)
		}
		d.delta, d.src, err = CutVarint(src)
		d.value = -d.delta
		return err
	}
	d.divisor = 1
	if head&hasDivisor != 0 {
		var divisor uint64
		if divisor, src, err = CutUvarint(src); err != nil {
			return err
		}
		d.divisor = int64(divisor)
	}
	if n < 2 || (n < 3 && d.predictor == predictDelta2) {
		return errkind.New(errkind.Corrupt, "cannot decode column of integers: predictor %d does not go with %d of them", d.predictor, n)
	}
	if d.predictor == predictDelta2 {
		if d.delta, src, err = CutVarint(src); err != nil {
			return err
		}
	}
	d.src = src
	return nil
}

// needsTokens reports whether next needs a reader of tokens from startTokens, else it may be nil. A reader is some
// kilobytes, so only columns that need one pay for it; passed as an argument it stays on the stack of the caller.
func (d *intsDecoder) needsTokens() bool { return d.packing != packGroups }

func (d *intsDecoder) startTokens(t *tokenReader, n int) error {
	return t.init(d.src, n, d.packing == packZeroTokens)
}

// lastInt returns the last integer of a column.
func lastInt(src []byte) (int64, error) {
	if len(src) == 0 {
		return 0, errkind.New(errkind.Corrupt, "cannot read the last integer of a column of 0 bytes")
	}
	x, _, err := CutVarint(src[1:])
	return x, err
}

// next fills dst with the integers before those of the call before. Every call but the
// last of a column must ask for 128, so that runs and groups stay in step.
func (d *intsDecoder) next(dst []int64, t *tokenReader) error {
	if d.predictor == predictLinear {
		value, delta, last := d.value, d.delta, d.last
		for i := len(dst) - 1; i >= 0; i-- {
			value += delta
			dst[i] = last + value
		}
		d.value = value
		return nil
	}
	return d.nextRun(dst, t)
}

// residuals decodes the residuals under dst. Those of the integers which the header gives are such that
// they lead there.
func (d *intsDecoder) residuals(dst []int64, t *tokenReader) error {
	var err error
	if d.packing == packGroups {
		d.src, err = decodeGroup(dst, d.src)
	} else {
		err = t.next(dst)
	}
	if err == nil && !d.started {
		d.start(dst)
	}
	return err
}

// nextRun decodes the residuals under dst and undoes predictor, division and offset.
func (d *intsDecoder) nextRun(dst []int64, t *tokenReader) error {
	if err := d.residuals(dst, t); err != nil {
		return err
	}
	last, divisor, value := d.last, d.divisor, d.value
	switch d.predictor {
	case predictNone:
		for i, r := range dst {
			dst[i] = last + r*divisor
		}
	case predictDelta:
		if divisor == 1 {
			value = sumDeltas(dst, last, value)
			break
		}
		for i := len(dst) - 1; i >= 0; i-- {
			value += dst[i]
			dst[i] = last + value*divisor
		}
	default:
		delta := d.delta
		for i := len(dst) - 1; i >= 0; i-- {
			delta += dst[i]
			value += delta
			dst[i] = last + value*divisor
		}
		d.delta = delta
	}
	d.value = value
	return nil
}

// sumDeltas is the commonest case of nextRun.
func sumDeltas(dst []int64, last, value int64) int64 {
	sum := last + value
	for i := len(dst) - 1; i >= 0; i-- {
		sum += dst[i]
		dst[i] = sum
	}
	return sum - last
}

// start sets the state so that the residuals of the integers given by the header lead to them.
func (d *intsDecoder) start(residuals []int64) {
	d.started = true
	last := len(residuals) - 1
	switch d.predictor {
	case predictNone:
		residuals[last] = 0
	case predictDelta:
		d.value = -residuals[last]
	default:
		d.delta -= residuals[last] + residuals[last-1]
		d.value = -(d.delta + residuals[last])
	}
}

// finish checks that the column has been decoded to its last byte.
func (d *intsDecoder) finish(t *tokenReader) error {
	if d.needsTokens() {
		return t.finish()
	}
	if len(d.src) > 0 {
		return errkind.New(errkind.Corrupt, "cannot decode column of integers: %d bytes are left over", len(d.src))
	}
	return nil
}

func growInts(dst []int64, n int) []int64 {
	if cap(dst)-len(dst) < n {
		grown := make([]int64, len(dst), max(len(dst)+n, 2*cap(dst)))
		copy(grown, dst)
		dst = grown
	}
	return dst[:len(dst)+n]
}

func resizeInts(xs []int64, n int) []int64 {
	if cap(xs) < n {
		return make([]int64, n)
	}
	return xs[:n]
}
