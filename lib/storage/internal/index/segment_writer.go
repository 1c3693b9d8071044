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

// segmentWriter writes a segment in one pass: addValue for every label value by ascending tenant, name, value, then endValues,
// then addRow for every series by ascending id, then finish.
type segmentWriter struct {
	file   vfs.File
	buf    *bufio.Writer
	offset uint64
	crc    uint32
	enc    *zstd.Encoder
	err    error

	footer  footer
	tenants []tenantInfo
	names   []nameInfo

	valueBlocks []byte // offsets
	block       valueBlockWriter
	scratch     []byte

	rows     rowBlockWriter
	rowIndex []byte
	hashes   []hashEntry
}

// tenantInfo and nameInfo become entries of the tables, once the rows have told who is in their sets.
type tenantInfo struct {
	id    model.TenantID
	names uint64
	all   runSet
}

type nameInfo struct {
	name       []byte
	tenant     int
	firstBlock uint64
	blocks     uint64
	firstValue uint64
	values     uint64
	ids        runSet
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

// newSegmentWriter starts a segment whose ids are at least firstID.
func newSegmentWriter(fs vfs.FS, path string, firstID uint32) (*segmentWriter, error) {
	enc, err := newRowEncoder()
	if err != nil {
		return nil, err
	}
	f, err := fs.Create(path)
	if err != nil {
		return nil, err
	}
	w := &segmentWriter{file: f, buf: bufio.NewWriterSize(f, 256<<10), enc: enc}
	w.footer.firstID = firstID
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

// addValue adds a label value, unless no series has it, and returns its ordinal. The entry is not kept.
func (w *segmentWriter) addValue(e *valueEntry) (ordinal uint32, added bool) {
	if e.isEmpty() {
		return 0, false
	}
	if n := len(w.tenants); n == 0 || w.tenants[n-1].id != e.tenant {
		w.endName()
		w.tenants = append(w.tenants, tenantInfo{id: e.tenant})
	}
	t := &w.tenants[len(w.tenants)-1]
	if t.names == 0 || !bytes.Equal(e.name, w.names[len(w.names)-1].name) {
		w.endName()
		t.names++
		w.names = append(w.names, nameInfo{
			name: bytes.Clone(e.name), tenant: len(w.tenants) - 1,
			firstBlock: uint64(len(w.valueBlocks) / offsetSize), firstValue: w.footer.values,
		})
	}
	if w.block.count == blockValues {
		w.flushValues()
	}
	w.block.addText(e.value)
	w.addPosting(e)
	w.names[len(w.names)-1].values++
	w.footer.values++
	return uint32(w.footer.values - 1), true
}

// addPosting appends the posting of a value to the value block, or a reference to a bitmap which it writes, whatever is smaller.
func (w *segmentWriter) addPosting(e *valueEntry) {
	few, b := e.few, e.bitmap
	if b != nil && b.GetCardinality() < maxFew {
		few = b.ToArray()
	}
	if len(few) > 0 {
		w.scratch = appendSteps(w.scratch[:0], few, w.footer.firstID)
		if len(w.scratch) <= min(bitmapSize(few), maxInlineBytes) {
			w.block.addInline(len(few), w.scratch)
			return
		}
	}
	if b == nil {
		b = roaring.BitmapOf(few...)
	}
	n := b.GetCardinality()
	offset, size := w.writeBitmap(b)
	w.block.addExternal(n, offset, size)
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
	if w.block.count == 0 {
		return
	}
	w.valueBlocks = binary.LittleEndian.AppendUint64(w.valueBlocks, w.offset)
	w.scratch = w.block.appendTo(w.scratch[:0])
	w.write(w.scratch)
}

func (w *segmentWriter) endName() {
	w.flushValues()
	if n := len(w.names); n > 0 && w.names[n-1].blocks == 0 {
		w.names[n-1].blocks = uint64(len(w.valueBlocks)/offsetSize) - w.names[n-1].firstBlock
	}
}

// endValues ends the dictionary; rows follow.
func (w *segmentWriter) endValues() {
	w.endName()
	w.footer.rows = w.offset
	w.footer.nameCount = uint64(len(w.names))
	w.rows.init(&w.names, w.footer.values)
}

// addRow adds a series: the ordinals of its label values, ascending, or the only one that bareOrdinal returned, and
// the hash of its key.
func (w *segmentWriter) addRow(id uint32, ordinals []uint32, hash uint64) {
	if n := len(w.rows.ids); n > 0 && w.rows.ids[n-1]/rowBlockIDs != id/rowBlockIDs {
		w.flushRows()
	}
	w.footer.lastID = id
	w.footer.series++
	w.rows.add(id, ordinals)
	w.hashes = append(w.hashes, hashEntry{hash, id})
}

// bareOrdinal returns the ordinal for the row of a series which has neither name nor labels.
func (w *segmentWriter) bareOrdinal(t model.TenantID) uint32 { return w.rows.bareOrdinal(t) }

func (w *segmentWriter) flushRows() {
	if len(w.rows.ids) == 0 {
		return
	}
	w.rowIndex = binary.LittleEndian.AppendUint32(w.rowIndex, w.rows.ids[0])
	w.rowIndex = binary.LittleEndian.AppendUint64(w.rowIndex, w.offset)
	w.footer.rowBlocks++
	w.scratch = w.rows.appendCompressed(w.scratch[:0], w.enc)
	w.write(w.scratch)
	w.fillSets()
	w.rows.reset()
}

// fillSets adds the series of the block to the sets of their names and tenants.
func (w *segmentWriter) fillSets() {
	for i, id := range w.rows.ids {
		row := w.rows.row(i)
		for j, local := range row {
			c := &w.rows.columns[w.rows.column[local]]
			if c.name == uint64(len(w.names)) {
				w.bareTenant(w.rows.bare[int(w.rows.seen[local])-(len(w.rows.stamps)-len(w.rows.bare))]).all.add(id)
				continue
			}
			n := &w.names[c.name]
			n.ids.add(id)
			if j == 0 {
				w.tenants[n.tenant].all.add(id)
			}
		}
	}
}

// bareTenant returns the entry of a tenant, which may have no names.
func (w *segmentWriter) bareTenant(id model.TenantID) *tenantInfo {
	i := slices.IndexFunc(w.tenants, func(t tenantInfo) bool { return t.id == id })
	if i < 0 {
		i = len(w.tenants)
		w.tenants = append(w.tenants, tenantInfo{id: id})
	}
	return &w.tenants[i]
}

// finish writes the rest and makes the file durable. It returns its size.
func (w *segmentWriter) finish() (int64, error) {
	w.flushRows()
	w.writeRowIndex()
	w.writeHashes()
	var names []byte
	for i := range w.names {
		names = binary.LittleEndian.AppendUint64(names, w.writeName(&w.names[i]))
	}
	tenants := w.writeTenants()
	w.footer.tenants, w.footer.tenantCount = w.offset, uint64(len(w.tenants))
	w.write(tenants)
	w.footer.names = w.offset
	w.write(names)
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

func (w *segmentWriter) writeRowIndex() {
	rowsEnd := w.offset
	w.footer.rowIndex = w.offset
	w.write(w.rowIndex)
	w.write(binary.LittleEndian.AppendUint64(nil, rowsEnd))
}

// writeHashes writes the hash table. Entries are moved to their buckets first, which is most of the work, and then sorted within each.
func (w *segmentWriter) writeHashes() {
	w.footer.hashes = w.offset
	w.footer.bucketBits = uint64(bucketBitsFor(len(w.hashes)))
	l := newHashLayout(w.footer.firstID, w.footer.lastID, int(w.footer.bucketBits))
	starts := make([]uint32, 1<<l.bucketBits+1)
	for i := range w.hashes {
		starts[l.bucket(w.hashes[i].hash)+1]++
	}
	w.scratch = w.scratch[:0]
	for b := range starts {
		if b > 0 {
			starts[b] += starts[b-1]
		}
		w.scratch = binary.LittleEndian.AppendUint32(w.scratch, starts[b])
	}
	w.write(w.scratch)
	l.spread(w.hashes, starts)
	for b := range starts[:len(starts)-1] {
		bucket := w.hashes[starts[b]:starts[b+1]]
		slices.SortFunc(bucket, func(a, b hashEntry) int {
			return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.id, b.id))
		})
		w.scratch = w.scratch[:0]
		for _, e := range bucket {
			w.scratch = binary.LittleEndian.AppendUint64(w.scratch, l.entry(e.hash, e.id-w.footer.firstID))
			w.scratch = w.scratch[:len(w.scratch)-8+l.entrySize]
		}
		w.write(w.scratch)
	}
	w.hashes = nil
}

// spread moves entries to their buckets, which begin at starts, without memory for a copy.
func (l hashLayout) spread(entries []hashEntry, starts []uint32) {
	next := slices.Clone(starts)
	for b := range starts[:len(starts)-1] {
		for next[b] < starts[b+1] {
			i := next[b]
			to := l.bucket(entries[i].hash)
			entries[i], entries[next[to]] = entries[next[to]], entries[i]
			next[to]++
		}
	}
}

// writeName writes the bitmap and the record of a name and returns the offset of the record.
func (w *segmentWriter) writeName(n *nameInfo) uint64 {
	offset, size := w.writeBitmap(n.ids.bitmap())
	start := w.offset
	record := binary.AppendUvarint(nil, uint64(len(n.name)))
	record = append(record, n.name...)
	for _, v := range [6]uint64{n.firstBlock, n.blocks, n.firstValue, n.values, offset, size} {
		record = binary.AppendUvarint(record, v)
	}
	w.write(record)
	return start
}

// writeTenants writes the bitmaps of the tenants and returns their table.
func (w *segmentWriter) writeTenants() []byte {
	slices.SortFunc(w.tenants, func(a, b tenantInfo) int { return a.id.Compare(b.id) })
	var table []byte
	firstName := uint64(0)
	for i := range w.tenants {
		t := &w.tenants[i]
		offset, size := w.writeBitmap(t.all.bitmap())
		table = t.id.AppendTo(table)
		table = binary.LittleEndian.AppendUint32(table, uint32(firstName))
		firstName += t.names
		table = binary.LittleEndian.AppendUint32(table, uint32(t.names))
		table = binary.LittleEndian.AppendUint64(table, offset)
		table = binary.LittleEndian.AppendUint64(table, size)
	}
	return table
}

// abort closes the file of an unfinished segment.
func (w *segmentWriter) abort() error { return w.file.Close() }
