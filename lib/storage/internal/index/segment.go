package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

const (
	// rowCacheSlots is the number of filled row blocks a segment keeps for lookups.
	rowCacheSlots = 16
	// fillAfter is how often in a row a block is asked for before it is filled for those who come next.
	fillAfter = 4
)

// rowSlot is a place for the row blocks of some numbers.
type rowSlot struct {
	filled atomic.Pointer[rowBlock]
	asked  atomic.Uint64 // the number of a block above, and how often it was asked for since another one was in the lowest byte
}

// frequent notes that a block which is not here is asked for, and reports whether it has been often.
func (x *rowSlot) frequent(block uint64) bool {
	was := x.asked.Load()
	times := uint64(1)
	if was>>8 == block {
		times = was&0xff + 1
	}
	x.asked.Store(block<<8 | min(times, fillAfter)) // a count which another goroutine overwrites is no harm
	return times >= fillAfter
}

// segment is an immutable piece of the index on disk, mapped into memory.
type segment struct {
	fs      vfs.FS
	path    string
	mapping vfs.Mapping
	data    []byte
	footer  footer
	hashes  hashLayout
	dec     *zstd.Decoder
	matches *matchCache // nil for none
	rows    *rowCache   // nil for none
	cache   [rowCacheSlots]rowSlot
	scratch sync.Pool // of *rowBlock, for reading keys in place

	refs     atomic.Int32
	obsolete atomic.Bool // remove the file with the last reference
}

// openSegment maps a segment and verifies its checksum. The caller holds one reference.
func openSegment(fs vfs.FS, path string, dec *zstd.Decoder) (*segment, error) {
	m, err := fs.Map(path)
	if err != nil {
		return nil, err
	}
	s := &segment{fs: fs, path: path, mapping: m, data: m.Bytes(), dec: dec}
	s.refs.Store(1)
	what, err := s.checkMapped()
	if what != "" {
		err = corrupt(path, what)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if v := s.data[len(segmentMagic)]; v != formatVersion {
		return nil, errors.Join(unknownVersion(path, v, formatVersion), m.Close())
	}
	return s, nil
}

// check verifies checksum and layout. It returns what is damaged.
func (s *segment) check() string {
	n := len(s.data)
	if n < segmentHeader+segmentTrailer || string(s.data[:len(segmentMagic)]) != segmentMagic {
		return "header"
	}
	if checksum(s.data[:n-4]) != binary.LittleEndian.Uint32(s.data[n-4:]) {
		return "contents: wrong checksum"
	}
	if s.data[len(segmentMagic)] != formatVersion {
		return "" // whole, but not ours to read
	}
	f := &s.footer
	f.decode(&reader{b: s.data[n-segmentTrailer : n-4]})
	size := uint64(n)
	if f.firstID > f.lastID || f.bucketBits > 32 || max(f.series, f.values, f.rowBlocks, f.tenantCount, f.nameCount) > size || f.series == 0 {
		return "footer"
	}
	s.hashes = newHashLayout(f.firstID, f.lastID, int(f.bucketBits))
	for _, part := range [5][2]uint64{
		{f.rowIndex, f.rowBlocks*rowEntrySize + offsetSize},
		{f.hashes, 4<<f.bucketBits + 4 + f.series*uint64(s.hashes.entrySize)},
		{f.tenants, f.tenantCount * tenantEntrySize},
		{f.names, f.nameCount * offsetSize},
		{f.valueBlocks, 0},
	} {
		if _, ok := s.slice(part[0], part[1]); !ok {
			return "footer"
		}
	}
	if f.valueBlocks > size-segmentTrailer {
		return "footer"
	}
	return ""
}

// slice returns n bytes at the offset.
func (s *segment) slice(offset, n uint64) ([]byte, bool) {
	size := uint64(len(s.data))
	if offset > size || n > size-offset {
		return nil, false
	}
	return s.data[offset : offset+n : offset+n], true
}

func (s *segment) corrupt(what string) error { return corrupt(s.path, what) }

func (s *segment) acquire() { s.refs.Add(1) }

// release gives a reference back. The last one closes the mapping.
func (s *segment) release() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	s.matches.forget(s)
	s.data = nil
	err := s.mapping.Close()
	if s.obsolete.Load() {
		err = errors.Join(err, s.fs.Remove(s.path))
	}
	return err
}

func (s *segment) name() string { return filepath.Base(s.path) }

// rowEntry returns the first id and the place of a row block.
func (s *segment) rowEntry(i uint64) (first uint32, offset, end uint64) {
	e := s.data[s.footer.rowIndex+i*rowEntrySize:]
	next := rowEntrySize + 4 // behind the first id of the next entry
	if i+1 == s.footer.rowBlocks {
		next = rowEntrySize // the end offset stands alone
	}
	return binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint64(e[4:]), binary.LittleEndian.Uint64(e[next:])
}

