package codec

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"sync"
)

// Tokens are the packing of residuals for columns of some length. A residual r is
//
//	ref + symbol<<shift + low
//
// with a symbol of 0 to 14, coded with a Huffman code from a built-in table, and shift
// low bits, packed. Symbol 15 is an escape: a length and a high part follow. In the zero form symbol 0 is the
// residual 0 without low bits, and the others stand for one less.

const (
	tokenSymbols = 16
	tokenEscape  = tokenSymbols - 1
	tokenMaxLen  = 10 // bits of a code
	// escapeLenBits is the length of the length of an escape.
	escapeLenBits = 7
	// maxShift is the largest number of low bits, so that one load reads them.
	maxShift = 56
	// zeroFormFrom is the part of residuals that must be 0 for the zero form.
	zeroFormFrom = 6
	// outlierPart is the part of residuals which may be outliers on either side.
	outlierPart = 128
	// tokensFrom is the length of a column from which its tokens are tried.
	tokensFrom = 48
)

// tokenTable is a Huffman code of 16 symbols.
type tokenTable struct {
	lengths [tokenSymbols]uint8
	codes   [tokenSymbols]uint16 // first bit lowest
	// decode has for the next tokenMaxLen bits the symbols that they start with.
	decode [1 << tokenMaxLen]tokenEntry
}

// tokenEntry is what some bits mean: in bits 0-5 the length of all codes, in bytes 1 to 6 the symbols, in byte 7 their
// number (bits 0-2), the length of the first code (bits 3-6) and whether it is an escape (bit 7). An escape is alone in
// its entry. The next load of the table waits for the length of the codes, so that takes no work: a shift looks at six bits.
type tokenEntry uint64

const (
	entrySymbols  = 6
	entryCountAt  = 56
	entryFirstAt  = 59
	entryEscape   = 1 << 63
	entrySymbolAt = 8
)

func (e tokenEntry) totalLen() uint  { return uint(e) & 63 }
func (e tokenEntry) count() int      { return int(e>>entryCountAt) & 7 }
func (e tokenEntry) isEscape() bool  { return int64(e) < 0 }
func (e tokenEntry) firstLen() uint  { return uint(e>>entryFirstAt) & 15 }
func (e tokenEntry) first() uint8    { return uint8(e >> entrySymbolAt) }
func (e tokenEntry) symbols() uint64 { return uint64(e >> entrySymbolAt) }

// tokenTables are the built-in tables: those of the plain form, and those of the zero form.
type tokenTables struct {
	plain, zero [tokenTableCount]tokenTable
}

func (t *tokenTables) of(zero bool) *[tokenTableCount]tokenTable {
	if zero {
		return &t.zero
	}
	return &t.plain
}

//archtest:allow variable a constant which is computed at its first use
var builtinTokenTables = sync.OnceValue(func() *tokenTables {
	t := new(tokenTables)
	for i := range tokenTableCount {
		t.plain[i].build(plainTokenLengths[i*tokenSymbols:][:tokenSymbols])
		t.zero[i].build(zeroTokenLengths[i*tokenSymbols:][:tokenSymbols])
	}
	return t
})

// build makes the canonical code of the lengths, which are hexadecimal digits.
func (t *tokenTable) build(lengths string) {
	const digits = "0123456789abcdef"
	for s := range t.lengths {
		for d := range digits {
			if digits[d] == lengths[s] {
				t.lengths[s] = uint8(d)
			}
		}
	}
	code := uint16(0)
	for length := uint8(1); length <= tokenMaxLen; length++ {
		for s, l := range t.lengths {
			if l == length {
				t.codes[s] = bits.Reverse16(code) >> (16 - length)
				code++
			}
		}
		code <<= 1
	}
	var single [1 << tokenMaxLen]uint8
	for s, l := range t.lengths {
		for w := int(t.codes[s]); w < len(single); w += 1 << l {
			single[w] = uint8(s)
		}
	}
	for w := range t.decode {
		t.decode[w] = t.entry(uint(w), &single)
	}
}

