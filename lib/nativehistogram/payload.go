package nativehistogram

import (
	"bytes"
	"encoding/binary"
	"math"

	"vmcluster/lib/errkind"
)

const (
	payloadVersion = 1

	// The second byte of a payload.
	hintMask  = 3
	floatFlag = 4
)

// MaxPayloadBytes is the size of the largest payload of a histogram that passes Check, or more.
const MaxPayloadBytes = 256 << 10

// Append appends the payload. The histogram has passed Check. Spans are written without empty ones and without gaps of nothing.
func (h *Histogram) Append(dst []byte) []byte {
	flags := byte(h.Hint) & hintMask
	if h.Float {
		flags |= floatFlag
	}
	dst = append(dst, payloadVersion, flags)
	if h.Float {
		dst = appendFloat(appendFloat(dst, h.FloatCount), h.FloatZero)
	} else {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, h.Count), h.ZeroCount)
	}
	dst = appendFloat(dst, h.Sum)
	dst = appendFloat(binary.AppendVarint(dst, int64(h.Schema)), h.ZeroThreshold)
	if h.Schema == CustomBuckets {
		dst = binary.AppendUvarint(dst, uint64(len(h.CustomValues)))
		for _, v := range h.CustomValues {
			dst = appendFloat(dst, v)
		}
	}
	dst = appendSpans(appendSpans(dst, h.Positive.Spans), h.Negative.Spans)
	return h.Negative.appendCounts(h.Positive.appendCounts(dst, h.Float), h.Float)
}

// appendSpans appends how many spans there are, then the first index, the first length, and gap and length of each other one.
func appendSpans(dst []byte, spans []Span) []byte {
	n := 0
	mergeSpans(spans, func(int64, uint64) { n++ })
	dst = binary.AppendUvarint(dst, uint64(n))
	first := true
	mergeSpans(spans, func(gap int64, length uint64) {
		if first {
			dst = binary.AppendVarint(dst, gap)
		} else {
			dst = binary.AppendUvarint(dst, uint64(gap))
		}
		first = false
		dst = binary.AppendUvarint(dst, length)
	})
	return dst
}

// mergeSpans calls use with spans none of which is empty and, but for the first, none of which follows the one before it without a gap.
func mergeSpans(spans []Span, use func(gap int64, length uint64)) {
	gap, length := int64(0), uint64(0)
	for _, s := range spans {
		switch {
		case length == 0:
			gap += int64(s.Offset)
			length = uint64(s.Length)
		case s.Offset == 0:
			length += uint64(s.Length)
		case s.Length == 0:
			use(gap, length)
			gap, length = int64(s.Offset), 0
		default:
			use(gap, length)
			gap, length = int64(s.Offset), uint64(s.Length)
		}
	}
	if length > 0 {
		use(gap, length)
	}
}

func (b *Buckets) appendCounts(dst []byte, float bool) []byte {
	if float {
		for _, v := range b.Floats {
			dst = appendFloat(dst, v)
		}
		return dst
	}
	return appendDeltas(dst, b.Counts)
}

// appendDeltas appends the first count, then the difference of each to the one before.
func appendDeltas(dst []byte, counts []uint64) []byte {
	last := uint64(0)
	for _, n := range counts {
		dst = binary.AppendVarint(dst, int64(n-last))
		last = n
	}
	return dst
}

// appendFloat appends how many bytes follow, then the bits, highest byte first, without the zero bytes at the end.
func appendFloat(dst []byte, v float64) []byte {
	at := len(dst)
	dst = append(dst, 0)
	for b := math.Float64bits(v); b != 0; b <<= 8 {
		dst = append(dst, byte(b>>56))
		dst[at]++
	}
	return dst
}

// cursor reads the pieces of payloads. After a fault all it reads is zero. There is one way to write each piece; others are faults, so that what
// can be read is canonical.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() {
	c.b, c.bad = nil, true
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	x := c.b[0]
	c.b = c.b[1:]
	return x
}

func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		x := c.b[0]
		c.b = c.b[1:]
		return uint64(x)
	}
	x, n := binary.Uvarint(c.b)
	if n <= 0 || c.b[n-1] == 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return x
}

func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (c *cursor) float() float64 {
	n := int(c.byte())
	if n > 8 || n > len(c.b) || n > 0 && c.b[n-1] == 0 {
		c.fail()
		return 0
	}
	bits := uint64(0)
	for i, x := range c.b[:n] {
		bits |= uint64(x) << (56 - 8*i)
	}
	c.b = c.b[n:]
	return math.Float64frombits(bits)
}

