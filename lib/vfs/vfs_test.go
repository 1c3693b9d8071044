package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// TestConformance runs the same checks on every file system.
func TestConformance(t *testing.T) {
	systems := map[string]func(t *testing.T) (vfs.FS, string){
		"os":      func(t *testing.T) (vfs.FS, string) { return vfs.OS(), t.TempDir() },
		"memfs":   func(t *testing.T) (vfs.FS, string) { return newMem(t) },
		"faultfs": func(t *testing.T) (vfs.FS, string) { m, dir := newMem(t); return faultfs.New(m), dir },
	}
	checks := map[string]func(t *testing.T, fsys vfs.FS, dir string){
		"files":       checkFiles,
		"missing":     checkMissing,
		"directories": checkDirectories,
		"rename":      checkRename,
		"link":        checkLink,
		"truncate":    checkTruncate,
		"sized":       checkSized,
		"map":         checkMap,
		"lock":        checkLock,
		"helpers":     checkHelpers,
	}
	for system, open := range systems {
		for name, check := range checks {
			t.Run(system+"/"+name, func(t *testing.T) {
				fsys, dir := open(t)
				check(t, fsys, dir)
			})
		}
	}
}

func newMem(t *testing.T) (*memfs.FS, string) {
	t.Helper()
	m := memfs.New(memfs.Options{})
	must(t, m.MkdirAll("/tmp/x"))
	return m, "/tmp/x"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v; want %v", err, want)
	}
}

func put(t *testing.T, fsys vfs.FS, path, data string) {
	t.Helper()
	f, err := fsys.Create(path)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func wantFile(t *testing.T, fsys vfs.FS, path, want string) {
	t.Helper()
	got, err := fsys.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Fatalf("%s holds %q; want %q", path, got, want)
	}
	r, err := fsys.Open(path)
	must(t, err)
	got, err = io.ReadAll(r)
	must(t, errors.Join(err, r.Close()))
	if string(got) != want {
		t.Fatalf("reading %s gives %q; want %q", path, got, want)
	}
}

func checkFiles(t *testing.T, fsys vfs.FS, dir string) {
	path := filepath.Join(dir, "a")
	put(t, fsys, path, "hello")
	wantFile(t, fsys, path, "hello")
	for range 2 {
		f, err := fsys.OpenAppend(path)
		must(t, err)
		_, err = f.Write([]byte(" world"))
		must(t, err)
		must(t, f.Close())
		if _, err := f.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("write after Close: %v", err)
		}
		wantErr(t, f.Close(), fs.ErrClosed)
	}
	wantFile(t, fsys, path, "hello world world")
	put(t, fsys, path, "new")
	wantFile(t, fsys, path, "new")
	f, err := fsys.OpenAppend(filepath.Join(dir, "created"))
	must(t, err)
	must(t, f.Close())
	wantFile(t, fsys, filepath.Join(dir, "created"), "")
	must(t, fsys.Remove(path))
	_, err = fsys.ReadFile(path)
	wantErr(t, err, fs.ErrNotExist)
	s, err := fsys.Space(dir)
	must(t, err)
	if s.Total <= 0 || s.Free < 0 || s.Free > s.Total {
		t.Fatalf("space %+v", s)
	}
}

func checkMissing(t *testing.T, fsys vfs.FS, dir string) {
	path := filepath.Join(dir, "no", "file")
	_, err := fsys.Create(path)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.OpenAppend(path)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Open(path)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Map(path)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.ReadDir(path)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Lock(path)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Space(path)
	wantErr(t, err, fs.ErrNotExist)
	wantErr(t, fsys.Remove(path), fs.ErrNotExist)
	wantErr(t, fsys.Truncate(path, 1), fs.ErrNotExist)
	wantErr(t, fsys.Rename(path, filepath.Join(dir, "b")), fs.ErrNotExist)
	wantErr(t, fsys.Link(path, filepath.Join(dir, "b")), fs.ErrNotExist)
	wantErr(t, fsys.SyncDir(path), fs.ErrNotExist)
	must(t, fsys.RemoveAll(path))
	put(t, fsys, filepath.Join(dir, "f"), "")
	_, err = fsys.Create(filepath.Join(dir, "f", "below"))
	wantErr(t, err, syscall.ENOTDIR)
	_, err = fsys.Create(dir)
	wantErr(t, err, syscall.EISDIR)
}

func checkDirectories(t *testing.T, fsys vfs.FS, dir string) {
	must(t, fsys.MkdirAll(filepath.Join(dir, "b", "c")))
	must(t, fsys.MkdirAll(filepath.Join(dir, "b", "c")))
	put(t, fsys, filepath.Join(dir, "z"), "12345")
	put(t, fsys, filepath.Join(dir, "a"), "1")
	must(t, fsys.SyncDir(dir))
	list, err := fsys.ReadDir(dir)
	must(t, err)
	want := []vfs.Entry{{Name: "a", Size: 1}, {Name: "b", IsDir: true}, {Name: "z", Size: 5}}
	if len(list) != len(want) {
		t.Fatalf("got %v; want %v", list, want)
	}
	for i := range want {
		if list[i] != want[i] {
			t.Fatalf("entry %d is %+v; want %+v", i, list[i], want[i])
		}
	}
	wantErr(t, fsys.Remove(filepath.Join(dir, "b")), syscall.ENOTEMPTY)
	must(t, fsys.RemoveAll(filepath.Join(dir, "b")))
	_, err = fsys.ReadDir(filepath.Join(dir, "b"))
	wantErr(t, err, fs.ErrNotExist)
	if err := fsys.MkdirAll(filepath.Join(dir, "z", "d")); err == nil {
		t.Fatal("made a directory below a file")
	}
}

