package streamaggr

import (
	"math"
	"sync"

	"vmcluster/lib/model"
)

// shard holds those groups of a rule whose keys have some hashes, with their series.
type shard struct {
	rule *rule

	mu     sync.Mutex // guards all below
	end    int64      // of the window, Unix ms; samples at that time are in it
	groups map[string]*group
	series map[string]*series // without those which are the only ones of their groups
	all    []*series
	list   []*group
	room   room
	ready  []sampleOf // what deduplication alone has let through
	closed bool
}

// sampleOf is a sample of a group.
type sampleOf struct {
	group  *group
	sample model.Sample
}

// item is a series of a batch, by its index there.
type item struct {
	series *series
	index  int
}

// What series and groups take besides their keys, about, with their places in maps and lists.
const (
	seriesBytes = 320
	groupBytes  = 448
)

// find returns a series, which is made when it is not there; nil when there is no memory for it.
func (sh *shard) find(groupKey, key []byte, now int64) *series {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.groups[string(groupKey)]
	if g == nil {
		size := groupBytes + int64(len(groupKey))*int64(2+len(sh.rule.outputs))
		if sh.closed || !sh.room.take(size) {
			return nil
		}
		g = &group{key: string(groupKey), bytes: size}
		sh.groups[g.key] = g
		sh.list = append(sh.list, g)
	}
	if !sh.rule.splits {
		if g.only == nil {
			g.only = sh.addSeries(g, "", now)
		}
		return g.only
	}
	s := sh.series[string(key)]
	if s == nil {
		if s = sh.addSeries(g, string(key), now); s != nil {
			sh.series[s.key] = s
		}
	}
	return s
}

// addSeries returns a new series of a group. Without memory there is none; a group which has got none then goes with the next flush.
func (sh *shard) addSeries(g *group, key string, now int64) *series {
	if sh.closed || !sh.room.take(seriesBytes+int64(len(key))) {
		return nil
	}
	s := &series{group: g, key: key, seen: now, fromZero: now >= sh.rule.countsFrom}
	g.members++
	sh.all = append(sh.all, s)
	return s
}

// push takes the samples of some series of a batch. Series which are gone are appended to again.
func (sh *shard) push(items []item, b *model.Batch, now int64, again []item) []item {
	t := tally{oldest: math.MaxInt64}
	sh.mu.Lock()
	for i, it := range items {
		if i%fetchAhead == 0 {
			t.touched += sh.touch(items[i:min(i+fetchAhead, len(items))])
		}
		if it.series.group == nil {
			again = append(again, it)
			continue
		}
		for _, x := range b.Samples(it.index) {
			sh.take(it.series, x, now, &t)
		}
	}
	sh.mu.Unlock()
	sh.rule.note(&t, now)
	return again
}

// fetchAhead is how many series are touched before their samples are added.
const fetchAhead = 32

// touch reads from series and their groups what is needed soon, so that the memory, in which they lie here and there, is asked for all of it at once.
func (sh *shard) touch(items []item) (sum int64) {
	for _, it := range items {
		sum += it.series.seen
	}
	if sh.rule.needs&needOfGroup == 0 {
		return sum
	}
	for _, it := range items {
		if it.series.group != nil {
			sum += it.series.group.now.lastTimestamp
		}
	}
	return sum
}

// take takes a sample unless its value or its time is wrong.
func (sh *shard) take(s *series, x model.Sample, now int64, t *tally) {
	r := sh.rule
	t.matched++
	if x.Value != x.Value && !r.passThrough {
		t.nan++
		return
	}
	if r.timed {
		if x.Timestamp <= sh.end-r.intervalMs {
			t.old++
			return
		}
		if r.windows && x.Timestamp > now+r.intervalMs {
			t.early++
			return
		}
	}
	t.oldest = min(t.oldest, x.Timestamp)
	s.seen = now
	if r.dedupMs > 0 {
		var ok bool
		if x, ok = s.offer(x, r, t); !ok {
			return
		}
	}
	sh.add(s, x, t)
}

