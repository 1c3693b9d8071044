package insertrpc

import (
	"hash/maphash"

	"vmcluster/lib/memory"
)

// senderDict gives references to the series a client has announced on a connection. A numbered series is found by its
// origin, any other one by two hashes of its key, one of them with a secret seed: with 128 bits neither
// chance nor an attacker can mix two series, and the keys need not be kept. It has no pointers per series.
type senderDict struct {
	maxSeries int
	budget    *memory.Budget // may be nil
	reserved  int64
	entries   []senderEntry // by reference
	origins   slots         // references of numbered series
	keys      slots         // indexes into keyed
	keyed     []keyedSeries
	seed      maphash.Seed
	next      uint32 // reference after the one looked up last: senders repeat their order
	nextKeyed uint32 // the same for keyed
}

// senderEntry is a series, by reference.
type senderEntry struct {
	origin uint64 // space and number; 0 when it is not numbered
	last   uint64 // bits of the last value sent
}

// keyedSeries is a series without a number.
type keyedSeries struct {
	hash   uint64
	secret uint64
	ref    uint32
}

const (
	senderEntryBytes = 16
	keyedSeriesBytes = 24
	senderSlotBytes  = 4
	minSenderSlots   = 1 << 10
)

// slots is a hash table with open addressing; its length is a power of two. A slot has the index of an item + 1, which is less than the length,
// in its lower bits and a piece of the hash above, so that items of others need not be looked at; 0 is free.
type slots []uint32

func (s slots) put(hash uint64, index uint32) {
	mask := uint64(len(s) - 1)
	i := hash & mask
	for s[i] != 0 {
		i = (i + 1) & mask
	}
	s[i] = s.mark(hash) | (index + 1)
}

// mark returns the upper bits of the slot of a hash.
func (s slots) mark(hash uint64) uint32 { return uint32(hash>>32) &^ uint32(len(s)-1) }

// find returns the index of the item with the given hash for which equal holds.
func (s slots) find(hash uint64, equal func(index uint32) bool) (index uint32, ok bool) {
	if len(s) == 0 {
		return 0, false
	}
	mask, mark := uint32(len(s)-1), s.mark(hash)
	for i := uint32(hash) & mask; s[i] != 0; i = (i + 1) & mask {
		if v := s[i]; (v^mark)&^mask == 0 && equal(v&mask-1) {
			return v&mask - 1, true
		}
	}
	return 0, false
}

func newSenderDict(maxSeries int, budget *memory.Budget) *senderDict {
	return &senderDict{maxSeries: maxSeries, budget: budget, seed: maphash.MakeSeed()}
}

// reset forgets all series. Large tables are given back.
func (d *senderDict) reset() {
	d.entries, d.keyed, d.next, d.nextKeyed = d.entries[:0], d.keyed[:0], 0, 0
	if len(d.origins)+len(d.keys) > 16*minSenderSlots {
		d.free()
		return
	}
	clear(d.origins)
	clear(d.keys)
}

func (d *senderDict) free() {
	if d.budget != nil {
		d.budget.Release(d.reserved)
	}
	d.reserved, d.entries, d.origins, d.keys, d.keyed = 0, nil, nil, nil, nil
}

// full reports whether the table can take no more series.
func (d *senderDict) full() bool { return len(d.entries) >= d.maxSeries }

// lookupOrigin returns the reference of a numbered series, added when it is new. When there is no memory
// for more, it returns ok = false and the dictionary must be reset before the next request; the first
// table is always given. Origin is not 0 and never that of another series.
func (d *senderDict) lookupOrigin(origin uint64) (ref uint32, isNew, ok bool) {
	if ref = d.next; int(ref) < len(d.entries) && d.entries[ref].origin == origin {
		d.next++
		return ref, false, true
	}
	hash := spread(origin)
	if ref, ok = d.origins.find(hash, func(i uint32) bool { return d.entries[i].origin == origin }); ok {
		d.next = ref + 1
		return ref, false, true
	}
	if !d.growOrigins() || !d.growEntries() {
		return 0, false, false
	}
	ref = d.add(origin)
	d.origins.put(hash, ref)
	return ref, true, true
}

