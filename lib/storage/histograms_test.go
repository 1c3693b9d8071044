package storage

import (
	"context"
	"math"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs/memfs"
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

// onlyHistograms returns a batch with a series, to which histograms can be added.
func onlyHistograms(t *testing.T, name string) *model.Batch {
	t.Helper()
	b := &model.Batch{}
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: name}}); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHistogramsOutsideOfLimits are too large, too old or too new, and leave nothing.
func TestHistogramsOutsideOfLimits(t *testing.T) {
	o, log := logged(t, memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), o)
	defer closeTest(t, s)
	now := testNow().UnixMilli()
	b := onlyHistograms(t, "latency")
	for _, size := range []int{0, tsblock.MaxHistogramBytes + 1} {
		b.AddHistogram(now, make([]byte, size))
	}
	b.AddHistogram(now-10_000*dayMs, []byte{1})
	b.AddHistogram(now+10_000*dayMs, []byte{1})
	ingest(t, s, b)
	wantMetrics(t, o.Metrics, map[string]string{
		`vm_rows_ignored_total{reason="too_large_histogram"}`: "2",
		`vm_rows_ignored_total{reason="small_timestamp"}`:     "1",
		`vm_rows_ignored_total{reason="big_timestamp"}`:       "1",
		"vm_new_timeseries_created_total":                     "0",
		"vm_native_histograms":                                "0",
	})
	wantLog(t, log, "ignoring a native histogram of tenant 0:0 latency", "the limit is 262144; use fewer buckets")
	b = onlyHistograms(t, "latency")
	b.AddHistogram(now, make([]byte, tsblock.MaxHistogramBytes)) // is no histogram, but that is not known here
	ingest(t, s, b)
	it, err := s.Search(context.Background(), &model.SearchQuery{Range: allTime(), Histograms: model.WithHistograms})
	if err != nil || !it.Next() {
		t.Fatalf("the largest histogram is not found: %v", err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestUnknownFormOfHistograms is asked for by a later release.
func TestUnknownFormOfHistograms(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	if _, err := s.Search(context.Background(), &model.SearchQuery{Range: allTime(), Histograms: model.HistogramParts + 1}); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("got %v", err)
	}
}

// TestBaseFilters is which native histograms filters mean by the names of parts.
func TestBaseFilters(t *testing.T) {
	name := func(op model.FilterOp, value string) model.TagFilter {
		return model.TagFilter{Name: model.MetricNameLabel, Op: op, Value: value}
	}
	host := model.TagFilter{Name: "host", Op: model.NotEqual, Value: "a"}
	vmrange := model.TagFilter{Name: "vmrange", Op: model.Regexp, Value: ".+"}
	for _, c := range []struct {
		set  []model.TagFilter
		want string // of the name; empty for none
		rest int
	}{
		{set: []model.TagFilter{name(model.Equal, "x_count"), host}, want: "x", rest: 1},
		{set: []model.TagFilter{host, vmrange, name(model.Equal, "x.y_bucket")}, want: `x\.y_bucket|x\.y`, rest: 1},
		{set: []model.TagFilter{name(model.Regexp, "x_(sum|max|count)"), name(model.NotEqual, "x_sum")}, want: "x"},
		{set: []model.TagFilter{name(model.Equal, "x"), vmrange}, want: "x"},
		{set: []model.TagFilter{name(model.Equal, "x"), {Name: "le", Op: model.Equal, Value: "1"}}, want: "x"},
		{set: []model.TagFilter{name(model.Equal, "x"), host}},
		{set: []model.TagFilter{name(model.Equal, "_count")}},
		{set: []model.TagFilter{name(model.NotEqual, "x_count")}},
		{set: []model.TagFilter{name(model.Regexp, ".*_count"), vmrange}},
		{set: []model.TagFilter{name(model.Equal, "x_count"), name(model.Regexp, "(")}},
		{set: []model.TagFilter{vmrange}},
		{},
	} {
		got := baseFilters([][]model.TagFilter{c.set})
		switch {
		case c.want == "" && len(got) == 0:
		case len(got) != 1 || got[0][0] != name(model.Regexp, c.want) || len(got[0]) != 1+c.rest:
			t.Errorf("%v became %v; want the name %q", c.set, got, c.want)
		}
	}
}
