package codec

import (
	"encoding/binary"
	"math"
	"math/bits"

	"vmcluster/lib/errkind"
)

// streamReader reads the integers of a stream.
type streamReader struct {
	src   []byte
	pos   uint // in bits
	last  int64
	slope int64
	k     uint8
	count uint16
}

// window returns at least 57 bits from the current position on; behind the end they are 0.
func (r *streamReader) window() uint64 {
	at := r.pos >> 3
	if at+8 <= uint(len(r.src)) {
		return binary.LittleEndian.Uint64(r.src[at:]) >> (r.pos & 7)
	}
	var w uint64
	for i := min(at+8, uint(len(r.src))); i > at; i-- {
		w = w<<8 | uint64(r.src[i-1])
	}
	return w >> (r.pos & 7)
}

// read returns the next n bits, at most 64.
func (r *streamReader) read(n uint) uint64 {
	if n > 32 {
		low := r.read(32)
		return low | r.read(n-32)<<32
	}
	v := r.window() & (1<<n - 1)
	r.pos += n
	return v
}

// ints decodes until dst is full or something comes which is no code of an integer, and returns how many there were.
func (r *streamReader) ints(dst []int64) int {
	src, pos, last, slope, k, count := r.src, r.pos, r.last, r.slope, r.k, r.count
	n := 0
	for n < len(dst) {
		at := pos >> 3
		if at+8 > uint(len(src)) {
			break
		}
		w := binary.LittleEndian.Uint64(src[at:]) >> (pos & 7)
		q := uint(bits.TrailingZeros64(^w))
		low := uint(k / streamKUnit)
		if q >= streamEscape || low > 57-streamEscape {
			break
		}
		z := uint64(q)<<(low&63) | w>>((q+1)&63)&(1<<(low&63)-1)
		pos += q + 1 + low
		k = nextK(k, z)
		e := UnZigZag(z)
		delta := e + slope>>3
		last += delta
		slope = nextSlope(slope, e, count)
		count++
		dst[n] = last
		n++
	}
	r.pos, r.last, r.slope, r.k, r.count = pos, last, slope, k, count
	return n
}

// slowInt is ints for one integer, wherever it is and however large.
func (r *streamReader) slowInt() (x int64, ok bool) {
	w := r.window()
	q := uint(bits.TrailingZeros64(^w))
	var z uint64
	switch {
	case q < streamEscape:
		low := uint(r.k / streamKUnit)
		r.pos += q + 1
		z = uint64(q)<<(low&63) | r.read(low)
		r.k = nextK(r.k, z)
	case w>>streamEscape&3 == escapeLong:
		n := uint(w>>(streamEscape+2))&63 + 1
		r.pos += streamEscape + 2 + 6
		z = r.read(n)
		r.k = kAfterLong(n)
	default:
		return 0, false
	}
	e := UnZigZag(z)
	delta := e + r.slope>>3
	r.last += delta
	r.slope = nextSlope(r.slope, e, r.count)
	r.count++
	return r.last, true
}

// finish checks that all which was read was there, and no more than the rest of a word behind it.
func (r *streamReader) finish() error {
	if n := (r.pos + 7) / 8; n > uint(len(r.src)) || n+8 <= uint(len(r.src)) {
		return errkind.New(errkind.Corrupt, "cannot decode stream of %d bytes: its contents take %d", len(r.src), n)
	}
	return nil
}

// DecodeStreamInts appends the first n integers of a stream to dst. Src holds the words taken from it and its tail.
func DecodeStreamInts(dst []int64, src []byte, n int) ([]int64, error) {
	if n < 1 || n > MaxStreamLen {
		return dst, errkind.New(errkind.Corrupt, "cannot decode stream of %d integers", n)
	}
	start := len(dst)
	dst = growInts(dst, n)
	dst[start] = 0
	r := streamReader{src: src, k: streamFirstK * streamKUnit, count: 1}
	for rest := dst[start+1:]; len(rest) > 0; {
		rest = rest[r.ints(rest):]
		if len(rest) == 0 {
			break
		}
		var ok bool
		if rest[0], ok = r.slowInt(); !ok {
			return dst[:start], errkind.New(errkind.Corrupt, "cannot decode stream of integers: it has something else")
		}
		rest = rest[1:]
	}
	if r.pos > 8*uint(len(src)) {
		return dst[:start], errkind.New(errkind.Corrupt, "cannot decode stream of integers: it is cut off")
	}
	return dst, nil
}

// decodeStream decodes the last len(dst) of n values. Streams are read from the front, so that saves little.
func decodeStream(dst []float64, src []byte, n int) error {
	lead, src, err := CutUvarint(src)
	if err != nil {
		return err
	}
	if lead&1 != 0 {
		if len(src) < 8 {
			return errkind.New(errkind.Corrupt, "the last value of a stream is cut off")
		}
		src = src[8:]
	}
	lead >>= 1
	if lead == 0 || lead >= uint64(n) || n > MaxStreamLen {
		return errkind.New(errkind.Corrupt, "%d of %d values come before the first change", lead, n)
	}
	d := valuesReader{streamReader: streamReader{src: src, k: streamFirstK * streamKUnit, count: uint16(lead)}}
	d.scale = uint(d.read(5))
	first := math.Float64frombits(d.read(64))
	d.last = streamInteger(first, d.scale)
	skip := n - len(dst)
	for i := skip; i < int(lead); i++ {
		dst[i-skip] = first
	}
	var skipped [groupLen]float64
	at := int(lead)
	for at < skip {
		m := min(skip-at, len(skipped))
		d.values(skipped[:m])
		at += m
	}
	d.values(dst[at-skip:])
	return d.finish()
}

// streamInteger returns the integer which goes with the first value of a stream.
func streamInteger(v float64, scale uint) int64 {
	s := Stream{scale: uint8(scale)}
	x, _ := s.integer(v)
	return x
}

// valuesReader reads the values of a stream.
type valuesReader struct {
	streamReader
	scale uint
}

func (d *valuesReader) values(dst []float64) {
	var buf [groupLen]int64
	for len(dst) > 0 {
		run := buf[:min(len(dst), groupLen)]
		n := d.ints(run)
		streamValues(dst[:n], run, d.scale)
		dst = dst[n:]
		if n == len(run) {
			continue
		}
		if x, ok := d.slowInt(); ok {
			streamValues(dst[:1], []int64{x}, d.scale)
		} else {
			dst[0] = d.escape()
		}
		dst = dst[1:]
	}
}

// escape reads a value which is no code of an integer.
func (d *valuesReader) escape() float64 {
	kind := d.window() >> streamEscape & 3
	d.pos += streamEscape + 2
	d.count++
	switch kind {
	case escapeRaw:
		return math.Float64frombits(d.read(64))
	case escapeSpecial:
		return math.Float64frombits(specialBits(d.read(2)))
	}
	d.scale = uint(d.read(5))
	d.slope, d.last = 0, int64(d.read(64))
	var v [1]float64
	streamValues(v[:], []int64{d.last}, d.scale)
	return v[0]
}

// streamValues turns the first integers of run into values.
func streamValues(dst []float64, run []int64, scale uint) {
	switch {
	case scale == 0:
		for i := range dst {
			dst[i] = float64(run[i])
		}
	case scale <= streamMaxScale:
		power := math.Pow10(int(scale))
		for i := range dst {
			dst[i] = float64(run[i]) / power
		}
	case scale == streamScaleBits:
		for i := range dst {
			dst[i] = math.Float64frombits(uint64(flipNegative(run[i])))
		}
	default:
		for i := range dst {
			dst[i] = float64(run[i] << (scale - streamShift))
		}
	}
}
