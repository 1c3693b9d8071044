package part

import (
	"testing"

	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// TestLargeColumnsAreSyncedOnTheWay bounds what waits for the end of a large part.
func TestLargeColumnsAreSyncedOnTheWay(t *testing.T) {
	fsys := faultfs.New(memfs.New(memfs.Options{}))
	syncs, waiting, most := 0, 0, 0
	fsys.SetHook(func(op faultfs.Op) {
		if op.Kind == faultfs.Sync {
			syncs++
			waiting = 0
		}
	})
	c, err := newColumnWriter(fsys, "/", valuesName)
	if err != nil {
		t.Fatal(err)
	}
	column := make([]byte, 1<<20)
	for range 3 * syncEvery / len(column) {
		if err := c.write(column); err != nil {
			t.Fatal(err)
		}
		waiting += len(column)
		most = max(most, waiting)
	}
	if syncs < 2 || most > syncEvery+len(column) {
		t.Errorf("%d syncs, at most %d bytes were waiting; want at most %d", syncs, most, syncEvery)
	}
	if _, err := c.finish(); err != nil {
		t.Fatal(err)
	}
}
