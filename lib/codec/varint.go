package codec

import (
	"encoding/binary"

	"vmcluster/lib/errkind"
)

// ZigZag maps small numbers of either sign to small unsigned numbers.
func ZigZag(x int64) uint64 { return uint64(x<<1) ^ uint64(x>>63) }

// UnZigZag is the inverse of ZigZag.
func UnZigZag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// AppendUvarint appends x in 1 to 10 bytes.
func AppendUvarint(dst []byte, x uint64) []byte { return binary.AppendUvarint(dst, x) }

// AppendVarint appends the zigzag form of x in 1 to 10 bytes.
func AppendVarint(dst []byte, x int64) []byte { return binary.AppendUvarint(dst, ZigZag(x)) }

// AppendBytes appends b with its length in front.
func AppendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// CutUvarint reads what AppendUvarint wrote from the front of src.
func CutUvarint(src []byte) (x uint64, tail []byte, err error) {
	if len(src) > 0 && src[0] < 0x80 {
		return uint64(src[0]), src[1:], nil
	}
	x, size := binary.Uvarint(src)
	if size <= 0 {
		return 0, src, errkind.New(errkind.Corrupt, "cannot read variable-length integer from %d bytes: it is cut off or too long", len(src))
	}
	return x, src[size:], nil
}

// CutVarint reads what AppendVarint wrote from the front of src.
func CutVarint(src []byte) (x int64, tail []byte, err error) {
	u, tail, err := CutUvarint(src)
	return UnZigZag(u), tail, err
}

// CutBytes reads what AppendBytes wrote from the front of src. The bytes alias src.
func CutBytes(src []byte) (b, tail []byte, err error) {
	n, tail, err := CutUvarint(src)
	if err != nil {
		return nil, src, err
	}
	if n > uint64(len(tail)) {
		return nil, src, errkind.New(errkind.Corrupt, "cannot read %d bytes: only %d are left", n, len(tail))
	}
	return tail[:n:n], tail[n:], nil
}
