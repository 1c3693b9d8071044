package otlp

import (
	"math"

	"vmcluster/lib/model"
)

// kind is what the points of a metric are.
type kind uint8

const (
	noKind kind = iota
	gauge
	sum
	histogram
	exponential
	summary
)

// metric is what the points of a metric have in common.
type metric struct {
	kind        kind
	name        string
	unit        string
	description string
	monotonic   bool
	delta       bool // of sums and histograms
}

// point is one data point of any kind.
type point struct {
	attributes []model.Label
	isLabelled bool   // the attributes are read, and the writer has the labels
	isFaulty   bool   // the rest of the point is left out
	time       uint64 // Unix nanoseconds
	start      uint64 // likewise; 0: not known
	flags      uint32
	value      float64
	hasValue   bool // of a number

	count         uint64
	sum           float64
	hasSum        bool
	bounds        []float64
	counts        []uint64
	scale         int32
	zeroCount     uint64
	zeroThreshold float64
	positive      buckets
	negative      buckets
	quantiles     []quantile
	exemplars     []exemplar
}

// buckets are those of one sign of an exponential histogram.
type buckets struct {
	offset int32
	counts []uint64
}

type quantile struct{ quantile, value float64 }

// reset empties the point, and keeps its memory unless an odd one has made it large.
func (p *point) reset() {
	const kept = 1 << 10
	if cap(p.attributes)+cap(p.bounds)+cap(p.counts)+cap(p.quantiles)+cap(p.positive.counts)+cap(p.negative.counts)+cap(p.exemplars) > kept {
		*p = point{}
		return
	}
	clear(p.attributes)
	clear(p.exemplars)
	*p = point{
		attributes: p.attributes[:0], bounds: p.bounds[:0], counts: p.counts[:0], quantiles: p.quantiles[:0], exemplars: p.exemplars[:0],
		positive: buckets{counts: p.positive.counts[:0]}, negative: buckets{counts: p.negative.counts[:0]},
	}
}

// noRecordedValue is the flag of a point which says that there is no value any more.
const noRecordedValue = 1

// staleValue is the staleness marker of Prometheus.
func staleValue() float64 { return math.Float64frombits(0x7ff0000000000002) }

func (m *metric) metricType() model.MetricType {
	switch m.kind {
	case sum:
		if m.monotonic {
			return model.TypeCounter
		}
		return model.TypeGauge
	case gauge:
		return model.TypeGauge
	case histogram, exponential:
		return model.TypeHistogram
	case summary:
		return model.TypeSummary
	}
	return model.TypeUnknown
}

// counts reports whether the values of the metric begin at 0 and grow.
func (m *metric) counts() bool {
	switch m.kind {
	case sum:
		return m.monotonic && !m.delta
	case histogram, exponential:
		return !m.delta
	}
	return m.kind == summary
}
