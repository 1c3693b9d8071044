package insertapi

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/golang/snappy"

	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/relabel"
)

// discard takes batches and asks for nothing, as a consumer does that knows all series.
type discard struct{}

func (discard) Ingest(context.Context, *model.Batch) error { return nil }

// benchmarkBody returns a compressed request of one sample for each of n series of a node exporter, from the given one on.
func benchmarkBody(first, n, round int) []byte {
	var body []byte
	for i := first; i < first+n; i++ {
		s := prompb.TimeSeries[label]{Labels: []label{
			{Name: "__name__", Value: "node_cpu_seconds_total"}, {Name: "cluster", Value: "production-eu"}, {Name: "cpu", Value: fmt.Sprint(i % 64)},
			{Name: "env", Value: "prod"}, {Name: "instance", Value: fmt.Sprintf("10.0.%d.%d:9100", i/16000, i/64%250)}, {Name: "job", Value: "node-exporter"},
			{Name: "mode", Value: "idle"}, {Name: "series", Value: fmt.Sprint(i)},
		}, Samples: []prompb.Sample{{Timestamp: 1717200000000 + int64(round)*15000, Value: float64(i*round) * 1.5}}}
		body = prompb.AppendTimeSeries(body, &s)
	}
	return snappy.Encode(nil, body)
}

// BenchmarkSeries counts time per sample of requests of 5000 series each, from the HTTP handler to a consumer
// which does nothing.
func BenchmarkSeries(b *testing.B) {
	const perBody = 5000
	for _, series := range []int{5000, 100_000, 500_000} {
		b.Run(fmt.Sprintf("known=%d", series), func(b *testing.B) { benchmarkSeries(b, series/perBody, perBody, false, benchSetup{}) })
	}
	b.Run("limit/known=100000", func(b *testing.B) {
		benchmarkSeries(b, 100_000/perBody, perBody, false, benchSetup{limits: newLimits(b, "default active_series=1000000", metrics.NewSet())})
	})
	b.Run("new", func(b *testing.B) { benchmarkSeries(b, 100, perBody, true, benchSetup{}) })
}

// benchmarkRules returns n rules of the kind that people have. The first drops a sixteenth of the series.
func benchmarkRules(b *testing.B, n int) *relabel.Rules {
	text := "- {action: drop, source_labels: [series], regex: '.*0[37]|.*[12][37]|.*99'}\n"
	for i := 1; i < n; i++ {
		text += []string{
			"- {source_labels: [instance], regex: '(.+):(\\d+)', target_label: host}\n",
			"- {source_labels: [__name__, mode], regex: 'node_memory_.+;.*', action: drop}\n",
			"- {target_label: region, replacement: 'eu-{{env}}'}\n",
			"- {action: labeldrop, regex: 'tmp_.+'}\n",
			"- {if: '{job=\"kubelet\",cluster=~\"prod.*\"}', source_labels: [cpu], target_label: core}\n",
			"- {action: keep, source_labels: [job], regex: 'node-exporter|kubelet|cadvisor'}\n",
			"- {action: labelmap, regex: 'label_(.+)'}\n",
		}[i%7]
	}
	rules, err := relabel.Parse("benchmark", []byte(text))
	if err != nil {
		b.Fatal(err)
	}
	return rules
}

// BenchmarkRelabelled counts time per sample by the number of rules, of a million series which are known and of series which are not.
func BenchmarkRelabelled(b *testing.B) {
	const perBody = 5000
	for _, n := range []int{0, 1, 10, 20} {
		var rules *relabel.Rules
		if n > 0 {
			rules = benchmarkRules(b, n)
		}
		b.Run(fmt.Sprintf("rules=%d/known", n), func(b *testing.B) { benchmarkSeries(b, 200, perBody, false, benchSetup{rules: rules}) })
		b.Run(fmt.Sprintf("rules=%d/new", n), func(b *testing.B) { benchmarkSeries(b, 20, perBody, true, benchSetup{rules: rules}) })
	}
}

// benchSetup is what the API of a benchmark has besides.
type benchSetup struct {
	limits *tenantlimits.Limiter
	rules  *relabel.Rules
}

func benchmarkSeries(b *testing.B, bodies, perBody int, isNew bool, setup benchSetup) {
	var cfg Config
	cfg.RegisterFlags(flag.NewFlagSet("test", flag.ContinueOnError))
	style, path := SingleNode, "/api/v1/write"
	if setup.limits != nil {
		style, path = Cluster, "/insert/0/prometheus/api/v1/write"
	}
	newAPI := func() *API {
		api := New(Options{Ingester: discard{}, Logger: logger.Discard(), Metrics: metrics.NewSet(), Config: &cfg, PathStyle: style, Limits: setup.limits})
		api.Relabel(setup.rules)
		return api
	}
	var requests [][]byte
	for i := range bodies {
		requests = append(requests, benchmarkBody(i*perBody, perBody, 1))
	}
	api := newAPI()
	send := func(body []byte) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", path, bytes.NewReader(body))
		api.Handle(w, r)
		if w.Code != 204 {
			b.Fatal(w.Code, w.Body)
		}
	}
	for _, r := range requests {
		send(r)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if isNew && i%bodies == 0 {
			b.StopTimer()
			api = newAPI()
			b.StartTimer()
		}
		send(requests[i%bodies])
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N)/float64(perBody), "cpu-ns/sample")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(perBody), "ns/sample")
}

// batchKeyer makes keys of numbers.
type batchKeyer struct{ keys [][]byte }

func (k *batchKeyer) AppendKey(dst []byte, number uint32, _ uint64) []byte {
	return append(dst, k.keys[number]...)
}

// BenchmarkNative counts time per sample of numbered batches of a higher level, to a consumer which does nothing, when batches pass as they are and when
// labels may change.
func BenchmarkNative(b *testing.B) {
	const series = 5000
	for _, naming := range []bool{false, true} {
		b.Run(fmt.Sprintf("naming=%t", naming), func(b *testing.B) {
			var c Config
			fs := flag.NewFlagSet("bench", flag.ContinueOnError)
			c.RegisterFlags(fs)
			if err := fs.Parse([]string{fmt.Sprintf("-usePromCompatibleNaming=%t", naming)}); err != nil {
				b.Fatal(err)
			}
			set := metrics.NewSet()
			n := NewNative(New(Options{Ingester: discard{}, Logger: logger.Discard(), Metrics: set, Config: &c, PathStyle: Cluster}), set)
			space, keyer := model.NewSpace(), &batchKeyer{}
			defer space.Close()
			for i := range series {
				key, err := model.AppendSeriesKey(nil, model.TenantID{}, []model.Label{{Name: "__name__", Value: "node_cpu_seconds_total"}, {Name: "instance", Value: "10.0.0.1:9100"}, {Name: "job", Value: "node"}, {Name: "series", Value: fmt.Sprint(i)}})
				if err != nil {
					b.Fatal(err)
				}
				keyer.keys = append(keyer.keys, key)
			}
			var batch model.Batch
			b.ReportAllocs()
			for b.Loop() {
				batch.Reset()
				batch.SetSpace(space, keyer)
				for i := range uint32(series) {
					batch.AddNumbered(i, uint64(i), 0)
					batch.AddSample(1, 1)
				}
				if err := n.Ingest(b.Context(), &batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
		})
	}
}