// rowBlockOf returns the number of the block which may hold id.
func (s *segment) rowBlockOf(id uint32) (uint64, bool) {
	if id < s.footer.firstID || id > s.footer.lastID || s.footer.rowBlocks == 0 {
		return 0, false
	}
	guess := uint64(id/rowBlockIDs - s.footer.firstID/rowBlockIDs)
	if guess < s.footer.rowBlocks {
		if first, _, _ := s.rowEntry(guess); first/rowBlockIDs == id/rowBlockIDs {
			return guess, true
		}
	}
	i := uint64(sort.Search(int(s.footer.rowBlocks), func(i int) bool {
		first, _, _ := s.rowEntry(uint64(i))
		return first/rowBlockIDs >= id/rowBlockIDs
	}))
	if i == s.footer.rowBlocks {
		return 0, false
	}
	first, _, _ := s.rowEntry(i)
	return i, first/rowBlockIDs == id/rowBlockIDs
}

// compressedRows returns the first id of a row block and its compressed form.
func (s *segment) compressedRows(i uint64) (first uint32, compressed []byte, err error) {
	first, offset, end := s.rowEntry(i)
	if offset > end {
		return 0, nil, s.corrupt("row index")
	}
	compressed, ok := s.slice(offset, end-offset)
	if !ok {
		return 0, nil, s.corrupt("row index")
	}
	return first, compressed, nil
}

// decodeRows opens and fills a row block.
func (s *segment) decodeRows(dst *rowBlock, i uint64) error {
	first, compressed, err := s.compressedRows(i)
	if err == nil && !dst.decode(s, compressed, first) {
		err = s.corrupt("row block")
	}
	return err
}

// openRows opens a row block of which a few keys are wanted. Others may want others soon, so it is remembered.
func (s *segment) openRows(dst *rowBlock, i uint64) error {
	first, compressed, err := s.compressedRows(i)
	if err != nil {
		return err
	}
	raw, ok := s.rows.get(rawKey{s, i})
	if !ok {
		if raw, err = s.dec.DecodeAll(compressed, nil); err != nil {
			return s.corrupt("row block")
		}
		s.rows.put(rawKey{s, i}, raw)
	}
	if !dst.open(s, raw, first) {
		return s.corrupt("row block")
	}
	return nil
}

// heapBytes returns about how much memory the rows kept for lookups take.
func (s *segment) heapBytes() int64 {
	n := int64(0)
	for i := range s.cache {
		if b := s.cache[i].filled.Load(); b != nil {
			n += b.heapBytes()
		}
	}
	return n
}

// row returns the block and the number of the row of id, if the segment has it. A block that is not filled has to be given back to
// scratch; the caller must not change a filled one.
func (s *segment) row(id uint32) (b *rowBlock, row int, ok bool, err error) {
	i, ok := s.rowBlockOf(id)
	if !ok {
		return nil, 0, false, nil
	}
	first, _, _ := s.rowEntry(i)
	slot := &s.cache[i%rowCacheSlots]
	b = slot.filled.Load()
	switch {
	case b != nil && b.first == first:
	case slot.frequent(i):
		b = &rowBlock{}
		if err := s.decodeRows(b, i); err != nil {
			return nil, 0, false, err
		}
		slot.filled.Store(b)
	default:
		if b, _ = s.scratch.Get().(*rowBlock); b == nil {
			b = &rowBlock{}
		}
		if err := s.openRows(b, i); err != nil {
			return nil, 0, false, err
		}
	}
	row, ok = b.rowOf(id)
	return b, row, ok, nil
}

// appendKey appends the key of id, if the segment has it.
func (s *segment) appendKey(dst []byte, id uint32) ([]byte, bool, error) {
	b, row, ok, err := s.row(id)
	switch {
	case err != nil || b == nil:
		return dst, false, err
	case b.filled():
		if ok {
			dst = b.appendKey(dst, row)
		}
		return dst, ok, nil
	}
	defer s.scratch.Put(b)
	if !ok {
		return dst, false, nil
	}
	if dst, ok = b.readKey(dst, row); !ok {
		return dst, false, s.corrupt("row block")
	}
	return dst, true, nil
}

// hasKey reports whether the key is that of id.
func (s *segment) hasKey(id uint32, key []byte) (bool, error) {
	b, row, ok, err := s.row(id)
	switch {
	case err != nil || b == nil:
		return false, err
	case b.filled():
		return ok && b.hasKey(row, key), nil
	}
	defer s.scratch.Put(b)
	if !ok {
		return false, nil
	}
	if b.text, ok = b.readKey(b.text[:0], row); !ok {
		return false, s.corrupt("row block")
	}
	return bytes.Equal(b.text, key), nil
}

