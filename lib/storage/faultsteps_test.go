package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing/synctest"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs/faultfs"
)

// step does one random thing to the storage.
func (w *world) step() {
	switch r := w.rng.IntN(100); {
	case r < 62:
		w.ingest()
	case r < 67:
		w.admin("flush", func() error { return w.s.Flush(context.Background()) })
	case r < 70:
		prefix := []string{"", "2026", w.month(), "2026_0"}[w.rng.IntN(4)]
		w.admin("merge "+prefix, func() error { return w.s.Merge(context.Background(), prefix) })
	case r < 82:
		w.search()
	case r < 86:
		w.labels()
	case r < 88:
		w.tenants()
	case r < 95:
		w.pass(time.Duration(w.rng.IntN(3_000)) * time.Second)
	case r < 96:
		w.pass(time.Duration(w.rng.IntN(240)) * time.Hour)
	case r < 97:
		w.retention()
	case r < 98:
		w.everything()
	default:
		w.reopen()
	}
	synctest.Wait()
}

func (w *world) month() string { return time.UnixMilli(w.now.Load()).UTC().Format("2006_01") }

// ingest sends a batch. One that was refused is part of the model as sent: nobody knows whether it is stored.
func (w *world) ingest() {
	b, what := w.g.batch(w.t)
	w.mu.Lock()
	w.mu.sent++
	at := w.mu.sent
	w.mu.Unlock()
	now := w.now.Load()
	w.crashes.Lock() // no crash point reads the model meanwhile
	w.o.send(b, at, now, model.TimeRange{Min: now - worldRetention*worldDayMs, Max: now + 2*worldDayMs})
	w.crashes.Unlock()
	err := w.s.Ingest(context.Background(), b)
	if errkind.Of(err) == errkind.Overloaded { // a flush makes room; without faults it succeeds
		if err = w.s.Flush(context.Background()); err == nil {
			err = w.s.Ingest(context.Background(), b)
		}
	}
	w.note("ingest %s: %v", what, err)
	if err != nil {
		w.failed("ingest", err)
		return
	}
	w.mu.Lock()
	w.o.acknowledge(b, at, at)
	w.mu.acked = at
	w.mu.Unlock()
}

// failed decides whether an error is right: there must be a fault which explains it.
func (w *world) failed(what string, err error) {
	if !w.faults || !allowed(err) {
		w.fatalf("cannot %s: %s", what, err)
	}
}

func (w *world) admin(what string, f func() error) {
	err := f()
	w.note("%s: %v", what, err)
	if err != nil {
		w.failed(what, err)
	}
}

// filters are selectors which the model can evaluate as well.
func (w *world) filters() []model.TagFilter {
	i := w.g.last - w.rng.IntN(min(w.g.last, 40))
	all := [][]model.TagFilter{
		nil,
		{{Name: model.MetricNameLabel, Op: model.Equal, Value: fmt.Sprintf("metric_%d", i%6)}},
		{{Name: "instance", Op: model.Regexp, Value: fmt.Sprintf("host-[%d-9]:.*", i%10)}},
		{{Name: "pod", Op: model.NotEqual, Value: ""}},
		{{Name: "pod", Op: model.Equal, Value: ""}},
		{{Name: model.MetricNameLabel, Op: model.Regexp, Value: "metric_[0-3]"}, {Name: "pod", Op: model.NotRegexp, Value: "pod-.*1-x*"}},
		{{Name: "no_such_label", Op: model.Equal, Value: "x"}},
	}
	return all[w.rng.IntN(len(all))]
}

// matching returns which series of a tenant the filters select.
func (w *world) matching(t model.TenantID, filters []model.TagFilter) func(key string) bool {
	known := map[string]bool{}
	return func(key string) bool {
		if ok, done := known[key]; done {
			return ok
		}
		tenant, labels, err := model.ParseSeriesKey(nil, []byte(storage.SeriesOf(key)))
		if err != nil {
			w.fatalf("bad key %q: %s", key, err)
		}
		ok := tenant == t
		for _, f := range filters {
			ok = ok && w.match(f, labels)
		}
		known[key] = ok
		return ok
	}
}

