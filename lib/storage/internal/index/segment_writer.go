package index

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

// segmentWriter writes a segment in one pass: addRow for every series by ascending id, then
// addValue for every label value by ascending tenant, name, value, then finish.
type segmentWriter struct {
	file   vfs.File
	buf    *bufio.Writer
	offset uint64
	crc    uint32
	enc    *zstd.Encoder
	err    error

	footer   footer
	rows     rowBlockWriter
	rowIndex []byte
	hashes   []hashEntry
	all      map[model.TenantID]*runSet

	tenants     []byte
	tenant      model.TenantID
	hasTenant   bool
	firstName   uint64
	names       []byte // offsets
	name        []byte
	hasName     bool
	firstBlock  uint64
	values      uint64 // of the name
	withName    idSet
	valueBlocks []byte // offsets
	block       []byte
	blockCount  int
	last        []byte // value written last
	scratch     []byte
}

type hashEntry struct {
	hash uint64
	id   uint32
}

// valueEntry is one label value and the ids that have it: a bitmap, or few ids in ascending order.
type valueEntry struct {
	tenant      model.TenantID
	name, value []byte
	few         []uint32
	bitmap      *roaring.Bitmap
}

// drop removes ids from the entry.
func (e *valueEntry) drop(ids *roaring.Bitmap) {
	switch {
	case ids.IsEmpty():
	case e.bitmap != nil:
		e.bitmap.AndNot(ids)
	default:
		e.few = slices.DeleteFunc(e.few, ids.Contains)
	}
}

func (e *valueEntry) isEmpty() bool {
	if e.bitmap != nil {
		return e.bitmap.IsEmpty()
	}
	return len(e.few) == 0
}

func newSegmentWriter(fs vfs.FS, path string) (*segmentWriter, error) {
	enc, err := newRowEncoder()
	if err != nil {
		return nil, err
	}
	f, err := fs.Create(path)
	if err != nil {
		return nil, err
	}
	w := &segmentWriter{file: f, buf: bufio.NewWriterSize(f, 256<<10), enc: enc, all: map[model.TenantID]*runSet{}}
	w.write(append([]byte(segmentMagic), formatVersion))
	return w, nil
}

func (w *segmentWriter) write(b []byte) {
	if w.err != nil {
		return
	}
	w.crc = crc32.Update(w.crc, crc32.MakeTable(crc32.Castagnoli), b)
	w.offset += uint64(len(b))
	_, w.err = w.buf.Write(b)
}

func (w *segmentWriter) addRow(id uint32, key []byte) {
	if n := len(w.rows.ids); n > 0 && w.rows.ids[n-1]/rowBlockIDs != id/rowBlockIDs {
		w.flushRows()
	}
	if w.footer.series == 0 {
		w.footer.firstID = id
	}
	w.footer.lastID = id
	w.footer.series++
	w.rows.add(id, key)
	w.hashes = append(w.hashes, hashEntry{model.HashSeriesKey(key), id})
	t := model.SeriesKeyTenant(key)
	ids := w.all[t]
	if ids == nil {
		ids = &runSet{}
		w.all[t] = ids
	}
	ids.add(id)
}

func (w *segmentWriter) flushRows() {
	if len(w.rows.ids) == 0 {
		return
	}
	w.rowIndex = binary.LittleEndian.AppendUint32(w.rowIndex, w.rows.ids[0])
	w.rowIndex = binary.LittleEndian.AppendUint64(w.rowIndex, w.offset)
	w.footer.rowBlocks++
	w.scratch = w.rows.appendCompressed(w.scratch[:0], w.enc)
	w.write(w.scratch)
}

// endRows writes what belongs to rows; the dictionary follows.
func (w *segmentWriter) endRows() {
	w.flushRows()
	rowsEnd := w.offset
	w.footer.rowIndex = w.offset
	w.write(w.rowIndex)
	w.write(binary.LittleEndian.AppendUint64(nil, rowsEnd))
	w.rowIndex = nil

	w.footer.hashes = w.offset
	w.footer.bucketBits = uint64(bucketBitsFor(len(w.hashes)))
	l := newHashLayout(w.footer.firstID, w.footer.lastID, int(w.footer.bucketBits))
	slices.SortFunc(w.hashes, func(a, b hashEntry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.id, b.id))
	})
	buckets := make([]byte, 0, 4<<l.bucketBits+4)
	entries := make([]byte, 0, len(w.hashes)*l.entrySize)
	next := 0
	for b := range uint64(1) << l.bucketBits {
		buckets = binary.LittleEndian.AppendUint32(buckets, uint32(next))
		for next < len(w.hashes) && l.bucket(w.hashes[next].hash) == b {
			e := w.hashes[next]
			entry := binary.LittleEndian.AppendUint64(nil, l.entry(e.hash, e.id-w.footer.firstID))
			entries = append(entries, entry[:l.entrySize]...)
			next++
		}
	}
	w.write(binary.LittleEndian.AppendUint32(buckets, uint32(next)))
	w.write(entries)
	w.hashes = nil
}

// addValue adds a label value, unless no series has it. The entry is not kept.
func (w *segmentWriter) addValue(e *valueEntry) {
	if e.isEmpty() {
		return
	}
	if !w.hasTenant || e.tenant != w.tenant {
		w.endTenant()
		w.tenant, w.hasTenant, w.firstName = e.tenant, true, w.footer.nameCount
	}
	if !w.hasName || !bytes.Equal(e.name, w.name) {
		w.endName()
		w.name, w.hasName = append(w.name[:0], e.name...), true
		w.firstBlock, w.values = uint64(len(w.valueBlocks)/offsetSize), 0
	}
	if w.blockCount == blockValues {
		w.flushValues()
	}
	shared := 0
	if w.blockCount > 0 {
		for shared < len(w.last) && shared < len(e.value) && w.last[shared] == e.value[shared] {
			shared++
		}
	}
	ids := w.postingOf(e)
	w.block = binary.AppendUvarint(w.block, uint64(shared))
	w.block = binary.AppendUvarint(w.block, uint64(len(e.value)-shared))
	w.block = append(w.block, e.value[shared:]...)
	w.block = append(w.block, ids...)
	w.last = append(w.last[:0], e.value...)
	w.blockCount++
	w.values++
}

