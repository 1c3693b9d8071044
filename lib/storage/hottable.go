package storage

import (
	"sync"

	"vmcluster/lib/storage/internal/partition"
)

const (
	hotShards   = 16
	hotMinSlots = 64
)

// hotKey is the identity of a series in a month: the hash that comes with the
// batch, and a hash with a secret of this process into which the month is mixed.
type hotKey struct{ first, second uint64 }

func newHotKey(first, second uint64, m partition.Month) hotKey {
	return hotKey{first: first, second: second + uint64(m)*0x9e3779b97f4a7c15}
}

// hotTable maps series to their ids in a partition. It holds the series of the current and of the
// previous period between rotations. Its user locks it once per batch.
type hotTable struct {
	sync.RWMutex
	current, previous [hotShards]hotShard
}

type hotSlot struct {
	key hotKey
	id  uint32
	set bool
}

// hotShard is an open-addressing hash table. The zero value is empty.
type hotShard struct {
	slots []hotSlot // a power of 2, or none
	count int
}

func (k hotKey) shard() uint64 { return k.second >> 60 }

// get returns the id of a series; fresh means that it need not be put again.
func (t *hotTable) get(k hotKey) (id uint32, ok, fresh bool) {
	if id, ok = t.current[k.shard()].get(k); ok {
		return id, true, true
	}
	id, ok = t.previous[k.shard()].get(k)
	return id, ok, false
}

func (t *hotTable) put(k hotKey, id uint32) { t.current[k.shard()].put(k, id) }

// rotate begins a new period: what was not used for a whole one is forgotten. The memory of the new one is got before the
// lock is taken, since that takes a while with millions of series. There is one call at a time.
func (t *hotTable) rotate() {
	var next [hotShards]hotShard
	for i, n := range t.nextSizes() {
		if n > 0 {
			next[i].slots = make([]hotSlot, n)
		}
	}
	t.Lock()
	defer t.Unlock()
	t.previous, t.current = t.current, next
}

// nextSizes returns the slots which the shards of the next period begin with.
func (t *hotTable) nextSizes() (sizes [hotShards]int) {
	t.RLock()
	defer t.RUnlock()
	for i := range t.current {
		n := len(t.current[i].slots)
		if n > hotMinSlots && t.current[i].count*4 < n {
			n /= 2
		}
		sizes[i] = n
	}
	return sizes
}

func (t *hotTable) clear() {
	t.Lock()
	defer t.Unlock()
	t.current, t.previous = [hotShards]hotShard{}, [hotShards]hotShard{}
}

// entries returns how many series are known; one that was used in both periods counts twice.
func (t *hotTable) entries() int {
	t.RLock()
	defer t.RUnlock()
	n := 0
	for i := range t.current {
		n += t.current[i].count + t.previous[i].count
	}
	return n
}

func (t *hotTable) sizeBytes() int {
	t.RLock()
	defer t.RUnlock()
	n := 0
	for i := range t.current {
		n += 24 * (len(t.current[i].slots) + len(t.previous[i].slots))
	}
	return n
}

func (s *hotShard) get(k hotKey) (uint32, bool) {
	if s.count == 0 {
		return 0, false
	}
	mask := uint64(len(s.slots) - 1)
	for i := k.second & mask; s.slots[i].set; i = (i + 1) & mask {
		if s.slots[i].key == k {
			return s.slots[i].id, true
		}
	}
	return 0, false
}

func (s *hotShard) put(k hotKey, id uint32) {
	if s.count*4 >= len(s.slots)*3 {
		old := s.slots
		s.slots = make([]hotSlot, max(hotMinSlots, 2*len(old)))
		s.count = 0
		for i := range old {
			if old[i].set {
				s.insert(old[i].key, old[i].id)
			}
		}
	}
	s.insert(k, id)
}

func (s *hotShard) insert(k hotKey, id uint32) {
	mask := uint64(len(s.slots) - 1)
	i := k.second & mask
	for s.slots[i].set {
		if s.slots[i].key == k {
			s.slots[i].id = id
			return
		}
		i = (i + 1) & mask
	}
	s.slots[i] = hotSlot{key: k, id: id, set: true}
	s.count++
}
