package memfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func write(t *testing.T, w vfs.File, data string) {
	t.Helper()
	_, err := w.Write([]byte(data))
	must(t, err)
}

func create(t *testing.T, f *FS, path, data string) vfs.File {
	t.Helper()
	w, err := f.Create(path)
	must(t, err)
	write(t, w, data)
	return w
}

func read(t *testing.T, f *FS, path string) (string, bool) {
	t.Helper()
	data, err := f.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	must(t, err)
	return string(data), true
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	rng := newRand(t)
	f := New(Options{})
	must(t, vfs.MkdirAllDurable(f, "/a/b"))
	w := create(t, f, "/a/b/f", "synced")
	must(t, w.Sync())
	must(t, f.SyncDir("/a/b"))
	tail := strings.Repeat("x", 3*pageSize)
	write(t, w, tail)
	lengths := map[int]bool{}
	torn := 0
	for range 200 {
		got, ok := read(t, f.Crash(rng), "/a/b/f")
		if !ok || !strings.HasPrefix(got, "synced") || len(got) > len("synced")+len(tail) {
			t.Fatalf("found %d bytes starting %.10q, exists=%v", len(got), got, ok)
		}
		lengths[len(got)] = true
		if strings.Trim(got[6:], "x") != "" {
			torn++
		}
	}
	if len(lengths) < 50 || torn < 20 {
		t.Errorf("200 crashes gave only %d lengths and %d torn files", len(lengths), torn)
	}
	if got, _ := read(t, f, "/a/b/f"); got != "synced"+tail {
		t.Error("Crash changed the old file system")
	}
}

func TestCrashLosesNamesInOrder(t *testing.T) {
	rng := newRand(t)
	f := New(Options{})
	for i := range 5 {
		must(t, create(t, f, fmt.Sprint("/f", i), "data").Sync())
	}
	counts := map[int]int{}
	for range 200 {
		list, err := f.Crash(rng).ReadDir("/")
		must(t, err)
		counts[len(list)]++
		for i, e := range list {
			if e.Name != fmt.Sprint("f", i) || e.Size != 4 {
				t.Fatalf("found %v: no prefix of the history", list)
			}
		}
	}
	if len(counts) != 6 {
		t.Errorf("numbers of survivors: %v; want all of 0 to 5", counts)
	}
	must(t, f.SyncDir("/"))
	if list, _ := f.Crash(rng).ReadDir("/"); len(list) != 5 {
		t.Errorf("found %v after SyncDir", list)
	}
}

func TestCrashOfNameWithoutContents(t *testing.T) {
	rng := newRand(t)
	f := New(Options{})
	create(t, f, "/f", "abc")
	must(t, f.SyncDir("/"))
	empty := 0
	for range 100 {
		got, ok := read(t, f.Crash(rng), "/f")
		if !ok {
			t.Fatal("a synced name is lost")
		}
		if got == "" {
			empty++
		}
	}
	if empty == 0 {
		t.Error("unsynced contents always survived")
	}
}

func TestCrashDuringReplacement(t *testing.T) {
	rng := newRand(t)
	f := New(Options{})
	must(t, vfs.WriteFileDurable(f, "/f", []byte("old")))
	must(t, create(t, f, "/f.tmp", "new").Sync())
	must(t, f.Rename("/f.tmp", "/f"))
	seen := map[string]bool{}
	for range 100 {
		got, _ := read(t, f.Crash(rng), "/f")
		seen[got] = true
	}
	if len(seen) != 2 || !seen["old"] || !seen["new"] {
		t.Errorf("found %v; want old and new", seen)
	}
}

func TestCrashDuringMoveBetweenDirectories(t *testing.T) {
	rng := newRand(t)
	f := New(Options{})
	must(t, vfs.MkdirAllDurable(f, "/tmp/part"))
	must(t, vfs.MkdirAllDurable(f, "/parts"))
	must(t, f.Rename("/tmp/part", "/parts/1"))
	where := map[string]int{}
	for range 100 {
		c := f.Crash(rng)
		_, errOld := c.ReadDir("/tmp/part")
		_, errNew := c.ReadDir("/parts/1")
		where[fmt.Sprint(errOld == nil, errNew == nil)]++
	}
	if len(where) != 2 || where["true false"] == 0 || where["false true"] == 0 {
		t.Errorf("found %v; want the directory in exactly one place", where)
	}
	must(t, f.SyncDir("/parts"))
	if _, err := f.Crash(rng).ReadDir("/parts/1"); err != nil {
		t.Error(err)
	}
}

