//go:build !race

// Under the race detector pools lose what is in them at random.

package protoparser_test

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/golang/snappy"
	oracle "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/csvimport"
	"vmcluster/lib/protoparser/exposition"
	"vmcluster/lib/protoparser/graphite"
	"vmcluster/lib/protoparser/influx"
	"vmcluster/lib/protoparser/jsonline"
	"vmcluster/lib/protoparser/newrelic"
	"vmcluster/lib/protoparser/opentsdb"
	"vmcluster/lib/protoparser/opentsdbhttp"
	"vmcluster/lib/protoparser/otlp"
	"vmcluster/lib/protoparser/parsertest"
	"vmcluster/lib/protoparser/remotewrite"
)

const steadySeries = 2000

// binaryBodies are requests in the formats that are no texts.
func binaryBodies(t *testing.T) []parsertest.Body {
	t.Helper()
	v2, refs := oracle.Request{Symbols: []string{""}}, map[string]uint32{"": 0}
	ref := func(s string) uint32 {
		if _, ok := refs[s]; !ok {
			refs[s] = uint32(len(v2.Symbols))
			v2.Symbols = append(v2.Symbols, s)
		}
		return refs[s]
	}
	var points []byte
	for i := range steadySeries {
		x := oracle.TimeSeries{Samples: []oracle.Sample{{Timestamp: parsertest.Time(i), Value: parsertest.Value(i)}}}
		for _, l := range parsertest.Labels(i) {
			x.LabelsRefs = append(x.LabelsRefs, ref(l.Name), ref(l.Value))
		}
		v2.Timeseries = append(v2.Timeseries, x)
		var p []byte
		for _, l := range parsertest.Labels(i)[1:] {
			p = message(p, 7, message(message(nil, 1, []byte(l.Name)), 2, message(nil, 1, []byte(l.Value))))
		}
		points = message(points, 1, protowire.AppendFixed64(protowire.AppendTag(p, 4, protowire.Fixed64Type), 1))
	}
	body, err := v2.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	event := `{"Events":[{"eventType":"SystemSample","timestamp":1717200000,"entityKey":"a","cpuPercent":1.5,"loadAverage":1.25}]},`
	return []parsertest.Body{
		{Format: "promremotewrite2", Encoding: "snappy", Text: string(snappy.Encode(nil, body)), Rows: steadySeries},
		{Format: "opentelemetry", Text: string(message(nil, 1, message(nil, 2, message(nil, 2, message(message(nil, 1, []byte("m")), 5, points))))), Rows: steadySeries},
		{Format: "newrelic", Text: "[" + strings.TrimSuffix(strings.Repeat(event, steadySeries), ",") + "]", Rows: 2 * steadySeries},
	}
}

// TestSteadyState: requests of known series allocate nothing for any of their samples; at most a few objects for the request.
func TestSteadyState(t *testing.T) {
	in, _ := parsertest.NewIntake(t, nil)
	parsers := map[string]func(*protoparser.Request) (protoparser.Result, error){
		"prometheus": exposition.New(in).Parse, "influx": influx.New(in, influx.Config{Separator: "_", MaxLineSize: 1 << 20, MaxRequestSize: 1 << 26}).Parse,
		"graphite": graphite.New(in, graphite.Config{}).Parse, "opentsdb": opentsdb.New(in, opentsdb.Config{}).Parse, "opentsdbhttp": opentsdbhttp.New(in, opentsdbhttp.Config{MaxRequestSize: 1 << 26}).Parse,
		"vmimport": jsonline.New(in).Parse, "csvimport": csvimport.New(in, 1).Parse, "newrelic": newrelic.New(in, newrelic.Config{MaxRequestSize: 1 << 26}).Parse,
		"opentelemetry": otlp.New(in, otlp.Config{MaxRequestSize: 1 << 26, PromoteAll: true, PromoteScope: true}).Parse,
	}
	parsers["promremotewrite"] = remotewrite.New(in).Parse
	parsers["promremotewrite2"] = parsers["promremotewrite"]
	most := map[string]float64{"prometheus": 2, "influx": 4, "graphite": 3, "opentsdb": 3, "vmimport": 3, "csvimport": 11}
	for _, body := range append(parsertest.Bodies(steadySeries), binaryBodies(t)...) {
		r := strings.NewReader("")
		req := &protoparser.Request{Body: r, Encoding: body.Encoding, Format: body.Argument, SymbolTable: body.Format == "promremotewrite2", DefaultTimestamp: 1, Sink: func(*model.Batch) error { return nil }}
		parse := func() {
			r.Reset(body.Text)
			if result, err := parsers[body.Format](req); err != nil || result.Rows < body.Rows || result.Invalid+result.Dropped > 0 {
				t.Fatalf("%s: %+v, %v", body.Format, result, err)
			}
		}
		percent := debug.SetGCPercent(-1) // which empties pools
		parse()
		if n := testing.AllocsPerRun(10, parse); n > most[body.Format] {
			t.Errorf("%s: %v allocations for each request of %d samples, want %v", body.Format, n, body.Rows, most[body.Format])
		}
		debug.SetGCPercent(percent)
	}
}
