package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
	"vmcluster/lib/wal"
)

// kill ends a storage as if its process had been killed: nothing reaches the file system any more.
func kill(faulty *faultfs.FS, s *Storage) {
	faulty.SetFault(faultfs.Fault{At: 1, Sticky: true})
	_ = s.Close()
	_ = s.log.Close()
	faulty.SetFault(faultfs.Fault{})
}

// TestKilledThenPowerFailure kills a process at a random operation, starts it again on what the system still has in memory, and
// then cuts the power.
func TestKilledThenPowerFailure(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	runs := 60
	if testing.Short() {
		runs = 6
	}
	for i := range runs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		fsys := memfs.New(memfs.Options{})
		g, n := newGenerator(rng, 20), newNaive()
		for range 4 {
			faulty := faultfs.New(fsys)
			s := openTest(t, testConfig(), testOptions(faulty))
			faulty.SetFault(faultfs.Fault{At: 1 + rng.Int64N(150), Sticky: true})
			for step := 0; step < 60 && s.log.Err() == nil; step++ {
				failingStep(t, rng, s, g, n)
			}
			kill(faulty, s)

			faulty = faultfs.New(fsys)
			s = openTest(t, testConfig(), testOptions(faulty))
			n.check(t, s, allTime())
			for range rng.IntN(3) {
				failingStep(t, rng, s, g, n)
			}
			left := fsys.Crash(rng)
			kill(faulty, s)
			fsys = left
			s = openTest(t, testConfig(), testOptions(fsys))
			n.check(t, s, allTime())
			closeTest(t, s)
		}
	}
}

// indexFiles returns the files in the index directory of the month of testNow which have a prefix.
func indexFiles(t *testing.T, fsys vfs.FS, prefix string) []string {
	t.Helper()
	dir := filepath.Join(testPath, "data", "2026_11", "index")
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name, prefix) && !strings.HasSuffix(e.Name, ".corrupt") {
			paths = append(paths, filepath.Join(dir, e.Name))
		}
	}
	return paths
}

func named(t *testing.T, name string, ts int64, value float64) *model.Batch {
	t.Helper()
	b := &model.Batch{}
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: name}}); err != nil {
		t.Fatal(err)
	}
	b.AddSample(ts, value)
	return b
}

