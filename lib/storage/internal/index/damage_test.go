package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

// threeSegments returns the files of an index of three segments, what is in it, and the names of its segments.
func threeSegments(t *testing.T, w *world) (*memfs.FS, *naive, []string) {
	t.Helper()
	fs := memfs.New(memfs.Options{})
	ix := mustOpen(t, fs, "/i")
	n := newNaive()
	for range 3 {
		for range 60 {
			addRandom(t, ix, n, w)
		}
		ix.MarkActive(n.next-1, 0) // the last id is in use
		n.mark(n.next-1, 0)
		must(t, ix.Flush())
	}
	var names []string
	for _, s := range ix.mu.state.segments {
		names = append(names, s.name())
	}
	closed(t, ix)
	if len(names) != 3 {
		t.Fatalf("segments %v; want three", names)
	}
	return fs, n, names
}

// damages returns ways to damage a file.
func damages(rng *rand.Rand) map[string]func(fs vfs.FS, path string, good []byte) error {
	return map[string]func(fs vfs.FS, path string, good []byte) error{
		"flip": func(fs vfs.FS, path string, good []byte) error {
			bad := bytes.Clone(good)
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			return vfs.WriteFileDurable(fs, path, bad)
		},
		"cut": func(fs vfs.FS, path string, good []byte) error {
			return vfs.WriteFileDurable(fs, path, good[:rng.IntN(len(good))])
		},
		"gone": func(fs vfs.FS, path string, _ []byte) error { return fs.Remove(path) },
	}
}

// forget takes out of n the series of a segment.
func forget(t *testing.T, fs vfs.FS, n *naive, path string) {
	t.Helper()
	dec, err := newRowDecoder()
	must(t, err)
	defer dec.Close()
	s, err := openSegment(fs, path, dec)
	must(t, err)
	var b rowBlock
	for i := range s.footer.rowBlocks {
		must(t, s.decodeRows(&b, i))
		for _, id := range b.ids {
			delete(n.ids, n.keys[id])
			delete(n.keys, id)
			for _, ids := range n.days {
				delete(ids, id)
			}
		}
	}
	must(t, s.release())
}

func metricOf(t *testing.T, o Options, name string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, o.Metrics.Write(&out, false))
	for line := range strings.Lines(out.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "missing"
}

// TestDamagedSegmentIsSetAside damages a segment: the series of the others are served, the file is kept, and ids
// are not given twice.
func TestDamagedSegmentIsSetAside(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for how, damage := range damages(rng) {
		for which := range 3 {
			t.Run(fmt.Sprint(how, which), func(t *testing.T) {
				w := &world{rng: rng, values: 50}
				fs, n, names := threeSegments(t, w)
				path := filepath.Join("/i", names[which])
				next := n.next
				forget(t, fs, n, path)
				good, err := fs.ReadFile(path)
				must(t, err)
				must(t, damage(fs, path, good))
				for round := range 2 {
					o := options(fs, "/i")
					ix, err := Open(o)
					must(t, err)
					if got, want := metricOf(t, o, "vm_corrupt_index_total"), fmt.Sprint(1-round); got != want {
						t.Fatalf("vm_corrupt_index_total is %s; want %s", got, want)
					}
					for range 20 {
						checkQuery(t, ix, n, w)
					}
					key := testKey(t, model.TenantID{}, "new", fmt.Sprint(round))
					id, created, _ := ix.Add(model.HashSeriesKey(key), key)
					if !created || id < next {
						t.Fatalf("new id %d, %t; want one from %d on", id, created, next)
					}
					n.add(id, string(key))
					ix.MarkActive(id, 3)
					n.mark(id, 3)
					must(t, ix.Flush())
					must(t, ix.Merge(ctx))
					closed(t, ix)
				}
				if data, err := fs.ReadFile(path + corruptSuffix); err != nil || (len(data) == 0) != (how == "gone") {
					t.Fatalf("the damaged file: %d bytes, %v", len(data), err)
				}
			})
		}
	}
}

// TestDamagedManifestOfIndexLosesNothing also leaves a segment beside those it was merged from.
func TestDamagedManifestOfIndexLosesNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for how, damage := range damages(rng) {
		t.Run(how, func(t *testing.T) {
			w := &world{rng: rng, values: 50}
			fs, n, names := threeSegments(t, w)
			sources := map[string][]byte{}
			for _, name := range names {
				data, err := fs.ReadFile(filepath.Join("/i", name))
				must(t, err)
				sources[name] = data
			}
			ix := mustOpen(t, fs, "/i")
			must(t, ix.Merge(ctx))
			closed(t, ix)
			for name, data := range sources {
				must(t, vfs.WriteFileDurable(fs, filepath.Join("/i", name), data))
			}
			path := filepath.Join("/i", manifestName)
			good, err := fs.ReadFile(path)
			must(t, err)
			must(t, damage(fs, path, good))
			ix = mustOpen(t, fs, "/i")
			for range 20 {
				checkQuery(t, ix, n, w)
			}
			must(t, ix.Merge(ctx))
			checkAll(t, ix, n)
			addRandom(t, ix, n, w)
			must(t, ix.Flush())
			closed(t, ix)
			ix = mustOpen(t, fs, "/i")
			checkAll(t, ix, n)
			closed(t, ix)
		})
	}
}

