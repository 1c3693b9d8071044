package index

import (
	"bytes"
	"context"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

// Options are what an index is made of.
type Options struct {
	FS      vfs.FS
	Dir     string // created when missing; nothing else may be in it
	Logger  *logger.Logger
	Metrics *metrics.Set // may be shared between indexes
	// Budget bounds the memory of cached filters; nil lets them take 16 MiB.
	Budget *memory.Budget
}

// Index maps series to ids. All methods are safe for concurrent use; none may be called after Close.
type Index struct {
	o    Options
	dec  *zstd.Decoder
	days dayTable

	matches *matchCache
	keys    *keyCache
	rows    *rowCache

	mergeMu  sync.Mutex
	flushMu  sync.Mutex
	commitMu sync.Mutex // changes of the manifest and of the state
	nextSeq  atomic.Uint64
	orphans  []string // paths of files which no manifest lists for sure, guarded by commitMu
	listed   []int32  // days in the manifest, guarded by commitMu

	manifestSize, deletedSize atomic.Int64

	reg struct {
		sync.Mutex
		nextID uint64
		labels []model.Label // scratch of Restore
	}
	mu struct {
		sync.RWMutex
		state *state
	}

	flushes, merges, corruptFiles *metrics.Counter
}

// Open opens the index in a directory, or starts an empty one. Damaged files are set aside and reported, and the
// rest is served; see rebuildDays and openSegments for what is lost.
func Open(o Options) (_ *Index, err error) {
	defer vfs.CatchFault(debug.SetPanicOnFault(true), &err)
	if err := vfs.MkdirAllDurable(o.FS, o.Dir); err != nil {
		return nil, err
	}
	ix := &Index{o: o, days: dayTable{fs: o.FS, dir: o.Dir, marks: o.Metrics.Counter(activeDaysName)}, matches: newMatchCache(o.Budget), keys: newKeyCache(o.Budget), rows: newRowCache(o.Budget)}
	ix.matches.use, ix.keys.use, ix.rows.use = newCacheUse(o.Metrics, FilterCacheName), newCacheUse(o.Metrics, KeyCacheName), newCacheUse(o.Metrics, RowCacheName)
	ix.flushes = o.Metrics.Counter("vm_index_flushes_total")
	ix.merges = o.Metrics.Counter("vm_index_merges_total")
	ix.corruptFiles = o.Metrics.Counter("vm_corrupt_index_total")
	m, changed, err := ix.loadManifest()
	if err != nil {
		return nil, err
	}
	if err := m.removeUnlisted(o.FS, o.Dir); err != nil {
		return nil, err
	}
	if ix.dec, err = newRowDecoder(); err != nil {
		return nil, err
	}
	ix.nextSeq.Store(m.nextSeq)
	st, err := ix.openSegments(&m, changed)
	if err != nil {
		ix.dec.Close()
		return nil, err
	}
	var damaged map[string]error
	if err = ix.loadDeleted(&m, st); err == nil {
		damaged, err = ix.days.load(m.days)
	}
	if err == nil {
		err = ix.rebuildDays(st, damaged)
	}
	if err != nil {
		ix.releaseSegments(st.segments)
		ix.dec.Close()
		return nil, err
	}
	ix.listed = m.days
	ix.reg.nextID = max(ix.reg.nextID, ix.days.end(), endOf(st.deleted))
	st.refs.Store(1)
	ix.mu.state = st // it takes over the references of openSegment
	return ix, nil
}

// checkEvery is the number of series or values after which a reader looks whether it was given up.
const checkEvery = 1024

// endOf returns a number above all ids of a set.
func endOf(ids *roaring.Bitmap) uint64 {
	if ids.IsEmpty() {
		return 0
	}
	return uint64(ids.Maximum()) + 1
}

// Close gives up all files. What was not flushed is lost.
func (ix *Index) Close() error {
	ix.mergeMu.Lock()
	defer ix.mergeMu.Unlock()
	ix.flushMu.Lock()
	defer ix.flushMu.Unlock()
	ix.mu.Lock()
	st := ix.mu.state
	ix.mu.state = nil
	ix.mu.Unlock()
	if st != nil {
		ix.release(st)
		ix.dec.Close()
	}
	return nil
}

// state is a snapshot of the sources. It holds one reference to each of its segments.
type state struct {
	head     *head
	frozen   []*head
	segments []*segment
	refs     atomic.Int32

	deleted     *roaring.Bitmap // never changed; not nil
	deletedName string          // of its file; empty when there is none
}

// with returns a state of other sources.
func (st *state) with(h *head, frozen []*head, segments []*segment) *state {
	return &state{head: h, frozen: frozen, segments: segments, deleted: st.deleted, deletedName: st.deletedName}
}

func (st *state) manifest(nextSeq uint64, days []int32) manifest {
	m := manifest{nextSeq: nextSeq, deleted: st.deletedName, days: days}
	for _, s := range st.segments {
		m.segments = append(m.segments, s.name())
	}
	return m
}

// acquire returns the current state; release gives it back.
func (ix *Index) acquire() *state {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	invariants.Check(ix.mu.state != nil, "index %q is used after Close", ix.o.Dir)
	ix.mu.state.refs.Add(1)
	return ix.mu.state
}

func (ix *Index) release(st *state) {
	if st.refs.Add(-1) == 0 {
		ix.releaseSegments(st.segments)
	}
}

func (ix *Index) releaseSegments(list []*segment) {
	for _, s := range list {
		if err := s.release(); err != nil {
			ix.o.Logger.Warnf("cannot give up index segment %q: %s; it is removed at the next start", s.path, err)
		}
	}
}

// setState replaces the state. The caller holds commitMu.
func (ix *Index) setState(st *state) {
	st.refs.Store(1)
	for _, s := range st.segments {
		s.acquire()
	}
	ix.mu.Lock()
	old := ix.mu.state
	ix.mu.state = st
	ix.mu.Unlock()
	ix.release(old)
}

// heads calls f with the heads of the state until it returns false.
func (st *state) heads(f func(h *head) bool) {
	if !f(st.head) {
		return
	}
	for _, h := range st.frozen {
		if !f(h) {
			return
		}
	}
}

// lookup returns the id of the series with the key that is not deleted.
func (st *state) lookup(hash uint64, key []byte) (id uint32, ok bool, err error) {
	if st.head != nil {
		st.heads(func(h *head) bool {
			id, ok = h.lookup(hash, key, st.deleted)
			return !ok
		})
	}
	for i := len(st.segments) - 1; i >= 0 && !ok && err == nil; i-- {
		id, ok, err = st.segments[i].lookup(hash, key, st.deleted)
	}
	return id, ok, err
}

func (st *state) appendKey(dst []byte, id uint32) (_ []byte, ok bool, err error) {
	for _, s := range st.segments {
		dst, ok, err = s.appendKey(dst, id)
		if ok || err != nil {
			return dst, ok, err
		}
	}
	st.heads(func(h *head) bool {
		dst, ok = h.appendKey(dst, id)
		return !ok
	})
	return dst, ok, nil
}

// Lookup returns the id of a canonical key. Hash is model.HashSeriesKey(key). After an error, of kind Corrupt, it is not known whether the series is
// there: nobody may go on as if it was not, since that could give one series two ids.
func (ix *Index) Lookup(hash uint64, key []byte) (id uint32, ok bool, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	st := ix.acquire()
	defer ix.release(st)
	return st.lookup(hash, key)
}

// Add returns the id of a canonical key, which it registers when it is new. Hash is
// model.HashSeriesKey(key). The registration is durable after the next Flush. An error is that of Lookup, and nothing is registered then.
func (ix *Index) Add(hash uint64, key []byte) (id uint32, created bool, err error) {
	invariants.Check(len(key) > model.TenantSize, "series key of %d bytes", len(key))
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	ix.reg.Lock()
	defer ix.reg.Unlock()
	st := ix.acquire()
	defer ix.release(st)
	if id, ok, err := st.lookup(hash, key); ok || err != nil {
		return id, false, err
	}
	invariants.Check(ix.reg.nextID < math.MaxUint32, "index %q is out of series ids", ix.o.Dir)
	id = uint32(ix.reg.nextID)
	ix.reg.nextID++
	st.head.add(hash, id, key)
	return id, true, nil
}

// Restore registers a key under the id it had before a crash. Keys may come in any order and more
// than once. A deleted id stays deleted. An error of kind Corrupt is about the key: it is malformed, or it or the id is already taken otherwise.
func (ix *Index) Restore(id uint32, key []byte) (err error) {
	ix.reg.Lock()
	defer ix.reg.Unlock()
	_, labels, err := model.ParseSeriesKey(ix.reg.labels[:0], key)
	clear(labels) // they alias the key
	ix.reg.labels = labels[:0]
	if err != nil {
		return err
	}
	if id == math.MaxUint32 {
		return errkind.New(errkind.Corrupt, "cannot restore %s: series id %d is too large", model.SeriesKeyString(key), id)
	}
	st := ix.acquire()
	defer ix.release(st)
	if st.isDeleted(id) { // Delete has reserved it
		return nil
	}
	have, ok, err := ix.keyOf(st, id)
	if err != nil {
		return errRestore(err)
	}
	if ok && bytes.Equal(have, key) {
		return nil
	}
	if ok {
		return errkind.New(errkind.Corrupt, "cannot restore series id %d as %s: it is already %s; log and index do not belong together",
			id, model.SeriesKeyString(key), model.SeriesKeyString(have))
	}
	hash := model.HashSeriesKey(key)
	other, ok, err := ix.Lookup(hash, key)
	if err != nil {
		return errRestore(err)
	}
	if ok {
		return errkind.New(errkind.Corrupt, "cannot restore series id %d as %s: that has already id %d; log and index do not belong together",
			id, model.SeriesKeyString(key), other)
	}
	ix.reg.nextID = max(ix.reg.nextID, uint64(id)+1)
	st.head.add(hash, id, key)
	return nil
}

// keyOf returns the key of a series.
func (ix *Index) keyOf(st *state, id uint32) (key []byte, ok bool, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	return st.appendKey(nil, id)
}

// errRestore is for an index which cannot be read. The log is not to blame, so the kind is not Corrupt.
func errRestore(cause error) error {
	return errkind.New(errkind.Internal, "cannot restore a series: %w", cause)
}

// MarkActive notes that the series has a sample on the day (days since 1970-01-01 UTC). It is
// durable after the next Flush.
func (ix *Index) MarkActive(id uint32, day int32) { ix.days.mark(id, day) }

// AppendKey appends the key of a series. An unknown or deleted id is an error of kind NotFound.
func (ix *Index) AppendKey(dst []byte, id uint32) (key []byte, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	st := ix.acquire()
	defer ix.release(st)
	if st.isDeleted(id) {
		return dst, unknownID(id)
	}
	key, ok, err := st.appendKey(dst, id)
	if err == nil && !ok {
		err = unknownID(id)
	}
	return key, err
}

func unknownID(id uint32) error {
	return errkind.New(errkind.NotFound, "cannot find series id %d in the index", id)
}

// Keys calls yield with every id of the set that is not deleted, ascending, and its key until yield returns false. The key is
// valid until yield returns. An unknown id ends it with an error of kind NotFound.
func (ix *Index) Keys(ctx context.Context, ids *roaring.Bitmap, yield func(id uint32, key []byte) bool) (err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	st := ix.acquire()
	defer ix.release(st)
	r := ix.keyReader(st, ids)
	defer func() { ix.keys.use.add(r.asked, r.missed) }()
	n := 0
	for it := ids.Iterator(); it.HasNext(); n++ {
		id := it.Next()
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if st.isDeleted(id) {
			continue
		}
		key, err := r.key(id)
		if err != nil || !yield(id, key) {
			return err
		}
	}
	return nil
}

// keyReader reads keys of ascending ids and decompresses each row block once.
type keyReader struct {
	st            *state
	ids           *roaring.Bitmap // those which will be asked for
	cache         *keyCache       // nil for large sets of ids
	asked, missed int             // of the cache
	block         rowBlock
	buf           []byte
}

// keyReader returns a reader for a set of ids.
func (ix *Index) keyReader(st *state, ids *roaring.Bitmap) keyReader {
	r := keyReader{st: st, ids: ids}
	if ids.GetCardinality() <= ix.keys.largestSelection() {
		r.cache = ix.keys
	}
	return r
}

// key returns the key of id, valid until the next call.
func (r *keyReader) key(id uint32) ([]byte, error) {
	if r.cache == nil {
		return r.read(id)
	}
	var ok bool
	r.buf, ok = r.cache.appendKey(r.buf[:0], id)
	r.asked++
	if ok {
		return r.buf, nil
	}
	r.missed++
	key, err := r.read(id)
	if err == nil {
		r.cache.add(id, key)
	}
	return key, err
}

// read finds the key in a segment or a head.
func (r *keyReader) read(id uint32) ([]byte, error) {
	if len(r.block.ids) > 0 && r.block.first/rowBlockIDs == id/rowBlockIDs {
		if row, ok := r.block.rowOf(id); ok {
			return r.keyOf(row)
		}
	}
	for _, s := range r.st.segments {
		i, ok := s.rowBlockOf(id)
		if !ok {
			continue
		}
		if err := r.load(s, i); err != nil {
			return nil, err
		}
		if row, ok := r.block.rowOf(id); ok {
			return r.keyOf(row)
		}
	}
	found := false
	r.st.heads(func(h *head) bool {
		r.buf, found = h.appendKey(r.buf[:0], id)
		return !found
	})
	if !found {
		return nil, unknownID(id)
	}
	return r.buf, nil
}

// fewRowsOfBlock is the number of keys of a row block from which on it is filled, which takes as long as to read so many in place.
const fewRowsOfBlock = 16

// load makes a row block of a segment the current one.
func (r *keyReader) load(s *segment, i uint64) error {
	first, _, _ := s.rowEntry(i)
	start := uint64(first) / rowBlockIDs * rowBlockIDs
	if r.ids.CardinalityInRange(start, start+rowBlockIDs) <= fewRowsOfBlock {
		return s.openRows(&r.block, i)
	}
	return s.decodeRows(&r.block, i)
}

// keyOf returns the key of a row of the current block.
func (r *keyReader) keyOf(row int) ([]byte, error) {
	if r.block.filled() {
		r.buf = r.block.appendKey(r.buf[:0], row)
		return r.buf, nil
	}
	var ok bool
	if r.buf, ok = r.block.readKey(r.buf[:0], row); !ok {
		return nil, r.block.s.corrupt("row block")
	}
	return r.buf, nil
}

// SeriesCount returns the number of series of all tenants that are not deleted.
func (ix *Index) SeriesCount() int {
	st := ix.acquire()
	defer ix.release(st)
	if !st.deleted.IsEmpty() {
		if known, err := ix.knownOf(st); err == nil {
			st.hide(known)
			return int(known.GetCardinality())
		}
	}
	n := 0
	st.heads(func(h *head) bool { n += h.seriesCount(); return true })
	for _, s := range st.segments {
		n += int(s.footer.series)
	}
	return n
}

// Tenants returns the sorted tenants that have series.
func (ix *Index) Tenants() (list []model.TenantID, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	st := ix.acquire()
	defer ix.release(st)
	st.heads(func(h *head) bool { list = h.appendTenants(list); return true })
	for _, s := range st.segments {
		for i := range s.footer.tenantCount {
			list = append(list, s.tenantAt(i).id)
		}
	}
	slices.SortFunc(list, model.TenantID.Compare)
	return st.visible(slices.Compact(list))
}

// HeapBytes returns about how much memory the index takes: series not yet flushed, active days, deleted series and rows kept for
// lookups. Cached filters are not in it, since they are taken from the budget, and mapped files are the system's.
func (ix *Index) HeapBytes() int64 {
	st := ix.acquire()
	defer ix.release(st)
	n := ix.days.heapBytes() + int64(st.deleted.GetSizeInBytes())
	st.heads(func(h *head) bool { n += h.sizeBytes(); return true })
	for _, s := range st.segments {
		n += s.heapBytes()
	}
	return n + ix.keys.heapBytes() + ix.rows.heapBytes()
}

// HeadBytes returns about how much memory the series take which are not yet flushed, and how many these are.
func (ix *Index) HeadBytes() (size int64, series int) {
	st := ix.acquire()
	defer ix.release(st)
	st.heads(func(h *head) bool {
		size += h.sizeBytes()
		series += h.seriesCount()
		return true
	})
	return size, series
}

// SizeBytes returns the bytes on disk.
func (ix *Index) SizeBytes() int64 {
	st := ix.acquire()
	defer ix.release(st)
	n := ix.manifestSize.Load() + ix.deletedSize.Load() + ix.days.size()
	for _, s := range st.segments {
		n += int64(len(s.data))
	}
	return n
}
