package protoparser

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// seriesID is a hash, with secret seeds, of the bytes of a series' labels together with all else that decides what
// becomes of them. With 128 bits neither chance nor an attacker can mix two series.
type seriesID [2]uint64

// numbers gives a number to each series which has been stored, and finds it by the bytes of its labels.
type numbers struct {
	seeds        [4]maphash.Seed // two of labels, two of circumstances
	maxSeries    int             // 0 turns numbering off
	renewAfter   time.Duration   // series which are gone leave then
	crowdedAfter time.Duration   // the same when there is no room for new ones
	budget       *memory.Budget  // may be nil
	now          func() time.Time
	hits         *metrics.Counter
	misses       *metrics.Counter
	resets       *metrics.Counter

	mu struct {
		sync.Mutex
		current *generation
		relabel Relabeling // of generations to come, and of what gets no number
	}
}

// droppedHash stands in a table for the hash of a series which relabelling drops. A series whose key has this hash gets no number.
const droppedHash = 0

const (
	entryBytes = int64(unsafe.Sizeof(numbered{}))
	slotBytes  = 4
	// seriesBytes is what a series takes in the table at most.
	seriesBytes   = entryBytes + slotBytes*8/3
	chunkSeries   = 1 << chunkBits
	chunkBits     = 12
	minSlots      = 2 * chunkSeries
	defaultSeries = 1 << 20
	mostSeries    = 1 << 28
	// budgetShare is the part of the memory budget which the table may have.
	budgetShare = 5
)

// newNumbers returns a table with room for as many series as the budget permits.
func newNumbers(budget *memory.Budget, set *metrics.Set) *numbers {
	n := &numbers{maxSeries: defaultSeries, renewAfter: 4 * time.Hour, crowdedAfter: 15 * time.Minute, budget: budget, now: time.Now}
	for i := range n.seeds {
		n.seeds[i] = maphash.MakeSeed()
	}
	if budget != nil {
		n.maxSeries = int(min(max(budget.Limit()/budgetShare/seriesBytes, chunkSeries), mostSeries))
	}
	const labels = `{type="insert/series"}`
	n.hits, n.misses = &metrics.Counter{}, set.Counter("vm_cache_misses_total"+labels)
	n.resets = set.Counter("vm_cache_resets_total" + labels)
	set.CounterFunc("vm_cache_requests_total"+labels, func() float64 { return float64(n.hits.Get() + n.misses.Get()) })
	set.Gauge("vm_cache_entries"+labels, func() float64 { return float64(n.peek().len()) })
	set.Gauge("vm_cache_size_bytes"+labels, func() float64 { return float64(n.peek().bytes()) })
	set.Gauge("vm_cache_size_max_bytes"+labels, func() float64 { return float64(int64(n.maxSeries) * seriesBytes) })
	return n
}

// circumstances returns what the identifiers of a request's series are combined with.
func (n *numbers) circumstances(req *Request, format string) seriesID {
	b := req.Tenant.AppendTo(make([]byte, 0, 128))
	if req.TenantFromLabels {
		b = append(b, 1)
	}
	appendText := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	appendText(format)
	for _, l := range req.ExtraLabels {
		appendText(l.Name)
		appendText(l.Value)
	}
	return seriesID{maphash.Bytes(n.seeds[2], b), maphash.Bytes(n.seeds[3], b)}
}

// half returns one of the two halves of the identifier of a series.
func (n *numbers) half(i int, raw []byte, circumstances *seriesID) uint64 {
	return maphash.Bytes(n.seeds[i], raw) ^ circumstances[i]
}

// peek returns the current generation, nil when there is none yet.
func (n *numbers) peek() *generation {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.current
}

// acquire returns the generation for one batch, which release gives back; nil when numbering is off.
func (n *numbers) acquire() *generation {
	if n.maxSeries == 0 {
		return nil
	}
	now := n.now()
	n.mu.Lock()
	old := n.mu.current
	if old == nil || n.isWorn(old, now) {
		n.mu.current = newGeneration(n.maxSeries, n.budget, now)
		n.mu.current.relabel = n.mu.relabel
	} else {
		old = nil
	}
	g := n.mu.current
	g.users++
	unused := old != nil && old.users == 0
	n.mu.Unlock()
	if old != nil {
		n.resets.Inc()
	}
	if unused {
		old.close()
	}
	return g
}

func (n *numbers) relabeling() Relabeling {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.relabel
}

// setRelabeling ends the current generation, since what it knows of series holds no more.
func (n *numbers) setRelabeling(f Relabeling) {
	n.mu.Lock()
	n.mu.relabel = f
	old := n.mu.current
	n.mu.current = nil
	unused := old != nil && old.users == 0
	n.mu.Unlock()
	if old != nil {
		n.resets.Inc()
	}
	if unused {
		old.close()
	}
}

func (n *numbers) isWorn(g *generation, now time.Time) bool {
	age := now.Sub(g.born)
	return age >= n.renewAfter || age >= n.crowdedAfter && g.crowded.Load()
}

// release ends the use of a generation by a batch.
func (n *numbers) release(g *generation) {
	n.mu.Lock()
	g.users--
	unused := g.users == 0 && g != n.mu.current
	n.mu.Unlock()
	if unused {
		g.close()
	}
}

