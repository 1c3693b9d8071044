package index

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

var ctx = context.Background()

func options(fs vfs.FS, dir string) Options {
	return Options{FS: fs, Dir: dir, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 20)}
}

func mustOpen(t testing.TB, fs vfs.FS, dir string) *Index {
	t.Helper()
	ix, err := Open(options(fs, dir))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return ix
}

// closed closes the index at the end of the test and checks that no file is left open.
func closed(t testing.TB, ix *Index) {
	t.Helper()
	if err := ix.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if n := ix.o.Budget.Used(); n != 0 {
		t.Fatalf("%d bytes of the budget are not given back", n)
	}
}

func testKey(t testing.TB, tenant model.TenantID, labels ...string) []byte {
	t.Helper()
	var list []model.Label
	for i := 0; i < len(labels); i += 2 {
		list = append(list, model.Label{Name: labels[i], Value: labels[i+1]})
	}
	key, err := model.AppendSeriesKey(nil, tenant, list)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// naive is the model the index is compared with.
type naive struct {
	keys map[uint32]string
	ids  map[string]uint32
	days map[int32]map[uint32]bool
	gone map[uint32]goneSeries // deleted
	next uint32
}

type goneSeries struct {
	key  string
	days []int32
}

func newNaive() *naive {
	return &naive{keys: map[uint32]string{}, ids: map[string]uint32{}, days: map[int32]map[uint32]bool{}, gone: map[uint32]goneSeries{}}
}

func (n *naive) add(id uint32, key string) {
	n.keys[id], n.ids[key] = key, id
	n.next = max(n.next, id+1)
}

func (n *naive) remove(id uint32) {
	g := goneSeries{key: n.keys[id]}
	for day, ids := range n.days {
		if ids[id] {
			g.days = append(g.days, day)
			delete(ids, id)
		}
	}
	n.gone[id] = g
	delete(n.keys, id)
	delete(n.ids, g.key)
}

// undelete takes a remove back, which is possible before the key is added again.
func (n *naive) undelete(id uint32) {
	g := n.gone[id]
	delete(n.gone, id)
	n.add(id, g.key)
	for _, day := range g.days {
		n.mark(id, day)
	}
}

func (n *naive) goneIDs() *roaring.Bitmap {
	ids := roaring.New()
	for id := range n.gone {
		ids.Add(id)
	}
	return ids
}

func (n *naive) mark(id uint32, day int32) {
	if n.days[day] == nil {
		n.days[day] = map[uint32]bool{}
	}
	n.days[day][id] = true
}

func (n *naive) labels(id uint32) (model.TenantID, map[string]string) {
	t, labels, err := model.ParseSeriesKey(nil, []byte(n.keys[id]))
	if err != nil {
		panic(err)
	}
	m := map[string]string{}
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	return t, m
}

func naiveMatch(f model.TagFilter, value string) bool {
	switch f.Op {
	case model.Equal:
		return value == f.Value
	case model.NotEqual:
		return value != f.Value
	}
	ok := regexp.MustCompile("^(?s:" + f.Value + ")$").MatchString(value)
	return ok == (f.Op == model.Regexp)
}

func (n *naive) selects(q *Query, id uint32) bool {
	t, labels := n.labels(id)
	if t != q.Tenant {
		return false
	}
	active := false
	for day, ids := range n.days {
		active = active || (day >= q.FirstDay && day <= q.LastDay && ids[id])
	}
	if !active {
		return false
	}
	for _, set := range q.Filters {
		if !slices.ContainsFunc(set, func(f model.TagFilter) bool { return !naiveMatch(f, labels[f.Name]) }) {
			return true
		}
	}
	return len(q.Filters) == 0
}

func (n *naive) search(q *Query) []uint32 {
	var ids []uint32
	for id := range n.keys {
		if n.selects(q, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// world makes random series, filters and queries.
type world struct {
	rng       *rand.Rand
	values    int
	snapshots []*snapshot
}

func (w *world) pick(list ...string) string { return list[w.rng.IntN(len(list))] }

func (w *world) tenant() model.TenantID {
	return []model.TenantID{{}, {AccountID: 1}, {ProjectID: 1}, {AccountID: 256, ProjectID: 7}}[w.rng.IntN(4)]
}

func (w *world) name() string { return w.pick("a", "b", "c", "job", "pod", "é\x00", "ab") }

func (w *world) value() string {
	if w.rng.IntN(8) == 0 {
		return w.pick("", "x", "xy", "\xff", "x\ny", "a.b")
	}
	return fmt.Sprintf("%s%d", w.pick("", "v", "value-", "w"), w.rng.IntN(w.values))
}

func (w *world) key(t testing.TB) []byte {
	labels := map[string]string{}
	if w.rng.IntN(10) > 0 {
		labels[model.MetricNameLabel] = w.pick("m", "metric", "up", "m1")
	}
	for range w.rng.IntN(5) {
		labels[w.name()] = w.value()
	}
	var list []string
	for name, value := range labels {
		list = append(list, name, value)
	}
	return testKey(t, w.tenant(), list...)
}

func (w *world) filter() model.TagFilter {
	f := model.TagFilter{Name: w.name(), Op: model.FilterOp(w.rng.IntN(4))}
	switch w.rng.IntN(12) {
	case 0, 1, 2:
		f.Name = model.MetricNameLabel
	case 3:
		f.Name = w.pick("", "absent")
	}
	f.Value = w.value()
	if f.Name == model.MetricNameLabel {
		f.Value = w.pick("m", "metric", "")
	}
	if f.Op == model.Regexp || f.Op == model.NotRegexp {
		f.Value = w.pick("", ".*", ".+", "v.*", "v.+", "v1.*", "value-1|x", "x?", "(v|w)1[0-9]*", ".*1", ".*1.*", "[^v].*", "m.*", "m|up|", "v1?.*", "(?i)V.", "a.b")
	}
	return f
}

func (w *world) query() Query {
	first := int32(w.rng.IntN(5))
	q := Query{Tenant: w.tenant(), FirstDay: first, LastDay: first + int32(w.rng.IntN(5))}
	for range w.rng.IntN(3) {
		var set []model.TagFilter
		for range w.rng.IntN(4) {
			set = append(set, w.filter())
		}
		q.Filters = append(q.Filters, set)
	}
	return q
}

// checkQuery compares one random query and its label lists.
func checkQuery(t *testing.T, ix *Index, n *naive, w *world) {
	t.Helper()
	q := w.query()
	want := n.search(&q)
	got, err := ix.Search(ctx, q)
	if err != nil || !slices.Equal(got.ToArray(), want) {
		t.Fatalf("Search(%+v) = %v, %v; want %v", q, got, err, want)
	}
	if len(want) > 1 {
		q.Max = len(want) - 1
		if _, err := ix.Search(ctx, q); errkind.Of(err) != errkind.Unprocessable {
			t.Fatalf("Search(%+v) = %v; want it to exceed the limit", q, err)
		}
		q.Max = 0
	}
	names, values := map[string]bool{}, map[string]bool{}
	name := w.filter().Name
	for _, id := range want {
		_, labels := n.labels(id)
		for l, v := range labels {
			names[l] = true
			if l == name {
				values[v] = true
			}
		}
	}
	limit := w.rng.IntN(4)
	gotNames, err := ix.LabelNames(ctx, q, limit)
	checkStrings(t, q, gotNames, err, firstOf(names, limit))
	gotValues, err := ix.LabelValues(ctx, q, name, limit)
	checkStrings(t, q, gotValues, err, firstOf(values, limit))
}

func firstOf(set map[string]bool, limit int) []string {
	list := slices.Sorted(maps.Keys(set))
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	return list
}

func checkStrings(t *testing.T, q Query, got []string, err error, want []string) {
	t.Helper()
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("query %+v gives %q, %v; want %q", q, got, err, want)
	}
}

// deleteRandom deletes some series, found by a query or picked one by one.
func deleteRandom(ix *Index, n *naive, w *world) error {
	ids := roaring.New()
	if q := w.query(); w.rng.IntN(2) == 0 && len(q.Filters) > 0 {
		ids.AddMany(n.search(&q))
	}
	for id := range n.keys {
		if w.rng.IntN(20) == 0 {
			ids.Add(id)
		}
	}
	for _, id := range ids.ToArray() {
		n.remove(id)
	}
	return ix.Delete(ids)
}

// checkSnapshot opens a snapshot and compares it.
func checkSnapshot(t *testing.T, fs vfs.FS, ix *Index, n *naive, w *world) {
	t.Helper()
	must(t, ix.Flush())
	dir := fmt.Sprintf("/snapshots/%d", w.rng.Uint64())
	must(t, ix.Snapshot(dir))
	if err := ix.Snapshot(dir); err == nil {
		t.Fatal("a snapshot was written into a directory which is not empty")
	}
	other := mustOpen(t, fs, dir)
	checkAll(t, other, n)
	for range 3 {
		checkQuery(t, other, n, w)
	}
	closed(t, other)
	must(t, fs.RemoveAll(dir))
}

// checkAll compares all keys both ways.
func checkAll(t *testing.T, ix *Index, n *naive) {
	t.Helper()
	if got := ix.SeriesCount(); got != len(n.keys) {
		t.Fatalf("%d series; want %d", got, len(n.keys))
	}
	all := roaring.New()
	for id, key := range n.keys {
		all.Add(id)
		got, ok, _ := ix.Lookup(model.HashSeriesKey([]byte(key)), []byte(key))
		if !ok || got != id {
			t.Fatalf("Lookup(%q) = %d, %v; want %d", key, got, ok, id)
		}
		back, err := ix.AppendKey([]byte("x"), id)
		if err != nil || string(back) != "x"+key {
			t.Fatalf("AppendKey(%d) = %q, %v; want %q", id, back, err, key)
		}
	}
	seen := roaring.New()
	last := int64(-1)
	err := ix.Keys(ctx, roaring.Or(all, n.goneIDs()), func(id uint32, key []byte) bool {
		if string(key) != n.keys[id] || int64(id) <= last {
			t.Fatalf("Keys: id %d has %q; want %q", id, key, n.keys[id])
		}
		last = int64(id)
		seen.Add(id)
		return true
	})
	if gone := n.goneIDs(); !gone.IsEmpty() && !gone.Equals(ix.Deleted()) || gone.IsEmpty() && ix.Deleted() != nil {
		t.Fatalf("Deleted() = %v; want %v", ix.Deleted(), gone)
	}
	for id := range n.gone {
		if key, err := ix.AppendKey(nil, id); errkind.Of(err) != errkind.NotFound {
			t.Fatalf("deleted series %d is %q, %v", id, key, err)
		}
	}
	if err != nil || !seen.Equals(all) {
		t.Fatalf("Keys visits %v, %v; want %v", seen, err, all)
	}
	tenants := map[model.TenantID]bool{}
	for id := range n.keys {
		tenant, _ := n.labels(id)
		tenants[tenant] = true
	}
	got, err := ix.Tenants()
	if err != nil || !slices.Equal(got, slices.SortedFunc(maps.Keys(tenants), model.TenantID.Compare)) {
		t.Fatalf("Tenants() = %v, %v", got, err)
	}
}

func TestAgainstModel(t *testing.T) {
	for round := range 30 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d", seed)
			testAgainstModel(t, seed)
		})
	}
}

func testAgainstModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{rng: rng, values: 1 + rng.IntN(500)}
	n := newNaive()
	fs := memfs.New(memfs.Options{})
	ix := mustOpen(t, fs, "/data/index")
	for range 150 {
		switch op := rng.IntN(22); {
		case op < 8:
			for range rng.IntN(60) {
				addRandom(t, ix, n, w)
			}
		case op < 14:
			checkQuery(t, ix, n, w)
			checkStatus(t, ix, n, w)
		case op < 16:
			must(t, ix.Flush())
		case op < 17:
			must(t, ix.Merge(ctx))
		case op < 18:
			restoreRandom(t, ix, n, w)
		case op < 19:
			checkAll(t, ix, n)
		case op < 20:
			must(t, deleteRandom(ix, n, w))
		case op < 21:
			checkSnapshot(t, fs, ix, n, w)
		default:
			must(t, ix.Flush())
			closed(t, ix)
			ix = mustOpen(t, fs, "/data/index")
		}
	}
	checkAll(t, ix, n)
	closed(t, ix)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addRandom(t *testing.T, ix *Index, n *naive, w *world) {
	t.Helper()
	key := w.key(t)
	hash := model.HashSeriesKey(key)
	want, known := n.ids[string(key)]
	if got, ok, _ := ix.Lookup(hash, key); ok != known || got != want {
		t.Fatalf("Lookup(%q) = %d, %v; want %d, %v", key, got, ok, want, known)
	}
	id, created, _ := ix.Add(hash, key)
	if created == known || (known && id != want) || (!known && id != n.next) {
		t.Fatalf("Add(%q) = %d, %v; want known %v as %d or the next id %d", key, id, created, known, want, n.next)
	}
	n.add(id, string(key))
	for range w.rng.IntN(3) {
		day := int32(w.rng.IntN(8))
		ix.MarkActive(id, day)
		n.mark(id, day)
	}
}

