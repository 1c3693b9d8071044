package apptest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"vmcluster/lib/nativehistogram/histogramtest"
)

// writeHistograms sends three series of native histograms, 15 seconds apart, and returns the time of the last ones.
func writeHistograms(t *testing.T, target string, from int64) int64 {
	t.Helper()
	const n = 120
	rng := rand.New(rand.NewPCG(7, 7))
	var r prompb.WriteRequest
	for i := range 3 {
		source := histogramtest.New(rng, []histogramtest.Kind{histogramtest.Whole, histogramtest.Fractional, histogramtest.Whole}[i])
		x := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "latency"}, {Name: "i", Value: fmt.Sprint(i)}}}
		for k := range int64(n) {
			x.Histograms = append(x.Histograms, histogramtest.Message(source.Next(), from+k*15_000))
		}
		r.Timeseries = append(r.Timeseries, x)
	}
	body, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	request(t, http.MethodPost, target, snappy.Encode(nil, body), "Content-Encoding", "snappy", "Content-Type", "application/x-protobuf").want(t, http.StatusNoContent)
	return from + (n-1)*15_000
}

// histogramAnswers asks for histograms in all the ways there are, at a base URL of a tenant.
func histogramAnswers(t *testing.T, prom, promql string, at int64) []string {
	t.Helper()
	var out []string
	for _, query := range []string{
		`latency`, `latency[5m]`, `histogram_quantile(0.9, sum(rate(latency[5m])))`, `sum by (i) (increase(latency[10m]))`, `histogram_count(latency)`,
	} {
		out = append(out, query+": "+untimed(get(t, promql+"/api/v1/query", "query", query, "time", seconds(at)).want(t, http.StatusOK, `"result":[{`).body))
		if !strings.HasSuffix(query, "[5m]") {
			out = append(out, query+": "+untimed(get(t, promql+"/api/v1/query_range", "query", query, "start", seconds(at-600_000), "end", seconds(at), "step", "60").want(t, http.StatusOK, `"result":[{`).body))
		}
	}
	for _, query := range []string{
		`latency`, `sum(latency_count)`, `latency_sum`, `histogram_quantile(0.9, sum by (vmrange) (rate(latency_bucket[5m])))`, `histogram_quantile(0.5, rate(latency[10m]))`, `count(latency_bucket) by (i)`,
	} {
		out = append(out, query+": "+untimed(get(t, prom+"/api/v1/query", "query", query, "time", seconds(at), "nocache", "1", "latency_offset", "0s").want(t, http.StatusOK, `"result":[{`).body))
	}
	out = append(out, get(t, prom+"/api/v1/export", "match[]", `{__name__=~"latency_bucket|latency_count|latency_sum"}`, "start", "0").want(t, http.StatusOK, "vmrange").body)
	for _, types := range [][]prompb.ReadRequest_ResponseType{nil, {prompb.ReadRequest_STREAMED_XOR_CHUNKS}} {
		body, err := (&prompb.ReadRequest{AcceptedResponseTypes: types,
			Queries: []*prompb.Query{{StartTimestampMs: at - 3600_000, EndTimestampMs: at, Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: "latency"}}}}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		a := request(t, http.MethodPost, prom+"/api/v1/read", snappy.Encode(nil, body), "Content-Encoding", "snappy", "Content-Type", "application/x-protobuf").want(t, http.StatusOK)
		if len(a.body) < 1000 {
			t.Errorf("a remote read answers %d bytes", len(a.body))
		}
		out = append(out, fmt.Sprintf("remote read %v: %x", types, a.body))
	}
	return out
}

// sameAnswers compares answers with those of before.
func sameAnswers(t *testing.T, when string, got, want []string) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: got %.700s\nwant %.700s", when, got[i], want[i])
		}
	}
}

// TestNativeHistograms: histograms are answered alike in all dialects and protocols when they are in memory, when a replica is gone, after a restart, and from a dump.
func TestNativeHistograms(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{insertArgs: []string{"-replicationFactor=2"}, selectArgs: []string{"-replicationFactor=2", "-dedup.minScrapeInterval=1ms"}})
	end := writeHistograms(t, c.writeURL("1")+"/api/v1/write", anHourAgo())
	urls := func(tenant string) (prom, promql string) {
		prom = c.readURL(tenant)
		return prom, strings.Replace(prom, "/prometheus", "/promql", 1)
	}
	ask := func(tenant string) []string {
		prom, promql := urls(tenant)
		return histogramAnswers(t, prom, promql, end)
	}
	c.flush()
	want := ask("1")
	dump := get(t, c.readURL("1")+"/api/v1/export/native", "match[]", "latency", "start", "0").want(t, http.StatusOK).body
	request(t, http.MethodPost, c.writeURL("2")+"/api/v1/import/native", []byte(dump)).want(t, http.StatusNoContent)
	c.flush()
	sameAnswers(t, "from a dump", ask("2"), want)
	c.storage[0].kill()
	sameAnswers(t, "without a replica", ask("1"), want)
	c.storage[0].restart()
	c.storage[1].kill()
	c.storage[1].restart()
	c.waitWhole()
	sameAnswers(t, "after a restart", ask("1"), want)
	sameAnswers(t, "from a dump after a restart", ask("2"), want)
	s := startSingle(t)
	request(t, http.MethodPost, s.url("/api/v1/import/native"), []byte(dump)).want(t, http.StatusNoContent)
	request(t, http.MethodGet, s.url("/internal/force_flush"), nil)
	partial := func(list []string) []string {
		out := slices.Clone(list)
		for i := range out {
			out[i] = strings.Replace(out[i], `"isPartial":false,`, "", 1)
		}
		return out
	}
	sameAnswers(t, "single node", histogramAnswers(t, s.url("/prometheus"), s.url("/promql"), end), partial(want))
}
