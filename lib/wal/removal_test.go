package wal

import (
	"math/rand/v2"
	"testing"

	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// TestRemovedSegmentsStayAway cuts the power after segments were removed: they must not come back, also when the first try to make
// the removal durable has failed. Storage relies on it where a sample must not be replayed a second time.
func TestRemovedSegmentsStayAway(t *testing.T) {
	for _, fails := range []bool{false, true} {
		mem := memfs.New(memfs.Options{})
		faulty := faultfs.New(mem)
		l, _, _ := openLog(t, options(faulty))
		must(t, l.WaitDurable(appendFrames(t, l, "old")))
		segment, err := l.Rotate()
		must(t, err)
		must(t, l.WaitDurable(appendFrames(t, l, "new")))
		if fails {
			faulty.SetFault(faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.SyncDir}})
			if err := l.RemoveBefore(segment); err == nil {
				t.Fatal("a removal whose fsync failed was reported as done")
			}
			faulty.SetFault(faultfs.Fault{})
		}
		must(t, l.RemoveBefore(segment))
		for seed := range uint64(40) {
			after, frames, _ := openLog(t, options(mem.Crash(rand.New(rand.NewPCG(seed, 1)))))
			wantFrames(t, frames, "new")
			must(t, after.Close())
		}
		must(t, l.Close())
	}
}
