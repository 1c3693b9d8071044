package codec

import "hash/crc32"

// Checksum returns the CRC32C (Castagnoli) of b.
func Checksum(b []byte) uint32 { return UpdateChecksum(0, b) }

// UpdateChecksum returns the CRC32C of what gave crc followed by b.
func UpdateChecksum(crc uint32, b []byte) uint32 {
	return crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), b)
}

// CombineChecksums returns the CRC32C of what gave a followed by the size bytes that gave b. Appending size zeros multiplies a by x^(8*size)
// modulo the polynomial; the powers come by squaring.
func CombineChecksums(a, b uint32, size int64) uint32 {
	shift, power := uint32(1<<31), uint32(1<<23) // 1 and x^8: the highest bit is x^0
	for ; size > 0; size >>= 1 {
		if size&1 != 0 {
			shift = multiplyChecksums(shift, power)
		}
		power = multiplyChecksums(power, power)
	}
	return multiplyChecksums(shift, a) ^ b
}

// multiplyChecksums multiplies two polynomials over GF(2) modulo that of CRC32C.
func multiplyChecksums(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}
