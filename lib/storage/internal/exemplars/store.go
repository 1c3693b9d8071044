package exemplars

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs"
)

const (
	// segmentShare of the limit is one segment.
	segmentShare    = 16
	minSegmentBytes = 64 << 10
	// maxSegments bounds how many there are when they are small.
	maxSegments = 256
	// keptBuffer is how much room for frames is kept.
	keptBuffer = 4 << 20
)

// Options are the arguments of Open.
type Options struct {
	FS       vfs.FS
	Dir      string // created with the first exemplar
	MaxBytes int64
	Oldest   func() int64 // exemplars before this time, in Unix milliseconds, are of no use
	Logger   *logger.Logger
	Metrics  *metrics.Set
	Budget   *memory.Budget // what is in memory is part of it; nil means none
}

// Store keeps exemplars. It is safe for concurrent use, starts no goroutines, and must be closed.
type Store struct {
	o            Options
	segmentBytes int64
	counters     counters

	writing  sync.Mutex // guards what follows
	segments []*segment // by number; the newest may be the active one
	last     uint64     // number given last
	failed   error      // nothing is written any more
	active   *active    // nil: the next write begins one
	fileSize int64      // of all segments
	reserved int64      // from the budget
	buf      []byte

	mu struct {
		sync.RWMutex
		index *index
		next  *group // who wait for the next write
	}
}

type counters struct{ added, known, evicted, lost *metrics.Counter }

// segment is one file.
type segment struct {
	number uint64
	size   int64 // bytes
	newest int64 // timestamp
}

// active is the segment being written.
type active struct {
	*segment
	file    vfs.File
	numbers dictionary
}

// group is writes which share a wait for the disk.
type group struct {
	ops  []op
	done chan struct{}
	err  error
}

// op adds exemplars or deletes those of series.
type op struct {
	list    []model.Exemplar
	deleted [][]byte
}

// Open reads what is in the directory, which need not exist. What is damaged is left out, counted and logged.
func Open(o Options) (*Store, error) {
	s := &Store{o: o, segmentBytes: max(o.MaxBytes/segmentShare, minSegmentBytes)}
	s.mu.index = newIndex()
	s.counters = counters{
		added:   o.Metrics.Counter("vm_exemplars_added_to_storage_total"),
		known:   o.Metrics.Counter("vm_exemplars_known_total"),
		evicted: o.Metrics.Counter("vm_exemplars_evicted_total"),
		lost:    o.Metrics.Counter("vm_exemplars_damaged_frames_total"),
	}
	entries, err := o.FS.ReadDir(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list exemplars: %w", err)
	}
	for _, e := range entries {
		if number, ok := parseName(e.Name); ok && !e.IsDir {
			s.segments = append(s.segments, &segment{number: number, size: e.Size})
		}
	}
	for i, seg := range s.segments { // names are listed in order
		s.load(seg, i == len(s.segments)-1)
		s.last = seg.number
	}
	s.trim()
	s.account()
	return s, nil
}

func (s *Store) path(seg *segment) string { return filepath.Join(s.o.Dir, segmentName(seg.number)) }

// load reads a segment, and goes on with the last one if that is whole.
func (s *Store) load(seg *segment, last bool) {
	s.fileSize += seg.size
	data, err := s.o.FS.ReadFile(s.path(seg))
	d := decoder{remove: s.mu.index.remove, add: func(e *model.Exemplar) {
		if s.mu.index.add(e, seg.number) {
			seg.newest = max(seg.newest, e.Timestamp)
		}
	}}
	if err == nil {
		d.segment(data)
	}
	if err != nil || d.lost > 0 {
		seg.newest = math.MaxInt64 // it goes only when there is no room
		s.counters.lost.Add(max(1, d.lost))
		s.o.Logger.Warnf("exemplars in %q are damaged, %d pieces are left out: %v; those which were being written when the machine lost power were not acknowledged", s.path(seg), d.lost, err)
		return
	}
	if !last || seg.size >= s.segmentBytes {
		return
	}
	f, err := s.o.FS.OpenAppend(s.path(seg))
	if err != nil {
		return // the next write begins another one
	}
	// A process which was killed may have written what is not on the disk yet, even the name.
	if err := errors.Join(f.Sync(), s.o.FS.SyncDir(s.o.Dir)); err != nil {
		_ = f.Close()
		return
	}
	s.active = &active{segment: seg, file: f, numbers: dictionary{}}
	for number, key := range d.byNumber {
		s.active.numbers[string(key)] = number
	}
}

// Add keeps exemplars and returns once they are durable and visible. The list and its bytes are not retained. The error kinds are those of
// storageapi.Ingester.
func (s *Store) Add(list []model.Exemplar) error { return s.commit(op{list: list}) }

