package producers

import (
	"fmt"
	"math"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	api "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// TestOpenTelemetry writes metrics of each kind by the SDK and its exporter, cumulative and delta, plain and compressed.
func TestOpenTelemetry(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		for name, temporality := range map[string]metricdata.Temporality{"cumulative": metricdata.CumulativeTemporality, "delta": metricdata.DeltaTemporality} {
			x.t.Run(name, func(t *testing.T) {
				y := *x
				y.t = t
				openTelemetry(&y, name, temporality)
			})
		}
	})
}

func openTelemetry(x *target, service string, temporality metricdata.Temporality) {
	t, ctx := x.t, x.t.Context()
	compression := otlpmetrichttp.NoCompression
	if temporality == metricdata.DeltaTemporality {
		compression = otlpmetrichttp.GzipCompression
	}
	exporter, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(x.path("opentelemetry", "/v1/metrics")), otlpmetrichttp.WithCompression(compression))
	if err != nil {
		t.Fatal(err)
	}
	reader := metric.NewManualReader(metric.WithTemporalitySelector(func(metric.InstrumentKind) metricdata.Temporality { return temporality }))
	exponential := metric.NewView(metric.Instrument{Name: "exponential"}, metric.Stream{Aggregation: metric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}})
	provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithView(exponential), metric.WithResource(resource.NewSchemaless(attribute.String("service.name", service), attribute.Int("shard", 3))))
	record := instruments(t, provider.Meter("producer", api.WithInstrumentationVersion("1.2")))
	want := samples{}
	last := int64(0)
	for range 3 {
		for time.Now().UnixMilli() == last { // so that no two points of a series have the same time
			time.Sleep(time.Millisecond)
		}
		record()
		var data metricdata.ResourceMetrics
		if err := reader.Collect(ctx, &data); err != nil {
			t.Fatal(err)
		}
		last = time.Now().UnixMilli()
		if err := exporter.Export(ctx, &data); err != nil {
			t.Fatal(err)
		}
		addOpenTelemetry(t, want, service, &data)
	}
	if len(want) < 20 {
		t.Fatalf("only %d series were sent", len(want))
	}
	x.wants(fmt.Sprintf(`{service.name=%q}`, service), want)
}

// instruments returns a function which measures something by instruments of all kinds.
func instruments(t *testing.T, m api.Meter) (record func()) {
	t.Helper()
	ctx := t.Context()
	counter, err1 := m.Int64Counter("requests", api.WithUnit("1"), api.WithDescription("what was asked"))
	upDown, err2 := m.Int64UpDownCounter("queue.length")
	gauge, err3 := m.Float64Gauge("temperature", api.WithUnit("Cel"))
	histogram, err4 := m.Float64Histogram("latency", api.WithUnit("ms"), api.WithExplicitBucketBoundaries(0.5, 1, 2.5, 1e6))
	exponential, err5 := m.Float64Histogram("exponential")
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	return func() {
		n++
		for _, method := range []string{"GET", "PUT \"quoted\" ü"} {
			where := api.WithAttributes(attribute.String("http.method", method), attribute.Bool("ok", true), attribute.Float64("f", 0.25), attribute.StringSlice("list", []string{"a", "b"}))
			counter.Add(ctx, int64(n), where)
			upDown.Add(ctx, int64(2-n), where)
			gauge.Record(ctx, -1.5*float64(n), where)
			for i := range 10 * n {
				histogram.Record(ctx, float64(i)/4, where)
				exponential.Record(ctx, float64(i-3)*1.7, where) // zero and negative ones among them
			}
		}
	}
}

// addOpenTelemetry adds what is to be stored of what the SDK has collected.
func addOpenTelemetry(t *testing.T, want samples, service string, data *metricdata.ResourceMetrics) {
	t.Helper()
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			p := otlpPoints{want: want, service: service, name: m.Name}
			switch points := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, x := range points.DataPoints {
					p.add("", x.Attributes, x.Time, float64(x.Value))
				}
			case metricdata.Gauge[float64]:
				for _, x := range points.DataPoints {
					p.add("", x.Attributes, x.Time, x.Value)
				}
			case metricdata.Histogram[float64]:
				for _, x := range points.DataPoints {
					p.histogram(&x)
				}
			case metricdata.ExponentialHistogram[float64]:
				for _, x := range points.DataPoints {
					p.exponential(&x)
				}
			default:
				t.Fatalf("metric %s is a %T", m.Name, points)
			}
		}
	}
}

type otlpPoints struct {
	want          samples
	service, name string
}

// add adds a sample; more are names and values of labels besides those of the attributes.
func (p *otlpPoints) add(suffix string, attributes attribute.Set, at time.Time, value float64, more ...string) {
	labels := map[string]string{"__name__": p.name + suffix, "service.name": p.service, "shard": "3", "scope.name": "producer", "scope.version": "1.2"}
	for _, a := range attributes.ToSlice() {
		labels[string(a.Key)] = a.Value.String()
	}
	for i := 0; i < len(more); i += 2 {
		labels[more[i]] = more[i+1]
	}
	p.want.add(series(labels), at.UnixMilli(), value)
}

func (p *otlpPoints) histogram(x *metricdata.HistogramDataPoint[float64]) {
	p.add("_count", x.Attributes, x.Time, float64(x.Count))
	p.add("_sum", x.Attributes, x.Time, x.Sum)
	n := uint64(0)
	for i, count := range x.BucketCounts {
		n += count
		le := "+Inf"
		if i < len(x.Bounds) {
			le = fmt.Sprint(x.Bounds[i])
			if x.Bounds[i] == 1e6 {
				le = "1000000"
			}
		}
		p.add("_bucket", x.Attributes, x.Time, float64(n), "le", le)
	}
}

func (p *otlpPoints) exponential(x *metricdata.ExponentialHistogramDataPoint[float64]) {
	p.add("_count", x.Attributes, x.Time, float64(x.Count))
	p.add("_sum", x.Attributes, x.Time, x.Sum)
	bucket := func(low, high float64, count uint64) {
		if count > 0 {
			p.add("_bucket", x.Attributes, x.Time, float64(count), "vmrange", fmt.Sprintf("%.3e...%.3e", low, high))
		}
	}
	bound := func(index int32) float64 { return math.Exp2(float64(index) * math.Exp2(-float64(x.Scale))) }
	bucket(-x.ZeroThreshold, x.ZeroThreshold, x.ZeroCount)
	for i, count := range x.PositiveBucket.Counts {
		at := x.PositiveBucket.Offset + int32(i)
		bucket(bound(at), bound(at+1), count)
	}
	for i, count := range x.NegativeBucket.Counts {
		at := x.NegativeBucket.Offset + int32(i)
		bucket(-bound(at+1), -bound(at), count)
	}
}
