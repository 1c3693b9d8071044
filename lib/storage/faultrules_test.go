package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"sync/atomic"
	"testing/synctest"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/storage"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs/faultfs"
)

// What a history may have besides samples and faults: deletions, snapshots, and rules for old samples.

// deletion is a deletion of series; it is about samples that were sent before.
type deletion struct {
	tenant  model.TenantID
	match   func(key string) bool
	at      int
	ackedAt int // 0: it failed, and nobody knows what it did
}

// deletedBy returns a deletion before the moment, finished or not, which is about the sample.
func (o *oracle) deletedBy(key string, e *event, m moment) *deletion {
	for _, d := range o.deletions {
		if e.sentAt < d.at && d.at <= m.sent && d.match(key) {
			return d
		}
	}
	return nil
}

// gone reports whether a sample must not be found any more.
func (o *oracle) gone(key string, e *event, m moment) bool {
	return slices.ContainsFunc(o.deletions, func(d *deletion) bool {
		return e.sentAt < d.at && d.ackedAt > 0 && d.ackedAt <= m.acked && d.match(key)
	})
}

// momentAt is a moment with the limit of retention that follows from the clock.
func (w *world) momentAt(acked, sent int, now int64) moment {
	return moment{acked: acked, sent: sent, now: now, keepFrom: now - worldRetention*worldDayMs}
}

// wholeRange returns from when on a series has samples, and up to when some of them may have been left out by downsampling.
func (o *oracle) wholeRange(key string, m moment) (from, reduced int64) {
	from, reduced = m.keepFrom, math.MinInt64
	if keep := o.keep(key); keep > 0 {
		o.done.shortened++
		from = max(from, m.now-keep)
	}
	if offset, interval := o.reduced(key); interval > 0 {
		reduced = m.now - offset
	}
	return from, reduced
}

// deduplicated reports whether a later sample of the answer stands for the one at ts.
func (o *oracle) deduplicated(got []smp, ts int64) bool {
	if o.dedup <= 1 {
		return false
	}
	end := (ts + o.dedup - 1) / o.dedup * o.dedup
	found := slices.ContainsFunc(got, func(x smp) bool { return x.ts > ts && x.ts <= end })
	if found && !slices.ContainsFunc(got, func(x smp) bool { return x.ts == ts }) {
		o.done.duplicates++
	}
	return found // a copy of the sample in another part may be there all the same, and lose in the end
}

// losesTo reports whether a sample that was not asked for, behind the end of the range, may stand for the one at ts.
func (o *oracle) losesTo(key string, ts int64, r model.TimeRange, m moment) bool {
	if o.dedup <= 1 {
		return false
	}
	end := (ts + o.dedup - 1) / o.dedup * o.dedup
	if end <= r.Max {
		return false
	}
	for other, events := range o.series[key] {
		if other > r.Max && other <= end && slices.ContainsFunc(events, func(e event) bool { return e.sentAt <= m.sent && !o.gone(key, &e, m) }) {
			return true
		}
	}
	return false
}

// rule returns a rule about the series with a metric; none about all.
func (w *world) rule(metric string) storage.SeriesRule {
	if metric == "" {
		return storage.SeriesRule{}
	}
	return storage.SeriesRule{Text: "{" + metric + "}", Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: metric}}}}
}

// metricOf returns the name of the metric of a key.
func (w *world) metricOf(key string) string {
	_, labels, err := model.ParseSeriesKey(nil, []byte(storage.SeriesOf(key)))
	if err != nil {
		w.fatalf("bad key %q: %s", key, err)
	}
	for _, l := range labels {
		if l.Name == model.MetricNameLabel {
			return l.Value
		}
	}
	return ""
}

// addOptions chooses rules for old samples.
func (w *world) addOptions() {
	w.cfg.SnapshotsMaxAge = flagvalue.NewRetention("0")
	if w.extra.IntN(4) == 0 {
		w.o.dedup = []int64{1000, 15_000, 60_000}[w.extra.IntN(3)]
		w.cfg.DedupMinScrape = flagvalue.Duration(time.Duration(w.o.dedup) * time.Millisecond)
	}
	if w.extra.IntN(3) == 0 {
		w.addRetentionRule()
	}
	if w.extra.IntN(2) == 0 {
		w.addDownsampling()
	}
}

func (w *world) addRetentionRule() {
	metric := fmt.Sprintf("metric_%d", w.extra.IntN(5))
	keep := time.Duration(1+w.extra.IntN(60)) * 24 * time.Hour
	w.cfg.RetentionRules = []storage.RetentionRule{{SeriesRule: w.rule(metric), Keep: keep}}
	w.o.keep = func(key string) int64 {
		if w.metricOf(key) != metric {
			return 0
		}
		return keep.Milliseconds()
	}
}

