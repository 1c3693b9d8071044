package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/backup"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bucket is a service which keeps objects in memory. The stores of it are prefixes.
type bucket struct {
	mu      sync.Mutex
	objects map[string]string
	fail    func(op, key string) bool
	copies  bool // on the server
}

var errBucket = errors.New("the bucket fails")

const bucketURL = "mem://bucket/node"

func (b *bucket) open(_ context.Context, url string) (backup.Store, error) {
	prefix, ok := strings.CutPrefix(url, bucketURL)
	if !ok {
		return nil, errors.New("another bucket")
	}
	return &store{b: b, prefix: strings.Trim(prefix, "/")}, nil
}

// do calls f with the objects, unless the operation has to fail.
func (b *bucket) do(op, key string, f func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil && b.fail(op, key) {
		return errBucket
	}
	f()
	return nil
}

type store struct {
	b      *bucket
	prefix string
}

func (s *store) String() string { return bucketURL + "/" + s.prefix }

func (s *store) List(_ context.Context, visit func(string, int64)) error {
	return s.b.do("list", s.prefix, func() {
		for key, data := range s.b.objects {
			if rest, ok := strings.CutPrefix("/"+key, path.Join("/", s.prefix)); ok && (rest == "" || rest[0] == '/' || s.prefix == "") {
				visit(strings.TrimPrefix(rest, "/"), int64(len(data)))
			}
		}
	})
}

func (s *store) Put(_ context.Context, key string, body io.ReadSeeker, _ int64) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return s.b.do("put", key, func() { s.b.objects[path.Join(s.prefix, key)] = string(data) })
}

func (s *store) Get(_ context.Context, key string) (r io.ReadCloser, err error) {
	doErr := s.b.do("get", key, func() {
		data, ok := s.b.objects[path.Join(s.prefix, key)]
		if !ok {
			err = errkind.New(errkind.NotFound, "there is no object %q", key)
			return
		}
		r = io.NopCloser(strings.NewReader(data))
	})
	return r, errors.Join(doErr, err)
}

func (s *store) Delete(_ context.Context, key string) error {
	return s.b.do("delete", key, func() { delete(s.b.objects, path.Join(s.prefix, key)) })
}

func (s *store) CopyFrom(_ context.Context, from backup.Store, key string, _ int64) (bool, error) {
	if !s.b.copies {
		return false, nil
	}
	origin := from.(*store)
	return true, s.b.do("copy", key, func() { s.b.objects[path.Join(s.prefix, key)] = s.b.objects[path.Join(origin.prefix, key)] })
}

// world is a node, a bucket, a clock and what is known of them. Processes come and go.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	disk   *memfs.FS
	b      *bucket
	clock  time.Time
	policy policy
	m      *manager

	version int // of the data of the node
	sends   int // snapshots taken
	open    int // snapshots there are
	locked  map[string]bool
}

func newWorld(t *testing.T, rng *rand.Rand, p policy) *world {
	w := &world{t: t, rng: rng, disk: memfs.New(memfs.Options{}), policy: p, locked: map[string]bool{}}
	w.b = &bucket{objects: map[string]string{"other/latest/data/x": "foreign", "node/daily/notes.txt": "foreign", "node/daily/2026-99-99/data/x": "foreign", "node/README": "foreign"}, copies: rng.IntN(2) == 0}
	for key := range w.b.objects { // stores are below the URL
		if rest, ok := strings.CutPrefix(key, "node/"); ok {
			w.b.objects[rest] = w.b.objects[key]
			delete(w.b.objects, key)
		}
	}
	return w
}

// Begin makes a snapshot with a file which always changes and one that never does.
func (w *world) Begin(context.Context, *logger.Logger) (string, error) {
	w.sends++
	w.open++
	if w.open != 1 {
		w.t.Errorf("%d runs at the same time", w.open)
	}
	name := fmt.Sprintf("s%d", w.sends)
	dir := path.Join("/node/snapshots", name, "data")
	err := w.disk.MkdirAll(dir)
	for file, data := range map[string]string{"same": "always the same", "version": fmt.Sprint(w.version)} {
		err = errors.Join(err, vfs.WriteFileDurable(w.disk, path.Join(dir, file), []byte(data)))
	}
	return name, err
}

// End deletes it.
func (w *world) End(_ *logger.Logger, name string) error {
	w.open--
	return w.disk.RemoveAll("/node/snapshots/" + name)
}

