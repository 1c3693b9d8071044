package codec

import (
	"encoding/binary"

	"vmcluster/lib/errkind"
)

// tokenReader decodes residuals that are packed as tokens, in runs of 128 and a last one.
type tokenReader struct {
	src   []byte // low bits and codes
	table *tokenTable
	ref   int64
	shift uint
	zero  bool
	low   uint // position in src of the next low bits, in bits
	pos   uint // position in src of the next code, in bits
	end   uint // position in src behind the last low bits, in bits

	left    int // symbols not yet read
	have    int // symbols read, but not yet used
	symbols symbolRun

	escapes   int                 // among symbols
	positions [2 * groupLen]uint8 // at most groupLen + 1 are in use
	highs     [2 * groupLen]int64
}

func (t *tokenReader) init(src []byte, n int, zero bool) error {
	t.left = n
	if len(src) < 2 || src[0] >= tokenTableCount || src[1] > maxShift {
		return errTokens("their table or shift is missing or unknown")
	}
	t.table = &builtinTokenTables().of(zero)[src[0]]
	t.shift, t.zero = uint(src[1]), zero
	var err error
	if t.ref, src, err = CutVarint(src[2:]); err != nil {
		return err
	}
	if zero {
		var nonzero uint64
		if nonzero, src, err = CutUvarint(src); err != nil {
			return err
		}
		if nonzero > uint64(n) {
			return errTokens("there are more than integers of the column")
		}
		n = int(nonzero)
	}
	lows := packedSize(n, t.shift)
	if len(src) < lows {
		return errTokens("their low bits are cut off")
	}
	t.src, t.pos, t.end = src, uint(lows)*8, uint(n)*t.shift
	return nil
}

func errTokens(cause string) error {
	return errkind.New(errkind.Corrupt, "cannot decode tokens: %s", cause)
}

// load returns at least 57 bits of src from bit pos on, zeros behind its end.
func load(src []byte, pos uint) uint64 {
	if at := pos >> 3; at+8 <= uint(len(src)) {
		return binary.LittleEndian.Uint64(src[at:]) >> (pos & 7)
	}
	return loadTail(src, pos)
}

func loadTail(src []byte, pos uint) uint64 {
	var b [8]byte
	if at := pos >> 3; at < uint(len(src)) {
		copy(b[:], src[at:])
	}
	return binary.LittleEndian.Uint64(b[:]) >> (pos & 7)
}

// entriesPerLoad is how many entries one load serves: they have at most 50 bits.
const entriesPerLoad = 5

// symbolRun are the symbols of a run, with room for those that are read with it. It is so long that masking an
// index keeps it within.
type symbolRun [2*groupLen + 8]uint8

// next fills dst with up to 128 residuals.
func (t *tokenReader) next(dst []int64) error {
	t.readSymbols(len(dst))
	if t.pos > uint(len(t.src))*8 {
		return errTokens("they are cut off")
	}
	if t.zero {
		t.combineZero(dst)
	} else if err := t.combine(dst); err != nil {
		return err
	}
	later := 0
	for k := range t.escapes {
		p, high := t.positions[uint8(k)], t.highs[uint8(k)]
		if int(p) < len(dst) {
			dst[p] += high << t.shift
			continue
		}
		t.positions[later], t.highs[later] = p-groupLen, high
		later++
	}
	t.escapes = later
	t.have -= len(dst)
	copy(t.symbols[:entrySymbols*entriesPerLoad], t.symbols[groupLen:])
	return nil
}

// readSymbols reads until there are at least n symbols: several at a time, except at the end of the column.
func (t *tokenReader) readSymbols(n int) {
	table, symbols := &t.table.decode, &t.symbols
	pos, i := t.pos, t.have
	whole := i + t.left - entrySymbols*entriesPerLoad
	for i < n && i <= whole {
		w := load(t.src, pos)
		for range entriesPerLoad {
			e := table[w&(1<<tokenMaxLen-1)]
			binary.LittleEndian.PutUint64(symbols[i&(2*groupLen-1):], e.symbols())
			w >>= e.totalLen()
			i += e.count()
			pos += e.totalLen()
			if e.isEscape() {
				pos = t.readEscape(i-1, pos)
				break
			}
		}
	}
	for ; i < n; i++ {
		e := table[load(t.src, pos)&(1<<tokenMaxLen-1)]
		symbols[i&(groupLen-1)] = e.first()
		pos += e.firstLen()
		if e.isEscape() {
			pos = t.readEscape(i, pos)
		}
	}
	t.left -= i - t.have
	t.pos, t.have = pos, i
}

// readEscape reads what follows the code of an escape, and notes by how much it differs from its symbol.
func (t *tokenReader) readEscape(i int, pos uint) uint {
	n := uint(load(t.src, pos)) & (1<<escapeLenBits - 1)
	pos += escapeLenBits
	u := load(t.src, pos) & (1<<min(n, 32) - 1)
	if n > 32 {
		u |= load(t.src, pos+32) & (1<<min(n-32, 32) - 1) << 32
	}
	base := int64(tokenEscape)
	if t.zero {
		base--
	}
	h := base + int64(u>>1)
	if u&1 != 0 {
		h = ^int64(u >> 1)
	}
	t.positions[uint8(t.escapes)] = uint8(i)
	t.highs[uint8(t.escapes)] = h - base
	t.escapes++
	return pos + n
}

// combine adds low bits and symbols.
func (t *tokenReader) combine(dst []int64) error {
	if t.shift == 0 {
		for i, s := range t.symbols[:len(dst)] {
			dst[i] = t.ref + int64(s)
		}
		return nil
	}
	if _, err := unpackGroup(dst, t.src[t.low>>3:], t.shift, t.ref); err != nil {
		return err
	}
	t.low += uint(len(dst)) * t.shift
	shift := t.shift & 63
	for i, s := range t.symbols[:len(dst)] {
		dst[i] += int64(s) << shift
	}
	return nil
}

// combineZero is combine for the zero form.
func (t *tokenReader) combineZero(dst []int64) {
	src, low, shift := t.src, t.low, t.shift&63
	mask := uint64(1)<<shift - 1
	base := uint64(t.ref) - 1<<shift
	for i, symbol := range t.symbols[:len(dst)] {
		s := uint64(symbol)
		present := -((s + tokenEscape) >> 4) // all bits are set unless the symbol is 0
		v := base + s<<shift + load(src, low)&mask
		dst[i] = int64(v & present)
		low += shift & uint(present)
	}
	t.low = low
}

// finish checks that all has been read.
func (t *tokenReader) finish() error {
	if t.low != t.end || (t.pos+7)>>3 != uint(len(t.src)) {
		return errTokens("their lengths do not go with their number")
	}
	return nil
}
