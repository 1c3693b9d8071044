package partition

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"vmcluster/lib/invariants"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/part"
	"vmcluster/lib/vfs"
)

// Options are what a partition needs from its owner.
type Options struct {
	FS      vfs.FS
	DataDir string // the directory of all partitions, which exists
	Month   Month
	Logger  *logger.Logger
	Metrics *metrics.Set
	Stats   *Counters
	Budget  *memory.Budget // for cached filters; may be nil
	// MinIntervalMs is the interval of deduplication in parts; 0 keeps all but equal timestamps.
	MinIntervalMs int64
	// Rules returns what merges make of old samples, as of now; nil means that they stay as they are. At most MaxRules.
	Rules func() []Rule
}

// Counters are shared by all partitions of a storage.
type Counters struct {
	CorruptParts     *metrics.Counter
	CorruptManifests *metrics.Counter
	Deduplicated     *metrics.Counter // samples which merges and flushes left out for MinIntervalMs
	Small, Big       MergeCounters    // by the size of what is merged
}

// MergeCounters are about merges.
type MergeCounters struct {
	Merges  *metrics.Counter // finished merges
	Rows    *metrics.Counter // samples written by them
	Deleted *metrics.Counter // samples they left out
	Active  atomic.Int64
}

// Partition is one month of data. See the package comment for locks and ownership.
type Partition struct {
	o     Options
	month Month
	dir   string
	index *index.Index
	head  atomic.Pointer[head.Head]

	refs      atomic.Int64
	dropped   atomic.Bool
	ctx       context.Context // ends merges of a partition which goes away
	cancel    context.CancelFunc
	publishMu sync.Mutex
	mergeMu   sync.Mutex
	usage     usage

	lost        []manifestPart // listed parts which could not be opened; they stay listed
	lostSegment string         // a segment of the index which was set aside as damaged
	order       keyOrder
	orphans     []string             // parts of failed publications, guarded by publishMu
	overlaps    map[overlapKey]int64 // what FirstOverlap has found, math.MaxInt64 for nothing; guarded by mergeMu

	mu struct {
		sync.RWMutex
		frozen  []*head.Head
		parts   []*entry
		nextSeq uint64
		epoch   int64 // of the head; parts that were there at the start have 0
		cut     int64 // as of the last MarkCut
		settled int64 // the log has samples of later epochs only
	}
}

// entry is a part in the list of a partition.
type entry struct {
	*part.Part
	manifestPart
	damaged atomic.Bool      // a column is damaged, or series are not in the index; the rest is served, and merges leave the part alone
	known   bool             // all its series are in the index; guarded by mergeMu
	passed  map[string]int64 // as Meta.Applied, of rules none of whose series are in the part; guarded by mergeMu
	// tombstones is the number of deleted series at the last look at how many of them the part has; guarded by mergeMu.
	tombstones uint64
	epoch      int64           // of the youngest samples in the part, or a later one; set before the part is in the list
	concerned  map[string]bool // rules which are about series of the part, as far as it was asked; guarded by mergeMu
	waits      *wait           // nil before rules ask for the part; guarded by mergeMu
	histograms int64           // among the rows
	shares     tenantShares
}

// Open opens the partition in DataDir, or creates it. The caller has one reference.
func Open(o Options) (_ *Partition, err error) {
	defer vfs.CatchFault(debug.SetPanicOnFault(true), &err)
	p := &Partition{o: o, month: o.Month, dir: filepath.Join(o.DataDir, o.Month.String())}
	_, err = o.FS.ReadDir(p.dir)
	created := errors.Is(err, fs.ErrNotExist)
	if err != nil && !created {
		return nil, err
	}
	if created {
		o.Logger.Infof("creating a partition %q with path=%q", p.month, p.dir)
	}
	for _, dir := range []string{p.partsDir(), p.indexDir()} {
		if err := vfs.MkdirAllDurable(o.FS, dir); err != nil {
			return nil, err
		}
	}
	if p.index, err = index.Open(index.Options{FS: o.FS, Dir: p.indexDir(), Logger: o.Logger, Metrics: o.Metrics, Budget: o.Budget}); err != nil {
		return nil, err
	}
	p.refs.Store(1)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.head.Store(head.New())
	p.mu.epoch, p.mu.cut, p.mu.settled = 1, -1, -1
	if err := errors.Join(p.findLostSegment(), p.loadParts()); err != nil {
		return nil, errors.Join(err, p.Release())
	}
	p.reserveIDs()
	if created {
		o.Logger.Infof("partition %q has been created", p.month)
	}
	return p, nil
}

