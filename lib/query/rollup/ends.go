package rollup

import "math"

// Most windows of most queries are looked at for their first and last samples only. Which samples these are follows from
// the timestamps, so they are found once for all series which share them, and a point costs a few instructions.

// ends are the samples that a window comes down to. Without a sample, last is negative and tells what the function gives.
type ends struct {
	first, last int32
	seconds     float64 // between them
}

// What last says of windows without samples to work on.
const (
	endsNone = -1 // no point
	endsZero = -2
)

// endsFunc evaluates a function at all points from the ends of the windows.
type endsFunc func(dst, values []float64, list []ends)

// endsFuncOf returns how to evaluate a function by the ends of windows, or nil.
func endsFuncOf(name string) endsFunc {
	switch name {
	case "rate", "deriv_fast":
		return rateOfEnds
	case defaultRollup, "last_over_time":
		return lastOfEnds
	}
	return nil
}

func rateOfEnds(dst, values []float64, list []ends) {
	for k := range list {
		at := &list[k]
		switch {
		case at.last >= 0:
			dst[k] = (values[at.last] - values[at.first]) / at.seconds
		case at.last == endsZero:
			dst[k] = 0
		default:
			dst[k] = math.NaN()
		}
	}
}

func lastOfEnds(dst, values []float64, list []ends) {
	for k := range list {
		if i := list[k].last; i >= 0 {
			dst[k] = values[i]
		} else {
			dst[k] = math.NaN()
		}
	}
}

// endsOf returns the ends of the windows for one of the functions. They are those of the column until
// other timestamps are loaded or another width is asked for.
func (c *column) endsOf(p *Params, width int64, changes bool) []ends {
	spans := c.windows(p, width, false)
	if c.endsValid && c.endsChanges == changes {
		return c.ends
	}
	c.endsValid, c.endsChanges = true, changes
	c.ends = c.ends[:0]
	left := p.Start - width
	for _, at := range spans {
		if changes {
			c.ends = append(c.ends, c.change(at, left))
		} else {
			c.ends = append(c.ends, newest(at))
		}
		left += p.Step
	}
	return c.ends
}

// newest returns the last sample of a window.
func newest(at span) ends {
	if at.from == at.to {
		return ends{last: endsNone}
	}
	return ends{last: at.to - 1}
}

// change returns the samples between which a value changes in a window with the given left edge, counted
// from the sample before if that is close enough.
func (c *column) change(at span, left int64) ends {
	i, j := at.from, at.to
	hasPrev := i > 0 && int(i) < len(c.times) && c.times[i-1] > left-c.gap
	switch {
	case hasPrev && i == j:
		return ends{last: endsZero}
	case hasPrev:
		i--
	case j-i < 2:
		return ends{last: endsNone}
	}
	return ends{first: i, last: j - 1, seconds: seconds(c.times[j-1] - c.times[i])}
}
