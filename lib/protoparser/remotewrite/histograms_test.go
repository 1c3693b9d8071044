package remotewrite

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	oracle "github.com/prometheus/prometheus/prompb"
	oracleV2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/protoparser"
)

// sent is a series of a request.
type sent struct {
	name       string
	samples    []oracle.Sample
	histograms []oracle.Histogram
}

func requestV1(t testing.TB, list []sent) []byte {
	t.Helper()
	var r oracle.WriteRequest
	for _, s := range list {
		r.Timeseries = append(r.Timeseries, oracle.TimeSeries{Labels: []oracle.Label{{Name: "__name__", Value: s.name}, {Name: "job", Value: "j"}}, Samples: s.samples, Histograms: s.histograms})
	}
	body, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

func requestV2(t testing.TB, list []sent) []byte {
	t.Helper()
	r := oracleV2.Request{Symbols: []string{"", "__name__", "job", "j"}}
	for _, s := range list {
		x := oracleV2.TimeSeries{LabelsRefs: []uint32{1, uint32(len(r.Symbols)), 2, 3}}
		r.Symbols = append(r.Symbols, s.name)
		for _, sample := range s.samples {
			x.Samples = append(x.Samples, oracleV2.Sample{Value: sample.Value, Timestamp: sample.Timestamp})
		}
		for i := range s.histograms {
			x.Histograms = append(x.Histograms, histogramtest.MessageV2(&s.histograms[i]))
		}
		r.Timeseries = append(r.Timeseries, x)
	}
	body, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

// stored renders what reaches the sink: samples as parse does, histograms by their payloads.
func stored(b *model.Batch) (rows []string) {
	for i := range b.Len() {
		key := strings.TrimPrefix(model.SeriesKeyString(b.Key(i)), "tenant 0:0 ")
		for _, s := range b.Samples(i) {
			value := fmt.Sprint(s.Value)
			if math.Float64bits(s.Value) == math.Float64bits(staleMarker()) {
				value = "stale"
			}
			rows = append(rows, fmt.Sprintf("%s@%d=%s", key, s.Timestamp, value))
		}
		for _, h := range b.AppendHistograms(nil, i) {
			rows = append(rows, fmt.Sprintf("%s@%d=%x", key, h.Timestamp, h.Payload))
		}
	}
	return rows
}

// write parses requests of both versions twice, the second time with series that are known, and returns what each has stored, which is the same.
func write(t *testing.T, mode string, list []sent) (rows []string, result protoparser.Result, set *metrics.Set) {
	t.Helper()
	for version, body := range [][]byte{requestV1(t, list), requestV2(t, list)} {
		var c protoparser.Config
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		c.RegisterFlags(fs)
		if err := fs.Parse([]string{"-nativeHistograms=" + mode}); err != nil {
			t.Fatal(err)
		}
		set = metrics.NewSet()
		p := New(protoparser.New(protoparser.Options{Config: &c, Logger: logger.Discard(), Metrics: set}))
		for range 2 {
			var got []string
			r, err := p.Parse(&protoparser.Request{Body: bytes.NewReader(body), Encoding: "snappy", SymbolTable: version == 1, Sink: func(b *model.Batch) error {
				got = append(got, stored(b)...)
				return nil
			}})
			if err != nil || len(got) != r.Rows || rows != nil && (!slices.Equal(got, rows) || r != result) {
				t.Fatalf("version %d: %v, %+v, %v; want %v, %+v", version+1, got, r, err, rows, result)
			}
			rows, result = got, r
		}
	}
	return rows, result, set
}

func few() (list []sent, payloads []string) {
	h := nativehistogram.Histogram{Schema: 1, Count: 10, ZeroCount: 2, Sum: 12.5,
		Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: 3, Length: 3}}, Counts: []uint64{3, 0, 4}},
		Negative: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: 0, Length: 1}}, Counts: []uint64{1}}}
	f := nativehistogram.Histogram{Float: true, FloatCount: 1.5, Sum: 3, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: 1, Length: 1}}, Floats: []float64{1.5}}}
	end := nativehistogram.Histogram{Sum: staleMarker()}
	wrong := nativehistogram.Histogram{Count: 7}
	fine := nativehistogram.Histogram{Schema: 9, Count: 3, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: 1, Length: 3}}, Counts: []uint64{1, 1, 1}}}
	coarse := nativehistogram.Histogram{Schema: 8, Count: 3, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: 1, Length: 2}}, Counts: []uint64{2, 1}}}
	m := histogramtest.Message
	list = []sent{
		{name: "a", samples: []oracle.Sample{{Value: 1, Timestamp: 1_700_000_000_000}}},
		{name: "h", histograms: []oracle.Histogram{m(&h, 1_700_000_000_000), m(&wrong, 1_700_000_000_001)}},
		{name: "bad", histograms: []oracle.Histogram{m(&wrong, 5)}},
		{name: "both", samples: []oracle.Sample{{Value: 2, Timestamp: 7}}, histograms: []oracle.Histogram{m(&f, 8), m(&end, 9)}},
		{name: "fine", histograms: []oracle.Histogram{m(&fine, 6)}},
		{name: "z", samples: []oracle.Sample{{Value: 3, Timestamp: 1_700_000_000_000}}},
	}
	for _, x := range []*nativehistogram.Histogram{&h, &f, &coarse} {
		payloads = append(payloads, fmt.Sprintf("%x", x.Append(nil)))
	}
	return list, payloads
}

