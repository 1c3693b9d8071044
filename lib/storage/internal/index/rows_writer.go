package index

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/model"
)

// rowBlockWriter collects the rows of one block, as ordinals of label values.
type rowBlockWriter struct {
	names *[]nameInfo // of the segment
	bare  []model.TenantID

	ids    []uint32
	starts []int
	refs   []uint32 // local numbers, in order of appearance in the block

	// local numbers of ordinals, valid where stamp is the number of the block
	stamps  []uint32
	locals  []uint32
	block   uint32
	seen    []uint32 // ordinals by local number
	order   []uint32 // local numbers by ordinal
	columns []blockColumn
	column  []uint32 // by local number
	rank    []uint32 // of the value in its column, by local number

	shapes    map[string]int
	shapeList [][]uint32
	rowShapes []int
	shapeKey  []byte
	raw       []byte
}

type blockColumn struct {
	name   uint64
	values []uint64 // indexes of values of the name; tenants in the bare column
	plane  []byte
}

// init is called once the number of label values is known.
func (w *rowBlockWriter) init(names *[]nameInfo, values uint64) {
	w.names = names
	w.stamps, w.locals = make([]uint32, values), make([]uint32, values)
	w.shapes = map[string]int{}
	w.block = 1
}

// bareOrdinal returns the ordinal that stands for the only series of a tenant which has neither name nor labels.
func (w *rowBlockWriter) bareOrdinal(t model.TenantID) uint32 {
	i := slices.Index(w.bare, t)
	if i < 0 {
		i = len(w.bare)
		w.bare = append(w.bare, t)
		w.stamps, w.locals = append(w.stamps, 0), append(w.locals, 0)
	}
	return uint32(len(w.stamps) - len(w.bare) + i)
}

// add appends a row. Its ordinals ascend.
func (w *rowBlockWriter) add(id uint32, ordinals []uint32) {
	w.ids = append(w.ids, id)
	w.starts = append(w.starts, len(w.refs))
	for _, ord := range ordinals {
		if w.stamps[ord] != w.block {
			w.stamps[ord] = w.block
			w.locals[ord] = uint32(len(w.seen))
			w.seen = append(w.seen, ord)
		}
		w.refs = append(w.refs, w.locals[ord])
	}
}

// nameOf returns the number of the name that an ordinal belongs to, the count of names for bare ones.
func (w *rowBlockWriter) nameOf(ordinal uint32) uint64 {
	names := *w.names
	if int(ordinal) >= len(w.stamps)-len(w.bare) {
		return uint64(len(names))
	}
	return uint64(sort.Search(len(names), func(i int) bool { return names[i].firstValue > uint64(ordinal) }) - 1)
}

// sortValues gives columns and ranks to all values of the block.
func (w *rowBlockWriter) sortValues() {
	w.order = w.order[:0]
	for i := range w.seen {
		w.order = append(w.order, uint32(i))
	}
	slices.SortFunc(w.order, func(a, b uint32) int { return int(w.seen[a]) - int(w.seen[b]) })
	w.column = slices.Grow(w.column[:0], len(w.seen))[:len(w.seen)]
	w.rank = slices.Grow(w.rank[:0], len(w.seen))[:len(w.seen)]
	w.columns = w.columns[:0]
	names := *w.names
	end := uint64(0) // of the values of the name
	for _, local := range w.order {
		ord := uint64(w.seen[local])
		name := w.nameOfNext(ord, end)
		isBare := name == uint64(len(names))
		value := uint64(0)
		switch {
		case isBare:
			t := w.bare[int(ord)-(len(w.stamps)-len(w.bare))]
			value = uint64(t.AccountID)<<32 | uint64(t.ProjectID)
		default:
			value = ord - names[name].firstValue
			end = names[name].firstValue + names[name].values
		}
		if n := len(w.columns); n == 0 || w.columns[n-1].name != name || isBare {
			w.addColumn(name)
		}
		c := &w.columns[len(w.columns)-1]
		w.column[local], w.rank[local] = uint32(len(w.columns)-1), uint32(len(c.values))
		c.values = append(c.values, value)
	}
}

// nameOfNext is nameOf for ordinals that ascend.
func (w *rowBlockWriter) nameOfNext(ordinal, end uint64) uint64 {
	if n := len(w.columns); n > 0 && ordinal < end {
		return w.columns[n-1].name
	}
	return w.nameOf(uint32(ordinal))
}

func (w *rowBlockWriter) addColumn(name uint64) {
	n := len(w.columns)
	if n < cap(w.columns) {
		w.columns = w.columns[:n+1]
	} else {
		w.columns = append(w.columns, blockColumn{})
	}
	c := &w.columns[n]
	c.name, c.values, c.plane = name, c.values[:0], c.plane[:0]
}

