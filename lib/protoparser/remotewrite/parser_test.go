package remotewrite

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/golang/snappy"
	oracle "github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/protoparser"
)

func newParser(t testing.TB) (*Parser, *metrics.Set) {
	t.Helper()
	var c protoparser.Config
	c.RegisterFlags(flag.NewFlagSet("test", flag.ContinueOnError))
	set := metrics.NewSet()
	return New(protoparser.New(protoparser.Options{Config: &c, Logger: logger.Discard(), Metrics: set})), set
}

func parse(p *Parser, body []byte, encoding string) (rows []string, result protoparser.Result, err error) {
	result, err = p.Parse(&protoparser.Request{Body: bytes.NewReader(body), Encoding: encoding, Tenant: model.TenantID{AccountID: 1}, Sink: func(b *model.Batch) error {
		for i := range b.Len() {
			for _, s := range b.Samples(i) {
				rows = append(rows, fmt.Sprintf("%s@%d=%v", model.SeriesKeyString(b.Key(i)), s.Timestamp, s.Value))
			}
		}
		return nil
	}})
	return rows, result, err
}

func request(t *testing.T) []byte {
	t.Helper()
	req := oracle.WriteRequest{
		Timeseries: []oracle.TimeSeries{
			{Labels: []oracle.Label{{Name: "z", Value: "1"}, {Name: "__name__", Value: "m"}}, Samples: []oracle.Sample{{Value: 1.5, Timestamp: 1000}, {Value: math.NaN(), Timestamp: 2000}, {Value: math.Inf(1), Timestamp: 3000}}},
			{Labels: []oracle.Label{{Name: "__name__", Value: "dup"}, {Name: "a", Value: "1"}, {Name: "a", Value: "2"}}, Samples: []oracle.Sample{{Value: 1, Timestamp: 1000}}},
			{Labels: []oracle.Label{{Name: "__name__", Value: "hist"}}, Histograms: []oracle.Histogram{{Sum: 1}}},
			{Labels: []oracle.Label{{Name: "__name__", Value: "n"}, {Name: "empty", Value: ""}}, Samples: []oracle.Sample{{Value: 2, Timestamp: -5}}},
		},
		Metadata: []oracle.MetricMetadata{{MetricFamilyName: "m", Help: "h"}},
	}
	body, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestParse(t *testing.T) {
	p, set := newParser(t)
	for range 2 {
		rows, result, err := parse(p, snappy.Encode(nil, request(t)), "snappy")
		want := []string{`tenant 1:0 m{z="1"}@1000=1.5`, `tenant 1:0 m{z="1"}@2000=NaN`, `tenant 1:0 m{z="1"}@3000=+Inf`, `tenant 1:0 n@-5=2`}
		if err != nil || !slices.Equal(rows, want) {
			t.Fatalf("rows %v, error %v; want %v", rows, err, want)
		}
		if result.Rows != 5 || result.Histograms != 1 || result.Dropped != 1 || !strings.Contains(result.Reason, `duplicate label name "a"`) {
			t.Errorf("%+v", result)
		}
	}
	for name, want := range map[string]uint64{
		`vm_protoparser_rows_read_total{type="promremotewrite"}`:     12,
		`vm_protoparser_metadata_read_total{type="promremotewrite"}`: 2,
		`vm_protoparser_read_calls_total{type="promremotewrite"}`:    2,
		`vm_rows_ignored_total{reason="duplicate_label_name"}`:       2,
	} {
		if got := set.Counter(name).Get(); got != want {
			t.Errorf("%s is %d; want %d", name, got, want)
		}
	}
}

func TestBadBodies(t *testing.T) {
	p, set := newParser(t)
	good := request(t)
	v2 := []byte{0x22, 0, 0x22, 1, 'x', 0x2a, 0} // symbols = 4, timeseries = 5
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"garbage":          {[]byte("not snappy at all"), "snappy"},
		"truncated":        {snappy.Encode(nil, good[:len(good)-3]), "at offset"},
		"not protobuf":     {snappy.Encode(nil, []byte("\x0c\xff\xff\xff\xff")), "at offset"},
		"remote write 2.0": {snappy.Encode(nil, v2), "proto=io.prometheus.write.v2.Request"},
	} {
		rows, result, err := parse(p, c.body, "snappy")
		if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), c.want) || len(rows) > 0 || result.Rows > 0 {
			t.Errorf("%s: rows %v, result %+v, error %v", name, rows, result, err)
		}
	}
	if n := set.Counter(`vm_protoparser_unmarshal_errors_total{type="promremotewrite"}`).Get(); n != 3 {
		t.Errorf("%d unmarshal errors counted", n)
	}
	if n := set.Counter(`vm_protoparser_read_errors_total{type="promremotewrite"}`).Get(); n != 1 {
		t.Errorf("%d read errors counted", n)
	}
	if rows, _, err := parse(p, nil, "snappy"); err != nil || len(rows) > 0 {
		t.Errorf("empty body: %v, %v", rows, err)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	f.Add(snappy.Encode(nil, []byte("\x0a\x04\x0a\x02\x0a\x05")), "snappy")
	f.Add(benchmarkBody(2), "zstd")
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0}, "")
	f.Add([]byte("\x1f\x8b"), "gzip")
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		rows, result, err := parse(p, body, encoding)
		if k := errkind.Of(err); k != errkind.OK && k != errkind.BadRequest && k != errkind.TooLarge {
			t.Fatalf("error %v has the kind %s", err, k)
		}
		if len(rows)+result.Histograms != result.Rows {
			t.Fatalf("%d rows, result %+v", len(rows), result)
		}
	})
}