func (w *world) addDownsampling() {
	special := fmt.Sprintf("metric_%d", w.extra.IntN(5))
	offset, coarse := time.Duration(2+w.extra.IntN(48))*time.Hour, time.Duration(20+w.extra.IntN(30))*24*time.Hour
	other := time.Duration(24+w.extra.IntN(24*60)) * time.Hour
	w.cfg.DownsamplingRules = []storage.DownsamplingRule{
		{Offset: offset, Interval: 10 * time.Minute}, {Offset: coarse, Interval: time.Hour},
		{SeriesRule: w.rule(special), Offset: other, Interval: time.Hour},
	}
	w.o.reduced = func(key string) (int64, int64) {
		if w.metricOf(key) == special {
			return other.Milliseconds(), time.Hour.Milliseconds()
		}
		return offset.Milliseconds(), time.Hour.Milliseconds()
	}
}

// moreSteps sometimes deletes series or deals with snapshots.
func (w *world) moreSteps() {
	switch r := w.extra.IntN(100); {
	case r < 6:
		w.deleteSeries()
	case r < 10:
		w.createSnapshot()
	case r < 11:
		w.deleteSnapshot()
	case r < 14:
		w.listSnapshots(w.s, w.present(), w.faults)
	}
	synctest.Wait()
}

// begin numbers a step which changes the model; end says that it was acknowledged.
func (w *world) begin() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.sent++
	return w.mu.sent
}

func (w *world) acknowledged(at int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.acked = at
}

func (w *world) deleteSeries() {
	tenant, filters := feedTenant(w.extra.IntN(worldTenants)), []model.TagFilter{{Name: model.MetricNameLabel, Op: model.Equal, Value: fmt.Sprintf("metric_%d", w.extra.IntN(6))}}
	if w.extra.IntN(2) == 0 {
		filters[0] = model.TagFilter{Name: "instance", Op: model.Regexp, Value: fmt.Sprintf("host-.?%d:.*", w.extra.IntN(10))}
	}
	d := &deletion{tenant: tenant, match: w.matching(tenant, filters)}
	w.crashes.Lock()
	d.at = w.begin()
	w.o.deletions = append(w.o.deletions, d)
	w.crashes.Unlock()
	n, err := w.s.DeleteSeries(context.Background(), &model.SearchQuery{Tenant: tenant, Range: allOfTime(), Filters: [][]model.TagFilter{filters}})
	w.note("delete series of %s %v: %d, %v", tenant, filters, n, err)
	if err != nil {
		w.failed("delete series", err)
		return
	}
	w.crashes.Lock()
	d.ackedAt = d.at
	w.acknowledged(d.at)
	w.crashes.Unlock()
	w.done.deletions++
}

// snap is a snapshot and what it has to hold.
type snap struct {
	name               string // empty while it is being made
	at, ackedAt        int
	goneAt, goneAckeAt int // of its deletion
}

// mustBe and mayBe report whether a snapshot is listed at a moment.
func (x *snap) mustBe(m moment) bool {
	return x.ackedAt > 0 && x.ackedAt <= m.acked && (x.goneAt == 0 || x.goneAt > m.sent)
}

func (x *snap) mayBe(m moment) bool {
	return x.at <= m.sent && (x.goneAckeAt == 0 || x.goneAckeAt > m.acked)
}

func (w *world) createSnapshot() {
	alive := 0
	for _, x := range w.snapshots {
		if x.goneAckeAt == 0 {
			alive++
		}
	}
	if alive >= 2 {
		w.deleteSnapshot()
		return
	}
	x := &snap{}
	w.crashes.Lock()
	x.at = w.begin()
	w.snapshots = append(w.snapshots, x)
	w.crashes.Unlock()
	name, err := w.s.CreateSnapshot(context.Background())
	w.note("create snapshot %q: %v", name, err)
	w.crashes.Lock()
	defer w.crashes.Unlock()
	if x.name = name; err == nil {
		x.ackedAt = x.at
		w.acknowledged(x.at)
		return
	}
	w.failed("create a snapshot", err)
}

