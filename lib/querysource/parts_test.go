package querysource

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

var stale = math.Float64frombits(staleBits)

// stored is a series with samples and payloads of histograms by time.
type stored struct {
	labels     []model.Label
	samples    map[int64]float64
	histograms map[int64][]byte
}

// store answers searches for the parts of histograms as storage does.
type store struct {
	storageapi.Searcher
	series []stored
	asked  []model.SearchQuery
	open   int
}

// baseFilters returns the filters by which histograms are found whose parts a set selects.
func baseFilters(set []model.TagFilter) []model.TagFilter {
	var out []model.TagFilter
	for _, f := range set {
		if f.Name == model.RangeLabel || f.Name == "le" {
			continue
		}
		if f.Name == model.MetricNameLabel && f.Op == model.Equal {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				f.Value = strings.TrimSuffix(f.Value, suffix)
			}
		}
		out = append(out, f)
	}
	return out
}

func selects(t testing.TB, sets [][]model.TagFilter, labels []model.Label) bool {
	x, err := newExpander(&model.SearchQuery{Filters: sets})
	if err != nil {
		t.Fatal(err)
	}
	return x.selects(labels)
}

func (s *store) Search(_ context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	s.asked = append(s.asked, *q)
	s.open++
	it := &storeIterator{store: s, next: -1}
	var bases [][]model.TagFilter
	for _, set := range q.Filters {
		bases = append(bases, baseFilters(set))
	}
	for i := range s.series {
		x := &s.series[i]
		labels := slices.Clone(x.labels)
		key, err := model.AppendSeriesKey(nil, q.Tenant, labels)
		if err != nil {
			return nil, err
		}
		asked := q.Histograms == model.HistogramParts && len(x.histograms) > 0
		if found := selects(nil, q.Filters, x.labels); !found && !(asked && selects(nil, bases, x.labels)) {
			continue
		}
		it.list = append(it.list, storageapi.Series{Key: key, Blocks: x.blocks(asked)})
	}
	slices.SortFunc(it.list, func(a, b storageapi.Series) int { return bytes.Compare(a.Key, b.Key) })
	return it, nil
}

// blocks returns the series in small blocks.
func (x *stored) blocks(histograms bool) (blocks []tsblock.Block) {
	var samples tsblock.Samples
	for _, t := range slices.Sorted(maps.Keys(x.samples)) {
		if samples.Append(t, x.samples[t]); samples.Len() == 50 {
			_, b := tsblock.AppendEncode(nil, &samples)
			blocks = append(blocks, b)
			samples.Reset()
		}
	}
	if samples.Len() > 0 {
		_, b := tsblock.AppendEncode(nil, &samples)
		blocks = append(blocks, b)
	}
	if histograms {
		var h tsblock.HistogramSamples
		for _, t := range slices.Sorted(maps.Keys(x.histograms)) {
			h.Append(t, x.histograms[t])
		}
		blocks, _ = (&tsblock.Encoder{}).AppendHistogramBlocks(blocks, nil, &h)
	}
	tsblock.SortBlocks(blocks)
	return blocks
}

type storeIterator struct {
	store *store
	list  []storageapi.Series
	next  int
	err   error
}

func (it *storeIterator) Next() bool                 { it.next++; return it.next < len(it.list) }
func (it *storeIterator) At() *storageapi.Series     { return &it.list[it.next] }
func (it *storeIterator) Err() error                 { return it.err }
func (*storeIterator) Coverage() storageapi.Coverage { return storageapi.Coverage{} }
func (it *storeIterator) Close() error               { it.store.open--; return nil }

// text renders samples by time.
type text map[int64]string

func value(v float64) string {
	if isStale(v) {
		return "stale"
	}
	return fmt.Sprint(v)
}

// find returns what a search of the parts answers, by series.
func find(t testing.TB, s *store, q *model.SearchQuery, budget *memory.Budget) (map[string]text, error) {
	t.Helper()
	it, err := NewParts(s, budget).Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]text{}
	var last []byte
	for it.Next() {
		f := it.At()
		if bytes.Compare(last, f.Key) >= 0 {
			t.Errorf("%s is out of order", model.SeriesKeyString(f.Key))
		}
		last = bytes.Clone(f.Key)
		var samples tsblock.Samples
		if err := tsblock.ReadRange(&samples, f.Blocks, q.Range, 0, &tsblock.Scratch{}); err != nil {
			t.Fatal(err)
		}
		_, labels, err := model.ParseSeriesKey(nil, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		points := text{}
		for i, at := range samples.Timestamps {
			points[at] = value(samples.Values[i])
		}
		out[model.LabelsString(labels)] = points
	}
	err = it.Err()
	if closeErr := it.Close(); closeErr != nil {
		t.Error(closeErr)
	}
	if s.open != 0 {
		t.Errorf("%d searches are open", s.open)
	}
	return out, err
}