func TestStoreHistograms(t *testing.T) {
	list, payloads := few()
	rows, result, set := write(t, "store", list)
	want := []string{`a{job="j"}@1700000000000=1`, `h{job="j"}@1700000000000=` + payloads[0], `both{job="j"}@7=2`, `both{job="j"}@9=stale`,
		`both{job="j"}@8=` + payloads[1], `fine{job="j"}@6=` + payloads[2], `z{job="j"}@1700000000000=3`}
	if !slices.Equal(rows, want) {
		t.Errorf("got %q\nwant %q", rows, want)
	}
	if result.Histograms != 3 || result.Converted != 1 || result.Invalid != 2 || result.Dropped != 0 || !strings.Contains(result.Reason, "its count is 7") {
		t.Errorf("%+v", result)
	}
	for name, want := range map[string]uint64{
		`vm_rows_invalid_total{type="promremotewrite"}`:                 4,
		`vm_protoparser_rows_read_total{type="promremotewrite"}`:        18,
		`vm_rows_ignored_total{reason="native_histogram"}`:              0,
		`vm_protoparser_unmarshal_errors_total{type="promremotewrite"}`: 0,
	} {
		if got := set.Counter(name).Get(); got != want {
			t.Errorf("%s is %d; want %d", name, got, want)
		}
	}
}

func TestConvertHistograms(t *testing.T) {
	list, _ := few()
	rows, result, _ := write(t, "vmrange", list)
	want := []string{
		`a{job="j"}@1700000000000=1`, `h_count{job="j"}@1700000000000=10`, `h_sum{job="j"}@1700000000000=12.5`,
		`h_bucket{job="j",vmrange="-1.000e+00...-7.071e-01"}@1700000000000=1`, `h_bucket{job="j",vmrange="-0.000e+00...0.000e+00"}@1700000000000=2`,
		`h_bucket{job="j",vmrange="2.000e+00...2.828e+00"}@1700000000000=3`, `h_bucket{job="j",vmrange="4.000e+00...5.657e+00"}@1700000000000=4`,
		`both{job="j"}@7=2`, `both_count{job="j"}@8=1.5`, `both_sum{job="j"}@8=3`, `both_bucket{job="j",vmrange="1.000e+00...2.000e+00"}@8=1.5`,
		`both_count{job="j"}@9=stale`, `both_sum{job="j"}@9=stale`,
		`fine_count{job="j"}@6=3`, `fine_sum{job="j"}@6=0`, `fine_bucket{job="j",vmrange="1.000e+00...1.003e+00"}@6=2`, `fine_bucket{job="j",vmrange="1.003e+00...1.005e+00"}@6=1`,
		`z{job="j"}@1700000000000=3`,
	}
	if !slices.Equal(rows, want) {
		t.Errorf("got %q\nwant %q", rows, want)
	}
	if result.Histograms != 0 || result.Converted != 4 || result.Invalid != 2 || result.Dropped != 0 {
		t.Errorf("%+v", result)
	}
}

