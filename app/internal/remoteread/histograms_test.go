package remoteread

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// mixed is a store of one series with samples and native histograms.
type mixed struct {
	storageapi.Searcher
	samples    tsblock.Samples
	histograms tsblock.HistogramSamples
}

func (m *mixed) Search(_ context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	it := &mixedIterator{}
	var err error
	if it.series.Key, err = model.AppendSeriesKey(nil, q.Tenant, []model.Label{{Name: model.MetricNameLabel, Value: "m"}}); err != nil {
		return nil, err
	}
	if m.samples.Len() > 0 {
		_, b := tsblock.AppendEncode(nil, &m.samples)
		it.series.Blocks = append(it.series.Blocks, b)
	}
	if q.Histograms == model.WithHistograms {
		it.series.Blocks, _ = (&tsblock.Encoder{}).AppendHistogramBlocks(it.series.Blocks, nil, &m.histograms)
	}
	return it, nil
}

type mixedIterator struct {
	series storageapi.Series
	done   bool
}

func (it *mixedIterator) Next() bool {
	first := !it.done
	it.done = true
	return first
}
func (it *mixedIterator) At() *storageapi.Series     { return &it.series }
func (*mixedIterator) Err() error                    { return nil }
func (*mixedIterator) Coverage() storageapi.Coverage { return storageapi.Coverage{} }
func (*mixedIterator) Close() error                  { return nil }

// randomMixed returns a store with runs of samples and histograms of all kinds, and what a reader has to get: payloads, or samples, by time.
func randomMixed(r *rand.Rand) (*mixed, map[int64][]byte, map[int64]float64) {
	m, histograms, samples := &mixed{}, map[int64][]byte{}, map[int64]float64{}
	source := histogramtest.New(r, histogramtest.Whole)
	float := false
	for i := range 1000 {
		at := int64(t0 + i*1000)
		if r.IntN(50) == 0 {
			float = r.IntN(3) == 0
			source = histogramtest.New(r, histogramtest.Kind(r.IntN(histogramtest.Kinds)))
		}
		both := r.IntN(30) == 0
		if float || both {
			v := float64(r.IntN(100))
			if r.IntN(20) == 0 {
				v = math.Float64frombits(0x7ff0000000000002)
			}
			m.samples.Append(at, v)
			samples[at] = v
		}
		if !float || both {
			p := source.Payload()
			m.histograms.Append(at, p)
			histograms[at] = p
			delete(samples, at)
		}
	}
	return m, histograms, samples
}

// payloadOf returns a histogram of Prometheus in our form, without its hint.
func payloadOf(h *histogram.Histogram, f *histogram.FloatHistogram) []byte {
	list := func(spans []histogram.Span) (out []nativehistogram.Span) {
		for _, s := range spans {
			out = append(out, nativehistogram.Span{Offset: s.Offset, Length: s.Length})
		}
		return out
	}
	counts := func(deltas []int64) (out []uint64) {
		n := int64(0)
		for _, d := range deltas {
			n += d
			out = append(out, uint64(n))
		}
		return out
	}
	var o nativehistogram.Histogram
	if h != nil {
		o = nativehistogram.Histogram{Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, Sum: h.Sum, Count: h.Count, ZeroCount: h.ZeroCount, CustomValues: h.CustomValues,
			Positive: nativehistogram.Buckets{Spans: list(h.PositiveSpans), Counts: counts(h.PositiveBuckets)},
			Negative: nativehistogram.Buckets{Spans: list(h.NegativeSpans), Counts: counts(h.NegativeBuckets)}}
	} else {
		o = nativehistogram.Histogram{Float: true, Schema: f.Schema, ZeroThreshold: f.ZeroThreshold, Sum: f.Sum, FloatCount: f.Count, FloatZero: f.ZeroCount, CustomValues: f.CustomValues,
			Positive: nativehistogram.Buckets{Spans: list(f.PositiveSpans), Floats: f.PositiveBuckets},
			Negative: nativehistogram.Buckets{Spans: list(f.NegativeSpans), Floats: f.NegativeBuckets}}
	}
	return o.Append(nil)
}

// ranges returns what is in a payload, whatever empty buckets it has: chunks may add some.
func ranges(t *testing.T, payload []byte) []nativehistogram.Range {
	t.Helper()
	var h nativehistogram.Histogram
	if err := h.Parse(payload); err != nil {
		t.Fatal(err)
	}
	return append(h.AppendRanges(nil), nativehistogram.Range{Low: float64(h.Schema), High: h.Sum, Count: h.Total()})
}

// check compares what was read with what was stored. Samples and histograms are by time.
type check struct {
	t          *testing.T
	histograms map[int64][]byte
	samples    map[int64]float64
	last       int64
	exact      bool // spans are those which were stored
}

