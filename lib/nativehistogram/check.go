package nativehistogram

import (
	"math"

	"vmcluster/lib/errkind"
)

// The limits of what is taken.
const (
	MaxBuckets      = 8192 // of both signs together
	MaxCustomValues = 8192

	MinSchema = -4
	MaxSchema = 8

	// maxSentSchema is the finest that senders may use. Reduce makes it one that is stored.
	maxSentSchema = 52

	// maxIndex bounds the indexes of buckets, far beyond those of all numbers.
	maxIndex = 1 << 30
)

func refuse(format string, args ...any) error {
	return errkind.New(errkind.BadRequest, "cannot store native histogram: "+format, args...)
}

// Check returns what is wrong with a histogram from outside, as an error of kind BadRequest. One which passes can be appended.
func (h *Histogram) Check() error {
	switch {
	case h.Hint > Gauge:
		return refuse("its reset hint %d is unknown; send 0 to 3", h.Hint)
	case !(h.ZeroThreshold >= 0) || math.IsInf(h.ZeroThreshold, 1):
		return refuse("its zero threshold %g is no finite number from 0 on", h.ZeroThreshold)
	case len(h.Positive.Spans)+len(h.Negative.Spans) > 4*MaxBuckets:
		return refuse("it has %d spans, more than %d", len(h.Positive.Spans)+len(h.Negative.Spans), 4*MaxBuckets)
	}
	if err := h.Positive.check("positive", h.Float, maxIndex); err != nil {
		return err
	}
	if err := h.Negative.check("negative", h.Float, maxIndex); err != nil {
		return err
	}
	if n := h.Buckets(); n > MaxBuckets {
		return refuse("it has %d buckets, more than %d; let the sender use a coarser schema", n, MaxBuckets)
	}
	if err := h.checkSchema(); err != nil {
		return err
	}
	if h.Float {
		return h.checkFloats()
	}
	return h.checkCount()
}

// Buckets returns how many buckets there are of both signs.
func (h *Histogram) Buckets() int {
	return len(h.Positive.Counts) + len(h.Positive.Floats) + len(h.Negative.Counts) + len(h.Negative.Floats)
}

func (h *Histogram) checkSchema() error {
	if h.Schema == CustomBuckets {
		return h.checkCustom()
	}
	if h.Schema < MinSchema || h.Schema > MaxSchema {
		return refuse("its schema is %d; send %d to %d, or %d for custom buckets", h.Schema, MinSchema, maxSentSchema, CustomBuckets)
	}
	if len(h.CustomValues) > 0 {
		return refuse("it has bounds of custom buckets, but its schema is %d", h.Schema)
	}
	return nil
}

func (h *Histogram) checkCustom() error {
	last := math.Inf(-1)
	for i, v := range h.CustomValues {
		if !(v > last) {
			return refuse("bound %d of its custom buckets is %g, which is not more than %g before it", i, v, last)
		}
		last = v
	}
	index := int64(0)
	for _, s := range h.Positive.Spans {
		index += int64(s.Offset) + int64(s.Length)
	}
	switch {
	case math.IsInf(last, 1):
		return refuse("the last bound of its custom buckets is +Inf, which goes without saying; leave it out")
	case len(h.CustomValues) > MaxCustomValues:
		return refuse("it has %d bounds of custom buckets, more than %d", len(h.CustomValues), MaxCustomValues)
	case len(h.Positive.Spans) > 0 && h.Positive.Spans[0].Offset < 0:
		return refuse("its custom buckets begin at %d; they are counted from 0", h.Positive.Spans[0].Offset)
	case index > int64(len(h.CustomValues))+1:
		return refuse("it has %d bounds of custom buckets, but its spans reach to bucket %d", len(h.CustomValues), index)
	case len(h.Negative.Spans) > 0:
		return refuse("it has negative buckets, which custom buckets must not have")
	case h.ZeroCount != 0 || h.FloatZero != 0 || h.ZeroThreshold != 0:
		return refuse("it has a zero bucket, which custom buckets must not have")
	}
	return nil
}

