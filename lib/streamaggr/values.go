package streamaggr

import (
	"math"
	"slices"

	"vmcluster/lib/metrics"
)

// values are what is kept of the samples of a group in one window.
type values struct {
	count         uint64
	sum           float64
	lowest        float64
	highest       float64
	last          float64
	lastTimestamp int64
	mean, squares float64 // of Welford's method
	more          *moreValues
}

// moreValues are what only some outputs need.
type moreValues struct {
	unique  map[uint64]struct{} // bits of values
	buckets map[int]uint64      // of the histogram
	sketch  sketch
	used    int64 // bytes
	bytes   int64 // reserved, used or kept for the next window
}

// take asks for memory for something that grows.
func (m *moreValues) take(from *room, bytes int64) bool {
	if more := m.used + bytes - m.bytes; more > 0 {
		if !from.take(more) {
			return false
		}
		m.bytes += more
	}
	m.used += bytes
	return true
}

// empty reports whether there are no samples.
func (v *values) empty() bool { return v.count == 0 }

// add takes a sample. When there is no room for it, it is left out, and add returns false.
func (v *values) add(needs need, timestamp int64, value float64, from *room) bool {
	if needs&(needUnique|needQuantiles|needHistogram) != 0 && !v.addMore(needs, value, from) {
		return false
	}
	if v.count == 0 {
		v.lowest, v.highest, v.lastTimestamp = value, value, math.MinInt64
	}
	v.count++
	v.sum += value
	if value < v.lowest {
		v.lowest = value
	}
	if value > v.highest {
		v.highest = value
	}
	if timestamp >= v.lastTimestamp {
		v.last, v.lastTimestamp = value, timestamp
	}
	if needs&needMoments != 0 {
		delta := value - v.mean
		v.mean += delta / float64(v.count)
		v.squares += delta * (value - v.mean)
	}
	return true
}

// What an entry of a map and one of a list which doubles take, about.
const (
	mapEntryBytes = 40
	valueBytes    = 16
)

func (v *values) addMore(needs need, value float64, from *room) bool {
	if v.more == nil {
		v.more = &moreValues{}
	}
	m := v.more
	return (needs&needUnique == 0 || m.addUnique(value, from)) &&
		(needs&needQuantiles == 0 || m.addToSketch(value, from)) &&
		(needs&needHistogram == 0 || m.addToBuckets(value, from))
}

func (m *moreValues) addUnique(value float64, from *room) bool {
	bits := math.Float64bits(value + 0) // both zeros are one value
	if _, ok := m.unique[bits]; ok {
		return true
	}
	if !m.take(from, mapEntryBytes) {
		return false
	}
	if m.unique == nil {
		m.unique = map[uint64]struct{}{}
	}
	m.unique[bits] = struct{}{}
	return true
}

// addToBuckets counts a value in its bucket. Negative ones have none.
func (m *moreValues) addToBuckets(value float64, from *room) bool {
	if value < 0 {
		return true
	}
	bucket := metrics.BucketOf(value)
	if m.buckets[bucket] == 0 && !m.take(from, mapEntryBytes) {
		return false
	}
	if m.buckets == nil {
		m.buckets = map[int]uint64{}
	}
	m.buckets[bucket]++
	return true
}

// keptBytes is how much an empty window keeps for the next.
const keptBytes = 4 << 10

// reset empties the window, and gives back what is too large to be kept.
func (v *values) reset(to *room) {
	more := v.more
	*v = values{}
	if more == nil {
		return
	}
	if more.bytes > keptBytes {
		to.give(more.bytes)
		return
	}
	clear(more.unique)
	clear(more.buckets)
	more.sketch.reset()
	more.used = 0
	v.more = more
}

// sketch are values of which quantiles are wanted: all of them while they are few, and how many lie in narrow ranges when they are many. A
// range has a width of a 128th of its values.
type sketch struct {
	few     []float64
	ranges  map[uint32]uint64
	total   uint64
	lowest  float64
	highest float64
}

const (
	mostFew = 512
	// The bits of a float64 which are left out of a range: all of the mantissa but seven.
	rangeShift = 45
)

func (m *moreValues) addToSketch(value float64, from *room) bool {
	s := &m.sketch
	if len(s.ranges) == 0 {
		if len(s.few) < mostFew {
			if !m.take(from, valueBytes) {
				return false
			}
			s.few = append(s.few, value)
			return true
		}
		if !m.take(from, mostFew*mapEntryBytes) {
			return false
		}
		s.spread()
	}
	r := rangeOf(value)
	if s.ranges[r] == 0 && !m.take(from, mapEntryBytes) {
		return false
	}
	s.ranges[r]++
	s.total++
	s.lowest, s.highest = min(s.lowest, value), max(s.highest, value)
	return true
}

// spread counts the values in ranges.
func (s *sketch) spread() {
	if s.ranges == nil {
		s.ranges = map[uint32]uint64{}
	}
	s.lowest, s.highest, s.total = slices.Min(s.few), slices.Max(s.few), uint64(len(s.few))
	for _, v := range s.few {
		s.ranges[rangeOf(v)]++
	}
	s.few = s.few[:0]
}

func (s *sketch) reset() {
	clear(s.ranges)
	s.few, s.total = s.few[:0], 0
}

// rangeOf returns the range of a value. Ranges are in the order of their values.
func rangeOf(v float64) uint32 {
	bits := math.Float64bits(v)
	if bits>>63 != 0 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	return uint32(bits >> rangeShift)
}

// middle returns the middle of a range, and zero for what is next to it.
func middle(r uint32) float64 {
	bits := uint64(r)<<rangeShift | 1<<(rangeShift-1)
	if bits>>63 != 0 {
		bits &^= 1 << 63
	} else {
		bits = ^bits
	}
	const leastNormal = 0x1p-1022
	if v := math.Float64frombits(bits); math.Abs(v) >= leastNormal {
		return v
	}
	return 0
}

// quantiles returns the values at phis, appended to dst: between two values as the distances to them say, as quantile_over_time has it, while all
// values are there, else off by a 256th of the value at most.
func (s *sketch) quantiles(dst, phis []float64) []float64 {
	if len(s.ranges) == 0 {
		slices.Sort(s.few)
		for _, phi := range phis {
			at := phi * float64(len(s.few)-1)
			below := int(at)
			v := s.few[below]
			if part := at - float64(below); part > 0 {
				v = v*(1-part) + s.few[below+1]*part
			}
			dst = append(dst, v)
		}
		return dst
	}
	ranges := make([]uint32, 0, len(s.ranges))
	for r := range s.ranges {
		ranges = append(ranges, r)
	}
	slices.Sort(ranges)
	for _, phi := range phis {
		dst = append(dst, s.at(ranges, uint64(phi*float64(s.total-1)+0.5)))
	}
	return dst
}

// at returns the value with the given number of values before it.
func (s *sketch) at(ranges []uint32, rank uint64) float64 {
	if rank == 0 {
		return s.lowest
	}
	if rank+1 >= s.total {
		return s.highest
	}
	seen := uint64(0)
	for _, r := range ranges {
		if seen += s.ranges[r]; seen > rank {
			return min(max(middle(r), s.lowest), s.highest)
		}
	}
	return s.highest
}
