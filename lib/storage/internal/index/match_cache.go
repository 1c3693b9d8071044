package index

import (
	"container/list"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/memory"
	"vmcluster/lib/model"
)

const (
	// defaultCacheBytes bounds a cache without a budget.
	defaultCacheBytes = 16 << 20
	// cacheShare is the part of the budget that the cache of one index may take.
	cacheShare = 64
	// entryOverhead is about what an entry takes besides its bitmap and its texts.
	entryOverhead = 256
	// minCachedBytes is the size from which the posting of a single value is worth an entry.
	minCachedBytes = 4 << 10
)

// matchCache remembers which series of a segment a filter selects. Segments never change, so entries
// stay right until their segment goes away. The least recently used ones go when there are too many bytes.
type matchCache struct {
	max    int64
	budget *memory.Budget // nil for none
	use    *cacheUse
	mu     struct {
		sync.Mutex
		entries map[matchKey]*list.Element // of *matchEntry
		recent  list.List                  // most recent first
		bytes   int64
	}
}

// matchKey is a filter in a segment. Name is internal.
type matchKey struct {
	s          *segment
	tenant     model.TenantID
	name       string
	pattern    string
	regexp     bool
	complement bool
}

type matchEntry struct {
	key   matchKey
	ids   *roaring.Bitmap
	bytes int64
}

func newMatchCache(budget *memory.Budget) *matchCache {
	c := &matchCache{max: defaultCacheBytes, budget: budget}
	if budget != nil {
		c.max = budget.Limit() / cacheShare
	}
	c.mu.entries = map[matchKey]*list.Element{}
	return c
}

// get returns the series of a filter, which nobody may change.
func (c *matchCache) get(key matchKey) (*roaring.Bitmap, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.mu.entries[key]
	if !ok {
		return nil, false
	}
	c.mu.recent.MoveToFront(e)
	return e.Value.(*matchEntry).ids, true
}

// put remembers the series of a filter, which nobody may change from then on. It does nothing when memory is short.
func (c *matchCache) put(key matchKey, ids *roaring.Bitmap) {
	if c == nil {
		return
	}
	n := int64(ids.GetSizeInBytes()) + int64(len(key.name)+len(key.pattern)) + entryOverhead
	if n > c.max/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.mu.entries[key]; ok {
		return
	}
	for c.mu.bytes+n > c.max {
		c.removeLocked(c.mu.recent.Back())
	}
	if c.budget != nil && c.budget.Reserve(n, "filters in the index") != nil {
		return
	}
	c.mu.bytes += n
	c.mu.entries[key] = c.mu.recent.PushFront(&matchEntry{key: key, ids: ids, bytes: n})
}

func (c *matchCache) removeLocked(e *list.Element) {
	entry := c.mu.recent.Remove(e).(*matchEntry)
	delete(c.mu.entries, entry.key)
	c.mu.bytes -= entry.bytes
	if c.budget != nil {
		c.budget.Release(entry.bytes)
	}
}

// forget drops what belongs to a segment that goes away.
func (c *matchCache) forget(s *segment) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.mu.recent.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*matchEntry).key.s == s {
			c.removeLocked(e)
		}
		e = next
	}
}

func (c *matchCache) sizeBytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.bytes
}

// key returns under what the term is remembered for a source; false when it is not.
func (t *term) key(src tenantSource) (matchKey, bool) {
	r, ok := src.(*segmentReader)
	if !ok || r.s.matches == nil {
		return matchKey{}, false
	}
	f := t.m.Filter()
	return matchKey{
		s: r.s, tenant: r.id, name: t.name, pattern: f.Value, complement: t.complement,
		regexp: f.Op == model.Regexp || f.Op == model.NotRegexp,
	}, true
}
