package parsers

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/golang/snappy"
	writev2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/prompb"
	oraclev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/csvimport"
	"vmcluster/lib/protoparser/exposition"
	"vmcluster/lib/protoparser/graphite"
	"vmcluster/lib/protoparser/influx"
	"vmcluster/lib/protoparser/jsonline"
	"vmcluster/lib/protoparser/opentsdb"
	"vmcluster/lib/protoparser/opentsdbhttp"
	"vmcluster/lib/protoparser/otlp"
	"vmcluster/lib/protoparser/parsertest"
	"vmcluster/lib/protoparser/remotewrite"
)

const rows = 5000

// measure runs what reads a body, and reports CPU time.
func measure(b *testing.B, body *parsertest.Body, read func()) {
	read() // after which series are known
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		read()
	}
	seconds := cpu(b) - before
	b.ReportMetric(seconds*1e9/float64(b.N)/float64(body.Rows), "cpu-ns/sample")
	b.ReportMetric(float64(unpacked(b, body))/1e6*float64(b.N)/seconds, "cpu-MB/s")
	b.ReportMetric(0, "ns/op")
}

// unpacked returns the size of a body after decompression.
func unpacked(b *testing.B, body *parsertest.Body) int {
	if body.Encoding == "" {
		return len(body.Text)
	}
	n, err := snappy.DecodedLen([]byte(body.Text))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// cpu returns the seconds that the process has computed.
func cpu(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// bodies returns a request of each format. Those of remote write 2.0 and OTLP are encoded by the messages of others.
func bodies(b *testing.B) []parsertest.Body {
	v2, symbols := &writev2.Request{}, writev2.NewSymbolTable()
	points := &metrics.Gauge{}
	for i := range rows {
		x := &writev2.TimeSeries{Samples: []*writev2.Sample{{Timestamp: parsertest.Time(i), Value: parsertest.Value(i)}}}
		p := &metrics.NumberDataPoint{TimeUnixNano: uint64(parsertest.Time(i)) * 1e6, StartTimeUnixNano: 1717100000e9, Value: &metrics.NumberDataPoint_AsDouble{AsDouble: parsertest.Value(i)}}
		for _, l := range parsertest.Labels(i) {
			x.LabelsRefs = append(x.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
			if l.Name != model.MetricNameLabel {
				p.Attributes = append(p.Attributes, attribute(l.Name, l.Value))
			}
		}
		v2.Timeseries, points.DataPoints = append(v2.Timeseries, x), append(points.DataPoints, p)
	}
	v2.Symbols = symbols.Symbols()
	histograms := &metrics.Histogram{}
	for i := range rows / 14 { // count, sum and twelve buckets
		p := &metrics.HistogramDataPoint{TimeUnixNano: uint64(parsertest.Time(i)) * 1e6, Count: 78, Sum: proto.Float64(1.5), Attributes: points.DataPoints[i].Attributes}
		for bucket := range 12 {
			p.BucketCounts = append(p.BucketCounts, uint64(bucket))
			if bucket > 0 {
				p.ExplicitBounds = append(p.ExplicitBounds, float64(bucket)*0.25)
			}
		}
		histograms.DataPoints = append(histograms.DataPoints, p)
	}
	packedV2, err1 := v2.MarshalVT()
	gauges, err2 := proto.Marshal(export(&metrics.Metric{Name: "node_cpu_seconds_total", Unit: "s", Data: &metrics.Metric_Gauge{Gauge: points}}))
	buckets, err3 := proto.Marshal(export(&metrics.Metric{Name: "http.duration", Unit: "s", Data: &metrics.Metric_Histogram{Histogram: histograms}}))
	if err := errors.Join(err1, err2, err3); err != nil {
		b.Fatal(err)
	}
	return append(parsertest.Bodies(rows), parsertest.Body{Format: "promremotewrite2", Text: string(snappy.Encode(nil, packedV2)), Encoding: "snappy", Rows: rows},
		parsertest.Body{Format: "opentelemetry", Text: string(gauges), Rows: rows}, parsertest.Body{Format: "opentelemetry-histograms", Text: string(buckets), Rows: rows / 14 * 14})
}

func attribute(name, value string) *common.KeyValue {
	return &common.KeyValue{Key: name, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func export(m *metrics.Metric) *collector.ExportMetricsServiceRequest {
	scope := &metrics.ScopeMetrics{Scope: &common.InstrumentationScope{Name: "go.opentelemetry.io/x", Version: "1.0"}, Metrics: []*metrics.Metric{m}}
	return &collector.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{{
		Resource:     &resource.Resource{Attributes: []*common.KeyValue{attribute("service.name", "checkout"), attribute("host.name", "web1"), attribute("deployment.environment", "prod")}},
		ScopeMetrics: []*metrics.ScopeMetrics{scope},
	}}}
}

type parse func(*protoparser.Request) (protoparser.Result, error)

func ours(b *testing.B) map[string]parse {
	in, _ := parsertest.NewIntake(b, nil)
	write, otel := remotewrite.New(in).Parse, otlp.New(in, otlp.Config{MaxRequestSize: 1 << 26, PromoteAll: true, PromoteScope: true}).Parse
	return map[string]parse{
		"prometheus": exposition.New(in).Parse, "influx": influx.New(in, influx.Config{Separator: "_", MaxLineSize: 1 << 20, MaxRequestSize: 1 << 26}).Parse,
		"graphite": graphite.New(in, graphite.Config{}).Parse, "opentsdb": opentsdb.New(in, opentsdb.Config{}).Parse, "opentsdbhttp": opentsdbhttp.New(in, opentsdbhttp.Config{MaxRequestSize: 1 << 26}).Parse,
		"vmimport": jsonline.New(in).Parse, "csvimport": csvimport.New(in, 1).Parse, "promremotewrite": write, "promremotewrite2": write, "opentelemetry": otel, "opentelemetry-histograms": otel,
	}
}

// BenchmarkOurs parses requests of series that are known, which is what senders do all day.
func BenchmarkOurs(b *testing.B) {
	parsers := ours(b)
	for _, body := range bodies(b) {
		b.Run(body.Format, func(b *testing.B) {
			r := strings.NewReader("")
			req := &protoparser.Request{Body: r, Encoding: body.Encoding, Format: body.Argument, SymbolTable: body.Format == "promremotewrite2", Sink: func(*model.Batch) error { return nil }}
			measure(b, &body, func() {
				r.Reset(body.Text)
				if result, err := parsers[body.Format](req); err != nil || result.Rows != body.Rows {
					b.Fatalf("%+v, %v; want %d rows", result, err, body.Rows)
				}
			})
		})
	}
}

// BenchmarkFloor reads and decompresses the same bytes, which nobody can do without.
func BenchmarkFloor(b *testing.B) {
	in, _ := parsertest.NewIntake(b, nil)
	for _, body := range bodies(b) {
		b.Run(body.Format, func(b *testing.B) {
			r := strings.NewReader("")
			measure(b, &body, func() {
				r.Reset(body.Text)
				if body.Encoding != "" {
					buf, err := in.Bodies.ReadBlock(r, body.Encoding)
					if err != nil {
						b.Fatal(err)
					}
					in.Bodies.Put(buf)
					return
				}
				buf, err := in.Bodies.ReadAll(r, "", 1<<26, "")
				if err != nil {
					b.Fatal(err)
				}
				in.Bodies.Put(buf)
			})
		})
	}
}

// theirs are readers of others, which give labels and values of all samples, or the message, and do not look up series.
func theirs(b *testing.B) map[string]func(text []byte) {
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	var buf []byte
	decompress := func(text []byte) []byte {
		var err error
		buf, err = snappy.Decode(buf[:cap(buf)], text)
		must(err)
		return buf
	}
	var v1 prompb.WriteRequest
	var v2 oraclev2.Request
	otlp := func(text []byte) { must(proto.Unmarshal(text, &collector.ExportMetricsServiceRequest{})) }
	return map[string]func(text []byte){
		"prometheus": func(text []byte) {
			p, err := textparse.New(text, "text/plain", labels.NewSymbolTable(), textparse.ParserOptions{})
			must(err)
			var l labels.Labels
			for {
				entry, err := p.Next()
				if errors.Is(err, io.EOF) {
					return
				}
				must(err)
				if entry == textparse.EntrySeries {
					p.Labels(&l)
				}
			}
		},
		"promremotewrite": func(text []byte) {
			v1.Reset()
			must(v1.Unmarshal(decompress(text)))
		},
		"promremotewrite2": func(text []byte) {
			v2.Reset()
			must(v2.Unmarshal(decompress(text)))
		},
		"opentelemetry": otlp, "opentelemetry-histograms": otlp,
	}
}

// BenchmarkTheirs has the parsers of Prometheus and the messages of OTLP read the same bytes.
func BenchmarkTheirs(b *testing.B) {
	readers := theirs(b)
	for _, body := range bodies(b) {
		if read := readers[body.Format]; read != nil {
			text := bytes.Clone([]byte(body.Text))
			b.Run(body.Format, func(b *testing.B) { measure(b, &body, func() { read(text) }) })
		}
	}
}
