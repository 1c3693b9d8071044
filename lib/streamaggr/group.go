package streamaggr

import (
	"math"
	"slices"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// group is what a rule keeps of the series which it aggregates into one.
type group struct {
	now     values
	key     string // canonical, of the series with the labels that stay
	only    *series
	members int
	next    *values // of the window that follows; nil: nothing
	sums    sums
	begun   bool // there was a sample in a window which is over
	// What counts from the beginning of the group.
	total, totalPrometheus, sumTotal float64
	buckets                          map[int]*bucket
	names                            []seriesName // of the outputs, without buckets, in their order; made when they are needed first
	bytes                            int64        // reserved for the group, without what its values need
}

// sums is what the series of a group come to in the window which is being flushed.
type sums struct {
	series     int
	grown      float64
	beginnings float64 // first samples of series which are increases
	rate       float64
	rates      int
}

// seriesName is the key of an output. An empty one is not written.
type seriesName struct {
	key  []byte
	hash uint64
}

// bucket is one of a histogram.
type bucket struct {
	count uint64
	name  seriesName
}

// following returns the window that follows.
func (g *group) following() *values {
	if g.next == nil {
		g.next = &values{}
	}
	return g.next
}

// count takes over what counts from the beginning.
func (g *group) count(r *ruleConfig, from *room) {
	g.begun = g.begun || g.sums.series > 0 || !g.now.empty()
	g.totalPrometheus += g.sums.grown
	g.total += g.sums.grown + g.sums.beginnings
	g.sumTotal += g.now.sum
	if g.now.more == nil {
		return
	}
	for i, n := range g.now.more.buckets {
		b := g.buckets[i]
		if b == nil {
			if !from.take(bucketBytes) {
				continue
			}
			if g.buckets == nil {
				g.buckets = map[int]*bucket{}
			}
			g.bytes += bucketBytes
			b = &bucket{name: r.nameOf(g.key, histogramBucket, model.Label{Name: "vmrange", Value: metrics.BucketRange(i)})}
			g.buckets[i] = b
		}
		b.count += n
	}
}

// bucketBytes is what a bucket takes with its name, about.
const bucketBytes = 256

// turn goes on to the next window.
func (g *group) turn(to *room) {
	g.sums = sums{}
	g.now.reset(to)
	if g.next != nil {
		g.now, *g.next = *g.next, g.now
	}
}

// emit adds the outputs at a time to the batch, and counts them by kind.
func (g *group) emit(r *ruleConfig, at int64, out *model.Batch, counts *[kinds]int) {
	if !g.begun {
		return
	}
	if g.names == nil {
		g.names = r.names(g.key)
	}
	names := g.names
	for i := range r.outputs {
		o := &r.outputs[i]
		switch o.kind {
		case quantiles:
			counts[o.kind] += g.now.emitQuantiles(o, names, at, out)
			names = names[len(o.phis):]
		case histogramBucket:
			for _, b := range g.buckets {
				counts[o.kind] += b.name.write(out, at, float64(b.count))
			}
		default:
			if v, ok := g.value(o.kind); ok {
				counts[o.kind] += names[0].write(out, at, v)
			}
			names = names[1:]
		}
	}
}

// emitQuantiles adds the quantiles, and returns how many those are.
func (v *values) emitQuantiles(o *output, names []seriesName, at int64, out *model.Batch) (n int) {
	if v.empty() {
		return 0
	}
	var room [16]float64
	for i, q := range v.more.sketch.quantiles(room[:0], o.phis) {
		n += names[i].write(out, at, q)
	}
	return n
}

// write adds a sample, and returns how many those are.
func (n *seriesName) write(out *model.Batch, at int64, v float64) int {
	if len(n.key) == 0 {
		return 0
	}
	out.AddKey(n.key, n.hash)
	out.AddSample(at, v)
	return 1
}

// value returns what an output with one value comes to; false when there is nothing to tell.
func (g *group) value(k kind) (float64, bool) {
	v, s := &g.now, &g.sums
	switch k {
	case total:
		return g.total, true
	case totalPrometheus:
		return g.totalPrometheus, true
	case sumSamplesTotal:
		return g.sumTotal, true
	case countSeries:
		return float64(s.series), s.series > 0
	case increase:
		return s.grown + s.beginnings, s.series > 0
	case increasePrometheus:
		return s.grown, s.series > 0
	case rateSum:
		return s.rate, s.rates > 0
	case rateAvg:
		return s.rate / float64(max(s.rates, 1)), s.rates > 0
	}
	return v.value(k), !v.empty()
}

// value returns an output which the samples of the window alone determine.
func (v *values) value(k kind) float64 {
	switch k {
	case avg:
		return v.sum / float64(v.count)
	case countSamples:
		return float64(v.count)
	case last:
		return v.last
	case highest:
		return v.highest
	case lowest:
		return v.lowest
	case stdvar:
		return v.squares / float64(v.count)
	case stddev:
		return math.Sqrt(v.squares / float64(v.count))
	case uniqueSamples:
		return float64(len(v.more.unique))
	default: // sumSamples
		return v.sum
	}
}

// names returns the series of the outputs of a group, without buckets.
func (r *ruleConfig) names(key string) []seriesName {
	names := make([]seriesName, 0, len(r.outputs))
	for i := range r.outputs {
		switch o := &r.outputs[i]; o.kind {
		case histogramBucket:
		case quantiles:
			for _, text := range o.texts {
				names = append(names, r.nameOf(key, o.kind, model.Label{Name: "quantile", Value: text}))
			}
		default:
			names = append(names, r.nameOf(key, o.kind, model.Label{}))
		}
	}
	return names
}

// nameOf returns the series of an output of a group, which has one more label unless that is empty. It is empty when relabelling drops it.
func (r *ruleConfig) nameOf(key string, k kind, more model.Label) (n seriesName) {
	tenant, labels, err := model.ParseSeriesKey(nil, bytesutil.Bytes(key))
	if err != nil {
		return n
	}
	if !r.keepNames {
		name := r.suffix() + kindNames()[k]
		if i := slices.IndexFunc(labels, isMetricName); i >= 0 {
			labels[i].Value += name
		} else {
			labels = append(labels, model.Label{Name: model.MetricNameLabel, Value: name})
		}
	}
	if more.Name != "" {
		labels = slices.DeleteFunc(labels, func(l model.Label) bool { return l.Name == more.Name })
		labels = append(labels, more)
	}
	labels, ok := r.result.Apply(labels)
	if !ok {
		return n
	}
	if n.key, err = model.AppendSeriesKey(nil, tenant, labels); err != nil {
		return seriesName{}
	}
	n.hash = model.HashSeriesKey(n.key)
	return n
}

func isMetricName(l model.Label) bool { return l.Name == model.MetricNameLabel }
