package storage

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// batchOf returns a batch with one sample for each of the series named m0, m1 and so on.
func batchOf(t testing.TB, series int, ts int64, value float64) *model.Batch {
	t.Helper()
	b := &model.Batch{}
	for i := range series {
		if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("m%d", i)}, {Name: "job", Value: "test"}}); err != nil {
			t.Fatal(err)
		}
		b.AddSample(ts, value)
	}
	return b
}

func ingest(t testing.TB, s *Storage, b *model.Batch) {
	t.Helper()
	if err := s.Ingest(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

func metric(t *testing.T, set *metrics.Set, name string) string {
	t.Helper()
	var out bytes.Buffer
	if err := set.Write(&out, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "missing"
}

func wantMetrics(t *testing.T, set *metrics.Set, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := metric(t, set, name); got != value {
			t.Errorf("%s is %s; want %s", name, got, value)
		}
	}
}

// logged returns options which write the log to the buffer.
func logged(t *testing.T, fsys vfs.FS) (Options, *syncBuffer) {
	t.Helper()
	o := testOptions(fsys)
	buf := &syncBuffer{}
	l, err := logger.New(&logger.Config{Format: "default", MinLevel: "INFO", MaxArgLen: 1000}, buf, o.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = l
	return o, buf
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func wantLog(t *testing.T, log *syncBuffer, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(log.String(), line) {
			t.Errorf("%q is missing in the log:\n%s", line, log)
		}
	}
}

func TestOpenLogsAndMetrics(t *testing.T) {
	o, log := logged(t, memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), o)
	ts := testNow().UnixMilli()
	wantMetrics(t, o.Metrics, map[string]string{
		`vm_rows_ignored_total{reason="small_timestamp"}`: "0", `vm_rows_ignored_total{reason="big_timestamp"}`: "0",
		`vm_storage_is_read_only{path="/data"}`: "0", "vm_corrupt_parts_total": "0",
	})
	ingest(t, s, batchOf(t, 3, ts, 1))
	ingest(t, s, batchOf(t, 3, ts+1000, 2))
	ingest(t, s, batchOf(t, 1, ts-101*dayMs, 2))
	ingest(t, s, batchOf(t, 2, ts+3*dayMs, 2))
	wantMetrics(t, o.Metrics, map[string]string{
		`vm_rows{type="storage/inmemory"}`: "6", `vm_rows{type="storage/small"}`: "0", `vm_parts{type="storage/small"}`: "0",
		`vm_cache_entries{type="storage/hour_metric_ids"}`: "3", "vm_new_timeseries_created_total": "3", "vm_slow_row_inserts_total": "3",
		"vm_rows_added_to_storage_total": "6", "vm_rows_received_by_storage_total": "9",
		`vm_rows_ignored_total{reason="small_timestamp"}`: "1", `vm_rows_ignored_total{reason="big_timestamp"}`: "2",
	})
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantMetrics(t, o.Metrics, map[string]string{
		`vm_rows{type="storage/inmemory"}`: "0", `vm_rows{type="storage/small"}`: "6", `vm_parts{type="storage/small"}`: "1", `vm_blocks{type="storage/small"}`: "3",
	})
	closeTest(t, s)
	s = openTest(t, testConfig(), o)
	closeTest(t, s)
	wantLog(t, log, `successfully opened storage "/data" in `, `creating a partition "2026_11" with path="/data/data/2026_11"`, `partition "2026_11" has been created`,
		"; partsCount: 1; blocksCount: 3; rowsCount: 6; sizeBytes: ", `ignoring samples of tenant 0:0 m0{job="test"} at `, "-retentionPeriod=100d", "-futureRetention=2d")
}

func TestConfigIsChecked(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"-storageDataPath": func(c *Config) { c.DataPath = "" },
		"-retentionPeriod": func(c *Config) { c.RetentionPeriod = flagvalue.NewRetention("23h") },
		"-futureRetention": func(c *Config) { c.FutureRetention = flagvalue.NewRetention("1d") },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := Open(cfg, testOptions(memfs.New(memfs.Options{}))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one about %s", err, want)
		}
	}
}

func TestSecondOpenFails(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	if _, err := Open(testConfig(), testOptions(fsys)); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "flock.lock") {
		t.Errorf("error %v; want kind unavailable", err)
	}
	closeTest(t, s)
	closeTest(t, openTest(t, testConfig(), testOptions(fsys)))
}

