package storage

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"vmcluster/lib/vfs/memfs"
)

// TestRunningMark: a storage that was not closed is known at the next start, also when the machine stopped; one that was closed is not.
func TestRunningMark(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	open := func(unclean bool) *Storage {
		t.Helper()
		s, err := Open(testConfig(), testOptions(fsys))
		if err != nil {
			t.Fatal(err)
		}
		if s.unclean != unclean {
			t.Errorf("the last stop was unclean: %v; want %v", s.unclean, unclean)
		}
		return s
	}
	closed := func(s *Storage) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	closed(open(false))
	if _, err := fsys.ReadFile(filepath.Join(testConfig().DataPath, RunningMark)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a closed storage has its mark: %v", err)
	}
	s, before := open(false), fsys
	fsys = fsys.Crash(rand.New(rand.NewPCG(1, 2)))
	closed(open(true))
	closed(open(false))
	fsys = before
	closed(s)
}
