package storage

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/exemplars"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs"
	"vmcluster/lib/wal"
)

var (
	_ storageapi.Ingester    = (*Storage)(nil)
	_ storageapi.Searcher    = (*Storage)(nil)
	_ storageapi.Admin       = (*Storage)(nil)
	_ storageapi.Catalog     = (*Storage)(nil)
	_ storageapi.Maintenance = (*Storage)(nil)
)

// dataName is the directory of the partitions, in that of the storage and in that of a snapshot.
const dataName = "data"

// Storage is the database of one node. It is safe for concurrent use.
type Storage struct {
	cfg        Config
	o          Options
	fs         vfs.FS
	logger     *logger.Logger
	m          *storageMetrics
	smallWarn  *logger.Throttle // samples too old
	bigWarn    *logger.Throttle // samples too far in the future
	largeWarn  *logger.Throttle // native histograms too large
	damageWarn *logger.Throttle // reads of damaged parts
	seed       maphash.Seed     // of the second hash of series
	dataDir    string

	maxHeadBytes int64
	maxSeries    int

	lockFile  io.Closer
	unclean   bool // the storage was not closed the last time
	marked    bool // RunningMark is there
	log       *wal.Log
	losses    losses // of the log, as of the start
	hot       hotTable
	slotEpoch atomic.Uint32 // changes when ids of series lose their meaning
	spaces    sync.Map      // *slots, as keys: what is attached to the spaces of senders
	writers   sync.Pool     // of *writer
	newests   sync.Pool     // of *newest

	gate struct {
		sync.RWMutex
		closed bool
	}
	closed     atomic.Bool // as gate.closed, for iterators
	readOnly   atomic.Bool
	headBytes  atomic.Int64 // of all heads, reserved from the budget
	tableBytes atomic.Int64 // of indexes and the hot table, reserved from the budget
	flushOwed  atomic.Bool  // the last flush failed or was given up half-way
	headSince  atomic.Int64 // Unix ms of the first sample taken since the last freeze; 0 when there is none

	snapshotSeq   atomic.Uint64
	snapshotsSeen atomic.Int64  // Unix seconds of the last look at their age
	logNewUntil   atomic.Int64  // Unix seconds; 0 is never
	names         *nameStats    // nil: not counted
	limits        *seriesLimits // nil: none
	tenants       *tenantAccounts
	deleting      sync.Mutex
	versions      *versions
	exemplars     *exemplars.Store

	indexes indexWatch // of watchLoop

	flushing  sync.Mutex
	flushLock sync.RWMutex
	register  sync.Mutex
	tableMu   sync.Mutex
	table     atomic.Pointer[table]
	mergeSlot chan struct{} // holds a token while a merge is running

	ctx        context.Context // ends with Close: merges and searches
	cancel     context.CancelFunc
	flushSoon  chan struct{}
	mergeSoon  chan struct{}
	indexSoon  chan struct{}
	background sync.WaitGroup
}

// table is the set of partitions. It is immutable.
type table struct {
	byMonth map[partition.Month]*partition.Partition
	sorted  []*partition.Partition // by month
}

func newTable(byMonth map[partition.Month]*partition.Partition) *table {
	t := &table{byMonth: byMonth}
	for _, m := range slices.Sorted(maps.Keys(byMonth)) {
		t.sorted = append(t.sorted, byMonth[m])
	}
	return t
}

// Open opens the storage at cfg.DataPath, which is created when missing, and recovers what the log holds.
func Open(cfg Config, o Options) (*Storage, error) {
	start := time.Now()
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := newStorage(cfg, o)
	if err := s.open(); err != nil {
		s.cancel()
		return nil, errors.Join(fmt.Errorf("cannot open storage %q: %w", cfg.DataPath, err), s.closeFiles())
	}
	st := s.sum()
	s.logger.Infof("successfully opened storage %q in %.3f seconds; partsCount: %d; blocksCount: %d; rowsCount: %d; sizeBytes: %d",
		cfg.DataPath, time.Since(start).Seconds(), st.Small.Parts+st.Big.Parts, st.Small.Blocks+st.Big.Blocks,
		st.Small.Rows+st.Big.Rows+st.HeadRows, st.Small.SizeBytes+st.Big.SizeBytes+st.IndexBytes)
	s.registerMetrics()
	s.start()
	return s, nil
}