// restoreRandom restores a new key above the largest id and a known one again, and tries wrong ones.
func restoreRandom(t *testing.T, ix *Index, n *naive, w *world) {
	t.Helper()
	key := w.key(t)
	if id, known := n.ids[string(key)]; known {
		must(t, ix.Restore(id, key))
		if err := ix.Restore(n.next+5, key); errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("a key was restored under a second id: %v", err)
		}
		return
	}
	if len(n.keys) > 0 {
		taken := slices.Sorted(maps.Keys(n.keys))[w.rng.IntN(len(n.keys))]
		if err := ix.Restore(taken, key); errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("an id was restored with a second key: %v", err)
		}
	}
	for id, g := range n.gone { // the log tells of it again
		must(t, ix.Restore(id, []byte(g.key)))
		break
	}
	id := n.next + uint32(w.rng.IntN(300))
	if w.rng.IntN(2) == 0 { // into a gap
		for free := range n.next {
			_, taken := n.keys[free]
			if _, gone := n.gone[free]; !taken && !gone {
				id = free
				break
			}
		}
	}
	must(t, ix.Restore(id, key))
	must(t, ix.Restore(id, bytes.Clone(key)))
	n.add(id, string(key))
	ix.MarkActive(id, 3)
	n.mark(id, 3)
}