// start starts a process.
func (w *world) start() {
	root, err := w.b.open(w.t.Context(), bucketURL)
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = newManager(options{
		policy: w.policy, dst: bucketURL, root: root, open: w.b.open, snapshots: w, fs: w.disk, dataPath: "/node",
		backups: backup.Options{Concurrency: 1 + w.rng.IntN(3), Logger: logger.Discard(), Metrics: metrics.NewSet(), PieceBytes: 7},
		now:     func() time.Time { return w.clock }, tempDir: "/tmp", budget: memory.NewBudget(1 << 30), poll: time.Millisecond,
	})
}

func (w *world) catalog() catalog {
	w.t.Helper()
	c, err := w.m.find(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// checkWhole restores every backup that passes for whole.
func (w *world) checkWhole(when string) {
	w.t.Helper()
	for name, f := range w.catalog() {
		if !f.Complete {
			continue
		}
		s, _ := w.b.open(w.t.Context(), bucketURL+"/"+name)
		disk := memfs.New(memfs.Options{})
		if _, err := backup.Restore(w.t.Context(), &backup.Recovery{Src: s, FS: disk, DataPath: "/x"}); err != nil {
			w.t.Fatalf("%s: %s passes for whole: %s", when, name, err)
		}
		if data, err := disk.ReadFile("/x/data/same"); err != nil || string(data) != "always the same" {
			w.t.Fatalf("%s: %s has %q, %v", when, name, data, err)
		}
	}
}

func randomPolicy(t *testing.T, rng *rand.Rand) policy {
	zones := []string{"UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia"}
	zone, err := time.LoadLocation(zones[rng.IntN(len(zones))])
	if err != nil {
		t.Fatal(err)
	}
	p := policy{zone: zone, keep: map[string]int{}, scheduled: true, byDay: rng.IntN(3) == 0}
	p.interval = []time.Duration{0, 0, 0, 8 * time.Hour, 17 * time.Minute}[rng.IntN(5)]
	for _, kind := range kinds() {
		p.keep[kind] = rng.IntN(6) - 1
		if p.keep[kind] != 0 && rng.IntN(4) > 0 {
			p.makes = append(p.makes, kind)
		}
	}
	return p
}

// TestScheduleModel lets processes come and go while the clock runs, jumps and changes its zone, the bucket fails and backups get locked.
func TestScheduleModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	deleted, failed, lockedSeen := 0, 0, 0
	for round := 0; round < 20 || deleted == 0 || failed == 0 || lockedSeen == 0; round++ {
		if round > 400 {
			t.Fatalf("%d deletions, %d failures, %d locks", deleted, failed, lockedSeen)
		}
		w := newWorld(t, rng, randomPolicy(t, rng))
		w.clock = time.Date(2011, 12, 25, 0, 0, 0, 0, time.UTC).Add(time.Duration(rng.Int64N(int64(15 * 365 * 24 * time.Hour))))
		if rng.IntN(2) == 0 { // around changes of the clock
			w.clock = []time.Time{time.Date(2011, 12, 29, 6, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 20, 0, 0, 0, time.UTC), time.Date(2017, 10, 14, 20, 0, 0, 0, time.UTC), time.Date(2026, 3, 28, 20, 0, 0, 0, time.UTC)}[rng.IntN(4)]
		}
		w.start()
		for range 60 {
			d, f, l := w.randomStep()
			deleted, failed, lockedSeen = deleted+d, failed+f, lockedSeen+l
			if t.Failed() {
				t.Fatalf("policy %+v at %s", w.policy, w.clock)
			}
		}
		w.checkWhole("in the end")
		if n := strings.Count(strings.Join(slices.Collect(maps.Values(w.b.objects)), " "), "foreign"); n != 4 {
			t.Fatalf("%d of 4 objects that are none of its own are left", n)
		}
	}
}

// randomStep moves the clock, lets the process do what is due and compares with what should be.
func (w *world) randomStep() (deleted, failed, locked int) {
	t, rng := w.t, w.rng
	switch rng.IntN(10) {
	case 0:
		w.clock = w.clock.Add(-time.Duration(rng.Int64N(int64(3 * time.Hour))))
	case 1:
		w.clock = w.clock.Add(time.Duration(rng.Int64N(int64(60 * 24 * time.Hour))))
		w.start()
	default:
		w.clock = w.clock.Add(time.Duration(rng.Int64N(int64(30 * time.Hour))))
	}
	w.version++
	left := rng.IntN(200)
	w.b.fail = func(string, string) bool { left--; return left == 0 && rng.IntN(2) == 0 }
	before := w.catalog0()
	w.m.step(t.Context())
	w.b.fail = nil
	if !w.m.settled {
		failed++
		sends := w.sends
		w.m.step(t.Context())
		if w.sends > sends && w.m.failures > 0 {
			t.Errorf("a run is tried again at once")
		}
		w.clock = w.clock.Add(pause(w.m.failures))
		w.m.step(t.Context())
	}
	after := w.catalog()
	w.checkCaughtUp(after)
	w.checkRetention(after)
	for name := range before {
		if after[name] == nil {
			deleted++
		}
		if w.locked[name] && !after.whole(name) {
			t.Errorf("locked %s is gone", name)
		}
	}
	sends := w.sends
	w.m.step(t.Context())
	if w.sends != sends {
		t.Errorf("a second run is made in the same instant")
	}
	if name := newest(after); name != latest && name != "" && rng.IntN(10) == 0 {
		if _, err := w.m.lock(t.Context(), name, true); err != nil {
			t.Error(err)
		}
		w.locked[name] = true
		locked++
	}
	return deleted, failed, locked
}

func (w *world) catalog0() catalog {
	fail := w.b.fail
	w.b.fail = nil
	defer func() { w.b.fail = fail }()
	return w.catalog()
}

// checkCaughtUp: latest is of the interval which the clock shows, and its copies are there.
func (w *world) checkCaughtUp(c catalog) {
	if !w.m.settled || !c.whole(latest) {
		w.t.Errorf("nothing fails any more, and the run has not come to its end: %d failures", w.m.failures)
		return
	}
	at := c[latest].CreatedAt
	if w.policy.slot(at) != w.policy.slot(w.clock) {
		w.t.Errorf("latest is of %s at %s", at, w.clock)
	}
	for _, kind := range w.policy.makes {
		name := w.policy.name(kind, at)
		if c.whole(name) {
			continue
		}
		// It may be older by its name than those which are kept, after the clock was set back.
		newer := 0
		for other, f := range c {
			if k, _ := kindOf(other); k == kind && f.Complete && other > name {
				newer++
			}
		}
		if keep := w.policy.keep[kind]; keep == keepAll || newer < keep {
			w.t.Errorf("there is no %s", name)
		}
	}
}

func (w *world) checkRetention(c catalog) {
	for _, kind := range kinds() {
		keep := w.policy.keep[kind]
		var whole []string
		for name, f := range c {
			if k, _ := kindOf(name); k == kind && f.Complete {
				whole = append(whole, name)
			}
		}
		slices.Sort(whole)
		if keep == keepAll {
			continue
		}
		for _, name := range whole[:max(0, len(whole)-keep)] {
			if !c[name].Locked {
				w.t.Errorf("%s is there although only %d are kept: %q", name, keep, whole)
			}
		}
	}
}

// TestCrashes lets the process end at any operation of the bucket. What passes for whole is whole, and the next process catches up.
func TestCrashes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for at := 1; ; at++ {
		w := newWorld(t, rng, policy{makes: kinds(), keep: map[string]int{hourly: 2, daily: 1, weekly: 1, monthly: keepAll}, zone: time.UTC, scheduled: true})
		w.clock = time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
		w.start()
		ops, crashed := 0, false
		w.b.fail = func(string, string) bool { ops++; crashed = crashed || ops >= at; return crashed }
		for range 8 {
			w.clock = w.clock.Add(time.Hour)
			w.version++
			w.m.step(t.Context())
		}
		w.b.fail = nil
		w.checkWhole(fmt.Sprintf("after operation %d", at))
		w.start()
		w.m.step(t.Context())
		w.checkCaughtUp(w.catalog())
		w.checkRetention(w.catalog())
		if t.Failed() {
			t.Fatalf("after operation %d", at)
		}
		for name, f := range w.catalog() {
			if kind, _ := kindOf(name); !f.Complete && w.policy.keep[kind] != keepAll {
				t.Fatalf("after operation %d: the rest of %s is left", at, name)
			}
		}
		if !crashed {
			break
		}
	}
}

