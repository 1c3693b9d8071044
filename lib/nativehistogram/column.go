package nativehistogram

import (
	"bytes"
	"math"
	"math/bits"
	"slices"

	"vmcluster/lib/codec"
)

const (
	columnFormat = 1

	// The lowest bit of the number of rows of a run.
	plainRun = 0
	codedRun = 1
)

// MaxColumnBytes is how many bytes of payloads a column should have at most. More than that are written as they are.
const MaxColumnBytes = 2 << 20

// nearLayouts is how many of the latest layouts are compared with that of a row. One found nowhere is written again.
const nearLayouts = 8

// Encoder encodes columns. Its zero value is ready; it belongs to one goroutine at a time.
type Encoder struct {
	codec     codec.Encoder
	h         Histogram
	run       run
	layouts   layouts
	starts    []int
	columns   []uint64 // counts by bucket
	constants []uint64 // counts of those that do not change
	column    []byte
	ints      []int64
	floats    []float64
}

// run is a run of rows that differ in counts and spans only, taken apart.
type run struct {
	rows      int
	size      int // of the payloads, with their lengths
	float     bool
	frame     []byte
	layouts   [][]byte // different ones
	layoutOf  []int64  // by row
	hints     []int64
	sums      []float64
	counts    []uint64 // bits of the counts, if they are fractional; else less all of the row's buckets
	zeros     []uint64
	buckets   []uint64 // of all rows
	bucketRow []int    // where those of each row end
}

// AppendColumn appends a column of the payloads of one series, in the order of time. Bytes that are no payloads are kept as well.
func (e *Encoder) AppendColumn(dst []byte, payloads [][]byte) []byte {
	dst = append(dst, columnFormat)
	total := 0
	for _, p := range payloads {
		total += len(p)
	}
	if total > MaxColumnBytes {
		return appendPlain(dst, payloads)
	}
	for len(payloads) > 0 {
		n := 0
		for n < len(payloads) && e.h.Parse(payloads[n]) != nil {
			n++
		}
		if n > 0 {
			dst = appendPlain(dst, payloads[:n])
			payloads = payloads[n:]
			continue
		}
		n = e.takeRun(payloads)
		e.layouts.place()
		start := len(dst)
		if len(e.layouts.columns) <= codec.MaxColumnLen {
			dst = e.appendRun(dst)
		}
		if size := len(dst) - start; size == 0 || size > e.run.size {
			dst = appendPlain(dst[:start], payloads[:n])
		}
		payloads = payloads[n:]
	}
	e.run.frame = nil
	clear(e.run.layouts)
	return dst
}

// appendPlain appends a run of payloads as they are.
func appendPlain(dst []byte, payloads [][]byte) []byte {
	if len(payloads) == 0 {
		return dst
	}
	dst = codec.AppendUvarint(dst, uint64(len(payloads))<<1|plainRun)
	for _, p := range payloads {
		dst = codec.AppendBytes(dst, p)
	}
	return dst
}

// takeRun takes rows apart until one has another frame, and returns how many it took.
func (e *Encoder) takeRun(payloads [][]byte) int {
	r := &e.run
	*r = run{layouts: r.layouts[:0], layoutOf: r.layoutOf[:0], hints: r.hints[:0], sums: r.sums[:0], counts: r.counts[:0], zeros: r.zeros[:0],
		buckets: r.buckets[:0], bucketRow: r.bucketRow[:0]}
	e.layouts.reset()
	for _, payload := range payloads {
		p, err := e.h.parse(payload)
		if err != nil || r.rows > 0 && (e.h.Float != r.float || !bytes.Equal(r.frame, payload[p.frame:p.layout])) {
			break
		}
		r.float, r.frame = e.h.Float, payload[p.frame:p.layout]
		r.size += len(payload) + (bits.Len(uint(len(payload))|1)+6)/7
		r.rows++
		e.takeLayout(payload[p.layout:p.counts])
		r.add(&e.h)
	}
	return r.rows
}

func (e *Encoder) takeLayout(layout []byte) {
	r := &e.run
	for i := len(r.layouts) - 1; i >= max(0, len(r.layouts)-nearLayouts); i-- {
		if bytes.Equal(r.layouts[i], layout) {
			r.layoutOf = append(r.layoutOf, int64(i))
			return
		}
	}
	r.layoutOf = append(r.layoutOf, int64(len(r.layouts)))
	r.layouts = append(r.layouts, layout)
	e.layouts.add(&e.h)
}

