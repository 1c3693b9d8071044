package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

const (
	worldPath      = "/data"
	worldDayMs     = 24 * 3600 * 1000
	worldRetention = 100 // days
	worldTenants   = 3
	worldBudget    = 64 << 20
	worldMinFree   = 64 << 10
)

// world is one random history of a storage on a file system with faults. It runs in a bubble of testing/synctest: the background
// work of a step is over before the next step, and time passes only when the history says so. So a seed gives the same history again.
type world struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	cfg  storage.Config
	o    *oracle
	g    *feed
	now  atomic.Int64 // Unix ms

	mem    *memfs.FS
	faulty *faultfs.FS
	s      *storage.Storage
	opt    storage.Options
	log    *textLog

	extra     *rand.Rand // of the options, and of the steps that came later: older seeds still do what they did
	snapshots []*snap

	opened  []*storage.Storage // to be closed when the test fails
	faults  bool               // operations may fail now
	done    tally
	crashes struct {
		sync.Mutex
		rng   *rand.Rand
		every int64 // one operation of so many is a crash point
		found []crashPoint
	}
	mu struct {
		sync.Mutex
		acked, sent int // number of the last event
	}
	history []string
}

// crashPoint is what is left on the disk when the power fails before an operation.
type crashPoint struct {
	fs     *memfs.FS
	m      moment
	now    int64
	before string
}

// textLog collects what the storage logs.
type textLog struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *textLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), o: newOracle(t), mem: memfs.New(memfs.Options{})}
	w.crashes.rng = rand.New(rand.NewPCG(seed, 2))
	w.o.done = &w.done
	w.extra = rand.New(rand.NewPCG(seed, 3))
	t.Cleanup(func() {
		for _, s := range w.opened {
			_ = s.Close() // all but the last have been closed, unless the test has failed
		}
	})
	w.now.Store(time.Date(2026, 3, 10, 8, 0, 0, 0, time.UTC).UnixMilli() + w.rng.Int64N(60*worldDayMs))
	w.g = newFeed(w.rng, &w.now)
	w.g.histograms = rand.New(rand.NewPCG(seed, 4))
	w.cfg = storage.DefaultConfig(worldPath)
	w.cfg.RetentionPeriod = flagvalue.NewRetention(fmt.Sprintf("%dd", worldRetention))
	w.cfg.MinFreeDiskSpaceBytes = worldMinFree
	if w.rng.IntN(3) == 0 {
		w.cfg.HeadMaxBytes = flagvalue.Bytes(20_000 + w.rng.IntN(60_000)) // flushes come by themselves, also during recovery
	}
	if w.rng.IntN(4) == 0 {
		w.cfg.LogMaxBytes = flagvalue.Bytes(4_000 + w.rng.IntN(20_000))
	}
	return w
}

// note adds a line to the history, which is printed when something is wrong.
func (w *world) note(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	tail := w.history[max(0, len(w.history)-80):]
	logged := ""
	if w.log != nil {
		logged = w.log.String()
		logged = logged[max(0, len(logged)-6000):]
	}
	w.t.Fatalf("%s\n\nto see it again: %s=%d go test -run 'TestCrashPoints' ./lib/storage\n\noptions: dedup %d ms, retention rules %v, downsampling %v\n\nhistory (the last of %d steps):\n  %s\n\nlog:\n%s",
		fmt.Sprintf(format, args...), seedVariable, w.seed, w.o.dedup, w.cfg.RetentionRules, w.cfg.DownsamplingRules, len(w.history), strings.Join(tail, "\n  "), logged)
}

// options returns what a storage on fsys needs.
func (w *world) options(fsys *faultfs.FS, now *atomic.Int64) (storage.Options, *textLog) {
	set := metrics.NewSet()
	text := &textLog{}
	l, err := logger.New(&logger.Config{Format: "default", MinLevel: "INFO", MaxArgLen: 1000}, text, set)
	if err != nil {
		w.fatalf("cannot make a logger: %s", err)
	}
	return storage.Options{
		FS: fsys, Logger: l, Metrics: set, Budget: memory.NewBudget(worldBudget),
		Now: func() time.Time { return time.UnixMilli(now.Load()) },
	}, text
}

