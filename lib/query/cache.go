package query

import (
	"container/list"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// Versioner tells whether stored samples have changed since they were read.
type Versioner interface {
	// Versions returns one version per store, in a fixed order, of the samples of a tenant in a range.
	Versions(ctx context.Context, tenant model.TenantID, r model.TimeRange) ([]Version, error)
}

// Version is the state of one store.
type Version struct {
	Instance uint64 // of the store; another one after each start
	Sequence uint64 // of changes
	Changed  uint64 // sequence as of the last change in the range asked for; beyond Sequence when it changes all the time
	Until    int64  // changes of samples from this time on, in Unix milliseconds, are not counted
	// DedupIntervalMs is the width of the buckets of which the store keeps one sample only.
	DedupIntervalMs int64
}

// CacheOptions are what a Cache works with.
type CacheOptions struct {
	Versions Versioner
	Budget   *memory.Budget
	Metrics  *metrics.Set
	MaxBytes int64 // 0: an eighth of the budget
}

// Cache keeps results of rollups over selectors, for queries which ask for most of them again. It is safe for
// concurrent use. What it keeps is never changed.
type Cache struct {
	versions Versioner
	budget   *memory.Budget
	max      int64
	seed     uint64 // of the hashes of series keys

	requests, misses, fullHits, partialHits, resets *metrics.Counter

	mu struct {
		sync.Mutex
		byKey map[string]*list.Element // of *cacheEntry
		used  list.List                // last used ones first
		bytes int64
		epoch uint64    // number of resets
		pause time.Time // until then stores are not asked for versions
	}
}

// cacheEntry is what is known of a rollup.
type cacheEntry struct {
	key   string
	kept  *kept // nil: it has been asked for
	bytes int64
	// failures is how often in a row what is kept was of no use; skip, how often nothing is to be kept for that.
	failures, skip int
}

// NewCache returns an empty cache.
func NewCache(o CacheOptions) *Cache {
	c := &Cache{versions: o.Versions, budget: o.Budget, max: o.MaxBytes, seed: rand.Uint64()}
	if c.max <= 0 {
		c.max = o.Budget.Limit() / 8
	}
	c.mu.byKey = map[string]*list.Element{}
	set := o.Metrics
	c.requests = set.Counter("vm_rollup_result_cache_requests_total")
	c.misses = set.Counter("vm_rollup_result_cache_miss_total")
	c.fullHits = set.Counter("vm_rollup_result_cache_full_hits_total")
	c.partialHits = set.Counter("vm_rollup_result_cache_partial_hits_total")
	c.resets = set.Counter("vm_rollup_result_cache_resets_total")
	size := func(f func() int64) func() float64 {
		return func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(f())
		}
	}
	set.CounterFunc(`vm_cache_requests_total{type="promql/rollupResult"}`, func() float64 { return float64(c.requests.Get()) })
	set.CounterFunc(`vm_cache_misses_total{type="promql/rollupResult"}`, func() float64 { return float64(c.misses.Get()) })
	set.Gauge(`vm_cache_entries{type="promql/rollupResult"}`, size(func() int64 { return int64(len(c.mu.byKey)) }))
	set.Gauge(`vm_cache_size_bytes{type="promql/rollupResult"}`, size(func() int64 { return c.mu.bytes }))
	set.Gauge(`vm_cache_size_max_bytes{type="promql/rollupResult"}`, size(func() int64 { return c.max }))
	return c
}

// Reset forgets everything, also what queries under way are about to add.
func (c *Cache) Reset() {
	c.resets.Inc()
	c.clear()
}

func (c *Cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.epoch++
	for c.mu.used.Len() > 0 {
		c.removeLocked(c.mu.used.Back())
	}
}

func (c *Cache) removeLocked(e *list.Element) {
	entry := c.mu.used.Remove(e).(*cacheEntry)
	delete(c.mu.byKey, entry.key)
	c.mu.bytes -= entry.bytes
	c.budget.Release(entry.bytes)
}

// lookup is what the cache has for a key.
type lookup struct {
	kept   *kept // nil: nothing
	before bool  // the key has been asked for before
	skip   bool  // keeping results of it does not pay for now
	epoch  uint64
}

const (
	// versionsWait is how long stores may take to tell versions: a store which stands still must not hold up queries that can do without it.
	versionsWait = 500 * time.Millisecond
	// versionsPause is how long nobody is asked when a store took longer.
	versionsPause = 10 * time.Second
)

// ask asks the stores for versions.
func (c *Cache) ask(ctx context.Context, now time.Time, tenant model.TenantID, r model.TimeRange) ([]Version, error) {
	c.mu.Lock()
	paused := now.Before(c.mu.pause)
	c.mu.Unlock()
	if paused {
		return nil, errkind.New(errkind.Timeout, "one of them did not answer within %s", versionsWait)
	}
	ctx, cancel := context.WithTimeout(ctx, versionsWait)
	defer cancel()
	list, err := c.versions.Versions(ctx, tenant, r)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.mu.Lock()
		c.mu.pause = now.Add(versionsPause)
		c.mu.Unlock()
	}
	return list, err
}

// get returns what is kept under a key.
func (c *Cache) get(key string) lookup {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.mu.byKey[key]
	if e == nil {
		return lookup{epoch: c.mu.epoch}
	}
	c.mu.used.MoveToFront(e)
	entry := e.Value.(*cacheEntry)
	l := lookup{kept: entry.kept, before: true, skip: entry.skip > 0, epoch: c.mu.epoch}
	if l.skip {
		entry.skip--
	}
	return l
}

const (
	// Results which were kept in vain so often in a row are kept less and less often: keeping costs more than
	// not to keep, above all where storage nodes could have aggregated them.
	freeFailures = 2
	mostSkips    = 64
)

// judge takes note of whether what is kept under a key was of use.
func (c *Cache) judge(key string, useful bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.mu.byKey[key]
	if e == nil {
		return
	}
	entry := e.Value.(*cacheEntry)
	if useful {
		entry.failures = 0
		return
	}
	if entry.failures++; entry.failures > freeFailures {
		entry.skip = min(1<<(entry.failures-freeFailures), mostSkips)
	}
}

// put keeps something, or, with nil, that the key has been asked for. What has not been used for longest makes room. Without enough
// room it is left out.
func (c *Cache) put(key string, k *kept, epoch uint64) bool {
	entry := &cacheEntry{key: key, kept: k, bytes: int64(len(key)) + entryBytes}
	if k != nil {
		entry.bytes += k.bytes
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.epoch != epoch || entry.bytes > c.largest() {
		return false
	}
	if old := c.mu.byKey[key]; old != nil {
		was := old.Value.(*cacheEntry)
		entry.failures, entry.skip = was.failures, was.skip
		c.removeLocked(old)
	}
	for c.mu.bytes+entry.bytes > c.max && c.mu.used.Len() > 0 {
		c.removeLocked(c.mu.used.Back())
	}
	for c.budget.Reserve(entry.bytes, "cached results") != nil {
		if c.mu.used.Len() == 0 {
			return false
		}
		c.removeLocked(c.mu.used.Back())
	}
	c.mu.bytes += entry.bytes
	c.mu.byKey[key] = c.mu.used.PushFront(entry)
	return true
}

// largest returns how many bytes one entry may take.
func (c *Cache) largest() int64 { return c.max / 4 }

// entryBytes is what an entry takes besides its key and what it keeps.
const entryBytes = 256
