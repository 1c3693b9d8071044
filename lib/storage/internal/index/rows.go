package index

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/model"
)

const (
	// rowBlockIDs is the range of ids whose rows are compressed together.
	rowBlockIDs = 512
	// maxRowBlockBytes bounds what one block may decompress to.
	maxRowBlockBytes = 1 << 30
	// maxRowRefs bounds the labels of all rows in a block.
	maxRowRefs = 1 << 26
)

// rowBlock holds the rows of neighbouring ids. First it is opened, which finds out where everything is; then it is filled, which looks
// up all values, or single keys are read in place.
type rowBlock struct {
	s      *segment
	first  uint32 // the id at the start of its range
	ids    []uint32
	starts []uint32 // of the rows in refs, and the end of the last; empty until it is filled
	refs   []uint32 // indexes in values, ascending in a row
	values []rowValue
	text   []byte

	shapeOf plane
	columns []rowColumn
	shapes  []uint32 // columns, one shape after the other
	ends    []uint32 // of the shapes
	raw     []byte   // scratch from here on
	counts  []uint32 // by shape
	ranks   []uint32 // by column
	cursor  textCursor
}

// rowValue is a label value that a row of the block has.
type rowValue struct {
	ordinal    uint32 // in the segment, of all label values; unless bare
	start, end uint32 // of its piece of a key in rowBlock.text
	column     uint32
}

// rowColumn is one label of one tenant. The bare column stands for series with neither name nor labels.
type rowColumn struct {
	name    uint64 // its number in the segment
	numbers []byte // of the values of the name that occur, as they are stored
	count   uint32 // how many these are
	rows    uint32
	plane   []byte // per row that has the label the number of its value, when there are several
	first   uint32 // index in rowBlock.values
	tenant  model.TenantID
	metric  bool
	bare    bool
}

// rowOf returns the number of the row of an id.
func (b *rowBlock) rowOf(id uint32) (int, bool) {
	if i := int(id - b.first); i < len(b.ids) && b.ids[i] == id { // ids without gaps stand at their offset
		return i, true
	}
	return slices.BinarySearch(b.ids, id)
}

func (b *rowBlock) heapBytes() int64 {
	return int64(cap(b.raw)+cap(b.text)) + 4*int64(cap(b.ids)+cap(b.starts)+cap(b.refs)+cap(b.shapes)+cap(b.ends)+cap(b.counts)+cap(b.ranks)) +
		int64(cap(b.values))*int64(unsafe.Sizeof(rowValue{})) + int64(cap(b.columns))*int64(unsafe.Sizeof(rowColumn{}))
}

func (b *rowBlock) row(i int) []uint32 { return b.refs[b.starts[i]:b.starts[i+1]] }

func (b *rowBlock) filled() bool { return len(b.starts) > 0 }

// appendHead appends what stands in a key before its values.
func (c *rowColumn) appendHead(dst []byte) []byte {
	dst = c.tenant.AppendTo(dst)
	if !c.metric {
		dst = append(dst, 0)
	}
	return dst
}

