package otlp

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/model"
)

// protobuf reads a request as protobuf.
type protobuf struct {
	w          *writer
	attributes []model.Label                  // scratch: those of a resource or scope
	point      point                          // scratch
	read       func(p *point, f *field) error // reads the fields of points of the current metric
}

// request stores the points of an ExportMetricsServiceRequest.
func (r *protobuf) request(body []byte) error { return messages(body, 1, r.resourceMetrics) }

// attribute appends the labels of a KeyValue to the scratch.
func (r *protobuf) attribute(b []byte) error { return appendAttribute(&r.attributes, b) }

// resourceMetrics takes the resource first, which may come last.
func (r *protobuf) resourceMetrics(b []byte) error {
	r.attributes = r.attributes[:0]
	err := messages(b, 1, func(resource []byte) error { return messages(resource, 1, r.attribute) })
	if err != nil {
		return err
	}
	r.w.setResource(r.attributes)
	return messages(b, 2, r.scopeMetrics)
}

func (r *protobuf) scopeMetrics(b []byte) error {
	r.attributes = r.attributes[:0]
	r.w.noScope()
	err := messages(b, 1, func(scope []byte) error {
		name, version := "", ""
		err := fields(scope, func(f *field) error {
			switch {
			case f.message(1):
				name = f.text()
			case f.message(2):
				version = f.text()
			case f.message(3):
				return r.attribute(f.bytes)
			}
			return nil
		})
		r.w.setScope(name, version, r.attributes)
		return err
	})
	if err != nil {
		return err
	}
	return messages(b, 2, r.metric)
}

// kindOf returns what the field of a metric with the given number holds the points of.
func kindOf(number protowire.Number) kind {
	switch number {
	case 5:
		return gauge
	case 7:
		return sum
	case 9:
		return histogram
	case 10:
		return exponential
	case 11:
		return summary
	}
	return noKind
}

func (r *protobuf) metric(b []byte) error {
	var m metric
	var data []byte
	err := fields(b, func(f *field) error {
		switch {
		case f.message(1):
			m.name = f.text()
		case f.message(2):
			m.description = f.text()
		case f.message(3):
			m.unit = f.text()
		case f.wire == protowire.BytesType && kindOf(f.number) != noKind:
			m.kind, data = kindOf(f.number), f.bytes
		}
		return nil
	})
	if err != nil {
		return err
	}
	if m.kind == sum {
		err := fields(data, func(f *field) error {
			if f.varint(3) {
				m.monotonic = f.bits != 0
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.w.setMetric(m)
	r.read = m.kind.reader()
	return messages(data, 1, r.dataPoint)
}

// reader returns what reads the fields of points.
func (k kind) reader() func(p *point, f *field) error {
	switch k {
	case histogram:
		return histogramField
	case exponential:
		return exponentialField
	case summary:
		return summaryField
	}
	return numberField
}

func (r *protobuf) dataPoint(b []byte) error {
	if err := r.w.c.Err(); err != nil {
		return err
	}
	p := &r.point
	p.reset()
	err := fields(b, func(f *field) error {
		if f.fixed(3) {
			p.time = f.bits
			return nil
		}
		return r.read(p, f)
	})
	if err == nil {
		r.w.add(p)
	}
	return err
}

func numberField(p *point, f *field) error {
	switch {
	case f.message(7):
		return appendAttribute(&p.attributes, f.bytes)
	case f.fixed(4):
		p.value, p.hasValue = f.float(), true
	case f.fixed(6):
		p.value, p.hasValue = float64(int64(f.bits)), true
	case f.varint(8):
		p.flags = uint32(f.bits)
	}
	return nil
}

func histogramField(p *point, f *field) error {
	switch {
	case f.message(9):
		return appendAttribute(&p.attributes, f.bytes)
	case f.fixed(4):
		p.count = f.bits
	case f.fixed(5):
		p.sum, p.hasSum = f.float(), true
	case f.message(6) || f.fixed(6):
		return f.numbers(protowire.ConsumeFixed64, func(bits uint64) { p.counts = append(p.counts, bits) })
	case f.message(7) || f.fixed(7):
		return f.numbers(protowire.ConsumeFixed64, func(bits uint64) { p.bounds = append(p.bounds, math.Float64frombits(bits)) })
	case f.varint(10):
		p.flags = uint32(f.bits)
	}
	return nil
}

func exponentialField(p *point, f *field) error {
	switch {
	case f.message(1):
		return appendAttribute(&p.attributes, f.bytes)
	case f.fixed(4):
		p.count = f.bits
	case f.fixed(5):
		p.sum, p.hasSum = f.float(), true
	case f.varint(6):
		p.scale = f.signed()
	case f.fixed(7):
		p.zeroCount = f.bits
	case f.message(8):
		return p.positive.read(f.bytes)
	case f.message(9):
		return p.negative.read(f.bytes)
	case f.varint(10):
		p.flags = uint32(f.bits)
	case f.fixed(14):
		p.zeroThreshold = f.float()
	}
	return nil
}

func (b *buckets) read(message []byte) error {
	return fields(message, func(f *field) error {
		switch {
		case f.varint(1):
			b.offset = f.signed()
		case f.message(2) || f.varint(2):
			return f.numbers(protowire.ConsumeVarint, func(bits uint64) { b.counts = append(b.counts, bits) })
		}
		return nil
	})
}

func summaryField(p *point, f *field) error {
	switch {
	case f.message(7):
		return appendAttribute(&p.attributes, f.bytes)
	case f.fixed(4):
		p.count = f.bits
	case f.fixed(5):
		p.sum = f.float()
	case f.message(6):
		var q quantile
		err := fields(f.bytes, func(f *field) error {
			switch {
			case f.fixed(1):
				q.quantile = f.float()
			case f.fixed(2):
				q.value = f.float()
			}
			return nil
		})
		p.quantiles = append(p.quantiles, q)
		return err
	case f.varint(8):
		p.flags = uint32(f.bits)
	}
	return nil
}