// reserveIDs keeps the index, which may have lost a segment, from giving ids again which parts have.
func (p *Partition) reserveIDs() {
	for _, e := range p.mu.parts {
		if id, ok := e.MaxID(); ok {
			p.index.Reserve(uint64(id) + 1)
		}
	}
	if len(p.mu.parts) > 0 && p.index.SeriesCount() == 0 {
		p.o.Logger.Errorf("partition %s has %d parts and no series in its index %s; they are kept and cannot be found; restore the whole directory %s from a backup",
			p.month, len(p.mu.parts), p.indexDir(), p.dir)
	}
}

func (p *Partition) partsDir() string           { return filepath.Join(p.dir, "parts") }
func (p *Partition) indexDir() string           { return filepath.Join(p.dir, "index") }
func (p *Partition) partDir(name string) string { return filepath.Join(p.partsDir(), name) }

// Month returns the month of the partition.
func (p *Partition) Month() Month { return p.month }

// Index returns the index, for as long as the caller has a reference.
func (p *Partition) Index() *index.Index { return p.index }

// Head returns the head which takes samples now. The caller holds the owner's flush lock, at least shared.
func (p *Partition) Head() *head.Head { return p.head.Load() }

// Acquire takes one more reference, on top of one which the caller knows to exist.
func (p *Partition) Acquire() {
	invariants.Check(p.refs.Add(1) > 1, "partition %s used after its end", p.month)
}

