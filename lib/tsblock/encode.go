package tsblock

import (
	"vmcluster/lib/bytesutil"
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/nativehistogram"
)

// Encoder encodes blocks. It keeps scratch memory, and columns of timestamps
// since many series share them, so it is worth reusing; it belongs to one goroutine at a time. The
// zero value is ready to use.
type Encoder struct {
	codec   codec.Encoder
	columns columnCache

	histograms nativehistogram.Encoder
}

// AppendEncode appends the columns of s, which holds 1 to MaxSamplesPerBlock
// samples sorted by timestamp, to dst. The block aliases the returned slice: when
// that is appended to again, the block stays valid as long as the old memory is not reused.
func (e *Encoder) AppendEncode(dst []byte, s *Samples) ([]byte, Block) {
	s.checkBlock()
	b := Block{MinTimestamp: s.Timestamps[0], MaxTimestamp: s.Timestamps[s.Len()-1], Count: s.Len()}
	start := len(dst)
	dst = e.appendTimestamps(dst, &b, s.Timestamps)
	middle := len(dst)
	dst = e.codec.AppendValues(dst, s.Values)
	b.Timestamps, b.Values = dst[start:middle:middle], dst[middle:len(dst):len(dst)]
	return dst, b
}

// appendTimestamps appends the column of timestamps of b, which has its header.
func (e *Encoder) appendTimestamps(dst []byte, b *Block, timestamps []int64) []byte {
	c := e.columns.slot(b)
	if bytesutil.EqualInts(c.timestamps, timestamps) {
		return append(dst, c.encoded...)
	}
	start := len(dst)
	dst = e.codec.AppendTimestamps(dst, timestamps)
	c.timestamps = append(c.timestamps[:0], timestamps...)
	c.encoded = append(c.encoded[:0], dst[start:]...)
	return dst
}

// AppendBlocks encodes samples, sorted by timestamp, into as many blocks as they take, which it appends to blocks.
func (e *Encoder) AppendBlocks(blocks []Block, dst []byte, s *Samples) ([]Block, []byte) {
	for start := 0; start < s.Len(); start += MaxSamplesPerBlock {
		end := min(s.Len(), start+MaxSamplesPerBlock)
		run := Samples{Timestamps: s.Timestamps[start:end], Values: s.Values[start:end]}
		var b Block
		dst, b = e.AppendEncode(dst, &run)
		blocks = append(blocks, b)
	}
	return blocks, dst
}

// AppendEncode is Encoder.AppendEncode for occasional use.
func AppendEncode(dst []byte, s *Samples) ([]byte, Block) {
	s.checkBlock()
	b := Block{MinTimestamp: s.Timestamps[0], MaxTimestamp: s.Timestamps[s.Len()-1], Count: s.Len()}
	var e codec.Encoder
	start := len(dst)
	dst = e.AppendTimestamps(dst, s.Timestamps)
	middle := len(dst)
	dst = e.AppendValues(dst, s.Values)
	b.Timestamps, b.Values = dst[start:middle:middle], dst[middle:len(dst):len(dst)]
	return dst, b
}

func (s *Samples) checkBlock() {
	n := s.Len()
	invariants.Check(n > 0 && n <= MaxSamplesPerBlock && len(s.Values) == n, "block of %d timestamps and %d values", n, len(s.Values))
}

// columnCache holds a few columns of timestamps, encoded and decoded. It copies both: the memory
// which blocks and samples alias may be reused by its owner.
type columnCache struct {
	slots [32]cachedColumn
}

type cachedColumn struct {
	timestamps []int64
	encoded    []byte
}

// slot returns the only place where the column of timestamps of b may be.
func (c *columnCache) slot(b *Block) *cachedColumn {
	const mix = 0x9e3779b97f4a7c15
	h := (uint64(b.MinTimestamp)*mix+uint64(b.MaxTimestamp))*mix + uint64(b.Count)
	return &c.slots[h*mix>>59]
}

// Decode appends the samples of the block to dst. A damaged block is an error
// of kind Corrupt, and dst is then unchanged.
func (b *Block) Decode(dst *Samples) error {
	start := dst.Len()
	timestamps, err := b.DecodeTimestamps(dst.Timestamps)
	if err != nil {
		return err
	}
	values, err := b.DecodeValues(dst.Values)
	if err != nil {
		return err
	}
	invariants.Check(len(timestamps)-start == b.Count && len(values) == len(timestamps), "decoded %d timestamps and %d values of a block", len(timestamps), len(values))
	dst.Timestamps, dst.Values = timestamps, values
	return nil
}

// DecodeTimestamps appends the timestamps to dst. A damaged column, one that is
// not sorted, or one that does not go with the block's header is an error of
// kind Corrupt.
func (b *Block) DecodeTimestamps(dst []int64) ([]int64, error) {
	if err := b.check(); err != nil {
		return dst, err
	}
	start := len(dst)
	out, err := codec.DecodeTimestamps(dst, b.Timestamps, b.Count)
	if err != nil {
		return dst, err
	}
	column := out[start:]
	if column[0] != b.MinTimestamp || column[len(column)-1] != b.MaxTimestamp || !isSorted(column) {
		return dst, errkind.New(errkind.Corrupt, "cannot decode timestamps of block %s: they are not sorted or disagree with its header", b)
	}
	return out, nil
}

// DecodeValues appends the values to dst. A damaged column is an error of kind Corrupt.
func (b *Block) DecodeValues(dst []float64) ([]float64, error) {
	if err := b.check(); err != nil {
		return dst, err
	}
	return codec.DecodeValues(dst, b.column(), b.Count)
}

// DecodeValuesFrom appends the values from index from on, which must be at most Count. The fewer they are, the
// less is decoded; damage in the rest is not noticed. A damaged column is an error of kind Corrupt.
func (b *Block) DecodeValuesFrom(dst []float64, from int) ([]float64, error) {
	if err := b.check(); err != nil {
		return dst, err
	}
	return codec.DecodeValuesFrom(dst, b.column(), b.Count, from)
}

func (b *Block) check() error {
	if b.Count < 1 || b.Count > MaxSamplesPerBlock || b.MinTimestamp > b.MaxTimestamp {
		return errkind.New(errkind.Corrupt, "cannot decode block %s: want 1 to %d samples and a time range", b, MaxSamplesPerBlock)
	}
	return nil
}

func isSorted(timestamps []int64) bool {
	previous := timestamps[0]
	for _, t := range timestamps {
		if t < previous {
			return false
		}
		previous = t
	}
	return true
}

// increases reports whether no timestamp occurs twice in sorted timestamps.
func increases(timestamps []int64) bool {
	for i := 1; i < len(timestamps); i++ {
		if timestamps[i] <= timestamps[i-1] {
			return false
		}
	}
	return true
}
