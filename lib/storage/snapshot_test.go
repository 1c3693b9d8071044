package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// clone returns a copy which does not change any more.
func (n *naive) clone() *naive {
	out := newNaive()
	for key, samples := range n.sent {
		out.sent[key] = map[int64][]uint64{}
		for ts, bits := range samples {
			out.sent[key][ts] = slices.Clone(bits)
		}
	}
	for key, samples := range n.kept {
		out.kept[key] = maps.Clone(samples)
	}
	return out
}

func snapshot(t *testing.T, s *Storage) string {
	t.Helper()
	name, err := s.CreateSnapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func snapshots(t *testing.T, s *Storage) []string {
	t.Helper()
	names, err := s.Snapshots(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// checkDir opens a directory as a storage and compares it with the model.
func checkDir(t *testing.T, fsys vfs.FS, dir string, n *naive) {
	t.Helper()
	cfg := testConfig()
	cfg.DataPath = dir
	s := openTest(t, cfg, testOptions(fsys))
	defer closeTest(t, s)
	n.check(t, s, allTime())
	if err := s.Merge(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	n.check(t, s, allTime())
}

// copyDir copies a directory with everything in it.
func copyDir(t *testing.T, fsys vfs.FS, from, to string) {
	t.Helper()
	if err := fsys.MkdirAll(to); err != nil {
		t.Fatal(err)
	}
	entries, err := fsys.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir {
			copyDir(t, fsys, filepath.Join(from, e.Name), filepath.Join(to, e.Name))
			continue
		}
		data, err := fsys.ReadFile(filepath.Join(from, e.Name))
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFileDurable(fsys, filepath.Join(to, e.Name), data); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSnapshotsStay compares snapshots with the model at their instants, after everything else has changed and after the
// original has gone.
func TestSnapshotsStay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fsys := memfs.New(memfs.Options{})
	g, n := newGenerator(rng, 40), newNaive()
	s := openTest(t, testConfig(), testOptions(fsys))
	taken := map[string]*naive{}
	for range 400 {
		switch r := rng.IntN(40); {
		case r < 33:
			b := g.batch(t)
			n.send(t, b)
			ingest(t, s, b)
			n.acknowledge(t, b)
		case r < 35:
			if err := s.Merge(context.Background(), ""); err != nil {
				t.Fatal(err)
			}
		case r < 37:
			deleteFromBoth(t, rng, s, n)
		case r < 38:
			closeTest(t, s)
			s = openTest(t, testConfig(), testOptions(fsys))
		default:
			taken[snapshot(t, s)] = n.clone()
		}
	}
	taken[snapshot(t, s)] = n.clone()
	if got := snapshots(t, s); !slices.Equal(got, slices.Sorted(maps.Keys(taken))) {
		t.Errorf("snapshots %q; want %q", got, slices.Sorted(maps.Keys(taken)))
	}
	i := 0
	for name, model := range taken {
		i++
		if i%2 == 0 { // elsewhere
			copyDir(t, fsys, s.snapshotDir(name), "/copy")
			checkDir(t, fsys, "/copy", model)
			if err := fsys.RemoveAll("/copy"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		checkDir(t, fsys, s.snapshotDir(name), model)
	}
	n.check(t, s, allTime()) // opening and merging snapshots has not changed the original
	closeTest(t, s)
	for _, dir := range []string{"data", "wal"} {
		if err := fsys.RemoveAll(filepath.Join(testPath, dir)); err != nil {
			t.Fatal(err)
		}
	}
	for name, model := range taken {
		checkDir(t, fsys, s.snapshotDir(name), model)
	}
}

// deleteFromBoth deletes the series of one host and tenant from the storage and from the model.
func deleteFromBoth(t *testing.T, rng *rand.Rand, s *Storage, n *naive) {
	t.Helper()
	q := someSeries(rng)
	got, err := s.DeleteSeries(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	if want := n.forget(t, q, true); got != want {
		t.Fatalf("deleted %d series; want %d", got, want)
	}
}

// someSeries selects few or many series.
func someSeries(rng *rand.Rand) *model.SearchQuery {
	f := model.TagFilter{Name: "instance", Value: fmt.Sprintf("host-%d", rng.IntN(9))}
	if rng.IntN(3) == 0 {
		f = model.TagFilter{Name: "i", Value: fmt.Sprintf("[0-9]*%d", rng.IntN(10)), Op: model.Regexp}
	}
	return &model.SearchQuery{Tenant: model.TenantID{AccountID: uint32(rng.IntN(tenants))}, Filters: [][]model.TagFilter{{f}}}
}

// forget deletes the selected series and returns how many there were. When the deletion was not acknowledged, they may still be there.
func (n *naive) forget(t *testing.T, q *model.SearchQuery, acknowledged bool) int {
	t.Helper()
	f := q.Filters[0][0]
	matcher, err := f.Compile()
	if err != nil {
		t.Fatal(err)
	}
	deleted := map[string]bool{}
	for key := range n.sent {
		tenant, labels, err := model.ParseSeriesKey(nil, []byte(SeriesOf(key)))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(labels, func(l model.Label) bool { return l.Name == f.Name })
		if tenant != q.Tenant || i < 0 || !matcher.Match(labels[i].Value) {
			continue
		}
		if len(n.kept[key]) > 0 {
			deleted[SeriesOf(key)] = true
		}
		delete(n.kept, key)
		if acknowledged {
			delete(n.sent, key)
		}
	}
	return len(deleted)
}

// TestSnapshotUnderLoad takes snapshots while several writers are at work: each has what was acknowledged before the call, and
// of each writer nothing without what it had written before.
func TestSnapshotUnderLoad(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	cfg := testConfig()
	cfg.HeadMaxBytes = 30_000 // flushes and merges all the time
	s := openTest(t, cfg, testOptions(fsys))
	const writers = 4
	var acknowledged [writers]atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	start := testNow().UnixMilli() - 20*dayMs
	for w := range writers {
		wg.Go(func() {
			for i := int64(0); !stop.Load(); i++ {
				b := &model.Batch{}
				if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("w%d", w)}}); err != nil {
					t.Error(err)
					return
				}
				b.AddSample(start+i*1000, float64(i))
				err := s.Ingest(context.Background(), b)
				if errkind.Of(err) == errkind.Overloaded {
					i--
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				acknowledged[w].Store(i + 1)
			}
		})
	}
	for range 12 {
		var before [writers]int64
		for w := range writers {
			before[w] = acknowledged[w].Load()
		}
		name := snapshot(t, s)
		checkPrefixes(t, fsys, s.snapshotDir(name), before[:])
	}
	stop.Store(true)
	wg.Wait()
	closeTest(t, s)
}

func checkPrefixes(t *testing.T, fsys vfs.FS, dir string, least []int64) {
	t.Helper()
	cfg := testConfig()
	cfg.DataPath = dir
	s := openTest(t, cfg, testOptions(fsys))
	defer closeTest(t, s)
	got := readAll(t, s, allTime())
	for w, n := range least {
		b := &model.Batch{}
		if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("w%d", w)}}); err != nil {
			t.Fatal(err)
		}
		samples := got[string(b.Key(0))]
		if int64(len(samples)) < n {
			t.Fatalf("the snapshot has %d samples of writer %d; %d were acknowledged before", len(samples), w, n)
		}
		start := testNow().UnixMilli() - 20*dayMs
		for i := range int64(len(samples)) {
			if _, ok := samples[start+i*1000]; !ok {
				t.Fatalf("the snapshot has %d samples of writer %d, and not number %d", len(samples), w, i)
			}
		}
	}
}

// TestSnapshotCrashes crashes at every operation of making and deleting snapshots: what the storage lists afterwards is whole, and what
// was acknowledged is listed.
func TestSnapshotCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stride := int64(2)
	if testing.Short() {
		stride = 9
	}
	for crashAt, done := int64(1), false; !done; crashAt += stride {
		done = crashWhileSnapshotting(t, rand.New(rand.NewPCG(seed, 0)), crashAt)
		if crashAt > 5000 {
			t.Fatal("the history does not end")
		}
	}
}

// crashWhileSnapshotting returns true when the history ends before the crash.
func crashWhileSnapshotting(t *testing.T, rng *rand.Rand, crashAt int64) bool {
	fsys := memfs.New(memfs.Options{})
	g, n := newGenerator(rng, 4), newNaive()
	s := openTest(t, testConfig(), testOptions(fsys))
	for range 3 {
		b := g.batch(t)
		n.send(t, b)
		ingest(t, s, b)
		n.acknowledge(t, b)
	}
	closeTest(t, s)

	faulty := faultfs.New(fsys)
	var crashes atomic.Bool // has begun, maybe in the background
	var crashed atomic.Pointer[memfs.FS]
	crashRNG := rand.New(rand.NewPCG(uint64(crashAt), 1))
	s = openTest(t, testConfig(), testOptions(faulty))
	offset := faulty.Ops()
	faulty.SetHook(func(op faultfs.Op) {
		if op.N == offset+crashAt {
			crashes.Store(true)
			crashed.Store(fsys.Crash(crashRNG))
		}
	})
	acknowledged := map[string]bool{} // true: must be there, false: must not
	for i := range 3 {
		name := snapshot(t, s)
		if !crashes.Load() {
			acknowledged[name] = true
		}
		if i == 1 {
			if err := s.DeleteSnapshot(context.Background(), name); err != nil {
				t.Fatal(err)
			}
			if !crashes.Load() {
				acknowledged[name] = false
			} else {
				delete(acknowledged, name)
			}
		}
	}
	faulty.SetHook(nil)
	closeTest(t, s)
	left := crashed.Load()
	if left == nil {
		return true
	}
	s = openTest(t, testConfig(), testOptions(left))
	names := snapshots(t, s)
	for name, want := range acknowledged {
		if slices.Contains(names, name) != want {
			t.Fatalf("crash at %d: snapshot %s is listed: %t; want %t", crashAt, name, !want, want)
		}
	}
	entries, err := s.snapshotEntries()
	if err != nil || len(entries) != len(names) {
		t.Fatalf("crash at %d: %d entries for %d snapshots, %v", crashAt, len(entries), len(names), err)
	}
	n.check(t, s, allTime())
	closeTest(t, s)
	for _, name := range names {
		checkDir(t, left, s.snapshotDir(name), n)
	}
	return false
}

// TestSnapshotOnFailingDisk: an error leaves nothing behind but what the next open removes.
func TestSnapshotOnFailingDisk(t *testing.T) {
	for at := int64(1); ; at++ {
		fsys := memfs.New(memfs.Options{})
		faulty := faultfs.New(fsys)
		s := openTest(t, testConfig(), testOptions(faulty))
		ingest(t, s, batchOf(t, 3, testNow().UnixMilli(), 1))
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		injected := errors.New("the disk fails")
		faulty.SetFault(faultfs.Fault{At: at, Err: injected})
		name, err := s.CreateSnapshot(context.Background())
		faulty.SetFault(faultfs.Fault{})
		if names := snapshots(t, s); len(names) > 0 && err != nil || err == nil && !slices.Equal(names, []string{name}) {
			t.Fatalf("fault %d: error %v and snapshots %q", at, err, names)
		}
		if err == nil {
			closeTest(t, s)
			break // the fault comes after the end
		}
		_ = s.Close() // the log may have failed
		s = openTest(t, testConfig(), testOptions(fsys))
		if got := readAll(t, s, allTime()); len(got) != 3 {
			t.Fatalf("fault %d: %d series are left; want 3", at, len(got))
		}
		closeTest(t, s)
	}
}

func TestSnapshotNames(t *testing.T) {
	o := testOptions(memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), o)
	defer closeTest(t, s)
	first, second := snapshot(t, s), snapshot(t, s)
	for _, name := range []string{first, second} {
		made, ok := parseSnapshotName(name)
		if !ok || !made.Equal(testNow()) {
			t.Errorf("snapshot %q was made at %s, %t", name, made, ok)
		}
	}
	if first >= second {
		t.Errorf("snapshot %q is before %q", second, first)
	}
	for _, name := range []string{"", "..", "../x", first + "/..", strings.ToLower(first) + "x", "20261110010000-18EA4CE0B2BEBB4g", first + goingSuffix} {
		err := s.DeleteSnapshot(context.Background(), name)
		if errkind.Of(err) != errkind.NotFound || !strings.HasPrefix(err.Error(), "cannot find snapshot") {
			t.Errorf("deleting %q: %v", name, err)
		}
	}
	wantMetrics(t, o.Metrics, map[string]string{"vm_snapshots": "2"})
	if err := s.DeleteSnapshot(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteSnapshot(context.Background(), first); errkind.Of(err) != errkind.NotFound {
		t.Errorf("deleting again: %v", err)
	}
	wantMetrics(t, o.Metrics, map[string]string{"vm_snapshots": "1"})
}

func TestOldSnapshotsAreDeleted(t *testing.T) {
	now := testNow()
	o := testOptions(memfs.New(memfs.Options{}))
	var clock atomic.Int64
	o.Now = func() time.Time { return now.Add(time.Duration(clock.Load())) }
	cfg := testConfig()
	cfg.SnapshotsMaxAge = flagvalue.NewRetention("2d")
	s := openTest(t, cfg, o)
	defer closeTest(t, s)
	old := snapshot(t, s)
	clock.Store(int64(47 * time.Hour))
	young := snapshot(t, s)
	if err := s.deleteOldSnapshots(); err != nil {
		t.Fatal(err)
	}
	if got := snapshots(t, s); !slices.Equal(got, []string{old, young}) {
		t.Errorf("after 47 hours there are %q", got)
	}
	clock.Store(int64(49 * time.Hour))
	s.watch() // as the background does
	eventually(t, "the end of the old snapshot", func() bool { return slices.Equal(snapshots(t, s), []string{young}) })
}
