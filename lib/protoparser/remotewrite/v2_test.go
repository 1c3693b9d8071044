package remotewrite

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/golang/snappy"
	oracle "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/protoparser"
)

func parseV2(p *Parser, r *oracle.Request) (rows []string, metadata []model.Metadata, result protoparser.Result, err error) {
	body, err := r.Marshal()
	if err != nil {
		return nil, nil, result, err
	}
	return parseBodyV2(p, snappy.Encode(nil, body))
}

func parseBodyV2(p *Parser, body []byte) (rows []string, metadata []model.Metadata, result protoparser.Result, err error) {
	req := &protoparser.Request{
		Body: bytes.NewReader(body), Encoding: "snappy", SymbolTable: true, Tenant: model.TenantID{AccountID: 1},
		Metadata: func(list []model.Metadata) error {
			metadata = append(metadata, list...)
			return nil
		},
		Sink: func(b *model.Batch) error {
			for i := range b.Len() {
				for _, s := range b.Samples(i) {
					rows = append(rows, fmt.Sprintf("%s@%d=%v", model.SeriesKeyString(b.Key(i)), s.Timestamp, s.Value))
				}
			}
			return nil
		},
	}
	result, err = p.Parse(req)
	return rows, metadata, result, err
}

// bothVersions returns the same series as messages of both versions. Their symbols are in the order of their use.
func bothVersions(series []prompb.TimeSeries[model.Label]) (v1 []byte, v2 *oracle.Request) {
	table := oracle.NewSymbolTable()
	v2 = &oracle.Request{}
	for i := range series {
		s := &series[i]
		v1 = prompb.AppendTimeSeries(v1, s)
		x := oracle.TimeSeries{}
		for _, l := range s.Labels {
			x.LabelsRefs = append(x.LabelsRefs, table.Symbolize(l.Name), table.Symbolize(l.Value))
		}
		for _, sample := range s.Samples {
			x.Samples = append(x.Samples, oracle.Sample{Timestamp: sample.Timestamp, Value: sample.Value, StartTimestamp: int64(i % 2)})
		}
		v2.Timeseries = append(v2.Timeseries, x)
	}
	v2.Symbols = table.Symbols()
	return v1, v2
}

// TestBothVersionsStoreTheSame sends series that come, go and change places by both versions, so that symbols mean something else in
// each request of the second.
func TestBothVersionsStoreTheSame(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p, _ := newParser(t)
	for round := range 40 {
		var series []prompb.TimeSeries[model.Label]
		for _, i := range rng.Perm(150)[:100] {
			s := prompb.TimeSeries[model.Label]{Labels: []model.Label{
				{Name: model.MetricNameLabel, Value: "m" + strconv.Itoa(i%7)}, {Name: "i", Value: strconv.Itoa(i)}, {Name: strconv.Itoa(i), Value: "i"},
				{Name: "empty"}, {Name: []string{"other", "i"}[rng.IntN(30)/29], Value: "m"},
			}}
			for j := range 1 + rng.IntN(20)/18 {
				s.Samples = append(s.Samples, prompb.Sample{Timestamp: 1_700_000_000_000 + int64(round*15000+j), Value: float64(rng.IntN(3))})
			}
			series = append(series, s)
		}
		v1, v2 := bothVersions(series)
		fresh, _ := newParser(t)
		want, wantResult, wantErr := parse(fresh, snappy.Encode(nil, v1), "snappy")
		got, _, result, err := parseV2(p, v2)
		if err != nil || wantErr != nil || !slices.Equal(got, want) || result != wantResult || len(got) < 90 {
			t.Fatalf("round %d: %d rows, %+v, %v; want %d rows, %+v, %v", round, len(got), result, err, len(want), wantResult, wantErr)
		}
	}
}

