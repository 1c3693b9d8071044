package index

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// TestCrash cuts the power at a random file operation, again and again, and replays what a log would hold.
func TestCrash(t *testing.T) {
	for round := range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d", seed)
			testCrash(t, seed)
		})
	}
}

func testCrash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{rng: rng, values: 50}
	n := newNaive()
	durable := newNaive() // what was flushed for sure
	mem := memfs.New(memfs.Options{})
	for range 6 {
		var after *memfs.FS
		fs := faultfs.New(mem)
		at, ops := 1+rng.IntN(120), 0
		fs.SetHook(func(op faultfs.Op) {
			if op.N == 0 || after != nil {
				return
			}
			if ops++; ops == at {
				after = mem.Crash(rng)
			}
		})
		ix := mustOpen(t, fs, "/x/index")
		for range 6 {
			if after == nil {
				crashStep(t, ix, n, durable, w, &after)
			}
		}
		closed(t, ix)
		if after == nil {
			after = mem.Crash(rng)
		}
		mem = after
		recoverCrashed(t, mem, n, durable, w)
	}
}

// crashStep registers series and flushes or merges. When the power went off meanwhile, the
// flush does not count as done.
func crashStep(t *testing.T, ix *Index, n, durable *naive, w *world, after **memfs.FS) {
	t.Helper()
	for range w.rng.IntN(40) {
		addRandomGaps(t, ix, n, w)
	}
	switch w.rng.IntN(8) {
	case 0, 1:
		must(t, ix.Merge(ctx))
		return
	case 2:
		_, err := ix.MergeNext(ctx)
		must(t, err)
		return
	case 3:
		must(t, deleteRandom(ix, n, w))
		if *after == nil {
			for id := range n.gone { // the others in durable are as they were
				if _, ok := durable.keys[id]; ok {
					durable.remove(id)
				}
				durable.gone[id] = n.gone[id]
			}
		}
		return
	case 4:
		dir := fmt.Sprintf("/x/snapshot%d", w.rng.Uint64())
		must(t, ix.Snapshot(dir))
		if *after == nil {
			s := &snapshot{dir: dir, n: newNaive()}
			copyNaive(s.n, durable)
			w.snapshots = append(w.snapshots, s)
		}
		return
	}
	must(t, ix.Flush())
	if *after == nil {
		copyNaive(durable, n)
	}
}

// addRandomGaps is addRandom without the check of the next id, which need not be known after a crash.
func addRandomGaps(t *testing.T, ix *Index, n *naive, w *world) {
	t.Helper()
	key := w.key(t)
	id, created, _ := ix.Add(model.HashSeriesKey(key), key)
	if old, known := n.ids[string(key)]; known && (created || old != id) {
		t.Fatalf("key %q had id %d and has now %d", key, old, id)
	}
	if old, taken := n.keys[id]; taken && old != string(key) {
		t.Fatalf("id %d was given to %q and then to %q", id, old, key)
	}
	n.add(id, string(key))
	day := int32(w.rng.IntN(8))
	ix.MarkActive(id, day)
	n.mark(id, day)
}

func copyNaive(dst, src *naive) {
	dst.keys, dst.ids, dst.gone, dst.next = maps.Clone(src.keys), maps.Clone(src.ids), maps.Clone(src.gone), src.next
	for day, ids := range src.days {
		dst.days[day] = maps.Clone(ids)
	}
}

// recoverCrashed opens what is left, checks it, and replays the rest in random order.
func recoverCrashed(t *testing.T, fs vfs.FS, n, durable *naive, w *world) {
	t.Helper()
	ix := mustOpen(t, fs, "/x/index")
	checkFiles(t, fs, ix)
	checkDeleted(t, ix, n, durable)
	for _, s := range w.snapshots {
		checkCrashedSnapshot(t, fs, s)
	}
	for id, key := range durable.keys {
		if got, err := ix.AppendKey(nil, id); err != nil || string(got) != key {
			t.Fatalf("flushed series %d is lost: %q, %v", id, got, err)
		}
	}
	for day, ids := range durable.days {
		active := ix.days.active(day, day)
		for id := range ids {
			if !active.Contains(id) {
				t.Fatalf("series %d is no longer active on day %d", id, day)
			}
		}
	}
	active := ix.days.active(-100, 100)
	active = roaring.AndNot(active, n.goneIDs())
	for _, id := range active.ToArray() {
		if got, err := ix.AppendKey(nil, id); err != nil || string(got) != n.keys[id] {
			t.Fatalf("active series %d is %q, %v; want %q", id, got, err, n.keys[id])
		}
	}
	log := maps.Clone(n.keys)
	for id, g := range n.gone {
		log[id] = g.key
	}
	order := slices.Sorted(maps.Keys(log))
	w.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, id := range order {
		must(t, ix.Restore(id, []byte(log[id])))
		for day, ids := range n.days {
			if ids[id] {
				ix.MarkActive(id, day)
			}
		}
	}
	checkAll(t, ix, n)
	for range 10 {
		checkQuery(t, ix, n, w)
	}
	addRandomGaps(t, ix, n, w)
	must(t, ix.Flush())
	copyNaive(durable, n)
	closed(t, ix)
}

