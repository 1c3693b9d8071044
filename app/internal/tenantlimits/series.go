package tenantlimits

import (
	"fmt"
	"maps"
	"math/bits"
	"sync"
	"sync/atomic"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/tenantstat"
)

const (
	// A series is active from its first sample on, until none has come in activeSlots slots of the clock and what is left of the current one.
	slotSeconds = 300
	activeSlots = 12
	minEntries  = 64
	setBytes    = 256 // of a set besides its entries, and of its place in the map
)

// seriesSet is the active series of a tenant. An entry is 56 bits of the hash of a series and the slot, modulo 256, in which its last
// sample came; 0 is none. Two series of equal 56 bits count as one.
type seriesSet struct {
	budget *memory.Budget // may be nil

	mu      sync.RWMutex // shared to look and to renew slots, which is atomic
	entries []atomic.Uint64
	count   int
	slot    int64 // of the last sweep, and so of entries which are put
	bytes   int64 // reserved
	ended   bool  // it is in use no more
}

const slotMask = 0xff

// fingerprint makes the hash of a series an entry without a slot, other than 0.
func fingerprint(hash uint64) uint64 { return max(hash&^slotMask, slotMask+1) }

// find returns the place of a series, or where it would be. There are entries.
func (s *seriesSet) find(print uint64) (place int, ok bool) {
	mask := len(s.entries) - 1
	place = int(print >> (64 - bits.Len(uint(mask))))
	for {
		e := s.entries[place].Load()
		if e == 0 || e&^slotMask == print {
			return place, e != 0
		}
		place = (place + 1) & mask
	}
}

// renew notes a sample of a series; false when the set does not have it. The caller holds the lock, at least shared.
func (s *seriesSet) renew(print uint64) bool {
	if s.count == 0 {
		return false
	}
	place, ok := s.find(print)
	if !ok {
		return false
	}
	if e := print | uint64(s.slot)&slotMask; s.entries[place].Load() != e {
		s.entries[place].Store(e)
	}
	return true
}

// putLocked adds a series which the set does not have; false when there is no memory for it.
func (s *seriesSet) putLocked(print uint64) bool {
	if s.count*4 >= len(s.entries)*3 && !s.growLocked(max(minEntries, 2*len(s.entries))) {
		return false
	}
	place, _ := s.find(print)
	s.entries[place].Store(print | uint64(s.slot)&slotMask)
	s.count++
	return true
}

func (s *seriesSet) growLocked(n int) bool {
	size := setBytes + 8*int64(n)
	if s.budget != nil {
		if s.budget.Reserve(size-s.bytes, "the active series of a tenant") != nil {
			return false
		}
	}
	s.bytes = size
	s.rebuildLocked(n, func(uint64) bool { return true })
	return true
}

// rebuildLocked puts the entries which stay into a table of another size.
func (s *seriesSet) rebuildLocked(n int, stays func(entry uint64) bool) {
	old := s.entries
	s.entries, s.count = make([]atomic.Uint64, n), 0
	for i := range old {
		if e := old[i].Load(); e != 0 && stays(e) {
			place, _ := s.find(e &^ slotMask)
			s.entries[place].Store(e)
			s.count++
		}
	}
}

// sweep forgets the series which are active no more, once in a slot. A clock which goes back changes nothing.
func (s *seriesSet) sweep(slot int64) {
	s.mu.RLock()
	done := slot <= s.slot
	s.mu.RUnlock()
	if done {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	passed := slot - s.slot
	if passed <= 0 {
		return
	}
	s.slot = slot
	left := 0
	stays := func(e uint64) bool {
		age := uint8(slot) - uint8(e) // slots are told apart by 8 bits
		return passed <= activeSlots && age <= activeSlots
	}
	for i := range s.entries {
		if e := s.entries[i].Load(); e != 0 && stays(e) {
			left++
		}
	}
	if left == s.count {
		return
	}
	n := len(s.entries)
	for n > minEntries && left*3 < n {
		n /= 2
	}
	if s.budget != nil {
		s.budget.Release(s.bytes - setBytes - 8*int64(n))
	}
	s.bytes = setBytes + 8*int64(n)
	s.rebuildLocked(n, stays)
}

// end gives the memory back, if force is set or there are no series; false when there are.
func (s *seriesSet) end(force bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count > 0 && !force {
		return false
	}
	if s.budget != nil {
		s.budget.Release(s.bytes)
	}
	s.entries, s.count, s.bytes, s.ended = nil, 0, 0, true
	return true
}

func (s *seriesSet) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.count
}

