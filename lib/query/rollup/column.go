package rollup

import (
	"slices"

	"vmcluster/lib/bytesutil"
)

// column is what the timestamps of a series say without its values. Series of one
// target are scraped together and share their timestamps, so what was worked out for one
// series often holds for the next.
type column struct {
	times  []int64
	recent []int64 // last ones of a series of which times are not all; else empty
	gap    int64
	gaps   []float64 // scratch

	longest int64 // distance of neighbours; 0 until it is asked for

	noted      bool // facts are those of times
	facts      Facts
	carryIndex int

	valid bool // spans are those of times and width
	width int64
	spans []span

	endsValid   bool // ends are those of spans
	endsChanges bool
	ends        []ends
}

// span is the samples in one window: from is the first one, to is behind the last.
type span struct{ from, to int32 }

// reuse takes the memory of a column which is given up.
func (c *column) reuse(old *column) {
	*c = column{times: old.times[:0], recent: old.recent[:0], gaps: old.gaps[:0], spans: old.spans[:0], ends: old.ends[:0]}
}

func (c *column) heapBytes() int {
	return 8*(cap(c.times)+cap(c.spans)) + 16*cap(c.ends)
}

// load makes the timestamps current and returns the longest tolerated gap between
// samples: how far back the sample before a window may lie. Recent are the last ones
// of a series of which times are not all; else it is empty.
func (c *column) load(p *Params, times, recent []int64) int64 {
	if bytesutil.EqualInts(c.times, times) && bytesutil.EqualInts(c.recent, recent) {
		return c.gap
	}
	c.times = append(c.times[:0], times...)
	c.recent = append(c.recent[:0], recent...)
	c.valid, c.noted, c.longest = false, false, 0
	if len(recent) == 0 {
		recent = times
	}
	c.gap = c.gapOf(p, recent)
	return c.gap
}

// longestGap returns the longest distance of neighbours.
func (c *column) longestGap() int64 {
	if c.longest == 0 {
		for i := 1; i < len(c.times); i++ {
			c.longest = max(c.longest, c.times[i]-c.times[i-1])
		}
	}
	return c.longest
}

// gapOf returns the longest tolerated gap of a series with the given last timestamps.
func (c *column) gapOf(p *Params, times []int64) int64 {
	gap := p.Step
	if p.Ranged || p.Start < p.End {
		gap = inflate(c.scrapeInterval(times, p.Step))
	}
	if p.Lookback > 0 {
		gap = min(gap, p.Lookback)
	}
	return max(gap, p.MinStaleness)
}

// windows returns the samples in the window of each evaluation time. With openRight, a
// sample at the right edge is left out.
func (c *column) windows(p *Params, width int64, openRight bool) []span {
	if c.valid && c.width == width {
		return c.spans
	}
	c.valid, c.width, c.endsValid = true, width, false
	c.spans = c.spans[:0]
	right := int64(0)
	if openRight {
		right = -1
	}
	times, n := c.times, len(c.times)
	i, _ := slices.BinarySearch(times, p.Start-width+1)
	j := i
	if p.Start == p.End {
		j, _ = slices.BinarySearch(times, p.Start+right+1)
	}
	for t := p.Start; t <= p.End; t += p.Step {
		for i < n && times[i] <= t-width {
			i++
		}
		j = max(i, j)
		for j < n && times[j] <= t+right {
			j++
		}
		c.spans = append(c.spans, span{from: int32(i), to: int32(j)})
	}
	return c.spans
}

// scrapeInterval guesses the interval of the samples from the last 20 gaps. A
// quantile above the median makes single missed scrapes count little while
// series with jitter are not cut off. Without a guess it is the fallback.
func (c *column) scrapeInterval(times []int64, fallback int64) int64 {
	if len(times) < 2 {
		return fallback
	}
	times = times[max(0, len(times)-recentTimes):]
	c.gaps = c.gaps[:0]
	for i := 1; i < len(times); i++ {
		c.gaps = append(c.gaps, float64(times[i]-times[i-1]))
	}
	slices.Sort(c.gaps)
	if interval := int64(quantileSorted(0.6, c.gaps)); interval > 0 {
		return interval
	}
	return fallback
}

// inflate adds room for jitter and missed scrapes, the more the shorter the interval.
func inflate(interval int64) int64 {
	switch {
	case interval <= 2000:
		return interval * 5
	case interval <= 4000:
		return interval * 3
	case interval <= 8000:
		return interval * 2
	case interval <= 16000:
		return interval + interval/2
	case interval <= 32000:
		return interval + interval/4
	}
	return interval + interval/8
}