// postingOf returns the posting as it stands in a value block and writes its bitmap if it has one.
func (w *segmentWriter) postingOf(e *valueEntry) []byte {
	few := e.few
	if e.bitmap != nil {
		w.withName.or(e.bitmap)
		if e.bitmap.GetCardinality() < inlineIDs {
			few = e.bitmap.ToArray()
		}
	} else {
		w.withName.few = append(w.withName.few, few...)
		w.withName.spill()
	}
	if few == nil || len(few) >= inlineIDs {
		b := e.bitmap
		if b == nil {
			b = roaring.BitmapOf(few...)
		}
		n := b.GetCardinality()
		offset, size := w.writeBitmap(b)
		w.scratch = binary.AppendUvarint(w.scratch[:0], n)
		w.scratch = binary.AppendUvarint(w.scratch, offset)
		w.scratch = binary.AppendUvarint(w.scratch, size)
		return w.scratch
	}
	w.scratch = binary.AppendUvarint(w.scratch[:0], uint64(len(few)))
	previous := w.footer.firstID
	for _, id := range few {
		w.scratch = binary.AppendUvarint(w.scratch, uint64(id-previous))
		previous = id
	}
	return w.scratch
}

// writeBitmap writes a bitmap, which it may reorganise, and returns its place.
func (w *segmentWriter) writeBitmap(b *roaring.Bitmap) (offset, size uint64) {
	b.RunOptimize()
	data, err := b.ToBytes()
	if err != nil && w.err == nil {
		w.err = err
	}
	offset = w.offset
	w.write(data)
	return offset, uint64(len(data))
}

func (w *segmentWriter) flushValues() {
	if w.blockCount == 0 {
		return
	}
	w.valueBlocks = binary.LittleEndian.AppendUint64(w.valueBlocks, w.offset)
	w.write(binary.AppendUvarint(nil, uint64(w.blockCount)))
	w.write(w.block)
	w.block, w.blockCount = w.block[:0], 0
}

func (w *segmentWriter) endName() {
	if !w.hasName {
		return
	}
	w.hasName = false
	w.flushValues()
	offset, size := w.writeBitmap(w.withName.take())
	w.names = binary.LittleEndian.AppendUint64(w.names, w.offset)
	w.footer.nameCount++
	record := binary.AppendUvarint(nil, uint64(len(w.name)))
	record = append(record, w.name...)
	blocks := uint64(len(w.valueBlocks)/offsetSize) - w.firstBlock
	for _, v := range [5]uint64{w.firstBlock, blocks, w.values, offset, size} {
		record = binary.AppendUvarint(record, v)
	}
	w.write(record)
}

func (w *segmentWriter) endTenant() {
	w.endName()
	if !w.hasTenant {
		return
	}
	w.hasTenant = false
	w.writeTenant(w.tenant, w.firstName)
}

func (w *segmentWriter) writeTenant(t model.TenantID, firstName uint64) {
	var all idSet
	if ids := w.all[t]; ids != nil {
		ids.addTo(&all)
		delete(w.all, t)
	}
	b := all.take()
	offset, size := w.writeBitmap(b)
	w.tenants = t.AppendTo(w.tenants)
	w.tenants = binary.LittleEndian.AppendUint32(w.tenants, uint32(firstName))
	w.tenants = binary.LittleEndian.AppendUint32(w.tenants, uint32(w.footer.nameCount-firstName))
	w.tenants = binary.LittleEndian.AppendUint64(w.tenants, offset)
	w.tenants = binary.LittleEndian.AppendUint64(w.tenants, size)
	w.footer.tenantCount++
}

// finish writes the rest and makes the file durable. It returns its size.
func (w *segmentWriter) finish() (int64, error) {
	w.endTenant()
	w.bareTenants()
	w.footer.tenants = w.offset
	w.write(w.tenants)
	w.footer.names = w.offset
	w.write(w.names)
	w.footer.valueBlocks = w.offset
	w.write(w.valueBlocks)
	w.write(w.footer.appendTo(nil))
	w.write(binary.LittleEndian.AppendUint32(nil, w.crc))
	if w.err == nil {
		w.err = w.buf.Flush()
	}
	if w.err == nil {
		w.err = w.file.Sync()
	}
	if err := w.file.Close(); w.err == nil {
		w.err = err
	}
	return int64(w.offset), w.err
}

// bareTenants adds the tenants whose only series has neither name nor labels. The table stays sorted.
func (w *segmentWriter) bareTenants() {
	if len(w.all) == 0 {
		return
	}
	for _, t := range sortedTenants(w.all) {
		w.writeTenant(t, w.footer.nameCount)
	}
	entries := slices.Collect(slices.Chunk(w.tenants, tenantEntrySize))
	slices.SortFunc(entries, func(a, b []byte) int { return bytes.Compare(a[:model.TenantSize], b[:model.TenantSize]) })
	w.tenants = bytes.Join(entries, nil)
}

func sortedTenants[V any](m map[model.TenantID]V) []model.TenantID {
	list := make([]model.TenantID, 0, len(m))
	for t := range m {
		list = append(list, t)
	}
	slices.SortFunc(list, model.TenantID.Compare)
	return list
}

// abort closes the file of an unfinished segment.
func (w *segmentWriter) abort() error { return w.file.Close() }
