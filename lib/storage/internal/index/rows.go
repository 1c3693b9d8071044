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

// rowBlock holds the rows of neighbouring ids: for each the numbers of its label values.
type rowBlock struct {
	first  uint32 // the id at the start of its range
	ids    []uint32
	starts []uint32 // of the rows in refs, and the end of the last
	refs   []uint32 // indexes in values, ascending in a row
	values []rowValue
	text   []byte

	raw     []byte // scratch from here on
	columns []rowColumn
	shapes  []uint32 // columns, one shape after the other
	ends    []uint32 // of the shapes
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
	tenant model.TenantID
	first  uint32 // index in rowBlock.values
	count  uint32
	rows   uint32
	plane  []byte // per row that has the label the number of its value, when there are several
	metric bool
	bare   bool
}

// rowOf returns the number of the row of an id.
func (b *rowBlock) rowOf(id uint32) (int, bool) {
	if i := int(id - b.first); i < len(b.ids) && b.ids[i] == id { // ids without gaps stand at their offset
		return i, true
	}
	return slices.BinarySearch(b.ids, id)
}

func (b *rowBlock) heapBytes() int64 {
	return int64(cap(b.raw)+cap(b.text)) + 4*int64(cap(b.ids)+cap(b.starts)+cap(b.refs)+cap(b.shapes)+cap(b.ends)) +
		int64(cap(b.values))*int64(unsafe.Sizeof(rowValue{})) + int64(cap(b.columns))*int64(unsafe.Sizeof(rowColumn{}))
}

func (b *rowBlock) row(i int) []uint32 { return b.refs[b.starts[i]:b.starts[i+1]] }

// appendKey appends the key of a row.
func (b *rowBlock) appendKey(dst []byte, i int) []byte {
	refs := b.row(i)
	c := &b.columns[b.values[refs[0]].column]
	dst = c.tenant.AppendTo(dst)
	if !c.metric {
		dst = append(dst, 0)
	}
	for _, ref := range refs {
		v := &b.values[ref]
		dst = append(dst, b.text[v.start:v.end]...)
	}
	return dst
}

// hasKey reports whether key is that of a row.
func (b *rowBlock) hasKey(i int, key []byte) bool {
	refs := b.row(i)
	var buf [model.TenantSize + 1]byte
	c := &b.columns[b.values[refs[0]].column]
	head := c.tenant.AppendTo(buf[:0])
	if !c.metric {
		head = append(head, 0)
	}
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

// decode fills the block from its compressed form, which starts at the id first, and reuses its memory.
func (b *rowBlock) decode(s *segment, compressed []byte, first uint32) bool {
	raw, err := s.dec.DecodeAll(compressed, b.raw[:0])
	b.raw, b.first = raw, first
	b.ids, b.starts, b.refs, b.values, b.text = b.ids[:0], b.starts[:0], b.refs[:0], b.values[:0], b.text[:0]
	b.columns, b.shapes, b.ends = b.columns[:0], b.shapes[:0], b.ends[:0]
	if err != nil {
		return false
	}
	r := reader{b: raw}
	if b.decodeIDs(&r); r.bad {
		return false
	}
	if !b.decodeColumns(&r, s) {
		return false
	}
	if b.decodeShapes(&r); r.bad {
		return false
	}
	return b.decodeRefs(&r)
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

// decodeColumns reads the labels and the values that occur, and looks up their text.
func (b *rowBlock) decodeColumns(r *reader, s *segment) bool {
	name := uint64(0)
	for i := range r.length(3) {
		step := r.uvarint()
		name += step
		count := r.length(1)
		if i > 0 && step == 0 || name > s.footer.nameCount || count == 0 {
			return false
		}
		c := rowColumn{first: uint32(len(b.values)), count: uint32(count)}
		if name == s.footer.nameCount {
			if !b.decodeBare(r, c) {
				return false
			}
			continue
		}
		rec, err := s.nameAt(name)
		if err != nil {
			return false
		}
		var ok bool
		if c.tenant, ok = s.tenantOfName(name); !ok {
			return false
		}
		c.metric = rec.name == ""
		b.columns = append(b.columns, c)
		if !b.decodeValues(r, s, &rec, count) {
			return false
		}
	}
	return !r.bad
}

// decodeBare reads the tenants of series that have neither name nor labels. Each is a column of its own.
func (b *rowBlock) decodeBare(r *reader, c rowColumn) bool {
	for range c.count {
		t := r.uvarint()
		c.tenant = model.TenantID{AccountID: uint32(t >> 32), ProjectID: uint32(t)}
		b.columns = append(b.columns, rowColumn{tenant: c.tenant, first: uint32(len(b.values)), count: 1, bare: true})
		b.values = append(b.values, rowValue{column: uint32(len(b.columns) - 1)})
	}
	return !r.bad
}

// decodeValues reads the numbers of values of the last column.
func (b *rowBlock) decodeValues(r *reader, s *segment, rec *nameRecord, count int) bool {
	index := uint64(0)
	column := uint32(len(b.columns) - 1)
	b.cursor.s, b.cursor.rec, b.cursor.block = s, rec, 0
	for i := range count {
		step := r.uvarint()
		if index += step; i > 0 && step == 0 || index >= rec.values || r.bad {
			return false
		}
		value, ok := b.cursor.at(index)
		if !ok {
			return false
		}
		v := rowValue{ordinal: uint32(rec.firstValue + index), start: uint32(len(b.text)), column: column}
		if rec.name != "" {
			b.text = binary.AppendUvarint(b.text, uint64(len(rec.name)))
			b.text = append(b.text, rec.name...)
		}
		b.text = binary.AppendUvarint(b.text, uint64(len(value)))
		b.text = append(b.text, value...)
		v.end = uint32(len(b.text))
		b.values = append(b.values, v)
	}
	return true
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

// decodeRefs reads which shape and which values each row has.
func (b *rowBlock) decodeRefs(r *reader) bool {
	shapes := plane{width: widthOf(len(b.ends))}
	shapes.b = r.bytes(uint64(shapes.width * len(b.ids)))
	total := 0
	for i := range b.ids {
		shape := int(shapes.at(i))
		if r.bad || shape >= len(b.ends) {
			return false
		}
		for _, c := range b.shape(shape) {
			b.columns[c].rows++
			total++
		}
		if total > maxRowRefs {
			return false
		}
	}
	for i := range b.columns {
		c := &b.columns[i]
		c.plane = r.bytes(uint64(widthOf(int(c.count))) * uint64(c.rows))
		c.rows = 0
	}
	if r.bad || len(r.b) > 0 {
		return false
	}
	b.refs = slices.Grow(b.refs, total)
	for i := range b.ids {
		b.starts = append(b.starts, uint32(len(b.refs)))
		for _, number := range b.shape(int(shapes.at(i))) {
			c := &b.columns[number]
			value := uint32(0)
			switch {
			case c.count > 256:
				value = plane{c.plane, widthOf(int(c.count))}.at(int(c.rows))
			case c.count > 1:
				value = uint32(c.plane[c.rows])
			}
			if value >= c.count {
				return false
			}
			c.rows++
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