// TestCorruptIndexOfAMonth loses one of two index segments, and all day files: the node starts, serves the rest, takes writes for the
// month, and never gives the samples in parts to other series.
func TestCorruptIndexOfAMonth(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	now := testNow().UnixMilli()
	s := openTest(t, testConfig(), testOptions(fsys))
	for _, name := range []string{"kept", "lost"} {
		for i := range int64(3) {
			ingest(t, s, named(t, name, now+i, 1))
		}
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	closeTest(t, s)
	segments := indexFiles(t, fsys, "seg-")
	rewrite(t, fsys, segments[len(segments)-1], func(data []byte) { data[len(data)/2] ^= 1 })
	for _, day := range indexFiles(t, fsys, "day-") {
		rewrite(t, fsys, day, func(data []byte) { data[len(data)/2] ^= 1 })
	}
	o, log := logged(t, fsys)
	for round := range 3 {
		s = openTest(t, testConfig(), o)
		ingest(t, s, named(t, fmt.Sprint("new", round), now+1000, 2))
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := s.Merge(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
		got, cov := readCovered(t, s, allTime())
		if !cov.Partial {
			t.Error("an answer without the series of a lost segment is not marked partial")
		}
		if len(got) != 2+round || len(got[string(named(t, "kept", 0, 0).Key(0))]) != 3 {
			t.Fatalf("round %d: got %v; want the kept series with 3 samples, and the new ones", round, got)
		}
		for i := range round + 1 {
			if key := string(named(t, fmt.Sprint("new", i), 0, 0).Key(0)); len(got[key]) != 1 {
				t.Fatalf("round %d: new series %d has samples %v; want its own one", round, i, got[key])
			}
		}
		values, err := s.LabelValues(context.Background(), &model.SearchQuery{Range: allTime()}, model.MetricNameLabel, 0)
		if err != nil || len(values.Values) != 2+round || !values.Coverage.Partial {
			t.Fatalf("values %v, %v", values, err)
		}
		closeTest(t, s)
	}
	parts, err := fsys.ReadDir(filepath.Join(testPath, "data", "2026_11", "parts"))
	if err != nil || len(parts) != 2 {
		t.Fatalf("parts %v, %v; want the unreachable one and that of the others", parts, err)
	}
	wantLog(t, log, "index segment \""+segments[len(segments)-1]+"\" is set aside", "1 series which are not in the index any more")
	wantMetrics(t, o.Metrics, map[string]string{"vm_corrupt_index_total": "2"})
	if _, err := fsys.ReadFile(segments[len(segments)-1] + ".corrupt"); err != nil {
		t.Error(err)
	}
}

// TestIdsOfLostSeriesInLog has samples in the log whose series is lost with the index. Its id is not given to another series: after
// a crash the log would give that the samples.
func TestIdsOfLostSeriesInLog(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	now := testNow().UnixMilli()
	faulty := faultfs.New(fsys)
	s := openTest(t, testConfig(), testOptions(faulty))
	ingest(t, s, named(t, "lost", now, 1))
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	ingest(t, s, named(t, "lost", now+1, 1)) // without a record of the series
	kill(faulty, s)
	if err := fsys.RemoveAll(filepath.Join(testPath, "data", "2026_11")); err != nil {
		t.Fatal(err)
	}
	o, log := logged(t, faulty)
	s = openTest(t, testConfig(), o)
	ingest(t, s, named(t, "new", now+2, 2))
	// The index becomes durable, the log is not shortened.
	faulty.SetFault(faultfs.Fault{At: 1, Sticky: true, Kinds: []faultfs.Kind{faultfs.RemoveAll}})
	if err := s.Flush(context.Background()); err == nil {
		t.Fatal("the log was shortened")
	}
	kill(faulty, s)
	s = openTest(t, testConfig(), testOptions(fsys))
	got, cov := readCovered(t, s, allTime())
	if len(got) != 1 || len(got[string(named(t, "new", 0, 0).Key(0))]) != 1 || !cov.Partial {
		t.Errorf("got %v, %+v; want the new series with its one sample, as a partial answer", got, cov)
	}
	closeTest(t, s)
	wantLog(t, log, "1 samples of [2026-11-10T01:00:00.001Z..2026-11-10T01:00:00.001Z] in the log are lost")
}

// TestLogWhichContradictsTheIndex has an index, as from a backup, in which an id belongs to another series than in the log.
func TestLogWhichContradictsTheIndex(t *testing.T) {
	now := testNow().UnixMilli()
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	ingest(t, s, named(t, "a", now, 1))
	closeTest(t, s)
	l, err := wal.Open(wal.Options{FS: fsys, Dir: filepath.Join(testPath, "wal", "0"), Logger: testOptions(fsys).Logger, Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Replay(func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	month := uint32(partition.MonthOf(now))
	var e wal.FrameEncoder
	e.AddSeries(month, 0, named(t, "b", 0, 0).Key(0))
	e.AddSample(month, 0, now+1, 2)
	e.AddSeries(month, 7, named(t, "c", 0, 0).Key(0))
	e.AddSample(month, 7, now+1, 3)
	if _, err := l.Append(e.Bytes()); err != nil {
		t.Fatal(err)
	}
	e.Reset()
	e.AddSample(month, 0, now+2, 2)
	if _, err := l.Append(e.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o := testOptions(fsys)
	s = openTest(t, testConfig(), o)
	got, cov := readCovered(t, s, allTime())
	if len(got) != 2 || len(got[string(named(t, "a", 0, 0).Key(0))]) != 1 || len(got[string(named(t, "c", 0, 0).Key(0))]) != 1 || !cov.Partial {
		t.Errorf("got %v, %+v; want one sample of a and one of c, as a partial answer", got, cov)
	}
	wantMetrics(t, o.Metrics, map[string]string{"vm_storage_unreplayable_rows_total": "2"})
	closeTest(t, s)
}

// TestSeriesOfFailedBatchAreLogged lets a batch fail in its second month, after its series in the first were registered. Their later samples
// must survive a crash.
func TestSeriesOfFailedBatchAreLogged(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	faulty := faultfs.New(fsys)
	now := testNow().UnixMilli()
	s := openTest(t, testConfig(), testOptions(faulty))
	ingest(t, s, named(t, "other", now, 1)) // makes the month
	b := named(t, "a", now, 1)
	b.AddSample(now-40*dayMs, 1)
	faulty.SetFault(faultfs.Fault{At: 1, Sticky: true, Kinds: []faultfs.Kind{faultfs.MkdirAll}, Err: syscall.ENOSPC})
	if err := s.Ingest(context.Background(), b); err == nil {
		t.Fatal("want an error")
	}
	faulty.SetFault(faultfs.Fault{})
	ingest(t, s, named(t, "a", now+1, 1))
	kill(faulty, s)
	s = openTest(t, testConfig(), testOptions(fsys))
	if got := readAll(t, s, allTime()); len(got[string(b.Key(0))]) == 0 {
		t.Errorf("got %v; want the acknowledged sample", got)
	}
	closeTest(t, s)
}

// TestCorruptPartPutBack puts a good copy in the place of a damaged part, as the message says.
func TestCorruptPartPutBack(t *testing.T) {
	fsys, parts := twoParts(t)
	files := map[string][]byte{}
	entries, err := fsys.ReadDir(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name], err = fsys.ReadFile(filepath.Join(parts[0], e.Name)); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(t, fsys, filepath.Join(parts[0], "blocks"), func(data []byte) { data[len(data)/2] ^= 1 })
	s := openTest(t, testConfig(), testOptions(fsys))
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli()+5000, 5)) // the list of parts changes
	closeTest(t, s)
	if err := fsys.MkdirAll(parts[0]); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := vfs.WriteFileDurable(fsys, filepath.Join(parts[0], name), data); err != nil {
			t.Fatal(err)
		}
	}
	s = openTest(t, testConfig(), testOptions(fsys))
	if got := readAll(t, s, allTime()); len(got[string(batchOf(t, 1, 0, 0).Key(0))]) != 3 {
		t.Errorf("got %v; want 3 samples of each series", got)
	}
	closeTest(t, s)
}

// TestFailedPublicationsLeaveNoFiles lets publications fail again and again; the parts they leave are deleted once one succeeds.
func TestFailedPublicationsLeaveNoFiles(t *testing.T) {
	faulty := faultfs.New(memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), testOptions(faulty))
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli(), 1))
	for at := range int64(12) {
		faulty.SetFault(faultfs.Fault{At: 1 + at, Sticky: true, Kinds: []faultfs.Kind{faultfs.SyncDir, faultfs.Rename}})
		_ = s.Flush(context.Background()) // fails in most cases
		faulty.SetFault(faultfs.Fault{})
		ingest(t, s, batchOf(t, 2, testNow().UnixMilli()+at, 1))
	}
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli()+1000, 1))
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	entries, err := faulty.ReadDir(filepath.Join(testPath, "data", "2026_11", "parts"))
	if err != nil {
		t.Fatal(err)
	}
	if want := int(s.sum().Small.Parts); len(entries) != want {
		t.Errorf("%d directories of parts; %d parts are in use", len(entries), want)
	}
	closeTest(t, s)
}

