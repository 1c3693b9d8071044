package apitest

import (
	"maps"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/tsblock"
)

func (s *memorySeries) addHistogram(h model.Histogram) {
	if old, ok := s.histograms[h.Timestamp]; !ok || nativehistogram.Better(h.Payload, []byte(old)) {
		s.histograms[h.Timestamp] = string(h.Payload)
	}
}

// cutHistograms is cut for native histograms.
func (s *memorySeries) cutHistograms(r model.TimeRange) tsblock.HistogramSamples {
	var out tsblock.HistogramSamples
	for _, ts := range slices.Sorted(maps.Keys(s.histograms)) {
		if r.Contains(ts) {
			out.Append(ts, []byte(s.histograms[ts]))
		}
	}
	return out
}

// hasPartIn reports whether the filters select the series as what its native histograms show as: under names of their own, with labels of buckets.
func (s *memorySeries) hasPartIn(sets [][]compiledFilter) bool {
	for _, set := range sets {
		rest := slices.DeleteFunc(slices.Clone(set), func(f compiledFilter) bool { return f.Name == "vmrange" || f.Name == "le" })
		suffixes := []string{"_bucket", "_count", "_sum"}
		if len(rest) < len(set) {
			suffixes = append(suffixes, "")
		}
		if slices.ContainsFunc(suffixes, func(suffix string) bool { return matchesAny([][]compiledFilter{rest}, s.labelsOfPart(suffix)) }) {
			return true
		}
	}
	return false
}

// labelsOfPart returns the labels with a suffix behind the name.
func (s *memorySeries) labelsOfPart(suffix string) []model.Label {
	labels := slices.Clone(s.labels)
	for i := range labels {
		if labels[i].Name == model.MetricNameLabel {
			labels[i].Value += suffix
		}
	}
	return labels
}

// histogram is a native histogram as a reader sees it.
type histogram struct {
	ts      int64
	payload string
}

// mergeHistograms adds the native histograms of a block.
func mergeHistograms(merged map[int64]string, b *tsblock.Block, r model.TimeRange) error {
	var list tsblock.HistogramSamples
	if err := b.DecodeHistograms(&list); err != nil {
		return err
	}
	for i, ts := range list.Timestamps {
		if old, ok := merged[ts]; r.Contains(ts) && (!ok || nativehistogram.Better(list.Payloads[i], []byte(old))) {
			merged[ts] = string(list.Payloads[i])
		}
	}
	return nil
}

// testHistograms has series with samples, with native histograms and with both, and asks for them in every form.
func testHistograms(t *testing.T, e *env) {
	payload := func(bits uint64) []byte { return histogramtest.OfBits(bits) }
	ts := e.Base + 1000*secondMs
	var b model.Batch
	addTo(t, &b, model.TenantID{}, "latency{i=1}") // histograms only, one of them sent twice
	for i := range int64(5) {
		b.AddHistogram(ts+i*15*secondMs, payload(uint64(i)<<20))
	}
	b.AddHistogram(ts, payload(7<<30))
	addTo(t, &b, model.TenantID{}, "latency{i=2}", at(ts+15*secondMs, 1), at(ts-30*dayMs, 2))
	b.AddHistogram(ts, payload(5<<20))
	b.AddHistogram(ts-30*dayMs, payload(6<<20))
	addTo(t, &b, model.TenantID{}, "latency_count{i=3}", at(ts, 3)) // no histogram
	addTo(t, &b, model.TenantID{}, "requests", at(ts, 4))
	addTo(t, &b, model.TenantID{AccountID: 1}, "latency{i=4}")
	b.AddHistogram(ts, payload(8<<20))
	e.ingest(t, &b)

	hour := model.TimeRange{Min: e.Base, Max: e.Base + 3600*secondMs}
	best := string(payload(0))
	if again := string(payload(7 << 30)); nativehistogram.Better([]byte(again), []byte(best)) {
		best = again
	}
	e.twice(t, func() {
		q := &model.SearchQuery{Range: hour}
		e.wantKeys(t, q, "latency{i=2}", "latency_count{i=3}", "requests")
		q.KeysOnly = true
		e.wantKeys(t, q, "latency{i=1}", "latency{i=2}", "latency_count{i=3}", "requests")
		q.KeysOnly, q.Histograms = false, model.WithHistograms
		got := e.wantKeys(t, q, "latency{i=1}", "latency{i=2}", "latency_count{i=3}", "requests")
		first := []histogram{{ts, best}}
		for i := range int64(4) {
			first = append(first, histogram{ts + (i+1)*15*secondMs, string(payload(uint64(i+1) << 20))})
		}
		if len(got[0].samples) > 0 || !slices.Equal(got[0].histograms, first) {
			t.Errorf("the first series has %d samples and histograms %v", len(got[0].samples), got[0].histograms)
		}
		second := []histogram{{ts, string(payload(5 << 20))}}
		if !slices.Equal(got[1].samples, []sample{at(ts+15*secondMs, 1)}) || !slices.Equal(got[1].histograms, second) {
			t.Errorf("the second series has samples %v and histograms %v", got[1].samples, got[1].histograms)
		}
		q.Detail = model.NewestSample
		if got := e.wantKeys(t, q, "latency{i=1}", "latency{i=2}", "latency_count{i=3}", "requests"); !slices.Equal(got[0].histograms, first) {
			t.Errorf("beside the newest sample there are histograms %v", got[0].histograms)
		}
		q.Range, q.Detail = e.all(), model.AllSamples
		if got := e.wantKeys(t, q, "latency{i=1}", "latency{i=2}", "latency_count{i=3}", "requests"); len(got[1].histograms) != 2 || len(got[1].samples) != 2 {
			t.Errorf("over all time the second series has samples %v and histograms %v", got[1].samples, got[1].histograms)
		}
		q.Range = model.TimeRange{Min: ts + 1, Max: ts + 15*secondMs - 1} // between two
		e.wantKeys(t, q)
		e.histogramParts(t, hour)
	})
}

