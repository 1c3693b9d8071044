package router

import (
	"slices"
	"time"

	"vmcluster/lib/errkind"
)

// slowLag is how long a node may leave a piece unanswered before it may count as slow.
const slowLag = 2 * time.Second

// load is what is under way to one node. It is pure; its owner guards it.
type load struct {
	since []time.Time // when each of the pieces under way was sent
	bytes int64
	heard time.Time // when the node answered last
}

func (l *load) enter(now time.Time, bytes int64) {
	l.since = append(l.since, now)
	l.bytes += bytes
}

// leave takes a piece out which entered at the given time.
func (l *load) leave(since time.Time, bytes int64) {
	i := slices.Index(l.since, since)
	last := len(l.since) - 1
	l.since[i] = l.since[last]
	l.since = l.since[:last]
	l.bytes -= bytes
}

// lag returns for how long the oldest piece has waited for its answer.
func (l *load) lag(now time.Time) time.Duration {
	oldest := now
	for _, t := range l.since {
		if t.Before(oldest) {
			oldest = t
		}
	}
	return now.Sub(oldest)
}

// window is what may be under way to a node before it is full.
type window struct {
	pieces int
	bytes  int64
}

// exceeded reports whether the node gets more than it answers.
func (w window) exceeded(l *load, now time.Time) bool {
	return l.bytes >= w.bytes || len(l.since) >= w.pieces && l.lag(now) >= slowLag
}

// slow reports whether rows should not wait for a node any longer: its window is full, it is the slowest by far, and at least
// three nodes are ready. Otherwise slowness is not the node's own, and its rows would only make the others slow as well.
func slow(states []*nodeState, node int, w window, now time.Time) bool {
	s := states[node]
	lag := s.load.lag(now)
	known := s.health.kind == errkind.Overloaded // and this is a probe: one call finds out, not as many as a window has
	if lag < slowLag || !known && (s.health.kind != errkind.OK || !w.exceeded(&s.load, now)) {
		return false
	}
	ready := 1
	for i, other := range states {
		if i == node || other.health.kind != errkind.OK {
			continue
		}
		ready++
		if other.load.lag(now) > lag/4 {
			return false
		}
	}
	return ready >= 3
}

// hangRule says when a node answers nobody.
type hangRule struct {
	copies int           // of rows
	after  time.Duration // that it was silent
}

// hangs reports whether a piece, which was sent at the given time, should not wait for a node any longer because that answers nobody: it has not for
// the time of the rule, or was found to hang meanwhile. So many others have to be ready as rows have copies, and all of them have to be quick, since
// otherwise the node is not what is wrong.
func (r hangRule) hangs(states []*nodeState, node int, sent, now time.Time) bool {
	s := states[node]
	known := s.health.kind == errkind.Timeout && !sent.After(s.health.at)
	if !known && (now.Sub(sent) < r.after || now.Sub(s.load.heard) < r.after) {
		return false
	}
	ready := 0
	for i, other := range states {
		if i == node || other.health.kind != errkind.OK {
			continue
		}
		ready++
		if other.load.lag(now) > r.after/4 {
			return false
		}
	}
	return ready >= r.copies
}