// spread makes a hash of an origin. Neighbours need not stay neighbours: the order of senders is met by next.
func spread(origin uint64) uint64 {
	origin *= 0x9e3779b97f4a7c15
	return origin ^ origin>>32
}

// lookupKey is lookupOrigin for a series without a number.
func (d *senderDict) lookupKey(hash uint64, key []byte) (ref uint32, isNew, ok bool) {
	secret := maphash.Bytes(d.seed, key)
	if i := d.nextKeyed; int(i) < len(d.keyed) && d.keyed[i].hash == hash && d.keyed[i].secret == secret {
		return d.found(i), false, true
	}
	if i, ok := d.keys.find(hash, func(i uint32) bool { return d.keyed[i].hash == hash && d.keyed[i].secret == secret }); ok {
		return d.found(i), false, true
	}
	if !d.growKeys() || !d.growEntries() {
		return 0, false, false
	}
	ref = d.add(0)
	d.keys.put(hash, uint32(len(d.keyed)))
	d.keyed = append(d.keyed, keyedSeries{hash: hash, secret: secret, ref: ref})
	d.nextKeyed = uint32(len(d.keyed))
	return ref, true, true
}

func (d *senderDict) found(keyed uint32) (ref uint32) {
	d.nextKeyed = keyed + 1
	ref = d.keyed[keyed].ref
	d.next = ref + 1
	return ref
}

func (d *senderDict) add(origin uint64) (ref uint32) {
	ref = uint32(len(d.entries))
	d.entries = append(d.entries, senderEntry{origin: origin})
	d.next = ref + 1
	return ref
}

// growEntries makes room for one more entry.
func (d *senderDict) growEntries() bool {
	n := cap(d.entries)
	if len(d.entries) < n {
		return true
	}
	more := max(n, minSenderSlots)
	if !d.reserve(int64(more)*senderEntryBytes, n == 0) {
		return false
	}
	d.entries = append(make([]senderEntry, 0, n+more), d.entries...)
	return true
}

// growOrigins makes room for one more numbered series.
func (d *senderDict) growOrigins() bool {
	numbered := len(d.entries) - len(d.keyed)
	if numbered*4 < len(d.origins)*3 {
		return true
	}
	n := max(minSenderSlots, 2*len(d.origins))
	if !d.reserve(int64(n-len(d.origins))*senderSlotBytes, len(d.origins) == 0) {
		return numbered*8 < len(d.origins)*7
	}
	d.origins = make(slots, n)
	for ref := range d.entries {
		if origin := d.entries[ref].origin; origin != 0 {
			d.origins.put(spread(origin), uint32(ref))
		}
	}
	return true
}

// growKeys makes room for one more series without a number.
func (d *senderDict) growKeys() bool {
	if len(d.keyed)*4 < len(d.keys)*3 {
		return true
	}
	n := max(minSenderSlots, 2*len(d.keys))
	if !d.reserve(int64(n-len(d.keys))*(senderSlotBytes+keyedSeriesBytes), len(d.keys) == 0) {
		return len(d.keyed)*8 < len(d.keys)*7
	}
	d.keys = make(slots, n)
	d.keyed = append(make([]keyedSeries, 0, n), d.keyed...)
	for i := range d.keyed {
		d.keys.put(d.keyed[i].hash, uint32(i))
	}
	return true
}

func (d *senderDict) reserve(n int64, force bool) bool {
	if d.budget != nil && force {
		d.budget.ForceReserve(n)
	} else if d.budget != nil && d.budget.Reserve(n, "series announced to storage nodes") != nil {
		return false
	}
	d.reserved += n
	return true
}