// checkDeleted checks that what was deleted for sure still is. When the power went off during the last deletion, it may have
// been done or not.
func checkDeleted(t *testing.T, ix *Index, n, durable *naive) {
	t.Helper()
	deleted := roaring.New()
	if d := ix.Deleted(); d != nil {
		deleted = d
	}
	if missing := roaring.AndNot(durable.goneIDs(), deleted); !missing.IsEmpty() {
		t.Fatalf("deleted series %v are back", missing)
	}
	if extra := roaring.AndNot(deleted, n.goneIDs()); !extra.IsEmpty() {
		t.Fatalf("series %v are gone", extra)
	}
	for _, id := range n.goneIDs().ToArray() {
		if !deleted.Contains(id) {
			n.undelete(id)
		} else if _, ok := durable.keys[id]; ok {
			durable.remove(id)
		}
	}
}

// snapshot is a snapshot which was finished before a crash.
type snapshot struct {
	dir string
	n   *naive
}

func checkCrashedSnapshot(t *testing.T, fs vfs.FS, s *snapshot) {
	t.Helper()
	ix := mustOpen(t, fs, s.dir)
	if ix.SeriesCount() < len(s.n.keys) { // registrations may have been flushed by a flush which failed later
		t.Fatalf("snapshot with %d series; want %d", ix.SeriesCount(), len(s.n.keys))
	}
	for id, key := range s.n.keys {
		if got, err := ix.AppendKey(nil, id); err != nil || string(got) != key {
			t.Fatalf("series %d is %q in the snapshot, %v; want %q", id, got, err, key)
		}
	}
	if missing := roaring.AndNot(s.n.goneIDs(), ix.mu.state.deleted); !missing.IsEmpty() {
		t.Fatalf("series %v are not deleted in the snapshot", missing)
	}
	closed(t, ix)
}

// checkFiles checks that nothing but listed segments is left.
func checkFiles(t *testing.T, fs vfs.FS, ix *Index) {
	t.Helper()
	entries, err := fs.ReadDir("/x/index")
	must(t, err)
	for _, e := range entries {
		isListed := slices.ContainsFunc(ix.mu.state.segments, func(s *segment) bool { return s.name() == e.Name })
		if strings.HasSuffix(e.Name, tempSuffix) || strings.HasPrefix(e.Name, segmentPrefix) && !isListed {
			t.Fatalf("file %s is left over", e.Name)
		}
	}
}

// TestFailedOperations lets file operations fail. Nothing may get lost, and the next flush succeeds.
func TestFailedOperations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), values: 50}
	failures := 0
	for at := int64(1); at < 40; at++ {
		mem := memfs.New(memfs.Options{})
		fs := faultfs.New(mem)
		ix := mustOpen(t, fs, "/i")
		n := newNaive()
		for range 3 {
			for range 20 {
				addRandom(t, ix, n, w)
			}
			must(t, ix.Flush())
		}
		for range 20 {
			addRandom(t, ix, n, w)
		}
		fs.SetFault(faultfs.Fault{At: at, Short: true})
		if ix.Flush() != nil || ix.Merge(ctx) != nil {
			failures++
		}
		fs.SetFault(faultfs.Fault{})
		checkAll(t, ix, n)
		checkQuery(t, ix, n, w)
		addRandom(t, ix, n, w)
		must(t, ix.Flush())
		must(t, ix.Merge(ctx))
		checkFilesAfter(t, mem, ix)
		closed(t, ix)
		ix = mustOpen(t, mem, "/i")
		checkAll(t, ix, n)
		for range 5 {
			checkQuery(t, ix, n, w)
		}
		closed(t, ix)
	}
	if failures < 10 {
		t.Fatalf("only %d operations failed", failures)
	}
}

// checkFilesAfter checks that failed operations have left no segments behind once one succeeded.
func checkFilesAfter(t *testing.T, fs vfs.FS, ix *Index) {
	t.Helper()
	entries, err := fs.ReadDir("/i")
	must(t, err)
	for _, e := range entries {
		isListed := slices.ContainsFunc(ix.mu.state.segments, func(s *segment) bool { return s.name() == e.Name })
		if isSegmentName(e.Name) && !isListed {
			t.Fatalf("segment %s is left over", e.Name)
		}
	}
}