// want returns what the parts of all series have to be, by looking at one histogram after the other.
func want(t testing.TB, s *store, q *model.SearchQuery) map[string]text {
	t.Helper()
	out := map[string]text{}
	values := map[string]map[int64]float64{}
	add := func(labels []model.Label, added map[int64]float64) {
		if len(added) == 0 || !selects(t, q.Filters, labels) {
			return
		}
		name := labelsText(labels)
		if out[name] == nil {
			out[name], values[name] = text{}, map[int64]float64{}
		}
		for at, v := range added {
			if old, ok := values[name][at]; q.Range.Contains(at) && (!ok || tsblock.Better(v, old)) { // a series may be stored which is like a part
				out[name][at], values[name][at] = value(v), v
			}
		}
	}
	for i := range s.series {
		x := &s.series[i]
		add(x.labels, x.samples)
		for _, p := range partsOf(t, x, q.Range) {
			labels := renamed(x.labels, p.suffix, p.vmrange)
			if own := renamed(x.labels, "", p.vmrange); p.vmrange != "" && selects(t, q.Filters, own) {
				labels = own
			}
			add(labels, p.values)
		}
	}
	return out
}

func labelsText(labels []model.Label) string {
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, slices.Clone(labels))
	if err != nil {
		panic(err)
	}
	_, labels, _ = model.ParseSeriesKey(nil, key) // which has just been made
	return model.LabelsString(labels)
}

func renamed(labels []model.Label, suffix, vmrange string) (out []model.Label) {
	for _, l := range labels {
		if l.Name == model.MetricNameLabel {
			l.Value += suffix
		}
		out = append(out, l)
	}
	if vmrange != "" {
		out = append(out, model.Label{Name: model.RangeLabel, Value: vmrange})
	}
	return out
}

// naivePart is a part with a value at each time.
type naivePart struct {
	suffix, vmrange string
	values          map[int64]float64
}

func rangeText(r nativehistogram.Range) string {
	return string(nativehistogram.AppendVMRange(nil, r.Low, r.High))
}

// filled returns a histogram with the same buckets, of which none is empty.
func filled(h *nativehistogram.Histogram) *nativehistogram.Histogram {
	c := &nativehistogram.Histogram{Schema: h.Schema, Float: true, ZeroThreshold: h.ZeroThreshold, FloatZero: 1, CustomValues: h.CustomValues}
	c.Positive = nativehistogram.Buckets{Spans: h.Positive.Spans, Floats: slices.Repeat([]float64{1}, len(h.Positive.Counts)+len(h.Positive.Floats))}
	c.Negative = nativehistogram.Buckets{Spans: h.Negative.Spans, Floats: slices.Repeat([]float64{1}, len(h.Negative.Counts)+len(h.Negative.Floats))}
	return c
}

func partsOf(t testing.TB, x *stored, r model.TimeRange) (parts []naivePart) {
	t.Helper()
	count, sum := naivePart{suffix: "_count", values: map[int64]float64{}}, naivePart{suffix: "_sum", values: map[int64]float64{}}
	type moment struct {
		at     int64
		layout string
		counts map[string]float64
	}
	var moments []moment
	layouts, used := map[string]map[string]bool{}, map[string]bool{} // by range
	for at, payload := range x.histograms {
		if !r.Contains(at) {
			continue
		}
		var h nativehistogram.Histogram
		if err := h.Parse(payload); err != nil {
			t.Fatal(err)
		}
		m := moment{at: at}
		if !isStale(h.Sum) {
			m.layout, m.counts = fmt.Sprint(h.Schema, h.ZeroThreshold, h.CustomValues), map[string]float64{}
			count.values[at], sum.values[at] = h.Total(), h.Sum
			for _, b := range h.AppendRanges(nil) {
				m.counts[rangeText(b)] += b.Count
				used[rangeText(b)] = true
			}
			for _, b := range filled(&h).AppendRanges(nil) {
				if layouts[rangeText(b)] == nil {
					layouts[rangeText(b)] = map[string]bool{}
				}
				layouts[rangeText(b)][m.layout] = true
			}
		}
		moments = append(moments, m)
	}
	for at, v := range x.samples {
		if _, both := x.histograms[at]; isStale(v) && r.Contains(at) && !both {
			moments = append(moments, moment{at: at})
		}
	}
	slices.SortFunc(moments, func(a, b moment) int { return int(a.at - b.at) })
	for name := range used {
		p := naivePart{suffix: "_bucket", vmrange: name, values: map[int64]float64{}}
		alive := false
		for _, m := range moments {
			n, has := m.counts[name]
			switch {
			case has || m.counts != nil && layouts[name][m.layout]:
				p.values[m.at], alive = n, true
			case alive:
				p.values[m.at], alive = stale, false
			}
		}
		parts = append(parts, p)
	}
	for _, p := range []naivePart{count, sum} {
		alive := false
		for _, m := range moments {
			if m.counts != nil {
				alive = true
			} else if alive {
				p.values[m.at], alive = stale, false
			}
		}
		parts = append(parts, p)
	}
	return parts
}

