package faultfs

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"

	"vmcluster/lib/vfs/memfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNthOperationFails(t *testing.T) {
	f := New(memfs.New(memfs.Options{}))
	f.SetFault(Fault{At: 3, Err: syscall.ENOSPC})
	for i, want := range []bool{true, true, false, true} {
		if err := f.MkdirAll(fmt.Sprint("/", i)); (err == nil) != want || err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("operation %d: %v", i+1, err)
		}
	}
	if _, err := f.ReadDir("/2"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("the failed operation happened: %v", err)
	}
	f.SetFault(Fault{At: 2, Sticky: true})
	for i, want := range []bool{true, false, false} {
		if err := f.SyncDir("/"); (err == nil) != want || err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("sticky fault, operation %d: %v", i+1, err)
		}
	}
	if got := f.Ops(); got != 7 {
		t.Errorf("counted %d operations; want 7", got)
	}
}

func TestKinds(t *testing.T) {
	f := New(memfs.New(memfs.Options{}))
	f.SetFault(Fault{At: 1, Kinds: []Kind{Sync, Read}, Sticky: true})
	w, err := f.Create("/f")
	must(t, err)
	_, err = w.Write([]byte("abc"))
	must(t, err)
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Sync: %v", err)
	}
	if _, err := f.ReadFile("/f"); !errors.Is(err, syscall.EIO) {
		t.Errorf("ReadFile: %v", err)
	}
	must(t, w.Close())
	must(t, f.SyncDir("/"))
}

func TestShortWrite(t *testing.T) {
	inner := memfs.New(memfs.Options{})
	f := New(inner)
	w, err := f.Create("/f")
	must(t, err)
	f.SetFault(Fault{At: 1, Kinds: []Kind{Write}, Short: true})
	n, err := w.Write([]byte("abcdef"))
	if n != 3 || !errors.Is(err, syscall.EIO) {
		t.Errorf("wrote %d bytes, error %v", n, err)
	}
	if data, _ := inner.ReadFile("/f"); string(data) != "abc" {
		t.Errorf("the file holds %q", data)
	}
}

func TestHookSeesOperationsInOrder(t *testing.T) {
	inner := memfs.New(memfs.Options{})
	f := New(inner)
	var got []string
	f.SetHook(func(op Op) {
		if op.Kind == Write { // before it happens, and the wrapped system can be used
			if data, err := inner.ReadFile(op.Path); err != nil || len(data) != 0 {
				t.Errorf("hook finds %q, %v", data, err)
			}
		}
		got = append(got, fmt.Sprint(op.Kind, " ", op.Path, " ", op.N))
	})
	must(t, f.MkdirAll("/d"))
	w, err := f.Create("/d/f")
	must(t, err)
	_, err = w.Write([]byte("x"))
	must(t, errors.Join(err, w.Sync(), w.Close()))
	must(t, f.Link("/d/f", "/d/g"))
	must(t, f.Rename("/d/f", "/d/h"))
	must(t, f.Truncate("/d/h", 0))
	_, err = f.ReadDir("/d")
	must(t, err)
	must(t, f.Remove("/d/g"))
	must(t, f.RemoveAll("/d"))
	_, err = f.OpenAppend("/x")
	must(t, err)
	must(t, f.SyncDir("/"))
	want := []string{"mkdir /d 1", "create /d/f 2", "write /d/f 3", "sync /d/f 4", "link /d/f 5", "rename /d/f 6", "truncate /d/h 7",
		"read /d 0", "remove /d/g 8", "removeall /d 9", "open /x 10", "syncdir / 11"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestUnreadable reads around a bad place, in order and by position.
func TestUnreadable(t *testing.T) {
	f := New(memfs.New(memfs.Options{}))
	w, err := f.Create("/f")
	must(t, err)
	_, err = w.Write([]byte("0123456789"))
	must(t, errors.Join(err, w.Close()))
	f.SetUnreadable("/f", 4, 6)
	r, err := f.Open("/f")
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	if string(got) != "0123" || !errors.Is(err, syscall.EIO) {
		t.Errorf("read %q, %v", got, err)
	}
	for _, c := range []struct {
		offset, n int64
		want      string
		err       error
	}{{0, 4, "0123", nil}, {2, 4, "23", syscall.EIO}, {4, 1, "", syscall.EIO}, {5, 3, "", syscall.EIO}, {6, 4, "6789", nil}, {8, 4, "89", io.EOF}} {
		p := make([]byte, c.n)
		n, err := r.ReadAt(p, c.offset)
		if string(p[:n]) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%d bytes at %d: %q, %v; want %q, %v", c.n, c.offset, p[:n], err, c.want, c.err)
		}
	}
}