func TestReadOnlyMode(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	o := testOptions(fsys)
	s := openTest(t, testConfig(), o)
	b := batchOf(t, 2, testNow().UnixMilli(), 1)
	ingest(t, s, b)
	fsys.SetCapacity(50e6)
	s.watch()
	if err := s.Ingest(context.Background(), b); errkind.Of(err) != errkind.ReadOnly {
		t.Errorf("error %v; want kind read-only", err)
	}
	wantMetrics(t, o.Metrics, map[string]string{`vm_storage_is_read_only{path="/data"}`: "1", `vm_free_disk_space_limit_bytes{path="/data"}`: "100000000"})
	if got := readAll(t, s, allTime()); len(got) != 2 {
		t.Errorf("%d series in read-only mode; want 2", len(got))
	}
	fsys.SetCapacity(1e12)
	s.watch()
	ingest(t, s, b)
	closeTest(t, s)
}

func TestRetentionDropsMonths(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	now := testNow()
	o := testOptions(fsys)
	var mu sync.Mutex
	o.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	s := openTest(t, testConfig(), o)
	old := now.UnixMilli() - 90*dayMs
	ingest(t, s, batchOf(t, 2, old, 1))
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	ingest(t, s, batchOf(t, 1, old+1000, 2)) // in the head of the month
	ingest(t, s, batchOf(t, 3, now.UnixMilli(), 3))
	it, err := s.Search(context.Background(), &model.SearchQuery{Range: allTime()})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now = now.Add(30 * 24 * time.Hour)
	mu.Unlock()
	s.watch()
	for n := 0; n < 3; n++ { // the iterator still has its month
		if !it.Next() {
			t.Fatalf("the iterator ends after %d series: %v", n, it.Err())
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, s, allTime())
	if len(got) != 3 || len(got[string(batchOf(t, 1, 0, 0).Key(0))]) != 1 {
		t.Errorf("%d series are left: %v; want 3 with a sample each", len(got), got)
	}
	entries, err := fsys.ReadDir(filepath.Join(testPath, "data"))
	if err != nil || len(entries) != 1 {
		t.Errorf("directories %v, %v; want one", entries, err)
	}
	closeTest(t, s)
	mu.Lock()
	now = now.Add(200 * 24 * time.Hour)
	mu.Unlock()
	s = openTest(t, testConfig(), o)
	if got := readAll(t, s, allTime()); len(got) != 0 {
		t.Errorf("%d series are left after an open beyond retention", len(got))
	}
	closeTest(t, s)
}

func TestSeriesLimit(t *testing.T) {
	cfg := testConfig()
	cfg.MaxUniqueTimeseries = 5
	s := openTest(t, cfg, testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	ts := testNow().UnixMilli()
	ingest(t, s, batchOf(t, 4, ts, 1))
	ingest(t, s, batchOf(t, 4, ts-40*dayMs, 1)) // the same series in another month
	if got := readAll(t, s, allTime()); len(got) != 4 {
		t.Errorf("%d series; want 4", len(got))
	}
	ingest(t, s, batchOf(t, 6, ts, 1))
	for asked, want := range map[int]string{0: "limit is 5", 3: "limit is 3", 100: "limit is 5"} {
		_, err := s.Search(context.Background(), &model.SearchQuery{Range: allTime(), MaxSeries: asked})
		if errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), " series: the ") || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "-search.maxUniqueTimeseries") {
			t.Errorf("MaxSeries %d: error %v; want kind unprocessable with %q", asked, err, want)
		}
	}
}

func TestInvalidKeysAreIgnored(t *testing.T) {
	o := testOptions(memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), o)
	defer closeTest(t, s)
	b := batchOf(t, 1, testNow().UnixMilli(), 1)
	for _, key := range []string{"", "short", "\x00\x00\x00\x00\x00\x00\x00\x00\x05ab"} {
		b.AddKey([]byte(key), model.HashSeriesKey([]byte(key)))
		b.AddSample(testNow().UnixMilli(), 1)
	}
	ingest(t, s, b)
	if got := readAll(t, s, allTime()); len(got) != 1 {
		t.Errorf("%d series; want 1", len(got))
	}
	wantMetrics(t, o.Metrics, map[string]string{`vm_rows_ignored_total{reason="invalid_raw_metric_name"}`: "3"})
}

// rewrite damages a file.
func rewrite(t *testing.T, fsys vfs.FS, path string, change func(data []byte)) {
	t.Helper()
	data, err := fsys.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Clone(data)
	change(data)
	if err := vfs.WriteFileDurable(fsys, path, data); err != nil {
		t.Fatal(err)
	}
}

