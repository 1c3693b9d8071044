package storage

import (
	"context"
	"math"
	"strings"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// In the models a series' native histograms are a series of their own, and each is a number which its payload stands for. What is exported here
// is for the models of the package's other tests.

// HistogramsMark ends the keys of such series.
const HistogramsMark = "\xffhistograms"

// SeriesOf returns the key of the series, without the mark.
func SeriesOf(key string) string { return strings.TrimSuffix(key, HistogramsMark) }

// IsMarked reports whether a key is that of native histograms.
func IsMarked(key string) bool { return strings.HasSuffix(key, HistogramsMark) }

// BetterBits is the rule by which one of two samples of a time stays.
func BetterBits(key string, a, b uint64) bool {
	if IsMarked(key) {
		return nativehistogram.Better(histogramtest.OfBits(a), histogramtest.OfBits(b))
	}
	return tsblock.Better(math.Float64frombits(a), math.Float64frombits(b))
}

// ModelSamples calls f with the samples and native histograms of a batch, by the keys of the model.
func ModelSamples(t testing.TB, b *model.Batch, f func(key string, timestamp int64, bits uint64)) {
	t.Helper()
	for i := range b.Len() {
		key := string(b.Key(i))
		for _, x := range b.Samples(i) {
			f(key, x.Timestamp, math.Float64bits(x.Value))
		}
		for _, x := range b.AppendHistograms(nil, i) {
			bits, err := histogramtest.Bits(x.Payload)
			if err != nil {
				t.Fatal(err)
			}
			f(key+HistogramsMark, x.Timestamp, bits)
		}
	}
}

// addHistograms adds some to the last series of a batch.
func (g *generator) addHistograms(b *model.Batch, i int) {
	for range 1 + g.rng.IntN(5) {
		ts := g.cursor[i] - g.rng.Int64N(4)*15_000
		if g.rng.IntN(10) == 0 {
			ts = testNow().UnixMilli() - g.rng.Int64N(75*dayMs)
		}
		b.AddHistogram(ts, histogramtest.OfBits(g.rng.Uint64()>>g.rng.IntN(50)))
	}
}

// readHistograms adds the native histograms in r of the series of a tenant, and reports whether something is missing.
func readHistograms(t *testing.T, s storageapi.Searcher, q *model.SearchQuery, got map[string]map[int64]uint64) storageapi.Coverage {
	t.Helper()
	it, err := s.Search(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	var scratch tsblock.Scratch
	for it.Next() {
		var list tsblock.HistogramSamples
		if err := tsblock.ReadHistograms(&list, it.At().Blocks, q.Range, 0, &scratch); err != nil {
			t.Fatal(err)
		}
		if list.Len() == 0 {
			continue
		}
		key := string(it.At().Key) + HistogramsMark
		got[key] = map[int64]uint64{}
		for i, ts := range list.Timestamps {
			if got[key][ts], err = histogramtest.Bits(list.Payloads[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	cov := it.Coverage()
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return cov
}