func (w *world) match(f model.TagFilter, labels []model.Label) bool {
	m, err := f.Compile()
	if err != nil {
		w.fatalf("bad filter %s: %s", f, err)
	}
	value := ""
	for _, l := range labels {
		if l.Name == f.Name {
			value = l.Value
		}
	}
	return m.Match(value)
}

// timeRange is somewhere inside of retention, mostly recent.
func (w *world) timeRange() model.TimeRange {
	now := w.now.Load()
	switch w.rng.IntN(4) {
	case 0:
		return allOfTime()
	case 1:
		start := now - w.rng.Int64N((worldRetention+10)*worldDayMs)
		return model.TimeRange{Min: start, Max: start + w.rng.Int64N(40*worldDayMs)}
	case 2:
		start := now - w.rng.Int64N(2*worldDayMs)
		return model.TimeRange{Min: start, Max: start}
	}
	start := now - w.rng.Int64N(3*worldDayMs)
	return model.TimeRange{Min: start, Max: start + w.rng.Int64N(worldDayMs)}
}

// search asks twice: the answers are right, and the same.
func (w *world) search() {
	tenant, filters, r := feedTenant(w.rng.IntN(worldTenants)), w.filters(), w.timeRange()
	q := &model.SearchQuery{Tenant: tenant, Range: r}
	if filters != nil {
		q.Filters = [][]model.TagFilter{filters}
	}
	w.note("search %s %v %s", tenant, filters, r)
	a, err := search(w.s, q)
	if err != nil {
		w.failed("search", err)
		return
	}
	if a.partial {
		w.fatalf("an answer is partial, although nothing is damaged")
	}
	wanted := w.matching(tenant, filters)
	m := w.present()
	if err := errors.Join(w.o.missing(a, m, r, wanted), w.o.foreign(a, m, r, wanted)); err != nil {
		w.fatalf("search %s %v %s: %s", tenant, filters, r, err)
	}
	again, err := search(w.s, q)
	if err == nil {
		err = a.equal(again)
	}
	if err != nil {
		w.fatalf("the same question got another answer: %s", err)
	}
}

// labels compares label values with those of the series which must be there, and those which may.
func (w *world) labels() {
	tenant, r := feedTenant(w.rng.IntN(worldTenants)), w.timeRange()
	names := []string{model.MetricNameLabel, "instance", "pod"}
	name := names[w.rng.IntN(len(names))]
	q := &model.SearchQuery{Tenant: tenant, Range: r}
	w.note("label values %s of %s in %s", name, tenant, r)
	got, err := w.s.LabelValues(context.Background(), q, name, 0)
	if err != nil {
		w.failed("list label values", err)
		return
	}
	m := w.present()
	must, may := w.values(w.o.keysIn(tenant, r, m, true), name), w.values(w.o.keysIn(tenant, wholeDays(r), m, false), name)
	w.between("label values of "+name, got.Values, must, may)
	gotNames, err := w.s.LabelNames(context.Background(), q, 0)
	if err != nil {
		w.failed("list label names", err)
		return
	}
	w.between("label names", gotNames.Values, w.names(w.o.keysIn(tenant, r, m, true)), append(names, ""))
}

// wholeDays widens r to days (UTC), by which the index knows when series were active.
func wholeDays(r model.TimeRange) model.TimeRange {
	if r == allOfTime() {
		return r
	}
	return model.TimeRange{Min: r.Min - r.Min%worldDayMs, Max: r.Max - r.Max%worldDayMs + worldDayMs - 1}
}

