package memory

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	paceInterval = 250 * time.Millisecond
	// leastHeadroom is what the Go heap may always grow between two collections: requests and queries of a process with little in
	// memory live on it.
	leastHeadroom = 12 << 20
	// leastShare is the part of what is alive that the heap may always grow.
	leastShare = 0.1
	// The heap may exceed the budget by backstopShare of it, and backstopBytes at least, before it is collected whatever was decided: a query
	// can fill the budget in less time than there is between two decisions, with the room of the small heap before.
	backstopShare = 8
	backstopBytes = 32 << 20
	// gcShare is the part of the CPU time that collections may take.
	gcShare = 0.05
	// tightGCShare is the same while the budget is nearly used up and garbage stands in the way of what is needed.
	tightGCShare = 0.1
	// What the heap has free and has not given back to the system for idleRounds is given back, from idleBytes and an idleShare of the heap on.
	idleRounds = 8
	idleBytes  = 4 << 20
	idleShare  = 1.0 / 16
	// Giving back makes the kernel zero the pages anew when the heap grows again: at most idleBytesPerSec. And collections for it may
	// take wasteGCShare of the time.
	idleBytesPerSec = 64 << 20
	wasteGCShare    = 0.02
	// Once so much less of the budget is in use than before, there is garbage worth a collection: from droppedBytes and a droppedShare of what
	// was in use on.
	droppedBytes = 8 << 20
	droppedShare = 1.0 / 16
	// goPercent is what Go does by itself; largestPercent is for small heaps.
	goPercent      = 100
	largestPercent = 400
)

// Pacer decides how far the Go heap grows between two collections. What this program keeps for long are large arrays without pointers,
// which a collection does not read: letting the heap double, as Go does, costs as much memory again and saves next to no CPU. So
// the heap gets as much room as keeps collections below a share of the CPU time, and never more than it has by itself.
//
// The setting is that of the whole process, so whoever owns the process starts the one pacer.
type Pacer struct {
	budget *Budget
	stop   chan struct{}
	done   chan struct{}
}

// StartPacer starts a pacer, unless the environment sets GOGC: then it returns nil, which may be stopped as well.
func StartPacer(budget *Budget) *Pacer {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	p := &Pacer{budget: budget, stop: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

// Stop ends the pacer and restores what Go does by itself.
func (p *Pacer) Stop() {
	if p == nil {
		return
	}
	close(p.stop)
	<-p.done
}

func (p *Pacer) run() {
	defer close(p.done)
	defer debug.SetGCPercent(goPercent)
	if os.Getenv("GOMEMLIMIT") == "" {
		limit := p.budget.Limit()
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit + max(limit/backstopShare, backstopBytes)))
	}
	ticker := time.NewTicker(paceInterval)
	defer ticker.Stop()
	reader := newRuntimeReader()
	percent := goPercent
	before := reader.read()
	waste := wasteWatch{before: before}
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		now := reader.read()
		if waste.due(&now, p.budget.Used()) {
			debug.FreeOSMemory()
		}
		if now.cycles == before.cycles {
			continue // the times change with collections only
		}
		percent = nextPercent(percent, &before, &now, p.tight())
		before = now
		debug.SetGCPercent(percent)
	}
}

// wasteWatch decides when to collect and to give memory back to the system at once: Go waits for the heap to grow, and after a flush of
// tens of megabytes it does not.
type wasteWatch struct {
	idle      int           // rounds with free memory
	pause     time.Duration // until there may be another one
	mostUsed  int64         // of the budget, since the last collection
	before    runtimeState
	cycleSecs float64 // of a collection, lately
}

// due takes a reading.
func (w *wasteWatch) due(now *runtimeState, used int64) bool {
	if n := now.cycles - w.before.cycles; n > 0 {
		w.cycleSecs = (now.gcSecs - w.before.gcSecs) / float64(n)
		w.mostUsed = used
	}
	w.before = *now
	w.pause -= paceInterval
	w.mostUsed = max(w.mostUsed, used)
	if w.idle++; now.freeBytes <= idleBytes+now.heapBytes*idleShare {
		w.idle = 0
	}
	dropped := float64(w.mostUsed-used) >= droppedBytes+float64(w.mostUsed)*droppedShare
	if !dropped && w.idle < idleRounds || w.pause > 0 {
		return false
	}
	w.idle, w.mostUsed = 0, used
	w.pause = time.Duration(max(now.freeBytes/idleBytesPerSec, w.cycleSecs/wasteGCShare) * float64(time.Second))
	return true
}

// tight reports whether the budget is nearly used up.
func (p *Pacer) tight() bool { return p.budget.Used() > p.budget.Limit()/8*7 }

// runtimeState is what the decision rests on. All but what is alive counts from the start of the process.
type runtimeState struct {
	cycles     uint64  // collections
	liveBytes  float64 // found by the last collection
	allocBytes float64
	gcSecs     float64 // CPU time of collections, without what idle processors did
	userSecs   float64 // CPU time of all else
	heapBytes  float64 // in use now, garbage included
	freeBytes  float64 // of the heap, free now and not given back
}

// nextPercent returns by how much of what is alive the heap may grow until the next collection, in percent, given what it was and two
// states with collections between them. A collection that takes c seconds, while a second of work allocates a bytes, takes a
// share of c*a/room of the time when the heap grows by room.
func nextPercent(percent int, before, now *runtimeState, tight bool) int {
	share := gcShare
	if tight {
		share = tightGCShare
	}
	live := max(now.liveBytes, 1<<20)
	cycleSecs := (now.gcSecs - before.gcSecs) / float64(now.cycles-before.cycles)
	room := live
	if user := now.userSecs - before.userSecs; user > 0 {
		room = cycleSecs * (now.allocBytes - before.allocBytes) / user / share
	}
	room = min(max(room, leastHeadroom, live*leastShare), max(live, leastHeadroom))
	next := 100 * room / live
	// One reading is noise, and little room hurts more than much.
	if next < float64(percent) {
		next = (next + float64(percent)) / 2
	}
	return int(min(next, largestPercent))
}

type runtimeReader struct{ samples []metrics.Sample }

func newRuntimeReader() *runtimeReader {
	return &runtimeReader{samples: []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/user:cpu-seconds"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}}
}

func (r *runtimeReader) read() runtimeState {
	metrics.Read(r.samples)
	return runtimeState{
		cycles:     r.samples[0].Value.Uint64(),
		liveBytes:  float64(r.samples[1].Value.Uint64()),
		allocBytes: float64(r.samples[2].Value.Uint64()),
		gcSecs:     r.samples[3].Value.Float64() - r.samples[4].Value.Float64(),
		userSecs:   r.samples[5].Value.Float64(),
		heapBytes:  float64(r.samples[6].Value.Uint64()),
		freeBytes:  float64(r.samples[7].Value.Uint64()),
	}
}