// count reads how many things follow, each of which takes one byte or more.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail()
		return 0
	}
	return int(n)
}

// pieces tells where the pieces of a payload are in it.
type pieces struct {
	frame  int // schema, threshold and custom values
	layout int // spans
	counts int
}

// Parse reads a payload, the whole of it. Errors are of kind Corrupt; h is then in disorder. A payload which can be read is what Append
// makes of h.
func (h *Histogram) Parse(payload []byte) error {
	_, err := h.parse(payload)
	return err
}

func (h *Histogram) parse(payload []byte) (p pieces, err error) {
	c := cursor{b: payload}
	version, flags := c.byte(), c.byte()
	if version != payloadVersion || flags&^(hintMask|floatFlag) != 0 {
		return p, errkind.New(errkind.Corrupt, "cannot decode histogram of %d bytes: its version or flags are missing or unknown", len(payload))
	}
	h.Hint, h.Float = ResetHint(flags&hintMask), flags&floatFlag != 0
	h.Count, h.ZeroCount, h.FloatCount, h.FloatZero = 0, 0, 0, 0
	if h.Float {
		h.FloatCount, h.FloatZero = c.float(), c.float()
	} else {
		h.Count, h.ZeroCount = c.uvarint(), c.uvarint()
	}
	h.Sum = c.float()
	p.frame = len(payload) - len(c.b)
	h.parseFrame(&c)
	p.layout = len(payload) - len(c.b)
	positive, negative := h.Positive.parseSpans(&c), h.Negative.parseSpans(&c)
	p.counts = len(payload) - len(c.b)
	h.Positive.parseCounts(&c, positive, h.Float)
	h.Negative.parseCounts(&c, negative, h.Float)
	if c.bad || len(c.b) > 0 {
		return p, errkind.New(errkind.Corrupt, "cannot decode histogram of %d bytes: it is cut off, too long or not canonical", len(payload))
	}
	return p, nil
}

func (h *Histogram) parseFrame(c *cursor) {
	schema := c.varint()
	h.Schema, h.ZeroThreshold = int32(schema), c.float()
	h.CustomValues = h.CustomValues[:0]
	if int64(h.Schema) != schema {
		c.fail()
	}
	if h.Schema != CustomBuckets {
		return
	}
	for range c.count() {
		h.CustomValues = append(h.CustomValues, c.float())
	}
}

// parseSpans reads the spans of one sign and returns how many buckets they have, which is not bounded.
func (b *Buckets) parseSpans(c *cursor) (buckets uint64) {
	b.Spans = b.Spans[:0]
	for i := range c.count() {
		gap := int64(0)
		if i == 0 {
			gap = c.varint()
		} else if u := c.uvarint(); u > 0 && u <= math.MaxInt32 {
			gap = int64(u)
		} else {
			c.fail()
		}
		length := c.uvarint()
		if gap != int64(int32(gap)) || length == 0 || length > math.MaxUint32 {
			c.fail()
		}
		b.Spans = append(b.Spans, Span{Offset: int32(gap), Length: uint32(length)})
		buckets += length
	}
	return buckets
}

func (b *Buckets) parseCounts(c *cursor, n uint64, float bool) {
	b.Counts, b.Floats = b.Counts[:0], b.Floats[:0]
	if n > uint64(len(c.b)) {
		c.fail()
		return
	}
	if float {
		for range n {
			b.Floats = append(b.Floats, c.float())
		}
		return
	}
	last := uint64(0)
	for range n {
		last += uint64(c.varint())
		b.Counts = append(b.Counts, last)
	}
}

// Better reports whether the histogram of payload a stays rather than the one of b, when both are of one series and one time: the one with the
// larger count or, if these are equal, the one whose bytes are larger. This is a total order, also of bytes that are no payload.
func Better(a, b []byte) bool {
	if x, y := countOf(a), countOf(b); x != y {
		return x > y
	}
	return bytes.Compare(a, b) > 0
}

// countOf returns the count of a payload; what is none, or not a number, is less than all counts.
func countOf(payload []byte) float64 {
	c := cursor{b: payload}
	version, flags := c.byte(), c.byte()
	var n float64
	if flags&floatFlag != 0 {
		n = c.float()
	} else {
		n = float64(c.uvarint())
	}
	if c.bad || version != payloadVersion || n != n {
		return math.Inf(-1)
	}
	return n
}