// appendPiece appends what a label adds to a key.
func appendPiece(dst []byte, name string, value []byte) []byte {
	if name != "" {
		dst = binary.AppendUvarint(dst, uint64(len(name)))
		dst = append(dst, name...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// appendKey appends the key of a row. The block is filled.
func (b *rowBlock) appendKey(dst []byte, i int) []byte {
	refs := b.row(i)
	dst = b.columns[b.values[refs[0]].column].appendHead(dst)
	for _, ref := range refs {
		v := &b.values[ref]
		dst = append(dst, b.text[v.start:v.end]...)
	}
	return dst
}

// hasKey reports whether key is that of a row. The block is filled.
func (b *rowBlock) hasKey(i int, key []byte) bool {
	refs := b.row(i)
	var buf [model.TenantSize + 1]byte
	head := b.columns[b.values[refs[0]].column].appendHead(buf[:0])
	if !bytes.HasPrefix(key, head) {
		return false
	}
	key = key[len(head):]
	for _, ref := range refs {
		v := &b.values[ref]
		piece := b.text[v.start:v.end]
		if !bytes.HasPrefix(key, piece) {
			return false
		}
		key = key[len(piece):]
	}
	return len(key) == 0
}

// readKey appends the key of a row of a block that need not be filled. To fill a block takes as long as some dozens of that.
// False means damage.
func (b *rowBlock) readKey(dst []byte, row int) ([]byte, bool) {
	b.countShapes(row) // those of all rows are right
	b.ranks = zeros(b.ranks, len(b.columns))
	for shape, n := range b.counts {
		for _, c := range b.shape(shape) {
			b.ranks[c] += n
		}
	}
	for i, number := range b.shape(int(b.shapeOf.at(row))) {
		c := &b.columns[number]
		var rec nameRecord
		if !c.bare {
			var ok bool
			if rec, ok = b.findName(c); !ok {
				return dst, false
			}
		}
		if i == 0 {
			dst = c.appendHead(dst)
		}
		if c.bare {
			continue
		}
		text, ok := b.readValue(c, &rec, c.valueAt(b.ranks[number]))
		if !ok {
			return dst, false
		}
		dst = appendPiece(dst, rec.name, text)
	}
	return dst, true
}

// readValue returns the text of a value of a column, valid until the next call.
func (b *rowBlock) readValue(c *rowColumn, rec *nameRecord, value uint32) ([]byte, bool) {
	if value >= c.count {
		return nil, false
	}
	r := reader{b: c.numbers}
	index := uint64(0)
	for range value + 1 {
		index += r.uvarint()
	}
	if index >= rec.values {
		return nil, false
	}
	b.cursor.s, b.cursor.rec, b.cursor.block = b.s, rec, 0
	return b.cursor.at(index)
}

// findName looks up what a column is about. False means damage.
func (b *rowBlock) findName(c *rowColumn) (rec nameRecord, ok bool) {
	rec, err := b.s.nameAt(c.name)
	if err != nil {
		return rec, false
	}
	c.metric = rec.name == ""
	c.tenant, ok = b.s.tenantOfName(c.name)
	return rec, ok
}

// valueAt returns the number of the value of a row, given its rank among those that have the column.
func (c *rowColumn) valueAt(rank uint32) uint32 {
	switch {
	case c.count > 256:
		return plane{c.plane, widthOf(int(c.count))}.at(int(rank))
	case c.count > 1:
		return uint32(c.plane[rank])
	}
	return 0
}

// decode opens and fills the block from its compressed form, which starts at the id first, and reuses its memory.
func (b *rowBlock) decode(s *segment, compressed []byte, first uint32) bool {
	raw, err := s.dec.DecodeAll(compressed, b.raw[:0])
	b.raw = raw
	return err == nil && b.open(s, raw, first) && b.fill()
}

// open finds everything in the raw form of a block, which starts at the id first. The block aliases it.
func (b *rowBlock) open(s *segment, raw []byte, first uint32) bool {
	b.s, b.first = s, first
	b.ids, b.starts, b.refs, b.values, b.text = b.ids[:0], b.starts[:0], b.refs[:0], b.values[:0], b.text[:0]
	b.columns, b.shapes, b.ends = b.columns[:0], b.shapes[:0], b.ends[:0]
	r := reader{b: raw}
	if b.decodeIDs(&r); r.bad {
		return false
	}
	if !b.findColumns(&r) {
		return false
	}
	if b.decodeShapes(&r); r.bad {
		return false
	}
	return b.findPlanes(&r)
}

func (b *rowBlock) decodeIDs(r *reader) {
	n, gaps := r.uvarint(), r.byte() != 0
	if n == 0 || n > rowBlockIDs {
		r.fail()
		return
	}
	id := uint64(b.first)
	for i := range n {
		if i > 0 {
			step := uint64(1)
			if gaps {
				step = r.uvarint()
			}
			if id += step; step == 0 || step >= rowBlockIDs {
				r.fail()
			}
		}
		if id/rowBlockIDs != uint64(b.first)/rowBlockIDs {
			r.fail()
		}
		b.ids = append(b.ids, uint32(id))
	}
}

// findColumns finds the labels and the values that occur.
func (b *rowBlock) findColumns(r *reader) bool {
	name := uint64(0)
	names := b.s.footer.nameCount
	for i := range r.length(3) {
		step := r.uvarint()
		name += step
		count := r.length(1)
		if i > 0 && step == 0 || name > names || count == 0 {
			return false
		}
		c := rowColumn{name: name, numbers: r.uvarints(count), count: uint32(count), bare: name == names}
		if c.bare {
			b.addBare(c)
		} else {
			b.columns = append(b.columns, c)
		}
	}
	return !r.bad
}

// addBare adds the tenants of series that have neither name nor labels. Each is a column of its own.
func (b *rowBlock) addBare(c rowColumn) {
	r := reader{b: c.numbers}
	for range c.count {
		t := r.uvarint()
		b.columns = append(b.columns, rowColumn{tenant: model.TenantID{AccountID: uint32(t >> 32), ProjectID: uint32(t)}, count: 1, bare: true})
	}
}

func (b *rowBlock) decodeShapes(r *reader) {
	for range r.length(2) {
		column := uint64(0)
		n := r.length(1)
		if n == 0 {
			r.fail()
		}
		for i := range n {
			step := r.uvarint()
			if column += step; i > 0 && step == 0 || column >= uint64(len(b.columns)) {
				r.fail()
				return
			}
			b.shapes = append(b.shapes, uint32(column))
		}
		b.ends = append(b.ends, uint32(len(b.shapes)))
	}
	if len(b.ends) == 0 {
		r.fail()
	}
}

// shape returns the columns of a shape.
func (b *rowBlock) shape(i int) []uint32 {
	start := uint32(0)
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.shapes[start:b.ends[i]]
}

// findPlanes finds which shape and which values each row has.
func (b *rowBlock) findPlanes(r *reader) bool {
	b.shapeOf = plane{width: widthOf(len(b.ends))}
	b.shapeOf.b = r.bytes(uint64(b.shapeOf.width * len(b.ids)))
	if r.bad || !b.countShapes(len(b.ids)) {
		return false
	}
	total := uint64(0)
	for shape, n := range b.counts {
		columns := b.shape(shape)
		if total += uint64(n) * uint64(len(columns)); total > maxRowRefs {
			return false
		}
		for _, c := range columns {
			b.columns[c].rows += n
		}
	}
	for i := range b.columns {
		c := &b.columns[i]
		c.plane = r.bytes(uint64(widthOf(int(c.count))) * uint64(c.rows))
	}
	return !r.bad && len(r.b) == 0
}

// zeros returns n zeros, in the memory of b if that is enough.
func zeros(b []uint32, n int) []uint32 {
	b = slices.Grow(b[:0], n)[:n]
	clear(b)
	return b
}

// countShapes counts the shapes of the first n rows. False means damage.
func (b *rowBlock) countShapes(n int) bool {
	b.counts = zeros(b.counts, len(b.ends))
	for i := range n {
		shape := b.shapeOf.at(i)
		if int(shape) >= len(b.counts) {
			return false
		}
		b.counts[shape]++
	}
	return true
}

// fill looks up the values of an open block and sorts them into rows.
func (b *rowBlock) fill() bool {
	total := 0
	for i := range b.columns {
		c := &b.columns[i]
		c.first = uint32(len(b.values))
		if c.bare {
			b.values = append(b.values, rowValue{column: uint32(i)})
		} else if !b.fillColumn(i) {
			return false
		}
		total += int(c.rows)
	}
	return b.fillRows(total)
}

// fillColumn looks up the values of a column.
func (b *rowBlock) fillColumn(number int) bool {
	c := &b.columns[number]
	rec, ok := b.findName(c)
	if !ok {
		return false
	}
	r := reader{b: c.numbers}
	index := uint64(0)
	b.cursor.s, b.cursor.rec, b.cursor.block = b.s, &rec, 0
	for i := range c.count {
		step := r.uvarint()
		if index += step; i > 0 && step == 0 || index >= rec.values || r.bad {
			return false
		}
		value, ok := b.cursor.at(index)
		if !ok {
			return false
		}
		v := rowValue{ordinal: uint32(rec.firstValue + index), start: uint32(len(b.text)), column: uint32(number)}
		b.text = appendPiece(b.text, rec.name, value)
		v.end = uint32(len(b.text))
		b.values = append(b.values, v)
	}
	return true
}

// fillRows reads which values each row has; all have so many together.
func (b *rowBlock) fillRows(total int) bool {
	b.ranks = zeros(b.ranks, len(b.columns))
	b.refs = slices.Grow(b.refs, total)
	for i := range b.ids {
		b.starts = append(b.starts, uint32(len(b.refs)))
		for _, number := range b.shape(int(b.shapeOf.at(i))) {
			c := &b.columns[number]
			value := c.valueAt(b.ranks[number])
			if value >= c.count {
				return false
			}
			b.ranks[number]++
			b.refs = append(b.refs, c.first+value)
		}
	}
	b.starts = append(b.starts, uint32(len(b.refs)))
	return true
}

// plane is a list of numbers of equal width.
type plane struct {
	b     []byte
	width int
}

// widthOf returns the bytes that a number below count takes in a plane.
func widthOf(count int) int {
	switch {
	case count <= 1:
		return 0
	case count <= 1<<8:
		return 1
	case count <= 1<<16:
		return 2
	}
	return 4
}

func (p plane) at(i int) uint32 {
	switch p.width {
	case 0:
		return 0
	case 1:
		return uint32(p.b[i])
	case 2:
		return uint32(binary.LittleEndian.Uint16(p.b[2*i:]))
	}
	return binary.LittleEndian.Uint32(p.b[4*i:])
}

func appendToPlane(dst []byte, width int, v uint32) []byte {
	switch width {
	case 0:
		return dst
	case 1:
		return append(dst, byte(v))
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(v))
	}
	return binary.LittleEndian.AppendUint32(dst, v)
}

func newRowEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(1<<17), zstd.WithEncoderLevel(zstd.SpeedDefault))
}

func newRowDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxRowBlockBytes))
}
