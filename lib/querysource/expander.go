package querysource

import (
	"math"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

const (
	// staleBits are the bits of the marker that ends a series.
	staleBits = 0x7ff0000000000002
	// absentBits are those of what stands in a column where a histogram does not have the bucket. No count has them.
	absentBits = 0xfff8_0000_0000_abcd
)

func isStale(v float64) bool { return math.Float64bits(v) == staleBits }

func isAbsent(v float64) bool { return math.Float64bits(v) == absentBits }

// expander makes series of the histograms of one series after the other.
type expander struct {
	q       *model.SearchQuery
	filters [][]*model.Matcher

	found   tsblock.HistogramSamples
	plain   tsblock.Samples
	scratch tsblock.Scratch
	parsed  nativehistogram.Histogram
	encoder tsblock.Encoder
	encoded []byte
	slab    []byte // of the blocks of parts, with room for more
	column  tsblock.Samples
	free    [][]float64

	// Of the current series.
	tenant  model.TenantID
	labels  []model.Label
	wanted  []model.Label // scratch: those of a part
	times   []int64       // of histograms and markers
	at      []int32       // for each time the index of the histogram; -1 for a marker
	layouts []layout
	inForce []int32 // for each of the current run of times the index of the layout; -1 for a marker
	index   map[bucketID]int32
	byText  map[string]int32
	buckets []bucket
	places  []int32 // where the buckets of the histogram before belong; -1: nobody asks for it
	before  spans
	counts  []float64 // of observations, as those of buckets
	sums    []float64
	parts   []*part
}

// layout is what the bounds of buckets follow from.
type layout struct {
	schema int32
	zero   float64
	custom []float64
}

func (l *layout) is(h *nativehistogram.Histogram) bool {
	return l.schema == h.Schema && l.zero == h.ZeroThreshold && slices.Equal(l.custom, h.CustomValues)
}

// spans are those of a histogram, and its layout.
type spans struct {
	layout             int32
	positive, negative []nativehistogram.Span
}

// bucketID names a bucket. The zero bucket has the sign 0.
type bucketID struct {
	layout int32
	sign   int32
	index  int32
}

// bucket is a part that has one range.
type bucket struct {
	part    *part
	layouts []int32   // in which it occurs; in others it does not exist
	counts  []float64 // of the current run of times
	goesOn  bool      // the last sample was not a marker
	filled  bool      // some count was not 0
}

func newExpander(q *model.SearchQuery) (*expander, error) {
	x := &expander{q: q}
	for _, set := range q.Filters {
		matchers := make([]*model.Matcher, len(set))
		for i, f := range set {
			var err error
			if matchers[i], err = f.Compile(); err != nil {
				return nil, err
			}
		}
		x.filters = append(x.filters, matchers)
	}
	return x, nil
}

// selects reports whether the search selects a series with these labels.
func (x *expander) selects(labels []model.Label) bool {
	for _, set := range x.filters {
		if len(set) > 0 && !slices.ContainsFunc(set, func(m *model.Matcher) bool { return !m.Match(valueOf(labels, m.Filter().Name)) }) {
			return true
		}
		if len(set) == 0 {
			return true
		}
	}
	return len(x.filters) == 0
}

func valueOf(labels []model.Label, name string) string {
	for i := range labels {
		if labels[i].Name == name {
			return labels[i].Value
		}
	}
	return ""
}

// expand returns the parts of the histograms of a series, valid until the next call, and whether the series itself is asked for.
func (x *expander) expand(s *storageapi.Series) (parts []*part, selected bool, err error) {
	if x.tenant, x.labels, err = model.ParseSeriesKey(x.labels[:0], s.Key); err != nil {
		return nil, false, err
	}
	x.found.Reset()
	if err := tsblock.ReadHistograms(&x.found, s.Blocks, x.q.Range, 0, &x.scratch); err != nil {
		return nil, false, err
	}
	x.plain.Reset()
	if err := tsblock.ReadRange(&x.plain, s.Blocks, x.q.Range, 0, &x.scratch); err != nil {
		return nil, false, err
	}
	x.begin()
	if err := x.run(); err != nil {
		return nil, false, err
	}
	return x.parts, x.selects(x.labels), nil
}

// begin puts the histograms, and the markers among the samples, into the order of time.
func (x *expander) begin() {
	x.times, x.at = x.times[:0], x.at[:0]
	next := 0
	markers := func(until int64) {
		for ; next < x.plain.Len() && x.plain.Timestamps[next] <= until; next++ {
			if t := x.plain.Timestamps[next]; isStale(x.plain.Values[next]) && t < until { // of both at one time, the histogram counts
				x.times, x.at = append(x.times, t), append(x.at, -1)
			}
		}
	}
	for i, t := range x.found.Timestamps {
		markers(t)
		x.times, x.at = append(x.times, t), append(x.at, int32(i))
	}
	markers(math.MaxInt64)
	clear(x.parts)
	x.parts, x.layouts, x.places = x.parts[:0], x.layouts[:0], x.places[:0]
	x.before.layout = -1
	for i := range x.buckets {
		x.free = append(x.free, x.buckets[i].counts)
	}
	clear(x.buckets)
	x.buckets = x.buckets[:0]
	x.index, x.byText = map[bucketID]int32{}, map[string]int32{}
}

// run makes the parts. Long series are done in runs of times that fit a block; which buckets there are has to be known before.
func (x *expander) run() error {
	const most = tsblock.MaxSamplesPerBlock
	if len(x.times) > most {
		if err := x.learn(); err != nil {
			return err
		}
	}
	count, err := x.newPart("_count", "")
	if err != nil {
		return err
	}
	sum, err := x.newPart("_sum", "")
	if err != nil {
		return err
	}
	countGoesOn, sumGoesOn := false, false
	for start := 0; start < len(x.times); start += most {
		if err := x.fill(start, min(start+most, len(x.times))); err != nil {
			return err
		}
		countGoesOn = x.add(count, x.counts, start, countGoesOn, nil)
		sumGoesOn = x.add(sum, x.sums, start, sumGoesOn, nil)
		for i := range x.buckets {
			b := &x.buckets[i]
			b.goesOn = x.add(b.part, b.counts, start, b.goesOn, b.layouts)
		}
	}
	for i := range x.buckets {
		if b := &x.buckets[i]; !b.filled {
			b.part.Blocks = nil
		}
	}
	x.parts = slices.DeleteFunc(x.parts, func(p *part) bool { return len(p.Blocks) == 0 })
	return nil
}

// learn finds out which buckets there are.
func (x *expander) learn() error {
	for _, i := range x.at {
		if i < 0 {
			continue
		}
		if err := x.parsed.Parse(x.found.Payloads[i]); err != nil {
			return err
		}
		if err := x.place(&x.parsed, 0); err != nil {
			return err
		}
	}
	return nil
}

// fill takes the counts of the histograms in x.times[start:end].
func (x *expander) fill(start, end int) error {
	n := end - start
	x.inForce, x.counts, x.sums = x.inForce[:0], appendAbsent(x.counts[:0], n), appendAbsent(x.sums[:0], n)
	for i := range x.buckets {
		x.buckets[i].counts = appendAbsent(x.buckets[i].counts[:0], n)
	}
	h := &x.parsed
	for k, i := range x.at[start:end] {
		x.inForce = append(x.inForce, -1)
		if i < 0 {
			continue
		}
		if err := h.Parse(x.found.Payloads[i]); err != nil {
			return err
		}
		if isStale(h.Sum) {
			continue
		}
		if err := x.place(h, n); err != nil {
			return err
		}
		x.inForce[k], x.counts[k], x.sums[k] = x.before.layout, h.Total(), h.Sum
		x.take(h, k)
	}
	return nil
}

func appendAbsent(dst []float64, n int) []float64 {
	for range n {
		dst = append(dst, math.Float64frombits(absentBits))
	}
	return dst
}

// take adds the counts of a histogram at a time, whose buckets have been placed.
func (x *expander) take(h *nativehistogram.Histogram, k int) {
	zero := h.FloatZero
	if !h.Float {
		zero = float64(h.ZeroCount)
	}
	x.takeOne(x.places[0], k, zero)
	next := 1
	for _, b := range [...]*nativehistogram.Buckets{&h.Positive, &h.Negative} {
		for _, n := range b.Counts {
			x.takeOne(x.places[next], k, float64(n))
			next++
		}
		for _, n := range b.Floats {
			x.takeOne(x.places[next], k, n)
			next++
		}
	}
}

func (x *expander) takeOne(place int32, k int, n float64) {
	if place < 0 {
		return
	}
	b := &x.buckets[place]
	b.filled = b.filled || n != 0
	if c := &b.counts[k]; isAbsent(*c) {
		*c = n
	} else {
		*c += n // the bounds of both are the same with so few digits
	}
}

// place finds out where the buckets of a histogram belong, which mostly is where those of the one before do. New ones get counts for so many times.
func (x *expander) place(h *nativehistogram.Histogram, times int) error {
	last := &x.before
	current := x.layoutOf(h)
	if current == last.layout && slices.Equal(h.Positive.Spans, last.positive) && slices.Equal(h.Negative.Spans, last.negative) {
		return nil
	}
	last.layout, last.positive, last.negative = current, append(last.positive[:0], h.Positive.Spans...), append(last.negative[:0], h.Negative.Spans...)
	x.places = x.places[:0]
	if err := x.placeOne(bucketID{layout: current}, times); err != nil {
		return err
	}
	if err := x.placeSign(bucketID{layout: current, sign: 1}, h.Positive.Spans, times); err != nil {
		return err
	}
	return x.placeSign(bucketID{layout: current, sign: -1}, h.Negative.Spans, times)
}

func (x *expander) layoutOf(h *nativehistogram.Histogram) int32 {
	if last := x.before.layout; last >= 0 && x.layouts[last].is(h) {
		return last
	}
	if i := slices.IndexFunc(x.layouts, func(l layout) bool { return l.is(h) }); i >= 0 {
		return int32(i)
	}
	x.layouts = append(x.layouts, layout{schema: h.Schema, zero: h.ZeroThreshold, custom: slices.Clone(h.CustomValues)})
	return int32(len(x.layouts) - 1)
}

func (x *expander) placeSign(id bucketID, spans []nativehistogram.Span, times int) error {
	for _, s := range spans {
		id.index += s.Offset
		for range s.Length {
			if err := x.placeOne(id, times); err != nil {
				return err
			}
			id.index++
		}
	}
	return nil
}

func (x *expander) placeOne(id bucketID, times int) error {
	place, known := x.index[id]
	if !known {
		var err error
		if place, err = x.newPlace(id, times); err != nil {
			return err
		}
		x.index[id] = place
	}
	x.places = append(x.places, place)
	return nil
}

// newPlace returns where the counts of a bucket belong that was not seen before. Its range may have been, with another layout.
func (x *expander) newPlace(id bucketID, times int) (int32, error) {
	text := x.layouts[id.layout].rangeOf(id)
	place, known := x.byText[text]
	if !known {
		place = -1
		p, err := x.bucketPart(text)
		if err != nil {
			return 0, err
		}
		if p != nil {
			place = int32(len(x.buckets))
			x.buckets = append(x.buckets, bucket{part: p, counts: appendAbsent(x.freeColumn(), times)})
		}
		x.byText[text] = place
	}
	if place >= 0 {
		if b := &x.buckets[place]; !slices.Contains(b.layouts, id.layout) {
			b.layouts = append(b.layouts, id.layout)
		}
	}
	return place, nil
}

func (x *expander) freeColumn() []float64 {
	last := len(x.free) - 1
	if last < 0 {
		return nil
	}
	column := x.free[last]
	x.free = x.free[:last]
	return column[:0]
}

// rangeOf returns the label of a bucket.
func (l *layout) rangeOf(id bucketID) string {
	one := nativehistogram.Histogram{Schema: l.schema, Float: true, ZeroThreshold: l.zero, CustomValues: l.custom}
	b := nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: id.index, Length: 1}}, Floats: []float64{1}}
	switch id.sign {
	case 0:
		one.FloatZero = 1
	case 1:
		one.Positive = b
	default:
		one.Negative = b
	}
	r := one.AppendRanges(nil)[0]
	return string(nativehistogram.AppendVMRange(nil, r.Low, r.High))
}