// TestDamagedDayIsRebuilt damages a file of active days: nothing is missing in answers, also after the next open.
func TestDamagedDayIsRebuilt(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for how, damage := range damages(rng) {
		if how == "gone" {
			continue // days have no list
		}
		w := &world{rng: rng, values: 50}
		fs, n, _ := threeSegments(t, w)
		entries, err := fs.ReadDir("/i")
		must(t, err)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name, dayPrefix) {
				continue
			}
			path := filepath.Join("/i", e.Name)
			good, err := fs.ReadFile(path)
			must(t, err)
			must(t, damage(fs, path, good))
			for range 2 {
				ix := mustOpen(t, fs, "/i")
				for day, ids := range n.days {
					active := ix.days.active(day, day)
					for id := range ids {
						if !active.Contains(id) {
							t.Fatalf("%s of %s: series %d is no longer active on day %d", how, e.Name, id, day)
						}
					}
				}
				closed(t, ix)
			}
			if _, err := fs.ReadFile(path + corruptSuffix); err != nil {
				t.Fatal(err)
			}
			must(t, vfs.WriteFileDurable(fs, path, good))
		}
	}
}

// TestEveryFlippedBitIsNoticed flips bits all over every kind of file: each is reported, the file is kept under another name,
// and what is found is right.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	good := memfs.New(memfs.Options{})
	ix := goldenIndex(t, good)
	everything := Query{FirstDay: 0, LastDay: 30000}
	want, err := ix.Search(ctx, everything)
	must(t, err)
	closed(t, ix)
	entries, err := good.ReadDir("/golden")
	must(t, err)
	for _, e := range entries {
		const flips = 40
		for i := range flips {
			fs := memfs.New(memfs.Options{})
			copyFiles(t, fs, good, entries)
			path := filepath.Join("/golden", e.Name)
			data, err := fs.ReadFile(path)
			must(t, err)
			at := i * (len(data) - 1) / (flips - 1)
			data[at] ^= 1 << (i % 8)
			must(t, vfs.WriteFileDurable(fs, path, data))
			o := options(fs, "/golden")
			ix, err := Open(o)
			must(t, err)
			if got := metricOf(t, o, "vm_corrupt_index_total"); got != "1" {
				t.Fatalf("%s with byte %d damaged: vm_corrupt_index_total is %s", e.Name, at, got)
			}
			if _, err := fs.ReadFile(path + corruptSuffix); err != nil {
				t.Fatalf("%s with byte %d damaged: %v", e.Name, at, err)
			}
			got, err := ix.Search(ctx, everything)
			lost := strings.HasPrefix(e.Name, segmentPrefix)
			if err != nil || !lost && !got.Equals(want) || lost && (!roaring.AndNot(got, want).IsEmpty() || got.IsEmpty()) {
				t.Fatalf("%s with byte %d damaged: found %v, %v; want %v", e.Name, at, got, err, want)
			}
			closed(t, ix)
		}
	}
}

func copyFiles(t *testing.T, to, from vfs.FS, entries []vfs.Entry) {
	t.Helper()
	must(t, to.MkdirAll("/golden"))
	for _, e := range entries {
		data, err := from.ReadFile(filepath.Join("/golden", e.Name))
		must(t, err)
		must(t, vfs.WriteFileDurable(to, filepath.Join("/golden", e.Name), data))
	}
}

// TestLaterVersionIsLeftAlone opens files of a later format version: they are no damage.
func TestLaterVersionIsLeftAlone(t *testing.T) {
	w := &world{rng: rand.New(rand.NewPCG(1, 1)), values: 50}
	fs, _, _ := threeSegments(t, w)
	entries, err := fs.ReadDir("/i")
	must(t, err)
	for _, e := range entries {
		path := filepath.Join("/i", e.Name)
		good, err := fs.ReadFile(path)
		must(t, err)
		later := bytes.Clone(good)
		later[7]++ // all magics have 7 bytes
		n := len(later) - 4
		binary.LittleEndian.PutUint32(later[n:], checksum(later[:n]))
		must(t, vfs.WriteFileDurable(fs, path, later))
		if _, err := Open(options(fs, "/i")); errkind.Of(err) != errkind.Unsupported {
			t.Fatalf("%s of a later version: %v; want kind unsupported", e.Name, err)
		}
		if _, err := fs.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		must(t, vfs.WriteFileDurable(fs, path, good))
	}
}

func TestReserve(t *testing.T) {
	ix := mustOpen(t, memfs.New(memfs.Options{}), "/i")
	ix.Reserve(100)
	key := testKey(t, model.TenantID{}, "a", "b")
	if id, _, _ := ix.Add(model.HashSeriesKey(key), key); id != 100 {
		t.Errorf("id %d; want 100", id)
	}
	if known, err := ix.Known(); err != nil || !known.Equals(roaring.BitmapOf(100)) {
		t.Errorf("known %v, %v", known, err)
	}
	closed(t, ix)
}

// TestMergesLeaveRoom has a disk on which the log would find no room beside a merge.
func TestMergesLeaveRoom(t *testing.T) {
	fs := memfs.New(memfs.Options{})
	ix := mustOpen(t, fs, "/i")
	w := &world{rng: rand.New(rand.NewPCG(1, 1)), values: 50}
	n := newNaive()
	fs.SetCapacity(spareBytes)
	for range maxSegments + 3 {
		addRandomGaps(t, ix, n, w)
		addRandomGaps(t, ix, n, w)
		must(t, ix.Flush())
	}
	if err := ix.Merge(ctx); errkind.Of(err) != errkind.Overloaded {
		t.Errorf("error %v; want kind overloaded", err)
	}
	if got := len(ix.mu.state.segments); got < mergeWidth {
		t.Errorf("%d segments: they were merged", got)
	}
	fs.SetCapacity(2 * spareBytes)
	must(t, ix.Merge(ctx))
	if got := len(ix.mu.state.segments); got != 1 {
		t.Errorf("%d segments; want 1", got)
	}
	closed(t, ix)
}