// open opens the storage on what is on the disk now.
func (w *world) open() {
	w.faulty = faultfs.New(w.mem)
	w.faulty.SetHook(w.beforeOperation)
	w.opt, w.log = w.options(w.faulty, &w.now)
	s, err := storage.Open(w.cfg, w.opt)
	if err != nil {
		w.fatalf("cannot open the storage: %s", err)
	}
	w.s = s
	w.opened = []*storage.Storage{s}
	synctest.Wait()
}

// beforeOperation makes every so manieth operation on files a crash point.
func (w *world) beforeOperation(op faultfs.Op) {
	if op.Kind == faultfs.Read {
		return
	}
	w.crashes.Lock()
	defer w.crashes.Unlock()
	if w.crashes.every == 0 || w.crashes.rng.Int64N(w.crashes.every) > 0 {
		return
	}
	w.crashes.found = append(w.crashes.found, w.crash(fmt.Sprintf("%s %s", op.Kind, op.Path)))
}

// crash cuts the power now. Samples that are being sent meanwhile may be there or not.
func (w *world) crash(before string) crashPoint {
	w.mu.Lock()
	acked := w.mu.acked
	w.mu.Unlock()
	p := crashPoint{fs: w.mem.Crash(w.crashes.rng), before: before, now: w.now.Load()}
	w.mu.Lock()
	p.m = w.momentAt(acked, w.mu.sent, p.now)
	w.mu.Unlock()
	return p
}

// present is the moment of the running storage.
func (w *world) present() moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.momentAt(w.mu.acked, w.mu.sent, w.now.Load())
}

// kill ends a storage as kill -9 would: nothing reaches the file system any more.
func kill(faulty *faultfs.FS, s *storage.Storage) {
	faulty.SetHook(nil)
	faulty.SetFault(faultfs.Fault{At: 1, Sticky: true})
	_ = s.Close() // it cannot write what it wants to
	faulty.SetFault(faultfs.Fault{})
}

// recoverPoint opens what a crash has left, checks it, and sometimes crashes again on the way.
func (w *world) recoverPoint(p crashPoint) {
	w.done.crashes++
	rng := w.crashes.rng
	var now atomic.Int64
	now.Store(p.now)
	faulty := faultfs.New(p.fs)
	var second *memfs.FS // a crash in the middle of the recovery
	if rng.IntN(3) == 0 {
		at := 1 + rng.Int64N(40)
		faulty.SetHook(func(op faultfs.Op) {
			if op.N == at {
				second = p.fs.Crash(rng)
			}
		})
	}
	opt, text := w.options(faulty, &now)
	cfg := w.cfg
	if rng.IntN(4) == 0 {
		cfg.HeadMaxBytes = 5000 // recovery writes parts
	}
	s, err := storage.Open(cfg, opt)
	if err != nil {
		w.log = text
		w.fatalf("cannot recover from a crash before %s: %s", p.before, err)
	}
	w.opened = append(w.opened, s)
	synctest.Wait()
	if err := w.checkAll(s, p.m); err != nil {
		w.log = text
		w.fatalf("after a crash before %s: %s", p.before, err)
	}
	w.checkSnapshotList(s, p, text)
	if rng.IntN(4) == 0 {
		p.fs.SetCapacity(0) // the crash may have come from a full disk, on which the recovery has just succeeded
		w.goOn(s, p, text)
	}
	kill(faulty, s)
	w.opened = w.opened[:len(w.opened)-1]
	w.recoverSnapshot(p)
	if used := opt.Budget.Used(); used != 0 {
		w.fatalf("%d bytes of the budget are in use after Close", used)
	}
	if second != nil {
		w.recoverPoint(crashPoint{fs: second, m: p.m, now: p.now, before: "an operation of the recovery from a crash before " + p.before})
	}
}