// entry collects the symbols whose codes are complete in the bits w.
func (t *tokenTable) entry(w uint, single *[1 << tokenMaxLen]uint8) tokenEntry {
	s := single[w]
	first := tokenEntry(t.lengths[s])
	e := first<<entryFirstAt | tokenEntry(s)<<entrySymbolAt
	if s == tokenEscape {
		return e | entryEscape | 1<<entryCountAt | first
	}
	used, n := uint(t.lengths[s]), 1
	for n < entrySymbols {
		s = single[w>>used]
		if s == tokenEscape || used+uint(t.lengths[s]) > tokenMaxLen {
			break
		}
		used += uint(t.lengths[s])
		e |= tokenEntry(s) << (entrySymbolAt + 8*n)
		n++
	}
	return e | tokenEntry(n)<<entryCountAt | tokenEntry(used)
}

// tokenPlan is how the residuals of a column become tokens.
type tokenPlan struct {
	zero    bool
	table   int
	shift   uint
	ref     int64
	nonzero int // residuals that are not 0; all of them in the plain form
	bits    int // estimate of the size
	counts  [tokenSymbols]int32
}

// symbol returns the symbol and, for an escape, its high part.
func (p *tokenPlan) symbol(r int64) (symbol uint8, high uint64) {
	h := (r - p.ref) >> p.shift
	last := int64(tokenEscape - 1)
	if p.zero {
		if r == 0 {
			return 0, 0
		}
		last--
	}
	if uint64(h) <= uint64(last) {
		return uint8(h + int64(tokenEscape-1) - last), 0
	}
	if h < 0 {
		return tokenEscape, uint64(^h)<<1 | 1
	}
	return tokenEscape, uint64(h-last-1) << 1
}

// planTokens finds a cheap plan, and writes the symbols of the residuals to symbols, which is as long.
func planTokens(p *tokenPlan, rs []int64, symbols []uint8) {
	zeros := 0
	for _, r := range rs {
		if r == 0 {
			zeros++
		}
	}
	*p = tokenPlan{zero: zeros > len(rs)/zeroFormFrom, nonzero: len(rs)}
	if p.zero {
		p.nonzero -= zeros
		p.frame(tokenRange(rs, true))
		p.zero = p.shift > 0 // else the plain form serves as well
	}
	if !p.zero {
		p.nonzero = len(rs)
		p.frame(tokenRange(rs, false))
	}
	if p.shift > maxShift {
		p.bits = math.MaxInt
		return
	}
	p.count(rs, symbols)
	if p.isNarrow() {
		p.frame(rangeOfMost(rs, p.zero, p.nonzero))
		p.count(rs, symbols)
	}
	p.chooseTable()
}

// frame sets shift and reference.
func (p *tokenPlan) frame(low, high int64) {
	cells := uint64(tokenEscape)
	if p.zero {
		cells--
	}
	p.ref = low
	span := uint64(high) - uint64(low)
	p.shift = 0
	if n := bits.Len64(span); n > 4 {
		p.shift = uint(n - 4)
	}
	if span>>p.shift >= cells {
		p.shift++
	}
}

// isNarrow reports whether few outliers leave most symbols to less than half of the range.
func (p *tokenPlan) isNarrow() bool {
	if p.shift == 0 {
		return false
	}
	first := 0
	if p.zero {
		first = 1
	}
	some := int32(p.nonzero / outlierPart)
	last := tokenEscape - 1
	for left := some; first < last && p.counts[first] <= left; first++ {
		left -= p.counts[first]
	}
	for left := some; last > first && p.counts[last] <= left; last-- {
		left -= p.counts[last]
	}
	return last-first < tokenEscape/2
}

// count fills in symbols, and counts them and the bits of escapes.
func (p *tokenPlan) count(rs []int64, symbols []uint8) {
	var counts [256]int32
	p.bits = 0
	symbols = symbols[:len(rs)]
	for i, r := range rs {
		s, h := p.symbol(r)
		symbols[i] = s
		counts[s]++
		if s == tokenEscape {
			p.bits += escapeLenBits + bits.Len64(h)
		}
	}
	copy(p.counts[:], counts[:tokenSymbols])
}

func (p *tokenPlan) chooseTable() {
	best := int32(math.MaxInt32)
	tables := builtinTokenTables().of(p.zero)
	c := &p.counts
	for i := range tables {
		l := &tables[i].lengths
		cost := c[0]*int32(l[0]) + c[1]*int32(l[1]) + c[2]*int32(l[2]) + c[3]*int32(l[3]) +
			c[4]*int32(l[4]) + c[5]*int32(l[5]) + c[6]*int32(l[6]) + c[7]*int32(l[7]) +
			c[8]*int32(l[8]) + c[9]*int32(l[9]) + c[10]*int32(l[10]) + c[11]*int32(l[11]) +
			c[12]*int32(l[12]) + c[13]*int32(l[13]) + c[14]*int32(l[14]) + c[15]*int32(l[15])
		if cost < best {
			p.table, best = i, cost
		}
	}
	p.bits += int(best) + p.nonzero*int(p.shift) + 8*4
}