// Delete removes the exemplars of the series that q selects, at any time, and returns once that is durable.
func (s *Store) Delete(ctx context.Context, q *model.SearchQuery) error {
	var keys [][]byte
	s.mu.RLock()
	err := s.mu.index.walk(ctx, q, func(x *series) error {
		keys = append(keys, x.key)
		return nil
	})
	s.mu.RUnlock()
	if err != nil || len(keys) == 0 && !s.doubtful() {
		return err
	}
	if err := s.commit(op{deleted: keys}); err != nil {
		return fmt.Errorf("cannot delete the exemplars of %d series: %w", len(keys), err)
	}
	return nil
}

// doubtful reports whether there may be exemplars on the disk which are not in the index.
func (s *Store) doubtful() bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.failed != nil
}

// Find returns the exemplars that q asks for, by series key, then as model.Exemplar.Compare orders them. Their bytes must not be changed.
func (s *Store) Find(ctx context.Context, q *storageapi.ExemplarQuery) ([]model.Exemplar, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.index.search(ctx, q)
}

// commit writes together with others who come meanwhile.
func (s *Store) commit(o op) error {
	s.mu.Lock()
	g := s.mu.next
	first := g == nil
	if first {
		g = &group{done: make(chan struct{})}
		s.mu.next = g
	}
	g.ops = append(g.ops, o)
	s.mu.Unlock()
	if !first {
		<-g.done
		return g.err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.mu.next = nil
	s.mu.Unlock()
	g.err = s.write(g.ops)
	close(g.done)
	return g.err
}

// write makes what is new durable, then visible. The caller holds writing.
func (s *Store) write(ops []op) error {
	if s.failed != nil {
		return refusal(s.failed)
	}
	if !s.anythingNew(ops) {
		return nil
	}
	if s.active != nil && s.active.size >= s.segmentBytes {
		s.seal()
	}
	if s.active == nil {
		if err := s.begin(); err != nil {
			return refusal(err)
		}
	}
	e := encoder{numbers: s.active.numbers, dst: s.buf[:0]}
	s.mu.RLock()
	for _, o := range ops {
		for i := range o.list {
			if x := &o.list[i]; s.mu.index.wants(x) {
				e.exemplar(x)
			}
		}
		for _, key := range o.deleted {
			e.deletion(key)
		}
	}
	s.mu.RUnlock()
	e.finish()
	if s.buf = e.dst; cap(s.buf) > keptBuffer {
		s.buf = nil
	}
	_, err := s.active.file.Write(e.dst)
	if err == nil {
		err = s.active.file.Sync()
	}
	if err != nil {
		s.abandon()
		return refusal(err)
	}
	s.active.size += int64(len(e.dst))
	s.fileSize += int64(len(e.dst))
	s.apply(ops)
	s.trim()
	s.account()
	return nil
}

// anythingNew reports whether there is something to write.
func (s *Store) anythingNew(ops []op) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, found := 0, false
	for _, o := range ops {
		n += len(o.list)
		found = found || len(o.deleted) > 0 || slices.ContainsFunc(o.list, func(x model.Exemplar) bool { return s.mu.index.wants(&x) })
	}
	if !found {
		s.counters.known.Add(n)
	}
	return found
}

// apply makes visible what is on the disk.
func (s *Store) apply(ops []op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added, known := 0, 0
	for _, o := range ops {
		for i := range o.list {
			if !s.mu.index.add(&o.list[i], s.active.number) {
				known++
				continue
			}
			added++
			s.active.newest = max(s.active.newest, o.list[i].Timestamp)
		}
		for _, key := range o.deleted {
			s.mu.index.remove(key)
		}
	}
	s.counters.added.Add(added)
	s.counters.known.Add(known)
}

// refusal makes an error which sends the exemplars elsewhere.
func refusal(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errkind.New(errkind.ReadOnly, "cannot store exemplars: the disk is full: %w", err)
	}
	return errkind.New(errkind.Unavailable, "cannot store exemplars: %w", err)
}

// begin creates a segment.
func (s *Store) begin() error {
	if err := vfs.MkdirAllDurable(s.o.FS, s.o.Dir); err != nil {
		return err
	}
	s.last++
	seg := &segment{number: s.last, size: int64(len(header))}
	f, err := s.o.FS.Create(s.path(seg))
	if err != nil {
		return err
	}
	s.segments = append(s.segments, seg)
	s.fileSize += seg.size
	s.active = &active{segment: seg, file: f, numbers: dictionary{}}
	if _, err = f.Write([]byte(header)); err == nil {
		err = s.o.FS.SyncDir(s.o.Dir)
	}
	if err != nil {
		s.abandon()
	}
	return err
}