// twoParts returns a closed storage with two parts, and the directories of the parts.
func twoParts(t *testing.T) (*memfs.FS, []string) {
	t.Helper()
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	for i := range int64(2) {
		ingest(t, s, batchOf(t, 2, testNow().UnixMilli()+i*1000, float64(i)))
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	closeTest(t, s)
	dir := filepath.Join(testPath, "data", "2026_11", "parts")
	entries, err := fsys.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("parts %v, %v; want 2", entries, err)
	}
	return fsys, []string{filepath.Join(dir, entries[0].Name), filepath.Join(dir, entries[1].Name)}
}

func TestCorruptPartIsSetAside(t *testing.T) {
	fsys, parts := twoParts(t)
	rewrite(t, fsys, filepath.Join(parts[0], "blocks"), func(data []byte) { data[len(data)/2] ^= 1 })
	o, log := logged(t, fsys)
	for range 2 { // it stays aside, and is reported again
		s := openTest(t, testConfig(), o)
		got, cov := readCovered(t, s, allTime())
		if len(got) != 2 || len(got[string(batchOf(t, 1, 0, 0).Key(0))]) != 1 || !cov.Partial {
			t.Errorf("got %v, %v; want two series with the sample of the second part, and a partial answer", got, cov)
		}
		if _, cov = readCovered(t, s, model.TimeRange{Min: testNow().UnixMilli() + 86400_000, Max: testNow().UnixMilli() + 2*86400_000}); cov.Partial {
			t.Error("an answer from outside the range of the lost part is marked partial")
		}
		closeTest(t, s)
	}
	wantMetrics(t, o.Metrics, map[string]string{"vm_corrupt_parts_total": "2"})
	wantLog(t, log, "is set aside as "+parts[0]+".corrupt", "2 samples of [2026-11-10T01:00:00.000Z..2026-11-10T01:00:00.000Z]")
	if _, err := fsys.ReadDir(parts[0] + ".corrupt"); err != nil {
		t.Error(err)
	}
}

func TestMissingPartIsReported(t *testing.T) {
	fsys, parts := twoParts(t)
	if err := fsys.RemoveAll(parts[1]); err != nil {
		t.Fatal(err)
	}
	o := testOptions(fsys)
	s := openTest(t, testConfig(), o)
	if got, cov := readCovered(t, s, allTime()); len(got) != 2 || !cov.Partial {
		t.Errorf("%d series, coverage %v; want 2 and a partial answer", len(got), cov)
	}
	wantMetrics(t, o.Metrics, map[string]string{"vm_corrupt_parts_total": "1", `vm_parts{type="storage/small"}`: "1"})
	closeTest(t, s)
	// The operator accepts the loss.
	accepted := parts[1] + ".accepted"
	if err := vfs.WriteFileDurable(fsys, accepted, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = openTest(t, testConfig(), testOptions(fsys))
		if got := readAll(t, s, allTime()); len(got) != 2 {
			t.Errorf("%d series; want 2", len(got))
		}
		closeTest(t, s)
	}
	if _, err := fsys.ReadFile(accepted); err == nil {
		t.Error("the file which accepts the loss is still there")
	}
}

func TestDamagedManifestLosesNothing(t *testing.T) {
	path := filepath.Join(testPath, "data", "2026_11", "MANIFEST")
	for name, damage := range map[string]func(t *testing.T, fsys vfs.FS){
		"damaged": func(t *testing.T, fsys vfs.FS) { rewrite(t, fsys, path, func(data []byte) { data[9] ^= 4 }) },
		"missing": func(t *testing.T, fsys vfs.FS) {
			if err := fsys.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, _ := twoParts(t)
			damage(t, fsys)
			for range 2 {
				s := openTest(t, testConfig(), testOptions(fsys))
				if got := readAll(t, s, allTime()); len(got) != 2 || len(got[string(batchOf(t, 1, 0, 0).Key(0))]) != 2 {
					t.Errorf("got %v; want two series with two samples", got)
				}
				closeTest(t, s)
			}
		})
	}
}

