package query

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
	"vmcluster/lib/trace"
)

// leaf is a rollup over a selector, or an aggregate of it, which is answered with help of the cache.
type leaf struct {
	ev     *evaluation
	c      *rollupCall
	s      *selection
	p      rollup.Params
	key    string
	epoch  uint64
	widens bool // windows grow with the interval between samples
	reach  int64

	// What may be kept of this evaluation.
	until, settled int64
	versions       []Version
}

// fromCache evaluates a rollup with what is kept of it, and keeps its results; false when it has nothing to do with the cache.
func (ev *evaluation) fromCache(c *rollupCall, s *selection, p rollup.Params) ([]*vector.Series, bool, error) {
	cache := ev.e.cache
	if cache == nil || ev.req.NoCache || ev.cfg.DisableCache || points(&p) < 2 {
		return nil, false, nil
	}
	cache.requests.Inc()
	l := &leaf{ev: ev, c: c, s: s, p: p}
	l.p.Ranged = true
	if why := ev.whyNotKept(c, s, &p); why != "" {
		return l.miss(why)
	}
	l.key = ev.cacheKey(c, s, &p)
	found := cache.get(l.key)
	old := found.kept
	l.epoch = found.epoch
	switch {
	case !found.before:
		cache.put(l.key, nil, l.epoch)
		return l.miss("it is asked for the first time")
	case found.skip:
		return l.miss("results kept before were of no use")
	}
	if why := l.plan(); why != "" {
		return l.miss(why)
	}
	if old != nil {
		if series, ok, err := l.use(old); ok || err != nil {
			return series, ok, err
		}
		if p.End < old.grid.End && p.Start >= old.grid.Start {
			return nil, false, nil // others go on with what is kept
		}
		cache.judge(l.key, false)
	} else {
		_, _, _ = l.miss("nothing is kept yet")
	}
	return l.fill()
}

// note adds to the trace.
func (l *leaf) note(format string, args ...any) {
	if parent := trace.From(l.ev.ctx); parent != nil {
		parent.Begin("result cache, %s(%s): %s", l.c.f.Name, l.s.text, fmt.Sprintf(format, args...)).End("")
	}
}

func (l *leaf) miss(why string) ([]*vector.Series, bool, error) {
	l.ev.e.cache.misses.Inc()
	l.note("miss: %s", why)
	return nil, false, nil
}

// plan settles which results may be kept, and returns why none may be.
func (l *leaf) plan() string {
	ev, p := l.ev, &l.p
	end := min(ev.e.now().UnixMilli()-millis(ev.e.cfg.CacheTimestampOffset), p.End)
	var err error
	if l.versions, err = ev.e.cache.ask(ev.ctx, ev.e.now(), ev.req.Tenant, model.TimeRange{Min: l.s.r.Min, Max: max(l.s.r.Min, end) + 1}); err != nil {
		return "not all stores tell whether samples have changed: " + err.Error()
	}
	l.settled = end
	for i := range l.versions {
		v := &l.versions[i]
		l.settled = min(l.settled, v.Until-1)
		if v.DedupIntervalMs > 1 && v.DedupIntervalMs != ev.reading.DedupIntervalMs {
			return "stores leave out samples by -dedup.minScrapeInterval, which is another one here"
		}
		if v.Changed > v.Sequence {
			return "the range has samples which are left out or downsampled as they grow older"
		}
	}
	l.settled -= max(0, ev.reading.DedupIntervalMs) // later samples of a bucket take the place of earlier ones
	l.widens = rollup.Widens(l.c.f.Name, p.Window)
	l.reach = max(p.Window, p.Step)
	if l.widens {
		l.reach = max(l.reach, sampleBefore)
	}
	last := p.Start + int64(points(p)-1)*p.Step
	l.until = min(floorTo(l.settled-seamMargin-p.Start, p.Step)+p.Start, last-p.Step)
	if (l.until-p.Start)/p.Step+1 < leastKept || l.until < p.Start {
		return "too few points are older than -search.cacheTimestampOffset"
	}
	return ""
}

