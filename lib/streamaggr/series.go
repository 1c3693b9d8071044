package streamaggr

import (
	"math"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// series is what a rule keeps of one of its input series, or, when nothing is kept of single ones, of all series of a group.
type series struct {
	// What most samples touch comes first, and fills a cache line.
	group *group // nil: the series is not part of the shard any more
	seen  int64  // when the last sample came, Unix ms
	now   change

	next *change      // of the window that follows; nil: nothing
	key  string       // among the series of the shard; empty: it is the only one of its group
	slot model.Sample // the one which is no duplicate so far
	// The last sample of windows which are over.
	value     float64
	timestamp int64
	known     bool // there is one
	fromZero  bool // the first sample is an increase
	taken     bool // the slot
}

// change is by how much a series has grown in one window.
type change struct {
	seen           bool // there are samples
	counted        bool // there are samples of a counter, as follows
	last           float64
	lastTimestamp  int64
	grown          float64 // from the first to the last
	first          float64
	firstTimestamp int64
}

// tally counts what became of samples.
type tally struct {
	matched, nan, old, early, full, late, duplicates, resets int
	oldest                                                   int64 // lowest timestamp
	touched                                                  int64 // means nothing
}

// grow adds a sample of a counter to a window. What is older than another sample of the series says nothing.
func (s *series) grow(c *change, x model.Sample, t *tally) {
	if !c.counted {
		if c == &s.now && s.known && !follows(x, s.timestamp, s.value) {
			t.late++
			return
		}
		*c = change{seen: true, counted: true, first: x.Value, last: x.Value, firstTimestamp: x.Timestamp, lastTimestamp: x.Timestamp}
		return
	}
	if !follows(x, c.lastTimestamp, c.last) {
		t.late++
		return
	}
	c.grown += t.increase(c.last, x.Value)
	c.last, c.lastTimestamp = x.Value, x.Timestamp
}

// follows reports whether a sample comes after another. Of several at one time the highest stays, as in storage.
func follows(x model.Sample, timestamp int64, value float64) bool {
	return x.Timestamp > timestamp || x.Timestamp == timestamp && x.Value > value
}

// increase returns by how much a counter has grown, which begins again at zero when it falls.
func (t *tally) increase(from, to float64) float64 {
	if to < from {
		t.resets++
		return to
	}
	return to - from
}

// following returns the window that follows.
func (s *series) following() *change {
	if s.next == nil {
		s.next = &change{}
	}
	return s.next
}

// close ends the window, adds it to what the group has of it, and goes on to the next one.
func (s *series) close(t *tally) {
	c, sums := &s.now, &s.group.sums
	if c.seen {
		sums.series++
	}
	if c.counted {
		grown, from := c.grown, c.firstTimestamp
		switch {
		case s.known:
			grown += t.increase(s.value, c.first)
			from = s.timestamp
		case s.fromZero:
			sums.beginnings += c.first
		}
		sums.grown += grown
		if c.lastTimestamp > from {
			const perSecond = 1e3
			sums.rate += grown / float64(c.lastTimestamp-from) * perSecond
			sums.rates++
		}
		s.value, s.timestamp, s.known = c.last, c.lastTimestamp, true
	}
	if s.next == nil {
		s.now = change{}
		return
	}
	s.now = *s.next
	*s.next = change{}
}

// idle reports whether the series has no samples which wait for a flush.
func (s *series) idle() bool { return !s.now.seen && !s.taken }

// offer has the sample compete with others of its interval, by the rule of storage: the newest sample stays. It returns a sample of another interval,
// which has won there. What is older than the interval of the newest sample is left out, unless samples pass through, when it has won.
func (s *series) offer(x model.Sample, r *rule, t *tally) (won model.Sample, ok bool) {
	old := &s.slot
	end := endOf(old.Timestamp, r.dedupMs)
	switch {
	case !s.taken:
		s.slot, s.taken = x, true
	case x.Timestamp > end:
		won, ok = *old, true
		*old = x
	case r.passThrough && x.Timestamp <= end-r.dedupMs:
		return x, true
	case x.Timestamp > old.Timestamp || x.Timestamp == old.Timestamp && tsblock.Better(x.Value, old.Value):
		t.duplicates++
		*old = x
	default:
		t.duplicates++
	}
	return won, ok
}

// endOf returns the end of the interval which a time is in: (k-1)*interval < t <= k*interval.
func endOf(t, intervalMs int64) int64 {
	rest := t % intervalMs
	if rest > 0 {
		rest -= intervalMs
	}
	if end := t - rest; end >= t {
		return end
	}
	return math.MaxInt64
}