// seal ends the active segment.
func (s *Store) seal() {
	if err := s.active.file.Close(); err != nil {
		s.o.Logger.Warnf("cannot close segment %q of exemplars: %s", s.path(s.active.segment), err)
	}
	s.active = nil
}

// abandon ends the active segment after a failed write, and cuts off what was not acknowledged: it must not come back after a deletion that does
// not know of it. When that fails, too, nothing is written any more.
func (s *Store) abandon() {
	seg := s.active.segment
	s.seal()
	var err error
	if seg.size > int64(len(header)) {
		err = s.cut(seg)
	} else if err = s.remove(seg); err == nil {
		s.segments = s.segments[:len(s.segments)-1]
	}
	if err != nil {
		s.failed = fmt.Errorf("an earlier write has failed and could not be undone; restart the process once the disk is well: %w", err)
		s.o.Logger.Errorf("cannot store exemplars any more: %s", s.failed)
	}
}

// cut removes what is behind the acknowledged end of a segment.
func (s *Store) cut(seg *segment) error {
	if err := s.o.FS.Truncate(s.path(seg), seg.size); err != nil {
		return err
	}
	f, err := s.o.FS.OpenAppend(s.path(seg))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// remove deletes the file of a segment, which may be gone already.
func (s *Store) remove(seg *segment) error {
	if err := s.o.FS.Remove(s.path(seg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return err
	}
	s.fileSize -= seg.size
	return nil
}

// trim drops the oldest segments while there is too much, or they are too old.
func (s *Store) trim() {
	oldest := s.o.Oldest()
	for len(s.segments) > 0 {
		seg := s.segments[0]
		if s.active != nil && s.active.segment == seg {
			return
		}
		if s.fileSize <= s.o.MaxBytes && s.bytes() <= s.o.MaxBytes && len(s.segments) <= maxSegments && seg.newest >= oldest {
			return
		}
		s.mu.Lock()
		s.counters.evicted.Add(s.mu.index.evict(seg.number))
		s.mu.Unlock()
		if err := s.remove(seg); err != nil {
			s.o.Logger.Warnf("cannot delete the oldest segment of exemplars, the next write tries again: %s", err)
			return // it must not outlive the deletions in newer ones
		}
		s.segments = s.segments[1:]
	}
}

// account tells the budget how much memory is in use.
func (s *Store) account() {
	if s.o.Budget == nil {
		return
	}
	n := s.bytes() - s.reserved
	s.reserved += n
	if n < 0 {
		s.o.Budget.Release(-n)
		return
	}
	s.o.Budget.ForceReserve(n) // bounded by MaxBytes
}

// RegisterMetrics registers what is computed when metrics are read.
func (s *Store) RegisterMetrics() {
	locked := func(f func() float64) func() float64 {
		return func() float64 {
			s.mu.RLock()
			defer s.mu.RUnlock()
			return f()
		}
	}
	set := s.o.Metrics
	set.Gauge("vm_exemplars_storage_items", locked(func() float64 { return float64(s.mu.index.items) }))
	set.Gauge("vm_exemplars_storage_series", locked(func() float64 { return float64(s.mu.index.series) }))
	set.Gauge("vm_exemplars_storage_size_bytes", locked(func() float64 { return float64(s.mu.index.bytes) }))
	set.Gauge("vm_exemplars_storage_max_size_bytes", func() float64 { return float64(s.o.MaxBytes) })
}

// bytes returns roughly how much memory the exemplars take.
func (s *Store) bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.index.bytes
}

// Snapshot makes a copy of what is on the disk in a directory that does not exist yet: links to segments which do not change any more, and
// a copy of the active one. Without exemplars there is no directory.
func (s *Store) Snapshot(dir string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if len(s.segments) == 0 {
		return nil
	}
	if err := s.o.FS.MkdirAll(dir); err != nil {
		return err
	}
	for _, seg := range s.segments {
		to := filepath.Join(dir, segmentName(seg.number))
		if s.active == nil || seg != s.active.segment {
			if err := s.o.FS.Link(s.path(seg), to); err != nil {
				return err
			}
			continue
		}
		if err := s.copyActive(to); err != nil {
			return err
		}
	}
	return s.o.FS.SyncDir(dir)
}

func (s *Store) copyActive(to string) error {
	data, err := s.o.FS.ReadFile(s.path(s.active.segment))
	if err != nil {
		return err
	}
	f, err := s.o.FS.Create(to)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Close closes the files. There must be no calls under way.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	var err error
	if s.active != nil {
		err = s.active.file.Close()
		s.active = nil
	}
	if s.o.Budget != nil {
		s.o.Budget.Release(s.reserved)
		s.reserved = 0
	}
	return err
}
