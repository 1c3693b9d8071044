package tsblock

import (
	"math"
	"sort"

	"vmcluster/lib/bytesutil"
)

// Merge appends the samples of all sources, each sorted by timestamp, to dst:
// one sample per timestamp or, with minIntervalMs > 0, the newest per bucket
// ((k-1)*minIntervalMs, k*minIntervalMs]. Which of several samples at one timestamp stays
// is the rule of Better. Samples which dst has already take no part. The sources are unchanged
// and must not share memory with dst.
func Merge(dst *Samples, sources []Samples, minIntervalMs int64) {
	var m merger
	start := dst.Len()
	m.merge(dst, sources)
	dst.Dedup(start, minIntervalMs)
}

// merger merges sorted sources. It is a heap of cursors, ordered by their next timestamp.
type merger struct {
	heap []Samples
}

// merge appends the sources in the order of time. Equal timestamps may follow each other.
func (m *merger) merge(dst *Samples, sources []Samples) {
	h := m.heap[:0]
	for _, s := range sources {
		if s.Len() > 0 {
			h = append(h, s)
		}
	}
	if len(h) == 0 {
		return
	}
	if mergeReplicas(dst, h) {
		clear(h)
		return
	}
	sort.Sort((*byFirst)(&h)) // a sorted slice is a heap
	m.heap = h
	for len(h) > 1 {
		top := &h[0]
		next := h[1].Timestamps[0]
		if len(h) > 2 {
			next = min(next, h[2].Timestamps[0])
		}
		n := runLen(top.Timestamps, next)
		dst.Timestamps = append(dst.Timestamps, top.Timestamps[:n]...)
		dst.Values = append(dst.Values, top.Values[:n]...)
		top.Timestamps, top.Values = top.Timestamps[n:], top.Values[n:]
		if top.Len() == 0 {
			h[0] = h[len(h)-1]
			h = h[:len(h)-1]
		}
		siftDown(h)
	}
	dst.Timestamps = append(dst.Timestamps, h[0].Timestamps...)
	dst.Values = append(dst.Values, h[0].Values...)
	clear(m.heap)
}

// mergeReplicas merges sources with the same timestamps, as replicated series have them, without a heap.
func mergeReplicas(dst *Samples, sources []Samples) bool {
	first := &sources[0]
	for i := range sources[1:] {
		if !bytesutil.EqualInts(sources[i+1].Timestamps, first.Timestamps) {
			return false
		}
	}
	start := dst.Len()
	dst.Timestamps = append(dst.Timestamps, first.Timestamps...)
	dst.Values = append(dst.Values, first.Values...)
	best := dst.Values[start:]
	for _, s := range sources[1:] {
		for i, v := range s.Values {
			if math.Float64bits(v) != math.Float64bits(best[i]) && Better(v, best[i]) {
				best[i] = v
			}
		}
	}
	return true
}

// runLen returns how many of the sorted timestamps are at most limit; the first one is. Short
// runs are the rule when replicas are merged, long ones when blocks follow each other.
func runLen(timestamps []int64, limit int64) int {
	n := 1
	for n < len(timestamps) && n < 8 && timestamps[n] <= limit {
		n++
	}
	if n < 8 || n == len(timestamps) {
		return n
	}
	return n + sort.Search(len(timestamps)-n, func(i int) bool { return timestamps[n+i] > limit })
}

func siftDown(h []Samples) {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].Timestamps[0] < h[child].Timestamps[0] {
			child++
		}
		if h[i].Timestamps[0] <= h[child].Timestamps[0] {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// byFirst sorts by the first timestamp.
type byFirst []Samples

func (h *byFirst) Len() int           { return len(*h) }
func (h *byFirst) Less(i, j int) bool { return (*h)[i].Timestamps[0] < (*h)[j].Timestamps[0] }
func (h *byFirst) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }
