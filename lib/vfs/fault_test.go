package vfs

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"vmcluster/lib/errkind"
)

// TestTruncatedUnderMapping cuts a file which is mapped: reading it is an error, not the end of the process.
func TestTruncatedUnderMapping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := OS().Map(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	sum := func() (n int, err error) {
		defer CatchFault(debug.SetPanicOnFault(true), &err)
		for _, b := range m.Bytes() {
			n += int(b)
		}
		return n, nil
	}
	if n, err := sum(); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("sum %d, error %v; want kind corrupt", n, err)
	}
	if debug.SetPanicOnFault(false) {
		t.Error("faults are still panics")
	}
}

// TestOtherPanicsGoOn: only faults are caught.
func TestOtherPanicsGoOn(t *testing.T) {
	defer func() {
		if r := recover(); r != "other" {
			t.Errorf("recovered %v", r)
		}
	}()
	err := func() (err error) {
		defer CatchFault(debug.SetPanicOnFault(true), &err)
		panic("other")
	}()
	t.Errorf("the panic became %v", err)
}
