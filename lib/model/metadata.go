package model

import (
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// MetricType is what a metric is said to be. The numbers are part of the insert and select protocols, and those of remote write.
type MetricType uint8

// The types.
const (
	TypeUnknown        MetricType = 0
	TypeCounter        MetricType = 1
	TypeGauge          MetricType = 2
	TypeHistogram      MetricType = 3
	TypeGaugeHistogram MetricType = 4
	TypeSummary        MetricType = 5
	TypeInfo           MetricType = 6
	TypeStateset       MetricType = 7

	metricTypes = 8
)

func metricTypeNames() [metricTypes]string {
	return [...]string{"unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"}
}

// String returns the type as text exposition writes it.
func (t MetricType) String() string {
	if t >= metricTypes {
		t = TypeUnknown
	}
	return metricTypeNames()[t]
}

// ParseMetricType returns the type with the given name, which is unknown for any other.
func ParseMetricType(name string) MetricType {
	for i, n := range metricTypeNames() {
		if n == name {
			return MetricType(i)
		}
	}
	return TypeUnknown
}

// Metadata is what a sender said of a metric.
type Metadata struct {
	Tenant TenantID
	Metric string
	Type   MetricType
	Unit   string
	Help   string
}

// AppendTo appends the metadata as it travels between nodes: tenant, type, then metric, unit and help with their lengths.
func (m *Metadata) AppendTo(dst []byte) []byte {
	dst = m.Tenant.AppendTo(dst)
	dst = append(dst, byte(m.Type))
	for _, s := range [...]string{m.Metric, m.Unit, m.Help} {
		dst = codec.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

// UnmarshalMetadata reads what AppendTo wrote from the front of src. The strings are copies. An error is of kind Corrupt.
func UnmarshalMetadata(src []byte, m *Metadata) (tail []byte, err error) {
	if len(src) <= TenantSize {
		return src, errkind.New(errkind.Corrupt, "cannot read metadata from %d bytes", len(src))
	}
	m.Tenant, m.Type, tail = SeriesKeyTenant(src), MetricType(src[TenantSize]), src[TenantSize+1:]
	for _, to := range [...]*string{&m.Metric, &m.Unit, &m.Help} {
		var b []byte
		if b, tail, err = codec.CutBytes(tail); err != nil {
			return src, errkind.New(errkind.Corrupt, "cannot read metadata: %w", err)
		}
		*to = string(b)
	}
	return tail, nil
}
