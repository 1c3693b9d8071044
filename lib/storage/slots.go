package storage

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
)

// slots tells where the series of a space are stored, by number. A series has one slot, for the newest month it has had
// samples in; samples of other months take the way of series without a number. Reading takes no lock, and what two
// writers find out about a series at a time is the same.
type slots struct {
	s     *Storage
	space *model.Space
	pages atomic.Pointer[[]*slotPage]
	epoch atomic.Uint32 // of the storage, when the slots were empty

	mu       sync.Mutex // to grow and to forget
	reserved int64
	detached bool
}

const slotsPerPage = 4096

type slotPage [slotsPerPage]atomic.Uint64

// slot is a month and a series id in it. The zero value is empty: months count from 1970, and
// samples that early are not accepted.
type slot uint64

func newSlot(m partition.Month, id uint32) slot { return slot(uint64(uint32(m))<<32 | uint64(id)) }

func (x slot) month() partition.Month { return partition.Month(uint32(x >> 32)) }

func (x slot) id() uint32 { return uint32(x) }

// slotsOf returns the slots of the batch's space, nil when it has none. The caller holds the flush lock, at least
// shared, until it has stopped using them.
func (s *Storage) slotsOf(b *model.Batch) *slots {
	space := b.Space()
	if space == nil {
		return nil
	}
	t := space.Attach(s, func() model.Attachment {
		t := &slots{s: s, space: space}
		t.pages.Store(&[]*slotPage{})
		t.epoch.Store(s.slotEpoch.Load())
		s.spaces.Store(t, struct{}{})
		return t
	}).(*slots)
	if epoch := s.slotEpoch.Load(); t.epoch.Load() != epoch {
		t.forget(epoch)
	}
	return t
}

// forgetSeries makes all writers look up their series anew. The caller holds the flush lock exclusively.
func (s *Storage) forgetSeries() {
	s.hot.clear()
	s.slotEpoch.Add(1)
}

func (t *slots) get(number uint32) slot {
	pages := *t.pages.Load()
	if i := number / slotsPerPage; int(i) < len(pages) {
		return slot(pages[i][number%slotsPerPage].Load())
	}
	return 0
}

// put notes where a series is; false when its slot is for another month which is as new, or when there is no memory.
func (t *slots) put(number uint32, x slot) bool {
	if number == model.NoNumber {
		return false
	}
	pages := *t.pages.Load()
	i := int(number / slotsPerPage)
	if i >= len(pages) && !t.grow(i+1) {
		return false
	}
	entry := &(*t.pages.Load())[i][number%slotsPerPage]
	if old := slot(entry.Load()); old.month() > x.month() {
		return false
	}
	entry.Store(uint64(x))
	return true
}

// grow makes room for at least n pages within the memory budget.
func (t *slots) grow(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.pages.Load()
	if n <= len(old) {
		return true
	}
	size := int64(n-len(old)) * int64(unsafe.Sizeof(slotPage{}))
	if t.s.o.Budget.Reserve(size, "the series of a sender") != nil {
		return false
	}
	if t.reserved += size; t.detached { // batches under way go on for a moment
		t.s.o.Budget.Release(t.reserved)
		t.reserved = 0
	}
	grown := append(make([]*slotPage, 0, n), old...)
	for len(grown) < n {
		grown = append(grown, &slotPage{})
	}
	t.pages.Store(&grown)
	return true
}

func (t *slots) forget(epoch uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch.Load() == epoch {
		return
	}
	t.pages.Store(&[]*slotPage{})
	t.s.o.Budget.Release(t.reserved)
	t.reserved = 0
	t.epoch.Store(epoch)
}

// Detach implements model.Attachment.
func (t *slots) Detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.o.Budget.Release(t.reserved)
	t.reserved, t.detached = 0, true
	t.s.spaces.Delete(t)
}

// detachSlots takes the storage out of the spaces of senders, which may outlive it.
func (s *Storage) detachSlots() {
	s.spaces.Range(func(t, _ any) bool {
		t.(*slots).space.Release(s)
		return true
	})
}
