package codec

import "hash/crc32"

// Checksum returns the CRC32C (Castagnoli) of b.
func Checksum(b []byte) uint32 { return UpdateChecksum(0, b) }

// UpdateChecksum returns the CRC32C of what gave crc followed by b.
func UpdateChecksum(crc uint32, b []byte) uint32 {
	return crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), b)
}
