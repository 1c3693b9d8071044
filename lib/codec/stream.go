package codec

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// A stream is a column of values or timestamps that grows by one at a time and can be read
// at any moment. Its integers are predicted by a running mean of their differences, and what the prediction
// misses is written with an adaptive Rice code: q ones, a zero, k bits. K follows the last codes.
// streamEscape ones and two bits stand for something else.

const (
	streamEscape = 12 // ones that end the unary part of a code

	escapeLong    = 0 // 6 bits length-1, residual
	escapeRaw     = 1 // 64 bits of a value
	escapeSpecial = 2 // 2 bits: one of specialBits
	escapeRestart = 3 // 5 bits scale, 64 bits integer

	streamMaxScale  = 15 // decimals; integers are below 2^53 then
	streamShift     = 15 // scales beyond are powers of two that divide all values, such as sizes in pages
	streamMinShift  = 5
	streamMaxShift  = 15
	streamScaleBits = 31 // in place of a scale: integers are ordered bits of values

	streamMaxK   = 52
	streamFirstK = 4
	streamKUnit  = 4 // k is kept in quarters
)

// specialBits are the values that exporters use in place of numbers: stale marker, NaN, +Inf, -Inf.
func specialBits(i uint64) uint64 {
	switch i {
	case 0:
		return 0x7ff0000000000002
	case 1:
		return 0x7ff8000000000001
	case 2:
		return 0x7ff0000000000000
	}
	return 0xfff0000000000000
}

// Stream is the state of a stream which grows. It has no pointers and takes 48 bytes. The bits it has
// written go to the owner's memory word by word: after each append the owner calls Take until it has none left to give.
// The zero value is an empty stream.
type Stream struct {
	words [3]uint64 // bits not yet taken: less than 64 before, and at most 153 more behind an append
	last  int64     // newest integer; of a constant, the bits of the value
	slope int64     // the expected difference, times 8
	count uint16
	lead  uint16 // values before the first change, and flags once there is one
	scale uint8
	k     uint8 // times streamKUnit
	used  uint8 // bits in words
	bad   uint8 // streamInexact if the newest value is no integer; the rest grows with each which is not
}

// The format byte of a stream: format, and what is known of the values.
const (
	streamFormatMask     = 0x0f
	streamNoNaN          = 0x10
	streamNeverDecreases = 0x20
)

const (
	streamInexact  = 1
	streamBadStep  = 16
	streamBadLimit = 64 // of bad, from which the integers become ordered bits

	// Flags of lead.
	streamHasNaN  = 1 << 15
	streamFalls   = 1 << 14 // a number may be less than the one before
	streamLeadMax = streamFalls - 1

	// MaxStreamLen is the largest number of values or integers in a stream.
	MaxStreamLen = streamLeadMax
)

// Len returns the number of values or integers.
func (s *Stream) Len() int { return int(s.count) }

// IsConst reports whether all values are equal; nothing has been written then.
func (s *Stream) IsConst() bool { return s.lead == 0 }

// Append adds a value. At most MaxStreamLen go into a stream.
func (s *Stream) Append(v float64) {
	if s.lead == 0 {
		s.appendFirst(v)
		return
	}
	x, exact := s.integer(v)
	if !exact {
		s.appendInexact(v)
		return
	}
	if s.bad > 0 {
		s.bad = max(s.bad&^streamInexact, 2) - 2
	}
	if v != v {
		s.lead |= streamHasNaN
	}
	s.put(x)
}

// appendFirst adds a value to a stream of equal values.
func (s *Stream) appendFirst(v float64) {
	b := int64(math.Float64bits(v))
	if s.count == 0 {
		s.last = b
	}
	if s.last == b {
		s.count++
		return
	}
	first := math.Float64frombits(uint64(s.last))
	s.lead = s.count
	if first != first {
		s.lead |= streamHasNaN
	}
	s.k = streamFirstK * streamKUnit
	s.scale = firstScale(first, v)
	s.write(uint64(s.scale), 5)
	s.write(uint64(s.last), 64)
	s.last, _ = s.integer(first)
	s.Append(v)
}

// firstScale returns a scale for a stream which starts with values a and b.
func firstScale(a, b float64) uint8 {
	scale, ok := streamDecimals(a, 0)
	if !ok {
		return streamScaleBits
	}
	if more, ok := streamDecimals(b, scale); ok {
		scale = more
	}
	if scale > 0 {
		return uint8(scale)
	}
	return shiftScale(int64(a) | int64(b))
}

// shiftScale returns the scale for integers whose common trailing zeros are those of x.
func shiftScale(x int64) uint8 {
	shift := min(bits.TrailingZeros64(uint64(x)), streamMaxShift)
	if shift < streamMinShift {
		return 0
	}
	return streamShift + uint8(shift)
}

