package query

import (
	"encoding/binary"
	"math"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
)

// kept are the results of a rollup over a selector, or of an aggregate of them, with what they depend on. It is immutable.
type kept struct {
	grid     vector.Grid
	read     model.TimeRange // of the samples they were made of
	until    int64           // last evaluation time whose result may be used for other ranges
	settled  int64           // time up to which samples were all there
	from     int64           // where the evaluation of later times begins to read
	versions []Version

	reach, needs int64 // see rollup.Facts; of all series

	series []keptSeries // by key
	byHash map[uint64]int
	groups []*vector.Series // of an aggregate: its results in order
	bytes  int64
}

// keptSeries is one of the series read.
type keptSeries struct {
	hash   uint64
	key    string         // empty when there are groups
	result *vector.Series // nil when there are groups
	facts  rollup.Facts
}

// index makes the series findable and adds up what they take.
func (k *kept) index() {
	k.byHash = make(map[uint64]int, len(k.series))
	k.bytes = int64(len(k.groups))*int64(k.grid.Points())*8 + int64(len(k.series))*(keptBytes+24)
	var times *int64
	for i := range k.series {
		s := &k.series[i]
		k.byHash[s.hash] = i
		if s.result != nil {
			k.bytes += int64(len(s.key)+len(s.result.Values)*8) + vector.SeriesSize(s.result.Labels)
		}
		if t := s.facts.Times; len(t) > 0 && &t[0] != times { // series of one target share them
			times = &t[0]
			k.bytes += int64(len(t)) * 8
		}
	}
	for _, g := range k.groups {
		k.bytes += vector.SeriesSize(g.Labels)
	}
}

const (
	// keptBytes is the size of a keptSeries.
	keptBytes = 240
	// factBytes is that of the timestamps among its facts, if no other series shares them.
	factBytes = 21 * 8
)

// add takes the leaf-wide facts of a series.
func (k *kept) add(f *rollup.Facts) {
	k.reach, k.needs = max(k.reach, f.Reach), min(k.needs, f.Needs)
}

// changed reports whether samples may have changed since the results were made. Now are the versions of a range which
// has all samples that the results depend on.
func (k *kept) changed(now []Version) bool {
	return !slices.EqualFunc(k.versions, now, func(then, now Version) bool {
		return then.Instance == now.Instance && now.Changed <= then.Sequence
	})
}

// whyUseless returns why nothing kept can be used for an evaluation which reads from a time on; empty if it can.
func (k *kept) whyUseless(p *rollup.Params, from int64) string {
	points := (p.End-p.Start)/p.Step + 1
	switch {
	case p.Start < k.grid.Start:
		return "what is kept begins later"
	case (k.until-p.Start)/p.Step+1 < (points+3)/4:
		return "most of what is kept is older"
	case from > k.needs:
		return "samples, gaps or resets which results rest on have left the range"
	case from != k.read.Min && k.reach > p.Start-from:
		return "samples are so far apart that results depend on the start"
	}
	return ""
}

// slice returns the values kept of a result in a range of evaluation times.
func (k *kept) slice(s *vector.Series, start, end int64) []float64 {
	first := (start - k.grid.Start) / k.grid.Step
	return s.Values[first : first+(end-start)/k.grid.Step+1]
}

// cacheKey returns what distinguishes rollups whose results are not the same at the same times.
func (ev *evaluation) cacheKey(c *rollupCall, s *selection, p *rollup.Params) string {
	b := ev.req.Tenant.AppendTo(nil)
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text(c.f.Name)
	for _, n := range []int64{p.Step, p.Start - floorTo(p.Start, p.Step), p.Window, p.Lookback, p.MinStaleness, ev.reading.DedupIntervalMs, int64(s.aspect)} {
		b = binary.AppendVarint(b, n)
	}
	b = append(b, byte(btoi(p.KeepStaleMarkers)), byte(btoi(c.keepName)), byte(len(p.Args)))
	for _, arg := range p.Args {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(arg[0]))
	}
	for _, set := range s.filters {
		b = binary.AppendUvarint(b, uint64(len(set)))
		for _, f := range set {
			b = append(b, byte(f.Op))
			text(f.Name)
			text(f.Value)
		}
	}
	if c.fold != nil {
		b = append(b, 0, byte(c.fold.Grouping)) // no set is empty
		text(c.fold.Name)
		for _, name := range c.fold.Labels {
			text(name)
		}
	}
	return string(b)
}

// whyNotKept returns why results of a call are not kept; empty if they are.
func (ev *evaluation) whyNotKept(c *rollupCall, s *selection, p *rollup.Params) string {
	if ev.req.AllTenants {
		return "stores tell of changes of one tenant only"
	}
	if why := rollup.WhyNoFacts(c.f.Name); why != "" {
		return c.f.Name + ": " + why
	}
	if ev.uses[s.text] > 1 {
		return "the selector occurs more than once, and is read once for all"
	}
	for _, arg := range p.Args {
		for _, v := range arg {
			if math.Float64bits(v) != math.Float64bits(arg[0]) {
				return "an argument changes over time"
			}
		}
	}
	return ""
}
