package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// seedVariable replays one history, minutesVariable sets how long `make crash-long` runs.
const (
	seedVariable    = "VMCLUSTER_CRASH_SEED"
	minutesVariable = "VMCLUSTER_CRASH_MINUTES"
)

// wantPoints is the number of crashes that a run of the tests recovers from.
const wantPoints = 2000

// steps is the length of a history. The race detector takes many times as long for one.
func steps() int {
	if testing.Short() {
		return 40
	}
	return 120
}

// live runs the history of a seed and returns what has happened in it.
func live(t *testing.T, seed uint64) (done tally) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		w.addOptions()
		w.crashes.every = 12
		w.run(steps())
		done = w.done
	})
	return done
}

// tally counts what has happened in histories.
type tally struct {
	crashes    int // recovered from
	deletions  int // of series
	snapshots  int // opened after a crash
	columns    int // entries of columns of aggregates
	shortened  int // looks at series with a retention of their own
	duplicates int // samples which were missing since a later one stands for them
}

func (t *tally) add(o tally) {
	t.crashes += o.crashes
	t.deletions += o.deletions
	t.snapshots += o.snapshots
	t.columns += o.columns
	t.shortened += o.shortened
	t.duplicates += o.duplicates
}

// varied tells whether series were deleted and downsampled, and snapshots opened.
func (t *tally) varied() bool { return t.deletions > 0 && t.snapshots > 0 && t.columns > 0 }

// TestCrashPoints lives through random histories and cuts the power at thousands of file operations: recovery opens, everything acknowledged
// is there, nothing is that was not sent.
func TestCrashPoints(t *testing.T) {
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("bad %s: %s", seedVariable, err)
		}
		t.Logf("%+v", live(t, seed))
		return
	}
	want := wantPoints
	if testing.Short() {
		want /= 10
	}
	done, histories := tally{}, 0
	// Half of the histories downsample, so that a few in a row may do without.
	const most = 25
	for (done.crashes < want || !testing.Short() && !done.varied()) && histories < most && !t.Failed() {
		done.add(live(t, rand.Uint64()))
		histories++
	}
	t.Logf("%d histories: %+v", histories, done)
	if histories == most && !t.Failed() {
		t.Errorf("%d histories had %d crashes; all kinds of things happened: %v", histories, done.crashes, done.varied())
	}
	fmt.Printf("crash points: %d in %d histories\n", done.crashes, histories)
}

// TestCrashSeeds lives through histories which once failed, or which are interesting for what happens in them.
func TestCrashSeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("short histories do not get as far")
	}
	for _, seed := range []uint64{
		5, 10, // a full disk stopped the log for good
		8, 9, // a full disk kept the storage from opening
		23, // many searches between flushes that the log asks for
	} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { live(t, seed) })
	}
}

// TestCrashLong goes on for as many minutes as the environment says: make crash-long.
func TestCrashLong(t *testing.T) {
	text := os.Getenv(minutesVariable)
	if text == "" {
		t.Skipf("run it with `make crash-long MINUTES=60`, which sets %s", minutesVariable)
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("bad %s: %s", minutesVariable, err)
	}
	done, histories, start := tally{}, 0, time.Now()
	for last := start; time.Since(start) < time.Duration(minutes*float64(time.Minute)) && !t.Failed(); histories++ {
		done.add(live(t, rand.Uint64()))
		if time.Since(last) > time.Minute {
			fmt.Printf("%s: recovered from %d crashes in %d histories\n", time.Since(start).Round(time.Second), done.crashes, histories)
			last = time.Now()
		}
	}
	fmt.Printf("crash points: %d in %d histories, %s\n", done.crashes, histories, time.Since(start).Round(time.Second))
}

// BenchmarkRecovery measures the start after a kill with a million samples in the log.
func BenchmarkRecovery(b *testing.B) {
	const series, rounds = 1000, 1000
	mem := memfs.New(memfs.Options{})
	cfg := storage.DefaultConfig(worldPath)
	cfg.LogMaxBytes = 1 << 30
	now := time.Date(2026, 3, 10, 8, 0, 0, 0, time.UTC)
	options := func(fsys vfs.FS) storage.Options {
		return storage.Options{FS: fsys, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(4 << 30), Now: func() time.Time { return now }}
	}
	faulty := faultfs.New(mem)
	s, err := storage.Open(cfg, options(faulty))
	if err != nil {
		b.Fatal(err)
	}
	for r := range rounds {
		batch := &model.Batch{}
		for i := range series {
			if err := batch.AddSeries(feedTenant(0), feedLabels(i)); err != nil {
				b.Fatal(err)
			}
			batch.AddSample(now.UnixMilli()-int64(rounds-r)*15_000, float64(r*i%1000))
		}
		if err := s.Ingest(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	kill(faulty, s)
	var cpu time.Duration
	b.ResetTimer()
	for range b.N {
		cpu -= cpuTime(b)
		faulty := faultfs.New(mem)
		s, err := storage.Open(cfg, options(faulty))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cpu += cpuTime(b)
		kill(faulty, s)
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N)/(series*rounds), "cpu-ns/sample")
}

// cpuTime returns the time this process has had on a CPU.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
