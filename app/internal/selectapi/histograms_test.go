package selectapi

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/tsdump"
)

// twoBuckets is a histogram with observations up to 1 and up to 2.
func twoBuckets(a, b uint64) []byte {
	h := nativehistogram.Histogram{Count: a + b, Sum: float64(a) + 2*float64(b), Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Length: 2}}, Counts: []uint64{a, b}}}
	return h.Append(nil)
}

// newHistogramEnv stores a histogram at t0, another one 15s later, and a marker at the end.
func newHistogramEnv(t *testing.T) (*env, [2][]byte) {
	t.Helper()
	e, payloads := newEnv(t), [2][]byte{twoBuckets(1, 0), twoBuckets(3, 2)}
	var b model.Batch
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "x"}, {Name: "job", Value: "a"}}); err != nil {
		t.Fatal(err)
	}
	b.AddHistogram(t0*1000, payloads[0])
	b.AddHistogram(t0*1000+15000, payloads[1])
	b.AddSample(t0*1000+30000, math.Float64frombits(0x7ff0000000000002))
	if err := e.store.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return e, payloads
}

const (
	lowRange  = `5.000e-01...1.000e+00`
	highRange = `1.000e+00...2.000e+00`
)

// TestHistogramParts: in every answer with numbers a native histogram shows as the series which the filters select.
func TestHistogramParts(t *testing.T) {
	e, _ := newHistogramEnv(t)
	own := "x{job=\"a\",vmrange=\"" + highRange + "\"} 2 1717200015000\nx{job=\"a\",vmrange=\"" + lowRange + "\"} 3 1717200015000\n"
	countAndSum := "x_count{job=\"a\"} 5 1717200015000\nx_sum{job=\"a\"} 7 1717200015000\n"
	exported := func(match string) string {
		_, body, _ := e.get(t, "GET", api+"export", url.Values{"format": {"prometheus"}, "match[]": {match}, "start": {"1717200015"}, "end": {"1717200015"}})
		lines := strings.SplitAfter(body, "\n")
		slices.Sort(lines)
		return strings.Join(lines, "")
	}
	for match, want := range map[string]string{
		`x`:                                   own,
		`{job="a"}`:                           countAndSum + own,
		`{__name__=~"x.*"}`:                   countAndSum + own,
		`{__name__=~"x_count|x_sum"}`:         countAndSum,
		`x_bucket`:                            strings.ReplaceAll(own, "x{", "x_bucket{"),
		`x_bucket{vmrange=~"5.*",job=~"a|b"}`: "x_bucket{job=\"a\",vmrange=\"" + lowRange + "\"} 3 1717200015000\n",
		`x{vmrange=""}`:                       "",
		`x_bucket{le="1"}`:                    "",
		`x_count{job="b"}`:                    "",
	} {
		if got := exported(match); got != want {
			t.Errorf("%s: got\n%swant\n%s", match, got, want)
		}
	}
	_, body, _ := e.get(t, "GET", api+"export", url.Values{"match[]": {"x_bucket", "x_count"}})
	if want := `{"metric":{"__name__":"x_count","job":"a"},"values":[1,5,null],"timestamps":[1717200000000,1717200015000,1717200030000]}
{"metric":{"__name__":"x_bucket","job":"a","vmrange":"` + highRange + `"},"values":[0,2,null],"timestamps":[1717200000000,1717200015000,1717200030000]}
{"metric":{"__name__":"x_bucket","job":"a","vmrange":"` + lowRange + `"},"values":[1,3,null],"timestamps":[1717200000000,1717200015000,1717200030000]}
`; body != want {
		t.Errorf("JSON lines:\n%swant\n%s", body, want)
	}
	_, body, _ = e.get(t, "GET", api+"export/csv", url.Values{"match[]": {"x_sum"}, "format": {"__name__,__value__,__timestamp__"}})
	if want := "__name__,__value__,__timestamp__\nx_sum,1,1717200000000\nx_sum,7,1717200015000\nx_sum,NaN,1717200030000\n"; body != want {
		t.Errorf("CSV: %q, want %q", body, want)
	}
	e.now = time.Unix(t0+20, 0)
	if _, body, _ = e.getQuery(t, prom+"federate", "match[]=x"); body != own {
		t.Errorf("federation:\n%swant\n%s", body, own)
	}
	for query, want := range map[string]string{
		`sum(increase(x[1m]))`:              `[{"metric":{},"value":[1717200020,"5"]}]`,
		`x_count - x_sum`:                   `[{"metric":{"job":"a"},"value":[1717200020,"-2"]}]`,
		`histogram_quantile(0.5, x_bucket)`: `[{"metric":{"job":"a"},"value":[1717200020,"0.9166666666666667"]}]`,
		`count({job="a"})`:                  `[{"metric":{},"value":[1717200020,"4"]}]`,
	} {
		_, body, _ := e.get(t, "GET", api+"query", url.Values{"query": {query}, "time": {"1717200020"}, "nocache": {"1"}})
		if !strings.Contains(body, `"result":`+want) {
			t.Errorf("%s: %s, want %s", query, body, want)
		}
	}
	e.now = time.Unix(t0+3600, 0)
	if _, body, _ = e.get(t, "GET", api+"query", url.Values{"query": {"x_count or x"}, "time": {"1717200031"}}); !strings.Contains(body, `"result":[]`) {
		t.Errorf("after the marker: %s", body)
	}
	if _, body, _ = e.get(t, "GET", api+"series", url.Values{"match[]": {`{__name__=~"x.*"}`}}); !strings.Contains(body, `"data":[{"__name__":"x","job":"a"}]`) {
		t.Errorf("series: %s", body)
	}
}

// TestHistogramsNatively: a native export has the histograms as they are stored, also when it begins or ends within a block.
func TestHistogramsNatively(t *testing.T) {
	e, payloads := newHistogramEnv(t)
	for _, tc := range []struct {
		start, end string
		want       []string
	}{
		{"1717200000", "1717200030", []string{string(payloads[0]), string(payloads[1])}},
		{"1717200001", "1717200030", []string{string(payloads[1])}},
		{"1717200000", "1717200014", []string{string(payloads[0])}},
	} {
		_, body, _ := e.get(t, "GET", api+"export/native", url.Values{"match[]": {"x"}, "start": {tc.start}, "end": {tc.end}})
		var got []string
		r := tsdump.NewReader(strings.NewReader(body))
		for r.Next() {
			for _, b := range r.At().Blocks {
				var found tsblock.HistogramSamples
				if b.Content() != tsblock.Histograms {
					continue
				}
				if err := b.DecodeHistograms(&found); err != nil {
					t.Fatal(err)
				}
				for _, p := range found.Payloads {
					got = append(got, string(p))
				}
			}
		}
		if err := r.Err(); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("from %s to %s: %x, %v; want %x", tc.start, tc.end, got, err, tc.want)
		}
	}
}
