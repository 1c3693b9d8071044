package datadog

import (
	"cmp"
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// message walks over the fields of a protobuf message.
//
//	for m.next() { use(m.number, m.bits, m.bytes) }
//	err := m.err
type message struct {
	b      []byte // what comes next
	number protowire.Number
	wire   protowire.Type
	bits   uint64
	bytes  []byte
	err    error
}

func (m *message) next() bool {
	if len(m.b) == 0 || m.err != nil {
		return false
	}
	var n, size int
	if m.number, m.wire, n = protowire.ConsumeTag(m.b); n >= 0 {
		m.b = m.b[n:]
		switch m.wire {
		case protowire.VarintType:
			m.bits, size = protowire.ConsumeVarint(m.b)
		case protowire.Fixed64Type:
			m.bits, size = protowire.ConsumeFixed64(m.b)
		case protowire.BytesType:
			m.bytes, size = protowire.ConsumeBytes(m.b)
		default:
			size = protowire.ConsumeFieldValue(m.number, m.wire, m.b)
		}
		n = size
	}
	if n < 0 {
		m.err = protowire.ParseError(n)
		return false
	}
	m.b = m.b[n:]
	return true
}

func (m *message) isBytes(number protowire.Number) bool {
	return m.number == number && m.wire == protowire.BytesType
}

func (m *message) isVarint(number protowire.Number) bool {
	return m.number == number && m.wire == protowire.VarintType
}

func (m *message) isDouble(number protowire.Number) bool {
	return m.number == number && m.wire == protowire.Fixed64Type
}

func (m *message) double() float64 { return math.Float64frombits(m.bits) }

// numbers calls use with the numbers of a field: a packed list, or one of them.
func (m *message) numbers(use func(bits uint64)) {
	if m.wire == protowire.VarintType {
		use(m.bits)
		return
	}
	for list := m.bytes; m.wire == protowire.BytesType && len(list) > 0; {
		v, n := protowire.ConsumeVarint(list)
		if n < 0 {
			m.err = protowire.ParseError(n)
			return
		}
		use(v)
		list = list[n:]
	}
}

// milliseconds returns a time in seconds as one in milliseconds, or says what is wrong with it.
func milliseconds(seconds uint64) (ms int64, fault string) {
	if s := int64(seconds); s > math.MaxInt64/1000 || s < math.MinInt64/1000 {
		return 0, "a time is beyond what can be stored"
	}
	return int64(seconds) * 1000, ""
}

// storeSeries stores the samples of a message of /api/v2/series. It returns what is wrong with the series, or that it is no message.
func (p *Parser) storeSeries(c *protoparser.Collector, x *series, b []byte) (fault string, err error) {
	x.reset()
	m := message{b: b}
	for m.next() {
		switch {
		case m.isBytes(1):
			err = errors.Join(err, x.readResource(m.bytes))
		case m.isBytes(2):
			x.name = m.bytes
			x.add(metricName, m.bytes)
		case m.isBytes(3):
			x.add(tag, m.bytes)
		case m.isBytes(4):
			err = errors.Join(err, x.readPoint(m.bytes, &fault))
		case m.isBytes(7):
			x.add(sourceType, m.bytes)
		}
	}
	if err = errors.Join(err, m.err); err != nil {
		return "", err
	}
	if fault = cmp.Or(fault, x.fault()); fault == "" {
		p.store(c, p.v2.Counters, x, x.raw, x.samples)
	}
	return fault, nil
}

func (x *series) readResource(b []byte) error {
	var kind, name []byte
	m := message{b: b}
	for m.next() {
		switch {
		case m.isBytes(1):
			kind = m.bytes
		case m.isBytes(2):
			name = m.bytes
		}
	}
	x.add(resourceType, kind)
	x.add(resourceName, name)
	return m.err
}

func (x *series) readPoint(b []byte, fault *string) error {
	var s model.Sample
	m := message{b: b}
	for m.next() {
		switch {
		case m.isDouble(1):
			s.Value = m.double()
		case m.isVarint(2):
			if s.Timestamp, *fault = milliseconds(m.bits); *fault != "" {
				return nil
			}
		}
	}
	x.samples = append(x.samples, s)
	return m.err
}
