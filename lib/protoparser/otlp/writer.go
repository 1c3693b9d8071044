package otlp

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/protoparser"
)

// writer stores points. A request uses it from one goroutine.
type writer struct {
	config   *Config
	c        *protoparser.Collector
	counters *protoparser.Counters
	proto    *protobuf             // the reader, if it recognises series itself
	metadata *protoparser.Metadata // nil: nobody wants it

	exemplars *protoparser.Exemplars // nil: nobody wants them

	resource []model.Label
	scope    []model.Label
	metric   metric
	name     string        // of the metric, as configured; made when it is needed
	base     []model.Label // of resource and scope, as configured, sorted; made when the first point needs it
	hasBase  bool
	labels   []model.Label // of the point without its name
	raw      []byte        // scratch: raw labels of a series
	series   []model.Label // scratch: its labels
	rows     int
	h        nativehistogram.Histogram // scratch
	payload  []byte                    // scratch
	err      error                     // of the request, found in the labels of a point
}

// setResource begins a resource.
func (w *writer) setResource(attributes []model.Label) {
	w.resource, w.scope, w.hasBase = w.resource[:0], w.scope[:0], false
	for _, l := range attributes {
		if w.config.promotes(l.Name) {
			w.resource = append(w.resource, l)
		}
	}
}

// noScope begins a scope of the resource which says nothing.
func (w *writer) noScope() { w.scope, w.hasBase = w.scope[:0], false }

// setScope begins a scope of the resource.
func (w *writer) setScope(name, version string, attributes []model.Label) {
	w.noScope()
	if !w.config.PromoteScope {
		return
	}
	w.scope = append(w.scope, model.Label{Name: "scope.name", Value: name}, model.Label{Name: "scope.version", Value: version})
	for _, l := range attributes {
		w.scope = append(w.scope, model.Label{Name: "scope.attributes." + l.Name, Value: l.Value})
	}
}

// setMetric begins a metric of the scope.
func (w *writer) setMetric(m metric) {
	w.metric, w.name = m, ""
	if w.metadata != nil && (m.description != "" || m.unit != "") {
		w.name = w.config.metricName(&m)
		w.counters.Metadata.Inc()
		w.metadata.Add(w.name, m.metricType(), m.unit, m.description)
	}
}

// Each point has all labels of its resource, so a small body could ask for much work. What is beyond these bounds is beyond those of storage, too.
const (
	maxLabels    = 1 << 10
	maxRawLabels = 1 << 18 // bytes
)

// add stores a point of the metric. An error is one of the request.
func (w *writer) add(p *point) error {
	if w.proto == nil && !w.label(p) {
		return nil
	}
	w.err = nil
	w.parts(p)
	if len(p.exemplars) > 0 && w.exemplars != nil && w.err == nil {
		w.addExemplars(p)
	}
	return w.err
}

// label makes the labels of a point, unless it has too many.
func (w *writer) label(p *point) bool {
	if n := len(w.resource) + len(w.scope) + len(p.attributes); n > maxLabels {
		w.faulty(p, fmt.Sprintf("a point has %d attributes with those of its resource and scope, more than %d", n, maxLabels))
		return false
	}
	if !w.hasBase {
		w.base = append(append(w.base[:0], w.resource...), w.scope...)
		w.config.labelNames(w.base)
		w.base, w.hasBase = nearest(w.base), true
	}
	w.config.labelNames(p.attributes)
	w.labels = nearest(append(append(w.labels[:0], w.base...), p.attributes...))
	p.isLabelled = true
	return true
}

// parts stores the samples of a point.
func (w *writer) parts(p *point) {
	if p.flags&noRecordedValue != 0 {
		w.stale(p)
		return
	}
	switch w.metric.kind {
	case gauge, sum:
		if !p.hasValue {
			w.invalid("a number has no value")
			return
		}
		w.sample(p, part{}, p.value)
	case histogram:
		w.histogram(p)
	case exponential:
		if w.config.NativeHistograms {
			w.native(p)
		} else {
			w.exponential(p)
		}
	case summary:
		w.summary(p)
	}
}