func TestV2LeavesOutWhatItCannotRead(t *testing.T) {
	p, set := newParser(t)
	sample := []oracle.Sample{{Timestamp: 1000, Value: 1}}
	r := &oracle.Request{Symbols: []string{"", "__name__", "m", "good"}, Timeseries: []oracle.TimeSeries{
		{LabelsRefs: []uint32{1, 3}, Samples: sample},
		{LabelsRefs: []uint32{1, 4}, Samples: sample},
		{LabelsRefs: []uint32{1}, Samples: append(sample, sample...)},
		{LabelsRefs: []uint32{1, 2}, Histograms: []oracle.Histogram{{Sum: 1}}, Exemplars: []oracle.Exemplar{{Value: 1}}},
		{LabelsRefs: []uint32{2, 3}, Samples: sample},
	}}
	for range 2 {
		rows, _, result, err := parseV2(p, r)
		if err != nil || !slices.Equal(rows, []string{`tenant 1:0 good@1000=1`}) || result.Rows != 2 || result.Histograms != 1 || result.Invalid != 3 || result.Dropped != 1 ||
			result.Reason != "a series refers to symbol 4, and the request has 4" {
			t.Errorf("rows %v, result %+v, error %v", rows, result, err)
		}
	}
	for name, want := range map[string]uint64{
		`vm_protoparser_rows_read_total{type="promremotewrite"}`: 12,
		`vm_rows_invalid_total{type="promremotewrite"}`:          6,
		`vm_rows_ignored_total{reason="empty_metric_name"}`:      2,
	} {
		if got := set.Counter(name).Get(); got != want {
			t.Errorf("%s is %d; want %d", name, got, want)
		}
	}
	rows, _, result, err := parseBodyV2(p, snappy.Encode(nil, []byte("\x2a\xff\xff")))
	if errkind.Of(err) != errkind.BadRequest || len(rows)+result.Rows > 0 {
		t.Errorf("garbage: rows %v, result %+v, error %v", rows, result, err)
	}
	v1, _ := bothVersions([]prompb.TimeSeries[model.Label]{{Labels: []model.Label{{Name: "__name__", Value: "m"}}, Samples: []prompb.Sample{{Timestamp: 1}}}})
	if rows, _, _, err = parseBodyV2(p, snappy.Encode(nil, v1)); err != nil || !slices.Equal(rows, []string{"tenant 1:0 m@1=0"}) {
		t.Errorf("a message of 1.0 that is said to be one of 2.0: rows %v, error %v", rows, err)
	}
}

func TestMetadataOfV2(t *testing.T) {
	p, _ := newParser(t)
	series := func(name string, m oracle.Metadata) oracle.TimeSeries {
		table := []string{"", "__name__", "a_total", "h_bucket", "h_sum", "h_count", "help of a", "seconds", "help of h"}
		return oracle.TimeSeries{LabelsRefs: []uint32{1, uint32(slices.Index(table, name))}, Samples: []oracle.Sample{{Timestamp: 1}}, Metadata: m}
	}
	h := oracle.Metadata{Type: oracle.Metadata_METRIC_TYPE_HISTOGRAM, HelpRef: 8, UnitRef: 7}
	_, metadata, _, err := parseV2(p, &oracle.Request{Symbols: []string{"", "__name__", "a_total", "h_bucket", "h_sum", "h_count", "help of a", "seconds", "help of h"}, Timeseries: []oracle.TimeSeries{
		series("a_total", oracle.Metadata{Type: oracle.Metadata_METRIC_TYPE_COUNTER, HelpRef: 6}),
		series("h_bucket", h), series("h_sum", h), series("h_count", h),
		series("a_total", oracle.Metadata{}),
		series("a_total", oracle.Metadata{HelpRef: 99}),
	}})
	tenant := model.TenantID{AccountID: 1}
	want := []model.Metadata{
		{Tenant: tenant, Metric: "a_total", Type: model.TypeCounter, Help: "help of a"},
		{Tenant: tenant, Metric: "h", Type: model.TypeHistogram, Help: "help of h", Unit: "seconds"},
	}
	if err != nil || !slices.Equal(metadata, want) {
		t.Errorf("%+v, %v; want %+v", metadata, err, want)
	}
}

func FuzzParseV2(f *testing.F) {
	p, _ := newParser(f)
	_, r := bothVersions([]prompb.TimeSeries[model.Label]{{Labels: []model.Label{{Name: "__name__", Value: "m"}}, Samples: []prompb.Sample{{Timestamp: 1}}}})
	body, err := r.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		rows, _, result, err := parseBodyV2(p, snappy.Encode(nil, body))
		if k := errkind.Of(err); k != errkind.OK && k != errkind.BadRequest && k != errkind.TooLarge {
			t.Fatalf("error %v has the kind %s", err, k)
		}
		if len(rows)+result.Histograms != result.Rows {
			t.Fatalf("%d rows, result %+v", len(rows), result)
		}
		for _, row := range rows {
			if !strings.HasPrefix(row, "tenant 1:0 ") {
				t.Fatal(row)
			}
		}
	})
}

