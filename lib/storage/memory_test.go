package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs/memfs"
)

func TestIndexWatch(t *testing.T) {
	const limit = 1 << 30
	now := testNow()
	for _, x := range []struct {
		name   string
		bytes  int64
		series []int
		limit  int64
		want   int // the reading which makes it due; -1: none
	}{
		{"nothing new", 0, []int{0, 0, 0, 0, 0}, limit, -1},
		{"few", indexRestBytes - 1, []int{1000, 1000, 1000, 1000, 1000, 1000}, limit, -1},
		{"many, and no more come", indexRestBytes, []int{40_000, 64_000, 64_000, 64_000, 64_000}, limit, 4},
		{"many, and few more come", indexRestBytes, []int{64_000, 64_500, 64_600, 64_700}, limit, 3},
		{"many more come all the time", indexRestBytes, []int{64_000, 74_000, 84_000, 94_000, 104_000, 114_000}, limit, -1},
		{"its share of the memory", limit / indexShare, []int{1_000_000}, limit, 0},
		{"its share of little memory", indexRestBytes / 4, []int{9000}, 1 << 20, 0},
	} {
		var w indexWatch
		due := -1
		for i, n := range x.series {
			if w.due(x.bytes, n, x.limit, now) && due < 0 {
				due = i
			}
		}
		if due != x.want {
			t.Errorf("%s: due at reading %d; want %d", x.name, due, x.want)
		}
	}
	var w indexWatch
	w.failed(now)
	if w.due(limit, 1, limit, now.Add(flushRetry-1)) || !w.due(limit, 1, limit, now.Add(flushRetry)) {
		t.Error("the next try after a failure does not wait, or never comes")
	}
}

// TestNewSeriesAreFlushedApart: many new series go to the disk without their samples, which a crash does not mind.
func TestNewSeriesAreFlushedApart(t *testing.T) {
	o := testOptions(memfs.New(memfs.Options{}))
	o.Budget = memory.NewBudget(16 << 20)
	s := openTest(t, testConfig(), o)
	ingest(t, s, batchOf(t, 30_000, testNow().UnixMilli(), 1))
	index := s.table.Load().sorted[0].Index()
	eventually(t, "a flush of the index", func() bool {
		s.watch()
		_, n := index.HeadBytes()
		return n == 0
	})
	s.watch()
	if st := s.sum(); st.Small.Rows != 0 || st.HeadRows != 30_000 {
		t.Errorf("%d samples are in parts and %d in heads; want 0 and 30000", st.Small.Rows, st.HeadRows)
	}
	if n := s.tableBytes.Load() - int64(s.hot.sizeBytes()); n > 256<<10 {
		t.Errorf("%d bytes are still reserved for the index", n)
	}
	crashed := openTest(t, testConfig(), testOptions(o.FS.(*memfs.FS).Crash(rand.New(rand.NewPCG(1, 1)))))
	defer closeTest(t, crashed)
	closeTest(t, s)
	if got := readAll(t, crashed, allTime()); len(got) != 30_000 {
		t.Errorf("%d series after a crash; want 30000", len(got))
	}
}

// smallBatch returns samples of a part of the series, of values that compress badly.
func smallBatch(t *testing.T, from, n int, ts int64, rng *rand.Rand) *model.Batch {
	t.Helper()
	b := &model.Batch{}
	for i := from; i < from+n; i++ {
		err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "instance", Value: fmt.Sprintf("host-%d", i)}})
		if err != nil {
			t.Fatal(err)
		}
		b.AddSample(ts, rng.NormFloat64())
	}
	return b
}

// TestSmallBudget sends much more than the memory holds, as fast as it is taken: nothing is lost, what is accounted for stays
// near the limit, and who is refused is told to come again.
func TestSmallBudget(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const limit, series, scrapes, part = 6 << 20, 20_000, 12, 1000
	o := testOptions(memfs.New(memfs.Options{}))
	o.Budget = memory.NewBudget(limit)
	cfg := testConfig()
	cfg.TrackNames = false
	cfg.MaxUniqueTimeseries = series
	s := openTest(t, cfg, o)
	peak, refused := int64(0), 0
	for scrape := range int64(scrapes) {
		for from := 0; from < series; from += part {
			b := smallBatch(t, from, part, testNow().UnixMilli()+scrape*15_000, rng)
			eventually(t, "room for a batch", func() bool {
				err := s.Ingest(context.Background(), b)
				peak = max(peak, o.Budget.Used())
				if err != nil && errkind.Of(err) != errkind.Overloaded {
					t.Fatal(err)
				}
				if err != nil {
					refused++
				}
				return err == nil
			})
		}
	}
	t.Logf("peak %d of %d bytes; refused %d times, %s flushes", peak, limit, refused, metric(t, o.Metrics, "vm_storage_flushes_total"))
	if peak > limit*5/4 {
		t.Errorf("%d bytes are accounted for at the peak; %d are allowed", peak, limit)
	}
	closeTest(t, s)
	s = openTest(t, cfg, testOptions(o.FS)) // with memory enough to read all at once
	defer closeTest(t, s)
	rows := 0
	for _, samples := range readAll(t, s, allTime()) {
		rows += len(samples)
	}
	if rows != series*scrapes {
		t.Errorf("%d samples are stored; want %d", rows, series*scrapes)
	}
}