func TestCrashAfterTruncate(t *testing.T) {
	rng := newRand(t)
	f := New(Options{})
	w := create(t, f, "/f", "0123456789")
	must(t, w.Sync())
	must(t, f.SyncDir("/"))
	must(t, f.Truncate("/f", 4))
	write(t, w, "ab")
	seen := map[string]bool{}
	for range 500 {
		got, _ := read(t, f.Crash(rng), "/f")
		if !strings.HasPrefix(got, "0123") {
			t.Fatalf("found %q", got)
		}
		seen[got] = true
	}
	for _, want := range []string{"0123456789", "0123", "0123a", "0123ab"} {
		if !seen[want] {
			t.Errorf("%q never survived: %v", want, seen)
		}
	}
	must(t, w.Sync())
	if got, _ := read(t, f.Crash(rng), "/f"); got != "0123ab" {
		t.Errorf("found %q after Sync", got)
	}
}

func TestCrashIsRepeatable(t *testing.T) {
	history := func() *FS {
		f := New(Options{})
		for i := range 20 {
			must(t, f.MkdirAll(fmt.Sprintf("/d%d/e", i%3)))
			create(t, f, fmt.Sprintf("/d%d/f%d", i%3, i), strings.Repeat("y", i*700))
		}
		must(t, f.SyncDir("/"))
		return f
	}
	dump := func(f *FS) string {
		var b bytes.Buffer
		for i := range 3 {
			dir := fmt.Sprint("/d", i)
			list, err := f.ReadDir(dir)
			must(t, err)
			for _, e := range list {
				data, _ := f.ReadFile(dir + "/" + e.Name)
				fmt.Fprintf(&b, "%s %v %x\n", e.Name, e.IsDir, data)
			}
		}
		return b.String()
	}
	for seed := range uint64(20) {
		a := dump(history().Crash(rand.New(rand.NewPCG(seed, 1))))
		b := dump(history().Crash(rand.New(rand.NewPCG(seed, 1))))
		if a != b {
			t.Fatalf("seed %d gives two results", seed)
		}
	}
}

func TestHardLinksSurviveAsOneFile(t *testing.T) {
	rng := newRand(t)
	f := New(Options{})
	must(t, create(t, f, "/a", "data").Sync())
	must(t, f.Link("/a", "/b"))
	must(t, f.SyncDir("/"))
	c := f.Crash(rng)
	w, err := c.OpenAppend("/a")
	must(t, err)
	write(t, w, "+")
	if got, _ := read(t, c, "/b"); got != "data+" {
		t.Errorf("the second name holds %q", got)
	}
}

func TestCapacity(t *testing.T) {
	f := New(Options{Capacity: 10})
	w := create(t, f, "/f", "12345")
	n, err := w.Write([]byte("6789abc"))
	if n != 5 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d bytes, error %v; want 5 and ENOSPC", n, err)
	}
	if s, _ := f.Space("/"); s != (vfs.Space{Free: 0, Total: 10}) {
		t.Fatalf("space %+v", s)
	}
	must(t, f.Link("/f", "/g"))
	must(t, f.Remove("/f"))
	if s, _ := f.Space("/"); s.Free != 0 {
		t.Fatalf("a file with a name left gave %d bytes back", s.Free)
	}
	must(t, f.Remove("/g"))
	if s, _ := f.Space("/"); s.Free != 10 {
		t.Fatalf("free %d after everything was removed", s.Free)
	}
	f.SetCapacity(20)
	create(t, f, "/h", strings.Repeat("x", 20))
	if err := f.Truncate("/h", 21); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("extending a file: %v", err)
	}
}

// TestOldContentsStayInMappings makes sure that nothing shows in a mapping or
// a reader that was done later.
func TestOldContentsStayInMappings(t *testing.T) {
	f := New(Options{})
	w := create(t, f, "/f", "abc")
	m, err := f.Map("/f")
	must(t, err)
	must(t, f.Truncate("/f", 1))
	write(t, w, "XYZ")
	if got := string(m.Bytes()); got != "abc" {
		t.Errorf("the mapping shows %q", got)
	}
}
