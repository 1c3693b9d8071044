package partition

import "sync/atomic"

// KeyOrder remembers the order of the keys of series, so that later searches sort numbers instead of keys. Keys never change, so
// what it knows stays right; it need not know every series. It takes 4 bytes per series.
type KeyOrder struct {
	ranks []uint32 // by id; 0: not known
	count int
}

const (
	// Fewer series are sorted as fast as they are looked up.
	minOrdered = 1024
	// Ids beyond this are not remembered, to bound the memory.
	maxOrderedID = 1 << 25
)

// keyOrder is the place where a partition keeps it.
type keyOrder struct{ known atomic.Pointer[KeyOrder] }

// KeyOrder returns the order which is known.
func (p *Partition) KeyOrder() *KeyOrder {
	if o := p.order.known.Load(); o != nil {
		return o
	}
	return &KeyOrder{}
}

// Rank returns a number which is larger the later the key of a series is; false when that is not known. Ranks
// of different orders do not compare.
func (o *KeyOrder) Rank(id uint32) (rank uint32, ok bool) {
	if uint64(id) >= uint64(len(o.ranks)) {
		return 0, false
	}
	rank = o.ranks[id]
	return rank, rank != 0
}

// SizeBytes returns the memory it takes.
func (o *KeyOrder) SizeBytes() int64 { return int64(cap(o.ranks)) * 4 }

// ForgetKeyOrder gives the memory back. Searches find out about the order again.
func (p *Partition) ForgetKeyOrder() { p.order.known.Store(nil) }

// LearnKeyOrder remembers the order of series, given by ascending key, of which so many were not known before, if that is worth it.
func (p *Partition) LearnKeyOrder(ids []uint32, unknown int) {
	if len(ids) < minOrdered || unknown < len(ids)/8 || len(ids) < p.KeyOrder().count {
		return
	}
	last := uint32(0)
	for _, id := range ids {
		last = max(last, id)
	}
	if last > maxOrderedID {
		return
	}
	o := &KeyOrder{ranks: make([]uint32, last+1), count: len(ids)}
	for i, id := range ids {
		o.ranks[id] = uint32(i) + 1
	}
	p.order.known.Store(o)
}
