package partition

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

const testStart = int64(1_700_000_000_000)

func openPartition(t testing.TB, fsys vfs.FS, dir string, minIntervalMs int64) *Partition {
	t.Helper()
	set := metrics.NewSet()
	stats := &Counters{CorruptParts: set.Counter("corrupt"), Deduplicated: set.Counter("deduplicated")}
	for _, c := range []*MergeCounters{&stats.Small, &stats.Big} {
		c.Merges, c.Rows, c.Deleted = set.Counter("merges"), set.Counter("rows"), set.Counter("deleted")
	}
	p, err := Open(Options{FS: fsys, DataDir: dir, Month: MonthOf(testStart), Logger: logger.Discard(), Metrics: set, Stats: stats, MinIntervalMs: minIntervalMs})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// addSeries registers series of some metrics of two tenants.
func addSeries(t testing.TB, p *Partition, series, metrics int) {
	t.Helper()
	for i := range series {
		key, err := model.AppendSeriesKey(nil, model.TenantID{AccountID: uint32(i % 2)}, []model.Label{
			{Name: model.MetricNameLabel, Value: fmt.Sprintf("node_some_metric_name_%d_total", i%metrics)},
			{Name: "instance", Value: fmt.Sprintf("host-%d.example.com:9100", i/metrics)}, {Name: "job", Value: "node-exporter"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if id, created, _ := p.Index().Add(model.HashSeriesKey(key), key); int(id) != i || !created {
			t.Fatalf("series %d has id %d, %t", i, id, created)
		}
	}
}

// read returns the samples of a series in the heads and parts of p.
func read(t *testing.T, p *Partition, id uint32, r model.TimeRange, minIntervalMs int64) tsblock.Samples {
	t.Helper()
	v := p.View(r)
	defer v.Release()
	var buf []byte
	blocks, err := v.AppendBlocks(nil, &buf, id, r, false)
	if err != nil {
		t.Fatal(err)
	}
	var s tsblock.Samples
	var scratch tsblock.Scratch
	if err := tsblock.ReadRange(&s, blocks, r, minIntervalMs, &scratch); err != nil {
		t.Fatal(err)
	}
	return s
}

func equalSamples(a, b *tsblock.Samples) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Values {
		if a.Timestamps[i] != b.Timestamps[i] || math.Float64bits(a.Values[i]) != math.Float64bits(b.Values[i]) {
			return false
		}
	}
	return true
}

// TestFlushKeepsSamples compares what is read before and after flushes, with series that are scraped
// together, have gaps, late samples and times of their own.
func TestFlushKeepsSamples(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, minIntervalMs := range []int64{0, 60_000} {
		rng := rand.New(rand.NewPCG(seed, 0))
		p := openPartition(t, memfs.New(memfs.Options{}), "/", minIntervalMs)
		const series = 40
		addSeries(t, p, series, 7)
		keep := p.Month().Range()
		keep.Min = testStart + 100_000
		for range 3 {
			appendRandom(p, rng, series)
			var before []tsblock.Samples
			for id := range uint32(series) {
				before = append(before, read(t, p, id, keep, minIntervalMs))
			}
			p.Freeze()
			if _, err := p.FlushFrozen(context.Background(), keep); err != nil {
				t.Fatal(err)
			}
			for id := range uint32(series) {
				if after := read(t, p, id, p.Month().Range(), minIntervalMs); !equalSamples(&before[id], &after) {
					t.Fatalf("series %d has %d samples after a flush; want %d", id, after.Len(), before[id].Len())
				}
			}
			if s := p.Stats(); s.HeadRows != 0 || s.HeadBytes != 0 {
				t.Fatalf("the head has %d samples and %d bytes after a flush", s.HeadRows, s.HeadBytes)
			}
		}
		if err := p.MergeAll(context.Background(), keep, math.MaxInt64); err != nil {
			t.Fatal(err)
		}
		if err := p.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

func appendRandom(p *Partition, rng *rand.Rand, series int) {
	var d head.Delta
	d.Reset()
	for round := range int64(60) {
		for id := range uint32(series) {
			ts := testStart + round*15_000
			switch rng.IntN(12) {
			case 0:
				continue
			case 1:
				if id%5 == 0 {
					ts -= rng.Int64N(300_000)
				}
			case 2, 3, 4:
				if id%3 == 0 {
					ts += rng.Int64N(100)
				}
			}
			v := float64(id)
			if id%2 == 0 {
				v = float64(rng.IntN(1000)) / 10
			}
			p.Head().Append(id, []model.Sample{{Timestamp: ts, Value: v}}, &d)
		}
		p.Head().Add(&d)
		d.Reset()
	}
}

// TestPartOrder checks that the series of a metric come together, by id.
func TestPartOrder(t *testing.T) {
	p := openPartition(t, memfs.New(memfs.Options{}), "/", 0)
	defer p.Release()
	const series, metrics = 300, 10
	addSeries(t, p, series, metrics)
	var d head.Delta
	d.Reset()
	for id := range uint32(series) {
		p.Head().Append(id, []model.Sample{{Timestamp: testStart, Value: 1}}, &d)
	}
	p.Head().Add(&d)
	p.Freeze()
	if _, err := p.FlushFrozen(context.Background(), p.Month().Range()); err != nil {
		t.Fatal(err)
	}
	last, seen := -1, map[int]bool{}
	metric := func(id int) int { return id%2*metrics + id%metrics }
	p.mu.parts[0].Series(func(id uint32) bool {
		if last < 0 || metric(last) != metric(int(id)) {
			if seen[metric(int(id))] {
				t.Errorf("series %d comes behind other metrics", id)
			}
			seen[metric(int(id))] = true
		} else if int(id) < last {
			t.Errorf("series %d comes behind %d", id, last)
		}
		last = int(id)
		return true
	})
	for _, key := range [][]byte{nil, {1, 2}, make([]byte, model.TenantSize), append(make([]byte, model.TenantSize), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)} {
		if n := len(model.MetricOfKey(key)); n > len(key) {
			t.Errorf("the metric of %x has %d bytes", key, n)
		}
	}
}

// BenchmarkFlush writes an hour of series to a part. Half of them are constant, as those of exporters are.
func BenchmarkFlush(b *testing.B) {
	const series, rounds, metrics = 50_000, 240, 500
	p := openPartition(b, vfs.OS(), b.TempDir(), 0)
	addSeries(b, p, series, metrics)
	var before, after runtime.MemStats
	var allocated uint64
	for n := int64(0); b.Loop(); n++ {
		b.StopTimer()
		fillBench(p, testStart+n*rounds*15_000, series, rounds)
		p.Freeze()
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		if _, err := p.FlushFrozen(context.Background(), p.Month().Range()); err != nil {
			b.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		allocated += after.TotalAlloc - before.TotalAlloc
	}
	samples := float64(b.N) * series * rounds
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/samples, "ns/sample")
	b.ReportMetric(float64(allocated)/samples, "allocB/sample")
	b.ReportMetric(float64(p.Stats().Small.SizeBytes+p.Stats().Big.SizeBytes)/samples, "diskB/sample")
	if err := p.Release(); err != nil {
		b.Fatal(err)
	}
}

func fillBench(p *Partition, start int64, series, rounds int) {
	const templates = 256
	var columns [templates][]float64
	for i := range columns {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		last := math.Floor(r.ExpFloat64() * 1e6)
		for range rounds {
			switch i % 8 {
			case 0, 1, 2:
				last += math.Floor(r.ExpFloat64() * 40)
			case 3:
				last = math.Round(last*100+r.NormFloat64()*200) / 100
			}
			columns[i] = append(columns[i], last)
		}
	}
	var d head.Delta
	x := make([]model.Sample, 1)
	for round := range rounds {
		d.Reset()
		for id := range uint32(series) {
			ts := start + int64(round)*15_000 + int64(id/500)*7 // targets of 500 series
			x[0] = model.Sample{Timestamp: ts, Value: columns[id*7%templates][round]}
			p.Head().Append(id, x, &d)
		}
		p.Head().Add(&d)
	}
}
