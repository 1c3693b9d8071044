package exemplars

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"encoding/hex"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDir = "/data/exemplars"

func testOptions(fsys vfs.FS) Options {
	return Options{
		FS: fsys, Dir: testDir, MaxBytes: 16 << 20, Oldest: func() int64 { return 0 },
		Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(64 << 20),
	}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := s.o.Budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget are still in use", n)
	}
}

func all(t testing.TB, s *Store) []model.Exemplar {
	t.Helper()
	list, err := s.Find(t.Context(), apitest.ExemplarQuery(model.TenantID{}))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func exemplar(series, i int) model.Exemplar {
	return apitest.Exemplar(model.TenantID{}, fmt.Sprintf("m%d", series), "test", fmt.Sprintf("trace-%d", i), int64(i))
}

func names(t testing.TB, fsys vfs.FS) (list []string) {
	t.Helper()
	entries, err := fsys.ReadDir(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name)
	}
	return list
}

func TestNothingOnDiskWithoutExemplars(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := open(t, testOptions(fsys))
	if err := s.Add(nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), &model.SearchQuery{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Snapshot("/snapshot"); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if entries, err := fsys.ReadDir("/"); err != nil || len(entries) != 0 {
		t.Errorf("there are %v, %v", entries, err)
	}
}

// TestOldestLeave writes far more than the limit.
func TestOldestLeave(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	o := testOptions(fsys)
	o.MaxBytes = 1 << 20
	s := open(t, o)
	const n = 40_000
	for i := 0; i < n; i += 100 {
		var list []model.Exemplar
		for j := i; j < i+100; j++ {
			list = append(list, exemplar(j%50, j))
		}
		if err := s.Add(list); err != nil {
			t.Fatal(err)
		}
		if s.bytes() > o.MaxBytes+200*100 || s.fileSize > o.MaxBytes+200*100 {
			t.Fatalf("after %d exemplars there are %d bytes in memory and %d on disk", i, s.bytes(), s.fileSize)
		}
	}
	kept := all(t, s)
	oldest := slices.MinFunc(kept, func(a, b model.Exemplar) int { return int(a.Timestamp - b.Timestamp) }).Timestamp - apitest.DefaultBase
	if len(kept) < 5000 || int64(len(kept)) != n-oldest {
		t.Errorf("%d are kept, the oldest is %d", len(kept), oldest)
	}
	if got := s.counters.evicted.Get(); got != uint64(oldest) {
		t.Errorf("%d were evicted; want %d", got, oldest)
	}
	closeStore(t, s)
	s = open(t, o)
	defer closeStore(t, s)
	if again := all(t, s); !apitest.SameExemplars(again, kept) {
		t.Errorf("%d exemplars become %d", len(kept), len(again))
	}
}

// TestOldSegmentsLeave has no need of room.
func TestOldSegmentsLeave(t *testing.T) {
	o := testOptions(memfs.New(memfs.Options{}))
	oldest := int64(0)
	o.Oldest = func() int64 { return oldest }
	s := open(t, o)
	defer closeStore(t, s)
	s.segmentBytes = 1 // each write has one
	for i := range 4 {
		if err := s.Add([]model.Exemplar{exemplar(0, i)}); err != nil {
			t.Fatal(err)
		}
	}
	oldest = apitest.DefaultBase + 2
	if err := s.Add([]model.Exemplar{exemplar(0, 4)}); err != nil {
		t.Fatal(err)
	}
	if want := []model.Exemplar{exemplar(0, 2), exemplar(0, 3), exemplar(0, 4)}; !apitest.SameExemplars(all(t, s), want) {
		t.Errorf("kept are %+v", all(t, s))
	}
	if got := names(t, o.FS); len(got) != 3 || got[0] != "0000000000000003.exemplars" {
		t.Errorf("files %v", got)
	}
}

// TestOneSeriesHasNewest sends more of one series than it may have, in any order.
func TestOneSeriesHasNewest(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	o := testOptions(memfs.New(memfs.Options{}))
	s := open(t, o)
	list := make([]model.Exemplar, maxPerSeries+500)
	for i := range list {
		list[i] = exemplar(0, i)
	}
	want := slices.Clone(list[500:])
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for part := range slices.Chunk(list, 1000) {
		if err := s.Add(part); err != nil {
			t.Fatal(err)
		}
	}
	if !apitest.SameExemplars(all(t, s), want) {
		t.Error("other ones than the newest are kept")
	}
	size := s.fileSize
	if err := s.Add(list); err != nil || s.fileSize != size { // none of them is wanted
		t.Errorf("the files grow from %d to %d bytes, %v", size, s.fileSize, err)
	}
	closeStore(t, s)
	s = open(t, o)
	defer closeStore(t, s)
	if !apitest.SameExemplars(all(t, s), want) {
		t.Error("other ones than the newest are kept after a restart")
	}
}

// TestDamage changes each byte of a segment: what was acknowledged in other frames stays, and nothing else comes.
func TestDamage(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := open(t, testOptions(fsys))
	var list []model.Exemplar
	for i := range 6 {
		list = append(list, exemplar(i%2, i))
		if err := s.Add(list[i:]); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	path := filepath.Join(testDir, segmentName(1))
	good, err := fsys.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range good {
		bad := slices.Clone(good)
		bad[at] ^= 0x55
		damaged := memfs.New(memfs.Options{})
		if err := errors.Join(damaged.MkdirAll(testDir), vfs.WriteFileDurable(damaged, path, bad)); err != nil {
			t.Fatal(err)
		}
		s := open(t, testOptions(damaged))
		for _, e := range all(t, s) {
			if !slices.ContainsFunc(list, func(x model.Exemplar) bool { return apitest.SameExemplars([]model.Exemplar{x}, []model.Exemplar{e}) }) {
				t.Fatalf("with byte %d damaged there is %+v", at, e)
			}
		}
		if s.counters.lost.Get() == 0 {
			t.Fatalf("damage of byte %d is not noticed", at)
		}
		if err := s.Add([]model.Exemplar{exemplar(0, 100)}); err != nil || len(names(t, damaged)) != 2 {
			t.Fatalf("the next write goes to %v, %v", names(t, damaged), err)
		}
		closeStore(t, s)
	}
}

// TestFullDisk fills the disk, frees it, and goes on.
func TestFullDisk(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := open(t, testOptions(fsys))
	if err := s.Add([]model.Exemplar{exemplar(0, 0)}); err != nil {
		t.Fatal(err)
	}
	fsys.SetCapacity(1)
	for i := range 20 {
		if err := s.Add([]model.Exemplar{exemplar(0, 1)}); errkind.Of(err) != errkind.ReadOnly {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	if got := names(t, fsys); len(got) > 2 {
		t.Errorf("a full disk has the files %v", got)
	}
	if want := []model.Exemplar{exemplar(0, 0)}; !apitest.SameExemplars(all(t, s), want) {
		t.Errorf("visible are %+v", all(t, s))
	}
	fsys.SetCapacity(1 << 20)
	if err := s.Add([]model.Exemplar{exemplar(0, 1)}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, testOptions(fsys))
	defer closeStore(t, s)
	if want := []model.Exemplar{exemplar(0, 0), exemplar(0, 1)}; !apitest.SameExemplars(all(t, s), want) {
		t.Errorf("after a restart there are %+v", all(t, s))
	}
}

// history makes random calls, some of which fail, and knows what must be there and what may.
type history struct {
	rng  *rand.Rand
	must map[string]model.Exemplar
	may  map[string]model.Exemplar // calls which failed, or were cut off
	next int
}

func idOf(e *model.Exemplar) string {
	return fmt.Sprintf("%s/%s/%d/%d", e.Series, e.Labels, e.Timestamp, math.Float64bits(e.Value))
}

func (h *history) step(s *Store, t *testing.T) {
	if h.rng.IntN(8) == 0 {
		h.remove(s, t)
		return
	}
	var list []model.Exemplar
	for range 1 + h.rng.IntN(5) {
		h.next++
		list = append(list, exemplar(h.rng.IntN(4), h.next-h.rng.IntN(3)))
	}
	err := s.Add(list)
	for i := range list {
		id := idOf(&list[i])
		if h.may[id] = list[i]; err == nil {
			h.must[id] = list[i]
		}
	}
}

func (h *history) remove(s *Store, t *testing.T) {
	name := fmt.Sprintf("m%d", h.rng.IntN(4))
	err := s.Delete(t.Context(), &model.SearchQuery{Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: name}}}})
	key := exemplar(int(name[1]-'0'), 0).Series
	for id, e := range h.may {
		if !bytes.Equal(e.Series, key) {
			continue
		}
		delete(h.must, id)
		if err == nil {
			delete(h.may, id)
		}
	}
}

func (h *history) check(t *testing.T, s *Store) {
	t.Helper()
	there := map[string]bool{}
	for _, e := range all(t, s) {
		id := idOf(&e)
		if _, ok := h.may[id]; !ok || there[id] {
			t.Fatalf("there is %q, twice: %v", id, there[id])
		}
		there[id] = true
	}
	for id := range h.must {
		if !there[id] {
			t.Fatalf("%q is lost", id)
		}
	}
}

// TestCrashes writes, deletes, restarts, loses power and has failing disks at random.
func TestCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range 150 {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		disk := memfs.New(memfs.Options{})
		h := &history{next: 10, rng: rng, must: map[string]model.Exemplar{}, may: map[string]model.Exemplar{}}
		for range 1 + rng.IntN(6) {
			disk = h.life(t, disk)
		}
		s := open(t, testOptions(disk))
		h.check(t, s)
		closeStore(t, s)
	}
}

