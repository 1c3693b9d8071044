package otlp

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/parsertest"
)

func newParser(t testing.TB, args ...string) (*Parser, *metrics.Set) {
	t.Helper()
	var c Config
	in, set := parsertest.NewIntake(t, args, c.RegisterFlags)
	return New(in, c), set
}

func parse(p *Parser, body []byte, format string) (rows []string, metadata []model.Metadata, result protoparser.Result, err error) {
	result, err = p.Parse(&protoparser.Request{Body: bytes.NewReader(body), Format: format,
		Metadata: func(list []model.Metadata) error {
			metadata = append(metadata, list...)
			return nil
		},
		Sink: func(b *model.Batch) error {
			for i := range b.Len() {
				for _, s := range b.Samples(i) {
					value := fmt.Sprint(s.Value)
					if math.Float64bits(s.Value) == math.Float64bits(staleValue()) {
						value = "stale"
					}
					rows = append(rows, strings.TrimPrefix(model.SeriesKeyString(b.Key(i)), "tenant 0:0 ")+" "+value+" "+fmt.Sprint(s.Timestamp))
				}
				for _, x := range b.AppendHistograms(nil, i) {
					rows = append(rows, strings.TrimPrefix(model.SeriesKeyString(b.Key(i)), "tenant 0:0 ")+" "+describe(x.Payload)+" "+fmt.Sprint(x.Timestamp))
				}
			}
			return nil
		},
	})
	slices.Sort(rows)
	return rows, metadata, result, err
}