func benchmarkBody(series int) []byte {
	var body []byte
	for i := range series {
		s := prompb.TimeSeries[model.Label]{Labels: []model.Label{
			{Name: "__name__", Value: "node_cpu_seconds_total"}, {Name: "cluster", Value: "production-eu"}, {Name: "cpu", Value: fmt.Sprint(i % 64)},
			{Name: "env", Value: "prod"}, {Name: "instance", Value: fmt.Sprintf("10.0.%d.%d:9100", i/250%250, i%250)}, {Name: "job", Value: "node-exporter"},
			{Name: "mode", Value: "idle"}, {Name: "region", Value: "eu-west-1"},
		}, Samples: []prompb.Sample{{Timestamp: 1717200000000 + int64(i), Value: float64(i) * 1.5}}}
		body = prompb.AppendTimeSeries(body, &s)
	}
	return snappy.Encode(nil, body)
}

func BenchmarkParse(b *testing.B) {
	const series = 5000
	p, _ := newParser(b)
	body := benchmarkBody(series)
	r := bytes.NewReader(body)
	req := &protoparser.Request{Body: r, Encoding: "snappy", Sink: func(*model.Batch) error { return nil }}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r.Reset(body)
		result, err := p.Parse(req)
		if err != nil || result.Rows != series {
			b.Fatal(result, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
}

// TestKnownSeriesInAnyOrder sends series which are known in the order expected, in others, with other numbers of samples and with
// newcomers: the parser, which guesses what comes, stores what one does that knows nothing.
func TestKnownSeriesInAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p, _ := newParser(t)
	order := make([]int, 200)
	for i := range order {
		order[i] = i
	}
	for round := range 40 {
		switch round % 4 {
		case 1:
			rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		case 2:
			at := rng.IntN(len(order))
			order = append(order[:at:at], append([]int{1000 + round}, order[at:]...)...)
		}
		var body []byte
		for _, i := range order {
			s := prompb.TimeSeries[model.Label]{Labels: []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "i", Value: strconv.Itoa(i)}}}
			for j := range 1 + rng.IntN(20)/18 {
				s.Samples = append(s.Samples, prompb.Sample{Timestamp: 1_700_000_000_000 + int64(round*15000+j), Value: float64(rng.IntN(3))})
			}
			body = prompb.AppendTimeSeries(body, &s)
		}
		packed := snappy.Encode(nil, body)
		fresh, _ := newParser(t)
		want, wantResult, wantErr := parse(fresh, packed, "snappy")
		got, result, err := parse(p, packed, "snappy")
		if err != nil || wantErr != nil || !slices.Equal(got, want) || result != wantResult || len(got) < len(order) {
			t.Fatalf("round %d: %d rows, %+v, %v; want %d rows, %+v, %v", round, len(got), result, err, len(want), wantResult, wantErr)
		}
	}
}

