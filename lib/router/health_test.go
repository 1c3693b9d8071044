package router

import (
	"testing"
	"time"

	"vmcluster/lib/errkind"
)

func TestHealth(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	down := errkind.New(errkind.Unavailable, "down")
	full := errkind.New(errkind.ReadOnly, "disk full").WithRetryAfter(5 * time.Second)
	var h health
	reachable := true
	ask := func(ms int, want verdict) {
		t.Helper()
		if got := h.ask(at(ms), func() bool { return reachable }); got != want {
			t.Errorf("at %d ms: verdict %d; want %d (%+v)", ms, got, want, h)
		}
	}
	ask(0, use)
	ask(0, use)
	if !h.failure(at(0), down, true) || h.failure(at(1), down, true) {
		t.Error("the first failure is news, a second of the same kind is not")
	}
	ask(100, avoid)
	ask(202, probe)
	ask(202, avoid) // one probe at a time
	h.release()
	ask(203, probe)
	h.failure(at(210), down, true) // second in a row: 400 ms
	ask(600, avoid)
	ask(611, probe)
	if !h.failure(at(620), full, true) {
		t.Error("another kind of failure is news")
	}
	ask(5600, avoid) // the hint of the node counts
	ask(5621, probe)
	if h.success(at(600)) {
		t.Error("what was sent before the failure tells of recovery")
	}
	if !h.success(at(5622)) || h.success(at(5623)) {
		t.Error("recovery is news once")
	}
	ask(5623, use)
	// All calls use a node that was gone as soon as it can be reached again, until one of them fails.
	reachable = false
	h.failure(at(6000), down, reachable)
	ask(6001, avoid)
	reachable = true
	ask(6002, use)
	ask(6002, use)
	h.failure(at(6003), down, reachable)
	ask(6004, avoid)
}

func TestCoolDownIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	var h health
	for range 100 {
		h.failure(now, errkind.New(errkind.Unavailable, "down"), true)
		if pause := h.until.Sub(now); pause < minCoolDown || pause > maxCoolDown {
			t.Fatalf("after %d failures the node rests %s", h.failures, pause)
		}
		now = h.until
	}
	h.failure(now, errkind.New(errkind.Draining, "bye").WithRetryAfter(time.Hour), true)
	if pause := h.until.Sub(now); pause != maxHint {
		t.Errorf("the node rests %s; want %s", pause, maxHint)
	}
}