// histogramParts asks for the native histograms of testHistograms by the names of their parts.
func (e *env) histogramParts(t *testing.T, r model.TimeRange) {
	t.Helper()
	for _, c := range []struct {
		filters []string
		want    []string
	}{
		{[]string{"__name__=latency_count"}, []string{"latency{i=1}", "latency{i=2}", "latency_count{i=3}"}},
		{[]string{"__name__=latency_sum"}, []string{"latency{i=1}", "latency{i=2}"}},
		{[]string{"__name__=~latency_sum|requests"}, []string{"latency{i=1}", "latency{i=2}", "requests"}},
		{[]string{"__name__=~latency_(sum|count)", "__name__!=latency_sum", "i!=2"}, []string{"latency{i=1}", "latency_count{i=3}"}},
		{[]string{"__name__=latency_bucket", "vmrange=~.+", "i=2"}, []string{"latency{i=2}"}},
		{[]string{"__name__=latency_bucket", "le=0.5"}, []string{"latency{i=1}", "latency{i=2}"}},
		{[]string{"__name__=latency", "vmrange!=", "i=1"}, []string{"latency{i=1}"}},
		{[]string{"__name__=latency"}, []string{"latency{i=1}", "latency{i=2}"}},
		{[]string{"__name__=latency_max"}, nil},
		{[]string{"__name__=requests_count"}, nil},
		{[]string{"__name__=requests", "vmrange!="}, nil},
	} {
		sets := [][]model.TagFilter{filters(t, c.filters...)}
		got := e.wantKeys(t, &model.SearchQuery{Range: r, Filters: sets, Histograms: model.HistogramParts}, c.want...)
		for _, f := range got {
			if len(f.samples)+len(f.histograms) == 0 {
				t.Errorf("filters %v give %q without anything", c.filters, f.key)
			}
		}
		e.wantKeys(t, &model.SearchQuery{Range: model.TimeRange{Min: r.Max, Max: r.Max + dayMs/2}, Filters: sets, Histograms: model.HistogramParts})
	}
	both := [][]model.TagFilter{filters(t, "__name__=requests"), filters(t, "__name__=latency_sum", "i=1")}
	e.wantKeys(t, &model.SearchQuery{Range: r, Filters: both, Histograms: model.HistogramParts}, "latency{i=1}", "requests")
	e.wantKeys(t, &model.SearchQuery{Range: r, Filters: both, Histograms: model.WithHistograms}, "requests")
}

// wantKeys fails unless q selects these series, in any order, and returns them.
func (e *env) wantKeys(t *testing.T, q *model.SearchQuery, want ...string) []found {
	t.Helper()
	got := e.search(t, q)
	names := keys(t, got)
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Fatalf("%+v selects %q; want %q", *q, names, want)
	}
	return got
}
