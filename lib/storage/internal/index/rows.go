package index

import (
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/zstd"
)

const (
	// rowBlockIDs is the range of ids whose keys are compressed together.
	rowBlockIDs = 64
	// maxRowBlockBytes bounds what one block may decompress to.
	maxRowBlockBytes = 1 << 30
)

// rowBlock holds the keys of neighbouring ids.
type rowBlock struct {
	first uint32 // the id at the start of its range
	ids   []uint32
	ends  []int // of the keys in data
	data  []byte
	raw   []byte // backing of data
}

// find returns the key of id. It aliases the block.
func (b *rowBlock) find(id uint32) ([]byte, bool) {
	i := int(id - b.first)
	if i >= len(b.ids) || b.ids[i] != id { // ids without gaps stand at their offset
		var ok bool
		if i, ok = slices.BinarySearch(b.ids, id); !ok {
			return nil, false
		}
	}
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.data[start:b.ends[i]:b.ends[i]], true
}

// decode fills the block from its compressed form and reuses its memory. The block starts
// at the given id.
func (b *rowBlock) decode(d *zstd.Decoder, compressed []byte, first uint32) bool {
	raw, err := d.DecodeAll(compressed, b.raw[:0])
	b.raw, b.first = raw, first
	b.ids, b.ends, b.data = b.ids[:0], b.ends[:0], nil
	if err != nil {
		return false
	}
	r := reader{b: raw}
	n := r.length(2)
	if n == 0 || n > rowBlockIDs {
		return false
	}
	id := uint64(first)
	for i := range n {
		d := r.uvarint()
		id += d
		if (i > 0 && d == 0) || d >= rowBlockIDs || id/rowBlockIDs != uint64(first)/rowBlockIDs {
			return false
		}
		b.ids = append(b.ids, uint32(id))
	}
	end := 0
	for range n {
		size := r.uvarint()
		if size > uint64(len(raw)) {
			return false
		}
		end += int(size)
		b.ends = append(b.ends, end)
	}
	b.data = r.b
	return !r.bad && end == len(b.data)
}

// rowBlockWriter collects the rows of one block.
type rowBlockWriter struct {
	ids  []uint32
	lens []int
	keys []byte
	raw  []byte
}

func (w *rowBlockWriter) add(id uint32, key []byte) {
	w.ids = append(w.ids, id)
	w.lens = append(w.lens, len(key))
	w.keys = append(w.keys, key...)
}

// appendCompressed appends the compressed block and empties the writer.
func (w *rowBlockWriter) appendCompressed(dst []byte, e *zstd.Encoder) []byte {
	w.raw = binary.AppendUvarint(w.raw[:0], uint64(len(w.ids)))
	previous := w.ids[0]
	for _, id := range w.ids {
		w.raw = binary.AppendUvarint(w.raw, uint64(id-previous))
		previous = id
	}
	for _, n := range w.lens {
		w.raw = binary.AppendUvarint(w.raw, uint64(n))
	}
	w.raw = append(w.raw, w.keys...)
	w.ids, w.lens, w.keys = w.ids[:0], w.lens[:0], w.keys[:0]
	return e.EncodeAll(w.raw, dst)
}

func newRowEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(1<<17), zstd.WithEncoderLevel(zstd.SpeedDefault))
}

func newRowDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxRowBlockBytes))
}
