package index

import (
	"encoding/binary"
	"hash/crc32"

	"vmcluster/lib/errkind"
)

// checksum is the CRC32C of b.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// reader decodes bytes and remembers whether they were too few or malformed. After
// that it returns zero values.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// length reads a number that counts things of at least size bytes each that follow.
func (r *reader) length(size uint64) int {
	n := r.uvarint()
	if n > uint64(len(r.b))/size {
		r.fail()
		return 0
	}
	return int(n)
}

// uvarints returns the bytes of the next n numbers, at least one, as they are.
func (r *reader) uvarints(n int) []byte {
	for i, c := range r.b {
		if c >= 0x80 {
			continue
		}
		if n--; n == 0 {
			return r.bytes(uint64(i) + 1)
		}
	}
	r.fail()
	return nil
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func corrupt(path, what string) error {
	return errkind.New(errkind.Corrupt, "cannot read index file %q: damaged %s; restore the directory of the month from a backup", path, what)
}

func unknownVersion(path string, version, known byte) error {
	return errkind.New(errkind.Unsupported, "cannot read index file %q: it has format version %d and this program knows %d; use the version which wrote it, or a newer one", path, version, known)
}