func (w *world) deleteSnapshot() {
	for _, x := range w.snapshots {
		if x.ackedAt == 0 || x.goneAckeAt > 0 {
			continue
		}
		w.crashes.Lock()
		x.goneAt = w.begin()
		w.crashes.Unlock()
		err := w.s.DeleteSnapshot(context.Background(), x.name)
		w.note("delete snapshot %s: %v", x.name, err)
		w.crashes.Lock()
		defer w.crashes.Unlock()
		if err != nil && !w.faults {
			err = w.s.DeleteSnapshot(context.Background(), x.name) // an earlier try may have failed half-way
			if err != nil {
				x.goneAckeAt = x.goneAt
				return
			}
		}
		if err != nil {
			w.failed("delete a snapshot", err)
			return
		}
		x.goneAckeAt = x.goneAt
		w.acknowledged(x.goneAt)
		return
	}
}

// listSnapshots compares the list with the model. With unsure, failures may have left more.
func (w *world) listSnapshots(s *storage.Storage, m moment, unsure bool) []string {
	names, err := s.Snapshots(context.Background())
	if err != nil {
		w.failed("list snapshots", err)
		return nil
	}
	may := 0
	for _, x := range w.snapshots {
		if x.mustBe(m) && !slices.Contains(names, x.name) {
			w.fatalf("snapshot %s is not listed in %v", x.name, names)
		}
		if x.mayBe(m) {
			may++
		}
	}
	if len(names) > may {
		w.fatalf("%d snapshots are listed, %v; there can be %d", len(names), names, may)
	}
	return names
}

func (w *world) checkSnapshotList(s *storage.Storage, p crashPoint, text *textLog) {
	if len(w.snapshots) > 0 {
		faults := w.faults
		w.faults = false
		log := w.log
		w.log = text
		w.listSnapshots(s, p.m, true)
		w.log, w.faults = log, faults
	}
}

// recoverSnapshot sometimes opens a snapshot, on what a crash has left, in its place.
func (w *world) recoverSnapshot(p crashPoint) {
	var found []*snap
	for _, x := range w.snapshots {
		if x.mustBe(p.m) {
			found = append(found, x)
		}
	}
	if len(found) == 0 || w.crashes.rng.IntN(6) > 0 {
		return
	}
	w.openSnapshot(p, found[w.crashes.rng.IntN(len(found))])
}

func (w *world) openSnapshot(p crashPoint, x *snap) {
	var now atomic.Int64
	now.Store(p.now)
	p.fs.SetCapacity(0)
	faulty := faultfs.New(p.fs)
	opt, text := w.options(faulty, &now)
	cfg := w.cfg
	cfg.DataPath = path.Join(worldPath, "snapshots", x.name)
	s, err := storage.Open(cfg, opt)
	if err != nil {
		w.log = text
		w.fatalf("cannot open snapshot %s: %s", x.name, err)
	}
	w.opened = append(w.opened, s)
	synctest.Wait()
	m := w.momentAt(x.at, x.at, p.now)
	err = w.checkAll(s, m)
	if err == nil && w.crashes.rng.IntN(3) == 0 {
		if err = s.Merge(context.Background(), ""); err == nil {
			err = w.checkAll(s, m)
		}
	}
	if err != nil {
		w.log = text
		w.fatalf("snapshot %s, after a crash before %s: %s", x.name, p.before, err)
	}
	kill(faulty, s)
	w.opened = w.opened[:len(w.opened)-1]
	w.done.snapshots++
}

// numbers is what an aspect of a series gives by hours: how many numbers, the lowest and the highest.
type numbers struct {
	count, low, high float64
	columns          int
}

func (n *numbers) add(count, low, high float64) {
	if n.count == 0 {
		n.low, n.high = math.Inf(1), math.Inf(-1)
	}
	n.count += count
	n.low, n.high = math.Min(n.low, low), math.Max(n.high, high)
}

func hourOf(ts int64) int64 {
	const hour = 3600_000
	return (ts + hour - 1) / hour
}

// checkAggregates compares counts, lowest and highest of what is downsampled with the model.
func (w *world) checkAggregates(s *storage.Storage, m moment) error {
	if len(w.cfg.DownsamplingRules) == 0 {
		return nil
	}
	for i := range worldTenants {
		got := map[string]map[int64]*numbers{}
		for _, aspect := range []model.Aspect{model.AspectCount, model.AspectMin, model.AspectMax} {
			if err := readNumbers(s, feedTenant(i), aspect, got); err != nil {
				return err
			}
		}
		for key, samples := range w.o.series {
			if model.SeriesKeyTenant([]byte(key)) != feedTenant(i) || storage.IsMarked(key) {
				continue
			}
			if err := w.o.compareNumbers(key, samples, got[key], m); err != nil {
				return fmt.Errorf("%s: %w", model.SeriesKeyString([]byte(key)), err)
			}
		}
	}
	return nil
}

