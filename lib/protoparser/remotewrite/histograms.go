package remotewrite

import (
	"math"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/protoparser"
)

// source is the current series of a decoder.
type source interface {
	Histograms() int
	Histogram(i int, h *nativehistogram.Histogram) (timestamp int64, err error)
}

// histograms takes the native histograms of one series after the other.
type histograms struct {
	mode     protoparser.HistogramMode
	intake   *protoparser.Intake
	counters *protoparser.Counters

	h        nativehistogram.Histogram
	payloads []byte
	list     []found
	markers  []int64 // timestamps of those which say that the series has ended
	numbers  nativehistogram.Numbers
	labels   []model.Label
}

func (p *Parser) newHistograms() histograms {
	return histograms{mode: p.intake.NativeHistograms(), intake: p.intake, counters: p.counters}
}

// found is a histogram of the current series which is good.
type found struct {
	timestamp  int64
	start, end int // among the payloads
}

// maxKept is the size from which payloads are not kept for the next series or request.
const maxKept = 4 << 20

// take reads those of the current series, counts what is wrong with some, and returns how many rows the others are. They are added by
// add, once the series has begun, or by convert.
func (x *histograms) take(c *protoparser.Collector, s source) (rows int) {
	n := s.Histograms()
	if n == 0 {
		return 0
	}
	if x.mode == protoparser.DropHistograms {
		x.intake.Ignore(protoparser.NativeHistogram, n)
		return 0
	}
	for i := range n {
		timestamp, err := s.Histogram(i, &x.h)
		if err == nil {
			x.h.Reduce()
			err = x.h.Check()
		}
		switch {
		case err != nil:
			x.counters.RowsInvalid.Inc()
			c.Invalid(err.Error())
		case x.h.Stale():
			c.Converted()
			x.markers = append(x.markers, timestamp)
		default:
			start := len(x.payloads)
			x.payloads = x.h.Append(x.payloads)
			x.list = append(x.list, found{timestamp, start, len(x.payloads)})
		}
	}
	if x.mode == protoparser.RangeHistograms {
		return 0
	}
	return len(x.list) + len(x.markers)
}

// add adds what take has found to the series begun last.
func (x *histograms) add(c *protoparser.Collector) {
	for _, f := range x.list {
		c.Histogram(f.timestamp, x.payloads[f.start:f.end])
	}
	for _, timestamp := range x.markers {
		c.Sample(timestamp, staleMarker())
	}
}

// done forgets the series.
func (x *histograms) done() {
	x.list, x.markers, x.payloads = x.list[:0], x.markers[:0], x.payloads[:0]
	if cap(x.payloads) > maxKept {
		x.payloads = nil
	}
}

// staleMarker is the value which ends a series.
func staleMarker() float64 { return math.Float64frombits(0x7ff0000000000002) }

// convert stores what take has found as samples of series of buckets, counts and sums. Which buckets there were is not known any more when the series
// ends.
func (x *histograms) convert(c *protoparser.Collector, labels []model.Label) {
	for _, f := range x.list {
		if err := x.h.Parse(x.payloads[f.start:f.end]); err != nil {
			continue // never, as Append wrote it
		}
		c.Converted()
		x.numbers.Each(&x.h, func(suffix string, vmrange []byte, value float64) {
			x.sample(c, labels, suffix, string(vmrange), model.Sample{Timestamp: f.timestamp, Value: value})
		})
	}
	for _, timestamp := range x.markers {
		for _, suffix := range [...]string{"_count", "_sum"} {
			x.sample(c, labels, suffix, "", model.Sample{Timestamp: timestamp, Value: staleMarker()})
		}
	}
}

func (x *histograms) sample(c *protoparser.Collector, labels []model.Label, suffix, vmrange string, s model.Sample) {
	x.labels = model.AppendPartLabels(x.labels[:0], labels, suffix, vmrange)
	if c.StartSeries(x.labels, 1) {
		c.Sample(s.Timestamp, s.Value)
	}
}