func checkRename(t *testing.T, fsys vfs.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	put(t, fsys, a, "A")
	put(t, fsys, b, "B")
	must(t, fsys.Rename(a, b))
	wantFile(t, fsys, b, "A")
	_, err := fsys.ReadFile(a)
	wantErr(t, err, fs.ErrNotExist)
	must(t, fsys.MkdirAll(filepath.Join(dir, "from", "sub")))
	put(t, fsys, filepath.Join(dir, "from", "sub", "f"), "F")
	must(t, fsys.MkdirAll(filepath.Join(dir, "to")))
	must(t, fsys.Rename(filepath.Join(dir, "from"), filepath.Join(dir, "to", "moved")))
	wantFile(t, fsys, filepath.Join(dir, "to", "moved", "sub", "f"), "F")
	wantErr(t, fsys.Rename(filepath.Join(dir, "to"), filepath.Join(dir, "to", "moved", "x")), syscall.EINVAL)
	if err := fsys.Rename(b, filepath.Join(dir, "to")); err == nil {
		t.Fatal("a file replaced a directory")
	}
}

func checkLink(t *testing.T, fsys vfs.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	put(t, fsys, a, "A")
	must(t, fsys.Link(a, b))
	wantErr(t, fsys.Link(a, b), fs.ErrExist)
	must(t, fsys.Remove(a))
	wantFile(t, fsys, b, "A")
}

func checkTruncate(t *testing.T, fsys vfs.FS, dir string) {
	path := filepath.Join(dir, "a")
	put(t, fsys, path, "12345")
	must(t, fsys.Truncate(path, 2))
	wantFile(t, fsys, path, "12")
	f, err := fsys.OpenAppend(path)
	must(t, err)
	_, err = f.Write([]byte("xyz"))
	must(t, errors.Join(err, f.Sync(), f.Close()))
	wantFile(t, fsys, path, "12xyz")
	must(t, fsys.Truncate(path, 7))
	wantFile(t, fsys, path, "12xyz\x00\x00")
	wantErr(t, fsys.Truncate(path, -1), syscall.EINVAL)
}

func checkSized(t *testing.T, fsys vfs.FS, dir string) {
	path := filepath.Join(dir, "sized")
	put(t, fsys, path, "what was there before")
	for _, reserve := range []bool{false, true} {
		f, err := fsys.CreateSized(path, 8, reserve)
		must(t, err)
		wantFile(t, fsys, path, "\x00\x00\x00\x00\x00\x00\x00\x00")
		for _, at := range []int64{5, 1, 5} {
			_, err = f.WriteAt([]byte("xyz"), at)
			must(t, err)
		}
		must(t, f.Sync())
		must(t, f.Close())
		wantFile(t, fsys, path, "\x00xyz\x00xyz")
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("write after Close: %v", err)
		}
	}
	empty, err := fsys.CreateSized(path, 0, true)
	must(t, err)
	must(t, empty.Close())
	wantFile(t, fsys, path, "")
	_, err = fsys.CreateSized(filepath.Join(dir, "missing", "f"), 1, true)
	wantErr(t, err, fs.ErrNotExist)
}

func checkMap(t *testing.T, fsys vfs.FS, dir string) {
	for name, want := range map[string]string{"empty": "", "small": "abc", "large": strings.Repeat("0123456789", 10000)} {
		path := filepath.Join(dir, name)
		put(t, fsys, path, want)
		m, err := fsys.Map(path)
		must(t, err)
		must(t, fsys.Remove(path)) // a mapping outlives the name
		if string(m.Bytes()) != want {
			t.Fatalf("%s: got %d bytes; want %d", name, len(m.Bytes()), len(want))
		}
		must(t, m.Close())
		must(t, m.Close())
	}
}

func checkLock(t *testing.T, fsys vfs.FS, dir string) {
	path := filepath.Join(dir, "flock.lock")
	l, err := fsys.Lock(path)
	must(t, err)
	_, err = fsys.Lock(path)
	if errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("second lock: %v (%v)", err, errkind.Of(err))
	}
	must(t, l.Close())
	l, err = fsys.Lock(path)
	must(t, err)
	must(t, l.Close())
}

func checkHelpers(t *testing.T, fsys vfs.FS, dir string) {
	deep := filepath.Join(dir, "p", "q", "r")
	must(t, vfs.MkdirAllDurable(fsys, deep))
	must(t, vfs.MkdirAllDurable(fsys, deep))
	path := filepath.Join(deep, "f")
	must(t, vfs.WriteFileDurable(fsys, path, []byte("one")))
	must(t, vfs.WriteFileDurable(fsys, path, []byte("two")))
	wantFile(t, fsys, path, "two")
	list, err := fsys.ReadDir(deep)
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("left over: %v", list)
	}
	if err := vfs.MkdirAllDurable(fsys, filepath.Join(path, "x")); err == nil {
		t.Fatal("made a directory below a file")
	}
}