// mixed is a request with metrics of every kind, as an SDK sends it.
func mixed(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/mixed.b64")
	if err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// mixedJSON is the same request in JSON.
const mixedJSON = `{"resourceMetrics": [{
	"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "svc"}}, {"key": "host.id", "value": {"intValue": "7"}}]},
	"scopeMetrics": [{
		"scope": {"name": "lib", "version": "1.0", "attributes": [{"key": "scope.attr", "value": {"stringValue": "z"}}]},
		"metrics": [
			{"name": "otlp.gauge", "description": "desc of gauge", "unit": "By", "gauge": {"dataPoints": [
				{"startTimeUnixNano": "1717199000000000000", "timeUnixNano": "1717200000000000000", "asDouble": 1.25, "attributes": [{"key": "k.a", "value": {"stringValue": "v"}}]},
				{"timeUnixNano": 1717200000000000000, "asInt": "3", "attributes": [
					{"key": "k.a", "value": {"stringValue": "w"}}, {"key": "n", "value": {"intValue": 5}}, {"key": "b", "value": {"boolValue": true}}, {"key": "f", "value": {"doubleValue": 1.5}},
					{"key": "arr", "value": {"arrayValue": {"values": [{"stringValue": "p"}, {"stringValue": "q"}]}}},
					{"key": "kv", "value": {"kvlistValue": {"values": [{"key": "x", "value": {"stringValue": "y"}}]}}}]}]}},
			{"name": "otlp.sum", "unit": "s", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
				{"timeUnixNano": "1717200000000000000", "asInt": "42", "attributes": [{"key": "k.a", "value": {"stringValue": "v"}}]}]}},
			{"name": "otlp.hist", "unit": "ms", "histogram": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "dataPoints": [
				{"timeUnixNano": "1717200000000000000", "count": "10", "sum": 12.5, "bucketCounts": ["2", "3", "4", "1"], "explicitBounds": [0.5, 1, 5], "min": 0.1, "max": 9,
					"attributes": [{"key": "k", "value": {"stringValue": "v"}}]}]}},
			{"name": "otlp.exphist", "unit": "1", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
				{"timeUnixNano": "1717200000000000000", "count": "9", "sum": 20.5, "scale": 1, "zeroCount": "2", "positive": {"offset": 2, "bucketCounts": ["3", "0", "4"]},
					"negative": {"offset": -1, "bucketCounts": ["1"]}, "attributes": [{"key": "k", "value": {"stringValue": "v"}}]}]}},
			{"name": "otlp.summary", "summary": {"dataPoints": [
				{"timeUnixNano": "1717200000000000000", "count": "5", "sum": 15, "quantileValues": [{"quantile": 0.5, "value": 2}, {"quantile": 0.99, "value": 8}],
					"attributes": [{"key": "k", "value": {"stringValue": "v"}}]}]}}]}]}]}`

// wantMixed is what both store.
func wantMixed() []string {
	const scope = `scope.attributes.scope.attr="z",scope.name="lib",scope.version="1.0",service.name="svc"`
	labels := func(name, before, after string) string { return name + "{" + before + `host.id="7",` + after }
	k := func(name, last string) string { return labels(name, "", `k="v",`+scope+last+"}") }
	rows := []string{
		labels("otlp.gauge", "", `k.a="v",`+scope+"} 1.25"),
		labels("otlp.gauge", `arr="[\"p\",\"q\"]",b="true",f="1.5",`, `k.a="w",kv.x="y",n="5",`+scope+"} 3"),
		labels("otlp.sum", "", `k.a="v",`+scope+"} 42"),
		k("otlp.hist_count", "") + " 10", k("otlp.hist_sum", "") + " 12.5",
		k("otlp.exphist_count", "") + " 9", k("otlp.exphist_sum", "") + " 20.5",
		k("otlp.exphist_bucket", `,vmrange="-0.000e+00...0.000e+00"`) + " 2", k("otlp.exphist_bucket", `,vmrange="-1.000e+00...-7.071e-01"`) + " 1",
		k("otlp.exphist_bucket", `,vmrange="2.000e+00...2.828e+00"`) + " 3", k("otlp.exphist_bucket", `,vmrange="4.000e+00...5.657e+00"`) + " 4",
		k("otlp.summary_count", "") + " 5", k("otlp.summary_sum", "") + " 15",
		labels("otlp.summary", "", `k="v",quantile="0.5",`+scope+"} 2"), labels("otlp.summary", "", `k="v",quantile="0.99",`+scope+"} 8"),
	}
	for bound, n := range map[string]int{"0.5": 2, "1": 5, "5": 9, "+Inf": 10} {
		rows = append(rows, labels("otlp.hist_bucket", "", fmt.Sprintf(`k="v",le=%q,%s} %d`, bound, scope, n)))
	}
	for i := range rows {
		rows[i] += " 1717200000000"
	}
	slices.Sort(rows)
	return rows
}

func TestEveryKindInBothEncodings(t *testing.T) {
	p, set := newParser(t)
	for format, body := range map[string][]byte{"": mixed(t), "json": []byte(mixedJSON)} {
		for range 2 {
			rows, _, result, err := parse(p, body, format)
			if want := wantMixed(); err != nil || !slices.Equal(rows, want) || result.Rows != len(want) || result.Dropped+result.Invalid > 0 {
				t.Errorf("format %q: %+v, %v\n%s\nwant\n%s", format, result, err, strings.Join(rows, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	if n := set.Counter(`vm_protoparser_rows_read_total{type="opentelemetry"}`).Get(); n != 4*19 {
		t.Errorf("%d rows counted", n)
	}
}

func TestMetadata(t *testing.T) {
	p, _ := newParser(t)
	_, metadata, _, err := parse(p, mixed(t), "")
	want := []model.Metadata{
		{Metric: "otlp.gauge", Type: model.TypeGauge, Unit: "By", Help: "desc of gauge"}, {Metric: "otlp.sum", Type: model.TypeCounter, Unit: "s"},
		{Metric: "otlp.hist", Type: model.TypeHistogram, Unit: "ms"}, {Metric: "otlp.exphist", Type: model.TypeHistogram, Unit: "1"},
	}
	if err != nil || !slices.Equal(metadata, want) {
		t.Errorf("%+v, %v; want %+v", metadata, err, want)
	}
}

// one returns a request in JSON with a metric of a resource and the attributes.
func one(metric string) string {
	return `{"resourceMetrics":[{"resource":{"attributes":[{"key":"a.b","value":{"stringValue":"r"}},{"key":"_c","value":{"stringValue":"r"}}]},
		"scopeMetrics":[{"scope":{"name":"s"},"metrics":[` + metric + `]}]}]}`
}

func TestFlags(t *testing.T) {
	const metric = `{"name":"http.server.duration","unit":"s","sum":{"isMonotonic":true,"dataPoints":[{"timeUnixNano":"5000000","asDouble":2,"attributes":[{"key":"a.b","value":{"stringValue":"p"}}]}]}}`
	for args, want := range map[string]string{
		"":                                   `http.server.duration{_c="r",a.b="p",scope.name="s"} 2 5`,
		"-opentelemetry.usePrometheusNaming": `http_server_duration_seconds_total{a_b="p",key_c="r",scope_name="s"} 2 5`,
		"-opentelemetry.usePrometheusNaming -opentelemetry.labelNameUnderscoreSanitization=false":         `http_server_duration_seconds_total{_c="r",a_b="p",scope_name="s"} 2 5`,
		"-opentelemetry.convertMetricNamesToPrometheus":                                                   `http_server_duration_seconds_total{_c="r",a.b="p",scope.name="s"} 2 5`,
		"-opentelemetry.promoteScopeMetadata=false -opentelemetry.ignoreResourceAttributes=_c":            `http.server.duration{a.b="p"} 2 5`,
		"-opentelemetry.promoteAllResourceAttributes=false":                                               `http.server.duration{a.b="p",scope.name="s"} 2 5`,
		"-opentelemetry.promoteAllResourceAttributes=false -opentelemetry.promoteResourceAttributes=x,_c": `http.server.duration{_c="r",a.b="p",scope.name="s"} 2 5`,
	} {
		p, _ := newParser(t, strings.Fields(args)...)
		rows, _, _, err := parse(p, []byte(one(metric)), "json")
		if err != nil || !slices.Equal(rows, []string{want}) {
			t.Errorf("%s: %q, %v; want %q", args, rows, err, want)
		}
	}
}

func TestOddPoints(t *testing.T) {
	for name, c := range map[string]struct {
		metric  string
		rows    []string
		invalid int
	}{
		"no value":            {`{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1000000"},{"timeUnixNano":"1000000","asInt":"-3"}]}}`, []string{"m -3 1"}, 1},
		"NaN":                 {`{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asDouble":"NaN"},{"timeUnixNano":"2000000","asDouble":"-Infinity"}]}}`, []string{"m -Inf 2", "m NaN 1"}, 0},
		"no recorded value":   {`{"name":"m","sum":{"dataPoints":[{"timeUnixNano":"1000000","flags":1}]}}`, []string{"m stale 1"}, 0},
		"gone histogram":      {`{"name":"m","histogram":{"dataPoints":[{"timeUnixNano":"1000000","flags":1}]}}`, []string{"m_count stale 1", "m_sum stale 1"}, 0},
		"only count and sum":  {`{"name":"m","histogram":{"dataPoints":[{"timeUnixNano":"1000000","count":"4","sum":2}]}}`, []string{`m_bucket{le="+Inf"} 4 1`, "m_count 4 1", "m_sum 2 1"}, 0},
		"no sum":              {`{"name":"m","histogram":{"dataPoints":[{"timeUnixNano":"1000000","count":"4"}]}}`, []string{`m_bucket{le="+Inf"} 4 1`, "m_count 4 1"}, 0},
		"a bucket is missing": {`{"name":"m","histogram":{"dataPoints":[{"timeUnixNano":"1000000","count":"4","bucketCounts":["4"],"explicitBounds":[1]}]}}`, nil, 1},
		"impossible scale":    {`{"name":"m","exponentialHistogram":{"dataPoints":[{"timeUnixNano":"1000000","scale":1000}]}}`, nil, 1},
		"narrow buckets": {`{"name":"m","exponentialHistogram":{"dataPoints":[{"timeUnixNano":"1000000","count":"3","scale":20,"positive":{"offset":1,"bucketCounts":["1","1","1"]}}]}}`,
			[]string{`m_bucket{vmrange="1.000e+00...1.000e+00"} 3 1`, "m_count 3 1"}, 0},
		"no kind": {`{"name":"m"}`, nil, 0},
	} {
		p, _ := newParser(t, "-opentelemetry.promoteScopeMetadata=false", "-opentelemetry.promoteAllResourceAttributes=false")
		rows, _, result, err := parse(p, []byte(one(c.metric)), "json")
		if err != nil || !slices.Equal(rows, c.rows) || result.Invalid != c.invalid {
			t.Errorf("%s: %q, %+v, %v; want %q", name, rows, result, err, c.rows)
		}
	}
}

func TestBadBodies(t *testing.T) {
	nested := []byte{}
	for range maxDepth + 2 { // lists of lists
		nested = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), nested)
		nested = protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), nested)
	}
	for _, number := range []protowire.Number{2, 1, 1, 1} { // value, attribute, resource, resource metrics
		nested = protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), nested)
	}
	for name, c := range map[string]struct {
		body   []byte
		format string
		want   string
	}{
		"no protobuf":         {[]byte("\xff\xff\xff"), "", "cannot decode OTLP request"},
		"cut off":             {mixed(t)[:200], "", "cannot decode OTLP request"},
		"deep":                {nested, "", "nests deeper"},
		"deep JSON":           {[]byte(one(`{"name":"m","gauge":{"dataPoints":[{"attributes":[{"key":"k","value":` + strings.Repeat(`{"arrayValue":{"values":[`, 20) + strings.Repeat(`]}}`, 20) + `}]}]}}`)), "json", "nests deeper"},
		"no JSON":             {[]byte("{bad"), "json", "cannot decode OTLP request as JSON"},
		"a wrong number":      {[]byte(one(`{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"x"}]}}`)), "json", "invalid syntax"},
		"no envelope":         {[]byte("{bad"), "firehose", "cannot decode Firehose request"},
		"no base64":           {[]byte(`{"records":[{"data":"!!"}]}`), "firehose", "base64"},
		"size beyond the end": {[]byte(`{"records":[{"data":"f2FiYw=="}]}`), "firehose", "record 0"},
		"too large":           {bytes.Repeat([]byte{0}, 2000), "", "-opentelemetry.maxRequestSize=1500"},
	} {
		p, set := newParser(t, "-opentelemetry.maxRequestSize=1500")
		rows, _, _, err := parse(p, c.body, c.format)
		if k := errkind.Of(err); k != errkind.BadRequest && k != errkind.TooLarge || !strings.Contains(err.Error(), c.want) || len(rows) > 0 {
			t.Errorf("%s: %v, %q; want %q", name, err, rows, c.want)
		}
		if n := set.Counter(`vm_protoparser_unmarshal_errors_total{type="opentelemetry"}`).Get() + set.Counter(`vm_protoparser_read_errors_total{type="opentelemetry"}`).Get(); n != 1 {
			t.Errorf("%s: %d errors counted", name, n)
		}
	}
}