// collectExemplars has the exemplars of a request stored as text.
func collectExemplars(t *testing.T, list *[]string) func([]model.Exemplar) error {
	return func(found []model.Exemplar) error {
		for _, e := range found {
			labels, err := model.ParseExemplarLabels(nil, e.Labels)
			if err != nil {
				t.Error(err)
			}
			*list = append(*list, fmt.Sprintf("%s %s@%d=%v", model.SeriesKeyString(e.Series), model.LabelsString(labels), e.Timestamp, e.Value))
		}
		return nil
	}
}

// TestExemplars sends the same exemplars by both versions: beside samples, alone, of a tenant in labels, and such that make no sense.
func TestExemplars(t *testing.T) {
	table := writev2.NewSymbolTable()
	v1, v2 := &oracle.WriteRequest{}, &writev2.Request{}
	add := func(samples int, labels []string, exemplars ...[]string) {
		var s1 oracle.TimeSeries
		var s2 writev2.TimeSeries
		pairs := func(list []string) (out []oracle.Label, refs []uint32) {
			for i := 0; i+1 < len(list); i += 2 {
				out = append(out, oracle.Label{Name: list[i], Value: list[i+1]})
				refs = append(refs, table.Symbolize(list[i]), table.Symbolize(list[i+1]))
			}
			return out, refs
		}
		s1.Labels, s2.LabelsRefs = pairs(labels)
		for i := range samples {
			s1.Samples = append(s1.Samples, oracle.Sample{Timestamp: int64(i), Value: 1})
			s2.Samples = append(s2.Samples, writev2.Sample{Timestamp: int64(i), Value: 1})
		}
		for i, list := range exemplars {
			l, refs := pairs(list)
			s1.Exemplars = append(s1.Exemplars, oracle.Exemplar{Labels: l, Timestamp: int64(1000 + i), Value: float64(i)})
			s2.Exemplars = append(s2.Exemplars, writev2.Exemplar{LabelsRefs: refs, Timestamp: int64(1000 + i), Value: float64(i)})
		}
		v1.Timeseries, v2.Timeseries = append(v1.Timeseries, s1), append(v2.Timeseries, s2)
	}
	add(1, []string{"__name__", "m", "job", "a"}, []string{"trace_id", "1", "a", "b"}, []string{"trace_id", strings.Repeat("ü", 121)}, nil)
	add(2, []string{"__name__", "m", "job", "plain"})
	add(0, []string{"__name__", "m", "job", "alone"}, []string{"trace_id", strings.Repeat("ü", 120)})
	add(1, []string{"vm_account_id", "5", "__name__", "t", "vm_project_id", "6"}, []string{"trace_id", "3"})
	add(1, []string{"job", "nameless"}, []string{"trace_id", "4"})
	v2.Symbols = table.Symbols()
	want := []string{`tenant 0:0 m{job="a"} {a="b",trace_id="1"}@1000=0`, `tenant 0:0 m{job="a"} {}@1002=2`, `tenant 0:0 m{job="alone"} {trace_id="` + strings.Repeat("ü", 120) + `"}@1000=0`, `tenant 5:6 t {trace_id="3"}@1000=0`}
	for version, message := range []interface{ Marshal() ([]byte, error) }{v1, v2} {
		body, err := message.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		p, set := newParser(t)
		for range 2 {
			var got []string
			result, err := p.Parse(&protoparser.Request{
				Body: bytes.NewReader(snappy.Encode(nil, body)), Encoding: "snappy", TenantFromLabels: true, SymbolTable: version == 1,
				Sink: func(*model.Batch) error { return nil }, Exemplars: collectExemplars(t, &got),
			})
			if err != nil || !slices.Equal(got, want) || result.Rows != 4 || result.Exemplars != len(want) || result.Invalid != 0 {
				t.Errorf("version %d: %q, %+v, %v; want %q", version+1, got, result, err, want)
			}
		}
		if n := set.Counter(`vm_exemplars_invalid_total{type="promremotewrite"}`).Get(); n != 2 {
			t.Errorf("version %d: %d exemplars are counted as invalid", version+1, n)
		}
	}
}