// Repeats reports whether v is known to be the newest value bit by bit.
func (s *Stream) Repeats(v float64) bool {
	if s.lead == 0 {
		return s.count > 0 && s.last == int64(math.Float64bits(v))
	}
	x, exact := s.integer(v)
	return exact && x == s.last && s.bad&streamInexact == 0
}

// integer returns the integer of a value, if the value can be had back from it.
func (s *Stream) integer(v float64) (x int64, exact bool) {
	switch s.scale {
	case 0:
		x = int64(v)
		return x, math.Float64bits(float64(x)) == math.Float64bits(v)
	case streamScaleBits:
		return flipNegative(int64(math.Float64bits(v))), true
	}
	if s.scale <= streamMaxScale {
		return streamScaled(v, int(s.scale))
	}
	shift := s.scale - streamShift
	x = int64(v) >> (shift & 63)
	return x, math.Float64bits(float64(x<<(shift&63))) == math.Float64bits(v)
}

func streamScaled(v float64, scale int) (x int64, exact bool) {
	power := math.Pow10(scale)
	product := v * power
	if !(math.Abs(product) < 1<<53) { // also NaN
		return 0, false
	}
	x = int64(math.RoundToEven(product))
	return x, math.Float64bits(float64(x)/power) == math.Float64bits(v)
}

// streamDecimals returns the smallest number of decimals, and at least atLeast, with which v is exact.
func streamDecimals(v float64, atLeast int) (decimals int, ok bool) {
	for scale := atLeast; scale <= streamMaxScale; scale++ {
		if _, exact := streamScaled(v, scale); exact {
			return scale, true
		}
		if !(math.Abs(v) < 1<<53) {
			break
		}
	}
	return 0, false
}

// appendInexact adds a value which is no integer at the scale of the stream.
func (s *Stream) appendInexact(v float64) {
	b := math.Float64bits(v)
	if scale, ok := nextScale(v, s.scale); ok {
		s.restart(scale, v)
		return
	}
	if v != v {
		s.lead |= streamHasNaN
	} else {
		s.lead |= streamFalls // it may, which no one looks up
	}
	for i := range uint64(4) {
		if specialBits(i) == b {
			s.write(1<<streamEscape-1|escapeSpecial<<streamEscape|i<<(streamEscape+2), streamEscape+4)
			s.bad |= streamInexact
			s.count++
			return
		}
	}
	if s.bad+streamBadStep >= streamBadLimit {
		s.restart(streamScaleBits, v)
		return
	}
	s.write(1<<streamEscape-1|escapeRaw<<streamEscape, streamEscape+2)
	s.write(b, 64)
	s.bad = (s.bad + streamBadStep) | streamInexact
	s.count++
}

// nextScale returns a scale which suits v, when that of the stream does not, and is closer to suiting all.
func nextScale(v float64, scale uint8) (uint8, bool) {
	least := int(scale)
	if scale > streamMaxScale {
		least = 0
	}
	decimals, ok := streamDecimals(v, least)
	if ok && decimals == 0 {
		return shiftScale(int64(v) | 1<<(scale-streamShift)), true
	}
	return uint8(decimals), ok
}

// restart goes on at another scale, with v as first value.
func (s *Stream) restart(scale uint8, v float64) {
	if !(s.number() <= v) {
		s.lead |= streamFalls
	}
	s.scale, s.bad, s.slope = scale, 0, 0
	s.last, _ = s.integer(v)
	s.write(1<<streamEscape-1|escapeRestart<<streamEscape|uint64(scale)<<(streamEscape+2), streamEscape+2+5)
	s.write(uint64(s.last), 64)
	s.count++
}

// AppendInt adds an integer to a stream of integers, the first of which must be 0.
func (s *Stream) AppendInt(x int64) {
	if s.count == 0 {
		s.count, s.lead, s.k = 1, 1, streamFirstK*streamKUnit
		return
	}
	s.put(x)
}

// put writes an integer.
func (s *Stream) put(x int64) {
	delta := x - s.last
	e := delta - s.slope>>3
	if x < s.last {
		s.lead |= streamFalls
	}
	s.last = x
	s.slope = nextSlope(s.slope, e, s.count)
	s.count++
	z := ZigZag(e)
	k := uint(s.k / streamKUnit)
	q := z >> (k & 63)
	if q >= streamEscape {
		n := uint(bits.Len64(z))
		s.write(1<<streamEscape-1|escapeLong<<streamEscape|uint64(n-1)<<(streamEscape+2), streamEscape+2+6)
		s.write(z, n)
		s.k = kAfterLong(n)
		return
	}
	s.write(1<<(q&63)-1|(z&(1<<(k&63)-1))<<((q+1)&63), uint(q)+1+k)
	s.k = nextK(s.k, z)
}

