package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
	"vmcluster/lib/tsblock"
)

// Points which are kept are used again where an evaluation of all points would find the same to the last bit. Those after them,
// behind the seam, are evaluated from a short range of samples, given what is known of each series before that. While this goes on, each
// series is checked: should kept points of one of them come out differently by now, everything is evaluated anew.

const (
	// seamMargin is how much older than settled samples points have to be which are kept: the sample after a point counts, too.
	seamMargin = 60_000 // milliseconds
	// leastKept is the number of points from which on they are kept.
	leastKept = 16
)

// seam is what the workers of a run do besides evaluating.
type seam struct {
	seed  uint64
	watch rollup.Watch
	from  int64 // first time at which an evaluation of all points would read
	old   *kept // nil: all points are evaluated
	names bool  // results are kept per series
	reach int64 // how far before the first point the run reads
	width bool  // windows grow with the interval between samples

	seen    []bool // by index in old.series; one worker each
	spoiled atomic.Bool

	// What is noted takes memory, and results which the cache has no room for need no notes.
	each, room int64 // bytes of a series; of all that may be noted
	noted      atomic.Int64
	full       atomic.Bool
}

// seamError ends an evaluation of the points after the seam, because points before it would come out differently.
type seamError struct{ why string }

// Error tells why.
func (e *seamError) Error() string { return e.why }

func brokenSeam(format string, args ...any) error {
	return &seamError{why: fmt.Sprintf(format, args...)}
}

// seamSeries evaluates one series, and notes what its results depend on.
func (w *rollupWorker) seamSeries(s *RawSeries, known rollup.Known) error {
	seam := w.run.seam
	hash := seam.hash(w.out.key)
	var past *rollup.Past
	var before *keptSeries
	if seam.old != nil {
		if i, ok := seam.old.byHash[hash]; ok {
			before = &seam.old.series[i]
			seam.seen[i] = true
			past = &rollup.Past{Times: before.facts.Times, Carry: before.facts.Carry, From: seam.from}
		}
	}
	w.evaluator.EvalAfter(past, s.Timestamps, s.Values, known, w.out.add)
	facts := w.evaluator.Facts()
	if facts == nil || w.out.err != nil {
		if before != nil {
			seam.seen[seam.old.byHash[hash]] = false // nothing but markers
		}
		return nil
	}
	if seam.old != nil && seam.width && facts.Gap > seam.reach {
		return brokenSeam("windows of %s are longer than what is read", model.LabelsString(s.Labels))
	}
	n := keptSeries{hash: hash, facts: *facts}
	if before != nil {
		if err := n.follow(&before.facts, s.Labels); err != nil {
			return err
		}
	}
	if !seam.hasRoom(w.run.ev) {
		if seam.old != nil {
			return brokenSeam("there is no room for more series")
		}
		return nil
	}
	if seam.names {
		n.key = string(w.out.key)
	}
	w.out.noted = append(w.out.noted, n)
	return nil
}

// hash tells series apart, in files too.
func (s *seam) hash(key []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(s.seed)
	_, _ = d.Write(key) // never fails
	return d.Sum64()
}

// hasRoom reports whether one more series can be noted, and reserves its memory.
func (s *seam) hasRoom(ev *evaluation) bool {
	if s.full.Load() {
		return false
	}
	if s.noted.Add(s.each) > s.room || ev.reserve(s.each) != nil {
		s.full.Store(true)
		return false
	}
	return true
}

// follow checks the results that are kept of a series and joins its facts.
func (s *keptSeries) follow(old *rollup.Facts, labels []model.Label) error {
	f := &s.facts
	if why := contradiction(old, f.Gap, f.Last); why != "" {
		return brokenSeam("%s of %s", why, model.LabelsString(labels))
	}
	f.Over, f.UpTo, f.Ended = max(f.Over, old.Over), min(f.UpTo, old.UpTo), f.Ended || old.Ended
	return nil
}

// contradiction returns why kept results of a series would come out differently, given the longest tolerated gap and the last timestamp
// there are now; empty if they would not.
func contradiction(old *rollup.Facts, gap, last int64) string {
	n := len(old.Times)
	switch {
	case gap <= old.Over || gap > old.UpTo:
		return "the interval between samples"
	case old.Ended && n > 0 && last > old.Times[n-1]:
		return "a new beginning"
	}
	return ""
}