// lookup returns the id of the series with the key that is not deleted.
func (s *segment) lookup(hash uint64, key []byte, deleted *roaring.Bitmap) (uint32, bool, error) {
	l := s.hashes
	buckets := s.data[s.footer.hashes:]
	b := l.bucket(hash)
	i, end := binary.LittleEndian.Uint32(buckets[4*b:]), binary.LittleEndian.Uint32(buckets[4*b+4:])
	if i > end || uint64(end) > s.footer.series {
		return 0, false, s.corrupt("hash table")
	}
	entries := buckets[4<<l.bucketBits+4:]
	want := l.fingerprint(hash)
	for ; i < end; i++ {
		entry := uint64(0)
		for j, v := range entries[int(i)*l.entrySize : (int(i)+1)*l.entrySize] {
			entry |= uint64(v) << (8 * j)
		}
		if entry>>l.idBits != want {
			continue
		}
		id := s.footer.firstID + uint32(entry&(1<<l.idBits-1))
		if deleted.Contains(id) {
			continue
		}
		if ok, err := s.hasKey(id, key); ok || err != nil {
			return id, ok, err
		}
	}
	return 0, false, nil
}

func (s *segment) bitmap(offset, size uint64) (*roaring.Bitmap, error) {
	data, ok := s.slice(offset, size)
	if !ok {
		return nil, s.corrupt("posting offset")
	}
	b, ok := decodeBitmap(data)
	if !ok {
		return nil, s.corrupt("posting")
	}
	return b, nil
}

// segmentReader answers for one tenant of a segment.
type segmentReader struct {
	s         *segment
	id        model.TenantID
	firstName uint64
	nameCount uint64
	all       [2]uint64 // place of the posting of all series
}

// tenantAt reads an entry of the tenant table.
func (s *segment) tenantAt(i uint64) *segmentReader {
	e := s.data[s.footer.tenants+i*tenantEntrySize:]
	return &segmentReader{
		s: s, id: model.SeriesKeyTenant(e),
		firstName: uint64(binary.LittleEndian.Uint32(e[8:])),
		nameCount: uint64(binary.LittleEndian.Uint32(e[12:])),
		all:       [2]uint64{binary.LittleEndian.Uint64(e[16:]), binary.LittleEndian.Uint64(e[24:])},
	}
}

func (s *segment) tenant(id model.TenantID) (*segmentReader, bool, error) {
	n := int(s.footer.tenantCount)
	i := sort.Search(n, func(i int) bool {
		return model.SeriesKeyTenant(s.data[s.footer.tenants+uint64(i)*tenantEntrySize:]).Compare(id) >= 0
	})
	if i == n {
		return nil, false, nil
	}
	t := s.tenantAt(uint64(i))
	if t.firstName+t.nameCount > s.footer.nameCount {
		return nil, false, s.corrupt("tenant table")
	}
	return t, t.id == id, nil
}

// tenantOfName returns the tenant that a name belongs to.
func (s *segment) tenantOfName(name uint64) (model.TenantID, bool) {
	n := int(s.footer.tenantCount)
	i := sort.Search(n, func(i int) bool {
		t := s.tenantAt(uint64(i))
		return t.firstName+t.nameCount > name
	})
	if i == n {
		return model.TenantID{}, false
	}
	return s.tenantAt(uint64(i)).id, true
}

// nameRecord describes one label name of one tenant.
type nameRecord struct {
	name       string // aliases the mapping
	firstBlock uint64
	blocks     uint64
	firstValue uint64
	values     uint64
	ids        [2]uint64 // place of the posting of all series with the label
}

func (s *segment) nameAt(i uint64) (nameRecord, error) {
	offset := binary.LittleEndian.Uint64(s.data[s.footer.names+i*offsetSize:])
	if offset > uint64(len(s.data)) {
		return nameRecord{}, s.corrupt("name offset")
	}
	r := reader{b: s.data[offset:]}
	n := nameRecord{name: bytesutil.String(r.bytes(r.uvarint()))}
	for _, p := range [6]*uint64{&n.firstBlock, &n.blocks, &n.firstValue, &n.values, &n.ids[0], &n.ids[1]} {
		*p = r.uvarint()
	}
	blocks := (uint64(len(s.data)-segmentTrailer) - s.footer.valueBlocks) / offsetSize
	if r.bad || n.firstValue > s.footer.values || n.values > s.footer.values-n.firstValue || n.firstBlock > blocks || n.blocks > blocks-n.firstBlock {
		return nameRecord{}, s.corrupt("name record")
	}
	return n, nil
}
