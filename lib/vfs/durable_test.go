package vfs_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

// TestMkdirAllDurableOfExisting finds a directory that a killed process has made without making it durable.
func TestMkdirAllDurableOfExisting(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		mem := memfs.New(memfs.Options{})
		if err := mem.MkdirAll("/a/b"); err != nil {
			t.Fatal(err)
		}
		if err := vfs.MkdirAllDurable(mem, "/a"); err != nil {
			t.Fatal(err)
		}
		if err := vfs.MkdirAllDurable(mem, "/a/b"); err != nil {
			t.Fatal(err)
		}
		if _, err := mem.Crash(rng).ReadDir("/a/b"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMkdirAllDurableBelowForeign has a parent which this process may not read.
func TestMkdirAllDurableBelowForeign(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(parent, 0o311); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(parent, 0o755)
	if err := vfs.OS().SyncDir(parent); !errors.Is(err, fs.ErrPermission) {
		t.Skipf("this user may read everything: %v", err)
	}
	if err := vfs.MkdirAllDurable(vfs.OS(), filepath.Join(dir, "wal")); err != nil {
		t.Error(err)
	}
}
