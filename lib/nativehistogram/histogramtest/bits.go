package histogramtest

import (
	"encoding/binary"
	"errors"
	"math"

	nh "vmcluster/lib/nativehistogram"
)

// OfBits returns a payload which stands for the bits, so that models of stores can keep numbers instead. Some are large, some no histograms.
func OfBits(bits uint64) []byte {
	if bits%64 == 1 {
		return binary.BigEndian.AppendUint64([]byte{0xff}, bits)
	}
	n := uint32(bits >> 3 % 24)
	if bits%1024 == 2 {
		n = 1500
	}
	h := nh.Histogram{Schema: int32(bits % 5), Sum: math.Float64frombits(bits)}
	for i := range n {
		count := uint64(i%50) * (bits >> 8 & 0xff)
		h.Positive.Counts = append(h.Positive.Counts, count)
		h.Count += count
	}
	if n > 0 {
		h.Positive.Spans = []nh.Span{{Offset: int32(bits % 7), Length: n}}
	}
	return h.Append(nil)
}

// Bits returns what OfBits has made the payload of.
func Bits(payload []byte) (uint64, error) {
	bits := uint64(0)
	if len(payload) == 9 && payload[0] == 0xff {
		bits = binary.BigEndian.Uint64(payload[1:])
	} else {
		var h nh.Histogram
		if err := h.Parse(payload); err != nil {
			return 0, err
		}
		bits = math.Float64bits(h.Sum)
	}
	if string(OfBits(bits)) != string(payload) {
		return 0, errors.New("it is not a payload which stands for bits")
	}
	return bits, nil
}
