package storage

import (
	"context"
	"hash/maphash"
	"math"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/wal"
)

const (
	// frameTarget is the size from which a log frame takes no more.
	frameTarget = 1 << 20
	// frameStep is the number of samples after which the size of the frame is looked at.
	frameStep = 4096
	// maxKeyBytes bounds series keys.
	maxKeyBytes = 1 << 20
)

// Ingest implements storageapi.Ingester.
func (s *Storage) Ingest(ctx context.Context, batch *model.Batch) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.admit(ctx); err != nil {
		return err
	}
	w := s.writers.Get().(*writer)
	position, err := w.write(batch)
	s.writers.Put(w)
	if err != nil {
		return s.logErr(err)
	}
	if err := s.log.WaitDurable(position); err != nil {
		return s.logErr(err)
	}
	return nil
}

// admit returns why no samples can be taken now.
func (s *Storage) admit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.log.Failed():
		return s.logErr(s.log.Err())
	default:
	}
	if s.readOnly.Load() {
		return errkind.New(errkind.ReadOnly, "storage %q is in read-only mode: less than -storage.minFreeDiskSpaceBytes=%d bytes are free; add disk space or lower -retentionPeriod",
			s.cfg.DataPath, s.cfg.MinFreeDiskSpaceBytes)
	}
	if s.crowded() {
		return s.awaitRoom(ctx)
	}
	return nil
}

// logErr gives failures of the log a kind which lets clients go elsewhere. A log which a full disk holds up makes the storage
// read-only at once: what is refused from now on does not wait in memory.
func (s *Storage) logErr(err error) error {
	if errkind.Of(err) == errkind.ReadOnly {
		s.enterReadOnly(err)
	}
	if errkind.Of(err) == errkind.Internal {
		return errkind.New(errkind.Unavailable, "storage %q takes no samples: %w", s.cfg.DataPath, err)
	}
	return err
}

// run is a piece of a batch: consecutive samples of one series in one month.
type run struct {
	series     int // in the batch
	start, end int // among the samples of the series
	month      partition.Month
	id         uint32
}

// search is a run whose series has no slot.
type search struct {
	key hotKey
	run int // index in writer.runs
}

// writer is the scratch memory of one Ingest.
type writer struct {
	s       *Storage
	slots   *slots // of the batch's space; nil when it has none
	runs    []run
	samples int      // so many runs are of samples, the others of native histograms
	missing []search // runs whose series is known neither by its slot nor to the hot table
	stale   []search // runs whose series is in the hot table from the previous period
	labels  []model.Label
	frame   wal.FrameEncoder
	delta   head.Delta
	finder  index.Finder
	month   partition.Month // of the sample before
	inMonth model.TimeRange
	oldest  int64 // timestamp of the batch

	histograms []model.Histogram // of the batch
}

// write puts the batch into the log and the heads, and returns the position up to which the log must
// become durable.
func (w *writer) write(b *model.Batch) (wal.Position, error) {
	s := w.s
	s.m.rowsReceived.Add(b.Rows())
	s.flushLock.RLock()
	defer s.flushLock.RUnlock()
	w.slots = s.slotsOf(b)
	w.split(b)
	w.samples = len(w.runs)
	w.splitHistograms(b)
	w.lookUp(b)
	position, err := w.registerMissing(b)
	if err != nil {
		return 0, err
	}
	if p, err := w.logSamples(b); err != nil {
		return 0, err
	} else if p > 0 {
		position = p
	}
	err = w.append(b)
	w.noteLate(b)
	return position, err
}

// split cuts the samples of the batch into runs and leaves out those which are not accepted. Runs of series
// which have no slot in their month go to w.missing.
func (w *writer) split(b *model.Batch) {
	w.runs, w.missing = w.runs[:0], w.missing[:0]
	w.oldest = math.MaxInt64
	accepted := w.s.accepted()
	for i := range b.Len() {
		samples := b.Samples(i)
		first := len(w.runs)
		open := false // the last run goes on
		for j := range samples {
			t := samples[j].Timestamp
			if !accepted.Contains(t) {
				w.s.ignore(b.Key(i), t, accepted)
				open = false
				continue
			}
			w.oldest = min(w.oldest, t)
			if t < w.inMonth.Min || t > w.inMonth.Max {
				w.month = partition.MonthOf(t)
				w.inMonth = w.month.Range()
				open = false
			}
			if open {
				w.runs[len(w.runs)-1].end = j + 1
				continue
			}
			w.runs = append(w.runs, run{series: i, start: j, end: j + 1, month: w.month})
			open = true
		}
		if w.s.limits != nil && len(w.runs) > first && !w.s.limits.pass(b, i, w.runs[first:]) {
			w.runs = w.runs[:first]
		}
		w.identify(b, i, first)
	}
}