// TestRetentionSpares: what is locked, asked for by a restore, being verified or the only whole one stays.
func TestRetentionSpares(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(2, 2)), policy{makes: []string{daily}, keep: map[string]int{hourly: -1, daily: 1, weekly: -1, monthly: -1}, zone: time.UTC, scheduled: true, byDay: true})
	w.clock = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	w.start()
	day := func() { w.m.step(t.Context()); w.clock = w.clock.Add(24 * time.Hour) }
	day()
	if _, err := w.m.lock(t.Context(), "daily/2026-11-01", true); err != nil {
		t.Fatal(err)
	}
	day()
	if err := w.m.mark(t.Context(), "daily/2026-11-02"); err != nil {
		t.Fatal(err)
	}
	day()
	if err := w.m.verifier.begin("daily/2026-11-03", w.clock); err != nil {
		t.Fatal(err)
	}
	day()
	day()
	want := []string{"daily/2026-11-01", "daily/2026-11-02", "daily/2026-11-03", "daily/2026-11-05", "latest"}
	if got := slices.Sorted(maps.Keys(w.catalog())); !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	if _, err := w.m.lock(t.Context(), "daily/2026-11-01", false); err != nil {
		t.Fatal(err)
	}
	if err := deleteMark(w.disk, "/node"); err != nil {
		t.Fatal(err)
	}
	day()
	if got := slices.Sorted(maps.Keys(w.catalog())); !slices.Equal(got, []string{"daily/2026-11-03", "daily/2026-11-06", "latest"}) {
		t.Errorf("got %q", got)
	}

	only := catalog{"daily/2026-11-01": {Name: "daily/2026-11-01", Complete: true}, "daily/2026-11-02": {Name: "daily/2026-11-02", Complete: true, CreatedAt: w.clock}, latest: {Name: latest}}
	none := policy{keep: map[string]int{hourly: 0, daily: 0, weekly: 0, monthly: 0}}
	if got := none.expired(only, nil); !slices.Equal(got, []string{"daily/2026-11-01"}) {
		t.Errorf("the only whole backup is deleted: %q", got)
	}
}