// encodedSeam takes note of samples which are not as they were written.
func (r *rollupRun) encodedSeam(blocks []tsblock.Block) error {
	if r.seam == nil || !isDownsampled(blocks) {
		return nil
	}
	return r.spoil("samples are downsampled")
}

// spoil takes note of samples for which points cannot be kept.
func (r *rollupRun) spoil(why string) error {
	if r.seam == nil {
		return nil
	}
	r.seam.spoiled.Store(true)
	if r.seam.old != nil {
		return brokenSeam("%s", why)
	}
	return nil
}

// noted returns what the workers have noted, in the order of the series.
func (r *rollupRun) noted() []keptSeries {
	var all []keptSeries
	for i := range r.mu.results {
		all = append(all, r.mu.results[i].noted...)
	}
	return all
}

// unseen goes over the series which are kept and have no samples in what was read.
func (l *leaf) unseen(seam *seam) (alive []keptSeries, err error) {
	old := seam.old
	for i := range old.series {
		s := &old.series[i]
		times := rollup.Since(s.facts.Times, seam.from)
		if seam.seen[i] || len(times) == 0 {
			continue
		}
		last := times[len(times)-1]
		gap := l.p.GapOf(times)
		if why := contradiction(&s.facts, gap, last); why != "" {
			return nil, brokenSeam("%s of a series that has ended", why)
		}
		if l.widens && last+max(l.p.Step, gap) > old.until+l.p.Step {
			return nil, brokenSeam("windows of a series which has ended are longer than what is read")
		}
		n := *s
		n.facts.End(l.c.f.Name, old.until+l.p.Step)
		alive = append(alive, n)
	}
	return alive, nil
}

// join returns all results: those kept up to the seam, then those of the run.
func (l *leaf) join(seam *seam, tail []*vector.Series, noted, alive []keptSeries) ([]*vector.Series, []keptSeries, error) {
	old := seam.old
	if l.c.fold != nil {
		return l.joinGroups(old, tail), append(noted, alive...), nil
	}
	if len(tail) != len(noted) {
		return nil, nil, errors.New("results and series do not match")
	}
	for i := range noted {
		noted[i].result = tail[i]
	}
	all := append(noted, alive...)
	slices.SortFunc(all, func(a, b keptSeries) int { return strings.Compare(a.key, b.key) })
	out := make([]*vector.Series, len(all))
	for i := range all {
		s := &all[i]
		var before, after *vector.Series
		if k, ok := old.byHash[s.hash]; ok {
			before = old.series[k].result
		}
		if before != s.result {
			after = s.result
		}
		out[i] = l.glue(old, before, after)
		s.result = out[i]
	}
	return out, all, nil
}

// joinGroups does it for groups, both of which are in order.
func (l *leaf) joinGroups(old *kept, tail []*vector.Series) []*vector.Series {
	var out []*vector.Series
	add := func(before, after *vector.Series) {
		if s := l.glue(old, before, after); hasPoint(s.Values) {
			out = append(out, s)
		}
	}
	groups := old.groups
	for len(groups) > 0 || len(tail) > 0 {
		order := 0
		switch {
		case len(groups) == 0:
			order = 1
		case len(tail) == 0:
			order = -1
		default:
			order = vector.Compare(groups[0], tail[0])
		}
		switch {
		case order < 0:
			add(groups[0], nil)
			groups = groups[1:]
		case order > 0:
			add(nil, tail[0])
			tail = tail[1:]
		default:
			add(groups[0], tail[0])
			groups, tail = groups[1:], tail[1:]
		}
	}
	return out
}

// glue returns a series of the points before the seam and those after it; nil has none.
func (l *leaf) glue(old *kept, before, after *vector.Series) *vector.Series {
	points := points(&l.p)
	some := before
	if some == nil {
		some = after
	}
	s := &vector.Series{Name: some.Name, Labels: some.Labels, Values: make([]float64, 0, points)}
	taken := int((old.until-l.p.Start)/l.p.Step) + 1
	if before != nil {
		s.Values = append(s.Values, old.slice(before, l.p.Start, old.until)...)
	} else {
		s.Values = appendMissing(s.Values, taken)
	}
	if after != nil {
		s.Values = append(s.Values, after.Values...)
	}
	s.Values = appendMissing(s.Values, points-len(s.Values))
	return s
}
