package downsample

import (
	"math"

	"vmcluster/lib/tsblock"
)

// maxResets is how many resets of a counter one interval may have. A series which falls more often is no counter.
const maxResets = 4

// Aggregates are columns with an entry per interval that has a number.
type Aggregates struct {
	Timestamps           []int64 // of the last number of the interval, in Unix milliseconds, rising
	Min, Max, Sum, Count []float64
}

// Reset empties the columns and keeps their memory.
func (a *Aggregates) Reset() {
	a.Timestamps, a.Min, a.Max, a.Sum, a.Count = a.Timestamps[:0], a.Min[:0], a.Max[:0], a.Sum[:0], a.Count[:0]
}

// Len returns the number of entries.
func (a *Aggregates) Len() int { return len(a.Timestamps) }

// Append adds an entry.
func (a *Aggregates) Append(t int64, low, high, sum, count float64) {
	a.Timestamps = append(a.Timestamps, t)
	a.Min, a.Max, a.Sum, a.Count = append(a.Min, low), append(a.Max, high), append(a.Sum, sum), append(a.Count, count)
}

// Level says how samples of an age are thinned out.
type Level struct {
	Before   int64 // Unix milliseconds: samples at and before it; the end of an interval
	Interval int64 // milliseconds
}

// Levels are levels by falling Before and rising Interval, each interval a multiple of the one before.
type Levels []Level

// At returns the interval for samples at t; 0 when they are not thinned out.
func (l Levels) At(t int64) int64 {
	interval := int64(0)
	for i := range l {
		if t > l[i].Before {
			break
		}
		interval = l[i].Interval
	}
	return interval
}

// same reports whether the aggregates at a and b belong to one interval.
func (l Levels) same(a, b int64) bool {
	interval := l.At(b)
	if interval == 0 || l.At(a) != interval {
		return a == b
	}
	return IntervalEnd(a, interval) == IntervalEnd(b, interval)
}

// IntervalEnd returns the last millisecond of the interval which holds t.
func IntervalEnd(t, interval int64) int64 {
	k := t / interval
	if t%interval > 0 {
		k++
	}
	return k * interval
}

// Reducer holds the scratch memory of reductions. The zero value is ready for use.
type Reducer struct {
	times  []int64
	values []float64
	kept   []bool
}

// Main appends to dst what the main stream keeps of the samples, which are sorted by time, one for each. It needs the whole series
// around an interval to see resets, so callers hand in all samples of a series at once. Samples that no level
// reaches all stay.
func (r *Reducer) Main(dst, samples *tsblock.Samples, levels Levels) {
	n := samples.Len()
	r.times, r.values = samples.Timestamps, samples.Values
	r.kept = append(r.kept[:0], make([]bool, n)...)
	last := -1 // the number before, in any interval
	for start := 0; start < n; {
		interval := levels.At(r.times[start])
		if interval == 0 {
			if r.kept[start] = true; !math.IsNaN(r.values[start]) {
				last = start
			}
			start++
			continue
		}
		end := IntervalEnd(r.times[start], interval)
		next := start
		for next < n && r.times[next] <= end {
			next++
		}
		last = r.keep(start, next, last)
		start = next
	}
	for i, keep := range r.kept {
		if keep {
			dst.Append(r.times[i], r.values[i])
		}
	}
	r.times, r.values = nil, nil
}

// keep marks what stays of the samples [start, end) of an interval. Last is the number before them or -1; the new
// last number is returned.
func (r *Reducer) keep(start, end, last int) int {
	first, resets, before := -1, 0, last
	for i := start; i < end; i++ {
		v := r.values[i]
		if math.IsNaN(v) {
			continue
		}
		if last >= 0 && isReset(r.values[last], v) {
			resets++
		}
		if first < 0 {
			first = i
		}
		last = i
	}
	// A marker which comes last says that the series has ended.
	if end > start && math.IsNaN(r.values[end-1]) {
		r.kept[end-1] = true
	}
	if first < 0 {
		return last
	}
	r.kept[first], r.kept[last] = true, true
	if resets > 0 && resets <= maxResets {
		r.keepResets(start, end, before)
	}
	return last
}

// keepResets marks the samples on both sides of each reset in [start, end).
func (r *Reducer) keepResets(start, end, previous int) {
	for i := start; i < end; i++ {
		v := r.values[i]
		if math.IsNaN(v) {
			continue
		}
		if previous >= 0 && isReset(r.values[previous], v) {
			r.kept[previous], r.kept[i] = true, true
		}
		previous = i
	}
}

// isReset reports whether a counter that went from a to b has been reset. Smaller falls than an eighth are
// jitter of counters which are not exact, to the query language too.
func isReset(a, b float64) bool { return b < a && (a-b)*8 >= a }

// Columns appends to dst the aggregates of raw samples together with those of intervals that were reduced before. Both are
// sorted by time. Intervals that no level reaches stay as they are; raw samples must all be reached.
func Columns(dst *Aggregates, raw *tsblock.Samples, reduced *Aggregates, levels Levels) {
	i, j := 0, 0
	var c cell
	for {
		for i < raw.Len() && math.IsNaN(raw.Values[i]) {
			i++
		}
		var x cell
		switch {
		case i < raw.Len() && (j >= reduced.Len() || raw.Timestamps[i] <= reduced.Timestamps[j]):
			v := raw.Values[i]
			x = cell{at: raw.Timestamps[i], low: v, high: v, sum: v, count: 1}
			i++
		case j < reduced.Len():
			x = cell{at: reduced.Timestamps[j], low: reduced.Min[j], high: reduced.Max[j], sum: reduced.Sum[j], count: reduced.Count[j]}
			j++
		default:
			c.appendTo(dst)
			return
		}
		if c.count > 0 && levels.same(c.at, x.at) {
			c.add(x)
			continue
		}
		c.appendTo(dst)
		c = x
	}
}

// cell is the aggregates of an interval or of a part of it.
type cell struct {
	at                    int64
	low, high, sum, count float64
}

func (c *cell) add(x cell) {
	c.at = max(c.at, x.at)
	c.low, c.high = math.Min(c.low, x.low), math.Max(c.high, x.high)
	c.sum, c.count = c.sum+x.sum, c.count+x.count
}

func (c *cell) appendTo(dst *Aggregates) {
	if c.count > 0 {
		dst.Append(c.at, c.low, c.high, c.sum, c.count)
	}
}