func filter(name, value string, op model.FilterOp) model.TagFilter {
	return model.TagFilter{Name: name, Value: value, Op: op}
}

var partsFilters = [][][]model.TagFilter{
	nil,
	{{filter("__name__", "x", model.Equal)}},
	{{filter("__name__", "x_bucket", model.Equal)}},
	{{filter("__name__", "x_count", model.Equal)}, {filter("__name__", "x_sum", model.Equal)}},
	{{filter("__name__", "x_bucket", model.Equal), filter("vmrange", "1.*", model.Regexp)}},
	{{filter("__name__", "x", model.Equal), filter("vmrange", "", model.NotEqual), filter("job", "a", model.NotEqual)}},
	{{filter("job", "a", model.Equal)}},
	{{filter("__name__", "x.*", model.Regexp), filter("zone_of_long_name", "", model.NotEqual)}},
	{{filter("__name__", "nosuch_count", model.Equal)}},
}

// randomStore has series with samples, with histograms, with both, and a part that was stored as it is.
func randomStore(rng *rand.Rand) *store {
	s := &store{}
	for i, job := range []string{"a", "b", "c", "d"} {
		for _, name := range []string{"x", "y", "x_count", "z"} {
			x := stored{labels: []model.Label{{Name: model.MetricNameLabel, Value: name}, {Name: "job", Value: job}}, samples: map[int64]float64{}, histograms: map[int64][]byte{}}
			if i == 2 {
				x.labels = append(x.labels, model.Label{Name: "zone", Value: "z"})
			}
			kind := rng.IntN(3)
			if name == "x" {
				kind = 1 + rng.IntN(2)
			}
			var sources []*histogramtest.Source
			for range 1 + rng.IntN(2) {
				sources = append(sources, histogramtest.New(rng, histogramtest.Kind(rng.IntN(histogramtest.Kinds))))
			}
			for at := int64(0); at < 200; at++ {
				switch {
				case kind == 0 || kind == 2 && rng.IntN(9) == 0:
					x.samples[at*1000] = float64(rng.IntN(9))
				case rng.IntN(20) == 0:
					x.samples[at*1000] = stale
				}
				if kind > 0 && rng.IntN(20) > 0 {
					h := sources[int(at)*len(sources)/200].Next()
					if rng.IntN(20) == 0 {
						h.Sum = stale
					}
					x.histograms[at*1000] = h.Append(nil)
				}
			}
			s.series = append(s.series, x)
		}
	}
	return s
}

// TestParts: whatever the histograms, filters and range, the parts are what one gets by looking at one histogram after the other.
func TestParts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	parts := 0
	for range 2 {
		s := randomStore(rng)
		for _, filters := range partsFilters {
			q := &model.SearchQuery{Range: model.TimeRange{Min: rng.Int64N(100_000), Max: 100_000 + rng.Int64N(100_000)}, Filters: filters}
			budget := memory.NewBudget(1 << 30)
			got, err := find(t, s, q, budget)
			if err != nil {
				t.Fatal(err)
			}
			if budget.Used() != 0 {
				t.Errorf("%d bytes are still reserved", budget.Used())
			}
			want := want(t, s, q)
			for name, points := range want {
				if !maps.Equal(got[name], points) {
					t.Fatalf("%v: %s has\n%v, want\n%v", filters, name, got[name], points)
				}
				parts++
			}
			for name := range got {
				if want[name] == nil && len(got[name]) > 0 {
					t.Fatalf("%v: %s is not wanted: %v", filters, name, got[name])
				}
			}
		}
	}
	if parts < 100 {
		t.Errorf("%d parts were seen only", parts)
	}
}

