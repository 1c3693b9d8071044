package bench

import (
	"encoding/binary"
	"math"

	"vmcluster/lib/prompb"
)

// This file encodes remote write messages (lib/prompb has the other half) from labels that are
// encoded once per template: a million series would not fit into memory otherwise.

// appendLabels appends the labels as encoded fields of a TimeSeries message.
func appendLabels(dst []byte, labels ...prompb.Label) []byte {
	for _, l := range labels {
		n := 2 + uvarintLen(len(l.Name)) + len(l.Name) + uvarintLen(len(l.Value)) + len(l.Value)
		dst = binary.AppendUvarint(append(dst, 0x0a), uint64(n))
		dst = binary.AppendUvarint(append(dst, 0x0a), uint64(len(l.Name)))
		dst = append(dst, l.Name...)
		dst = binary.AppendUvarint(append(dst, 0x12), uint64(len(l.Value)))
		dst = append(dst, l.Value...)
	}
	return dst
}

// appendTimeSeries appends a TimeSeries with the encoded labels and one sample.
func appendTimeSeries(dst, labels []byte, value float64, timestampMs int64) []byte {
	sample := 1 + 8 + 1 + uvarintLen(int(timestampMs))
	dst = binary.AppendUvarint(append(dst, 0x0a), uint64(len(labels)+2+sample))
	dst = append(dst, labels...)
	dst = append(dst, 0x12, byte(sample), 0x09)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(value))
	return binary.AppendUvarint(append(dst, 0x10), uint64(timestampMs))
}

func uvarintLen(v int) int {
	n := 1
	for u := uint64(v); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