// identify gives the runs of series i, which begin at the given index, their ids from the slot of the series, or the
// keys to search for.
func (w *writer) identify(b *model.Batch, i, first int) {
	known := slot(0)
	if n := b.Number(i); n != model.NoNumber && w.slots != nil {
		known = w.slots.get(n)
	}
	second, hashed := uint64(0), false
	for j := first; j < len(w.runs); j++ {
		r := &w.runs[j]
		if r.month == known.month() {
			r.id = known.id()
			continue
		}
		if !hashed {
			second, hashed = maphash.Bytes(w.s.seed, b.Key(i)), true
		}
		w.missing = append(w.missing, search{key: newHotKey(b.Hash(i), second, r.month), run: j})
	}
}

// keyText renders a series key only when it is really logged.
type keyText []byte

func (k keyText) String() string { return model.SeriesKeyString(k) }

// instant renders a time in Unix milliseconds only when it is really logged.
type instant int64

func (t instant) String() string {
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// ignore counts a sample outside of the accepted range.
func (s *Storage) ignore(key []byte, t int64, accepted model.TimeRange) {
	if t < accepted.Min {
		s.m.ignoredSmall.Inc()
		s.smallWarn.Warnf("ignoring samples of %s at %s: older than the limit %s, which -retentionPeriod=%s and -maxBackfillAge=%s set",
			keyText(key), instant(t), instant(accepted.Min), s.cfg.RetentionPeriod.String(), s.cfg.MaxBackfillAge.String())
		return
	}
	s.m.ignoredBig.Inc()
	s.bigWarn.Warnf("ignoring samples of %s at %s: beyond the limit %s, which -futureRetention=%s sets",
		keyText(key), instant(t), instant(accepted.Max), s.cfg.FutureRetention.String())
}

// lookUp finds the ids of those missing series which the hot table knows.
func (w *writer) lookUp(b *model.Batch) {
	w.stale = w.stale[:0]
	if len(w.missing) == 0 {
		return
	}
	missing := w.missing[:0]
	t := &w.s.hot
	t.RLock()
	for _, x := range w.missing {
		r := &w.runs[x.run]
		id, ok, fresh := t.get(x.key)
		switch r.id = id; {
		case !ok:
			missing = append(missing, x)
		case w.slots != nil && w.slots.put(b.Number(r.series), newSlot(r.month, id)):
		case !fresh:
			w.stale = append(w.stale, x)
		}
	}
	t.RUnlock()
	w.missing = missing
	w.remember(w.stale)
}

// remember puts the series of the given runs into the hot table.
func (w *writer) remember(found []search) {
	if len(found) == 0 {
		return
	}
	t := &w.s.hot
	t.Lock()
	defer t.Unlock()
	for _, x := range found {
		if r := &w.runs[x.run]; r.start < r.end {
			t.put(x.key, r.id)
		}
	}
}

// settle notes where the series of the given runs are: in their slots, or else in the hot table.
func (w *writer) settle(b *model.Batch, found []search) {
	if w.slots == nil {
		w.remember(found)
		return
	}
	rest := found[:0]
	for _, x := range found {
		r := &w.runs[x.run]
		if r.start < r.end && !w.slots.put(b.Number(r.series), newSlot(r.month, r.id)) {
			rest = append(rest, x)
		}
	}
	w.remember(rest)
}

// registerMissing gives ids to the series which the hot table does not know. The
// lock is held until the records of new ones are in the log, so nobody can log samples of a series before its record.
func (w *writer) registerMissing(b *model.Batch) (wal.Position, error) {
	w.s.m.slowInserts.Add(len(w.missing))
	if err := w.findFlushed(b); err != nil || len(w.missing) == 0 {
		return 0, err
	}
	position, err := w.registerLocked(b)
	if err != nil {
		return 0, err
	}
	w.settle(b, w.missing)
	return position, nil
}

// findFlushed finds the missing series which are durable in an index; they need no record in the log. After a start these are
// millions, and each is decompressed from the disk: so it is done without the lock, by all writers at a time, and in the order of the batch.
func (w *writer) findFlushed(b *model.Batch) error {
	if len(w.missing) == 0 {
		return nil
	}
	byMonth := w.s.table.Load().byMonth
	found, missing := w.stale[:0], w.missing[:0]
	defer w.finder.Close()
	month := partition.Month(0) // of the finder
	for _, x := range w.missing {
		r := &w.runs[x.run]
		p := byMonth[r.month]
		if p == nil {
			missing = append(missing, x)
			continue
		}
		if !w.finder.IsOpen() || r.month != month {
			w.finder.Open(p.Index())
			month = r.month
		}
		id, ok, err := w.finder.Find(b.Hash(r.series), b.Key(r.series))
		if err != nil {
			return lookupErr(err)
		}
		if ok {
			r.id = id
			found = append(found, x)
			continue
		}
		missing = append(missing, x)
	}
	w.stale, w.missing = found, missing
	w.settle(b, found)
	return nil
}

// lookupErr is for an index which cannot be read. Another node can take the batch.
func lookupErr(cause error) error {
	return errkind.New(errkind.Unavailable, "cannot look up a series, so the samples sent with it are not taken: %w", cause)
}

func (w *writer) registerLocked(b *model.Batch) (position wal.Position, err error) {
	w.s.register.Lock()
	defer w.s.register.Unlock()
	// What can fail comes first: once the index has a series, its record has to get into the log.
	for _, x := range w.missing {
		if _, err := w.s.partitionOf(w.runs[x.run].month); err != nil {
			return 0, err
		}
	}
	w.frame.Reset()
	defer func() { // a lookup may have panicked, and an HTTP server goes on then
		if w.frame.Len() > 0 {
			_, _ = w.appendFrame()
		}
	}()
	created := 0
	for _, x := range w.missing {
		r := &w.runs[x.run]
		if !w.valid(b.Key(r.series)) {
			w.s.m.ignoredInvalid.Add(r.end - r.start)
			r.end = r.start
			continue
		}
		p, err := w.s.partitionOf(r.month)
		if err != nil {
			return 0, err
		}
		var isNew bool
		if r.id, isNew, err = p.Index().Add(b.Hash(r.series), b.Key(r.series)); err != nil {
			return 0, lookupErr(err)
		}
		if !isNew {
			continue
		}
		created++
		w.s.tenants.created.Of(model.SeriesKeyTenant(b.Key(r.series))).Inc()
		w.s.noteNewSeries(b.Key(r.series))
		w.frame.AddSeries(uint32(r.month), r.id, b.Key(r.series))
		if w.frame.Len() < frameTarget {
			continue
		}
		if position, err = w.appendFrame(); err != nil {
			return 0, err
		}
	}
	w.s.m.newSeries.Add(created)
	if w.frame.Len() == 0 {
		return position, nil
	}
	return w.appendFrame()
}

// valid reports whether key is a canonical series key. Keys come over the network, and only new ones get here.
func (w *writer) valid(key []byte) bool {
	if len(key) > maxKeyBytes {
		return false
	}
	_, labels, err := model.ParseSeriesKey(w.labels[:0], key)
	clear(labels) // they alias the key
	w.labels = labels[:0]
	return err == nil
}

func (w *writer) appendFrame() (wal.Position, error) {
	position, err := w.s.log.Append(w.frame.Bytes())
	w.frame.Reset()
	return position, err
}

// logSamples puts all samples and native histograms into the log.
func (w *writer) logSamples(b *model.Batch) (position wal.Position, err error) {
	w.frame.Reset()
	for i := range w.runs[:w.samples] {
		r := &w.runs[i]
		for start := r.start; start < r.end; start += frameStep {
			for _, x := range b.Samples(r.series)[start:min(r.end, start+frameStep)] {
				w.frame.AddSample(uint32(r.month), r.id, x.Timestamp, x.Value)
			}
			if w.frame.Len() < frameTarget {
				continue
			}
			if position, err = w.appendFrame(); err != nil {
				return 0, err
			}
		}
	}
	if position, err = w.logHistograms(position); err != nil || w.frame.Len() == 0 {
		return position, err
	}
	return w.appendFrame()
}

// append puts all samples and native histograms into the heads.
func (w *writer) append(b *model.Batch) error {
	samples, err := w.appendRuns(b, w.runs[:w.samples], false)
	if err != nil {
		return err
	}
	histograms, err := w.appendRuns(b, w.runs[w.samples:], true)
	w.s.m.rowsAdded.Add(samples + histograms)
	w.s.m.rowsHistograms.Add(histograms)
	return err
}

// appendRuns puts runs of samples or of native histograms into the heads, month by month, and returns how many rows they have.
func (w *writer) appendRuns(b *model.Batch, runs []run, histograms bool) (rows int, err error) {
	for start := 0; start < len(runs); {
		p, err := w.s.partitionOf(runs[start].month)
		if err != nil {
			return rows, err
		}
		end := start
		w.delta.Reset()
		h := p.Head()
		for ; end < len(runs) && runs[end].month == runs[start].month; end++ {
			r := &runs[end]
			if r.start == r.end {
				continue
			}
			if histograms {
				h.AppendHistograms(r.id, w.histograms[r.start:r.end], &w.delta)
			} else {
				h.Append(r.id, b.Samples(r.series)[r.start:r.end], &w.delta)
			}
			rows += r.end - r.start
		}
		w.s.account(p, h, &w.delta)
		start = end
	}
	return rows, nil
}

// account adds what a run of appends did to the sums, and marks the days of the series.
func (s *Storage) account(p *partition.Partition, h *head.Head, d *head.Delta) {
	h.Add(d)
	for _, x := range d.Days {
		p.Index().MarkActive(x.ID, x.Day)
	}
	s.o.Budget.ForceReserve(d.Bytes)
	if s.headBytes.Add(d.Bytes) > s.maxHeadBytes {
		s.askFlush()
	}
	if s.headSince.Load() == 0 {
		s.headSince.CompareAndSwap(0, s.o.Now().UnixMilli())
	}
}
