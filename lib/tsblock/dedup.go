package tsblock

import "math"

// staleBits are the bits of the marker that ends a series.
const staleBits = 0x7ff0000000000002

// Better reports whether value a stays and b goes when both have the same
// timestamp. The rule is total, so it gives the same answer on every node and
// in every order: a number beats any NaN, an ordinary NaN beats a stale marker, the larger number
// beats the smaller, and at equal numbers the larger bits win.
func Better(a, b float64) bool {
	if a > b {
		return true
	}
	if a < b {
		return false
	}
	if rankA, rankB := rank(a), rank(b); rankA != rankB {
		return rankA > rankB
	}
	return math.Float64bits(a) > math.Float64bits(b)
}

func rank(v float64) int {
	switch {
	case v == v:
		return 2
	case math.Float64bits(v) != staleBits:
		return 1
	}
	return 0
}

// dedup leaves one sample per timestamp in s[start:], which is sorted by timestamp.
func (s *Samples) dedup(start int) {
	timestamps, values := s.Timestamps, s.Values
	if increases(timestamps[start:]) {
		return
	}
	last := start
	for i := start + 1; i < len(timestamps); i++ {
		if timestamps[i] == timestamps[last] {
			if Better(values[i], values[last]) {
				values[last] = values[i]
			}
			continue
		}
		last++
		timestamps[last], values[last] = timestamps[i], values[i]
	}
	s.truncate(last + 1)
}

// Dedup leaves one sample per timestamp in s[start:], which must be sorted by timestamp; with
// intervalMs > 0 only the newest sample of every bucket ((k-1)*intervalMs, k*intervalMs].
func (s *Samples) Dedup(start int, intervalMs int64) {
	s.dedup(start)
	if intervalMs <= 1 || s.Len()-start < 2 {
		return
	}
	timestamps, values := s.Timestamps, s.Values
	last := start
	end := bucketEnd(timestamps[start], intervalMs)
	for i := start + 1; i < len(timestamps); i++ {
		if t := timestamps[i]; t > end {
			last++
			end = bucketEnd(t, intervalMs)
		}
		timestamps[last], values[last] = timestamps[i], values[i]
	}
	s.truncate(last + 1)
}

// bucketEnd returns the last timestamp of the bucket of t.
func bucketEnd(t, intervalMs int64) int64 {
	offset := t % intervalMs
	if offset > 0 {
		offset -= intervalMs
	}
	end := t - offset
	if end < t {
		return math.MaxInt64 // beyond the last representable time
	}
	return end
}

func (s *Samples) truncate(n int) {
	s.Timestamps, s.Values = s.Timestamps[:n], s.Values[:n]
}
