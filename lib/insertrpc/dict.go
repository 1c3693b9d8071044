package insertrpc

import (
	"hash/maphash"

	"vmcluster/lib/memory"
)

// senderDict numbers the series a client has announced on a connection. It finds
// them by two hashes of the key, one of them with a secret seed: with 128 bits
// neither chance nor an attacker can mix two series, and the keys need not be kept.
type senderDict struct {
	maxSeries int
	budget    *memory.Budget // may be nil
	reserved  int64
	seed      maphash.Seed
	slots     []uint32 // open addressing by hash: number of a series + 1; 0 is free
	entries   []senderEntry
	next      uint32 // number after the one looked up last: senders repeat their order
}

// senderEntry is a series, by number.
type senderEntry struct {
	hash   uint64
	secret uint64
	last   uint64 // bits of the last value sent
}

const (
	senderEntryBytes = 24
	senderSlotBytes  = 4
	minSenderSlots   = 1 << 10
)

func newSenderDict(maxSeries int, budget *memory.Budget) *senderDict {
	return &senderDict{maxSeries: maxSeries, budget: budget, seed: maphash.MakeSeed()}
}

// reset forgets all series. A large table is given back.
func (d *senderDict) reset() {
	d.entries, d.next = d.entries[:0], 0
	if len(d.slots) > 16*minSenderSlots {
		d.free()
		return
	}
	clear(d.slots)
}

func (d *senderDict) free() {
	if d.budget != nil {
		d.budget.Release(d.reserved)
	}
	d.reserved, d.slots, d.entries = 0, nil, nil
}

// full reports whether the table can take no more series.
func (d *senderDict) full() bool { return len(d.entries) >= d.maxSeries }

// lookup returns the number of the series, added when it is new. When there is
// no memory for more, it returns ok = false and the dictionary must be reset
// before the next request; the first table is always given.
func (d *senderDict) lookup(hash uint64, key []byte) (ref uint32, isNew, ok bool) {
	secret := maphash.Bytes(d.seed, key)
	if ref = d.next; int(ref) < len(d.entries) {
		if e := &d.entries[ref]; e.hash == hash && e.secret == secret {
			d.next++
			return ref, false, true
		}
	}
	if len(d.entries)*4 >= len(d.slots)*3 && !d.grow() && len(d.entries)*8 >= len(d.slots)*7 {
		return 0, false, false
	}
	mask := uint64(len(d.slots) - 1)
	i := hash & mask
	for ; d.slots[i] != 0; i = (i + 1) & mask {
		ref = d.slots[i] - 1
		if e := &d.entries[ref]; e.hash == hash && e.secret == secret {
			d.next = ref + 1
			return ref, false, true
		}
	}
	ref = uint32(len(d.entries))
	d.slots[i] = ref + 1
	d.entries = append(d.entries, senderEntry{hash: hash, secret: secret})
	d.next = ref + 1
	return ref, true, true
}

// grow doubles the table and the room for entries.
func (d *senderDict) grow() bool {
	n := max(minSenderSlots, 2*len(d.slots))
	more := int64(n-len(d.slots)) * (senderSlotBytes + senderEntryBytes)
	if d.budget != nil && len(d.slots) > 0 && d.budget.Reserve(more, "series announced to storage nodes") != nil {
		return false
	}
	if d.budget != nil && len(d.slots) == 0 {
		d.budget.ForceReserve(more)
	}
	d.reserved += more
	d.slots = make([]uint32, n)
	d.entries = append(make([]senderEntry, 0, n), d.entries...)
	mask := uint64(n - 1)
	for ref := range d.entries {
		i := d.entries[ref].hash & mask
		for d.slots[i] != 0 {
			i = (i + 1) & mask
		}
		d.slots[i] = uint32(ref) + 1
	}
	return true
}

// receiverDict holds the series a client has announced, by number. It has no
// pointers per series for the garbage collector to follow.
type receiverDict struct {
	entries []receiverEntry
	chunks  [][]byte // keys
	bytes   int64    // memory held
	budget  *memory.Budget
}

type receiverEntry struct {
	hash  uint64
	last  uint64 // bits of the last value received
	chunk uint32
	start uint32
	size  uint32
}

const (
	receiverEntryBytes = 32
	keyChunkBytes      = 256 << 10
)

func (d *receiverDict) reset() {
	if d.budget != nil {
		d.budget.Release(d.bytes)
	}
	d.entries, d.chunks, d.bytes = nil, nil, 0
}

// add takes the next series. The key is copied.
func (d *receiverDict) add(hash uint64, key []byte) {
	n := len(d.chunks)
	if n == 0 || cap(d.chunks[n-1])-len(d.chunks[n-1]) < len(key) {
		size := min(keyChunkBytes, max(1<<10, d.keyBytes()))
		d.chunks = append(d.chunks, make([]byte, 0, max(size, len(key))))
		d.account(int64(cap(d.chunks[n])))
		n++
	}
	chunk := d.chunks[n-1]
	e := receiverEntry{hash: hash, chunk: uint32(n - 1), start: uint32(len(chunk)), size: uint32(len(key))}
	d.chunks[n-1] = append(chunk, key...)
	before := cap(d.entries)
	d.entries = append(d.entries, e)
	d.account(int64(cap(d.entries)-before) * receiverEntryBytes)
}

// keyBytes returns the size of the newest chunk times two, so that chunks grow
// with the dictionary and a connection with few series stays small.
func (d *receiverDict) keyBytes() int {
	if len(d.chunks) == 0 {
		return 0
	}
	return 2 * cap(d.chunks[len(d.chunks)-1])
}

func (d *receiverDict) account(n int64) {
	d.bytes += n
	if d.budget != nil {
		d.budget.ForceReserve(n)
	}
}

func (d *receiverDict) key(e *receiverEntry) []byte {
	return d.chunks[e.chunk][e.start : e.start+e.size]
}
