package nativehistogram

import (
	"encoding/binary"
	"math"
	"math/bits"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// Column is a column which was read. Its memory is used again.
type Column struct {
	Payloads [][]byte // valid until the next one is read into it

	data      []byte // of the payloads
	ends      []int
	layouts   layouts
	spans     [][]byte // of the layouts
	texts     []byte   // of the spans
	positive  []int    // how many of the buckets of each layout are
	starts    []int
	layoutOf  []int64
	hints     []int64
	sums      []float64
	counts    []uint64
	zeros     []uint64
	buckets   []uint64
	constants []uint64
	ints      []int64
	floats    []float64
	h         Histogram
}

func corrupt(format string, args ...any) error {
	return errkind.New(errkind.Corrupt, "cannot decode column of histograms: "+format, args...)
}

// DecodeColumn reads a column of n payloads, the whole of src, into c. Errors are of kind Corrupt.
func DecodeColumn(c *Column, src []byte, n int) error {
	c.Payloads, c.data, c.ends = c.Payloads[:0], c.data[:0], c.ends[:0]
	if len(src) == 0 || src[0] != columnFormat {
		return corrupt("its format is missing or unknown")
	}
	if n < 0 || n > codec.MaxColumnLen {
		return corrupt("it has %d payloads, more than %d", n, codec.MaxColumnLen)
	}
	in := input{b: src[1:]}
	for len(c.ends) < n && in.err == nil {
		head := in.uvarint()
		rows := head >> 1
		if rows == 0 || rows > uint64(n-len(c.ends)) {
			in.fail("a run has %d payloads, but %d are left", rows, n-len(c.ends))
			break
		}
		if head&1 == codedRun {
			c.coded(&in, int(rows))
			continue
		}
		for range rows {
			c.data = append(c.data, in.bytes()...)
			c.ends = append(c.ends, len(c.data))
		}
	}
	if len(in.b) > 0 {
		in.fail("%d bytes are left over", len(in.b))
	}
	if in.err != nil {
		return in.err
	}
	start := 0
	for _, end := range c.ends {
		c.Payloads = append(c.Payloads, c.data[start:end:end])
		start = end
	}
	return nil
}

// input is what is left of a column. After a fault all it gives is nothing.
type input struct {
	b   []byte
	err error
}

func (in *input) fail(format string, args ...any) {
	if in.err == nil {
		in.err = corrupt(format, args...)
	}
	in.b = nil
}

func (in *input) uvarint() uint64 {
	x, tail, err := codec.CutUvarint(in.b)
	if err != nil {
		in.fail("%w", err)
		return 0
	}
	in.b = tail
	return x
}

func (in *input) bytes() []byte {
	b, tail, err := codec.CutBytes(in.b)
	if err != nil {
		in.fail("%w", err)
		return nil
	}
	in.b = tail
	return b
}

// cut returns so many bytes.
func (in *input) cut(n int) []byte {
	if n > len(in.b) {
		in.fail("%d bytes are needed, but %d are left", n, len(in.b))
		return nil
	}
	b := in.b[:n]
	in.b = in.b[n:]
	return b
}

func (in *input) ints(dst []int64, n int) []int64 {
	b := in.bytes()
	if in.err != nil {
		return dst
	}
	dst, err := codec.DecodeInts(dst, b, n)
	if err != nil {
		in.fail("%w", err)
	}
	return dst
}

func (in *input) values(dst []float64, n int) []float64 {
	b := in.bytes()
	if in.err != nil {
		return dst
	}
	dst, err := codec.DecodeValues(dst, b, n)
	if err != nil {
		in.fail("%w", err)
	}
	return dst
}

// coded reads a run of rows.
func (c *Column) coded(in *input, rows int) {
	if len(in.b) == 0 || in.b[0]&^floatFlag != 0 {
		in.fail("the flags of a run are missing or unknown")
		return
	}
	c.h.Float = in.b[0] != 0
	in.b = in.b[1:]
	frame := in.bytes()
	check := cursor{b: frame}
	if c.h.parseFrame(&check); check.bad || len(check.b) > 0 {
		in.fail("the schema of a run is damaged")
		return
	}
	buckets := c.readLayouts(in, rows)
	if in.err != nil {
		return
	}
	c.hints = in.ints(c.hints[:0], rows)
	c.sums = in.values(c.sums[:0], rows)
	c.counts = c.numbers(in, c.counts[:0], rows)
	c.zeros = c.numbers(in, c.zeros[:0], rows)
	c.readBuckets(in, buckets)
	for row := 0; row < rows && in.err == nil; row++ {
		c.appendRow(in, row, frame)
	}
}

// readLayouts reads layouts and which of them each row has, and returns how many buckets all rows have together. There are no more layouts than
// rows, and none which no row has: their sizes are in proportion.
func (c *Column) readLayouts(in *input, rows int) (buckets uint64) {
	n := in.uvarint()
	if n == 0 || n > uint64(rows) {
		in.fail("%d rows have %d layouts", rows, n)
		return 0
	}
	c.layouts.reset()
	c.spans, c.texts, c.positive = c.spans[:0], c.texts[:0], c.positive[:0]
	c.layoutOf = c.layoutOf[:0]
	last := []byte(nil)
	for range n {
		if last = c.readLayout(in, last); in.err != nil {
			return 0
		}
		c.spans = append(c.spans, last)
	}
	if n > 1 {
		c.layoutOf = in.ints(c.layoutOf, rows)
	} else {
		c.layoutOf = append(c.layoutOf, make([]int64, rows)...)
	}
	if in.err == nil {
		buckets = c.useLayouts(in)
	}
	return buckets
}

// readLayout reads a layout, which is the one before it with other bytes in the middle.
func (c *Column) readLayout(in *input, last []byte) []byte {
	front, back := in.uvarint(), in.uvarint()
	middle := in.bytes()
	if in.err != nil || front > uint64(len(last)) || back > uint64(len(last))-front {
		in.fail("a layout repeats %d and %d bytes of %d", front, back, len(last))
		return nil
	}
	start := len(c.texts)
	if start+int(front+back)+len(middle) > MaxColumnBytes {
		in.fail("its layouts have more than %d bytes", MaxColumnBytes)
		return nil
	}
	c.texts = append(append(append(c.texts, last[:front]...), middle...), last[uint64(len(last))-back:]...)
	return c.texts[start:len(c.texts):len(c.texts)]
}

// useLayouts reads the spans of all layouts.
func (c *Column) useLayouts(in *input) (buckets uint64) {
	rows := make([]uint64, len(c.spans))
	for _, i := range c.layoutOf {
		if uint64(i) >= uint64(len(rows)) {
			in.fail("a row has the layout %d of %d", i, len(rows))
			return 0
		}
		rows[i]++
	}
	for i, text := range c.spans {
		check := cursor{b: text}
		positive, negative := c.h.Positive.parseSpans(&check), c.h.Negative.parseSpans(&check)
		if check.bad || len(check.b) > 0 || rows[i] == 0 || positive+negative > MaxColumnBytes {
			in.fail("layout %d of a run is damaged, too large or not used", i)
			return 0
		}
		if buckets += rows[i] * (positive + negative); buckets+uint64(len(c.data)) > MaxColumnBytes {
			in.fail("it has more than %d bytes", MaxColumnBytes)
			return 0
		}
		c.positive = append(c.positive, int(positive))
		c.layouts.add(&c.h)
	}
	c.layouts.place()
	return buckets
}

func (c *Column) readBuckets(in *input, buckets uint64) {
	c.starts = c.layouts.starts(c.starts, c.layoutOf)
	n := len(c.layouts.columns)
	changing := in.cut((n + 7) / 8)
	constants := n
	for _, b := range changing {
		constants -= bits.OnesCount8(b)
	}
	if n%8 != 0 && len(changing) > 0 && changing[len(changing)-1]>>(n%8) != 0 {
		in.fail("it has bits for more than %d buckets", n)
		return
	}
	if c.constants = c.constants[:0]; constants > 0 {
		c.constants = c.numbers(in, c.constants, constants)
	}
	if in.err == nil {
		c.fillBuckets(in, changing, buckets)
	}
}

func (c *Column) fillBuckets(in *input, changing []byte, buckets uint64) {
	c.buckets = c.buckets[:0]
	next := 0
	for i := range c.layouts.columns {
		rows := c.starts[i+1] - c.starts[i]
		if changing[i/8]&(1<<(i%8)) != 0 {
			c.buckets = c.numbers(in, c.buckets, rows)
			continue
		}
		for range rows {
			c.buckets = append(c.buckets, c.constants[next])
		}
		next++
	}
	if in.err == nil && uint64(len(c.buckets)) != buckets {
		in.fail("it has %d of %d counts", len(c.buckets), buckets)
	}
}

// numbers reads a column of counts.
func (c *Column) numbers(in *input, dst []uint64, n int) []uint64 {
	if c.h.Float {
		c.floats = in.values(c.floats[:0], n)
		for _, v := range c.floats {
			dst = append(dst, math.Float64bits(v))
		}
		return dst
	}
	c.ints = in.ints(c.ints[:0], n)
	for _, x := range c.ints {
		dst = append(dst, uint64(x))
	}
	return dst
}

// appendRow puts the payload of a row together. The start of each column moves on.
func (c *Column) appendRow(in *input, row int, frame []byte) {
	layout := int(c.layoutOf[row])
	hint := c.hints[row]
	if hint < 0 || hint > hintMask {
		in.fail("a row has the reset hint %d", hint)
		return
	}
	c.ints = c.ints[:0]
	all := uint64(0)
	for _, p := range c.layouts.places(layout) {
		n := c.buckets[c.starts[p]]
		c.starts[p]++
		c.ints = append(c.ints, int64(n))
		all += n
	}
	dst := append(c.data, payloadVersion, byte(hint))
	if c.h.Float {
		dst[len(dst)-1] |= floatFlag
		dst = appendBits(appendBits(dst, c.counts[row]), c.zeros[row])
	} else {
		dst = binary.AppendUvarint(dst, c.counts[row]+c.zeros[row]+all)
		dst = binary.AppendUvarint(dst, c.zeros[row])
	}
	dst = append(append(appendFloat(dst, c.sums[row]), frame...), c.spans[layout]...)
	c.data = c.appendCounts(dst, c.positive[layout])
	c.ends = append(c.ends, len(c.data))
	if len(c.data) > MaxColumnBytes {
		in.fail("it has more than %d bytes", MaxColumnBytes)
	}
}

// appendCounts appends the counts of a row, the first ones of which are of positive buckets.
func (c *Column) appendCounts(dst []byte, positive int) []byte {
	last := int64(0)
	for i, n := range c.ints {
		if c.h.Float {
			dst = appendBits(dst, uint64(n))
			continue
		}
		if i == positive {
			last = 0
		}
		dst = binary.AppendVarint(dst, n-last)
		last = n
	}
	return dst
}

func appendBits(dst []byte, b uint64) []byte { return appendFloat(dst, math.Float64frombits(b)) }
