package promqlapi

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"

	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
)

// payload returns a histogram of Prometheus in the form in which it is stored.
func payload(h *histogram.FloatHistogram) []byte {
	sign := func(spans []histogram.Span, counts []float64) (b nativehistogram.Buckets) {
		for _, s := range spans {
			b.Spans = append(b.Spans, nativehistogram.Span{Offset: s.Offset, Length: s.Length})
		}
		b.Floats = counts
		return b
	}
	ours := nativehistogram.Histogram{
		Hint: nativehistogram.ResetHint(h.CounterResetHint), Schema: h.Schema, Float: true, ZeroThreshold: h.ZeroThreshold, Sum: h.Sum, FloatCount: h.Count, FloatZero: h.ZeroCount,
		Positive: sign(h.PositiveSpans, h.PositiveBuckets), Negative: sign(h.NegativeSpans, h.NegativeBuckets), CustomValues: h.CustomValues,
	}
	return ours.Append(nil)
}

// promOf returns a histogram as Prometheus has it.
func promOf(h *nativehistogram.Histogram) *histogram.FloatHistogram {
	sign := func(b *nativehistogram.Buckets) (spans []histogram.Span, counts []float64) {
		for _, s := range b.Spans {
			spans = append(spans, histogram.Span{Offset: s.Offset, Length: s.Length})
		}
		for _, n := range b.Counts {
			counts = append(counts, float64(n))
		}
		return spans, append(counts, b.Floats...)
	}
	p := &histogram.FloatHistogram{CounterResetHint: histogram.CounterResetHint(h.Hint), Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, Sum: h.Sum, CustomValues: h.CustomValues,
		Count: h.Total(), ZeroCount: h.FloatZero + float64(h.ZeroCount)}
	p.PositiveSpans, p.PositiveBuckets = sign(&h.Positive)
	p.NegativeSpans, p.NegativeBuckets = sign(&h.Negative)
	return p
}

// TestHistogramJSON: histograms are in answers as Prometheus' own package renders them, but for the spaces and the form of very large and small numbers.
func TestHistogramJSON(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for kind := range histogramtest.Kind(histogramtest.Kinds) {
		source := histogramtest.New(rng, kind)
		for range 20 {
			p := promql.HPoint{T: t0 + 250, H: promOf(source.Next())}
			theirs, err := p.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			out := &writer{}
			out.histogram(p)
			var got, want any
			if err := errors.Join(json.Unmarshal(out.b, &got), json.Unmarshal(theirs, &want)); err != nil {
				t.Fatalf("%s: %s", out.b, err)
			}
			if !alike(got, want) {
				t.Fatalf("got  %s\nwant %s", out.b, theirs)
			}
		}
	}
	out := &writer{}
	out.histogram(promql.HPoint{T: 1500, H: &histogram.FloatHistogram{Schema: 0, Count: 4, Sum: 5.5, ZeroThreshold: 0.5, ZeroCount: 1,
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 3}}, PositiveBuckets: []float64{1, 0, 1}, NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []float64{1}}})
	const want = `[1.500,{"count":"4","sum":"5.5","buckets":[[1,"-2","-1","1"],[3,"-0.5","0.5","1"],[0,"1","2","1"],[0,"4","8","1"]]}]`
	if string(out.b) != want {
		t.Errorf("got  %s\nwant %s", out.b, want)
	}
}