// goOn flushes and merges after a recovery, which must not change any answer.
func (w *world) goOn(s *storage.Storage, p crashPoint, text *textLog) {
	err := s.Flush(context.Background())
	if err == nil {
		err = s.Merge(context.Background(), "")
	}
	if err == nil {
		err = w.checkAll(s, p.m)
	}
	if err != nil {
		w.log = text
		w.fatalf("flush and merge after a crash before %s: %s", p.before, err)
	}
}

// recoverPoints recovers from all crashes found since the last call.
func (w *world) recoverPoints() {
	w.crashes.Lock()
	found := w.crashes.found
	w.crashes.found = nil
	every := w.crashes.every
	w.crashes.every = 0
	w.crashes.Unlock()
	for _, p := range found {
		w.recoverPoint(p)
	}
	w.crashes.Lock()
	w.crashes.every = every
	w.crashes.Unlock()
}

func allOfTime() model.TimeRange { return model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64} }

// checkAll compares everything a storage holds with the model.
func (w *world) checkAll(s *storage.Storage, m moment) error {
	return w.checkRange(s, m, allOfTime())
}

func (w *world) checkRange(s *storage.Storage, m moment, r model.TimeRange) error {
	for account := range uint32(worldTenants) {
		tenant := model.TenantID{AccountID: account, ProjectID: account % 2}
		a, err := search(s, &model.SearchQuery{Tenant: tenant, Range: r})
		if err != nil {
			return fmt.Errorf("cannot search: %w", err)
		}
		if a.partial {
			return errors.New("an answer is partial, although nothing is damaged")
		}
		ours := func(key string) bool { return model.SeriesKeyTenant([]byte(key)) == tenant }
		if err := errors.Join(w.o.missing(a, m, r, ours), w.o.foreign(a, m, r, ours)); err != nil {
			return err
		}
	}
	return w.checkAggregates(s, m)
}

// allowed reports whether an operation may fail like this while faults are injected.
func allowed(err error) bool {
	return errkind.Of(err).TryElsewhere() || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC)
}

// feed makes random batches: scrapes, late samples, duplicates, backfills, new series.
type feed struct {
	rng    *rand.Rand
	now    *atomic.Int64
	live   []int // numbers of the series that are scraped
	cursor map[int]int64
	last   int

	histograms *rand.Rand // of their own, so that older seeds still do what they did
}

func newFeed(rng *rand.Rand, now *atomic.Int64) *feed {
	f := &feed{rng: rng, now: now, cursor: map[int]int64{}}
	for range 8 + rng.IntN(30) {
		f.add()
	}
	return f
}

func (f *feed) add() {
	f.last++
	f.live = append(f.live, f.last)
	f.cursor[f.last] = f.now.Load() - f.rng.Int64N(3*worldDayMs)
}

// churn replaces some of the series.
func (f *feed) churn() {
	for range 1 + f.rng.IntN(6) {
		f.live = slices.Delete(f.live, 0, 1)
		f.add()
	}
}

func feedTenant(i int) model.TenantID {
	account := uint32(i % worldTenants)
	return model.TenantID{AccountID: account, ProjectID: account % 2}
}

func feedLabels(i int) []model.Label {
	labels := []model.Label{
		{Name: model.MetricNameLabel, Value: fmt.Sprintf("metric_%d", i%5)},
		{Name: "instance", Value: fmt.Sprintf("host-%d:9100", i/6)},
	}
	if i%4 > 0 {
		labels = append(labels, model.Label{Name: "pod", Value: fmt.Sprintf("pod-%d-%s", i, strings.Repeat("x", i%17))})
	}
	return labels
}

func (f *feed) value() float64 {
	switch f.rng.IntN(10) {
	case 0:
		return math.Float64frombits(0x7ff0000000000002) // a stale marker
	case 1:
		return math.Float64frombits(f.rng.Uint64())
	case 2:
		return math.Inf(1 - 2*f.rng.IntN(2))
	case 3:
		return math.Copysign(0, -1)
	case 4:
		return f.rng.NormFloat64()
	}
	return float64(f.rng.IntN(1_000_000)) / 1000
}