// TestReadsDoNotWaitForWriters has a writer that waits for the disk, and a freeze that waits for the writer.
func TestReadsDoNotWaitForWriters(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli(), 1))
	s.flushLock.RLock()
	done := make(chan error, 1)
	go func() { done <- s.Flush(context.Background()) }()
	for deadline := time.Now().Add(10 * time.Second); s.flushLock.TryRLock(); {
		s.flushLock.RUnlock()
		if time.Now().After(deadline) {
			t.Fatal("the flush does not begin")
		}
	}
	if got := readAll(t, s, allTime()); len(got) != 2 {
		t.Errorf("%d series; want 2", len(got))
	}
	s.flushLock.RUnlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	closeTest(t, s)
}

// TestFarFuture sends samples beyond the last month that has a name.
func TestFarFuture(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	cfg := testConfig()
	cfg.FutureRetention = flagvalue.NewRetention("20000y")
	last := partition.LastMonth.Range().Max
	s := openTest(t, cfg, testOptions(fsys))
	ingest(t, s, named(t, "a", last, 1))
	ingest(t, s, named(t, "a", last+1, 1)) // ignored
	for range 2 {
		if got := readAll(t, s, allTime()); len(got) != 1 || len(got[string(named(t, "a", 0, 0).Key(0))]) != 1 {
			t.Errorf("got %v; want the sample at the end of the year 9999", got)
		}
		closeTest(t, s)
		s = openTest(t, cfg, testOptions(fsys))
	}
	closeTest(t, s)
}

