package model

import (
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// Start is when a series began to count, at 0.
type Start struct {
	Series    []byte // canonical series key
	Timestamp int64  // Unix milliseconds
}

// AppendTo appends the start as it travels between nodes.
func (s *Start) AppendTo(dst []byte) []byte {
	return codec.AppendVarint(codec.AppendBytes(dst, s.Series), s.Timestamp)
}

// UnmarshalStarts reads what AppendTo wrote, one after the other, to the end of src, and appends the starts to dst. Their bytes alias src. An error is of kind
// Corrupt.
func UnmarshalStarts(dst []Start, src []byte) ([]Start, error) {
	for len(src) > 0 {
		var s Start
		var err error
		if s.Series, src, err = codec.CutBytes(src); err == nil {
			s.Timestamp, src, err = codec.CutVarint(src)
		}
		if err == nil {
			_, _, err = ParseSeriesKey(nil, s.Series)
		}
		if err != nil {
			return dst, errkind.New(errkind.Corrupt, "cannot read start of series: %w", err)
		}
		dst = append(dst, s)
	}
	return dst, nil
}
