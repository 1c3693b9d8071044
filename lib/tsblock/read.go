package tsblock

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"vmcluster/lib/model"
)

// Scratch is the memory ReadRange works with. Reusing it saves allocations, and
// decodes timestamp columns which many series share only once.
// It belongs to one goroutine at a time; the zero value is ready to use.
type Scratch struct {
	blocks  []Block
	decoded []Samples // of overlapping blocks
	merger  merger
	columns columnCache
	start   int   // of what ReadRange appends
	facts   Facts // of what it has appended so far
	removed int   // samples that gave way to newer ones of their intervals
}

// TakeDeduplicated returns how many samples ReadRange and ReadHistograms have left out for an interval since the last call; without an interval none
// are counted.
func (s *Scratch) TakeDeduplicated() int {
	n := s.removed
	s.removed = 0
	return n
}

// HeapBytes returns about how much memory it holds.
func (s *Scratch) HeapBytes() int {
	n := 0
	for i := range s.decoded {
		n += s.decoded[i].heapBytes()
	}
	for i := range s.columns.slots {
		c := &s.columns.slots[i]
		n += 8*cap(c.timestamps) + cap(c.encoded)
	}
	return n
}

// Facts returns what is known of the values which the last ReadRange appended; nothing if it appended none.
func (s *Scratch) Facts() Facts { return s.facts }

// ReadRange appends the samples of the blocks which lie within r to dst, in the
// order of time, deduplicated as by Merge. Samples outside of r take no part
// in that, so the answer does not depend on how samples are cut into blocks.
// Blocks may come in any order and may overlap; those of native histograms are left out. A damaged block is an error of
// kind Corrupt, and dst is then unchanged.
func ReadRange(dst *Samples, blocks []Block, r model.TimeRange, minIntervalMs int64, scratch *Scratch) error {
	start := dst.Len()
	scratch.start, scratch.facts = start, 0
	err := scratch.read(dst, blocks, r)
	if err != nil {
		dst.truncate(start)
		scratch.facts = 0
		return err
	}
	n := dst.Len()
	dst.Dedup(start, minIntervalMs)
	if minIntervalMs > 0 {
		scratch.removed += n - dst.Len()
	}
	return nil
}

func (s *Scratch) read(dst *Samples, blocks []Block, r model.TimeRange) error {
	blocks = s.inRange(blocks, r, false)
	defer func() { clear(s.blocks) }()
	for len(blocks) > 0 {
		n := OverlapLen(blocks)
		start := dst.Len()
		facts := blocks[0].Facts()
		if n > 1 {
			if err := s.readOverlapping(dst, blocks[:n], r); err != nil {
				return err
			}
			for i := range blocks[1:n] {
				facts &= blocks[1+i].Facts() & NoNaN // numbers of several blocks may take turns
			}
		} else if err := s.decodeRange(dst, &blocks[0], r); err != nil {
			return err
		}
		s.addFacts(dst.Values, start, facts)
		blocks = blocks[n:]
	}
	return nil
}

// addFacts takes note that values[start:] have been appended, which have these facts.
func (s *Scratch) addFacts(values []float64, start int, facts Facts) {
	switch {
	case start == len(values):
	case start == s.start:
		s.facts = facts
	default:
		s.facts = joinFacts(s.facts, facts, values[start-1], values[start])
	}
}

// inRange returns the blocks of samples, or those of native histograms, that overlap r, sorted by MinTimestamp. Of equal blocks, as replicas on
// several nodes often are, one is returned.
func (s *Scratch) inRange(blocks []Block, r model.TimeRange, histograms bool) []Block {
	s.blocks = s.blocks[:0]
	sorted := true
	for i := range blocks {
		b := &blocks[i]
		if b.MinTimestamp > r.Max || b.MaxTimestamp < r.Min || (b.Content() == Histograms) != histograms {
			continue
		}
		if n := len(s.blocks); n > 0 {
			if s.blocks[n-1].equal(b) {
				continue // a copy, from another node
			}
			if s.blocks[n-1].MinTimestamp > b.MinTimestamp {
				sorted = false
			}
		}
		s.blocks = append(s.blocks, *b)
	}
	if !sorted {
		SortBlocks(s.blocks)
		s.blocks = slices.CompactFunc(s.blocks, func(a, b Block) bool { return a.equal(&b) })
	}
	return s.blocks
}