// TestDamagedColumnMakesAnswersPartial damages sample data: the rest is served, the answer says so, and merges leave the part alone.
func TestDamagedColumnMakesAnswersPartial(t *testing.T) {
	fsys, parts := twoParts(t)
	rewrite(t, fsys, filepath.Join(parts[0], "values"), func(data []byte) { data[len(data)-1] ^= 1 })
	o := testOptions(fsys)
	s := openTest(t, testConfig(), o)
	it, err := s.Search(context.Background(), &model.SearchQuery{Range: allTime()})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for it.Next() {
		n++
	}
	if n != 2 || it.Err() != nil || !it.Coverage().Partial || errkind.Of(it.Coverage().Failed[0].Err) != errkind.Corrupt {
		t.Errorf("%d series, error %v, coverage %+v; want 2 and a partial answer", n, it.Err(), it.Coverage())
	}
	if err := it.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Merge(context.Background(), ""); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("error %v; want kind corrupt", err)
	}
	if err := s.Merge(context.Background(), ""); err != nil {
		t.Errorf("the second merge fails, too: %s", err)
	}
	closeTest(t, s)
}

func TestLogFailureStopsWritesOnly(t *testing.T) {
	faulty := faultfs.New(memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), testOptions(faulty))
	b := batchOf(t, 2, testNow().UnixMilli(), 1)
	ingest(t, s, b)
	faulty.SetFault(faultfs.Fault{At: 1, Kinds: []faultfs.Kind{faultfs.Sync}})
	for range 2 {
		if err := s.Ingest(context.Background(), batchOf(t, 2, testNow().UnixMilli()+1000, 1)); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "restart") {
			t.Errorf("error %v; want kind unavailable which tells to restart", err)
		}
	}
	if got := readAll(t, s, allTime()); len(got) != 2 {
		t.Errorf("%d series; want 2", len(got))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestConcurrentUse writes, reads, flushes and closes at the same time.
func TestConcurrentUse(t *testing.T) {
	o := testOptions(memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), o)
	var wg sync.WaitGroup
	stopped := func(err error) bool {
		if err != nil && errkind.Of(err) != errkind.Draining {
			t.Errorf("unexpected error: %s", err)
		}
		return err != nil
	}
	started := make(chan struct{}, 100)
	loop := func(f func(i int64) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			i := int64(0)
			for ; !stopped(f(i)); i++ {
				if i == 5 {
					started <- struct{}{}
				}
			}
			if i <= 5 { // it ended before Close was called
				started <- struct{}{}
			}
		}()
	}
	ctx := context.Background()
	start := testNow().UnixMilli() - 60*dayMs
	for w := range int64(3) {
		loop(func(i int64) error {
			return s.Ingest(ctx, batchOf(t, 20+int(i%50), start+(i*3+w)*3_600_000%(60*dayMs), float64(i)))
		})
		loop(func(i int64) error { return iterate(s, model.TimeRange{Min: start, Max: start + i*dayMs}) })
	}
	loop(func(int64) error { return s.Flush(ctx) })
	loop(func(int64) error { return s.Merge(ctx, "") })
	loop(func(int64) error {
		_, err := s.LabelValues(ctx, &model.SearchQuery{Range: allTime()}, "job", 0)
		return err
	})
	loop(func(int64) error {
		metric(t, o.Metrics, "vm_rows")
		_, err := s.Tenants(ctx, allTime())
		return err
	})
	for range 10 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := o.Budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget are still in use", n)
	}
}

// iterate reads and decodes everything in r.
func iterate(s *Storage, r model.TimeRange) error {
	it, err := s.Search(context.Background(), &model.SearchQuery{Range: r})
	if err != nil {
		return err
	}
	var times []int64
	for it.Next() {
		for i := range it.At().Blocks {
			if times, err = it.At().Blocks[i].DecodeTimestamps(times[:0]); err != nil {
				return err
			}
		}
	}
	if err := it.Err(); err != nil {
		_ = it.Close()
		return err
	}
	return it.Close()
}

func TestCanceledSearch(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	ingest(t, s, batchOf(t, 1000, testNow().UnixMilli(), 1))
	ctx, cancel := context.WithCancel(context.Background())
	it, err := s.Search(ctx, &model.SearchQuery{Range: allTime()})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for it.Next() {
	}
	if errkind.Of(it.Err()) != errkind.Canceled {
		t.Errorf("error %v; want kind canceled", it.Err())
	}
	if err := it.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Search(ctx, &model.SearchQuery{Range: allTime()}); errkind.Of(err) != errkind.Canceled {
		t.Errorf("error %v; want kind canceled", err)
	}
	if err := s.Ingest(ctx, batchOf(t, 1, testNow().UnixMilli(), 1)); errkind.Of(err) != errkind.Canceled {
		t.Errorf("error %v; want kind canceled", err)
	}
}
