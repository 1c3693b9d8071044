package querysource

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// fixed answers every search with the same series.
type fixed struct {
	storageapi.Searcher
	list []storageapi.Series
}

func (f *fixed) Search(context.Context, *model.SearchQuery) (storageapi.SeriesIterator, error) {
	return &storeIterator{store: &store{}, list: f.list, next: -1}, nil
}

// benchmarkSource returns a store of n series of 240 samples or histograms, 15 seconds apart.
func benchmarkSource(b *testing.B, n int, histograms bool) *fixed {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	f := &fixed{}
	for i := range n {
		key, err := model.AppendSeriesKey(nil, model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "x"}, {Name: "instance", Value: fmt.Sprintf("%06d", i)}})
		if err != nil {
			b.Fatal(err)
		}
		var samples tsblock.Samples
		var found tsblock.HistogramSamples
		source := histogramtest.New(rng, histogramtest.Whole)
		for k := range int64(240) {
			if histograms {
				found.Append(k*15_000, source.Payload())
			} else {
				samples.Append(k*15_000, float64(k))
			}
		}
		var block tsblock.Block
		if histograms {
			_, block = (&tsblock.Encoder{}).AppendHistograms(nil, &found)
		} else {
			_, block = tsblock.AppendEncode(nil, &samples)
		}
		f.list = append(f.list, storageapi.Series{Key: key, Blocks: []tsblock.Block{block}})
	}
	return f
}

func benchmarkSelect(b *testing.B, f *fixed, name string) {
	q := &model.SearchQuery{Range: model.TimeRange{Max: 240 * 15_000}, Filters: [][]model.TagFilter{{filter(model.MetricNameLabel, name, model.Equal)}}}
	source := New(f, nil, query.Reading{})
	b.ReportAllocs()
	series := 0
	for b.Loop() {
		it, err := source.Select(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		series = 0
		for it.Next() {
			series += len(it.At().Blocks)
		}
		if it.Err() != nil || it.Close() != nil {
			b.Fatal(it.Err())
		}
	}
	b.ReportMetric(float64(series), "blocks")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(f.list)), "ns/series")
}

// BenchmarkSelect reads series without native histograms.
func BenchmarkSelect(b *testing.B) { benchmarkSelect(b, benchmarkSource(b, 10_000, false), "x") }

// BenchmarkExpand makes the parts of native histograms.
func BenchmarkExpand(b *testing.B) {
	f := benchmarkSource(b, 100, true)
	for _, name := range []string{"x_bucket", "x_count"} {
		b.Run(name, func(b *testing.B) { benchmarkSelect(b, f, name) })
	}
}
