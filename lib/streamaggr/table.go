package streamaggr

import (
	"sync"

	"vmcluster/lib/memory"
	"vmcluster/lib/model"
)

// route is where the samples of a series go.
type route struct {
	matched bool
	passing bool // it may be another one the next time, as there was no memory
	places  []place
}

// place is a series as a rule knows it. List is the number of the rule times the number of shards, and the shard.
type place struct {
	series *series
	list   uint32
}

// entry is a route in a table. Most have one place at most, which is in the entry itself.
type entry struct {
	place
	state state
	more  *route // when there are several places
}

type state uint8

const (
	unknown state = iota
	unmatched
	matched // without a place: a rule matches the series, and drops it
	several
)

func (r *route) entry() entry {
	switch {
	case !r.matched:
		return entry{state: unmatched}
	case len(r.places) > 1:
		return entry{state: several, more: r}
	case len(r.places) == 1:
		return entry{state: matched, place: r.places[0]}
	}
	return entry{state: matched}
}

// table knows the routes of the numbered series of a space. It implements model.Attachment and is safe for concurrent use.
type table struct {
	budget *memory.Budget // nil: without bounds

	mu         sync.RWMutex
	generation uint64 // of the rules
	byNumber   []entry
	reserved   int64
	detached   bool
}

// leastNumbers is the least number of series a table has room for.
const leastNumbers = 1024

// What an entry takes, a route besides, and each place in that.
const (
	numberBytes = 32
	routeBytes  = 48
	placeBytes  = 16
)

// learn keeps the routes of some series of a batch as long as the rules are those of the generation.
func (t *table) learn(generation uint64, b *model.Batch, indexes []int, routes []*route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.generation != generation {
		t.byNumber, t.generation = nil, generation
		t.giveLocked()
	}
	for i, index := range indexes {
		number := b.Number(index)
		if number == model.NoNumber || t.detached || routes[i].passing {
			continue
		}
		size := int64(0)
		if r := routes[i]; len(r.places) > 1 {
			size = routeBytes + placeBytes*int64(len(r.places))
		}
		if !t.growLocked(int(number)+1) || !t.takeLocked(size) {
			return
		}
		t.byNumber[number] = routes[i].entry()
	}
}

// growLocked makes room for numbers below n.
func (t *table) growLocked(n int) bool {
	if n <= len(t.byNumber) {
		return true
	}
	if n > cap(t.byNumber) {
		size := max(n, 2*cap(t.byNumber), leastNumbers)
		if !t.takeLocked(int64(size-cap(t.byNumber)) * numberBytes) {
			return false
		}
		t.byNumber = append(make([]entry, 0, size), t.byNumber...)
	}
	t.byNumber = t.byNumber[:n]
	return true
}

// takeLocked takes memory from the budget.
func (t *table) takeLocked(bytes int64) bool {
	if t.budget != nil && t.budget.ReserveMore(bytes, t.reserved, "the series of stream aggregation") != nil {
		return false
	}
	t.reserved += bytes
	return true
}

func (t *table) giveLocked() {
	if t.budget != nil {
		t.budget.Release(t.reserved)
	}
	t.reserved = 0
}

// Detach implements model.Attachment.
func (t *table) Detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detached, t.byNumber = true, nil
	t.giveLocked()
}