func (w *world) between(what string, got, must, may []string) {
	if !slices.IsSorted(got) {
		w.fatalf("%s %q are not sorted", what, got)
	}
	for _, v := range must {
		if !slices.Contains(got, v) {
			w.fatalf("%s %q lack %q", what, got, v)
		}
	}
	for _, v := range got {
		if !slices.Contains(may, v) {
			w.fatalf("%s %q have %q, which was never sent", what, got, v)
		}
	}
}

func (w *world) values(keys map[string]bool, name string) []string {
	var values []string
	for _, l := range w.labelsOf(keys) {
		if l.Name == name {
			values = append(values, l.Value)
		}
	}
	return values
}

func (w *world) names(keys map[string]bool) []string {
	var names []string
	for _, l := range w.labelsOf(keys) {
		names = append(names, l.Name)
	}
	return names
}

func (w *world) labelsOf(keys map[string]bool) []model.Label {
	var all []model.Label
	for key := range keys {
		_, labels, err := model.ParseSeriesKey(nil, []byte(key))
		if err != nil {
			w.fatalf("bad key %q: %s", key, err)
		}
		for _, l := range labels {
			all = append(all, model.Label{Name: strings.Clone(l.Name), Value: strings.Clone(l.Value)})
		}
	}
	return all
}

// tenants checks that every tenant with samples is listed, and nobody else.
func (w *world) tenants() {
	w.note("tenants")
	got, err := w.s.Tenants(context.Background(), allOfTime())
	if err != nil {
		w.failed("list tenants", err)
		return
	}
	m := w.present()
	for i := range worldTenants {
		t := feedTenant(i)
		if len(w.o.keysIn(t, allOfTime(), m, true)) > 0 && !slices.Contains(got.Values, t) {
			w.fatalf("tenants %v lack %s", got.Values, t)
		}
	}
	for _, t := range got.Values {
		if len(w.o.keysIn(t, allOfTime(), m, false)) == 0 {
			w.fatalf("tenants %v have %s, which never sent anything", got.Values, t)
		}
	}
}

// pass lets time pass, and the background tasks have their turn.
func (w *world) pass(d time.Duration) {
	w.note("%s pass", d)
	w.now.Add(d.Milliseconds())
	time.Sleep(1100 * time.Millisecond) // of the bubble
	if used := w.opt.Budget.Used(); used > worldBudget {
		w.fatalf("%d bytes of memory are in use; the budget is %d", used, int64(worldBudget))
	}
}

// retention: after a flush and a merge nothing is left that is older than the limit, and everything younger is.
func (w *world) retention() {
	if w.faults {
		return
	}
	w.admin("flush for retention", func() error { return w.s.Flush(context.Background()) })
	w.admin("merge for retention", func() error { return w.s.Merge(context.Background(), "") })
	for i := range worldTenants {
		limit := w.now.Load() - worldRetention*worldDayMs
		a, err := search(w.s, &model.SearchQuery{Tenant: feedTenant(i), Range: model.TimeRange{Min: -1 << 62, Max: limit - 1}})
		if err != nil {
			w.fatalf("cannot search: %s", err)
		}
		for key, list := range a.series {
			if len(list) > 0 {
				w.fatalf("%s has a sample at %d, before the limit %d of retention, after a merge", keyText(key), list[0].ts, limit)
			}
		}
	}
	w.everything()
}

func (w *world) everything() {
	w.note("compare everything")
	if err := w.checkAll(w.s, w.present()); err != nil && (!w.faults || !allowed(err)) {
		w.fatalf("%s", err)
	}
}

func (w *world) reopen() {
	if w.faults {
		return
	}
	w.note("close and open")
	if err := w.s.Close(); err != nil {
		w.fatalf("cannot close: %s", err)
	}
	w.open()
}

// fault is a way in which a disk fails.
type fault struct {
	name  string
	kinds []faultfs.Kind
	err   error
	short bool
}