func (c *check) next(at int64) {
	if at <= c.last {
		c.t.Fatalf("%d comes after %d", at, c.last)
	}
	c.last = at
}

func (c *check) sample(at int64, v float64) {
	c.t.Helper()
	if want, ok := c.samples[at]; !ok || math.Float64bits(v) != math.Float64bits(want) {
		c.t.Fatalf("sample %v at %d, want %v, %v", v, at, want, ok)
	}
	delete(c.samples, at)
}

func (c *check) histogram(at int64, h *histogram.Histogram, f *histogram.FloatHistogram) {
	c.t.Helper()
	want, ok := c.histograms[at]
	if !ok {
		c.t.Fatalf("there is a histogram at %d", at)
	}
	var stored nativehistogram.Histogram
	if err := stored.Parse(want); err != nil {
		c.t.Fatal(err)
	}
	if stored.Float != (f != nil) {
		c.t.Fatalf("the counts at %d are fractional: %v", at, f != nil)
	}
	got := payloadOf(h, f)
	stored.Hint = nativehistogram.UnknownReset
	if c.exact && !bytes.Equal(got, stored.Append(nil)) {
		c.t.Fatalf("at %d: got %x, want %x", at, got, want)
	}
	a, b := ranges(c.t, got), ranges(c.t, want)
	if len(a) != len(b) {
		c.t.Fatalf("at %d: got %v, want %v", at, a, b)
	}
	for i := range a {
		if a[i] != b[i] {
			c.t.Fatalf("at %d: got %v, want %v", at, a, b)
		}
	}
	delete(c.histograms, at)
}

func (c *check) end() {
	c.t.Helper()
	if len(c.histograms)+len(c.samples) > 0 {
		c.t.Fatalf("%d histograms and %d samples are missing", len(c.histograms), len(c.samples))
	}
}

// readMixed asks for a store's series.
func readMixed(t *testing.T, m *mixed, types []prompb.ReadRequest_ResponseType) []byte {
	t.Helper()
	e := newEnv(t)
	e.store.mixed = m
	w := e.post(t, &prompb.ReadRequest{AcceptedResponseTypes: types, Queries: []*prompb.Query{{StartTimestampMs: t0, EndTimestampMs: t0 + 3600_000, Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "m"}}}}}, "")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func TestHistogramSamples(t *testing.T) {
	r := newRand(t)
	for range 5 {
		m, histograms, samples := randomMixed(r)
		body, err := snappy.Decode(nil, readMixed(t, m, nil))
		if err != nil {
			t.Fatal(err)
		}
		var answer prompb.ReadResponse
		if err := answer.Unmarshal(body); err != nil {
			t.Fatal(err)
		}
		series := answer.Results[0].Timeseries[0]
		c := &check{t: t, histograms: histograms, samples: samples, exact: true}
		for _, s := range series.Samples {
			c.next(s.Timestamp)
			c.sample(s.Timestamp, s.Value)
		}
		c.last = 0
		for _, h := range series.Histograms {
			c.next(h.Timestamp)
			if h.IsFloatHistogram() {
				c.histogram(h.Timestamp, nil, h.ToFloatHistogram())
			} else {
				c.histogram(h.Timestamp, h.ToIntHistogram(), nil)
			}
		}
		c.end()
	}
}

func TestHistogramChunks(t *testing.T) {
	r := newRand(t)
	for range 5 {
		m, histograms, samples := randomMixed(r)
		c := &check{t: t, histograms: histograms, samples: samples}
		for _, frame := range readFrames(t, readMixed(t, m, streamed)) {
			for _, chunk := range frame.ChunkedSeries[0].Chunks {
				c.chunk(&chunk)
			}
		}
		c.end()
	}
}

// chunk takes the values of a chunk as a client does.
func (c *check) chunk(p *prompb.Chunk) {
	c.t.Helper()
	x, err := chunkenc.FromData(chunkenc.Encoding(p.Type), p.Data)
	if err != nil {
		c.t.Fatal(err)
	}
	first := true
	for it := x.Iterator(nil); ; first = false {
		kind := it.Next()
		if kind == chunkenc.ValNone {
			break
		}
		if at := it.AtT(); first && at != p.MinTimeMs {
			c.t.Fatalf("the chunk begins at %d and says %d", at, p.MinTimeMs)
		}
		c.next(it.AtT())
		switch kind {
		case chunkenc.ValHistogram:
			at, h := it.AtHistogram(nil)
			c.histogram(at, h, nil)
		case chunkenc.ValFloatHistogram:
			at, f := it.AtFloatHistogram(nil)
			c.histogram(at, nil, f)
		default:
			c.sample(it.At())
		}
	}
	if c.last != p.MaxTimeMs {
		c.t.Fatalf("the chunk ends at %d and says %d", c.last, p.MaxTimeMs)
	}
}
