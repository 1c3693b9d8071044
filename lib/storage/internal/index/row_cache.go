package index

import (
	"sync"

	"vmcluster/lib/memory"
)

const (
	// rowCacheShare is the part of the budget that remembered row blocks of one index may take, up to maxRowCacheBytes.
	rowCacheShare    = 256
	maxRowCacheBytes = 16 << 20
	rawEntrySize     = 80 // of an entry of the map, about
)

// rowCache keeps row blocks of segments as they were before compression, some ten bytes per series. A query for a metric which all
// targets have wants a few rows of every block, and the next one wants others: to decompress a block takes longer than to read a few
// of its rows. What was not asked for during a whole generation goes, also blocks of segments which are gone.
type rowCache struct {
	max int // bytes of a generation
	use *cacheUse

	mu            sync.RWMutex
	recent, older rowGeneration
}

type rowGeneration struct {
	blocks map[rawKey][]byte
	bytes  int
}

// rawKey names a row block.
type rawKey struct {
	s     *segment
	block uint64
}

func newRowCache(budget *memory.Budget) *rowCache {
	c := &rowCache{max: maxRowCacheBytes / 8}
	if budget != nil {
		c.max = int(min(maxRowCacheBytes, budget.Limit()/rowCacheShare) / 2)
	}
	return c
}

// heapBytes returns the memory of the cache.
func (c *rowCache) heapBytes() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return int64(c.recent.bytes + c.older.bytes)
}

// get returns the raw form of a block, which nobody may change.
func (c *rowCache) get(key rawKey) ([]byte, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.RLock()
	raw, ok := c.recent.blocks[key]
	if ok {
		c.mu.RUnlock()
		c.use.hit()
		return raw, true
	}
	raw, ok = c.older.blocks[key]
	c.mu.RUnlock()
	if !ok {
		c.use.miss()
		return nil, false
	}
	c.use.hit()
	c.put(key, raw)
	return raw, true
}

// put keeps the raw form of a block, which nobody may change from then on.
func (c *rowCache) put(key rawKey, raw []byte) {
	n := cap(raw) + rawEntrySize
	if c == nil || n > c.max {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.recent.blocks[key]; ok {
		return
	}
	if c.recent.bytes+n > c.max || c.recent.blocks == nil {
		c.older, c.recent = c.recent, rowGeneration{blocks: map[rawKey][]byte{}}
	}
	c.recent.blocks[key] = raw
	c.recent.bytes += n
}