// add adds a sample to its window.
func (sh *shard) add(s *series, x model.Sample, t *tally) {
	r := sh.rule
	if r.passThrough {
		sh.ready = append(sh.ready, sampleOf{s.group, x})
		return
	}
	next := r.windows && x.Timestamp > sh.end
	if r.needs&needSeries != 0 {
		c := &s.now
		if next {
			c = s.following()
		}
		c.seen = true
		if r.needs&needIncrease != 0 {
			s.grow(c, x, t)
		}
	}
	if r.needs&needOfGroup == 0 {
		return
	}
	v := &s.group.now
	if next {
		v = s.group.following()
	}
	if !v.add(r.needs, x.Timestamp, x.Value, &sh.room) {
		t.full++
	}
}

// settle has the samples which are no duplicates, and not later than the given time, counted.
func (sh *shard) settle(upTo int64, t *tally) {
	for _, s := range sh.all {
		if s.taken && s.slot.Timestamp <= upTo {
			s.taken = false
			sh.add(s, s.slot, t)
		}
	}
}

// flushed is a window which is being flushed.
type flushed struct {
	end  int64 // of the window, up to which samples are counted
	at   int64 // the time of the outputs
	next int64 // the end of the next window
	emit bool
}

// flush ends the window and adds its outputs to the batch. Series of which nothing has come for long are removed, and groups without series.
func (sh *shard) flush(f flushed, out *model.Batch, counts *[kinds]int, t *tally) {
	r := sh.rule
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if r.dedupMs > 0 {
		upTo := int64(math.MaxInt64)
		if r.windows {
			upTo = f.end
		}
		sh.settle(upTo, t)
	}
	sh.end = f.next
	kept := sh.all[:0]
	for _, s := range sh.all {
		busy := s.now.seen
		s.close(t)
		if !busy && s.idle() && s.seen+r.stalenessMs < f.end {
			sh.drop(s)
			continue
		}
		kept = append(kept, s)
	}
	clear(sh.all[len(kept):])
	sh.all = kept
	sh.flushGroups(f, out, counts)
	if r.passThrough {
		counts[0] += appendReady(out, sh.ready)
		clear(sh.ready)
		sh.ready = sh.ready[:0]
	}
}

// flushGroups ends the window of the groups.
func (sh *shard) flushGroups(f flushed, out *model.Batch, counts *[kinds]int) {
	kept := sh.list[:0]
	for _, g := range sh.list {
		g.count(&sh.rule.ruleConfig, &sh.room)
		if f.emit && (g.members > 0 || g.sums.series > 0 || !g.now.empty()) {
			g.emit(&sh.rule.ruleConfig, f.at, out, counts)
		}
		g.turn(&sh.room)
		if g.members == 0 {
			sh.dropGroup(g)
			continue
		}
		kept = append(kept, g)
	}
	clear(sh.list[len(kept):])
	sh.list = kept
}

// drop removes a series from all but the list. Tables of series may know it still, so that it must not hold much.
func (sh *shard) drop(s *series) {
	s.group.members--
	if s.key != "" {
		delete(sh.series, s.key)
	} else {
		s.group.only = nil
	}
	sh.room.give(seriesBytes + int64(len(s.key)))
	*s = series{}
}

func (sh *shard) dropGroup(g *group) {
	delete(sh.groups, g.key)
	for _, v := range []*values{&g.now, g.next} {
		if v != nil && v.more != nil {
			sh.room.give(v.more.bytes)
		}
	}
	sh.room.give(g.bytes)
	g.now, g.next, g.buckets, g.names = values{}, nil, nil, nil
}

// close gives everything up.
func (sh *shard) close() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, s := range sh.all {
		*s = series{}
	}
	sh.groups, sh.series, sh.all, sh.list, sh.ready = nil, nil, nil, nil, nil
	sh.room.close()
	sh.closed = true
}

// mostReady is how many samples wait for the flush after deduplication alone.
const mostReady = 4096

// takeReady adds the samples which have passed deduplication to the batch when there are many.
func (sh *shard) takeReady(out *model.Batch) int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.ready) < mostReady {
		return 0
	}
	n := appendReady(out, sh.ready)
	clear(sh.ready)
	sh.ready = sh.ready[:0]
	return n
}

// appendReady adds samples to a batch and returns how many those are.
func appendReady(out *model.Batch, list []sampleOf) int {
	for i, x := range list {
		if i == 0 || list[i-1].group != x.group {
			key := []byte(x.group.key)
			out.AddKey(key, model.HashSeriesKey(key))
		}
		out.AddSample(x.sample.Timestamp, x.sample.Value)
	}
	return len(list)
}