// batch returns a batch and says what is in it.
func (f *feed) batch(t testing.TB) (*model.Batch, string) {
	b := &model.Batch{}
	kind := "scrape"
	switch r := f.rng.IntN(20); {
	case r < 9:
		f.scrape(t, b)
	case r < 15:
		kind = "mixture"
		f.mixture(t, b)
	case r < 17:
		kind = "backfill"
		f.backfill(t, b)
	case r < 18:
		kind = "long run"
		f.longRun(t, b)
	default:
		kind = "churn"
		f.churn()
		f.scrape(t, b)
	}
	return b, fmt.Sprintf("%s of %d series, %d samples", kind, b.Len(), b.Rows())
}

func (f *feed) series(t testing.TB, b *model.Batch, i int) {
	if err := b.AddSeries(feedTenant(i), feedLabels(i)); err != nil {
		t.Fatal(err)
	}
}

// sample adds a sample to series i, the last one of b. Some series have native histograms as well, few only these.
func (f *feed) sample(b *model.Batch, i int, timestamp int64, value float64) {
	if i%3 > 0 {
		b.AddSample(timestamp, value)
		return
	}
	only := i%12 == 0
	if !only {
		b.AddSample(timestamp, value)
	}
	if only || f.histograms.IntN(3) == 0 {
		b.AddHistogram(timestamp, histogramtest.OfBits(f.histograms.Uint64()>>f.histograms.IntN(50)))
	}
}

// scrape has one sample of many series, all at one time.
func (f *feed) scrape(t testing.TB, b *model.Batch) {
	ts := f.now.Load() - f.rng.Int64N(60_000)
	for _, i := range f.live {
		if f.rng.IntN(8) == 0 {
			continue
		}
		f.series(t, b, i)
		f.sample(b, i, ts, f.value())
		f.cursor[i] = max(f.cursor[i], ts)
	}
}

// mixture has several samples of some series: in order, late, twice, too old and too new.
func (f *feed) mixture(t testing.TB, b *model.Batch) {
	for range 1 + f.rng.IntN(10) {
		i := f.live[f.rng.IntN(len(f.live))]
		f.series(t, b, i)
		for range 1 + f.rng.IntN(6) {
			f.sample(b, i, f.timestamp(i), f.value())
		}
	}
}

func (f *feed) timestamp(i int) int64 {
	now := f.now.Load()
	switch f.rng.IntN(14) {
	case 0:
		return now - f.rng.Int64N((worldRetention+5)*worldDayMs) // anywhere, and sometimes too old
	case 1:
		return now + f.rng.Int64N(3*worldDayMs) // sometimes too far in the future
	case 2:
		return f.cursor[i] // once more
	case 3:
		return f.cursor[i] - f.rng.Int64N(600_000)
	}
	f.cursor[i] = min(f.cursor[i]+15_000, now)
	return f.cursor[i]
}

// backfill has old samples of few series over weeks.
func (f *feed) backfill(t testing.TB, b *model.Batch) {
	for range 1 + f.rng.IntN(3) {
		i := f.live[f.rng.IntN(len(f.live))]
		f.series(t, b, i)
		ts := f.now.Load() - f.rng.Int64N(worldRetention*worldDayMs)
		step := 60_000 + f.rng.Int64N(worldDayMs)
		for range 1 + f.rng.IntN(40) {
			f.sample(b, i, ts, f.value())
			ts += step
		}
	}
}

// longRun has so many samples of one series that they fill chunks.
func (f *feed) longRun(t testing.TB, b *model.Batch) {
	i := f.live[f.rng.IntN(len(f.live))]
	f.series(t, b, i)
	for range 100 + f.rng.IntN(400) {
		f.cursor[i] += 1 + f.rng.Int64N(1000)
		f.sample(b, i, min(f.cursor[i], f.now.Load()+worldDayMs), f.value())
	}
}
