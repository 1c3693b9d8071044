package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func histogramBatch(t *testing.T, rng *rand.Rand, dense bool) (*Batch, [][]string) {
	t.Helper()
	var b Batch
	var want [][]string
	for i := range 20 {
		if err := b.AddSeries(TenantID{}, []Label{{MetricNameLabel, fmt.Sprint("m", i)}}); err != nil {
			t.Fatal(err)
		}
		var rows []string
		for k := range rng.IntN(3) {
			if dense || rng.IntN(4) == 0 {
				payload := fmt.Sprint("payload ", rng.IntN(1000))
				b.AddHistogram(int64(k), []byte(payload))
				rows = append(rows, fmt.Sprint(k, payload))
			}
			b.AddSample(int64(k), 1)
		}
		want = append(want, rows)
	}
	return &b, want
}

func histogramsOf(b *Batch, i int) (rows []string) {
	for _, h := range b.AppendHistograms(nil, i) {
		rows = append(rows, fmt.Sprint(h.Timestamp, string(h.Payload)))
	}
	return rows
}

// TestHistogramsOfBatches: each series has the native histograms it got, also in copies of all and of some series.
func TestHistogramsOfBatches(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 50 {
		b, want := histogramBatch(t, rng, round%2 == 0)
		var all, some Batch
		var indexes []uint32
		rows, histograms := 0, 0
		for i := range b.Len() {
			if got := histogramsOf(b, i); !slices.Equal(got, want[i]) || b.RowsOf(i) != len(b.Samples(i))+len(want[i]) {
				t.Fatalf("series %d has %q and %d rows; want %q", i, got, b.RowsOf(i), want[i])
			}
			rows, histograms = rows+b.RowsOf(i), histograms+len(want[i])
			all.Append(b, i)
			if rng.IntN(2) == 0 {
				indexes = append(indexes, uint32(i))
			}
		}
		some.AppendSome(b, indexes)
		for place, i := range indexes {
			if got := histogramsOf(&some, place); !slices.Equal(got, want[i]) || len(some.Samples(place)) != len(b.Samples(int(i))) {
				t.Fatalf("series %d of some has %q; want %q", place, got, want[i])
			}
		}
		for i := range all.Len() {
			if got := histogramsOf(&all, i); !slices.Equal(got, want[i]) {
				t.Fatalf("series %d of all has %q; want %q", i, got, want[i])
			}
		}
		if b.Rows() != rows || b.HistogramRows() != histograms || all.Rows() != rows || (b.HistogramBytes() > 0) != (histograms > 0) {
			t.Fatalf("%d rows, %d histograms of %d bytes; want %d and %d", b.Rows(), b.HistogramRows(), b.HistogramBytes(), rows, histograms)
		}
		last := 0
		for at := range b.HistogramRows() {
			series, h := b.HistogramAt(at)
			if series < last || !slices.Contains(want[series], fmt.Sprint(h.Timestamp, string(h.Payload))) {
				t.Fatalf("histogram %d is %v of series %d", at, h, series)
			}
			last = series
		}
		if b.Reset(); b.Rows() != 0 || b.HistogramBytes() != 0 {
			t.Fatal("a batch that was emptied has rows")
		}
	}
}

func TestAppendPartLabels(t *testing.T) {
	labels := []Label{{MetricNameLabel, "m"}, {"a", "1"}, {RangeLabel, "old"}}
	if got := LabelsString(AppendPartLabels(nil, labels, "_bucket", "0...1")); got != `m_bucket{a="1",vmrange="0...1"}` {
		t.Errorf("got %s", got)
	}
	if got := LabelsString(AppendPartLabels(nil, labels, "_sum", "")); got != `m_sum{a="1"}` {
		t.Errorf("got %s", got)
	}
	if labels[0].Value != "m" {
		t.Error("the labels have changed")
	}
}
