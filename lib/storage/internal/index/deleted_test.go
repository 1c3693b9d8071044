package index

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

// withDeleted returns the files of an index with deleted series, some of which came back, and the name of their file.
func withDeleted(t *testing.T, w *world) (*memfs.FS, *naive, string) {
	t.Helper()
	fs, n, _ := threeSegments(t, w)
	ix := mustOpen(t, fs, "/i")
	must(t, deleteRandom(ix, n, w))
	some := 0
	for id := range n.keys {
		if some++; some < 20 {
			n.remove(id)
		}
	}
	must(t, ix.Delete(n.goneIDs()))
	for _, id := range n.goneIDs().ToArray() {
		if key := n.gone[id].key; id%2 == 0 && n.ids[key] == 0 {
			again, created, _ := ix.Add(model.HashSeriesKey([]byte(key)), []byte(key))
			if !created || again < n.next {
				t.Fatalf("a deleted series came back as %d, %t", again, created)
			}
			n.add(again, key)
			ix.MarkActive(again, 2)
			n.mark(again, 2)
		}
	}
	must(t, ix.Flush())
	checkAll(t, ix, n)
	name := ix.mu.state.deletedName
	closed(t, ix)
	return fs, n, name
}

// TestDamagedDeletedSeries damages one copy of the file of deleted series, the other, and both.
func TestDamagedDeletedSeries(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for how, damage := range damages(rng) {
		for which, suffixes := range [][]string{{""}, {copySuffix}, {"", copySuffix}} {
			t.Run(fmt.Sprint(how, which), func(t *testing.T) {
				w := &world{rng: rng, values: 50}
				fs, n, name := withDeleted(t, w)
				for _, suffix := range suffixes {
					path := filepath.Join("/i", name+suffix)
					good, err := fs.ReadFile(path)
					must(t, err)
					must(t, damage(fs, path, good))
				}
				if len(suffixes) == 2 { // what did not come back is visible again
					for id, g := range n.gone {
						if _, back := n.ids[g.key]; !back {
							n.undelete(id)
						}
					}
				}
				for round := range 2 {
					o := options(fs, "/i")
					ix, err := Open(o)
					must(t, err)
					if got, want := metricOf(t, o, "vm_corrupt_index_total"), fmt.Sprint((1-round)*len(suffixes)); got != want {
						t.Fatalf("vm_corrupt_index_total is %s; want %s", got, want)
					}
					checkAll(t, ix, n)
					for range 10 {
						checkQuery(t, ix, n, w)
					}
					closed(t, ix)
				}
			})
		}
	}
}

// TestDeletedSeriesSurviveTheManifest loses the manifest.
func TestDeletedSeriesSurviveTheManifest(t *testing.T) {
	w := &world{rng: rand.New(rand.NewPCG(1, 1)), values: 50}
	fs, n, _ := withDeleted(t, w)
	must(t, fs.Remove("/i/MANIFEST"))
	for range 2 {
		ix := mustOpen(t, fs, "/i")
		checkAll(t, ix, n)
		must(t, ix.Merge(ctx))
		checkAll(t, ix, n)
		closed(t, ix)
	}
}

// TestMergeDropsDeletedSeries looks into the segments.
func TestMergeDropsDeletedSeries(t *testing.T) {
	w := &world{rng: rand.New(rand.NewPCG(1, 1)), values: 50}
	fs, n, _ := withDeleted(t, w)
	ix := mustOpen(t, fs, "/i")
	must(t, ix.Merge(ctx))
	st := ix.acquire()
	known, err := st.known()
	ix.release(st)
	must(t, err)
	if known.Intersects(n.goneIDs()) {
		t.Error("rows of deleted series are left")
	}
	checkAll(t, ix, n)
	// A segment of deleted series alone goes away, and so do its files.
	for id := range n.keys {
		n.remove(id)
	}
	must(t, ix.Delete(n.goneIDs()))
	if tenants, err := ix.Tenants(); err != nil || len(tenants) > 0 {
		t.Errorf("tenants %v, %v; want none", tenants, err)
	}
	must(t, ix.Merge(ctx))
	checkAll(t, ix, n)
	addRandomGaps(t, ix, n, w)
	must(t, ix.Flush())
	checkAll(t, ix, n)
	closed(t, ix)
	entries, err := fs.ReadDir("/i")
	must(t, err)
	files := map[string]int{}
	for _, e := range entries {
		kind, _, _ := strings.Cut(e.Name, "-")
		files[kind]++
	}
	if files["seg"] != 1 || files["deleted"] != 2 {
		t.Errorf("files %v; want one segment and two copies of the deleted series", files)
	}
}

func TestDeleteUnknownSeries(t *testing.T) {
	ix := mustOpen(t, memfs.New(memfs.Options{}), "/i")
	must(t, ix.Delete(roaring.New()))
	if ix.Deleted() != nil {
		t.Error("something was deleted")
	}
	must(t, ix.Delete(roaring.BitmapOf(5)))
	key := testKey(t, model.TenantID{}, "a", "b")
	if id, _, _ := ix.Add(model.HashSeriesKey(key), key); id != 6 {
		t.Errorf("id %d; want 6", id)
	}
	if n := ix.SeriesCount(); n != 1 {
		t.Errorf("%d series; want 1", n)
	}
	closed(t, ix)
}

// TestFailedSnapshot has no directory to write to.
func TestFailedSnapshot(t *testing.T) {
	fs := memfs.New(memfs.Options{})
	ix := goldenIndex(t, fs)
	must(t, vfs.WriteFileDurable(fs, "/file", nil))
	if err := ix.Snapshot("/file/x"); err == nil {
		t.Error("a snapshot below a file succeeded")
	}
	closed(t, ix)
}