// nearest sorts labels by name and leaves the last one of each, which is the nearest to the point, and none without a name.
func nearest(labels []model.Label) []model.Label {
	slices.SortStableFunc(labels, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
	kept := labels[:0]
	for i, l := range labels {
		if l.Name == "" || i+1 < len(labels) && labels[i+1].Name == l.Name {
			continue
		}
		kept = append(kept, l)
	}
	return kept
}

// stale marks what a point stands for as gone. Which buckets there were is known only if it lists them.
func (w *writer) stale(p *point) {
	if w.metric.kind == gauge || w.metric.kind == sum || w.metric.kind == exponential && w.config.NativeHistograms {
		w.sample(p, part{}, staleValue())
		return
	}
	w.sample(p, part{kind: count}, staleValue())
	w.sample(p, part{kind: total}, staleValue())
	for _, bound := range p.bounds {
		w.sample(p, le(bound), staleValue())
	}
	for _, q := range p.quantiles {
		w.sample(p, part{kind: quantileOf, low: q.quantile}, staleValue())
	}
}

func (w *writer) invalid(reason string) {
	w.counters.RowsInvalid.Inc()
	w.c.Invalid(fmt.Sprintf("metric %.100q: %s", w.metric.name, reason))
}

// faulty leaves out what was not stored of a point.
func (w *writer) faulty(p *point, reason string) {
	p.isFaulty = true
	if w.c != nil {
		w.invalid(reason)
	}
}

// sample stores a sample of a series of the point.
func (w *writer) sample(p *point, s part, value float64) {
	if !w.start(p, s) {
		return
	}
	if p.start != 0 && w.config.StartTimestamps && w.metric.counts() && s.kind != quantileOf {
		w.c.Began(int64(p.start/1e6), int64(p.time/1e6))
	}
	w.c.Sample(int64(p.time/1e6), value)
}

// start begins a series of the point with one row; false when it is left out.
func (w *writer) start(p *point, s part) bool {
	if p.isFaulty {
		return false
	}
	started := w.begin(p, s)
	if !p.isFaulty {
		w.rows++
	}
	return started
}

func (w *writer) begin(p *point, s part) bool {
	if w.proto != nil {
		if w.proto.start(s) {
			return true
		}
		if w.c.Dropped() || !w.readLabels(p) {
			return false
		}
	}
	if !w.render(p, s) {
		return false
	}
	if w.proto == nil {
		if w.c.StartRaw(w.raw, 0, 1) {
			return true
		}
		if w.c.Dropped() {
			return false
		}
	}
	w.series = protoparser.AppendRawLabels(w.series[:0], w.raw)
	return w.c.StartNew(w.series, 1)
}

// readLabels makes the labels of a point whose attributes were not read yet, since all its series may be known.
func (w *writer) readLabels(p *point) bool {
	if p.isLabelled {
		return true
	}
	if w.err = w.proto.readAttributes(); w.err != nil {
		p.isFaulty = true
		return false
	}
	return w.label(p)
}

// render makes the raw labels of a series of the point, which has its labels.
func (w *writer) render(p *point, s part) bool {
	if w.name == "" {
		w.name = w.config.metricName(&w.metric)
	}
	suffix, extra := s.text()
	w.raw = protoparser.AppendRawText(protoparser.AppendRawText(protoparser.AppendRawText(w.raw[:0], model.MetricNameLabel), w.name, suffix), extra.Name)
	w.raw = protoparser.AppendRawText(w.raw, extra.Value)
	for _, l := range w.labels {
		if l.Name != extra.Name && l.Name != model.MetricNameLabel {
			w.raw = protoparser.AppendRawText(protoparser.AppendRawText(w.raw, l.Name), l.Value)
		}
		if len(w.raw) > maxRawLabels {
			w.faulty(p, fmt.Sprintf("the labels of a point have more than %d bytes", maxRawLabels))
			return false
		}
	}
	return true
}

func (w *writer) countAndSum(p *point) {
	w.sample(p, part{kind: count}, float64(p.count))
	if p.hasSum {
		w.sample(p, part{kind: total}, p.sum)
	}
}

func (w *writer) histogram(p *point) {
	if n := len(p.counts); n != len(p.bounds)+1 && n+len(p.bounds) > 0 {
		w.invalid(fmt.Sprintf("a histogram has %d buckets and %d bounds; there must be one bucket more", n, len(p.bounds)))
		return
	}
	w.countAndSum(p)
	n := uint64(0)
	for i, bound := range p.bounds {
		n += p.counts[i]
		w.sample(p, le(bound), float64(n))
	}
	if len(p.counts) > 0 {
		n += p.counts[len(p.bounds)]
	} else {
		n = p.count
	}
	w.sample(p, le(math.Inf(1)), float64(n))
}

// Scales beyond these have no use: one bucket holds all numbers, or each number has its own.
const (
	minScale = -11
	maxScale = 52
)

// exponential stores the buckets of an exponential histogram by their ranges, as functions for vmrange read them.
func (w *writer) exponential(p *point) {
	if p.scale < minScale || p.scale > maxScale {
		w.invalid(fmt.Sprintf("an exponential histogram has the scale %d; it must be between %d and %d", p.scale, minScale, maxScale))
		return
	}
	w.countAndSum(p)
	if p.zeroCount > 0 {
		w.bucket(p, -p.zeroThreshold, p.zeroThreshold, p.zeroCount)
	}
	w.ranges(p, &p.negative, -1)
	w.ranges(p, &p.positive, 1)
}

// wideScale is up to which scale the bounds of buckets differ so much that their ranges are written differently, with four digits.
const wideScale = 9

// ranges stores the buckets of one sign. Those so narrow that their ranges are written alike become one.
func (w *writer) ranges(p *point, b *buckets, sign float64) {
	width := math.Exp2(-float64(p.scale))
	type bounds struct{ low, high float64 }
	var last bounds
	n, upper, upperOf := uint64(0), 0.0, -2
	for i, count := range b.counts {
		if count == 0 {
			continue
		}
		index := float64(b.offset) + float64(i)
		if upperOf != i-1 {
			upper = math.Exp2(index * width)
		}
		next := bounds{upper, math.Exp2((index + 1) * width)}
		upper, upperOf = next.high, i
		if sign < 0 {
			next.low, next.high = -next.high, -next.low
		}
		if n > 0 && next != last && (p.scale <= wideScale || formatRange(next.low, next.high) != formatRange(last.low, last.high)) {
			w.bucket(p, last.low, last.high, n)
			n = 0
		}
		last = next
		n += count
	}
	if n > 0 {
		w.bucket(p, last.low, last.high, n)
	}
}

func (w *writer) bucket(p *point, low, high float64, n uint64) {
	w.sample(p, part{kind: rangeBucket, low: low, high: high}, float64(n))
}

func (w *writer) summary(p *point) {
	p.hasSum = true // it is not optional here
	w.countAndSum(p)
	for _, q := range p.quantiles {
		w.sample(p, part{kind: quantileOf, low: q.quantile}, q.value)
	}
}