func newStorage(cfg Config, o Options) *Storage {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Storage{
		cfg: cfg, o: o, fs: o.FS, logger: o.Logger,
		smallWarn:  logger.NewThrottle(o.Logger, 5*time.Second),
		bigWarn:    logger.NewThrottle(o.Logger, 5*time.Second),
		largeWarn:  logger.NewThrottle(o.Logger, 5*time.Second),
		damageWarn: logger.NewThrottle(o.Logger, 5*time.Second),
		seed:       maphash.MakeSeed(),
		dataDir:    filepath.Join(cfg.DataPath, dataName),
		mergeSlot:  make(chan struct{}, 1),
		flushSoon:  make(chan struct{}, 1),
		mergeSoon:  make(chan struct{}, 1),
		indexSoon:  make(chan struct{}, 1),
	}
	s.m = newStorageMetrics(o.Metrics)
	s.maxHeadBytes = int64(cfg.HeadMaxBytes)
	if s.maxHeadBytes <= 0 {
		s.maxHeadBytes = o.Budget.Limit() / 4
	}
	s.maxHeadBytes = min(s.maxHeadBytes, head.MaxBytes/2) // batches are taken up to twice as much
	s.maxSeries = cfg.MaxUniqueTimeseries
	if s.maxSeries <= 0 {
		s.maxSeries = defaultMaxSeries(o.Budget.Limit())
	}
	if cfg.TrackNames {
		maxBytes := int64(cfg.NameStatsBytes)
		if maxBytes <= 0 {
			maxBytes = o.Budget.Limit() / 100
		}
		s.names = newNameStats(maxBytes, o.Now().Unix())
	}
	s.limits = newSeriesLimits(&cfg, &o)
	s.tenants = newTenantAccounts(o.Metrics)
	s.versions = newVersions()
	s.startLogNewSeries()
	s.writers.New = func() any { return &writer{s: s} }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.table.Store(newTable(nil))
	return s
}

