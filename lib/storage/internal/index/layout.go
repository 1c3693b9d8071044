package index

import (
	"encoding/binary"
	"math/bits"
)

// See docs/format/index.md for the whole layout.
const (
	formatVersion   = 1
	segmentMagic    = "vmclidx" // followed by the version byte
	segmentHeader   = 8
	footerFields    = 13
	segmentTrailer  = footerFields*8 + 4
	rowEntrySize    = 12 // first id, offset
	tenantEntrySize = 32
	offsetSize      = 8
	// blockValues is the number of values that are front-coded together.
	blockValues = 32
	// bucketSeries is the average number of series per bucket of the hash table.
	bucketSeries = 16
	// minFingerprintBits bounds how many unrelated series a lookup in the hash table opens.
	minFingerprintBits = 12
)

// footer tells where everything in a segment is.
type footer struct {
	firstID, lastID uint32
	series          uint64
	values          uint64 // of all names
	rows            uint64 // row blocks, up to rowIndex
	rowIndex        uint64 // rowBlocks entries of first id and offset, then the end offset
	rowBlocks       uint64
	hashes          uint64 // bucket offsets, then entries
	bucketBits      uint64
	tenants         uint64
	tenantCount     uint64
	names           uint64 // offsets of name records
	nameCount       uint64
	valueBlocks     uint64 // offsets of value blocks, up to the footer
}

func (f *footer) appendTo(dst []byte) []byte {
	for _, v := range [footerFields]uint64{
		uint64(f.firstID) | uint64(f.lastID)<<32, f.series, f.values, f.rows, f.rowIndex, f.rowBlocks, f.hashes, f.bucketBits,
		f.tenants, f.tenantCount, f.names, f.nameCount, f.valueBlocks,
	} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

func (f *footer) decode(r *reader) {
	ids := r.u64()
	f.firstID, f.lastID = uint32(ids), uint32(ids>>32)
	for _, p := range [footerFields - 1]*uint64{
		&f.series, &f.values, &f.rows, &f.rowIndex, &f.rowBlocks, &f.hashes, &f.bucketBits, &f.tenants, &f.tenantCount, &f.names, &f.nameCount, &f.valueBlocks,
	} {
		*p = r.u64()
	}
}

// hashLayout is the shape of the hash table of a segment. An entry holds the distance of the id
// from the first one in its lower bits and a piece of the hash, the fingerprint, above.
type hashLayout struct {
	idBits, fingerprintBits int
	entrySize               int
	bucketBits              int
}

func newHashLayout(firstID, lastID uint32, bucketBits int) hashLayout {
	l := hashLayout{idBits: bits.Len32(lastID - firstID), bucketBits: bucketBits}
	l.entrySize = (l.idBits + minFingerprintBits + 7) / 8
	l.fingerprintBits = 8*l.entrySize - l.idBits
	return l
}

// bucketBitsFor returns the width of the bucket number for a count of series.
func bucketBitsFor(series int) int { return bits.Len(uint(series / bucketSeries)) }

func (l hashLayout) bucket(hash uint64) uint64 { return hash >> (64 - l.bucketBits) }

func (l hashLayout) fingerprint(hash uint64) uint64 { return hash & (1<<l.fingerprintBits - 1) }

func (l hashLayout) entry(hash uint64, distance uint32) uint64 {
	return l.fingerprint(hash)<<l.idBits | uint64(distance)
}
