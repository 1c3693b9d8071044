package storage

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

// limitsOf returns limits which have seen the given series now.
func limitsOf(t *testing.T, now time.Time, hourly, daily []uint64) *seriesLimits {
	t.Helper()
	o, _ := logged(t, memfs.New(memfs.Options{}))
	o.Now = func() time.Time { return now }
	l := newSeriesLimits(&Config{MaxHourlySeries: 10, MaxDailySeries: 10}, &o)
	for i, list := range [][]uint64{hourly, daily} {
		for _, h := range list {
			if !l.limits[i].pass(now.Unix(), h) {
				t.Fatalf("series %d does not pass", h)
			}
		}
	}
	return l
}

func TestSeriesLimitsGolden(t *testing.T) {
	want := goldenFile(t, "series_limits", limitsOf(t, time.Unix(1794268800, 0), []uint64{1 << 63, 7}, []uint64{3, 7, 1<<64 - 1}).AppendTo(nil))
	list, err := parseSeenSeries(want)
	if err != nil || len(list) != 2 || list[0].seconds != 3600 || list[0].period != 1794268800/3600 || len(list[0].hashes) != 16 || len(list[1].hashes) != 24 {
		t.Errorf("it is read as %+v, error %v", list, err)
	}
	for i := range want { // every damage is found
		damaged := bytes.Clone(want)
		damaged[i] ^= 0x40
		if _, err := parseSeenSeries(damaged); err == nil {
			t.Errorf("damage at %d is not found", i)
		}
		if _, err := parseSeenSeries(want[:i]); err == nil {
			t.Errorf("a file cut at %d is read", i)
		}
	}
}

func FuzzSeriesLimits(f *testing.F) {
	seed, err := os.ReadFile(filepath.Join("testdata", "series_limits"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseSeenSeries(data)
		if err != nil {
			return
		}
		n := 0
		for _, x := range list {
			n += len(x.hashes)
		}
		if n > len(data) {
			t.Fatalf("%d bytes of hashes are read from %d bytes", n, len(data))
		}
	})
}

// reopen opens the storage again on another file system, which is what a stop or a crash has left of the one before.
func (x *limitTest) reopen(t *testing.T, fsys vfs.FS, change func(c *Config)) {
	t.Helper()
	cfg := x.cfg
	change(&cfg)
	x.o, x.log = logged(t, fsys)
	x.o.Now = func() time.Time { return testNow().Add(time.Duration(x.clock.Load())) }
	x.Storage = openTest(t, cfg, x.o)
}

func (x *limitTest) wantSeries(t *testing.T, hourly, daily string) {
	t.Helper()
	wantMetrics(t, x.o.Metrics, map[string]string{"vm_hourly_series_limit_current_series": hourly, "vm_daily_series_limit_current_series": daily})
}

func TestLimitsSurviveRestart(t *testing.T) {
	x := newLimitTest(t, 3, 5)
	x.send(t, 1, 2)
	x.clock.Store(int64(61 * time.Minute))
	x.send(t, 3)
	x.wantSeries(t, "1", "3")
	closeTest(t, x.Storage)
	x.reopen(t, x.fs, func(*Config) {})
	x.wantSeries(t, "1", "3")
	x.send(t, 4, 5, 6, 7, 3) // two beyond the limit of the hour
	x.wantSeries(t, "3", "5")

	// An hour later the hour begins with none, and the day is full.
	closeTest(t, x.Storage)
	x.clock.Store(int64(122 * time.Minute))
	x.reopen(t, x.fs, func(*Config) {})
	x.wantSeries(t, "0", "5")
	x.send(t, 8, 1)
	x.wantSeries(t, "2", "5")

	// Limits which are lower than what was seen are full; those which are off do not care.
	closeTest(t, x.Storage)
	x.reopen(t, x.fs, func(c *Config) { c.MaxHourlySeries, c.MaxDailySeries = 0, 2 })
	wantMetrics(t, x.o.Metrics, map[string]string{"vm_hourly_series_limit_current_series": "missing", "vm_daily_series_limit_current_series": "2"})

	// The next day begins with none.
	closeTest(t, x.Storage)
	x.clock.Store(int64(25 * time.Hour))
	x.reopen(t, x.fs, func(c *Config) { c.MaxHourlySeries = 3 })
	x.wantSeries(t, "0", "0")
}

// TestLimitsSurviveCrash: what came before the last flush is in the file, and the log has the rest.
func TestLimitsSurviveCrash(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for name, flush := range map[string]bool{"file and log": true, "log only": false} {
		for _, headMaxBytes := range []int64{0, 100} { // 100: the heads are written while the log is replayed
			t.Run(name, func(t *testing.T) {
				x := newLimitTest(t, 4, 4)
				x.send(t, 1, 2)
				if flush {
					if err := x.Flush(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				x.send(t, 3)
				crashed := x.fs.(*memfs.FS).Crash(rng)
				closeTest(t, x.Storage)
				x.reopen(t, crashed, func(c *Config) {
					c.HeadMaxBytes = flagvalue.Bytes(headMaxBytes)
				})
				x.wantSeries(t, "3", "3")
				x.send(t, 4, 5)
				x.wantSeries(t, "4", "4")
			})
		}
	}
}

func TestDamagedSeriesLimits(t *testing.T) {
	x := newLimitTest(t, 3, 3)
	x.send(t, 1, 2)
	closeTest(t, x.Storage)
	rewrite(t, x.fs, x.seriesLimitsPath(), func(data []byte) { data[len(data)/2] ^= 1 })
	x.reopen(t, x.fs, func(*Config) {})
	x.wantSeries(t, "0", "0")
	wantLog(t, x.log, "series are counted anew")
}