func (s *Storage) open() error {
	if err := vfs.MkdirAllDurable(s.fs, s.dataDir); err != nil {
		return err
	}
	var err error
	if s.lockFile, err = s.fs.Lock(filepath.Join(s.cfg.DataPath, LockName)); err != nil {
		return err
	}
	if _, err := s.fs.ReadFile(filepath.Join(s.cfg.DataPath, RestoreMark)); err == nil {
		return errkind.New(errkind.Unavailable, "a restore has begun here and not ended (file %s): run vmrestore with the same flags again until it succeeds", RestoreMark)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(s.openPartitions(), s.openSnapshots(), s.openExemplars(), s.loadNameStats(), s.loadLosses(), s.loadSeriesLimits()); err != nil {
		return err
	}
	if err := s.replay(); err != nil {
		return err
	}
	s.startSettled()
	s.checkSpace()
	s.markRunning()
	return nil
}

// openPartitions opens the partitions on disk and deletes those outside of retention.
func (s *Storage) openPartitions() error {
	entries, err := s.fs.ReadDir(s.dataDir)
	if err != nil {
		return err
	}
	keep := s.retained()
	for _, e := range entries {
		m, ok := partition.ParseMonth(e.Name)
		switch {
		case partition.IsDropped(e.Name):
			err = partition.RemoveDropped(s.fs, filepath.Join(s.dataDir, e.Name))
		case ok && m.Range().Max < keep.Min:
			s.logDrop(m, keep)
			err = partition.DropClosed(s.fs, s.dataDir, m)
		case ok:
			_, err = s.partitionOf(m)
		case e.Name == "small": // people who have exchanged the program only expect their data
			s.logger.Warnf("directory %q is of VictoriaMetrics, whose data is neither read nor changed here; docs/upgrade.md tells how to move it", filepath.Join(s.dataDir, e.Name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Storage) logDrop(m partition.Month, keep model.TimeRange) {
	s.logger.Infof("dropping partition %q: all its samples are older than %s, the limit of -retentionPeriod=%s",
		m, time.UnixMilli(keep.Min).UTC().Format(time.RFC3339), s.cfg.RetentionPeriod.String())
}

// partitionOf returns the partition of a month, created when missing. The caller holds flushLock, at least shared, or is Open.
func (s *Storage) partitionOf(m partition.Month) (*partition.Partition, error) {
	if p := s.table.Load().byMonth[m]; p != nil {
		return p, nil
	}
	s.tableMu.Lock()
	defer s.tableMu.Unlock()
	old := s.table.Load()
	if p := old.byMonth[m]; p != nil {
		return p, nil
	}
	p, err := partition.Open(partition.Options{
		FS: s.fs, DataDir: s.dataDir, Month: m, Logger: s.logger, Metrics: s.o.Metrics, Stats: &s.m.partitions,
		MinIntervalMs: s.cfg.DedupMinScrape.D().Milliseconds(), Budget: s.o.Budget, Rules: s.rulesNow,
	})
	if err != nil {
		return nil, err
	}
	byMonth := maps.Clone(old.byMonth)
	if byMonth == nil {
		byMonth = map[partition.Month]*partition.Partition{}
	}
	byMonth[m] = p
	s.table.Store(newTable(byMonth))
	return p, nil
}

// removePartition takes a partition out of the set.
func (s *Storage) removePartition(m partition.Month) {
	s.tableMu.Lock()
	defer s.tableMu.Unlock()
	byMonth := maps.Clone(s.table.Load().byMonth)
	delete(byMonth, m)
	s.table.Store(newTable(byMonth))
}

// acquire returns the partitions that r touches, by month, with a reference to each. It takes no lock: reads do not
// wait for writers that wait for the disk.
func (s *Storage) acquire(r model.TimeRange) []*partition.Partition {
	var found []*partition.Partition
	for _, p := range s.table.Load().sorted {
		if p.Month().Range().Overlaps(r) && p.TryAcquire() { // it may just have been dropped
			found = append(found, p)
		}
	}
	return found
}

func release(partitions []*partition.Partition) error {
	var errs []error
	for _, p := range partitions {
		errs = append(errs, p.Release())
	}
	return errors.Join(errs...)
}

// allTime covers every timestamp.
func allTime() model.TimeRange { return model.TimeRange{Min: -1 << 63, Max: 1<<63 - 1} }

// enter begins a call; leave ends it. Close waits for calls to end and lets no new ones begin.
func (s *Storage) enter() error {
	s.gate.RLock()
	if s.gate.closed {
		s.gate.RUnlock()
		return s.drainingErr()
	}
	return nil
}

func (s *Storage) leave() { s.gate.RUnlock() }

func (s *Storage) drainingErr() error {
	return errkind.New(errkind.Draining, "storage %q is shutting down", s.cfg.DataPath)
}

// retained returns the range of timestamps inside retention.
func (s *Storage) retained() model.TimeRange {
	return model.TimeRange{Min: s.o.Now().UnixMilli() - s.cfg.RetentionPeriod.Millis, Max: allTime().Max}
}

// accepted returns the range of timestamps which new samples may have.
func (s *Storage) accepted() model.TimeRange {
	now := s.o.Now().UnixMilli()
	age := s.cfg.RetentionPeriod.Millis
	if b := s.cfg.MaxBackfillAge.Millis; b > 0 && b < age {
		age = b
	}
	// Times before 1970-01-02 are nobody's measurements, and months before
	// 1970 would need names nobody expects.
	// Nor do months after the year 9999 have names.
	return model.TimeRange{Min: max(dayMs, now-age), Max: min(partition.LastMonth.Range().Max, now+s.cfg.FutureRetention.Millis)}
}

// start starts the goroutines.
func (s *Storage) start() {
	for _, loop := range []func(){s.watchLoop, s.flushLoop, s.mergeLoop} {
		s.background.Add(1)
		go func() {
			defer s.background.Done()
			loop()
		}()
	}
}

// Close makes everything durable in parts and closes the storage. Calls which
// come later, and iterators which are still open, fail with kind Draining.
func (s *Storage) Close() error {
	s.closed.Store(true)
	s.cancel()
	s.gate.Lock()
	closed := s.gate.closed
	s.gate.closed = true
	s.gate.Unlock()
	if closed {
		return nil
	}
	s.background.Wait()
	var err error
	if s.log.Err() == nil {
		err = s.flush(context.Background())
	}
	if diskFull(err) {
		s.logger.Warnf("storage %q is closed with recent samples in the log, since the disk is full; they will be recovered at the next start: %s", s.cfg.DataPath, err)
		err = nil
	}
	s.saveNameStats()
	s.marked = s.marked && err == nil // the next start is to tell of an error
	err = errors.Join(err, s.closeFiles())
	if err != nil {
		return fmt.Errorf("cannot close storage %q cleanly: %w", s.cfg.DataPath, err)
	}
	s.logger.Infof("storage %q has been closed", s.cfg.DataPath)
	return nil
}

// closeFiles closes what open has opened.
func (s *Storage) closeFiles() error {
	var errs []error
	if s.log != nil {
		failed := s.log.Err() != nil // then Close says so again; it has been told
		if err := s.log.Close(); !failed && !diskFull(err) {
			errs = append(errs, err)
		}
	}
	if s.exemplars != nil {
		errs = append(errs, s.exemplars.Close())
	}
	errs = append(errs, release(s.table.Load().sorted))
	s.table.Store(newTable(nil))
	s.limits.free()
	s.detachSlots()
	s.o.Budget.Release(s.headBytes.Swap(0))
	s.setTableBytes(0)
	if s.lockFile != nil {
		s.unmarkRunning(errors.Join(errs...))
		errs = append(errs, s.lockFile.Close())
	}
	return errors.Join(errs...)
}
