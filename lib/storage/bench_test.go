package storage

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/tsblock"
)

const (
	benchSeries = 110_000
	benchBatch  = 5000
)

// benchBatches returns batches with one sample for each series at ts.
func benchBatches(b *testing.B, series, perBatch int) []*model.Batch {
	var list []*model.Batch
	for i := range series {
		if i%perBatch == 0 {
			list = append(list, &model.Batch{})
		}
		labels := []model.Label{
			{Name: model.MetricNameLabel, Value: fmt.Sprintf("node_some_metric_name_%d_total", i%800)},
			{Name: "instance", Value: fmt.Sprintf("host-%d.example.com:9100", i/800)},
			{Name: "job", Value: "node-exporter"}, {Name: "datacenter", Value: "eu-west-1"}, {Name: "device", Value: fmt.Sprintf("dev%d", i%5)},
		}
		batch := list[len(list)-1]
		if err := batch.AddSeries(model.TenantID{}, labels); err != nil {
			b.Fatal(err)
		}
		batch.AddSample(0, 0)
	}
	return list
}

// setSamples gives every sample of the batch a timestamp and a value.
func setSamples(batch *model.Batch, ts int64, round int) {
	for i := range batch.Len() {
		batch.Samples(i)[0] = model.Sample{Timestamp: ts, Value: math.Floor(float64(round)*1.37*float64(i%11) + float64(i))}
	}
}

func openBench(b *testing.B) *Storage {
	cfg := testConfig()
	cfg.DataPath = b.TempDir()
	o := testOptions(nil)
	o.Budget = memory.NewBudget(4 << 30)
	return openTest(b, cfg, o)
}

// BenchmarkIngest takes one sample of each of 110 k known series per round.
func BenchmarkIngest(b *testing.B) {
	b.Run("keys", func(b *testing.B) { benchmarkIngest(b, benchBatches(b, benchSeries, benchBatch)) })
	b.Run("numbers", func(b *testing.B) {
		n := newNumbering()
		batches := benchBatches(b, benchSeries, benchBatch)
		for range 2 { // the second time the series are known
			for i := range batches {
				batches[i] = n.number(batches[i], nil)
			}
		}
		benchmarkIngest(b, batches)
	})
}

func benchmarkIngest(b *testing.B, batches []*model.Batch) {
	s := openBench(b)
	defer closeTest(b, s)
	start := testNow().UnixMilli() - dayMs
	round := 0
	write := func() {
		batch := batches[round%len(batches)]
		setSamples(batch, start+int64(round/len(batches))*15_000, round/len(batches))
		ingest(b, s, batch)
		round++
	}
	for range batches {
		write()
	}
	b.ReportAllocs()
	for b.Loop() {
		write()
	}
	st := s.sum()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchBatch), "ns/sample")
	b.ReportMetric(float64(st.HeadBytes)/float64(max(1, st.HeadSeries)), "B/series")
	b.ReportMetric(float64(s.log.SizeBytes())/float64(max(1, st.HeadRows)), "logB/sample")
}

// BenchmarkRegister takes the first sample of new series.
func BenchmarkRegister(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := openBench(b)
		batches := benchBatches(b, benchSeries, benchBatch)
		b.StartTimer()
		for _, batch := range batches {
			setSamples(batch, testNow().UnixMilli(), 1)
			ingest(b, s, batch)
		}
		b.StopTimer()
		closeTest(b, s)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchSeries), "ns/series")
}

// BenchmarkFlush moves an hour of 20 k series to a part.
func BenchmarkFlush(b *testing.B) {
	const series, rounds = 20_000, 240
	var bytes int64
	for b.Loop() {
		b.StopTimer()
		s := openBench(b)
		fill(b, s, series, rounds)
		b.StartTimer()
		if err := s.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		bytes = s.sum().Small.SizeBytes
		closeTest(b, s)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series*rounds), "ns/sample")
	b.ReportMetric(float64(bytes)/float64(series*rounds), "diskB/sample")
}

