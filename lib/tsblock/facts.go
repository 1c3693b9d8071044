package tsblock

import (
	"bytes"
	"math"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// Facts are what is known of values without decoding them. They are set by the encoder and kept in the
// first byte of the column, so blocks have them wherever they come from.
type Facts = codec.Facts

// The facts of a block or of the samples which ReadRange has read.
const (
	NoNaN          = codec.NoNaN          // no NaN of any kind, stale markers included
	NeverDecreases = codec.NeverDecreases // no number is less than the number before it: no counter reset
	Constant       = codec.Constant       // all values have the same bits
)

// ConstValue returns the value of all samples, if it is the same, bit for bit. It takes no decoding.
func (b *Block) ConstValue() (value float64, ok bool) {
	if !b.Facts().Has(Constant) {
		return 0, false
	}
	value, err := codec.ValueAt(b.column(), b.Count, b.Count-1)
	return value, err == nil
}

// ValueAt returns the value at index i, which must be less than Count. The last one is at
// hand; others cost as much as decoding the values behind them. A damaged column is an error of kind Corrupt.
func (b *Block) ValueAt(i int) (float64, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	if i < 0 || i >= b.Count {
		return 0, errkind.New(errkind.Internal, "cannot read value %d of block %s: it has no such sample", i, b)
	}
	return codec.ValueAt(b.column(), b.Count, i)
}

// LastValue returns the value at MaxTimestamp. A damaged column is an error of kind Corrupt.
func (b *Block) LastValue() (float64, error) { return b.ValueAt(b.Count - 1) }

// SameTimestamps reports whether two blocks have the same timestamps. Blocks of a part which have the same
// timestamps share the bytes of the column (the pointers &b.Timestamps[0] are equal, so they can serve as key of a map
// while the blocks are valid), and columns of regular timestamps are a few bytes, so it is cheap.
func (b *Block) SameTimestamps(o *Block) bool {
	if b.Count != o.Count || b.MinTimestamp != o.MinTimestamp || b.MaxTimestamp != o.MaxTimestamp || len(b.Timestamps) != len(o.Timestamps) {
		return false
	}
	return len(b.Timestamps) == 0 || &b.Timestamps[0] == &o.Timestamps[0] || bytes.Equal(b.Timestamps, o.Timestamps)
}

// joinFacts returns the facts of samples with facts a that are followed by samples with facts b;
// last and next are the numbers where they meet. What is constant on both sides need not be so as a whole.
func joinFacts(a, b Facts, last, next float64) Facts {
	facts := a & b
	if !(last <= next) {
		facts &^= NeverDecreases // also with NaNs, behind which there may be less
	}
	if math.Float64bits(last) != math.Float64bits(next) {
		facts &^= Constant
	}
	return facts
}