// TestDropBesideDropped drops a month of which an earlier drop has left a directory.
func TestDropBesideDropped(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	ingest(t, s, named(t, "a", testNow().UnixMilli()-90*dayMs, 1))
	closeTest(t, s)
	dropped := filepath.Join(testPath, "data", "2026_08.dropped", "parts", "1")
	if err := vfs.MkdirAllDurable(fsys, dropped); err != nil {
		t.Fatal(err)
	}
	o := testOptions(fsys)
	o.Now = func() time.Time { return testNow().Add(60 * 24 * time.Hour) }
	s = openTest(t, testConfig(), o)
	closeTest(t, s)
	entries, err := fsys.ReadDir(filepath.Join(testPath, "data"))
	if err != nil || len(entries) != 0 {
		t.Errorf("directories %v, %v; want none", entries, err)
	}
}

// TestIndexOfLaterVersionIsLeftAlone is about a downgrade: the storage does not open and changes nothing.
func TestIndexOfLaterVersionIsLeftAlone(t *testing.T) {
	fsys, _ := twoParts(t)
	path := indexFiles(t, fsys, "seg-")[0]
	rewrite(t, fsys, path, func(data []byte) {
		data[7]++
		binary.LittleEndian.PutUint32(data[len(data)-4:], codec.Checksum(data[:len(data)-4]))
	})
	_, err := Open(testConfig(), testOptions(fsys))
	if errkind.Of(err) != errkind.Unsupported {
		t.Errorf("error %v; want kind unsupported", err)
	}
	if _, err := fsys.ReadFile(path); err != nil {
		t.Error(err)
	}
}

// TestFlushedSeriesNeedNoRegistration writes to known series after a start, while somebody else registers new ones.
func TestFlushedSeriesNeedNoRegistration(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	ingest(t, s, batchOf(t, 20, testNow().UnixMilli(), 1))
	closeTest(t, s)
	s = openTest(t, testConfig(), testOptions(fsys))
	s.register.Lock()
	ingest(t, s, batchOf(t, 20, testNow().UnixMilli()+1, 1))
	s.register.Unlock()
	ingest(t, s, batchOf(t, 21, testNow().UnixMilli()+2, 1))
	got := readAll(t, s, allTime())
	if len(got) != 21 || len(got[string(batchOf(t, 1, 0, 0).Key(0))]) != 3 {
		t.Errorf("got %v; want 21 series, the old ones with 3 samples", got)
	}
	closeTest(t, s)
}

// TestFlushGivenUpIsDoneLater cancels a flush after the freeze: what is frozen does not wait for the next one.
func TestFlushGivenUpIsDoneLater(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	ingest(t, s, batchOf(t, 3, testNow().UnixMilli(), 1))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Flush(ctx); err == nil {
		t.Fatal("want an error")
	}
	for deadline := time.Now().Add(30 * time.Second); s.sum().Small.Rows < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the frozen samples are not flushed")
		}
	}
	closeTest(t, s)
}
