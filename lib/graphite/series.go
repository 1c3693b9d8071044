package graphite

import (
	"maps"
	"math"
)

// Series holds values at a fixed step.
type Series struct {
	Name string
	Tags map[string]string
	// Path is the text of the expression the series comes from, which names of aggregates are made of.
	Path   string
	Start  int64 // Unix ms of the first value
	Step   int64 // ms
	Values []float64

	// Consolidation is the aggregate which puts several values into one; empty for the average.
	Consolidation string
	// XFilesFactor is the share of values which must be known for a consolidated one to be.
	XFilesFactor float64
}

// At returns the time of a value.
func (s *Series) At(i int) int64 { return s.Start + int64(i)*s.Step }

// End returns the time after the last value.
func (s *Series) End() int64 { return s.At(len(s.Values)) }

// copyOf returns a series that shares values and tags.
func (s *Series) copyOf() *Series {
	c := *s
	return &c
}

// named returns a copy with another name.
func (s *Series) named(name string) *Series {
	c := s.copyOf()
	c.Name = name
	return c
}

// with returns a copy with other values.
func (s *Series) with(name string, values []float64) *Series {
	c := s.named(name)
	c.Values = values
	return c
}

// tagged sets tags, given as names and values in turn, on a series which nobody else has yet, and returns it.
func (s *Series) tagged(pairs ...string) *Series {
	tags := make(map[string]string, len(s.Tags)+len(pairs)/2)
	maps.Copy(tags, s.Tags)
	for i := 0; i+1 < len(pairs); i += 2 {
		tags[pairs[i]] = pairs[i+1]
	}
	s.Tags = tags
	return s
}

// floorTo rounds a time down to a multiple of step.
func floorTo(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return t - r
}

// isNull reports whether a value is missing.
func isNull(v float64) bool { return v != v }

// finite turns what is no number into a missing value.
func finite(v float64) float64 {
	if math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}

// Consolidate returns the series with at most the given number of values; 0 leaves it as it is.
func Consolidate(s *Series, maxPoints int) *Series {
	if maxPoints <= 0 || len(s.Values) <= maxPoints {
		return s
	}
	return s.grouped((len(s.Values) + maxPoints - 1) / maxPoints)
}

// grouped puts each n values into one.
func (s *Series) grouped(n int) *Series {
	agg := consolidator(s.Consolidation)
	c := s.with(s.Name, make([]float64, 0, (len(s.Values)+n-1)/n))
	c.Step = s.Step * int64(n)
	for rest := s.Values; len(rest) > 0; {
		k := min(n, len(rest))
		c.Values = append(c.Values, agg.over(rest[:k], s.XFilesFactor))
		rest = rest[k:]
	}
	return c
}

// normalize brings series to one step, the least common multiple of theirs, and to one range.
func normalize(list []*Series) []*Series {
	if len(list) == 0 {
		return list
	}
	step, start, end, same := list[0].Step, list[0].Start, list[0].End(), true
	for _, s := range list[1:] {
		same = same && s.Step == list[0].Step && s.Start == list[0].Start && len(s.Values) == len(list[0].Values)
		step = commonStep(step, s.Step)
		start, end = min(start, s.Start), max(end, s.End())
	}
	if same {
		return list
	}
	start = floorTo(start, step)
	n := int((end - start + step - 1) / step)
	out := make([]*Series, len(list))
	for i, s := range list {
		out[i] = s.onGrid(start, step, n)
	}
	return out
}

// maxCommonStep keeps a common multiple of odd steps from overflowing: 1000 years.
const maxCommonStep = 1000 * 365 * 24 * 3600 * 1000

func commonStep(a, b int64) int64 {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	if a/x > maxCommonStep/b {
		return maxCommonStep
	}
	return a / x * b
}

// onGrid returns the series at the given times; step is a multiple of its own, or much longer than any range.
func (s *Series) onGrid(start, step int64, n int) *Series {
	agg := consolidator(s.Consolidation)
	c := s.with(s.Name, make([]float64, n))
	c.Start, c.Step = start, step
	for k := range c.Values {
		from := start + int64(k)*step
		first := int(max(0, ceilDiv(from-s.Start, s.Step)))
		last := int(min(int64(len(s.Values)), ceilDiv(from+step-s.Start, s.Step)))
		if first >= last {
			c.Values[k] = math.NaN()
			continue
		}
		c.Values[k] = agg.over(s.Values[first:last], s.XFilesFactor)
	}
	return c
}

func ceilDiv(a, b int64) int64 {
	q := a / b
	if a%b > 0 {
		q++
	}
	return q
}