// readNumbers adds what a search for an aspect gives, by series and hour.
func readNumbers(s *storage.Storage, t model.TenantID, aspect model.Aspect, got map[string]map[int64]*numbers) error {
	it, err := s.Search(context.Background(), &model.SearchQuery{Tenant: t, Range: allOfTime(), Aspect: aspect})
	if err != nil {
		return fmt.Errorf("cannot search: %w", err)
	}
	for it.Next() {
		key := string(it.At().Key)
		if got[key] == nil {
			got[key] = map[int64]*numbers{}
		}
		if err = addNumbers(it.At(), aspect, got[key]); err != nil {
			break
		}
	}
	return errors.Join(err, it.Err(), it.Close())
}

func addNumbers(series *storageapi.Series, aspect model.Aspect, byHour map[int64]*numbers) error {
	for c := tsblock.Raw; c <= tsblock.Count; c++ {
		var blocks []tsblock.Block
		for _, b := range series.Blocks {
			if b.Content() == c {
				blocks = append(blocks, b)
			}
		}
		if len(blocks) == 0 {
			continue
		}
		var samples tsblock.Samples
		if err := readAllOf(&samples, blocks, c); err != nil {
			return err
		}
		for i, ts := range samples.Timestamps {
			v := samples.Values[i]
			if math.IsNaN(v) {
				continue
			}
			h := byHour[hourOf(ts)]
			if h == nil {
				h = &numbers{}
				byHour[hourOf(ts)] = h
			}
			switch {
			case aspect == model.AspectCount && c == tsblock.Raw:
				h.add(1, math.Inf(1), math.Inf(-1))
			case aspect == model.AspectCount:
				h.add(v, math.Inf(1), math.Inf(-1))
				h.columns++
			case aspect == model.AspectMin:
				h.add(0, v, math.Inf(-1))
			default:
				h.add(0, math.Inf(1), v)
			}
		}
	}
	return nil
}

// readAllOf reads raw samples, one for each timestamp, and all entries of columns.
func readAllOf(dst *tsblock.Samples, blocks []tsblock.Block, c tsblock.Content) error {
	if c == tsblock.Raw {
		return tsblock.ReadRange(dst, blocks, allOfTime(), 0, &tsblock.Scratch{})
	}
	for i := range blocks {
		if err := blocks[i].Decode(dst); err != nil {
			return err
		}
	}
	return nil
}

// expected is what the model knows of an hour of a series.
type expected struct {
	numbers
	least, most float64
	unsure      bool // lowest and highest are not known for sure
}

func (o *oracle) compareNumbers(key string, samples map[int64][]event, got map[int64]*numbers, m moment) error {
	from, _ := o.wholeRange(key, m)
	want := map[int64]*expected{}
	for ts, events := range samples {
		h := want[hourOf(ts)]
		if h == nil {
			h = &expected{}
			want[hourOf(ts)] = h
		}
		o.expect(h, key, ts, events, m)
	}
	for hour, h := range want {
		if (hour-1)*3600_000 < from { // some of it is outside of retention, in raw samples or in columns
			continue
		}
		g := got[hour]
		if g == nil {
			g = &numbers{}
		}
		o.done.columns += g.columns
		if g.count < h.least || g.count > h.most {
			return fmt.Errorf("%v numbers in the hour up to %d; want %v to %v", g.count, hour*3600_000, h.least, h.most)
		}
		if !h.unsure && h.count > 0 && (g.low != h.low || g.high != h.high) {
			return fmt.Errorf("from %v to %v in the hour up to %d; want %v to %v", g.low, g.high, hour*3600_000, h.low, h.high)
		}
	}
	return nil
}

// expect adds what was sent for a time. A sample which is sent again when its interval may have been downsampled counts again.
func (o *oracle) expect(h *expected, key string, ts int64, events []event, m moment) {
	bits, sure := o.bestAcked(key, events, m)
	v := math.Float64frombits(bits)
	sure = sure && !math.IsNaN(v)
	if sure && o.dedup <= 1 {
		h.least++
	}
	offset, _ := o.reduced(key)
	copies := 0.0
	for i := range events {
		e := &events[i]
		if e.sentAt > m.sent || o.gone(key, e, m) {
			continue
		}
		if copies == 0 || ts <= e.now-offset {
			copies++
		}
		h.unsure = h.unsure || !sure || e.bits != bits
	}
	h.most += copies
	if h.unsure = h.unsure || o.dedup > 1; sure {
		h.add(1, v, v)
	}
}