// nextSlope follows the mean of the differences: the first ones exactly, then an eighth of the way each time.
func nextSlope(slope, e int64, count uint16) int64 {
	if count < 4 {
		return slope + e<<(4-count)
	}
	return slope + e
}

func kAfterLong(n uint) uint8 { return uint8(min(n-1, streamMaxK) * streamKUnit) }

// nextK follows the sizes of residuals, of which z is the latest: down by a quarter when it took no ones, by more when
// nearly all of its bits were 0, up by a quarter for each one beyond the first.
func nextK(k uint8, z uint64) uint8 {
	const steps = "\x00" + // sixteenths of 1<<k: none
		"\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03" +
		"\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04"
	sixteenths := z << 4 >> (k / streamKUnit & 63)
	step := 4 + int(sixteenths>>4)
	if sixteenths < uint64(len(steps)) {
		step = int(steps[sixteenths])
	}
	return uint8(min(max(int(k)+step-4, 0), streamMaxK*streamKUnit))
}

// write adds n bits, 1 to 64.
func (s *Stream) write(v uint64, n uint) {
	at, shift := uint(s.used)>>6, uint(s.used)&63
	s.used += uint8(n)
	switch at {
	case 0:
		s.words[0] |= v << shift
		s.words[1] |= v >> (64 - shift) // shifts of 64 give 0
	case 1:
		s.words[1] |= v << shift
		s.words[2] |= v >> (64 - shift)
	default:
		s.words[2] |= v << shift
	}
}

// Full reports whether Take has a word to give.
func (s *Stream) Full() bool { return s.used >= 64 }

// Take hands out the oldest full word, which there must be.
func (s *Stream) Take() uint64 {
	word := s.words[0]
	s.words[0], s.words[1], s.words[2] = s.words[1], s.words[2], 0
	s.used -= 64
	return word
}

// End pads a stream which has ended to full words.
func (s *Stream) End() { s.used = (s.used + 63) &^ 63 }

// First returns the value of a constant stream.
func (s *Stream) First() float64 { return math.Float64frombits(uint64(s.last)) }

// number returns the value that goes with the newest integer.
func (s *Stream) number() float64 {
	var v [1]float64
	streamValues(v[:], []int64{s.last}, uint(s.scale))
	return v[0]
}

// StreamHeader is what the front of a column of values says of a stream which is not constant.
type StreamHeader struct {
	Lead uint16 // 0 for a constant stream
	Last uint64 // bits of the newest value, or noLast
}

// noLast are the bits of a NaN which nobody uses. It stands for a value which the stream does not know any more.
const noLast = 0xfff7_c0de_c0de_c0de

// Header returns the header of a stream which is not constant, as of now.
func (s *Stream) Header() StreamHeader {
	if s.bad&streamInexact != 0 {
		return StreamHeader{Lead: s.lead, Last: noLast}
	}
	return StreamHeader{Lead: s.lead, Last: math.Float64bits(s.number())}
}

// AppendTo appends the front of a column of values. What follows is the words taken from the stream, in
// little endian, and AppendTail.
func (x StreamHeader) AppendTo(dst []byte) []byte {
	format := byte(valuesStream)
	if x.Lead&streamHasNaN == 0 {
		format |= streamNoNaN
	}
	if x.Lead&streamFalls == 0 {
		format |= streamNeverDecreases
	}
	lead := uint64(x.Lead&streamLeadMax) << 1
	if x.Last == noLast {
		return AppendUvarint(append(dst, format), lead)
	}
	dst = AppendUvarint(append(dst, format), lead|1)
	return binary.LittleEndian.AppendUint64(dst, x.Last)
}

// StreamLast returns the last value of a column, if the column is a stream and says so in front.
func StreamLast(src []byte) (v float64, ok bool) {
	if !IsStream(src) {
		return 0, false
	}
	lead, tail, err := CutUvarint(src[1:])
	if err != nil || lead&1 == 0 || len(tail) < 8 {
		return 0, false
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(tail)), true
}

// AppendConst appends a whole column of equal values.
func AppendConst(dst []byte, v float64) []byte {
	var e Encoder
	return e.AppendValues(dst, []float64{v})
}

// IsStream reports whether a column of values is a stream, which can be made smaller.
func IsStream(src []byte) bool { return len(src) > 0 && src[0]&streamFormatMask == valuesStream }

// AppendTail appends the bits not yet taken.
func (s *Stream) AppendTail(dst []byte) []byte {
	var b [24]byte
	for i, w := range s.words {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	return append(dst, b[:(s.used+7)/8]...)
}
