package index

import (
	"sync"

	"vmcluster/lib/memory"
)

// Dashboards and alerts select the same few series again and again, which lie far apart, so that each costs the decoding of a block of rows.
const (
	// selectionShare is the part of a generation that the keys of one selection may take. Larger selections neither look for their
	// keys in the cache nor keep them: they would push out all others, and read many rows of the blocks they decode.
	selectionShare = 2
	usualKeySize   = 160 // bytes
	// keyCacheShare is the part of the budget that the cache of one index may take, up to maxKeyCacheBytes.
	keyCacheShare     = 256
	maxKeyCacheBytes  = 16 << 20
	keyCacheEntrySize = 40 // of an entry of the map, about
)

// keyCache keeps keys of flushed series by id. An id never gets another key, so nothing in it gets wrong. What was
// not asked for during a whole generation goes.
type keyCache struct {
	max int // bytes
	use *cacheUse

	mu            sync.RWMutex
	recent, older keyGeneration
}

type keyGeneration struct {
	spans map[uint32]keySpan
	text  []byte
}

type keySpan struct{ start, end uint32 }

func newKeyCache(budget *memory.Budget) *keyCache {
	c := &keyCache{max: maxKeyCacheBytes / 4}
	if budget != nil {
		c.max = int(min(maxKeyCacheBytes, budget.Limit()/keyCacheShare))
	}
	return c
}

// largestSelection returns the number of series of the largest selection for which the cache is used.
func (c *keyCache) largestSelection() uint64 {
	return uint64(c.max / 2 / selectionShare / (usualKeySize + keyCacheEntrySize))
}

func (g *keyGeneration) bytes() int { return cap(g.text) + len(g.spans)*keyCacheEntrySize }

// heapBytes returns the memory of the cache.
func (c *keyCache) heapBytes() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return int64(c.recent.bytes() + c.older.bytes())
}

// appendKey appends the key of an id to dst, if it is here.
func (c *keyCache) appendKey(dst []byte, id uint32) ([]byte, bool) {
	c.mu.RLock()
	x, ok := c.recent.spans[id]
	if ok {
		dst = append(dst, c.recent.text[x.start:x.end]...)
		c.mu.RUnlock()
		return dst, true
	}
	start := len(dst)
	if x, ok = c.older.spans[id]; ok {
		dst = append(dst, c.older.text[x.start:x.end]...)
	}
	c.mu.RUnlock()
	if ok {
		c.add(id, dst[start:])
	}
	return dst, ok
}

// add keeps a copy of the key.
func (c *keyCache) add(id uint32, key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.recent.spans[id]; ok {
		return
	}
	if len(c.recent.text)+len(key)+(len(c.recent.spans)+1)*keyCacheEntrySize > c.max/2 {
		c.older, c.recent = c.recent, keyGeneration{}
	}
	if c.recent.spans == nil {
		c.recent.spans = map[uint32]keySpan{}
	}
	start := len(c.recent.text)
	c.recent.text = append(c.recent.text, key...)
	c.recent.spans[id] = keySpan{start: uint32(start), end: uint32(len(c.recent.text))}
}
