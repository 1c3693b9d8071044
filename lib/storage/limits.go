package storage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// seriesLimits are -storage.maxHourlySeries and -storage.maxDailySeries; nil when neither is set.
type seriesLimits struct {
	limits []*seriesLimit
	now    func() time.Time
	warn   *logger.Throttle
}

// seriesLimit counts the distinct series with samples received in the current period, which is an hour or a day (UTC) of the clock.
// After a start it goes on with those that a file lists, which is written with each flush, and with those that the log has samples of.
//
// It keeps a 64-bit hash of each, so its memory is bounded by the limit; counting without a limit ends at maxTracked.
type seriesLimit struct {
	flag    string
	seconds int64
	max     int  // 0 < max
	track   bool // count, drop nothing
	ignored *metrics.Counter
	dropped *metrics.Counter
	budget  *memory.Budget

	mu struct {
		sync.RWMutex
		period int64
		seen   map[uint64]struct{}
		bytes  int64 // taken from the budget
	}
}

// newSeriesLimits returns nil when there are no limits.
func newSeriesLimits(cfg *Config, o *Options) *seriesLimits {
	l := &seriesLimits{now: o.Now, warn: logger.NewThrottle(o.Logger, 5*time.Second)}
	for _, x := range []struct {
		name    string
		max     int
		seconds int64
	}{{"hourly", cfg.MaxHourlySeries, 3600}, {"daily", cfg.MaxDailySeries, 24 * 3600}} {
		ignored := o.Metrics.Counter(fmt.Sprintf(`vm_rows_ignored_total{reason="%s_limit_exceeded"}`, x.name))
		if x.max == 0 {
			continue
		}
		n := &seriesLimit{seconds: x.seconds, max: x.max, track: x.max < 0, ignored: ignored, budget: o.Budget}
		n.flag = fmt.Sprintf("-storage.max%sSeries=%d", map[string]string{"hourly": "Hourly", "daily": "Daily"}[x.name], x.max)
		if n.track {
			n.max = maxTracked(o.Budget.Limit())
		}
		n.mu.seen = map[uint64]struct{}{}
		n.dropped = o.Metrics.Counter(fmt.Sprintf("vm_%s_series_limit_rows_dropped_total", x.name))
		o.Metrics.Gauge(fmt.Sprintf("vm_%s_series_limit_max_series", x.name), func() float64 { return float64(n.max) })
		o.Metrics.Gauge(fmt.Sprintf("vm_%s_series_limit_current_series", x.name), func() float64 { return float64(n.current(l.now().Unix())) })
		l.limits = append(l.limits, n)
	}
	if len(l.limits) == 0 {
		return nil
	}
	return l
}

// maxTracked is how many series are told apart when there is no limit: as many as a sixteenth of the memory holds.
func maxTracked(memoryBytes int64) int { return int(max(10_000, memoryBytes/16/bytesPerSetEntry)) }

// pass reports whether the samples of series i of a batch, which are those of the runs, may come in. A series that was there earlier in
// the period always may.
func (l *seriesLimits) pass(b *model.Batch, i int, runs []run) bool {
	now, hash := l.now().Unix(), b.Hash(i)
	for _, n := range l.limits {
		if n.pass(now, hash) {
			continue
		}
		rows := 0
		for _, r := range runs {
			rows += r.end - r.start
		}
		n.ignored.Add(rows)
		n.dropped.Add(rows)
		l.warn.Warnf("ignoring samples of %s: %s series have come in this period already, the limit that %s sets", keyText(b.Key(i)), fmt.Sprint(n.max), n.flag)
		return false
	}
	return true
}

// begin starts a new period when it is time.
func (n *seriesLimit) begin(nowSecs int64) {
	period := nowSecs / n.seconds
	n.mu.RLock()
	same := n.mu.period == period
	n.mu.RUnlock()
	if same {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.period != period {
		n.mu.period = period
		n.mu.seen = map[uint64]struct{}{}
		n.budget.Release(n.mu.bytes)
		n.mu.bytes = 0
	}
}

// pass reports whether samples of a series may come in, and counts it.
func (n *seriesLimit) pass(nowSecs int64, hash uint64) bool {
	n.begin(nowSecs)
	n.mu.RLock()
	_, ok := n.mu.seen[hash]
	full := len(n.mu.seen) >= n.max
	n.mu.RUnlock()
	if ok || full {
		return ok || n.track
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.mu.seen[hash]; ok {
		return true
	}
	if len(n.mu.seen) >= n.max {
		return n.track
	}
	n.mu.seen[hash] = struct{}{}
	n.mu.bytes += bytesPerSetEntry
	n.budget.ForceReserve(bytesPerSetEntry)
	return true
}

// current returns the number of series in the period.
func (n *seriesLimit) current(nowSecs int64) int {
	n.begin(nowSecs)
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.mu.seen)
}

// countReplayed counts the series of the heads, which the log has brought, that have a sample in the current periods.
// When a sample was received the log does not say; most are as old as they were then.
func (s *Storage) countReplayed() error {
	if s.limits == nil {
		return nil
	}
	now := s.o.Now().Unix()
	for _, n := range s.limits.limits {
		start := now - now%n.seconds
		for _, p := range s.table.Load().sorted {
			err := p.Index().Keys(context.Background(), roaring.BitmapOf(p.Head().Active(start*1000)...), func(_ uint32, key []byte) bool {
				n.pass(now, model.HashSeriesKey(key))
				return true
			})
			if err != nil {
				return fmt.Errorf("cannot count the series of %s for %s: %w", p.Month(), n.flag, err)
			}
		}
	}
	return nil
}

// free gives the memory back.
func (l *seriesLimits) free() {
	if l == nil {
		return
	}
	for _, n := range l.limits {
		n.mu.Lock()
		n.budget.Release(n.mu.bytes)
		n.mu.bytes = 0
		n.mu.Unlock()
	}
}