// check compares the spans with the counts, and indexes with their limit.
func (b *Buckets) check(sign string, float bool, limit int64) error {
	counts := len(b.Counts)
	if float {
		counts = len(b.Floats)
	}
	if float && len(b.Counts) > 0 || !float && len(b.Floats) > 0 {
		return refuse("its %s buckets have both whole and fractional counts", sign)
	}
	index, length := int64(0), uint64(0)
	for i, s := range b.Spans {
		if i > 0 && s.Offset < 0 {
			return refuse("the gap before span %d of its %s buckets is %d", i, sign, s.Offset)
		}
		index += int64(s.Offset)
		if index < -limit || index+int64(s.Length) > limit {
			return refuse("span %d of its %s buckets reaches from %d to %d, which is not between %d and %d",
				i, sign, index, index+int64(s.Length), -limit, limit)
		}
		index += int64(s.Length)
		length += uint64(s.Length)
	}
	if length != uint64(counts) {
		return refuse("the spans of its %s buckets have %d buckets, but there are %d counts", sign, length, counts)
	}
	return nil
}

// checkCount compares whole counts with their sum. Observations which are not a number are in the count and in no bucket; the sum is then
// not a number either.
func (h *Histogram) checkCount() error {
	n, over := h.ZeroCount, false
	for _, b := range [2]*Buckets{&h.Positive, &h.Negative} {
		for _, c := range b.Counts {
			if c > math.MaxInt64 {
				return refuse("one of its buckets has the count %d", int64(c))
			}
			n += c
			over = over || n < c
		}
	}
	switch {
	case h.Count > math.MaxInt64 || h.ZeroCount > math.MaxInt64 || over || n > h.Count:
		return refuse("its count is %d, but its buckets have %d", h.Count, n)
	case n != h.Count && h.Sum == h.Sum:
		return refuse("its count is %d, but its buckets have %d, and its sum is a number", h.Count, n)
	}
	return nil
}

func (h *Histogram) checkFloats() error {
	if h.FloatCount < 0 || h.FloatZero < 0 {
		return refuse("its count is %g and that of its zero bucket %g; neither may be negative", h.FloatCount, h.FloatZero)
	}
	for _, b := range [2]*Buckets{&h.Positive, &h.Negative} {
		for _, v := range b.Floats {
			if v < 0 {
				return refuse("one of its buckets has the count %g", v)
			}
		}
	}
	return nil
}

// Reduce makes the schema of a histogram with exponential bounds coarser, if it is finer than those that are stored, by merging buckets. Spans
// and counts fit each other; what Check finds wrong else stays so.
func (h *Histogram) Reduce() {
	if h.Schema <= MaxSchema || h.Schema > maxSentSchema {
		return
	}
	shift := h.Schema - MaxSchema
	h.Positive.reduce(shift)
	h.Negative.reduce(shift)
	h.Schema = MaxSchema
}

// reduce merges buckets: of a schema coarser by shift, bucket i has those of the finer one that end above (i-1)<<shift, up to i<<shift.
func (b *Buckets) reduce(shift int32) {
	if b.check("", len(b.Floats) > 0, math.MaxInt32) != nil {
		return
	}
	spans := b.Spans
	b.Spans = spans[:0] // there are never more than were read
	index, from, to := int64(0), 0, 0
	last := int64(math.MinInt64)
	for _, s := range spans {
		index += int64(s.Offset)
		for range s.Length {
			target := (index-1)>>shift + 1
			if target == last {
				b.add(to-1, from)
			} else {
				b.extend(last, target)
				b.move(to, from)
				to++
			}
			last = target
			from++
			index++
		}
	}
	b.Counts, b.Floats = b.Counts[:min(to, len(b.Counts))], b.Floats[:min(to, len(b.Floats))]
}

// extend adds a bucket behind the one with the index last.
func (b *Buckets) extend(last, index int64) {
	switch n := len(b.Spans); {
	case n == 0:
		b.Spans = append(b.Spans, Span{Offset: int32(index), Length: 1})
	case index == last+1:
		b.Spans[n-1].Length++
	default:
		b.Spans = append(b.Spans, Span{Offset: int32(index - last - 1), Length: 1})
	}
}

func (b *Buckets) add(to, from int) {
	if len(b.Floats) > 0 {
		b.Floats[to] += b.Floats[from]
		return
	}
	b.Counts[to] += b.Counts[from]
}

func (b *Buckets) move(to, from int) {
	if len(b.Floats) > 0 {
		b.Floats[to] = b.Floats[from]
		return
	}
	b.Counts[to] = b.Counts[from]
}