func fill(b *testing.B, s *Storage, series, rounds int) {
	batches := benchBatches(b, series, benchBatch)
	for round := range rounds {
		for _, batch := range batches {
			setSamples(batch, testNow().UnixMilli()-3_600_000+int64(round)*15_000, round)
			ingest(b, s, batch)
		}
	}
}

// BenchmarkSearch reads an hour of 1000 out of 50 k series, from the head and from a part.
func BenchmarkSearch(b *testing.B) {
	s := openBench(b)
	defer closeTest(b, s)
	fill(b, s, 50_000, 60)
	q := &model.SearchQuery{
		Range:   model.TimeRange{Min: testNow().UnixMilli() - 3_600_000, Max: testNow().UnixMilli()},
		Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Op: model.Regexp, Value: "node_some_metric_name_1.?_total"}}},
	}
	run := func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			searchOnce(b, s, q)
		}
	}
	b.Run("head", run)
	if err := s.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Run("part", run)
}

func searchOnce(b *testing.B, s *Storage, q *model.SearchQuery) {
	it, err := s.Search(context.Background(), q)
	if err != nil {
		b.Fatal(err)
	}
	var samples tsblock.Samples
	var scratch tsblock.Scratch
	series := 0
	for it.Next() {
		samples.Reset()
		if err := tsblock.ReadRange(&samples, it.At().Blocks, q.Range, 0, &scratch); err != nil {
			b.Fatal(err)
		}
		series++
	}
	if err := it.Err(); err != nil || series < 600 {
		b.Fatalf("%d series, %v", series, err)
	}
	if err := it.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRecovery opens a storage whose log holds 2.4 M samples of 20 k series.
func BenchmarkRecovery(b *testing.B) {
	const series, rounds = 20_000, 120
	s := openBench(b)
	fill(b, s, series, rounds)
	if err := s.log.Close(); err != nil { // as a crash does, nothing is flushed
		b.Fatal(err)
	}
	s.cancel()
	s.background.Wait()
	if err := s.lockFile.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r := newStorage(s.cfg, testOptions(nil))
		r.o.Budget = memory.NewBudget(4 << 30)
		if err := r.open(); err != nil {
			b.Fatal(err)
		}
		r.cancel()
		if err := r.closeFiles(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series*rounds), "ns/sample")
}

// BenchmarkHistograms takes and flushes an hour of 200 series with native histograms of some 60 buckets.
func BenchmarkHistograms(b *testing.B) {
	const series, rounds = 200, 240
	rng := rand.New(rand.NewPCG(1, 2))
	payloads := make([][][]byte, series)
	size := 0
	for i := range payloads {
		source := histogramtest.New(rng, histogramtest.Whole)
		source.Resets = 0
		source.Latencies()
		for range 400 {
			source.Next()
		}
		for range rounds {
			payloads[i] = append(payloads[i], source.Payload())
			size += len(payloads[i][len(payloads[i])-1])
		}
	}
	var head, log, disk int64
	var batch model.Batch
	b.ResetTimer()
	for b.Loop() {
		s := openBench(b)
		for round := range rounds {
			batch.Reset()
			for i := range series {
				if err := batch.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "latency"}, {Name: "i", Value: fmt.Sprint(i)}}); err != nil {
					b.Fatal(err)
				}
				batch.AddHistogram(testNow().UnixMilli()-3_600_000+int64(round)*15_000, payloads[i][round])
			}
			ingest(b, s, &batch)
		}
		head, log = s.sum().HeadBytes, s.log.SizeBytes()
		if err := s.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
		disk = s.sum().Small.SizeBytes
		closeTest(b, s)
	}
	for unit, n := range map[string]int64{"payloadB": int64(size), "headB": head, "logB": log, "diskB": disk, "ns": b.Elapsed().Nanoseconds() / int64(b.N)} {
		b.ReportMetric(float64(n)/(series*rounds), unit+"/histogram")
	}
}