// TestHugeResource: what a resource says counts once for each of its points, so there are bounds.
func TestHugeResource(t *testing.T) {
	attributes := func(n, size int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"key":"k%d","value":{"stringValue":"%s"}}`, i, strings.Repeat("x", size)))
		}
		return strings.Join(list, ",")
	}
	for name, list := range map[string]string{"many attributes": attributes(2000, 1), "long attributes": attributes(100, 5000)} {
		p, _ := newParser(t)
		body := `{"resourceMetrics":[{"resource":{"attributes":[` + list + `]},"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asDouble":1},{"asDouble":1}]}}]}]},
			{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asDouble":1}]}}]}]}]}`
		rows, _, result, err := parse(p, []byte(body), "json")
		if err != nil || !slices.Equal(rows, []string{"m 1 0"}) || result.Invalid != 2 || !strings.Contains(result.Reason, "more than") {
			t.Errorf("%s: %q, %+v, %v", name, rows, result, err)
		}
	}
}

func TestFirehose(t *testing.T) {
	record := protowire.AppendBytes(protowire.AppendBytes(nil, mixed(t)), mixed(t))
	text := base64.StdEncoding.EncodeToString(record)
	p, _ := newParser(t)
	rows, _, _, err := parse(p, []byte(`{"requestId":"x","timestamp":1,"records":[{"data":"`+text+`"},{"data":"`+text+`"}]}`), "firehose")
	var want []string
	for range 4 {
		want = append(want, wantMixed()...)
	}
	slices.Sort(want)
	if err != nil || !slices.Equal(rows, want) {
		t.Errorf("%d rows, %v; want %d", len(rows), err, len(want))
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	f.Add(mixed(f), "")
	f.Add([]byte(mixedJSON), "json")
	f.Add([]byte(`{"records":[{"data":"f2FiYw=="}]}`), "firehose")
	f.Fuzz(func(t *testing.T, body []byte, format string) {
		rows, _, result, err := parse(p, body, format)
		if k := errkind.Of(err); k != errkind.OK && k != errkind.BadRequest && k != errkind.TooLarge {
			t.Fatalf("error %v has the kind %s", err, k)
		}
		if len(rows) != result.Rows {
			t.Fatalf("%d rows, result %+v", len(rows), result)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for format, body := range map[string][]byte{"protobuf": mixed(b), "json": []byte(mixedJSON)} {
		b.Run(format, func(b *testing.B) {
			p, _ := newParser(b)
			r := bytes.NewReader(body)
			req := &protoparser.Request{Body: r, Format: format, Sink: func(*model.Batch) error { return nil }}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r.Reset(body)
				if _, err := p.Parse(req); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/19, "ns/sample")
		})
	}
}
