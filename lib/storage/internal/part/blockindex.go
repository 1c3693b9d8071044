package part

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// offsetEvery is how many sizes one stored offset goes with; the others are sums.
const offsetEvery = 32

// chunkSize is the number of bytes of column data that share a checksum.
const chunkSize = 64 << 10

func chunksOf(size int64) int { return int((size + chunkSize - 1) / chunkSize) }

// blockIndex is the blocks file, read in place. Series have ranks, their
// positions in the part; blocks are numbered series by series, columns in the order of their file.
type blockIndex struct {
	ids         codec.Packed // rank -> series id
	byID        codec.Packed // ranks, sorted by series id
	extraBlocks codec.Packed // rank -> first block minus rank; one more entry for the end
	blockColumn codec.Packed // block -> column of timestamps
	repeats     repeats      // block -> column of values
	values      runs         // column -> where its values are
	timestamps  runs         // column -> where its timestamps are
	columnMin   codec.Packed // column -> first timestamp
	columnSpan  codec.Packed // column -> last minus first timestamp
	columnCount codec.Packed // column -> samples
	valuesCRC   codec.Packed // chunk -> CRC32C
	timesCRC    codec.Packed // chunk -> CRC32C
}

// repeats tell which blocks have a column of values of their own. The columns come in the order of these blocks;
// each other block repeats an earlier column, byte for byte.
type repeats struct {
	words   codec.Packed // a bit for each block, 64 in a word: it repeats a column
	before  codec.Packed // word -> repeating blocks before it
	columns codec.Packed // repeating block -> column
}

const wordBits = 64

// repeats reports whether a block repeats a column.
func (r *repeats) repeats(block int) bool {
	return r.words.At(block/wordBits)>>uint(block%wordBits)&1 != 0
}

// columnOf returns the number of the column of values of a block.
func (r *repeats) columnOf(block int) uint64 {
	word, bit := r.words.At(block/wordBits), uint(block%wordBits)
	before := r.before.At(block/wordBits) + uint64(bits.OnesCount64(word&(1<<bit-1)))
	if word>>bit&1 == 0 {
		return uint64(block) - before
	}
	if before >= uint64(r.columns.Len()) {
		return math.MaxUint64 // only in a file which is wrong in spite of its checksum
	}
	return r.columns.At(int(before))
}

// runs are adjacent byte ranges of a file.
type runs struct {
	sizes   codec.Packed
	offsets codec.Packed // of every 32nd
}

func (r *runs) at(i int) (offset, size int64) {
	base := i / offsetEvery
	offset = int64(r.offsets.At(base))
	for j := base * offsetEvery; j < i; j++ {
		offset += int64(r.sizes.At(j))
	}
	return offset, int64(r.sizes.At(i))
}

// indexBuilder collects the contents of the blocks file while a part is written.
type indexBuilder struct {
	ids         []uint32
	extraBlocks []uint32
	blockColumn []uint32
	repeatWords []uint64
	repeated    []uint32 // repeating block -> column
	valueSizes  []uint32
	columnSizes []uint32
	columnMin   []uint64
	columnSpan  []uint64
	columnCount []uint16
}

// addRepeat notes that the next block repeats a column of values.
func (b *indexBuilder) addRepeat(column uint32) {
	block := len(b.blockColumn)
	for len(b.repeatWords) <= block/wordBits {
		b.repeatWords = append(b.repeatWords, 0)
	}
	b.repeatWords[block/wordBits] |= 1 << (block % wordBits)
	b.repeated = append(b.repeated, column)
}

func (b *indexBuilder) appendRepeats(dst []byte) []byte {
	words := make([]uint64, (len(b.blockColumn)+wordBits-1)/wordBits)
	copy(words, b.repeatWords)
	before := make([]uint32, len(words))
	n := 0
	for i, w := range words {
		before[i] = uint32(n)
		n += bits.OnesCount64(w)
	}
	dst = codec.AppendPacked(dst, words)
	dst = codec.AppendPacked(dst, before)
	return codec.AppendPacked(dst, b.repeated)
}

// appendTo appends the blocks file without its checksum.
func (b *indexBuilder) appendTo(dst []byte, valuesCRC, timesCRC []uint32) ([]byte, error) {
	byID := make([]uint32, len(b.ids))
	for i := range byID {
		byID[i] = uint32(i)
	}
	slices.SortFunc(byID, func(x, y uint32) int {
		if b.ids[x] < b.ids[y] {
			return -1
		}
		return 1
	})
	for i := 1; i < len(byID); i++ {
		if id := b.ids[byID[i]]; id == b.ids[byID[i-1]] {
			return dst, errkind.New(errkind.Internal, "cannot write part: the blocks of series %d are not together", id)
		}
	}
	dst = append(dst, fileHeader(blocksName)...)
	for _, n := range []int{len(b.ids), len(b.blockColumn), len(b.columnSizes), len(b.repeated), len(valuesCRC), len(timesCRC)} {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	}
	dst = codec.AppendPacked(dst, b.ids)
	dst = codec.AppendPacked(dst, byID)
	dst = codec.AppendPacked(dst, append(b.extraBlocks, uint32(len(b.blockColumn)-len(b.ids))))
	dst = codec.AppendPacked(dst, b.blockColumn)
	dst = b.appendRepeats(dst)
	dst = appendRuns(dst, b.valueSizes)
	dst = appendRuns(dst, b.columnSizes)
	dst = codec.AppendPacked(dst, b.columnMin)
	dst = codec.AppendPacked(dst, b.columnSpan)
	dst = codec.AppendPacked(dst, b.columnCount)
	dst = codec.AppendPacked(dst, valuesCRC)
	return codec.AppendPacked(dst, timesCRC), nil
}