// BenchmarkVersions compares the versions on the same series, all known.
func BenchmarkVersions(b *testing.B) {
	const series = 2000
	all := make([]prompb.TimeSeries[model.Label], series)
	for i := range all {
		all[i] = prompb.TimeSeries[model.Label]{Labels: []model.Label{
			{Name: "__name__", Value: "node_cpu_seconds_total"}, {Name: "cluster", Value: "production-eu"}, {Name: "cpu", Value: fmt.Sprint(i % 64)},
			{Name: "env", Value: "prod"}, {Name: "instance", Value: fmt.Sprintf("10.0.%d.%d:9100", i/250%250, i/8%250)}, {Name: "job", Value: "node-exporter"},
			{Name: "mode", Value: []string{"idle", "user", "system", "iowait", "irq", "nice", "softirq", "steal"}[i%8]}, {Name: "region", Value: "eu-west-1"},
		}, Samples: []prompb.Sample{{Timestamp: 1717200000000 + int64(i), Value: float64(i) * 1.5}}}
	}
	v1, r := bothVersions(all)
	for i := range r.Timeseries {
		r.Timeseries[i].Samples[0].StartTimestamp = 0
	}
	v2, err := r.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	for name, body := range map[string][]byte{"1.0": v1, "2.0": v2} {
		b.Run(name, func(b *testing.B) {
			p, _ := newParser(b)
			body := snappy.Encode(nil, body)
			r := bytes.NewReader(body)
			req := &protoparser.Request{Body: r, Encoding: "snappy", SymbolTable: name == "2.0", Sink: func(*model.Batch) error { return nil }}
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				result, err := p.Parse(req)
				if err != nil || result.Rows != series {
					b.Fatal(result, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
			b.ReportMetric(float64(len(body))/series, "B/sample")
		})
	}
}

// TestStarts tells when series began: of counters, once, before their samples are stored, and again when that has failed.
func TestStarts(t *testing.T) {
	const begin = 1_700_000_000_000
	symbols := []string{"", "__name__", "counter", "gauge", "summary", "summary_sum", "old", "ahead", "silent"}
	series := func(name string, kind oracle.Metadata_MetricType, start int64, times ...int64) oracle.TimeSeries {
		s := oracle.TimeSeries{LabelsRefs: []uint32{1, uint32(slices.Index(symbols, name))}, Metadata: oracle.Metadata{Type: kind}}
		for _, at := range times {
			s.Samples = append(s.Samples, oracle.Sample{Timestamp: begin + at, Value: 5, StartTimestamp: start})
		}
		return s
	}
	request := func(shift int64) *oracle.Request {
		return &oracle.Request{Symbols: symbols, Timeseries: []oracle.TimeSeries{
			series("counter", oracle.Metadata_METRIC_TYPE_COUNTER, begin, 10+shift, 20+shift),
			series("gauge", oracle.Metadata_METRIC_TYPE_GAUGE, begin, 10+shift),
			series("summary", oracle.Metadata_METRIC_TYPE_SUMMARY, begin, 10+shift),
			series("summary_sum", oracle.Metadata_METRIC_TYPE_SUMMARY, begin, 10+shift),
			series("old", oracle.Metadata_METRIC_TYPE_COUNTER, begin-3_600_000, 10+shift),
			series("ahead", oracle.Metadata_METRIC_TYPE_COUNTER, begin+1000, 10+shift),
			series("silent", oracle.Metadata_METRIC_TYPE_COUNTER, 0, 10+shift),
		}}
	}
	p, set := newParser(t)
	send := func(shift int64, fail error) (told []string) {
		t.Helper()
		body, err := request(shift).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		stored := false
		_, err = p.Parse(&protoparser.Request{
			Body: bytes.NewReader(snappy.Encode(nil, body)), Encoding: "snappy", SymbolTable: true,
			Sink: func(*model.Batch) error {
				stored = true
				return nil
			},
			Starts: func(list []model.Start) error {
				if stored {
					t.Error("samples are stored before the start of their series")
				}
				for _, x := range list {
					told = append(told, fmt.Sprint(model.SeriesKeyString(x.Series), " ", x.Timestamp-begin))
				}
				return fail
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	want := []string{"tenant 0:0 counter 0", "tenant 0:0 summary_sum 0"}
	if told := send(0, errkind.New(errkind.Unavailable, "away")); !slices.Equal(told, want) {
		t.Errorf("first %q", told)
	}
	if told := send(30, nil); !slices.Equal(told, want) {
		t.Errorf("after a failure %q", told)
	}
	if told := send(2000, nil); len(told) > 0 {
		t.Errorf("told again %q", told)
	}
	if n := set.Counter("vm_start_timestamps_dropped_total").Get(); n != 2 {
		t.Errorf("%d starts are counted as dropped", n)
	}
}