// tokenRange returns the range of the residuals, in the zero form of those which are not 0.
func tokenRange(rs []int64, zero bool) (low, high int64) {
	low, high = math.MaxInt64, math.MinInt64
	for _, r := range rs {
		if zero && r == 0 {
			continue
		}
		low, high = min(low, r), max(high, r)
	}
	return low, high
}

// rangeOfMost is tokenRange without a few outliers on either side; n is the number of residuals it is about.
func rangeOfMost(rs []int64, zero bool, n int) (low, high int64) {
	center := sampleMedian(rs)
	var counts [2][128]int32 // by side and width
	for _, r := range rs {
		if zero && r == 0 {
			continue
		}
		d := r - center
		side := d >> 63
		counts[side&1][bits.Len64(uint64(d^side))&127]++
	}
	var limits [2]uint64
	for side := range limits {
		limits[side] = ^uint64(0) >> (64 - widthWithout(&counts[side], n/outlierPart)) // shifts of 64 give 0
	}
	low, high = math.MaxInt64, math.MinInt64
	for _, r := range rs {
		d := r - center
		side := d >> 63
		if uint64(d^side) <= limits[side&1] && !(zero && r == 0) {
			low, high = min(low, r), max(high, r)
		}
	}
	if low > high { // only zeros are near
		return center, center
	}
	return low, high
}

// widthWithout returns the width of all integers but some of the widest.
func widthWithout(counts *[128]int32, some int) uint {
	left := int32(some)
	for w := uint(64); w > 0; w-- {
		if left -= counts[w]; left < 0 {
			return w
		}
	}
	return 0
}

// bitWriter appends bits, the first lowest.
type bitWriter struct {
	dst  []byte
	acc  uint64
	used uint // bits of acc, less than 32
}

// put appends up to 32 bits.
func (w *bitWriter) put(x uint64, n uint) {
	w.acc |= x << w.used
	w.used += n
	if w.used >= 32 {
		w.dst = binary.LittleEndian.AppendUint32(w.dst, uint32(w.acc))
		w.acc >>= 32
		w.used -= 32
	}
}

func (w *bitWriter) finish() []byte {
	for n := uint(0); n < w.used; n += 8 {
		w.dst = append(w.dst, byte(w.acc>>n))
	}
	return w.dst
}

// appendTokens appends residuals as planned: table, shift, reference, in the zero form the number of
// others, the low bits, the codes.
func appendTokens(dst []byte, rs []int64, symbols []uint8, p *tokenPlan) []byte {
	dst = AppendVarint(append(dst, byte(p.table), byte(p.shift)), p.ref)
	if p.zero {
		dst = AppendUvarint(dst, uint64(p.nonzero))
	}
	if p.shift > 0 {
		dst = appendLows(dst, rs, p)
	}
	t := &builtinTokenTables().of(p.zero)[p.table]
	w := bitWriter{dst: slices.Grow(dst, len(rs)*tokenMaxLen/8+16)}
	for i, s := range symbols[:len(rs)] {
		w.put(uint64(t.codes[s&(tokenSymbols-1)]), uint(t.lengths[s&(tokenSymbols-1)]))
		if s == tokenEscape {
			_, h := p.symbol(rs[i])
			n := uint(bits.Len64(h))
			w.put(uint64(n), escapeLenBits)
			w.put(h&math.MaxUint32, min(n, 32))
			if n > 32 {
				w.put(h>>32, n-32)
			}
		}
	}
	return w.finish()
}

func appendLows(dst []byte, rs []int64, p *tokenPlan) []byte {
	var low [groupLen]uint64
	mask := uint64(1)<<p.shift - 1
	n := 0
	for _, r := range rs {
		low[n&(groupLen-1)] = uint64(r-p.ref) & mask
		if p.zero && r == 0 {
			continue
		}
		if n++; n == groupLen {
			dst = appendBits(dst, low[:], p.shift)
			n = 0
		}
	}
	return appendBits(dst, low[:n], p.shift)
}
