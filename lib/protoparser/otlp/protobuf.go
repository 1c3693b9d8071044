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
	field      field                          // scratch
	read       func(p *point, f *field) error // reads the fields of points of the current metric
	known      known
}

// request stores the points of an ExportMetricsServiceRequest.
func (r *protobuf) request(body []byte) error {
	r.known.begin(body)
	return messages(body, 1, r.resourceMetrics)
}

// attribute appends the labels of a KeyValue to the scratch.
func (r *protobuf) attribute(b []byte) error { return appendAttribute(&r.attributes, b) }

func (r *protobuf) resourceMetrics(b []byte) error {
	if err := r.resource(b); err != nil {
		return err
	}
	return messages(b, 2, r.scopeMetrics)
}

// resource reads the resource, which may come last.
func (r *protobuf) resource(b []byte) error {
	r.attributes = r.attributes[:0]
	r.known.resource(b)
	err := messages(b, 1, func(resource []byte) error {
		r.known.scopes.add(resource)
		return messages(resource, 1, r.attribute)
	})
	r.w.setResource(r.attributes)
	return err
}

func (r *protobuf) scopeMetrics(b []byte) error {
	if err := r.scope(b); err != nil {
		return err
	}
	return messages(b, 2, r.metric)
}

// scope reads the scope, which may come last, too.
func (r *protobuf) scope(b []byte) error {
	r.attributes = r.attributes[:0]
	r.w.noScope()
	r.known.scope(b)
	return messages(b, 1, func(scope []byte) error {
		name, version := "", ""
		r.known.metrics.add(scope)
		err := fields(scope, func(f field) error {
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
	m, data, err := readMetric(b)
	if err != nil {
		return err
	}
	r.w.setMetric(m)
	r.known.metric(b, &m)
	r.read = m.kind.reader()
	return messages(data, 1, r.dataPoint)
}

// deltaTemporality is the number of AGGREGATION_TEMPORALITY_DELTA.
const deltaTemporality = 1

// readMetric reads a metric but for its points, which are in the data.
func readMetric(b []byte) (m metric, data []byte, err error) {
	err = fields(b, func(f field) error {
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
	if err != nil || m.kind != sum && m.kind != histogram && m.kind != exponential {
		return m, data, err
	}
	err = fields(data, func(f field) error {
		if f.varint(2) {
			m.delta = f.bits == deltaTemporality
		}
		if f.varint(3) {
			m.monotonic = m.kind == sum && f.bits != 0
		}
		return nil
	})
	return m, data, err
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

// attributesField returns the number of the attributes among the fields of points.
func (k kind) attributesField() protowire.Number {
	switch k {
	case histogram:
		return 9
	case exponential:
		return 1
	}
	return 7
}

func (r *protobuf) dataPoint(b []byte) error {
	if err := r.w.c.Err(); err != nil {
		return err
	}
	p, f := &r.point, &r.field
	p.reset()
	r.known.point(b)
	attributes := r.w.metric.kind.attributesField()
	for rest := b; len(rest) > 0; {
		n := f.read(rest)
		if n < 0 {
			return malformed(n)
		}
		switch {
		case f.fixed(2):
			p.start = f.bits
		case f.fixed(3):
			p.time = f.bits
		case f.message(attributes):
			r.known.attribute(rest[:n])
		default:
			if err := r.read(p, f); err != nil {
				return err
			}
		}
		rest = rest[n:]
	}
	return r.w.add(p)
}

func numberField(p *point, f *field) error {
	switch {
	case f.fixed(4):
		p.value, p.hasValue = f.float(), true
	case f.fixed(6):
		p.value, p.hasValue = float64(int64(f.bits)), true
	case f.varint(8):
		p.flags = uint32(f.bits)
	case f.message(5):
		return p.appendExemplar(f.bytes)
	}
	return nil
}

func histogramField(p *point, f *field) (err error) {
	switch {
	case f.fixed(4):
		p.count = f.bits
	case f.fixed(5):
		p.sum, p.hasSum = f.float(), true
	case f.message(6) || f.fixed(6):
		p.counts, err = appendFixed(p.counts, f, func(bits uint64) uint64 { return bits })
	case f.message(7) || f.fixed(7):
		p.bounds, err = appendFixed(p.bounds, f, math.Float64frombits)
	case f.varint(10):
		p.flags = uint32(f.bits)
	case f.message(8):
		return p.appendExemplar(f.bytes)
	}
	return err
}

func exponentialField(p *point, f *field) error {
	switch {
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
	case f.message(11):
		return p.appendExemplar(f.bytes)
	}
	return nil
}

func (b *buckets) read(message []byte) error {
	return fields(message, func(f field) (err error) {
		switch {
		case f.varint(1):
			b.offset = f.signed()
		case f.message(2) || f.varint(2):
			b.counts, err = appendVarints(b.counts, &f)
		}
		return err
	})
}

func summaryField(p *point, f *field) error {
	switch {
	case f.fixed(4):
		p.count = f.bits
	case f.fixed(5):
		p.sum = f.float()
	case f.message(6):
		var q quantile
		err := fields(f.bytes, func(f field) error {
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