// bucketPart returns the part of a range, if it is asked for: under the name of the histogram, else as a bucket.
func (x *expander) bucketPart(text string) (*part, error) {
	p, err := x.newPart("", text)
	if p == nil && err == nil {
		p, err = x.newPart("_bucket", text)
	}
	return p, err
}

// newPart returns a part whose name has the suffix and which may have a range, or nil if it is not asked for.
func (x *expander) newPart(suffix, text string) (*part, error) {
	if suffix != "" && valueOf(x.labels, model.MetricNameLabel) == "" {
		return nil, nil // it would have the labels of something else
	}
	x.wanted = model.AppendPartLabels(x.wanted[:0], x.labels, suffix, text)
	if !x.selects(x.wanted) {
		return nil, nil
	}
	key, err := model.AppendSeriesKey(nil, x.tenant, x.wanted)
	if err != nil {
		return nil, err
	}
	p := &part{Series: storageapi.Series{Key: key}, derived: text != ""}
	x.parts = append(x.parts, p)
	return p, nil
}

// add adds the values of a run of times to a part, and returns whether the last one is no marker. Where a bucket is not in a histogram that could have it, its count is 0.
func (x *expander) add(p *part, values []float64, start int, goesOn bool, layouts []int32) bool {
	if p == nil {
		return false
	}
	x.column.Reset()
	for k, v := range values {
		switch {
		case !isAbsent(v):
			goesOn = true
		case x.inForce[k] >= 0 && slices.Contains(layouts, x.inForce[k]):
			v, goesOn = 0, true
		case goesOn:
			v, goesOn = math.Float64frombits(staleBits), false
		default:
			continue
		}
		x.column.Append(x.times[start+k], v)
	}
	if x.column.Len() > 0 {
		p.Blocks = append(p.Blocks, x.encode())
	}
	return goesOn
}

// encode returns the column as a block in memory of its own.
func (x *expander) encode() tsblock.Block {
	var b tsblock.Block
	x.encoded, b = x.encoder.AppendEncode(x.encoded[:0], &x.column)
	const slabBytes = 64 << 10
	if n := len(b.Timestamps) + len(b.Values); cap(x.slab)-len(x.slab) < n {
		x.slab = make([]byte, 0, max(slabBytes, n))
	}
	keep := func(b []byte) []byte {
		start := len(x.slab)
		x.slab = append(x.slab, b...)
		return x.slab[start:len(x.slab):len(x.slab)]
	}
	b.Timestamps, b.Values = keep(b.Timestamps), keep(b.Values)
	return b
}
