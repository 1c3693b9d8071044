package fsstore

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/storetest"
	"vmcluster/lib/errkind"
)

// TestConformance runs what all stores must do.
func TestConformance(t *testing.T) {
	dir := t.TempDir()
	storetest.Run(t, &storetest.Fixture{
		Open: func(t *testing.T, sub string) backup.Store {
			s, err := New(filepath.Join(dir, sub))
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		PartBytes: 1000, Many: 50,
	})
}

func TestStore(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "backup")
	s, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	list := func() map[string]int64 {
		t.Helper()
		m := map[string]int64{}
		if err := s.List(t.Context(), func(key string, size int64) { m[key] = size }); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if got := list(); len(got) != 0 {
		t.Errorf("a directory which does not exist has %v", got)
	}
	put := func(key, text string) error {
		return s.Put(t.Context(), key, bytes.NewReader([]byte(text)), int64(len(text)))
	}
	for key, text := range map[string]string{"data/x/1": "one", "data/x/2": "", "mark": "whole"} {
		if err := put(key, text); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(); len(got) != 3 || got["data/x/1"] != 3 || got["mark"] != 5 {
		t.Errorf("got %v", got)
	}
	if err := put("mark", "changed"); err != nil || read(t, s, "mark") != "changed" {
		t.Errorf("an object is not replaced: %v", err)
	}
	// A body which breaks off leaves the object as it was.
	broken := io.NewSectionReader(failing{}, 0, 10)
	if err := s.Put(t.Context(), "mark", broken, 10); err == nil || read(t, s, "mark") != "changed" {
		t.Errorf("half an object is there: %v", err)
	}
	if err := s.Put(t.Context(), "mark", bytes.NewReader([]byte("short")), 10); err == nil || read(t, s, "mark") != "changed" {
		t.Errorf("a short object is there: %v", err)
	}
	if _, err := s.Get(t.Context(), "data/x/3"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("got %v", err)
	}
	other, err := New(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := other.CopyFrom(t.Context(), s, "data/x/1", 3); !ok || err != nil || read(t, other, "data/x/1") != "one" {
		t.Errorf("not copied: %t, %v", ok, err)
	}
	for _, key := range []string{"data/x/1", "data/x/2", "data/x/2"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty directory is left: %v", err)
	}
	if read(t, other, "data/x/1") != "one" {
		t.Error("what was copied has gone with the original")
	}
	if _, err := New("relative"); err == nil {
		t.Error("a relative path is taken")
	}
}

// TestLeftovers: what a killed process was writing is no object, and goes when it is old.
func TestLeftovers(t *testing.T) {
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{writing + "young": time.Minute, writing + "old": 2 * abandoned} {
		path := filepath.Join(s.Root(), name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.List(t.Context(), func(key string, _ int64) { t.Errorf("%s is listed", key) }); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.Root())
	if err != nil || len(entries) != 1 || entries[0].Name() != writing+"young" {
		t.Errorf("%v are left, %v", entries, err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

func read(t *testing.T, s *Store, key string) string {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(data)
}