// TestPartsStoredBefore: parts which were stored as they are continue in those of histograms.
func TestPartsStoredBefore(t *testing.T) {
	h := &nativehistogram.Histogram{Count: 3, Sum: 4, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Length: 1}}, Counts: []uint64{3}}}
	s := &store{series: []stored{
		{labels: []model.Label{{Name: model.MetricNameLabel, Value: "x"}}, histograms: map[int64][]byte{3000: h.Append(nil)}},
		{labels: []model.Label{{Name: model.MetricNameLabel, Value: "x_bucket"}, {Name: model.RangeLabel, Value: "5.000e-01...1.000e+00"}}, samples: map[int64]float64{1000: 1, 2000: 2}},
	}}
	got, err := find(t, s, &model.SearchQuery{Range: model.TimeRange{Max: 9000}, Filters: [][]model.TagFilter{{filter("__name__", "x_bucket", model.Equal)}}}, nil)
	if err != nil || len(got) != 1 || !maps.Equal(got[`x_bucket{vmrange="5.000e-01...1.000e+00"}`], text{1000: "1", 2000: "2", 3000: "3"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestPartsOfLongSeries: parts longer than a block have zeros also in the blocks before their first count.
func TestPartsOfLongSeries(t *testing.T) {
	const n = tsblock.MaxSamplesPerBlock + 100
	x := stored{labels: []model.Label{{Name: model.MetricNameLabel, Value: "x"}}, histograms: map[int64][]byte{}}
	for i := range int64(n) {
		h := &nativehistogram.Histogram{Count: 1, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Length: 1}}, Counts: []uint64{1}}}
		if i == n-1 {
			h = &nativehistogram.Histogram{Count: 2, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Length: 2}}, Counts: []uint64{1, 1}}}
		}
		x.histograms[i*1000] = h.Append(nil)
	}
	s := &store{series: []stored{x}}
	q := &model.SearchQuery{Range: model.TimeRange{Max: n * 1000}, Filters: [][]model.TagFilter{{filter("__name__", "x", model.Equal)}}}
	got, err := find(t, s, q, nil)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d parts, %v", len(got), err)
	}
	for name, points := range want(t, s, q) {
		if len(points) != n || !maps.Equal(got[name], points) {
			t.Errorf("%s has %d points, want %d, or others", name, len(got[name]), len(points))
		}
	}
}

func TestPartsLimits(t *testing.T) {
	s := randomStore(rand.New(rand.NewPCG(1, 1)))
	q := &model.SearchQuery{Range: model.TimeRange{Max: 200_000}, MaxSeries: 17}
	if got, err := find(t, s, q, nil); errkind.Of(err) != errkind.Unprocessable || len(got) != 17 {
		t.Errorf("%d parts within a limit of 17: %v", len(got), err)
	}
	q.MaxSeries = 0
	budget := memory.NewBudget(1000)
	if _, err := find(t, s, q, budget); errkind.Of(err) != errkind.Overloaded || budget.Used() != 0 {
		t.Errorf("parts within 1000 bytes: %v; %d bytes are still reserved", err, budget.Used())
	}
	q.KeysOnly = true
	if got, err := find(t, s, q, nil); err != nil || len(got) != len(s.series) || s.asked[len(s.asked)-1].Histograms != model.NoHistograms {
		t.Errorf("%d keys of %d series: %v", len(got), len(s.series), err)
	}
	broken := &store{series: []stored{{labels: []model.Label{{Name: "a", Value: "b"}}, histograms: map[int64][]byte{1000: []byte("?")}}}}
	q.KeysOnly = false
	if _, err := find(t, broken, q, nil); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a damaged histogram: %v", err)
	}
}

// TestFragmentsOfHistograms: a store does not evaluate fragments over series with native histograms.
func TestFragmentsOfHistograms(t *testing.T) {
	h := &nativehistogram.Histogram{Count: 3, Sum: 4, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Length: 1}}, Counts: []uint64{3}}}
	s := &store{series: []stored{
		{labels: []model.Label{{Name: model.MetricNameLabel, Value: "x"}}, histograms: map[int64][]byte{3000: h.Append(nil)}},
		{labels: []model.Label{{Name: model.MetricNameLabel, Value: "y_count"}}, samples: map[int64]float64{3000: 2}},
	}}
	reducer := NewReducer(ReducerOptions{Searcher: s, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	for name, declined := range map[string]bool{"x": true, "x_count": true, "y_count": false} {
		f := &fragment.Fragment{Function: "last_over_time", Start: 4000, End: 4000, Step: 1000, Window: 3000, Aggregate: "sum",
			Search: model.SearchQuery{Range: model.TimeRange{Max: 4000}, Filters: [][]model.TagFilter{{filter("__name__", name, model.Equal)}}}}
		r, err := reducer.Reduce(t.Context(), f)
		if err != nil || (len(r.Results) == 0) != declined {
			t.Errorf("%s: %d results, %v", name, len(r.Results), err)
		}
		if s.open != 0 {
			t.Errorf("%s: %d searches are open", name, s.open)
		}
	}
}