// TestAsking: a backup which is asked for is made at once, also without a schedule or during the pause after a failure; a second one is refused meanwhile.
func TestAsking(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(3, 3)), policy{keep: map[string]int{}, zone: time.UTC})
	w.clock = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	w.start()
	w.m.step(t.Context())
	if w.sends != 0 {
		t.Error("a backup is made without a schedule")
	}
	if err := w.m.ask(); err != nil {
		t.Fatal(err)
	}
	w.b.fail = func(string, string) bool { return true }
	w.m.step(t.Context())
	w.b.fail = nil
	w.m.step(t.Context())
	if w.m.failures != 1 || w.sends != 0 {
		t.Errorf("%d failures, %d snapshots", w.m.failures, w.sends)
	}
	if err := w.m.ask(); err != nil {
		t.Fatal(err)
	}
	w.m.step(t.Context())
	if w.sends != 1 || !w.catalog().whole(latest) {
		t.Errorf("%d snapshots", w.sends)
	}
	w.m.setRunning("latest")
	if err := w.m.ask(); err == nil || err.Error() != "backup latest is in progress" {
		t.Errorf("got %v", err)
	}
}

// TestLoop runs the goroutine of a manager until it is stopped.
func TestLoop(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(4, 4)), policy{makes: kinds(), keep: map[string]int{hourly: -1, daily: -1, weekly: -1, monthly: -1}, zone: time.UTC, scheduled: true})
	w.clock = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	w.start()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.m.loop(ctx); close(done) }()
	for deadline := time.Now().Add(time.Minute); !w.catalog().whole("monthly/2026-11"); {
		if time.Now().After(deadline) {
			t.Fatal("no backup is made")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if w.m.ctx.Err() == nil {
		t.Error("verifications may go on")
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(5, 5)), policy{makes: []string{daily}, keep: map[string]int{hourly: -1, daily: -1, weekly: -1, monthly: 3}, zone: time.UTC, scheduled: true})
	w.clock = time.Unix(1_800_000_000, 0)
	w.start()
	w.b.fail = func(op, key string) bool { return op == "put" }
	w.m.step(t.Context())
	w.wantMetrics(`vm_backup_errors_total{type="latest"} 1`, `vm_backup_last_run_failed{type="latest"} 1`, `vm_backup_last_success_at{type="latest"} 0`, `vm_backup_schedule_enabled 1`)
	w.b.fail = nil
	w.clock = w.clock.Add(time.Minute)
	w.m.step(t.Context())
	w.wantMetrics(`vm_backup_errors_total{type="latest"} 1`, `vm_backup_last_run_failed{type="latest"} 0`, `vm_backup_last_success_at{type="latest"} 1800000060`,
		`vm_backup_last_success_at{type="daily"} 1800000060`, `vm_backup_last_size_bytes{type="daily"} 16`, `vm_backup_retention_deleted_total{type="monthly"} 0`, `vm_backup_running 0`)
}

func (w *world) wantMetrics(lines ...string) {
	w.t.Helper()
	var out bytes.Buffer
	if err := w.m.backups.Metrics.Write(&out, false); err != nil {
		w.t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains(out.String(), line+"\n") {
			w.t.Errorf("there is no %s in\n%s", line, out.String())
		}
	}
	if strings.Contains(out.String(), `"weekly"`) {
		w.t.Error("there are metrics of a kind that is not made")
	}
}
