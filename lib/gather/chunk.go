package gather

import (
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

const (
	maxChunkSeries = 256
	maxChunkBytes  = 128 << 10
	// A chunk which has grown beyond this many bytes is not kept for reuse.
	maxPooledChunk = 1 << 20
)

// chunk holds copies of a run of series of one node, flat, so that it costs no
// allocation per series.
type chunk struct {
	series []chunkSeries
	blocks []chunkBlock
	data   []byte // keys and columns
}

type chunkSeries struct {
	keyStart, keyEnd       int // in data
	blocksStart, blocksEnd int // in blocks
}

// chunkBlock is a block whose columns are data[start:valuesStart] and data[valuesStart:end].
type chunkBlock struct {
	min, max                int64
	count                   int
	start, valuesStart, end int
}

func (c *chunk) reset() { c.series, c.blocks, c.data = c.series[:0], c.blocks[:0], c.data[:0] }

func (c *chunk) full() bool { return len(c.series) >= maxChunkSeries || len(c.data) >= maxChunkBytes }

// add copies a series into the chunk.
func (c *chunk) add(s *storageapi.Series) {
	cs := chunkSeries{keyStart: len(c.data), blocksStart: len(c.blocks)}
	c.data = append(c.data, s.Key...)
	cs.keyEnd = len(c.data)
	for i := range s.Blocks {
		b := &s.Blocks[i]
		cb := chunkBlock{min: b.MinTimestamp, max: b.MaxTimestamp, count: b.Count, start: len(c.data)}
		c.data = append(c.data, b.Timestamps...)
		cb.valuesStart = len(c.data)
		c.data = append(c.data, b.Values...)
		cb.end = len(c.data)
		c.blocks = append(c.blocks, cb)
	}
	cs.blocksEnd = len(c.blocks)
	c.series = append(c.series, cs)
}

// key returns the key of series i. It aliases the chunk.
func (c *chunk) key(i int) []byte {
	s := &c.series[i]
	return c.data[s.keyStart:s.keyEnd:s.keyEnd]
}

// appendBlocks appends the blocks of series i, which alias the chunk, to dst.
func (c *chunk) appendBlocks(dst []tsblock.Block, i int) []tsblock.Block {
	s := &c.series[i]
	for j := s.blocksStart; j < s.blocksEnd; j++ {
		b := &c.blocks[j]
		dst = append(dst, tsblock.Block{
			MinTimestamp: b.min,
			MaxTimestamp: b.max,
			Count:        b.count,
			Timestamps:   c.data[b.start:b.valuesStart:b.valuesStart],
			Values:       c.data[b.valuesStart:b.end:b.end],
		})
	}
	return dst
}
