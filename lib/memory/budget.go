package memory

import (
	"sync/atomic"

	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
)

// Budget is a bound on the bytes kept alive by everything that reserves from it.
// It is safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	invariants.Check(limit > 0, "memory budget of %d bytes", limit)
	return &Budget{limit: limit}
}

// Limit returns the size of the budget in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Used returns the bytes reserved now. ForceReserve can push it over the limit.
func (b *Budget) Used() int64 { return b.used.Load() }

// Reserve takes n bytes from the budget, or returns an error of kind
// Overloaded and takes nothing. What names the user in the error.
func (b *Budget) Reserve(n int64, what string) error {
	invariants.Check(n >= 0, "reservation of %d bytes for %s", n, what)
	if used := b.used.Add(n); used > b.limit {
		b.used.Add(-n)
		return errkind.New(errkind.Overloaded,
			"cannot reserve %d bytes of memory for %s: %d of %d bytes are in use; raise -memory.allowedPercent or -memory.allowedBytes, or send less at once",
			n, what, used-n, b.limit)
	}
	return nil
}

// The part of the budget which is left to users who need little, and how much of it is little.
const (
	spareShare  = 8
	littleShare = 64
)

// ReserveMore is Reserve for a user who holds some bytes already. Who would come to hold more than a 64th of the budget leaves its last
// eighth to others, so that a few who need very much do not keep out the many who need little.
func (b *Budget) ReserveMore(n, held int64, what string) error {
	if used := b.used.Load(); held+n > b.limit/littleShare && used+n > b.limit-b.limit/spareShare {
		return errkind.New(errkind.Overloaded,
			"cannot reserve %d bytes of memory for %s, which holds %d: %d of %d bytes are in use, and the last eighth is kept for users who need little; "+
				"raise -memory.allowedPercent or -memory.allowedBytes, or send less at once", n, what, held, used, b.limit)
	}
	return b.Reserve(n, what)
}

// ForceReserve takes n bytes even beyond the limit, for memory which cannot be
// refused, such as samples that are already in the log.
func (b *Budget) ForceReserve(n int64) { b.used.Add(n) }

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	left := b.used.Add(-n)
	invariants.Check(left >= 0, "memory budget released below zero: %d", left)
}