// use answers with what is kept. Without a result and an error, everything is to be evaluated.
func (l *leaf) use(old *kept) ([]*vector.Series, bool, error) {
	cache, p := l.ev.e.cache, &l.p
	why := ""
	switch {
	case !l.ev.e.cfg.DisableAutoCacheReset && old.changed(l.versions):
		why = "samples have changed"
	case p.Start == old.grid.Start && p.End == old.grid.End && p.End <= old.settled && l.s.r == old.read:
		cache.fullHits.Inc()
		cache.judge(l.key, true)
		l.note("hit: all %d points", points(p))
		series, err := l.all(old)
		return series, true, err
	case p.End < old.grid.End:
		why = "what is kept ends later"
	default:
		why = old.whyUseless(p, l.s.r.Min)
	}
	if why == "" {
		series, err := l.extend(old)
		var broken *seamError
		if err == nil || !errors.As(err, &broken) {
			return series, err == nil, err
		}
		why = "kept points have changed: " + broken.why
	}
	cache.misses.Inc()
	l.note("miss: %s", why)
	return nil, false, nil
}

// all returns copies of all results.
func (l *leaf) all(old *kept) ([]*vector.Series, error) {
	list := slices.Clone(old.groups)
	for i := range old.series {
		if s := &old.series[i]; s.result != nil {
			list = append(list, s.result)
		}
	}
	for i, s := range list {
		list[i] = &vector.Series{Name: s.Name, Labels: s.Labels, Values: slices.Clone(s.Values)}
	}
	l.ev.seriesFetched.Add(int64(len(old.series)))
	return list, l.reserve(list)
}

func (l *leaf) reserve(list []*vector.Series) error { return l.ev.reserve(resultBytes(list)) }

func resultBytes(list []*vector.Series) (n int64) {
	for _, s := range list {
		n += int64(len(s.Values))*8 + vector.SeriesSize(s.Labels)
	}
	return n
}

// run evaluates points of the leaf. A partial answer says so, whatever was read before for the query.
func (l *leaf) run(seam *seam, s *selection, p rollup.Params) (run *rollupRun, series []*vector.Series, partial bool, err error) {
	ev := l.ev
	before := ev.partial
	ev.partial = false
	run = newRollupRun(ev, l.c, p, s.r)
	run.seam = seam
	err = run.read(s)
	series, runErr := run.finish()
	partial = ev.partial
	ev.partial = before || partial
	if err = cmp.Or(err, runErr); err == nil && l.c.fold != nil {
		vector.Sort(series)
	}
	return run, series, partial, err
}

func (l *leaf) newSeam(old *kept) *seam {
	s := &seam{seed: l.ev.e.cache.seed, from: l.s.r.Min, old: old, names: l.c.fold == nil, reach: l.reach}
	s.watch = rollup.Watch{Until: l.until, Settled: l.settled, From: l.until + l.p.Step - l.reach}
	s.width = l.widens && l.c.f.Name != "default_rollup" // of which only the last sample counts
	s.each, s.room = keptBytes+factBytes, l.ev.e.cache.largest()
	if s.names {
		s.each += int64(points(&l.p)) * 8
	}
	if old != nil {
		s.seen = make([]bool, len(old.series))
	}
	return s
}

// fill evaluates all points and keeps them.
func (l *leaf) fill() ([]*vector.Series, bool, error) {
	seam := l.newSeam(nil)
	run, series, partial, err := l.run(seam, l.s, l.p)
	if err != nil {
		return nil, false, err
	}
	noted := run.noted()
	switch {
	case partial:
		l.note("not kept: the answer is partial")
	case seam.spoiled.Load():
		l.giveUp("samples are downsampled, or depend on the range")
	case run.hides():
		l.giveUp("infinite values cancel out")
	case seam.full.Load():
		l.giveUp("there is no room for so many series")
	default:
		if l.c.fold == nil {
			for i := range noted {
				noted[i].result = series[i]
			}
		}
		l.keep(series, noted, nil)
	}
	return series, true, nil
}

