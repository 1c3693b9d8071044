package backup

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

func verify(t *testing.T, s Store, disk *memfs.FS) (Verified, error) {
	t.Helper()
	return Verify(t.Context(), &Verification{Src: s, FS: disk, TempDir: "/tmp", Budget: memory.NewBudget(1 << 30)})
}

// TestVerify finds every flipped byte and every missing object, and leaves nothing behind.
func TestVerify(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := newNode(t, rng)
	n.write()
	n.write()
	dir, tree := n.snapshot()
	s, disk := newMemStore("s"), memfs.New(memfs.Options{})
	backup(t, &Request{FS: n.fs, Dir: dir, Dst: s, Options: Options{PieceBytes: 2000}})
	got, err := verify(t, s, disk)
	if err != nil || got.Files != len(tree) || got.Parts == 0 || got.Rows == 0 || got.Series == 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for key, data := range maps.Clone(s.objects) {
		if key == markKey {
			continue
		}
		for range 5 {
			at, bit := rng.IntN(len(data)), byte(1)<<rng.IntN(8)
			data[at] ^= bit
			if _, err := verify(t, s, disk); errkind.Of(err) != errkind.Corrupt && errkind.Of(err) != errkind.Unsupported {
				t.Errorf("byte %d of %s is changed by %02x, which gives %v", at, key, bit, err)
			}
			data[at] ^= bit
		}
		delete(s.objects, key)
		if _, err := verify(t, s, disk); errkind.Of(err) != errkind.NotFound {
			t.Errorf("%s is missing, which gives %v", key, err)
		}
		s.objects[key] = data
	}
	if left := treeOf(t, disk, "/tmp"); len(left) > 0 {
		t.Errorf("%d files are left", len(left))
	}
	if again, err := verify(t, s, disk); err != nil || again != got {
		t.Errorf("got %+v, %v; want %+v", again, err, got)
	}
}

func TestVerifyRefusals(t *testing.T) {
	n := newNode(t, rand.New(rand.NewPCG(4, 4)))
	n.write()
	dir, _ := n.snapshot()
	s, disk := newMemStore("s"), memfs.New(memfs.Options{Capacity: 64 << 20})
	backup(t, &Request{FS: n.fs, Dir: dir, Dst: s})
	if _, err := verify(t, s, disk); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "name a directory with more room") {
		t.Errorf("too little room: %v", err)
	}
	disk.SetCapacity(0)
	lock, err := disk.Lock(fmt.Sprintf("/tmp/verify-%08x.lock", codec.Checksum([]byte(s.String()))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, s, disk); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "twice at the same time") {
		t.Errorf("twice: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, s, disk); err != nil {
		t.Error(err)
	}
}

// TestFind knows backups by their names, and what is left of some.
func TestFind(t *testing.T) {
	n := newNode(t, rand.New(rand.NewPCG(5, 5)))
	n.write()
	dir, _ := n.snapshot()
	at := time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC)
	one, root := newMemStore("one"), newMemStore("root")
	stats := backup(t, &Request{FS: n.fs, Dir: dir, Dst: one, Now: at})
	if err := Lock(t.Context(), one, true); err != nil {
		t.Fatal(err)
	}
	for key, data := range one.objects {
		root.objects["one/"+key], root.objects["none/"+key], root.objects["bad/"+key] = data, data, data
		if key != markKey && key != lockKey {
			root.objects["half/"+key] = data
		}
	}
	root.objects["bad/"+markKey] = []byte("x")
	root.objects["foreign/file"] = []byte("x")
	nameOf := func(key string) (string, string, bool) {
		name, rest, _ := strings.Cut(key, "/")
		return name, rest, name != "none"
	}
	found, err := Find(t.Context(), root, 3, nameOf)
	if err != nil || len(found) != 3 {
		t.Fatalf("got %v, %v", found, err)
	}
	if want := (Found{Name: "one", SizeBytes: stats.Bytes, CreatedAt: at, Complete: true, Locked: true}); *found["one"] != want {
		t.Errorf("got %+v; want %+v", *found["one"], want)
	}
	if want := (Found{Name: "half", SizeBytes: stats.Bytes}); *found["half"] != want {
		t.Errorf("got %+v; want %+v", *found["half"], want)
	}
	if found["bad"].Complete {
		t.Error("a mark that cannot be read makes a backup whole")
	}
}

// TestRemove leaves alone what is locked or not its own, and never leaves something that passes for whole.
func TestRemove(t *testing.T) {
	n := newNode(t, rand.New(rand.NewPCG(6, 6)))
	n.write()
	dir, _ := n.snapshot()
	for at := 1; ; at++ {
		s := newMemStore("s")
		backup(t, &Request{FS: n.fs, Dir: dir, Dst: s})
		s.objects["data/foreign"] = []byte("x")
		if err := Lock(t.Context(), s, true); err != nil {
			t.Fatal(err)
		}
		if err := Remove(t.Context(), s, 2, func() { t.Error("the lock is ignored") }); errkind.Of(err) != errkind.Unavailable {
			t.Fatalf("locked: %v", err)
		}
		if err := Lock(t.Context(), s, false); err != nil {
			t.Fatal(err)
		}
		before, left := len(s.objects), at
		s.fail = func(string, string) bool { left--; return left <= 0 }
		err := Remove(t.Context(), s, 2, func() {})
		s.fail = nil
		if err == nil {
			if len(s.objects) != 1 || at < 5 {
				t.Errorf("%d objects are left after %d operations", len(s.objects), at)
			}
			return
		}
		if _, err := ReadList(t.Context(), s, false); err == nil && len(s.objects) < before {
			t.Fatalf("operation %d: half a backup passes for whole", at)
		}
	}
}

// distant is a store far away: every stream waits for each run of bytes.
type distant struct{ *memStore }

const (
	distance  = 2 * time.Millisecond
	distantBy = 64 << 10
)

func (s distant) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := s.memStore.Get(ctx, key)
	return &distantBody{r}, err
}

type distantBody struct{ io.ReadCloser }

func (b *distantBody) Read(p []byte) (int, error) {
	time.Sleep(distance)
	return b.ReadCloser.Read(p[:min(len(p), distantBy)])
}

// BenchmarkRestoreLargeFile loads one file of 64 pieces over streams of 32 MB/s each.
func BenchmarkRestoreLargeFile(b *testing.B) {
	for name, concurrency := range map[string]int{"streams=1": 1, "streams=10": 10} {
		b.Run(name, func(b *testing.B) {
			disk := memfs.New(memfs.Options{})
			if err := disk.MkdirAll("/s/data"); err != nil {
				b.Fatal(err)
			}
			f, err := disk.Create("/s/data/large")
			if err != nil {
				b.Fatal(err)
			}
			const size = 16 << 20
			if _, err := f.Write(make([]byte, size)); err != nil {
				b.Fatal(err)
			}
			s := newMemStore("s")
			if _, err := Backup(b.Context(), &Request{FS: disk, Dir: "/s", Dst: s, Options: Options{PieceBytes: size / 64}}); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			dir := b.TempDir()
			for b.Loop() {
				r := &Recovery{Src: distant{s}, FS: vfs.OS(), DataPath: dir, Options: Options{Concurrency: concurrency}}
				if _, err := Restore(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				if err := r.FS.RemoveAll(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
