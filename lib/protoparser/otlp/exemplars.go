package otlp

import (
	"encoding/hex"
	"math"
	"slices"
	"unicode/utf8"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// exemplar is one of a point.
type exemplar struct {
	attributes      []model.Label // beyond those of the point
	time            uint64        // Unix nanoseconds
	value           float64
	traceID, spanID []byte
}

// appendExemplar reads an Exemplar.
func (p *point) appendExemplar(message []byte) error {
	var e exemplar
	err := fields(message, func(f field) error {
		switch {
		case f.message(7):
			return appendAttribute(&e.attributes, f.bytes)
		case f.fixed(2):
			e.time = f.bits
		case f.fixed(3):
			e.value = f.float()
		case f.fixed(6):
			e.value = float64(int64(f.bits))
		case f.message(4):
			e.spanID = f.bytes
		case f.message(5):
			e.traceID = f.bytes
		}
		return nil
	})
	p.exemplars = append(p.exemplars, e)
	return err
}

// addExemplars stores the exemplars of a point which has been added.
func (w *writer) addExemplars(p *point) {
	if p.isFaulty || w.proto != nil && !w.readLabels(p) {
		return
	}
	for i := range p.exemplars {
		e := &p.exemplars[i]
		if !w.render(p, w.partOf(p, e.value)) {
			return
		}
		w.series = protoparser.AppendRawLabels(w.series[:0], w.raw)
		if w.exemplars.Series(w.series) {
			w.exemplars.Add(w.exemplarLabels(e), int64(e.time/1e6), e.value)
		}
	}
}

// partOf returns the series of a point to which an exemplar belongs: of histograms, the bucket in which the value was counted.
func (w *writer) partOf(p *point, value float64) part {
	switch w.metric.kind {
	case histogram:
		for _, bound := range p.bounds {
			if value <= bound {
				return le(bound)
			}
		}
		return le(math.Inf(1))
	case exponential:
		if !w.config.NativeHistograms {
			low, high := p.rangeOf(value)
			return part{kind: rangeBucket, low: low, high: high}
		}
	}
	return part{}
}

// rangeOf returns the bounds of the bucket of an exponential histogram in which a value was counted.
func (p *point) rangeOf(value float64) (low, high float64) {
	abs := math.Abs(value)
	if abs <= p.zeroThreshold {
		return -p.zeroThreshold, p.zeroThreshold
	}
	width := math.Exp2(-float64(p.scale))
	index := math.Ceil(math.Log2(abs)/width) - 1
	low, high = math.Exp2(index*width), math.Exp2((index+1)*width)
	if value < 0 {
		return -high, -low
	}
	return low, high
}

// exemplarLabels returns the labels of an exemplar. What identifies the trace comes first: attributes for which there is no room besides are left out.
func (w *writer) exemplarLabels(e *exemplar) []model.Label {
	var ids []model.Label
	if len(e.traceID) > 0 {
		ids = append(ids, model.Label{Name: "trace_id", Value: hex.EncodeToString(e.traceID)})
	}
	if len(e.spanID) > 0 {
		ids = append(ids, model.Label{Name: "span_id", Value: hex.EncodeToString(e.spanID)})
	}
	w.config.labelNames(e.attributes)
	all := nearest(append(slices.Clone(e.attributes), ids...))
	runes := 0
	for _, l := range all {
		runes += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
	}
	if runes > model.MaxExemplarRunes {
		return ids
	}
	return all
}
