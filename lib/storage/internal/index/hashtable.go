package index

// hashTable maps 32-bit hashes to numbers with linear probing. Several entries may have the same
// hash. The zero value is empty. Numbers must be below 2^32-1.
type hashTable struct {
	slots []hashSlot // a power of two of them
	count int
}

type hashSlot struct {
	hash  uint32
	value uint32 // number + 1; 0 when free
}

// find returns the number with the given hash for which equal holds.
func (t *hashTable) find(hash uint32, equal func(uint32) bool) (uint32, bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	mask := uint32(len(t.slots) - 1)
	for i := hash & mask; t.slots[i].value != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s.hash == hash && equal(s.value-1) {
			return s.value - 1, true
		}
	}
	return 0, false
}

func (t *hashTable) sizeBytes() int64 { return int64(len(t.slots)) * 8 }

func (t *hashTable) insert(hash, number uint32) {
	if t.count*4 >= len(t.slots)*3 {
		t.grow()
	}
	t.put(hashSlot{hash, number + 1})
	t.count++
}

func (t *hashTable) put(s hashSlot) {
	mask := uint32(len(t.slots) - 1)
	i := s.hash & mask
	for t.slots[i].value != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *hashTable) grow() {
	old := t.slots
	t.slots = make([]hashSlot, max(16, 2*len(old)))
	for _, s := range old {
		if s.value != 0 {
			t.put(s)
		}
	}
}
