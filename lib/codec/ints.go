package codec

import (
	"math/bits"

	"vmcluster/lib/errkind"
)

// MaxColumnLen is the largest number of integers or values in a column.
const MaxColumnLen = 1 << 16

// The predictors of an integer column, its first byte.
const (
	predictNone   = 0 // first, divisor, groups of (x-first)/divisor
	predictDelta  = 1 // first, divisor, groups of the deltas of (x-first)/divisor
	predictDelta2 = 2 // first, divisor, first delta, groups of the deltas of deltas of (x-first)/divisor
	predictLinear = 3 // first, step: x = first + i*step
)

// Encoder encodes columns. It keeps scratch memory, so reusing it saves
// allocations; the zero value is ready to use.
type Encoder struct {
	ints []int64
}

// AppendInts appends a column of at most MaxColumnLen integers.
func (e *Encoder) AppendInts(dst []byte, xs []int64) []byte {
	if len(xs) == 0 {
		return dst
	}
	first := xs[0]
	step, linear := linearStep(xs)
	if linear {
		dst = AppendVarint(append(dst, predictLinear), first)
		return AppendVarint(dst, step)
	}
	divisor := commonDivisor(xs)
	if divisor > 1 {
		e.ints = resizeInts(e.ints, len(xs)) // xs may be e.ints itself
		divideInts(e.ints, xs, divisor)
		xs = e.ints
	}
	predictor := choosePredictor(xs)
	dst = AppendVarint(append(dst, predictor), first)
	dst = AppendUvarint(dst, uint64(divisor))
	return appendGroups(dst, xs, predictor)
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

// commonDivisor returns the greatest common divisor of all differences.
func commonDivisor(xs []int64) int64 {
	low, high := xs[0], xs[0]
	var divisor uint64
	previous := xs[0]
	for _, x := range xs[1:] {
		low, high = min(low, x), max(high, x)
		delta := uint64(max(x-previous, previous-x))
		previous = x
		if divisor == 1 || delta == 0 || delta == divisor {
			continue
		}
		divisor = gcd(delta, divisor)
	}
	if uint64(high)-uint64(low) > 1<<62 {
		return 1 // differences may have wrapped around
	}
	return int64(divisor)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// divideInts sets dst to (x-first)/divisor.
func divideInts(dst, xs []int64, divisor int64) {
	first := xs[0]
	if divisor&(divisor-1) == 0 {
		shift := uint(bits.TrailingZeros64(uint64(divisor)))
		for i, x := range xs {
			dst[i] = (x - first) >> shift
		}
		return
	}
	for i, x := range xs {
		dst[i] = (x - first) / divisor
	}
}

// choosePredictor estimates the size under each predictor. Of long columns it looks at three pieces.
func choosePredictor(xs []int64) byte {
	const piece = groupLen / 2
	if len(xs) < 3 {
		return predictDelta
	}
	var s predictorSizes
	if len(xs) < 3*piece {
		s.add(xs)
	} else {
		s.add(xs[:piece])
		s.add(xs[len(xs)/2-piece/2:][:piece])
		s.add(xs[len(xs)-piece:])
	}
	switch {
	case s.delta <= s.plain && s.delta <= s.delta2:
		return predictDelta
	case s.plain <= s.delta2:
		return predictNone
	}
	return predictDelta2
}

// predictorSizes are estimates in bytes.
type predictorSizes struct {
	plain, delta, delta2 int
}

// add adds the sizes of three or more integers, as if they were one group.
func (s *predictorSizes) add(xs []int64) {
	low := xs[0]
	for _, x := range xs {
		low = min(low, x)
	}
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

// appendGroups appends the residuals. Those of the integers that the header gives
// already are replaced by the next one, so that they disturb no frame.
func appendGroups(dst []byte, xs []int64, predictor byte) []byte {
	var residuals [groupLen]int64
	first, previous, previousDelta := xs[0], xs[0], int64(0)
	known := 1
	if predictor == predictDelta2 {
		dst = AppendVarint(dst, xs[1]-xs[0])
		known = 2
	}
	for len(xs) > 0 {
		n := min(len(xs), groupLen)
		group := residuals[:n]
		switch predictor {
		case predictNone:
			for i, x := range xs[:n] {
				group[i] = x - first
			}
		case predictDelta:
			for i, x := range xs[:n] {
				group[i] = x - previous
				previous = x
			}
		default:
			for i, x := range xs[:n] {
				d := x - previous
				group[i] = d - previousDelta
				previous, previousDelta = x, d
			}
		}
		for ; known > 0; known-- {
			group[known-1] = group[known]
		}
		dst = appendGroup(dst, group)
		xs = xs[n:]
	}
	return dst
}

// DecodeInts appends the n integers of a column to dst. Src is the whole column.
func DecodeInts(dst []int64, src []byte, n int) ([]int64, error) {
	var d intsDecoder
	if err := d.init(src, n); err != nil {
		return dst, err
	}
	start := len(dst)
	dst = growInts(dst, n)
	for at := start; at < len(dst); {
		m := min(len(dst)-at, groupLen)
		if err := d.next(dst[at : at+m]); err != nil {
			return dst[:start], err
		}
		at += m
	}
	if err := d.finish(); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// intsDecoder decodes an integer column in runs of up to 128.
type intsDecoder struct {
	src       []byte
	predictor byte
	started   bool
	first     int64
	divisor   int64
	value     int64 // the last one, before it is multiplied
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
	if len(src) == 0 || src[0] > predictLinear {
		return errkind.New(errkind.Corrupt, "cannot decode column of integers of %d bytes: its predictor is missing or unknown", len(src))
	}
	d.predictor = src[0]
	var err error
	if d.first, src, err = CutVarint(src[1:]); err != nil {
		return err
	}
	if d.predictor == predictLinear {
		d.delta, d.src, err = CutVarint(src)
		d.value, d.divisor = -d.delta, 1
		return err
	}
	divisor, src, err := CutUvarint(src)
	if err != nil {
		return err
	}
	if n < 2 || (n < 3 && d.predictor == predictDelta2) {
		return errkind.New(errkind.Corrupt, "cannot decode column of integers: predictor %d does not go with %d of them", d.predictor, n)
	}
	d.divisor = int64(divisor)
	if d.predictor == predictDelta2 {
		d.delta, src, err = CutVarint(src)
	}
	d.src = src
	return err
}

// next fills dst. Every call but the last of a column must ask for 128
// integers, so that runs and groups stay in step.
func (d *intsDecoder) next(dst []int64) error {
	if d.predictor == predictLinear {
		value, delta, first := d.value, d.delta, d.first
		for i := range dst {
			value += delta
			dst[i] = first + value
		}
		d.value = value
		return nil
	}
	return d.nextRun(dst)
}

// nextRun decodes the group under dst and undoes predictor, division and offset.
func (d *intsDecoder) nextRun(dst []int64) error {
	tail, err := decodeGroup(dst, d.src)
	if err != nil {
		return err
	}
	d.src = tail
	if !d.started {
		d.start(dst)
	}
	first, divisor, value := d.first, d.divisor, d.value
	switch d.predictor {
	case predictNone:
		for i, r := range dst {
			dst[i] = first + r*divisor
		}
	case predictDelta:
		if divisor == 1 {
			value = sumDeltas(dst, first, value)
			break
		}
		for i, r := range dst {
			value += r
			dst[i] = first + value*divisor
		}
	default:
		delta := d.delta
		for i, r := range dst {
			delta += r
			value += delta
			dst[i] = first + value*divisor
		}
		d.delta = delta
	}
	d.value = value
	return nil
}

// sumDeltas is the commonest case of nextRun.
func sumDeltas(dst []int64, first, value int64) int64 {
	sum := first + value
	for i, r := range dst {
		sum += r
		dst[i] = sum
	}
	return sum - first
}

// start sets the state so that the residuals of the integers given by the header lead to them.
func (d *intsDecoder) start(residuals []int64) {
	d.started = true
	switch d.predictor {
	case predictNone:
		residuals[0] = 0
	case predictDelta:
		d.value = -residuals[0]
	default:
		d.delta -= residuals[0] + residuals[1]
		d.value = -(d.delta + residuals[0])
	}
}

func (d *intsDecoder) finish() error {
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