// life is that of a process. It returns what is on the disk afterwards.
func (h *history) life(t *testing.T, disk *memfs.FS) *memfs.FS {
	faults := faultfs.New(disk)
	s := open(t, testOptions(faults))
	h.check(t, s)
	s.segmentBytes = int64(1 + h.rng.IntN(2000))
	if h.rng.IntN(2) == 0 {
		faults.SetFault(faultfs.Fault{At: int64(1 + h.rng.IntN(30)), Sticky: h.rng.IntN(2) == 0, Short: h.rng.IntN(2) == 0, Err: syscall.EIO})
	}
	for range h.rng.IntN(40) {
		h.step(s, t)
		if h.rng.IntN(10) == 0 {
			h.check(t, s)
		}
	}
	crashed := h.rng.IntN(2) == 0
	after := disk
	if crashed {
		after = disk.Crash(h.rng)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return after
}

// TestConcurrentAdds has many writers, who share waits for the disk.
func TestConcurrentAdds(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := open(t, testOptions(fsys))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				list := []model.Exemplar{exemplar(w, i), exemplar(0, i)}
				if err := s.Add(list); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := s.Snapshot(fmt.Sprintf("/snapshot-%d-%d", w, i)); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Find(t.Context(), apitest.ExemplarQuery(model.TenantID{})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	kept := all(t, s)
	if len(kept) != 8*50 {
		t.Errorf("%d are kept", len(kept))
	}
	closeStore(t, s)
	s = open(t, testOptions(fsys))
	defer closeStore(t, s)
	if !apitest.SameExemplars(all(t, s), kept) {
		t.Error("others are there after a restart")
	}
}

func TestGolden(t *testing.T) {
	e := encoder{numbers: dictionary{}, dst: []byte(header)}
	for _, x := range []model.Exemplar{exemplar(0, 0), exemplar(1, 1), exemplar(0, 2)} {
		e.exemplar(&x)
	}
	e.finish()
	e.deletion(exemplar(1, 0).Series)
	e.finish()
	got := hex.Dump(e.dst)
	path := filepath.Join("testdata", "segment.hex")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("a segment is now\n%s\nand was\n%s%v", got, want, err)
	}
}

func TestNames(t *testing.T) {
	if n, ok := parseName(segmentName(0xabcdef)); !ok || n != 0xabcdef {
		t.Error(n, ok)
	}
	for _, name := range []string{"", suffix, "1" + suffix, strings.ToLower(segmentName(0xabc)), segmentName(1) + ".tmp"} {
		if _, ok := parseName(name); ok {
			t.Errorf("%q passes for a segment", name)
		}
	}
}

func FuzzSegment(f *testing.F) {
	e := encoder{numbers: dictionary{}, dst: []byte(header)}
	one, two := exemplar(0, 0), exemplar(1, 1)
	e.exemplar(&one)
	e.finish()
	e.exemplar(&two)
	e.deletion(one.Series)
	e.finish()
	f.Add(e.dst[len(header)+frameHeader:], true)
	f.Add(e.dst, false)
	f.Fuzz(func(t *testing.T, src []byte, wrap bool) {
		if wrap && len(src) > 0 { // entries with a good checksum
			e := encoder{dst: []byte(header)}
			e.begin()
			e.dst = append(e.dst, src...)
			e.finish()
			src = e.dst
		}
		x := newIndex()
		d := decoder{remove: x.remove, add: func(e *model.Exemplar) { x.add(e, 1) }}
		d.segment(src)
		list, err := x.search(t.Context(), &storageapi.ExemplarQuery{Search: model.SearchQuery{Range: model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64}}})
		if err != nil || len(list) > x.items {
			t.Fatal(len(list), x.items, err)
		}
		for metric := range x.metrics {
			for key := range x.metrics[metric] {
				x.remove([]byte(key))
			}
		}
		if x.bytes != 0 || x.items != 0 || x.series != 0 {
			t.Fatalf("after all series are removed there are %d bytes, %d exemplars, %d series", x.bytes, x.items, x.series)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	s := open(b, testOptions(memfs.New(memfs.Options{})))
	defer closeStore(b, s)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		list := make([]model.Exemplar, 0, 100)
		for range 100 {
			list = append(list, exemplar(i%500, i))
			i++
		}
		if err := s.Add(list); err != nil {
			b.Fatal(err)
		}
	}
}
