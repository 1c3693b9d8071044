package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storage"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// memStore keeps objects in memory, and can be made to fail.
type memStore struct {
	name    string
	copies  bool // it copies from other stores of the kind
	mu      sync.Mutex
	objects map[string][]byte
	fail    func(op, key string) bool
	torn    bool // what is read breaks off in the middle
}

var errStore = errors.New("the store fails")

func newMemStore(name string) *memStore { return &memStore{name: name, objects: map[string][]byte{}} }

func (s *memStore) String() string { return "mem://" + s.name }

func (s *memStore) try(op, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil && s.fail(op, key) {
		return errStore
	}
	return nil
}

func (s *memStore) List(_ context.Context, visit func(string, int64)) error {
	if err := s.try("list", ""); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, data := range s.objects {
		visit(key, int64(len(data)))
	}
	return nil
}

// Put reads the body twice, as clients do which have to try again.
func (s *memStore) Put(_ context.Context, key string, body io.ReadSeeker, size int64) error {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if int64(len(data)) != size {
		return fmt.Errorf("%d bytes, not %d", len(data), size)
	}
	if err := s.try("put", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = data
	return nil
}

func (s *memStore) Get(_ context.Context, key string) (io.ReadCloser, error) {
	if err := s.try("get", key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[key]
	if !ok {
		return nil, errkind.New(errkind.NotFound, "there is no object %q", key)
	}
	if s.torn && len(data) > 1 {
		data = data[:len(data)/2]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s *memStore) Delete(_ context.Context, key string) error {
	if err := s.try("delete", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}

func (s *memStore) CopyFrom(_ context.Context, from Store, key string, _ int64) (bool, error) {
	origin, ok := from.(*memStore)
	if !ok || !s.copies {
		return false, nil
	}
	if err := s.try("copy", key); err != nil {
		return false, err
	}
	origin.mu.Lock()
	data := origin.objects[key]
	origin.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = data
	return true, nil
}

// node is a storage that writes and takes snapshots.
type node struct {
	t    *testing.T
	fs   *memfs.FS
	db   *storage.Storage
	rng  *rand.Rand
	time int64
}

func newNode(t *testing.T, rng *rand.Rand) *node {
	n := &node{t: t, fs: memfs.New(memfs.Options{}), rng: rng, time: time.Date(2026, 10, 30, 0, 0, 0, 0, time.UTC).UnixMilli()}
	n.db = open(t, n.fs)
	t.Cleanup(func() {
		if err := n.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func open(t *testing.T, fsys vfs.FS) *storage.Storage {
	t.Helper()
	cfg := storage.DefaultConfig("/node")
	if err := cfg.RetentionPeriod.Set("100y"); err != nil {
		t.Fatal(err)
	}
	db, err := storage.Open(cfg, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func options(fsys vfs.FS) storage.Options {
	now := func() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) }
	return storage.Options{FS: fsys, Now: now, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 30)}
}

// write writes some samples, and now and then deletes or merges.
func (n *node) write() {
	for range 1 + n.rng.IntN(3) {
		var b model.Batch
		for i := range 200 {
			n.time += n.rng.Int64N(60_000)
			labels := []model.Label{{Name: "__name__", Value: "metric"}, {Name: "i", Value: fmt.Sprint(n.rng.IntN(50) + i)}}
			if err := b.AddSeries(model.TenantID{AccountID: n.rng.Uint32N(2)}, labels); err != nil {
				n.t.Fatal(err)
			}
			b.AddSample(n.time, n.rng.Float64())
		}
		if err := n.db.Ingest(n.t.Context(), &b); err != nil {
			n.t.Fatal(err)
		}
		if err := n.db.Flush(n.t.Context()); err != nil {
			n.t.Fatal(err)
		}
	}
	if n.rng.IntN(3) == 0 {
		if err := n.db.Merge(n.t.Context(), ""); err != nil {
			n.t.Fatal(err)
		}
	}
}

// snapshot returns the directory of a new snapshot and what is in it.
func (n *node) snapshot() (name string, tree map[string]string) {
	name, err := n.db.CreateSnapshot(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	dir := path.Join("/node/snapshots", name)
	return dir, treeOf(n.t, n.fs, dir)
}

// treeOf returns the contents of the files below a directory.
func treeOf(t *testing.T, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	var visit func(name string)
	visit = func(name string) {
		entries, err := fsys.ReadDir(path.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			child := path.Join(name, e.Name)
			if e.IsDir {
				visit(child)
				continue
			}
			data, err := fsys.ReadFile(path.Join(dir, child))
			if err != nil {
				t.Fatal(err)
			}
			tree[child] = string(data)
		}
	}
	visit("")
	return tree
}

// restored restores to an own file system and returns what is there.
func restored(t *testing.T, s Store, fsys vfs.FS) map[string]string {
	t.Helper()
	if _, err := Restore(t.Context(), &Recovery{Src: s, FS: fsys, DataPath: "/node"}); err != nil {
		t.Fatal(err)
	}
	tree := treeOf(t, fsys, "/node")
	delete(tree, storage.LockName)
	return tree
}

func compareTrees(t *testing.T, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s has %d bytes; want %d", name, len(got[name]), len(want[name]))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
	t.FailNow()
}

// TestRandomFaults backs up a node again and again while the store fails now and then, and restores at any moment: what comes back is
// always the last snapshot of which a backup has ended well, or a later one.
func TestRandomFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := newNode(t, rng)
	dst, origin := newMemStore("dst"), newMemStore("origin")
	dst.copies = rng.IntN(2) == 0
	var mayBe []map[string]string // what the destination may hold
	failures, copied := 0, int64(0)
	for i := 0; i < 60 || failures < 10; i++ {
		if i > 500 {
			t.Fatalf("%d failures in %d runs", failures, i)
		}
		n.write()
		dir, tree := n.snapshot()
		pieces := 1 + rng.Int64N(4000)
		if rng.IntN(4) == 0 {
			backup(t, &Request{FS: n.fs, Dir: dir, Dst: origin, Options: Options{PieceBytes: pieces}})
		}
		left := rng.IntN(100)
		dst.fail = func(string, string) bool { left--; return left == 0 }
		stats, err := Backup(t.Context(), &Request{FS: n.fs, Dir: dir, Dst: dst, Origin: origin, Options: Options{PieceBytes: pieces}})
		dst.fail = nil
		copied += stats.Copied
		switch {
		case err == nil:
			mayBe = []map[string]string{tree}
		case !errors.Is(err, errStore):
			t.Fatal(err)
		default:
			failures++
			if len(mayBe) > 0 {
				mayBe = append(mayBe, tree)
			}
		}
		if err := n.db.DeleteSnapshot(t.Context(), path.Base(dir)); err != nil {
			t.Fatal(err)
		}
		if len(mayBe) == 0 {
			continue
		}
		got := restored(t, dst, memfs.New(memfs.Options{}))
		if len(mayBe) > 1 && maps.Equal(got, mayBe[len(mayBe)-1]) {
			mayBe = mayBe[len(mayBe)-1:] // it had come to its list
		}
		compareTrees(t, got, mayBe[0])
	}
	if copied == 0 && dst.copies {
		t.Error("nothing was copied on the server")
	}
}

func backup(t *testing.T, r *Request) Stats {
	t.Helper()
	stats, err := Backup(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// TestRestoreCrashes cuts the power at any operation of a restore over the remains of another time. No storage opens before a
// later run has ended; then everything is as in the snapshot.
func TestRestoreCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := newNode(t, rng)
	n.write()
	dir, tree := n.snapshot()
	s := newMemStore("s")
	backup(t, &Request{FS: n.fs, Dir: dir, Dst: s, Options: Options{PieceBytes: 3000}})
	n.write() // the remains are of a later time, with files of the same names
	for at := 1; ; at++ {
		disk := n.fs.Crash(rand.New(rand.NewPCG(seed, 1))) // a copy, as after a power failure
		faulty := faultfs.New(disk)
		faulty.SetFault(faultfs.Fault{At: int64(at), Sticky: true, Short: rng.IntN(2) == 0})
		_, err := Restore(t.Context(), &Recovery{Src: s, FS: faulty, DataPath: "/node", Options: Options{Concurrency: 1 + rng.IntN(3)}})
		if err == nil {
			if at < 30 {
				t.Fatalf("only %d operations can fail", at)
			}
			got := treeOf(t, disk.Crash(rng), "/node") // what has been restored is on the disk
			delete(got, storage.LockName)
			compareTrees(t, got, tree)
			break
		}
		disk = disk.Crash(rng)
		_, markErr := disk.ReadFile("/node/" + storage.RestoreMark)
		if db, err := storage.Open(storage.DefaultConfig("/node"), options(disk)); err == nil {
			if got := treeOf(t, disk, "/node/data"); markErr == nil || len(got) == 0 {
				t.Fatalf("operation %d: a storage opens in the middle of a restore", at)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		compareTrees(t, restored(t, s, disk), tree)
	}
}

// Files which are there but damaged are loaded again; what is damaged at the source or in the backup is refused, and named.
func TestDamage(t *testing.T) {
	n := newNode(t, rand.New(rand.NewPCG(1, 1)))
	n.write()
	dir, tree := n.snapshot()
	s, disk := newMemStore("s"), memfs.New(memfs.Options{})
	backup(t, &Request{FS: n.fs, Dir: dir, Dst: s})
	restored(t, s, disk)
	for name, data := range tree {
		flip(t, disk, "/node/"+name, data)
		compareTrees(t, restored(t, s, disk), tree)
	}

	for _, name := range []string{"values", "MANIFEST"} { // known by what the part says of it, and by its bytes
		faulty := faultfs.New(disk)
		for file := range tree {
			if path.Base(file) == name {
				faulty.SetUnreadable("/node/"+file, 0, 10)
			}
		}
		compareTrees(t, restored(t, s, faulty), tree)
	}

	for name, data := range tree {
		if path.Base(name) != "values" {
			continue
		}
		flip(t, n.fs, path.Join(dir, name), data)
		other := newMemStore("other")
		_, err := Backup(t.Context(), &Request{FS: n.fs, Dir: dir, Dst: other})
		if errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), name) {
			t.Errorf("a damaged part is backed up: %v", err)
		}
		if _, err := ReadList(t.Context(), other, true); errkind.Of(err) != errkind.NotFound {
			t.Errorf("there is a list: %v", err)
		}
		if err := vfs.WriteFileDurable(n.fs, path.Join(dir, name), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}

	for key, data := range s.objects {
		data[len(data)/2] ^= 1
		_, err := Restore(t.Context(), &Recovery{Src: s, FS: memfs.New(memfs.Options{}), DataPath: "/node"})
		if errkind.Of(err) != errkind.Corrupt && key != markKey {
			t.Errorf("a damaged object %s is restored: %v", key, err)
		}
		data[len(data)/2] ^= 1
	}
	s.torn = true
	if _, err := Restore(t.Context(), &Recovery{Src: s, FS: memfs.New(memfs.Options{}), DataPath: "/node"}); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("got %v", err)
	}
}

// flip changes a bit of a file.
func flip(t *testing.T, fsys vfs.FS, name, data string) {
	t.Helper()
	changed := []byte(data)
	changed[len(changed)/2] ^= 4
	if err := vfs.WriteFileDurable(fsys, name, changed); err != nil {
		t.Fatal(err)
	}
}

// A second backup of an almost unchanged node sends the difference only; a copy of a backup needs no node.
func TestIncrements(t *testing.T) {
	n := newNode(t, rand.New(rand.NewPCG(2, 2)))
	for range 10 {
		n.write()
	}
	latest, daily := newMemStore("latest"), newMemStore("daily")
	daily.copies = true
	dir, _ := n.snapshot()
	first := backup(t, &Request{FS: n.fs, Dir: dir, Dst: latest})
	if first.Moved != first.Bytes || first.Deleted != 0 {
		t.Errorf("first: %+v", first)
	}
	if again := backup(t, &Request{FS: n.fs, Dir: dir, Dst: latest}); again.Moved != 0 {
		t.Errorf("again: %+v", again)
	}
	n.write()
	dir, tree := n.snapshot()
	if second := backup(t, &Request{FS: n.fs, Dir: dir, Dst: latest}); second.Moved == 0 || second.Moved > second.Bytes/3 || second.Deleted == 0 {
		t.Errorf("second: %+v", second)
	}
	if copied := backup(t, &Request{Dst: daily, Origin: latest}); copied.Copied != copied.Bytes || copied.Moved != 0 {
		t.Errorf("copy: %+v", copied)
	}
	elsewhere := newMemStore("elsewhere") // which cannot copy
	if relayed := backup(t, &Request{Dst: elsewhere, Origin: latest, Options: Options{MaxBytesPerSecond: 1 << 30}}); relayed.Moved != relayed.Bytes {
		t.Errorf("relay: %+v", relayed)
	}
	for _, s := range []Store{latest, daily, elsewhere} {
		compareTrees(t, restored(t, s, memfs.New(memfs.Options{})), tree)
	}
}

// TestHistogramsComeBack backs up native histograms and reads them from what was restored.
func TestHistogramsComeBack(t *testing.T) {
	n := newNode(t, rand.New(rand.NewPCG(4, 4)))
	n.write()
	var b model.Batch
	if err := b.AddSeries(model.TenantID{AccountID: 7}, []model.Label{{Name: "__name__", Value: "latency"}}); err != nil {
		t.Fatal(err)
	}
	source := histogramtest.New(n.rng, histogramtest.Whole)
	for i := range int64(50) {
		b.AddHistogram(n.time+i*15_000, source.Payload())
	}
	if err := n.db.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	dir, _ := n.snapshot()
	store, fsys := newMemStore("latest"), memfs.New(memfs.Options{})
	backup(t, &Request{FS: n.fs, Dir: dir, Dst: store})
	restored(t, store, fsys)
	db := open(t, fsys)
	it, err := db.Search(t.Context(), &model.SearchQuery{
		Tenant: model.TenantID{AccountID: 7}, Range: model.TimeRange{Min: n.time, Max: n.time + 3_600_000}, Histograms: model.WithHistograms,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got tsblock.HistogramSamples
	for it.Next() {
		if err := tsblock.ReadHistograms(&got, it.At().Blocks, model.TimeRange{Min: n.time, Max: n.time + 3_600_000}, 0, &tsblock.Scratch{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(it.Err(), it.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	for i, want := range b.AppendHistograms(nil, 0) {
		if i >= got.Len() || got.Timestamps[i] != want.Timestamp || !bytes.Equal(got.Payloads[i], want.Payload) {
			t.Fatalf("histogram %d of %d is another, or none", i, got.Len())
		}
	}
}

func TestRefusals(t *testing.T) {
	n := newNode(t, rand.New(rand.NewPCG(3, 3)))
	n.write()
	dir, _ := n.snapshot()
	s := newMemStore("s")
	disk := memfs.New(memfs.Options{})
	if _, err := Restore(t.Context(), &Recovery{Src: s, FS: disk, DataPath: "/node"}); errkind.Of(err) != errkind.NotFound {
		t.Errorf("no backup: %v", err)
	}
	if _, err := disk.ReadDir("/node"); err == nil {
		t.Error("a data directory was made for no backup")
	}
	backup(t, &Request{FS: n.fs, Dir: dir, Dst: s})
	if _, err := Restore(t.Context(), &Recovery{Src: s, FS: n.fs, DataPath: "/node"}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("a running node: %v", err)
	}
	delete(s.objects, markKey)
	if _, err := Restore(t.Context(), &Recovery{Src: s, FS: disk, DataPath: "/node"}); errkind.Of(err) != errkind.NotFound {
		t.Errorf("no mark: %v", err)
	}
	if _, err := Restore(t.Context(), &Recovery{Src: s, FS: disk, DataPath: "/node", SkipCompleteCheck: true}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Backup(ctx, &Request{FS: n.fs, Dir: dir, Dst: newMemStore("other")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzParseList(f *testing.F) {
	l := newList([]storage.FileInfo{{Path: "data/2026_11/MANIFEST", Size: 3, Identity: strings.Repeat("a", 32)}}, "s", time.Unix(0, 0), 1<<30)
	data, err := l.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, true)
	f.Add([]byte(`{"version":1,"piece_bytes":1,"files":[{"path":"data/../x"}]}`), false)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		if !whole { // gets past the checksum
			data = []byte(fmt.Sprintf(`{"list":%s,"crc32c":"%08x"}`, data, codec.Checksum(data)))
		}
		l, err := ParseList(data)
		if err != nil {
			return
		}
		for _, f := range l.Files {
			if strings.Contains(f.Path, "..") && path.Clean("/"+f.Path) != "/"+f.Path || !strings.HasPrefix(f.Path, "data/") {
				t.Errorf("path %q", f.Path)
			}
		}
	})
}