// equal reports whether two blocks hold the same samples in the same form.
func (b *Block) equal(other *Block) bool {
	return b.MinTimestamp == other.MinTimestamp && b.MaxTimestamp == other.MaxTimestamp && b.Count == other.Count &&
		bytes.Equal(b.Values, other.Values) && bytes.Equal(b.Timestamps, other.Timestamps)
}

// SortBlocks sorts blocks by MinTimestamp.
func SortBlocks(blocks []Block) {
	slices.SortStableFunc(blocks, func(a, b Block) int { return cmp.Compare(a.MinTimestamp, b.MinTimestamp) })
}

// OverlapLen returns how many of the blocks at the front, sorted by
// MinTimestamp, form a chain of overlaps: 1 when the first overlaps no other.
func OverlapLen(blocks []Block) int {
	end := blocks[0].MaxTimestamp
	n := 1
	for n < len(blocks) && blocks[n].MinTimestamp <= end {
		end = max(end, blocks[n].MaxTimestamp)
		n++
	}
	return n
}

func (s *Scratch) readOverlapping(dst *Samples, blocks []Block, r model.TimeRange) error {
	if len(s.decoded) < len(blocks) {
		s.decoded = append(s.decoded, make([]Samples, len(blocks)-len(s.decoded))...)
	}
	sources := s.decoded[:len(blocks)]
	for i := range blocks {
		sources[i].Reset()
		if err := s.decodeRange(&sources[i], &blocks[i], r); err != nil {
			return err
		}
	}
	s.merger.merge(dst, sources)
	return nil
}

// decodeRange appends the samples of one block which lie within r. Values before r are not even decoded.
func (s *Scratch) decodeRange(dst *Samples, b *Block, r model.TimeRange) error {
	start := dst.Len()
	if err := s.decodeTimestamps(dst, b); err != nil {
		return err
	}
	timestamps := dst.Timestamps[start:]
	skip := 0
	if b.MinTimestamp < r.Min {
		skip = sort.Search(len(timestamps), func(i int) bool { return timestamps[i] >= r.Min })
		copy(timestamps, timestamps[skip:])
	}
	values, err := b.DecodeValuesFrom(dst.Values, skip)
	if err != nil {
		dst.Timestamps = dst.Timestamps[:start]
		return err
	}
	dst.Values = values
	dst.truncate(len(values))
	if b.MaxTimestamp > r.Max {
		tail := dst.Timestamps[start:]
		dst.truncate(start + sort.Search(len(tail), func(i int) bool { return tail[i] > r.Max }))
	}
	return nil
}

// decodeTimestamps is Block.DecodeTimestamps, but looks for them in the cache.
func (s *Scratch) decodeTimestamps(dst *Samples, b *Block) error {
	const worthwhile = 32 // bytes; smaller columns decode as fast as they compare
	if len(b.Timestamps) < worthwhile {
		timestamps, err := b.DecodeTimestamps(dst.Timestamps)
		dst.Timestamps = timestamps
		return err
	}
	c := s.columns.slot(b)
	if !c.holds(b) {
		timestamps, err := b.DecodeTimestamps(c.timestamps[:0])
		if err != nil {
			c.encoded = c.encoded[:0]
			return err
		}
		c.timestamps = timestamps
		c.encoded = append(c.encoded[:0], b.Timestamps...)
	}
	dst.Timestamps = append(dst.Timestamps, c.timestamps...)
	return nil
}

// holds reports whether the decoded timestamps are those of b.
func (c *cachedColumn) holds(b *Block) bool {
	n := len(c.timestamps)
	return n == b.Count && bytes.Equal(c.encoded, b.Timestamps) && c.timestamps[0] == b.MinTimestamp && c.timestamps[n-1] == b.MaxTimestamp
}