// sortRows finds the shape of each row and fills the planes.
func (w *rowBlockWriter) sortRows() {
	clear(w.shapes)
	w.shapeList, w.rowShapes = w.shapeList[:0], w.rowShapes[:0]
	shape := -1
	for i := range w.ids {
		row := w.row(i)
		if shape < 0 || !w.hasShape(row, w.shapeList[shape]) {
			shape = w.findShape(row)
		}
		w.rowShapes = append(w.rowShapes, shape)
		for _, local := range row {
			c := &w.columns[w.column[local]]
			c.plane = appendToPlane(c.plane, widthOf(len(c.values)), w.rank[local])
		}
	}
}

func (w *rowBlockWriter) row(i int) []uint32 {
	if i+1 == len(w.ids) {
		return w.refs[w.starts[i]:]
	}
	return w.refs[w.starts[i]:w.starts[i+1]]
}

func (w *rowBlockWriter) hasShape(row, shape []uint32) bool {
	if len(row) != len(shape) {
		return false
	}
	for i, local := range row {
		if w.column[local] != shape[i] {
			return false
		}
	}
	return true
}

func (w *rowBlockWriter) findShape(row []uint32) int {
	w.shapeKey = w.shapeKey[:0]
	for _, local := range row {
		w.shapeKey = binary.LittleEndian.AppendUint32(w.shapeKey, w.column[local])
	}
	i, ok := w.shapes[string(w.shapeKey)]
	if !ok {
		i = len(w.shapeList)
		w.shapes[string(w.shapeKey)] = i
		shape := make([]uint32, len(row))
		for j, local := range row {
			shape[j] = w.column[local]
		}
		w.shapeList = append(w.shapeList, shape)
	}
	return i
}

// appendCompressed appends the compressed block. Until reset the writer still knows its rows and columns.
func (w *rowBlockWriter) appendCompressed(dst []byte, e *zstd.Encoder) []byte {
	w.sortValues()
	w.sortRows()
	raw := binary.AppendUvarint(w.raw[:0], uint64(len(w.ids)))
	raw = w.appendIDs(raw)
	raw = w.appendColumns(raw)
	raw = binary.AppendUvarint(raw, uint64(len(w.shapeList)))
	for _, shape := range w.shapeList {
		raw = binary.AppendUvarint(raw, uint64(len(shape)))
		previous := uint32(0)
		for _, c := range shape {
			raw = binary.AppendUvarint(raw, uint64(c-previous))
			previous = c
		}
	}
	for _, shape := range w.rowShapes {
		raw = appendToPlane(raw, widthOf(len(w.shapeList)), uint32(shape))
	}
	for i := range w.columns {
		raw = append(raw, w.columns[i].plane...)
	}
	w.raw = raw
	return e.EncodeAll(raw, dst)
}

func (w *rowBlockWriter) reset() {
	w.ids, w.starts, w.refs, w.seen = w.ids[:0], w.starts[:0], w.refs[:0], w.seen[:0]
	w.block++
}

func (w *rowBlockWriter) appendIDs(raw []byte) []byte {
	n := len(w.ids)
	if int(w.ids[n-1]-w.ids[0]) == n-1 {
		return append(raw, 0)
	}
	raw = append(raw, 1)
	for i := 1; i < n; i++ {
		raw = binary.AppendUvarint(raw, uint64(w.ids[i]-w.ids[i-1]))
	}
	return raw
}

// appendColumns appends names and values. All bare columns, which stand last, are written as one.
func (w *rowBlockWriter) appendColumns(raw []byte) []byte {
	bare := 0
	for bare < len(w.columns) && w.columns[len(w.columns)-1-bare].name == uint64(len(*w.names)) {
		bare++
	}
	n := len(w.columns) - bare
	raw = binary.AppendUvarint(raw, uint64(n+min(bare, 1)))
	previous := uint64(0)
	for i := range n {
		c := &w.columns[i]
		raw = binary.AppendUvarint(raw, c.name-previous)
		previous = c.name
		raw = binary.AppendUvarint(raw, uint64(len(c.values)))
		last := uint64(0)
		for _, v := range c.values {
			raw = binary.AppendUvarint(raw, v-last)
			last = v
		}
	}
	if bare > 0 {
		raw = binary.AppendUvarint(raw, uint64(len(*w.names))-previous)
		raw = binary.AppendUvarint(raw, uint64(bare))
		for i := n; i < len(w.columns); i++ {
			raw = binary.AppendUvarint(raw, w.columns[i].values[0])
		}
	}
	return raw
}
