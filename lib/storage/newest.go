package storage

import (
	"bytes"
	"math"
	"slices"
	"sort"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// newest cuts answers down to the newest sample of each series, for readers who look at nothing else. Instant
// queries do so over all series there are: then neither older samples nor, to be counted, values are decoded or travel.
type newest struct {
	r       model.TimeRange
	encoder tsblock.Encoder
	sample  tsblock.Samples
	buf     []byte
	columns [64]timesColumn

	number    tsblock.Block // stands for any number at its time
	numberBuf []byte
	out       [1]tsblock.Block
}

// takeNewest returns one for a search, which gives it back to newests: its columns are tens of kilobytes each, and searches
// which follow each other often share them.
func (s *Storage) takeNewest(r model.TimeRange) *newest {
	n, ok := s.newests.Get().(*newest)
	if !ok {
		n = &newest{}
	}
	n.r = r
	return n
}

// timesColumn is a decoded column of timestamps, which many series share.
type timesColumn struct {
	encoded    []byte
	timestamps []int64
}

// reduce returns a block with the newest sample of the blocks within the range, or the blocks as they are when
// that is in doubt: several samples compete for the newest time, it is NaN, or something is damaged. With
// kind, a number may stand for another.
func (n *newest) reduce(blocks []tsblock.Block, kind bool) []tsblock.Block {
	best, at, rivals := -1, int64(math.MinInt64), 0
	index := 0
	for i := range blocks {
		b := &blocks[i]
		t, k, ok := n.newestOf(b)
		switch {
		case !ok:
			return blocks
		case k < 0 || t < at:
		case t == at && best >= 0:
			rivals++
		default:
			best, at, index, rivals = i, t, k, 0
		}
	}
	if best < 0 || rivals > 0 || len(blocks) == 1 && blocks[0].Count == 1 {
		return blocks
	}
	b := &blocks[best]
	if kind && b.Facts().Has(tsblock.NoNaN) {
		return n.anyNumber(at)
	}
	if index > 0 {
		if times, err := n.timestamps(b); err != nil || times[index-1] == at {
			return blocks
		}
	}
	v, err := b.ValueAt(index)
	if err != nil || v != v && math.Float64bits(v) != staleBits {
		return blocks
	}
	if kind && v == v {
		return n.anyNumber(at)
	}
	n.sample.Reset()
	n.sample.Append(at, v)
	n.buf, n.out[0] = n.encoder.AppendEncode(n.buf[:0], &n.sample)
	return n.out[:]
}

// staleBits is the marker that ends a series: NaN, but it counts.
const staleBits = 0x7ff0000000000002

// newestOf returns the time and the index of the newest sample of a block in the range; the index is -1 when there is none.
// Not ok means that the block cannot be read.
func (n *newest) newestOf(b *tsblock.Block) (at int64, index int, ok bool) {
	switch {
	case b.MinTimestamp > n.r.Max || b.MaxTimestamp < n.r.Min:
		return 0, -1, true
	case b.MaxTimestamp <= n.r.Max:
		return b.MaxTimestamp, b.Count - 1, true
	}
	times, err := n.timestamps(b)
	if err != nil {
		return 0, -1, false
	}
	index = sort.Search(len(times), func(i int) bool { return times[i] > n.r.Max }) - 1
	if index < 0 || times[index] < n.r.Min {
		return 0, -1, true
	}
	return times[index], index, true
}

// timestamps returns the decoded column of a block, valid until the next call.
func (n *newest) timestamps(b *tsblock.Block) ([]int64, error) {
	const mix = 0x9e3779b97f4a7c15
	c := &n.columns[(uint64(b.MinTimestamp)*mix+uint64(b.MaxTimestamp))*mix>>58]
	if len(c.timestamps) == b.Count && c.timestamps[0] == b.MinTimestamp && bytes.Equal(c.encoded, b.Timestamps) {
		return c.timestamps, nil
	}
	times, err := b.DecodeTimestamps(c.timestamps[:0])
	if err != nil {
		c.encoded, c.timestamps = c.encoded[:0], c.timestamps[:0]
		return nil, err
	}
	c.timestamps, c.encoded = times, append(c.encoded[:0], b.Timestamps...)
	return times, nil
}

// anyNumber returns a block with a number at the given time.
func (n *newest) anyNumber(at int64) []tsblock.Block {
	if n.number.Count == 0 || n.number.MinTimestamp != at {
		n.sample.Reset()
		n.sample.Append(at, 0)
		n.numberBuf, n.number = n.encoder.AppendEncode(slices.Grow(n.numberBuf[:0], 32), &n.sample)
	}
	n.out[0] = n.number
	return n.out[:]
}
