package streamaggr

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// rule is a rule at work.
type rule struct {
	ruleConfig
	intervalMs, dedupMs, stalenessMs int64
	countsFrom                       int64 // first samples of series are increases from this time on, Unix ms
	splits                           bool  // groups have several series, of which something is kept
	timed                            bool  // times of samples matter
	shards                           []shard
	position                         atomic.Int64 // in the file, from 1

	// The goroutine that flushes uses these alone.
	end       int64 // of the window
	nextDedup int64
	skips     int // windows which are not written
	stop      chan struct{}
	done      chan struct{}

	lag, lagBefore atomic.Int64 // greatest age of samples in this window and in the one before, ms

	matched, nan, old, early, full, late metrics.Counter
	duplicates, resets, lost             metrics.Counter
	slowFlushes, slowDedups              metrics.Counter
	written                              [kinds]metrics.Counter
	ages                                 *metrics.Histogram
}

func newRule(c *ruleConfig, shards int, now int64) *rule {
	r := &rule{
		ruleConfig: *c, intervalMs: c.interval.Milliseconds(), dedupMs: c.dedup.Milliseconds(), stalenessMs: c.staleness.Milliseconds(),
		timed: (c.windows || c.ignoreOld) && !c.passThrough, shards: make([]shard, shards), skips: c.skip, stop: make(chan struct{}), done: make(chan struct{}),
	}
	r.countsFrom = now + c.ignoreFirst.Milliseconds()
	r.splits = c.grouped && (c.needs&needSeries != 0 || r.dedupMs > 0)
	r.end = now + r.intervalMs
	if !c.noAlign {
		if r.end = endOf(now+1, r.intervalMs); r.end-now < r.intervalMs && !c.flushAtEnds {
			r.skips++ // the first one is not whole
		}
	}
	if r.dedupMs > 0 {
		r.nextDedup = r.end - (r.end-now-1)/r.dedupMs*r.dedupMs
	}
	for i := range r.shards {
		r.shards[i] = shard{rule: r, end: r.end, groups: map[string]*group{}, series: map[string]*series{}}
	}
	return r
}

// shape returns the keys by which the rule knows a series, that of its group first; false when relabelling drops it. The labels are used up.
func (r *rule) shape(keys [2][]byte, tenant model.TenantID, labels []model.Label) (changed [2][]byte, rest []model.Label, ok bool) {
	if len(r.dropLabels) > 0 {
		labels = without(labels, r.dropLabels)
	}
	if labels, ok = r.input.Apply(labels); !ok {
		return keys, labels, false
	}
	var err error
	if keys[1], err = model.AppendSeriesKey(keys[1][:0], tenant, labels); err != nil {
		return keys, labels, false
	}
	switch {
	case len(r.by) > 0:
		labels = only(labels, r.by)
	case len(r.without) > 0:
		labels = without(labels, r.without)
	}
	keys[0], err = model.AppendSeriesKey(keys[0][:0], tenant, labels)
	return keys, labels, err == nil
}

// only leaves the metric name and labels of the given names, in place.
func only(labels []model.Label, names []string) []model.Label {
	kept := labels[:0]
	for _, l := range labels {
		if isMetricName(l) || hasText(names, l.Name) {
			kept = append(kept, l)
		}
	}
	return kept
}

// without leaves labels of other names and the metric name, in place.
func without(labels []model.Label, names []string) []model.Label {
	kept := labels[:0]
	for _, l := range labels {
		if isMetricName(l) || !hasText(names, l.Name) {
			kept = append(kept, l)
		}
	}
	return kept
}

func hasText(list []string, text string) bool {
	for _, t := range list {
		if t == text {
			return true
		}
	}
	return false
}

// note counts what became of samples.
func (r *rule) note(t *tally, now int64) {
	for _, c := range []struct {
		counter *metrics.Counter
		n       int
	}{
		{&r.matched, t.matched}, {&r.nan, t.nan}, {&r.old, t.old}, {&r.early, t.early}, {&r.full, t.full}, {&r.late, t.late},
		{&r.duplicates, t.duplicates}, {&r.resets, t.resets},
	} {
		if c.n > 0 {
			c.counter.Add(c.n)
		}
	}
	if t.matched == t.nan+t.old+t.early {
		return
	}
	age := max(now-t.oldest, 0)
	r.ages.Update(float64(age) / 1e3)
	for was := r.lag.Load(); age > was && !r.lag.CompareAndSwap(was, age); was = r.lag.Load() {
	}
}

// due returns when the window is to be flushed. With windows it waits as long after their end as samples are late, but for a tenth of the interval at most.
func (r *rule) due() int64 {
	if !r.windows {
		return r.end
	}
	return r.end + min(max(r.lag.Load(), r.lagBefore.Load()), r.intervalMs*9/10)
}

// wake returns when the rule has something to do next.
func (r *rule) wake() time.Time {
	at := r.due()
	if r.dedupMs > 0 && !r.windows && !r.passThrough {
		at = min(at, r.nextDedup)
	}
	return time.UnixMilli(at)
}

// turn begins a new window and returns the one to flush.
func (r *rule) turn(now int64) flushed {
	f := flushed{end: r.end, at: r.end, next: r.end + r.intervalMs, emit: r.skips == 0 || r.passThrough}
	if f.next <= now-r.intervalMs { // the process has slept
		f.next += (now - f.next) / r.intervalMs * r.intervalMs
	}
	r.end = f.next
	r.skips = max(r.skips-1, 0)
	r.lagBefore.Store(r.lag.Swap(0))
	return f
}

// labels returns what tells the rule from others in metrics.
func (r *rule) labels() string {
	names := make([]string, len(r.outputs))
	for i, o := range r.outputs {
		names[i] = kindNames()[o.kind]
	}
	if r.passThrough {
		names = []string{"deduplication"}
	}
	list := func(items []string) string { return strings.Join(items, ",") }
	return fmt.Sprintf("name=%q,position=\"%d\",match=%q,by=%q,without=%q,interval=%q,outputs=%q",
		r.name, r.position.Load(), list(r.matchText), list(r.by), list(r.without), r.intervalText, list(names))
}