// add takes the numbers of a histogram.
func (r *run) add(h *Histogram) {
	r.hints = append(r.hints, int64(h.Hint))
	r.sums = append(r.sums, h.Sum)
	start := len(r.buckets)
	if h.Float {
		for _, b := range [2]*Buckets{&h.Positive, &h.Negative} {
			for _, v := range b.Floats {
				r.buckets = append(r.buckets, math.Float64bits(v))
			}
		}
		r.counts, r.zeros = append(r.counts, math.Float64bits(h.FloatCount)), append(r.zeros, math.Float64bits(h.FloatZero))
	} else {
		r.buckets = append(append(r.buckets, h.Positive.Counts...), h.Negative.Counts...)
		rest := h.Count - h.ZeroCount
		for _, n := range r.buckets[start:] {
			rest -= n
		}
		r.counts, r.zeros = append(r.counts, rest), append(r.zeros, h.ZeroCount)
	}
	r.bucketRow = append(r.bucketRow, len(r.buckets))
}

func (e *Encoder) appendRun(dst []byte) []byte {
	r := &e.run
	dst = codec.AppendUvarint(dst, uint64(r.rows)<<1|codedRun)
	flags := byte(0)
	if r.float {
		flags = floatFlag
	}
	dst = codec.AppendBytes(append(dst, flags), r.frame)
	dst = codec.AppendUvarint(dst, uint64(len(r.layouts)))
	last := []byte(nil)
	for _, l := range r.layouts {
		dst = appendDifference(dst, last, l)
		last = l
	}
	if len(r.layouts) > 1 {
		dst = e.appendInts(dst, r.layoutOf)
	}
	dst = e.appendInts(dst, r.hints)
	e.column = e.codec.AppendValues(e.column[:0], r.sums)
	dst = codec.AppendBytes(dst, e.column)
	dst = e.appendNumbers(e.appendNumbers(dst, r.counts), r.zeros)
	return e.appendBuckets(dst)
}

// appendDifference appends b as what it has in common with a at both ends, and what is between.
func appendDifference(dst, a, b []byte) []byte {
	n := min(len(a), len(b))
	front, back := 0, 0
	for front < n && a[front] == b[front] {
		front++
	}
	for back < n-front && a[len(a)-1-back] == b[len(b)-1-back] {
		back++
	}
	dst = codec.AppendUvarint(codec.AppendUvarint(dst, uint64(front)), uint64(back))
	return codec.AppendBytes(dst, b[front:len(b)-back])
}

// appendBuckets appends the counts of each bucket any row has, in the rows that have it: those of buckets that do not change once, a column for
// each other one.
func (e *Encoder) appendBuckets(dst []byte) []byte {
	r := &e.run
	e.starts = e.layouts.starts(e.starts, r.layoutOf)
	e.columns = slices.Grow(e.columns[:0], len(r.buckets))
	columns := e.columns[:len(r.buckets)]
	at := 0
	for _, layout := range r.layoutOf {
		for _, p := range e.layouts.places(int(layout)) {
			columns[e.starts[p]] = r.buckets[at] // starts move to the ends of their columns, which are the starts of the next ones
			e.starts[p]++
			at++
		}
	}
	ends := e.starts[:len(e.layouts.columns)]
	bits := len(dst)
	dst = append(dst, make([]byte, (len(ends)+7)/8)...)
	e.constants = e.constants[:0]
	start := 0
	for i, end := range ends {
		if changes(columns[start:end]) {
			dst[bits+i/8] |= 1 << (i % 8)
		} else {
			e.constants = append(e.constants, columns[start])
		}
		start = end
	}
	if len(e.constants) > 0 {
		dst = e.appendNumbers(dst, e.constants)
	}
	start = 0
	for i, end := range ends {
		if dst[bits+i/8]&(1<<(i%8)) != 0 {
			dst = e.appendNumbers(dst, columns[start:end])
		}
		start = end
	}
	return dst
}

func changes(xs []uint64) bool {
	for _, x := range xs {
		if x != xs[0] {
			return true
		}
	}
	return false
}

// appendNumbers appends a column of counts.
func (e *Encoder) appendNumbers(dst []byte, xs []uint64) []byte {
	if e.run.float {
		e.floats = e.floats[:0]
		for _, x := range xs {
			e.floats = append(e.floats, math.Float64frombits(x))
		}
		e.column = e.codec.AppendValues(e.column[:0], e.floats)
		return codec.AppendBytes(dst, e.column)
	}
	e.ints = e.ints[:0]
	for _, x := range xs {
		e.ints = append(e.ints, int64(x))
	}
	return e.appendInts(dst, e.ints)
}

func (e *Encoder) appendInts(dst []byte, xs []int64) []byte {
	e.column = e.codec.AppendInts(e.column[:0], xs)
	return codec.AppendBytes(dst, e.column)
}
