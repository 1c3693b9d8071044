package otlp

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// writer stores points. A request uses it from one goroutine.
type writer struct {
	config   *Config
	c        *protoparser.Collector
	counters *protoparser.Counters
	metadata *protoparser.Metadata // nil: nobody wants it

	resource []model.Label
	scope    []model.Label
	metric   metric
	name     string        // of the metric, as configured
	base     []model.Label // of resource and scope, as configured, sorted; made when the first point needs it
	hasBase  bool
	labels   []model.Label // of the point without its name
	raw      []byte        // scratch: raw labels of a series
	series   []model.Label // scratch: its labels
	rows     int
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
	w.metric = m
	w.name = w.config.metricName(&m)
	if w.metadata != nil && (m.description != "" || m.unit != "") {
		w.counters.Metadata.Inc()
		w.metadata.Add(w.name, m.metricType(), m.unit, m.description)
	}
}

// Each point has all labels of its resource, so a small body could ask for much work. What is beyond these bounds is beyond those of storage, too.
const (
	maxLabels    = 1 << 10
	maxRawLabels = 1 << 18 // bytes
)

// add stores a point of the metric.
func (w *writer) add(p *point) {
	if n := len(w.resource) + len(w.scope) + len(p.attributes); n > maxLabels {
		w.invalid(fmt.Sprintf("a point has %d attributes with those of its resource and scope, more than %d", n, maxLabels))
		return
	}
	if !w.hasBase {
		w.base = append(append(w.base[:0], w.resource...), w.scope...)
		w.config.labelNames(w.base)
		w.base, w.hasBase = nearest(w.base), true
	}
	w.config.labelNames(p.attributes)
	w.labels = nearest(append(append(w.labels[:0], w.base...), p.attributes...))
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
		w.sample(p, "", model.Label{}, p.value)
	case histogram:
		w.histogram(p)
	case exponential:
		w.exponential(p)
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
	if w.metric.kind == gauge || w.metric.kind == sum {
		w.sample(p, "", model.Label{}, staleValue())
		return
	}
	w.sample(p, "_count", model.Label{}, staleValue())
	w.sample(p, "_sum", model.Label{}, staleValue())
	for _, bound := range p.bounds {
		w.sample(p, "_bucket", le(bound), staleValue())
	}
	for _, q := range p.quantiles {
		w.sample(p, "", model.Label{Name: "quantile", Value: formatFloat(q.quantile)}, staleValue())
	}
}

func (w *writer) invalid(reason string) {
	w.counters.RowsInvalid.Inc()
	w.c.Invalid(fmt.Sprintf("metric %.100q: %s", w.metric.name, reason))
}

// sample stores a sample of a series of the point, which has one label more unless that has no name.
func (w *writer) sample(p *point, suffix string, extra model.Label, value float64) {
	w.raw = appendText(appendText(appendText(w.raw[:0], model.MetricNameLabel), w.name, suffix), extra.Name)
	w.raw = appendText(w.raw, extra.Value)
	for _, l := range w.labels {
		if l.Name != extra.Name && l.Name != model.MetricNameLabel {
			w.raw = appendText(appendText(w.raw, l.Name), l.Value)
		}
		if len(w.raw) > maxRawLabels {
			w.invalid(fmt.Sprintf("the labels of a point have more than %d bytes", maxRawLabels))
			return
		}
	}
	w.rows++
	started := w.c.StartRaw(w.raw, 0, 1)
	if !started && !w.c.Dropped() {
		w.series = appendRawLabels(w.series[:0], w.raw)
		started = w.c.StartNew(w.series, 1)
	}
	if started {
		w.c.Sample(int64(p.time/1e6), value)
	}
}

// appendText appends a text in pieces with its size before it. Names and values in turn, the metric's first, are the raw labels of a series.
func appendText(dst []byte, pieces ...string) []byte {
	n := 0
	for _, s := range pieces {
		n += len(s)
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for _, s := range pieces {
		dst = append(dst, s...)
	}
	return dst
}

// appendRawLabels appends the labels of which raw ones were made, which their strings are parts of.
func appendRawLabels(dst []model.Label, raw []byte) []model.Label {
	next := func() string {
		size, n := binary.Uvarint(raw)
		text := raw[n : n+int(size)]
		raw = raw[n+int(size):]
		return bytesutil.String(text)
	}
	for len(raw) > 0 {
		name := next()
		if value := next(); name != "" {
			dst = append(dst, model.Label{Name: name, Value: value})
		}
	}
	return dst
}

func (w *writer) countAndSum(p *point) {
	w.sample(p, "_count", model.Label{}, float64(p.count))
	if p.hasSum {
		w.sample(p, "_sum", model.Label{}, p.sum)
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
		w.sample(p, "_bucket", le(bound), float64(n))
	}
	if len(p.counts) > 0 {
		n += p.counts[len(p.bounds)]
	} else {
		n = p.count
	}
	w.sample(p, "_bucket", le(math.Inf(1)), float64(n))
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

// ranges stores the buckets of one sign. Those so narrow that their ranges are written alike become one.
func (w *writer) ranges(p *point, b *buckets, sign float64) {
	width := math.Exp2(-float64(p.scale))
	type bounds struct{ low, high float64 }
	var last bounds
	n := uint64(0)
	flush := func() {
		if n > 0 {
			w.bucket(p, last.low, last.high, n)
		}
		n = 0
	}
	for i, count := range b.counts {
		if count == 0 {
			continue
		}
		index := float64(b.offset) + float64(i)
		next := bounds{math.Exp2(index * width), math.Exp2((index + 1) * width)}
		if sign < 0 {
			next.low, next.high = -next.high, -next.low
		}
		if n > 0 && formatRange(next.low, next.high) != formatRange(last.low, last.high) {
			flush()
		}
		last = next
		n += count
	}
	flush()
}

func (w *writer) bucket(p *point, low, high float64, n uint64) {
	w.sample(p, "_bucket", model.Label{Name: "vmrange", Value: formatRange(low, high)}, float64(n))
}

func (w *writer) summary(p *point) {
	p.hasSum = true // it is not optional here
	w.countAndSum(p)
	for _, q := range p.quantiles {
		w.sample(p, "", model.Label{Name: "quantile", Value: formatFloat(q.quantile)}, q.value)
	}
}

func le(bound float64) model.Label {
	return model.Label{Name: "le", Value: formatFloat(bound)}
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func formatRange(low, high float64) string {
	b := append(strconv.AppendFloat(nil, low, 'e', 3, 64), "..."...)
	return string(strconv.AppendFloat(b, high, 'e', 3, 64))
}
