package codec

import "vmcluster/lib/errkind"

// formatInts is the one format of timestamp columns: an integer column.
const formatInts = 1

// AppendTimestamps appends a column of at most MaxColumnLen timestamps, format byte first.
func (e *Encoder) AppendTimestamps(dst []byte, timestamps []int64) []byte {
	return e.AppendInts(append(dst, formatInts), timestamps)
}

// DecodeTimestamps appends the n timestamps of a column to dst. Src is the
// whole column. Errors are of kind Corrupt; dst is then returned unchanged.
func DecodeTimestamps(dst []int64, src []byte, n int) ([]int64, error) {
	if len(src) == 0 || src[0] != formatInts {
		return dst, errkind.New(errkind.Corrupt, "cannot decode timestamps of %d bytes: their format is missing or unknown", len(src))
	}
	start := len(dst)
	dst, err := DecodeInts(dst, src[1:], n)
	if err != nil {
		return dst[:start], errkind.New(errkind.Corrupt, "cannot decode timestamps: %w", err)
	}
	return dst, nil
}
