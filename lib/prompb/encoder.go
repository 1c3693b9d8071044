package prompb

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// AppendTimeSeries appends one series to the bytes of a WriteRequest.
func AppendTimeSeries[L ~struct{ Name, Value string }](dst []byte, s *TimeSeries[L]) []byte {
	size := 0
	for _, label := range s.Labels {
		n := labelSize(Label(label))
		size += 1 + varintSize(uint64(n)) + n
	}
	for _, sample := range s.Samples {
		size += 2 + sampleSize(sample)
	}
	dst = append(dst, 1<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(size))
	for _, label := range s.Labels {
		l := Label(label)
		dst = append(dst, 1<<3|wireBytes)
		dst = binary.AppendUvarint(dst, uint64(labelSize(l)))
		dst = appendString(dst, 1, l.Name)
		dst = appendString(dst, 2, l.Value)
	}
	for _, sample := range s.Samples {
		dst = append(dst, 2<<3|wireBytes, byte(sampleSize(sample)))
		dst = append(dst, 1<<3|wireFixed64)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(sample.Value))
		dst = append(dst, 2<<3|wireVarint)
		dst = binary.AppendUvarint(dst, uint64(sample.Timestamp))
	}
	return dst
}

// Metadata describes a metric.
type Metadata struct {
	Type   uint64 // 0 unknown, 1 counter, 2 gauge, 3 histogram, 5 summary
	Metric string
	Help   string
	Unit   string
}

// AppendMetadata appends the description of one metric to the bytes of a WriteRequest.
func AppendMetadata(dst []byte, m *Metadata) []byte {
	size := 1 + varintSize(m.Type) + stringSize(m.Metric) + stringSize(m.Help) + stringSize(m.Unit)
	dst = append(dst, 3<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = append(dst, 1<<3|wireVarint)
	dst = binary.AppendUvarint(dst, m.Type)
	dst = appendString(dst, 2, m.Metric)
	dst = appendString(dst, 4, m.Help)
	return appendString(dst, 5, m.Unit)
}

func labelSize(l Label) int { return stringSize(l.Name) + stringSize(l.Value) }

func sampleSize(s Sample) int { return 1 + 8 + 1 + varintSize(uint64(s.Timestamp)) }

func stringSize(s string) int { return 1 + varintSize(uint64(len(s))) + len(s) }

func varintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendString(dst []byte, field byte, s string) []byte {
	dst = append(dst, field<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}