func faultKinds() []fault {
	return []fault{
		{name: "EIO", err: syscall.EIO},
		{name: "ENOSPC", err: syscall.ENOSPC, kinds: []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.MkdirAll, faultfs.Rename, faultfs.Link}},
		{name: "short writes and ENOSPC", err: syscall.ENOSPC, kinds: []faultfs.Kind{faultfs.Write}, short: true},
		{name: "short writes", err: syscall.EIO, kinds: []faultfs.Kind{faultfs.Write}, short: true},
		{name: "failing fsync", err: syscall.EIO, kinds: []faultfs.Kind{faultfs.Sync, faultfs.SyncDir}},
		{name: "failing rename", err: syscall.EIO, kinds: []faultfs.Kind{faultfs.Rename}},
		{name: "failing removal", err: syscall.EIO, kinds: []faultfs.Kind{faultfs.Remove, faultfs.RemoveAll}},
		{name: "failing reads", err: syscall.EIO, kinds: []faultfs.Kind{faultfs.Read}},
	}
}

// failAWhile lets operations fail during some steps. Acknowledged samples stay readable meanwhile.
func (w *world) failAWhile() {
	kinds := faultKinds()
	f := kinds[w.rng.IntN(len(kinds))]
	sticky := w.rng.IntN(2) == 0
	at := 1 + w.rng.Int64N(40)
	w.note("from here %s, at operation %d, sticky %v", f.name, at, sticky)
	w.faults = true
	w.faulty.SetFault(faultfs.Fault{At: at, Sticky: sticky, Kinds: f.kinds, Err: f.err, Short: f.short})
	for range 5 + w.rng.IntN(20) {
		w.step()
	}
	w.faulty.SetFault(faultfs.Fault{})
	w.note("no faults any more")
	w.recoverPoints()
	w.afterFaults(f)
}

// afterFaults: a full disk is over once there is space, everything else may need a restart.
func (w *world) afterFaults(f fault) {
	time.Sleep(15 * time.Second) // of the bubble; failed flushes are tried again
	synctest.Wait()
	full := errors.Is(f.err, syscall.ENOSPC)
	if full || w.rng.IntN(2) == 0 {
		w.faults = !full
		for range w.rng.IntN(8) {
			w.step()
		}
	}
	w.faults = false
	w.end()
}

// fillDisk leaves so little space that the disk is full soon, and frees it again later.
func (w *world) fillDisk() {
	space, err := w.mem.Space("/")
	if err != nil {
		w.fatalf("cannot read the free space: %s", err)
	}
	used := space.Total - space.Free
	room := w.rng.Int64N(3 * worldMinFree)
	w.note("%d bytes are free from here", room)
	w.faults = true
	w.mem.SetCapacity(used + room)
	for range 10 + w.rng.IntN(30) {
		w.step()
	}
	w.mem.SetCapacity(0)
	w.note("the disk has space again")
	time.Sleep(15 * time.Second) // of the bubble
	synctest.Wait()
	w.faults = false
	w.recoverPoints()
	for range w.rng.IntN(10) {
		w.step()
	}
}

// end ends the process in one of four ways and starts it again.
func (w *world) end() {
	switch w.rng.IntN(4) {
	case 0:
		w.note("close")
		_ = w.s.Close() // a log that has failed says so
	case 1:
		w.note("kill")
		kill(w.faulty, w.s)
	case 2:
		w.note("kill, start, power failure")
		kill(w.faulty, w.s)
		w.open()
		w.everything()
		fallthrough
	default:
		w.note("power failure")
		p := w.crash("nothing in particular")
		kill(w.faulty, w.s)
		w.mem = p.fs
	}
	w.open()
	w.everything()
}

// run lives through a whole history.
func (w *world) run(steps int) {
	w.open()
	for range steps {
		switch r := w.rng.IntN(60); {
		case r < 56:
			w.step()
			w.moreSteps()
			w.recoverPoints()
		case r < 57:
			w.fillDisk()
		case r < 59:
			w.failAWhile()
		default:
			w.end()
		}
	}
	w.everything()
	if err := w.s.Close(); err != nil {
		w.fatalf("cannot close: %s", err)
	}
	w.recoverPoints()
}