func TestDropHistograms(t *testing.T) {
	list, _ := few()
	rows, result, set := write(t, "drop", list)
	want := []string{`a{job="j"}@1700000000000=1`, `both{job="j"}@7=2`, `z{job="j"}@1700000000000=3`}
	if !slices.Equal(rows, want) || result != (protoparser.Result{Rows: 3}) {
		t.Errorf("%q, %+v; want %q", rows, result, want)
	}
	if n := set.Counter(`vm_rows_ignored_total{reason="native_histogram"}`).Get(); n != 12 {
		t.Errorf("%d are counted", n)
	}
}

// TestManyHistograms sends more than a batch holds, of random kinds, and of one series more than a batch holds.
func TestManyHistograms(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var list []sent
	var want []string
	for i := range 40 {
		s := sent{name: fmt.Sprintf("h%d", i)}
		source := histogramtest.New(rng, histogramtest.Kind(i%histogramtest.Kinds))
		n := rng.IntN(50)
		if i == 20 {
			n = 12_000
		}
		for at := range n {
			h := source.Next()
			s.histograms = append(s.histograms, histogramtest.Message(h, int64(at)))
			want = append(want, fmt.Sprintf(`%s{job="j"}@%d=%x`, s.name, at, h.Append(nil)))
		}
		list = append(list, s)
	}
	rows, result, _ := write(t, "store", list)
	if !slices.Equal(rows, want) || result.Histograms != len(want) {
		t.Errorf("%d rows, %+v; want %d", len(rows), result, len(want))
	}
}

// TestLargeHistograms sends histograms which are many megabytes together: batches stay small.
func TestLargeHistograms(t *testing.T) {
	h := nativehistogram.Histogram{Float: true}
	for i := range 8000 {
		h.Positive.Floats = append(h.Positive.Floats, float64(i)+0.1)
	}
	h.Positive.Spans = []nativehistogram.Span{{Length: 8000}}
	s := sent{name: "h"}
	for i := range 200 {
		s.histograms = append(s.histograms, histogramtest.Message(&h, int64(i)))
	}
	rows, largest := 0, 0
	p, _ := newParser(t)
	_, err := p.Parse(&protoparser.Request{Body: bytes.NewReader(requestV1(t, []sent{s})), Encoding: "snappy", Sink: func(b *model.Batch) error {
		rows, largest = rows+b.Rows(), max(largest, b.HistogramBytes())
		return nil
	}})
	if err != nil || rows != 200 || largest > 5<<20 {
		t.Errorf("%d rows, %d bytes in a batch, %v", rows, largest, err)
	}
}

func histogramsOf(n int) (list []sent) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		source := histogramtest.New(rng, histogramtest.Whole)
		source.Resets = 0
		source.Latencies()
		for range 200 {
			source.Next()
		}
		list = append(list, sent{name: fmt.Sprintf("h%d", i), histograms: []oracle.Histogram{histogramtest.Message(source.Next(), 1_700_000_000_000)}})
	}
	return list
}

// TestHistogramsCostNoAllocations: what is known costs none, however many histograms a request has.
func TestHistogramsCostNoAllocations(t *testing.T) {
	list := histogramsOf(500)
	for version, body := range [][]byte{requestV1(t, list), requestV2(t, list)} {
		p, _ := newParser(t)
		r := bytes.NewReader(body)
		req := &protoparser.Request{Body: r, Encoding: "snappy", SymbolTable: version == 1, Sink: func(*model.Batch) error { return nil }}
		n := testing.AllocsPerRun(20, func() {
			r.Reset(body)
			if result, err := p.Parse(req); err != nil || result.Histograms != 500 {
				t.Fatal(result, err)
			}
		})
		if n > 100 { // pools are emptied at any time
			t.Errorf("version %d: %v allocations", version+1, n)
		}
	}
}

func BenchmarkParseHistograms(b *testing.B) {
	list := histogramsOf(1000)
	for version, body := range [][]byte{requestV1(b, list), requestV2(b, list)} {
		b.Run(fmt.Sprintf("v%d", version+1), func(b *testing.B) {
			p, _ := newParser(b)
			r := bytes.NewReader(body)
			req := &protoparser.Request{Body: r, Encoding: "snappy", SymbolTable: version == 1, Sink: func(*model.Batch) error { return nil }}
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				if result, err := p.Parse(req); err != nil || result.Histograms != len(list) {
					b.Fatal(result, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/histogram")
		})
	}
}