// admit notes samples of those series of a batch which the indexes name, all when they are nil, and returns the indexes of those which would be more
// than limit. For those in uncounted there was no memory.
func (s *seriesSet) admit(b *model.Batch, indexes []uint32, limit int) (refused []uint32, uncounted int) {
	var news []uint32
	s.mu.RLock()
	full := s.count >= limit
	if indexes == nil {
		for i := range uint32(b.Len()) {
			if !s.renew(fingerprint(b.Hash(int(i)))) {
				news = append(news, i)
			}
		}
	}
	for _, i := range indexes {
		if !s.renew(fingerprint(b.Hash(int(i)))) {
			news = append(news, i)
		}
	}
	s.mu.RUnlock()
	if len(news) == 0 || full {
		return news, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended { // just now; the next batch starts another set
		return nil, 0
	}
	refused = news[:0]
	for _, i := range news {
		print := fingerprint(b.Hash(int(i)))
		switch {
		case s.renew(print):
		case s.count >= limit:
			refused = append(refused, i)
		case !s.putLocked(print):
			uncounted++
		}
	}
	return refused, uncounted
}

// LimitsSeries reports whether any tenant has a limit of active series.
func (l *Limiter) LimitsSeries() bool { return l != nil && l.current.Load().series }

// Excess is what a limit of active series keeps out of a batch.
type Excess struct {
	Series []uint32 // indexes in the batch, ascending; the others may come in
	Drop   bool     // the sender is not to be told by an error
	Err    error    // why, of kind Overloaded
}

// AdmitSeries notes samples of the series of a tenant in a batch: of those which the indexes name, or of all when they are nil.
func (l *Limiter) AdmitSeries(t model.TenantID, b *model.Batch, indexes []uint32) Excess {
	if l == nil {
		return Excess{}
	}
	limits := l.current.Load().of(t)
	if limits.ActiveSeries == 0 {
		return Excess{}
	}
	s := l.seriesOf(t)
	s.sweep(l.slot())
	refused, uncounted := s.admit(b, indexes, limits.ActiveSeries)
	if uncounted > 0 {
		l.uncounted.Add(uncounted)
		l.warn.Warnf("series of tenant %s come in beside active_series=%s, since there is no memory to remember them; raise -memory.allowedPercent, or lower the limits in -tenantLimits.config",
			t, fmt.Sprint(limits.ActiveSeries))
	}
	if len(refused) == 0 {
		return Excess{}
	}
	l.series.Inc()
	e := Excess{Series: refused, Drop: limits.DropExcessSeries}
	e.Err = errkind.New(errkind.Overloaded, "cannot take samples of %d new series of tenant %s: it has active_series=%d already, those with samples within the last hour, whose samples are stored; "+
		"send fewer series, or raise it in -tenantLimits.config: %w", len(refused), t, limits.ActiveSeries, errLimit)
	if e.Drop {
		l.warn.Warnf("leaving samples out, as excess_series=drop says: %s", e.Err)
	}
	return e
}

func (l *Limiter) slot() int64 { return l.o.Now().Unix() / slotSeconds }

func (l *Limiter) seriesOf(t model.TenantID) *seriesSet {
	l.sets.RLock()
	s := l.sets.tenants[t]
	l.sets.RUnlock()
	if s != nil {
		return s
	}
	l.sets.Lock()
	defer l.sets.Unlock()
	if s = l.sets.tenants[t]; s == nil {
		s = &seriesSet{budget: l.o.Budget}
		l.sets.tenants[t] = s
	}
	return s
}

// sweepSeries forgets what is active no more, and tenants which have no series or no limit any more.
func (l *Limiter) sweepSeries() {
	current, slot := l.current.Load(), l.slot()
	l.sets.RLock()
	sets := maps.Clone(l.sets.tenants)
	l.sets.RUnlock()
	for t, s := range sets {
		s.sweep(slot)
		if s.end(current.of(t).ActiveSeries == 0) {
			l.sets.Lock()
			delete(l.sets.tenants, t)
			l.sets.Unlock()
		}
	}
}

// endSeries gives all memory back.
func (l *Limiter) endSeries() {
	l.sets.Lock()
	defer l.sets.Unlock()
	for _, s := range l.sets.tenants {
		s.end(true)
	}
	clear(l.sets.tenants)
}

// collectSeries writes how many active series the tenants have which have a limit.
func (l *Limiter) collectSeries(w *metrics.Writer) {
	values := map[model.TenantID]float64{}
	l.sets.RLock()
	for t, s := range l.sets.tenants {
		values[t] = float64(s.len())
	}
	l.sets.RUnlock()
	tenantstat.WriteGauges(w, "vm_tenant_limit_active_series", values)
}
