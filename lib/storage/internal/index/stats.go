package index

import (
	"fmt"

	"vmcluster/lib/metrics"
)

// Stats are the sizes of what an index is made of.
type Stats struct {
	Segments, Heads           int64 // files of series, and what is in memory and has series
	HeadSeries, HeadSizeBytes int64
	Filters, Keys, Rows       CacheStats
}

// CacheStats are the sizes of a cache.
type CacheStats struct{ Entries, SizeBytes, MaxBytes int64 }

// Add adds other to s.
func (s *CacheStats) Add(other CacheStats) {
	s.Entries += other.Entries
	s.SizeBytes += other.SizeBytes
	s.MaxBytes += other.MaxBytes
}

// Add adds other to s.
func (s *Stats) Add(other Stats) {
	s.Segments += other.Segments
	s.Heads += other.Heads
	s.HeadSeries += other.HeadSeries
	s.HeadSizeBytes += other.HeadSizeBytes
	s.Filters.Add(other.Filters)
	s.Keys.Add(other.Keys)
	s.Rows.Add(other.Rows)
}

// Names of the caches in metrics: those under which people know caches of the same use.
const (
	FilterCacheName = "indexdb/tagFiltersToMetricIDs"
	KeyCacheName    = "storage/metricName"
	RowCacheName    = "indexdb/dataBlocks"
)

// Stats returns the current sizes.
func (ix *Index) Stats() Stats {
	s := Stats{Filters: ix.matches.stats(), Keys: ix.keys.stats(), Rows: ix.rows.stats()}
	st := ix.acquire()
	defer ix.release(st)
	s.Segments = int64(len(st.segments))
	st.heads(func(h *head) bool {
		if n := int64(h.seriesCount()); n > 0 {
			s.Heads++
			s.HeadSeries += n
			s.HeadSizeBytes += h.sizeBytes()
		}
		return true
	})
	return s
}

func (c *matchCache) stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{int64(len(c.mu.entries)), c.mu.bytes, c.max}
}

func (c *keyCache) stats() CacheStats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return CacheStats{int64(len(c.recent.spans) + len(c.older.spans)), int64(c.recent.bytes() + c.older.bytes()), int64(c.max)}
}

func (c *rowCache) stats() CacheStats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return CacheStats{int64(len(c.recent.blocks) + len(c.older.blocks)), int64(c.recent.bytes + c.older.bytes), 2 * int64(c.max)}
}

// cacheUse counts what is asked of the caches of one kind, in all indexes. A nil one counts nothing.
type cacheUse struct{ requests, misses *metrics.Counter }

func newCacheUse(set *metrics.Set, name string) *cacheUse {
	return &cacheUse{
		requests: set.Counter(fmt.Sprintf("vm_cache_requests_total{type=%q}", name)),
		misses:   set.Counter(fmt.Sprintf("vm_cache_misses_total{type=%q}", name)),
	}
}

func (u *cacheUse) add(requests, misses int) {
	if u != nil {
		u.requests.Add(requests)
		u.misses.Add(misses)
	}
}

func (u *cacheUse) hit()  { u.add(1, 0) }
func (u *cacheUse) miss() { u.add(1, 1) }

// RegisterMetrics makes the counters of all indexes present before there is one.
func RegisterMetrics(set *metrics.Set) {
	for _, name := range []string{"vm_index_flushes_total", "vm_index_merges_total", "vm_corrupt_index_total", activeDaysName} {
		set.Counter(name)
	}
	for _, name := range []string{FilterCacheName, KeyCacheName, RowCacheName} {
		newCacheUse(set, name)
	}
}

// activeDaysName counts days of series: a sample was the first of its series on a day.
const activeDaysName = "vm_slow_per_day_index_inserts_total"
