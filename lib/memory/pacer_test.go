package memory

import (
	"runtime/debug"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

func TestNextPercent(t *testing.T) {
	// In a second of work 100 MiB are allocated; a collection takes 5 ms.
	at := func(live float64) (before, now runtimeState) {
		return runtimeState{cycles: 7}, runtimeState{cycles: 9, liveBytes: live, allocBytes: 100 * mib, gcSecs: 0.01, userSecs: 1}
	}
	for _, x := range []struct {
		name    string
		live    float64
		percent int
		tight   bool
		want    int
	}{
		{"little is alive: the least room", 3 * mib, 400, false, 400},
		{"the room is what keeps collections at 5 %", 100 * mib, 10, false, 12},
		{"a tenth at least", 1000 * mib, 10, false, 10},
		{"it comes down in steps", 100 * mib, 100, false, 56},
		{"it is the same while memory is tight, since that is the least", 100 * mib, 12, true, 12},
	} {
		before, now := at(x.live)
		if got := nextPercent(x.percent, &before, &now, x.tight); got != x.want {
			t.Errorf("%s: %d %%; want %d", x.name, got, x.want)
		}
	}
	before, now := at(100 * mib)
	now.gcSecs = 0.04 // 20 ms each
	loose, tight := nextPercent(10, &before, &now, false), nextPercent(10, &before, &now, true)
	if loose != 40 || tight != 20 {
		t.Errorf("expensive collections get %d %% of room and, while memory is tight, %d; want 40 and 20", loose, tight)
	}
	now.gcSecs = 5
	if got := nextPercent(10, &before, &now, false); got != goPercent {
		t.Errorf("very expensive collections get %d %% of room; want what Go gives", got)
	}
	now.userSecs = 0
	if got := nextPercent(100, &before, &now, false); got != goPercent {
		t.Errorf("without readings the heap gets %d %% of room; want what Go gives", got)
	}
}

func TestWasteWatch(t *testing.T) {
	var w wasteWatch
	busy := &runtimeState{heapBytes: 64 * mib, freeBytes: 8 * mib}
	idle := &runtimeState{heapBytes: 64 * mib, freeBytes: 8*mib + 1}
	count := func(now *runtimeState, rounds int) (n int) {
		for range rounds {
			if w.due(now, 100*mib) {
				n++
			}
		}
		return n
	}
	if n := count(busy, 100); n != 0 {
		t.Errorf("a heap which uses its room is collected %d times", n)
	}
	if n := count(idle, idleRounds-1) + count(busy, 1) + count(idle, idleRounds-1); n != 0 {
		t.Errorf("a heap that uses its room now and then is collected %d times", n)
	}
	if n := count(idle, 2*idleRounds); n != 2 {
		t.Errorf("a heap with free memory is collected %d times in %d rounds; want 2", n, 2*idleRounds)
	}
	if w.due(busy, 90*mib) {
		t.Error("10 of 100 MiB less in use are a reason to collect")
	}
	if !w.due(busy, 80*mib) {
		t.Error("20 of 100 MiB less in use are no reason to collect")
	}
	if w.due(busy, 79*mib) {
		t.Error("the same drop is a reason to collect twice")
	}
	collected := *busy
	collected.cycles, collected.gcSecs = 1, 0.1
	if w.due(&collected, 40*mib) {
		t.Error("a drop is a reason to collect after a collection")
	}
	// A collection took 100 ms, so there is one of five seconds at most, for whatever reason.
	const rounds = int(100 * time.Second / paceInterval)
	idle.cycles, idle.gcSecs = 1, 0.1
	if n := count(idle, rounds); n < 19 || n > 20 {
		t.Errorf("a heap whose collections are expensive is collected %d times in 100 seconds; want 20 at most", n)
	}
	if w.due(idle, 200*mib) || w.due(idle, 10*mib) {
		t.Error("a drop is a reason to collect right after an expensive collection")
	}
	large := &runtimeState{heapBytes: 4096 * mib, freeBytes: 1280 * mib} // 20 seconds at the rate allowed
	w = wasteWatch{}
	if n := count(large, rounds); n != 5 {
		t.Errorf("a large heap is given back %d times in 100 seconds; want 5", n)
	}
}

func TestPacerEnds(t *testing.T) {
	t.Setenv("GOGC", "70")
	if StartPacer(NewBudget(mib)) != nil {
		t.Error("a pacer starts although GOGC is set")
	}
	(*Pacer)(nil).Stop()
	t.Setenv("GOGC", "")
	p := StartPacer(NewBudget(mib))
	p.Stop()
	if got := debug.SetGCPercent(goPercent); got != goPercent {
		t.Errorf("the heap may grow by %d %% after the pacer; want %d", got, goPercent)
	}
}

func TestRuntimeReader(t *testing.T) {
	r := newRuntimeReader()
	before := r.read()
	debug.FreeOSMemory()
	now := r.read()
	if now.cycles <= before.cycles || now.gcSecs <= before.gcSecs || now.liveBytes <= 0 || now.heapBytes <= 0 || now.allocBytes < before.allocBytes {
		t.Errorf("before a collection the state is %+v, after it %+v", before, now)
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	if err := b.Reserve(60, "this"); err != nil {
		t.Fatal(err)
	}
	if err := b.Reserve(41, "that"); errkind.Of(err) != errkind.Overloaded || b.Used() != 60 {
		t.Errorf("a reservation beyond the limit: %v, %d in use", err, b.Used())
	}
	if b.ForceReserve(41); b.Used() != 101 {
		t.Errorf("%d in use; want 101", b.Used())
	}
	if b.Release(101); b.Used() != 0 {
		t.Errorf("%d in use; want 0", b.Used())
	}
}

// TestBackstop: the heap is collected at the latest when it exceeds the budget by the backstop, and all is as before once the pacer has stopped.
func TestBackstop(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	for budget, want := range map[int64]int64{64 * mib: 96 * mib, 1024 * mib: 1152 * mib} {
		p := StartPacer(NewBudget(budget))
		for deadline := time.Now().Add(10 * time.Second); debug.SetMemoryLimit(-1) != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("with a budget of %d bytes the heap may take %d; want %d", budget, debug.SetMemoryLimit(-1), want)
			}
		}
		p.Stop()
		if after := debug.SetMemoryLimit(-1); after != before {
			t.Errorf("the limit was %d and is %d", before, after)
		}
	}
}