// generation is one numbering: a space and the table of its series. Finding takes no lock.
type generation struct {
	space   *model.Space
	relabel Relabeling // nil: none
	born    time.Time
	budget  *memory.Budget
	users   int         // batches; guarded by the lock of numbers
	crowded atomic.Bool // there was no room for a series
	count   atomic.Uint32
	slots   atomic.Pointer[slotTable]
	chunks  []atomic.Pointer[chunk] // by number

	mu struct {
		sync.Mutex
		reserved int64
	}
}

type chunk [chunkSeries]numbered

// numbered is a series, by number.
type numbered struct {
	id   seriesID
	hash uint64 // of its key
}

func newGeneration(maxSeries int, budget *memory.Budget, now time.Time) *generation {
	g := &generation{space: model.NewSpace(), born: now, budget: budget}
	g.chunks = make([]atomic.Pointer[chunk], (maxSeries+chunkSeries-1)/chunkSeries)
	return g
}

// close ends the space when no batch uses it any more.
func (g *generation) close() {
	g.space.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.budget != nil {
		g.budget.Release(g.mu.reserved)
	}
	g.mu.reserved = 0
}

func (g *generation) len() int {
	if g == nil {
		return 0
	}
	return int(g.count.Load())
}

func (g *generation) bytes() int64 {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.reserved
}

func (g *generation) at(number uint32) *numbered {
	return &g.chunks[number>>chunkBits].Load()[number%chunkSeries]
}

// guess returns what is known of the series with the given number if it is the one with the given first half of an
// identifier, or nil. Half is enough here, since one series is asked about and not millions: a series which is not
// the expected one is taken for it with a probability of 2^-64.
func (g *generation) guess(number uint32, half uint64) *numbered {
	if number >= g.count.Load() {
		return nil
	}
	if e := g.at(number); e.id[0] == half {
		return e
	}
	return nil
}

// find returns the number of a series and what is known of it, or nil.
func (g *generation) find(id *seriesID) (uint32, *numbered) {
	p := g.slots.Load()
	if p == nil {
		return 0, nil
	}
	slots := *p
	numbers := uint32(len(slots) - 1)
	mark := slots.mark(id)
	for i := uint32(id[0]) & numbers; ; i = (i + 1) & numbers {
		v := atomic.LoadUint32(&slots[i])
		if v == 0 {
			return 0, nil
		}
		if (v^mark)&^numbers != 0 {
			continue
		}
		if e := g.at(v&numbers - 1); e.id == *id {
			return v&numbers - 1, e
		}
	}
}

// slotTable finds numbers by identifier with open addressing; its length is a power of two. A slot has the number + 1, which is less than
// the length, in its lower bits, and a piece of the identifier above, so that nobody looks at the entries of others: each would be a
// cache miss. 0 is free.
type slotTable []uint32

// mark returns the upper bits of the slot of an identifier.
func (t slotTable) mark(id *seriesID) uint32 { return uint32(id[0]>>32) &^ uint32(len(t)-1) }

// add returns the number of a series, given to it now unless it has one; false when there is no room.
func (g *generation) add(id *seriesID, hash uint64) (uint32, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if number, e := g.find(id); e != nil {
		return number, true // another request was faster
	}
	number := g.count.Load()
	if !g.makeRoomLocked(int(number)) {
		g.crowded.Store(true)
		return 0, false
	}
	*g.at(number) = numbered{id: *id, hash: hash}
	g.count.Store(number + 1)
	g.slots.Load().put(id, number)
	return number, true
}

// put publishes a number, after all that is found through it has been written.
func (t slotTable) put(id *seriesID, number uint32) {
	mask := uint32(len(t) - 1)
	i := uint32(id[0]) & mask
	for t[i] != 0 {
		i = (i + 1) & mask
	}
	atomic.StoreUint32(&t[i], t.mark(id)|(number+1))
}

// makeRoomLocked makes room for the n+1st series.
func (g *generation) makeRoomLocked(n int) bool {
	if n/chunkSeries >= len(g.chunks) {
		return false
	}
	if old := g.slots.Load(); old == nil || n*4 >= len(*old)*3 {
		if !g.growLocked(n) && (old == nil || n*8 >= len(*old)*7) {
			return false
		}
	}
	c := &g.chunks[n/chunkSeries]
	if c.Load() == nil {
		if !g.reserveLocked(chunkSeries * entryBytes) {
			return false
		}
		c.Store(new(chunk))
	}
	return true
}

// growLocked doubles the hash table, which has n series.
func (g *generation) growLocked(n int) bool {
	oldSize, size := 0, minSlots
	if old := g.slots.Load(); old != nil {
		oldSize, size = len(*old), 2*len(*old)
	}
	if !g.reserveLocked(int64(size) * slotBytes) {
		return false
	}
	slots := make(slotTable, size)
	for number := range uint32(n) {
		slots.put(&g.at(number).id, number)
	}
	g.slots.Store(&slots)
	g.giveBackLocked(int64(oldSize) * slotBytes)
	return true
}

// reserveLocked takes memory from the budget unless it is nearly used up: others need what is left more.
func (g *generation) reserveLocked(n int64) bool {
	if b := g.budget; b != nil && (b.Used()+n > b.Limit()/8*7 || b.Reserve(n, "numbers of series") != nil) {
		return false
	}
	g.mu.reserved += n
	return true
}

func (g *generation) giveBackLocked(n int64) {
	if g.budget != nil {
		g.budget.Release(n)
	}
	g.mu.reserved -= n
}
