package index

import (
	"encoding/binary"

	"vmcluster/lib/bytesutil"
)

const (
	// maxInlineBytes is the size from which a posting is a bitmap of its own.
	maxInlineBytes = 1 << 10
	// sizedIDs is the number of ids from which the size of a posting stands before it, so that it can be skipped.
	sizedIDs = 4
	// flagPacked says that the texts of a value block are packed.
	flagPacked = 1
)

// valueBlockWriter collects the values of one block: first all texts, then all postings.
type valueBlockWriter struct {
	count    int
	values   []byte // texts as they are
	ends     []int
	postings []byte
	texts    []byte // scratch
	packed   []byte // scratch
	last     []byte // scratch
}

func (w *valueBlockWriter) addText(value []byte) {
	w.values = append(w.values, value...)
	w.ends = append(w.ends, len(w.values))
	w.count++
}

func (w *valueBlockWriter) addInline(n int, steps []byte) {
	w.postings = binary.AppendUvarint(w.postings, uint64(n)<<1)
	if n >= sizedIDs {
		w.postings = binary.AppendUvarint(w.postings, uint64(len(steps)))
	}
	w.postings = append(w.postings, steps...)
}

func (w *valueBlockWriter) addExternal(n, offset, size uint64) {
	w.postings = binary.AppendUvarint(w.postings, n<<1|1)
	w.postings = binary.AppendUvarint(w.postings, offset)
	w.postings = binary.AppendUvarint(w.postings, size)
}

// appendTo appends the block and empties the writer.
func (w *valueBlockWriter) appendTo(dst []byte) []byte {
	flags := byte(0)
	w.texts = w.texts[:0]
	if !w.appendTexts(false) {
		flags = flagPacked
		w.texts = w.texts[:0]
		w.appendTexts(true)
	}
	dst = binary.AppendUvarint(dst, uint64(w.count))
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(len(w.texts)))
	dst = append(dst, w.texts...)
	dst = append(dst, w.postings...)
	w.count, w.values, w.ends, w.postings = 0, w.values[:0], w.ends[:0], w.postings[:0]
	return dst
}

// appendTexts front-codes the values. Without packing it stops at the first value which packing would change.
func (w *valueBlockWriter) appendTexts(pack bool) bool {
	w.last = w.last[:0]
	start := 0
	for _, end := range w.ends {
		var changed bool
		w.packed, changed = appendPacked(w.packed[:0], w.values[start:end])
		start = end
		if changed && !pack {
			return false
		}
		shared := 0
		for shared < len(w.last) && shared < len(w.packed) && w.last[shared] == w.packed[shared] {
			shared++
		}
		w.texts = binary.AppendUvarint(w.texts, uint64(shared))
		w.texts = binary.AppendUvarint(w.texts, uint64(len(w.packed)-shared))
		w.texts = append(w.texts, w.packed[shared:]...)
		w.last = append(w.last[:0], w.packed...)
	}
	return true
}

// valueBlock is an open value block.
type valueBlock struct {
	count    int
	packed   bool
	texts    reader
	postings reader
}

// valueBlock opens a value block.
func (s *segment) valueBlock(i uint64) (b valueBlock, err error) {
	offset := binary.LittleEndian.Uint64(s.data[s.footer.valueBlocks+i*offsetSize:])
	if offset > uint64(len(s.data)) {
		return b, s.corrupt("value block offset")
	}
	r := reader{b: s.data[offset:]}
	b.count = r.length(3)
	b.packed = r.byte()&flagPacked != 0
	b.texts.b = r.bytes(r.uvarint())
	b.postings = r
	if b.count == 0 || b.count > blockValues || r.bad {
		return b, s.corrupt("value block")
	}
	return b, nil
}

// textReader reads the texts of a value block one after the other.
type textReader struct {
	r      reader
	packed bool
	stored []byte // the text as it is stored
	text   []byte // unpacked, unless stale
	stale  bool
}

func (t *textReader) open(b *valueBlock) { t.r, t.packed, t.stored = b.texts, b.packed, t.stored[:0] }

// next reads the next text. False means damage.
func (t *textReader) next() bool {
	shared := t.r.uvarint()
	rest := t.r.bytes(t.r.uvarint())
	if t.r.bad || shared > uint64(len(t.stored)) {
		return false
	}
	t.stored = append(t.stored[:shared], rest...)
	t.stale = t.packed
	return true
}

// value returns the text, valid until next.
func (t *textReader) value() []byte {
	if !t.packed {
		return t.stored
	}
	if t.stale {
		t.text, _ = appendUnpacked(t.text[:0], t.stored) // the checksum was right; damage since then gives another text
		t.stale = false
	}
	return t.text
}

// textCursor reads values of one name by their number.
type textCursor struct {
	s     *segment
	rec   *nameRecord
	texts textReader
	block uint64 // number + 1 of the open block of the name; 0 for none
	next  uint64 // number of the value which texts reads next
}

// at returns a value, valid until the next call. Numbers have to ascend. False means damage.
func (c *textCursor) at(index uint64) ([]byte, bool) {
	if block := index / blockValues; block+1 != c.block {
		if block >= c.rec.blocks {
			return nil, false
		}
		b, err := c.s.valueBlock(c.rec.firstBlock + block)
		if err != nil {
			return nil, false
		}
		c.texts.open(&b)
		c.block, c.next = block+1, block*blockValues
	}
	for ; c.next <= index; c.next++ {
		if !c.texts.next() {
			return nil, false
		}
	}
	return c.texts.value(), true
}

// segmentValues walks over the sorted values of one label.
type segmentValues struct {
	s     *segment
	block uint64 // next one to open
	end   uint64

	open   valueBlock
	texts  textReader
	left   int // values left in the open block
	unread int // postings not yet read up to that of the value
	peeked bool
	few    []uint32
	place  [2]uint64 // of the bitmap, when few is empty
}

func (c *segmentValues) value() string { return bytesutil.String(c.texts.value()) }

func (c *segmentValues) next() (bool, error) {
	if c.peeked {
		c.peeked = false
		return true, nil
	}
	if c.left == 0 {
		if c.block >= c.end {
			return false, nil
		}
		var err error
		if c.open, err = c.s.valueBlock(c.block); err != nil {
			return false, err
		}
		c.texts.open(&c.open)
		c.left, c.unread = c.open.count, 0
		c.block++
	}
	c.left--
	c.unread++
	if !c.texts.next() {
		return false, c.s.corrupt("value block")
	}
	return true, nil
}

// posting reads the posting of the value.
func (c *segmentValues) posting() error {
	r := &c.open.postings
	first, last := c.s.footer.firstID, c.s.footer.lastID
	for ; c.unread > 0; c.unread-- {
		head := r.uvarint()
		n := head >> 1
		c.few = c.few[:0]
		switch {
		case head&1 != 0:
			c.place = [2]uint64{r.uvarint(), r.uvarint()}
		case n == 0 || n > maxFew:
			r.fail()
		case n < sizedIDs:
			c.few = r.appendIDs(c.few, int(n), first, last)
		default:
			steps := reader{b: r.bytes(r.uvarint())}
			if c.unread > 1 {
				continue
			}
			if c.few = steps.appendIDs(c.few, int(n), first, last); steps.bad {
				r.fail()
			}
		}
		if r.bad {
			return c.s.corrupt("posting")
		}
	}
	return nil
}
