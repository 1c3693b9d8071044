package datadog

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// The bins of the sketches of Datadog agents: bin k > 0 is about growth^(k-unity), bin 0 is zero, and bin -k is about the negative of bin k. These numbers are
// part of the protocol.
const (
	growth  = 1 + 2.0/128
	unity   = 1338
	mostBin = math.MaxInt16

	mostPoints = 10_000
)

// outputs are the series which a sketch becomes. Those of quantiles come first.
func outputs() [9]struct {
	kind     byte
	text     string
	quantile float64
} {
	return [...]struct {
		kind     byte
		text     string
		quantile float64
	}{
		{quantileText, "0.5", 0.5}, {quantileText, "0.75", 0.75}, {quantileText, "0.9", 0.9}, {quantileText, "0.95", 0.95}, {quantileText, "0.99", 0.99},
		{nameSuffix, ".min", 0}, {nameSuffix, ".max", 0}, {nameSuffix, ".sum", 0}, {nameSuffix, ".count", 0},
	}
}

// sketch is one message of sketches as it is read.
type sketch struct {
	bins   []int32
	counts []uint64
	points []sketchPoint
}

// sketchPoint is what is stored of a sketch of one time, in the order of outputs.
type sketchPoint struct {
	timestamp int64
	values    [9]float64
}

// storeSketch stores what becomes of a message of /api/beta/sketches. It returns what is wrong with the sketch, or that it is no message.
func (p *Parser) storeSketch(c *protoparser.Collector, x *series, b []byte) (fault string, err error) {
	x.reset()
	x.points = x.points[:0]
	m := message{b: b}
	note := func(f string, e error) {
		fault = cmp.Or(fault, f)
		err = errors.Join(err, e)
	}
	for m.next() {
		switch {
		case m.isBytes(1):
			x.name = m.bytes
			x.add(metricName, m.bytes)
		case m.isBytes(2):
			x.add(hostName, m.bytes)
		case m.isBytes(3):
			note("it is a distribution of an old agent, not a sketch", nil)
		case m.isBytes(4):
			x.add(tag, m.bytes)
		case m.isBytes(7) && fault == "":
			note(x.readSketch(m.bytes))
		}
	}
	note(x.fault(), m.err)
	if err != nil {
		return "", err
	}
	if fault != "" {
		return fault, nil
	}
	common := len(x.raw)
	for i, o := range outputs() {
		x.samples = x.samples[:0]
		for _, point := range x.points {
			x.samples = append(x.samples, model.Sample{Timestamp: point.timestamp, Value: point.values[i]})
		}
		x.raw = appendText(x.raw[:common], o.kind, []byte(o.text))
		p.store(c, p.beta.Counters, x, x.raw, x.samples)
		x.nulls = 0 // they count once
	}
	return "", nil
}

// readSketch adds the point of a message. A sketch without values counts as a null.
func (x *series) readSketch(b []byte) (fault string, err error) {
	var seconds, count uint64
	var least, most, sum float64
	x.bins, x.counts = x.bins[:0], x.counts[:0]
	m := message{b: b}
	for m.next() {
		switch {
		case m.isVarint(1):
			seconds = m.bits
		case m.isVarint(2):
			count = m.bits
		case m.isDouble(3):
			least = m.double()
		case m.isDouble(4):
			most = m.double()
		case m.isDouble(6):
			sum = m.double()
		case m.number == 7:
			m.numbers(func(bits uint64) { x.bins = append(x.bins, int32(protowire.DecodeZigZag(bits&math.MaxUint32))) })
		case m.number == 8:
			m.numbers(func(bits uint64) { x.counts = append(x.counts, bits&math.MaxUint32) })
		}
	}
	point := sketchPoint{}
	point.timestamp, fault = milliseconds(seconds)
	fault = cmp.Or(fault, x.checkBins())
	if len(x.points) == mostPoints { // they take many times the memory of the message
		fault = fmt.Sprintf("a series has more than %d sketches", mostPoints)
	}
	switch {
	case m.err != nil || fault != "":
		return fault, m.err
	case len(x.bins) == 0:
		x.nulls++
		return "", nil
	}
	for i, o := range outputs() {
		point.values[i] = x.quantile(o.quantile, least, most)
	}
	copy(point.values[5:], []float64{least, most, sum, float64(count)})
	x.points = append(x.points, point)
	return "", nil
}

func (s *sketch) checkBins() (fault string) {
	if len(s.bins) != len(s.counts) {
		return "a sketch has as many bins as counts, this one has not"
	}
	for i, k := range s.bins {
		if k < -mostBin || k > mostBin || i > 0 && k < s.bins[i-1] {
			return "the bins of a sketch are not in order, or beyond 32767"
		}
	}
	return ""
}

// quantile returns a quantile of the values which the bins stand for, all of which are between least and most. A value within a bin is taken for a part of
// the way to the next one.
func (s *sketch) quantile(q, least, most float64) float64 {
	total := uint64(0)
	for _, n := range s.counts {
		total += n
	}
	rank := math.RoundToEven(q * (float64(total) - 1))
	below := 0.0
	for i, n := range s.counts {
		if below += float64(n); below <= rank && i < len(s.counts)-1 || n == 0 {
			continue
		}
		low, high := binRange(s.bins[i])
		if i == 0 {
			low = least
		}
		low, high = min(max(low, least), most), min(max(high, least), most)
		part := (below - rank) / float64(n)
		return low*part + high*(1-part)
	}
	return most
}

// binRange returns between which numbers values of a bin are taken to be.
func binRange(k int32) (low, high float64) {
	switch {
	case k < 0:
		low, high = binRange(-k)
		return -high, -low
	case k == 0:
		return 0, 0
	case k == mostBin:
		return math.Inf(1), math.Inf(1)
	}
	low = math.Pow(growth, float64(k-unity))
	return low, low * growth
}
