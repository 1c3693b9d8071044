package streamaggr

import (
	"sync/atomic"

	"vmcluster/lib/memory"
)

// room is the memory of a shard. It is taken from the budget in chunks. The shard's lock guards it.
type room struct {
	budget     *memory.Budget // nil: without bounds
	total      *atomic.Int64  // held by all rooms
	held, used int64
}

const roomChunk = 16 << 10

// take reports whether so many more bytes may be used.
func (r *room) take(bytes int64) bool {
	if more := max(r.used+bytes-r.held, 0); more > 0 {
		more = max(more, roomChunk)
		if r.budget != nil && r.budget.ReserveMore(more, r.total.Load(), "stream aggregation") != nil {
			return false
		}
		r.held += more
		r.total.Add(more)
	}
	r.used += bytes
	return true
}

// give gives bytes back.
func (r *room) give(bytes int64) {
	r.used -= bytes
	if spare := r.held - r.used - roomChunk; spare > roomChunk {
		r.release(spare)
	}
}

// close gives everything back.
func (r *room) close() {
	r.release(r.held)
	r.used = 0
}

func (r *room) release(bytes int64) {
	r.held -= bytes
	r.total.Add(-bytes)
	if r.budget != nil {
		r.budget.Release(bytes)
	}
}
