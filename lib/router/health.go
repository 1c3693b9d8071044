package router

import (
	"time"

	"vmcluster/lib/errkind"
)

const (
	minCoolDown = 200 * time.Millisecond
	maxCoolDown = 2 * time.Second
	// maxHint bounds how long a node may ask to be left alone.
	maxHint = 10 * time.Second
)

// health is what is known of one node. The zero value is healthy. It is pure:
// time comes as an argument, and the owner guards it.
type health struct {
	kind     errkind.Kind // why it is cooling down; OK when it is not
	reason   string
	failures int       // in a row
	at       time.Time // of the last failure
	until    time.Time
	probing  bool
	gone     bool // it could not be reached when it failed last
}

// verdict says what a call may do with a node.
type verdict uint8

const (
	use   verdict = iota // healthy
	probe                // cooled down: the asking call is the one to try it
	avoid                // cooling down, or being probed by another call
)

// ask returns what a call that starts now may do with the node. After probe the call must report
// success, failure or release. A node which can be reached again does not have to wait for the end of its pause, and all calls may use it: those beside a
// single one would store fewer copies than there are nodes for.
func (h *health) ask(now time.Time, reachable func() bool) verdict {
	switch {
	case h.kind == errkind.OK || h.gone && reachable():
		return use
	case h.probing || now.Before(h.until):
		return avoid
	}
	h.probing = true
	return probe
}

// release ends a probe which came to nothing.
func (h *health) release() { h.probing = false }

// success marks the node healthy and reports whether it was not before. What was sent before the node failed says nothing of how it
// is now: a node that is shutting down still answers what it has.
func (h *health) success(sent time.Time) (recovered bool) {
	if h.kind == errkind.OK || !sent.After(h.at) {
		return false
	}
	*h = health{}
	return true
}

// failure starts or prolongs the cool-down and reports whether the reason is a
// new one. Concurrent calls that fail within one cool-down count as one failure.
func (h *health) failure(now time.Time, err error, reachable bool) (changed bool) {
	kind := errkind.Of(err)
	changed = kind != h.kind
	if h.kind == errkind.OK || !now.Before(h.until) {
		h.failures++
	}
	pause := min(minCoolDown<<min(h.failures-1, 8), maxCoolDown)
	if hint := errkind.RetryAfterOf(err); hint > 0 {
		pause = min(hint, maxHint)
	}
	h.kind, h.reason, h.probing = kind, err.Error(), false
	h.at, h.until, h.gone = now, now.Add(pause), !reachable
	return changed
}