// giveUp says why results are not kept, which will be so for a while.
func (l *leaf) giveUp(why string) {
	l.note("not kept: %s", why)
	l.ev.e.cache.judge(l.key, false)
}

// extend evaluates the points after those which are kept.
func (l *leaf) extend(old *kept) ([]*vector.Series, error) {
	ev := l.ev
	seam := l.newSeam(old)
	p := l.p
	p.Start = old.until + p.Step
	p.Args = make([][]float64, len(l.p.Args))
	taken := int((p.Start - l.p.Start) / p.Step)
	for i, arg := range l.p.Args {
		p.Args[i] = arg[taken:]
	}
	s := *l.s
	s.r.Min = max(old.from, s.r.Min)
	fetched, samples, partialBefore := ev.seriesFetched.Load(), ev.samplesRead.Load(), ev.partial
	series, err := l.extendFrom(seam, &s, p)
	if err != nil { // what follows reads all of it
		ev.seriesFetched.Store(fetched)
		ev.samplesRead.Store(samples)
		ev.partial = partialBefore
		return nil, err
	}
	ev.e.cache.partialHits.Inc()
	ev.e.cache.judge(l.key, true)
	l.note("partial hit: %d of %d points, the others from samples since %d", taken, points(&l.p), old.from)
	return series, nil
}

func (l *leaf) extendFrom(seam *seam, s *selection, p rollup.Params) ([]*vector.Series, error) {
	run, tail, partial, err := l.run(seam, s, p)
	switch {
	case err != nil:
		return nil, err
	case partial:
		return nil, brokenSeam("some storage nodes did not answer")
	case run.hides():
		return nil, brokenSeam("infinite values cancel out")
	}
	alive, err := l.unseen(seam)
	if err != nil {
		return nil, err
	}
	l.ev.seriesFetched.Add(int64(len(alive)))
	series, all, err := l.join(seam, tail, run.noted(), alive)
	if err != nil {
		return nil, err
	}
	if err := l.reserve(series); err != nil {
		return nil, err
	}
	// Taking the seam along costs a copy of everything, so it waits until that spares as much.
	old := seam.old
	advance := l.until - old.until
	if advance*4 >= l.p.End-old.from && l.p.Start-old.grid.Start <= 2*(l.p.End-old.grid.End)+l.p.Step {
		l.keep(series, all, old)
	}
	return series, nil
}

// hides reports whether a group may have no point where there are values.
func (r *rollupRun) hides() bool { return r.mu.total != nil && r.mu.total.Hides() }

// keep copies results to the cache.
func (l *leaf) keep(series []*vector.Series, noted []keptSeries, old *kept) {
	k := &kept{
		grid: vector.Grid{Start: l.p.Start, End: l.p.End, Step: l.p.Step}, read: l.s.r, until: l.until, settled: l.settled,
		from: l.until + l.p.Step - l.reach, versions: l.versions, needs: math.MaxInt64, series: noted,
	}
	if old != nil {
		k.reach, k.needs = old.reach, old.needs
	}
	if n := int64(len(noted))*keptBytes + resultBytes(series); n > l.ev.e.cache.largest() {
		l.giveUp(fmt.Sprintf("there is no room for %d bytes", n))
		return
	}
	for i := range k.series {
		s := &k.series[i]
		if s.facts.Open {
			l.note("not kept: a series has just begun")
			return
		}
		k.add(&s.facts)
		if s.result != nil {
			s.result = copySeries(s.result)
		}
	}
	if l.c.fold != nil {
		k.groups = make([]*vector.Series, len(series))
		for i, s := range series {
			k.groups[i] = copySeries(s)
		}
	}
	k.index()
	if len(k.byHash) < len(k.series) || !l.ev.e.cache.put(l.key, k, l.epoch) {
		l.giveUp(fmt.Sprintf("there is no room for %d bytes", k.bytes))
	}
}

func copySeries(s *vector.Series) *vector.Series {
	return &vector.Series{Name: s.Name, Labels: s.Labels, Values: slices.Clone(s.Values)}
}

func appendMissing(values []float64, n int) []float64 {
	for range n {
		values = append(values, math.NaN())
	}
	return values
}