func appendRuns(dst []byte, sizes []uint32) []byte {
	dst = codec.AppendPacked(dst, sizes)
	var offsets []uint64
	offset := uint64(headerSize)
	for i, size := range sizes {
		if i%offsetEvery == 0 {
			offsets = append(offsets, offset)
		}
		offset += uint64(size)
	}
	return codec.AppendPacked(dst, offsets)
}

// parse reads a blocks file whose checksum has been verified. It still bounds all it reads.
func (x *blockIndex) parse(data []byte, valuesSize, timestampsSize int64) error {
	const counts = 6
	if len(data) < headerSize+counts*8 {
		return errIndex("it is cut off")
	}
	var n [counts]int
	for i := range n {
		c := binary.LittleEndian.Uint64(data[headerSize+8*i:])
		if c > 1<<32 {
			return errIndex("a count exceeds 4294967296")
		}
		n[i] = int(c)
	}
	series, blocks, columns, repeating := n[0], n[1], n[2], n[3]
	if n[4] != chunksOf(valuesSize) || n[5] != chunksOf(timestampsSize) || blocks < series || columns > blocks || repeating > blocks {
		return errIndex("its counts do not go together")
	}
	src := data[headerSize+counts*8:]
	own, words := blocks-repeating, (blocks+wordBits-1)/wordBits
	for _, f := range []struct {
		array *codec.Packed
		n     int
	}{
		{&x.ids, series}, {&x.byID, series}, {&x.extraBlocks, series + 1}, {&x.blockColumn, blocks},
		{&x.repeats.words, words}, {&x.repeats.before, words}, {&x.repeats.columns, repeating},
		{&x.values.sizes, own}, {&x.values.offsets, (own + offsetEvery - 1) / offsetEvery},
		{&x.timestamps.sizes, columns}, {&x.timestamps.offsets, (columns + offsetEvery - 1) / offsetEvery},
		{&x.columnMin, columns}, {&x.columnSpan, columns}, {&x.columnCount, columns},
		{&x.valuesCRC, n[4]}, {&x.timesCRC, n[5]},
	} {
		var err error
		if *f.array, src, err = codec.CutPacked(src, f.n); err != nil {
			return err
		}
	}
	if len(src) > 0 {
		return errIndex("bytes are left over")
	}
	return nil
}

func errIndex(cause string) error {
	return errkind.New(errkind.Corrupt, "cannot read %s file: %s", blocksName, cause)
}

// rankOf finds a series. Ids are dense, so the first guess is near: search outwards from it.
func (x *blockIndex) rankOf(id uint32) (rank int, ok bool) {
	n := x.byID.Len()
	if n == 0 {
		return 0, false
	}
	at := func(i int) uint32 { return uint32(x.ids.At(x.rankAt(i))) }
	first, last := at(0), at(n-1)
	if id < first || id > last {
		return 0, false
	}
	low, high := 0, n-1 // at(low) <= id <= at(high)
	if last > first {
		guess := int(uint64(id-first) * uint64(n-1) / uint64(last-first))
		low, high = gallop(at, id, guess, n)
	}
	for low < high {
		middle := int(uint(low+high) / 2)
		if at(middle) < id {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return x.rankAt(low), at(low) == id
}

// blocksOf returns the numbers of the first block of a series and of the one behind its last.
func (x *blockIndex) blocksOf(rank int) (first, end int, err error) {
	before, after := x.extraBlocks.At(rank), x.extraBlocks.At(rank+1)
	if before > after || after > uint64(x.blockColumn.Len()-x.ids.Len()) {
		return 0, 0, errIndex("the blocks of a series lie behind the last block")
	}
	return rank + int(before), rank + 1 + int(after), nil
}

// columnOf returns the number of the column of timestamps of a block.
func (x *blockIndex) columnOf(block int) (int, error) {
	column := x.blockColumn.At(block)
	if column >= uint64(x.columnMin.Len()) {
		return 0, errIndex("a block has no column of timestamps")
	}
	return int(column), nil
}

// valuesOf returns the number of the column of values of a block.
func (x *blockIndex) valuesOf(block int) (int, error) {
	column := x.repeats.columnOf(block)
	if column >= uint64(x.values.sizes.Len()) {
		return 0, errIndex("a block has no column of values")
	}
	return int(column), nil
}

// rankAt returns the rank of the series with the i-th smallest id.
func (x *blockIndex) rankAt(i int) int {
	rank := x.byID.At(i)
	if rank >= uint64(x.ids.Len()) {
		return 0 // only in a file which is wrong in spite of its checksum
	}
	return int(rank)
}

// gallop widens a range around guess, doubling its steps, until it must hold id.
func gallop(at func(int) uint32, id uint32, guess, n int) (low, high int) {
	low, high = guess, guess
	for step := 1; low > 0 && at(low) > id; step *= 2 {
		high = low
		low = max(0, low-step)
	}
	for step := 1; high < n-1 && at(high) < id; step *= 2 {
		low = high
		high = min(n-1, high+step)
	}
	return low, high
}
