package storage

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/vfs/memfs"
)

// limitTest is a storage with limits and a clock.
type limitTest struct {
	*Storage
	o     Options
	log   *syncBuffer
	clock atomic.Int64 // since testNow
}

func newLimitTest(t *testing.T, hourly, daily int) *limitTest {
	t.Helper()
	x := &limitTest{}
	x.o, x.log = logged(t, memfs.New(memfs.Options{}))
	x.o.Now = func() time.Time { return testNow().Add(time.Duration(x.clock.Load())) }
	cfg := testConfig()
	cfg.MaxHourlySeries, cfg.MaxDailySeries = hourly, daily
	x.Storage = openTest(t, cfg, x.o)
	t.Cleanup(func() { closeTest(t, x.Storage) })
	return x
}

// send ingests one sample now for each series and returns how many the storage has of all.
func (x *limitTest) send(t *testing.T, series ...int) {
	t.Helper()
	b := &model.Batch{}
	for _, i := range series {
		if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("m%d", i)}}); err != nil {
			t.Fatal(err)
		}
		b.AddSample(x.o.Now().UnixMilli(), 1)
	}
	ingest(t, x.Storage, b)
	x.clock.Add(int64(time.Second))
}

// TestLimitsCountHistograms has series with native histograms only, and one with samples as well.
func TestLimitsCountHistograms(t *testing.T) {
	x := newLimitTest(t, 2, 0)
	x.send(t, 1)
	b := &model.Batch{}
	for i := range 4 {
		b.Append(onlyHistograms(t, fmt.Sprintf("m%d", i)), 0)
		b.AddHistogram(x.o.Now().UnixMilli(), histogramtest.OfBits(uint64(i)<<20))
	}
	ingest(t, x.Storage, b)
	wantMetrics(t, x.o.Metrics, map[string]string{
		"vm_hourly_series_limit_current_series":            "2",
		"vm_hourly_series_limit_rows_dropped_total":        "2",
		"vm_native_histograms_added_to_storage_total":      "2",
		"vm_native_histograms":                             "2",
		"vm_rows_added_to_storage_total":                   "3",
		"vm_new_timeseries_created_total":                  "2",
		`vm_rows{type="storage/inmemory"}`:                 "3",
		`vm_cache_entries{type="storage/hour_metric_ids"}`: "3",
	})
	if got := readAll(t, x, allTime()); len(got) != 3 { // that of samples, and two of histograms
		t.Errorf("%d series are stored; want 3", len(got))
	}
}

func TestHourlyLimit(t *testing.T) {
	x := newLimitTest(t, 3, 0)
	x.send(t, 1, 2)
	x.send(t, 3, 4, 5) // two too many
	x.send(t, 1, 2, 3, 4)
	wantMetrics(t, x.o.Metrics, map[string]string{
		"vm_hourly_series_limit_max_series":                     "3",
		"vm_hourly_series_limit_current_series":                 "3",
		"vm_hourly_series_limit_rows_dropped_total":             "3",
		`vm_rows_ignored_total{reason="hourly_limit_exceeded"}`: "3",
		`vm_rows_ignored_total{reason="daily_limit_exceeded"}`:  "0",
		"vm_rows_added_to_storage_total":                        "6",
		"vm_new_timeseries_created_total":                       "3",
		"vm_daily_series_limit_max_series":                      "missing",
	})
	if got := readAll(t, x, allTime()); len(got) != 3 {
		t.Errorf("%d series are stored; want 3", len(got))
	}
	if !strings.Contains(x.log.String(), "-storage.maxHourlySeries=3") {
		t.Error("the log does not name the limit")
	}
	// The next hour begins with none, and those which came first there stay.
	x.clock.Store(int64(61 * time.Minute))
	wantMetrics(t, x.o.Metrics, map[string]string{"vm_hourly_series_limit_current_series": "0"})
	x.send(t, 5, 4)
	x.send(t, 1, 2)
	wantMetrics(t, x.o.Metrics, map[string]string{"vm_hourly_series_limit_current_series": "3", "vm_hourly_series_limit_rows_dropped_total": "4"})
	if got := readAll(t, x, allTime()); len(got) != 5 {
		t.Errorf("%d series are stored; want 5", len(got))
	}
}

func TestDailyLimit(t *testing.T) {
	x := newLimitTest(t, 0, 2)
	x.send(t, 1, 2, 3)
	x.clock.Store(int64(2 * time.Hour)) // another hour of the same day
	x.send(t, 2, 3)
	wantMetrics(t, x.o.Metrics, map[string]string{"vm_daily_series_limit_current_series": "2", "vm_daily_series_limit_rows_dropped_total": "2"})
	x.clock.Store(int64(24 * time.Hour))
	x.send(t, 3, 4)
	wantMetrics(t, x.o.Metrics, map[string]string{"vm_daily_series_limit_current_series": "2", "vm_daily_series_limit_rows_dropped_total": "2"})
}

func TestBothLimits(t *testing.T) {
	x := newLimitTest(t, 2, 3)
	x.send(t, 1, 2, 3)
	x.clock.Store(int64(2 * time.Hour))
	x.send(t, 3, 4, 1)
	wantMetrics(t, x.o.Metrics, map[string]string{
		`vm_rows_ignored_total{reason="hourly_limit_exceeded"}`: "2",
		`vm_rows_ignored_total{reason="daily_limit_exceeded"}`:  "1",
	})
}

func TestTrackedSeries(t *testing.T) {
	x := newLimitTest(t, -1, -1)
	x.send(t, 1, 2, 3)
	x.send(t, 1, 2, 4)
	wantMetrics(t, x.o.Metrics, map[string]string{
		"vm_hourly_series_limit_current_series": "4", "vm_daily_series_limit_current_series": "4",
		"vm_hourly_series_limit_rows_dropped_total": "0", "vm_rows_added_to_storage_total": "6",
	})
}

// TestLimitUnderLoad: however many writers there are, no series too many comes in.
func TestLimitUnderLoad(t *testing.T) {
	x := newLimitTest(t, 50, 0)
	ts := testNow().UnixMilli()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				b := &model.Batch{}
				if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprintf("m%d", (i*7+w*13)%400)}}); err != nil {
					t.Error(err)
				}
				b.AddSample(ts, 1)
				if err := x.Ingest(context.Background(), b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := readAll(t, x, allTime()); len(got) != 50 {
		t.Errorf("%d series are stored; want 50", len(got))
	}
}

func TestLogNewSeries(t *testing.T) {
	x := newLimitTest(t, 0, 0)
	x.send(t, 1)
	if strings.Contains(x.log.String(), "new series created") {
		t.Fatal("a new series is logged without being asked for")
	}
	until := x.LogNewSeries(time.Minute)
	if want := x.o.Now().Add(time.Minute); !until.Equal(want) {
		t.Errorf("logging until %s; want %s", until, want)
	}
	x.send(t, 1, 2)
	x.clock.Add(int64(time.Minute))
	x.send(t, 3)
	text := x.log.String()
	if !strings.Contains(text, "new series created: tenant 0:0 m2") || strings.Count(text, "new series created") != 1 {
		t.Errorf("want exactly one new series, m2, in the log:\n%s", text)
	}
	cfg := testConfig()
	cfg.LogNewSeries = true
	o, log := logged(t, memfs.New(memfs.Options{}))
	s := openTest(t, cfg, o)
	defer closeTest(t, s)
	s.LogNewSeries(0) // does not end it
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli(), 1))
	if n := strings.Count(log.String(), "new series created"); n != 2 {
		t.Errorf("%d new series are logged with -logNewSeries; want 2", n)
	}
}