// TryAcquire is Acquire for callers that do not know whether there is a reference left; false when there is none.
func (p *Partition) TryAcquire() bool {
	for {
		n := p.refs.Load()
		if n == 0 {
			return false
		}
		if p.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a reference back. The last one closes the partition and, when it was dropped, deletes its files.
func (p *Partition) Release() error {
	n := p.refs.Add(-1)
	invariants.Check(n >= 0, "partition %s released too often", p.month)
	if n > 0 {
		return nil
	}
	p.cancel()
	p.head.Load().Release()
	for _, h := range p.mu.frozen {
		h.Release()
	}
	for _, e := range p.mu.parts {
		e.Release()
	}
	err := p.index.Close()
	if p.dropped.Load() {
		err = errors.Join(err, RemoveDropped(p.o.FS, p.droppedDir()))
	}
	return err
}

// StopMerges makes running and future merges of the partition fail.
func (p *Partition) StopMerges() { p.cancel() }

const droppedSuffix = ".dropped"

func (p *Partition) droppedDir() string { return p.dir + droppedSuffix }

// Drop takes the partition off the disk: its directory gets a name that the next open will delete, and is deleted once
// the last reference is released, which may be the caller's.
func (p *Partition) Drop() error {
	p.cancel()
	p.mergeMu.Lock()
	defer p.mergeMu.Unlock()
	p.publishMu.Lock()
	defer p.publishMu.Unlock()
	if err := renameDropped(p.o.FS, p.dir); err != nil {
		return err
	}
	p.dropped.Store(true)
	return p.o.FS.SyncDir(p.o.DataDir)
}

// DropClosed deletes a partition that is not open.
func DropClosed(fsys vfs.FS, dataDir string, m Month) error {
	dir := filepath.Join(dataDir, m.String())
	if err := renameDropped(fsys, dir); err != nil {
		return err
	}
	if err := fsys.SyncDir(dataDir); err != nil {
		return err
	}
	return RemoveDropped(fsys, dir+droppedSuffix)
}

// renameDropped gives the directory of a partition the name under which it is deleted. What is left of
// another that was dropped under this name goes first.
func renameDropped(fsys vfs.FS, dir string) error {
	if err := RemoveDropped(fsys, dir+droppedSuffix); err != nil {
		return err
	}
	return fsys.Rename(dir, dir+droppedSuffix)
}

// IsDropped reports whether a directory name is that of a dropped partition.
func IsDropped(name string) bool {
	base, ok := cutSuffix(name, droppedSuffix)
	_, isMonth := ParseMonth(base)
	return ok && isMonth
}

// RemoveDropped deletes the directory of a dropped partition.
func RemoveDropped(fsys vfs.FS, dir string) error { return fsys.RemoveAll(dir) }

// Stats are sums over a partition.
type Stats struct {
	HeadRows, HeadBytes int64 // frozen heads included
	HeadSeries          int64 // of the heads which take samples
	HeadParts           int64 // heads with samples
	FrozenRows          int64
	FrozenSeries        int64
	Histograms          int64 // of heads and parts, among the rows
	Small, Big          PartStats
	IndexBytes          int64
	SeriesCount         int
	Index               index.Stats
}

// PartStats are sums over parts.
type PartStats struct{ Parts, Rows, Blocks, SizeBytes int64 }

// Add adds other to s.
func (s *PartStats) Add(other PartStats) {
	s.Parts += other.Parts
	s.Rows += other.Rows
	s.Blocks += other.Blocks
	s.SizeBytes += other.SizeBytes
}

// bigPartBytes divides small parts from big ones in Stats.
const bigPartBytes = 64 << 20

// Stats returns the current sums.
func (p *Partition) Stats() Stats {
	s := Stats{IndexBytes: p.index.SizeBytes(), SeriesCount: p.index.SeriesCount(), Index: p.index.Stats()}
	p.mu.RLock()
	defer p.mu.RUnlock()
	h := p.head.Load()
	s.HeadRows, s.HeadBytes, s.HeadSeries = h.Rows(), h.SizeBytes(), int64(h.SeriesCount())
	s.Histograms = h.Histograms()
	if s.HeadRows > 0 {
		s.HeadParts++
	}
	s.HeadParts += int64(len(p.mu.frozen))
	for _, f := range p.mu.frozen {
		s.HeadRows += f.Rows()
		s.HeadBytes += f.SizeBytes()
		s.FrozenRows += f.Rows()
		s.FrozenSeries += int64(f.SeriesCount())
		s.Histograms += f.Histograms()
	}
	for _, e := range p.mu.parts {
		g := &s.Small
		if e.SizeBytes >= bigPartBytes {
			g = &s.Big
		}
		s.Histograms += e.histograms
		g.Parts++
		g.Rows += e.Rows
		g.Blocks += e.blocks
		g.SizeBytes += e.SizeBytes
	}
	return s
}

// HasHistograms reports whether the partition has native histograms.
func (p *Partition) HasHistograms() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.head.Load().Histograms() > 0 || slices.ContainsFunc(p.mu.frozen, func(h *head.Head) bool { return h.Histograms() > 0 }) ||
		slices.ContainsFunc(p.mu.parts, func(e *entry) bool { return e.histograms > 0 })
}

// Infos returns what picking needs to know of the parts.
func (p *Partition) Infos() []PartInfo {
	p.mu.RLock()
	defer p.mu.RUnlock()
	infos := make([]PartInfo, len(p.mu.parts))
	for i, e := range p.mu.parts {
		infos[i] = e.PartInfo
	}
	return infos
}

// TimeRange returns the range of all samples; Min is beyond Max when there are none.
func (p *Partition) TimeRange() model.TimeRange {
	p.mu.RLock()
	defer p.mu.RUnlock()
	r := p.head.Load().TimeRange()
	for _, f := range p.mu.frozen {
		fr := f.TimeRange()
		r.Min, r.Max = min(r.Min, fr.Min), max(r.Max, fr.Max)
	}
	for _, e := range p.mu.parts {
		r.Min, r.Max = min(r.Min, e.MinTimestamp), max(r.Max, e.MaxTimestamp)
	}
	return r
}
