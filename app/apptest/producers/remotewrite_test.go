package producers

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/exp/api/remote"
	writev2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	"github.com/prometheus/prometheus/prompb"
)

// remoteSeries are series to write, with samples at times of their own, some of them odd.
func remoteSeries() (labels []map[string]string, values [][]float64) {
	for i := range 50 {
		labels = append(labels, map[string]string{"__name__": "remote_total", "i": fmt.Sprint(i), "job": "jöb \"x\"\n", "shared": "same"})
		values = append(values, []float64{float64(i), -float64(i+1) / 3, math.MaxFloat64, math.SmallestNonzeroFloat64, 1e-7 * float64(i)})
	}
	return labels, values
}

const remoteStart = 1717200000000

func (x *target) remote() *remote.API {
	x.t.Helper()
	api, err := remote.NewAPI(x.path("prometheus", ""), remote.WithAPIPath("api/v1/write"))
	if err != nil {
		x.t.Fatal(err)
	}
	return api
}

// TestRemoteWrite writes by the client of Prometheus' Go module in both versions of the protocol, each series twice, in another order.
func TestRemoteWrite(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		t, api := x.t, x.remote()
		labels, values := remoteSeries()
		want := samples{}
		for run := range 4 {
			var v1 prompb.WriteRequest
			v2, symbols := &writev2.Request{}, writev2.NewSymbolTable()
			rows := 0
			for i := range labels {
				if run > 1 {
					i = len(labels) - 1 - i
				}
				l := map[string]string{"version": fmt.Sprint(run%2 + 1)}
				maps.Copy(l, labels[i])
				one, two := prompb.TimeSeries{}, &writev2.TimeSeries{}
				for _, name := range slices.Sorted(maps.Keys(l)) {
					one.Labels = append(one.Labels, prompb.Label{Name: name, Value: l[name]})
					two.LabelsRefs = append(two.LabelsRefs, symbols.Symbolize(name), symbols.Symbolize(l[name]))
				}
				for j, v := range values[i] {
					at := int64(remoteStart + 15000*(run*len(values[i])+j) + i)
					one.Samples = append(one.Samples, prompb.Sample{Timestamp: at, Value: v})
					two.Samples = append(two.Samples, &writev2.Sample{Timestamp: at, Value: v})
					want.add(series(l), at, v)
					rows++
				}
				v1.Timeseries, v2.Timeseries = append(v1.Timeseries, one), append(v2.Timeseries, two)
			}
			v2.Symbols = symbols.Symbols()
			message, body := remote.WriteV1MessageType, any(&v1)
			if run%2 == 1 {
				message, body = remote.WriteV2MessageType, v2
			}
			stats, err := api.Write(t.Context(), message, body)
			if err != nil || run%2 == 1 && stats.AllSamples() != rows {
				t.Errorf("%s: %+v, %v; want %d samples", message, stats, err, rows)
			}
		}
		x.wants(`remote_total`, want)
	})
}

// TestRemoteWriteHistograms writes histograms, with exemplars and metadata, by remote write 2.0, beside samples, which must all be stored. What
// the answer says to be stored of the histograms can be queried.
func TestRemoteWriteHistograms(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		t, symbols := x.t, writev2.NewSymbolTable()
		refs := func(l ...string) []uint32 { return symbols.SymbolizeLabels(l, nil) }
		const n = 10
		plain := &writev2.TimeSeries{LabelsRefs: refs("__name__", "beside_total"), CreatedTimestamp: remoteStart - 5000}
		native := &writev2.TimeSeries{LabelsRefs: refs("__name__", "native_seconds", "job", "x"), Metadata: &writev2.Metadata{
			Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM, HelpRef: symbols.Symbolize("how long it took"), UnitRef: symbols.Symbolize("seconds"),
		}}
		want := samples{}
		for i := range n {
			at := int64(remoteStart + 15000*i)
			plain.Samples = append(plain.Samples, &writev2.Sample{Timestamp: at, Value: float64(i)})
			want.add(series(map[string]string{"__name__": "beside_total"}), at, float64(i))
			count := uint64(6 + 3*i) // in three buckets from 1 to 2, and in that of zero
			native.Histograms = append(native.Histograms, &writev2.Histogram{
				Timestamp: at, Schema: 1, Sum: float64(count), Count: &writev2.Histogram_CountInt{CountInt: count + 1}, ZeroThreshold: 1e-9,
				ZeroCount: &writev2.Histogram_ZeroCountInt{ZeroCountInt: 1}, PositiveSpans: []*writev2.BucketSpan{{Offset: 0, Length: 3}}, PositiveDeltas: []int64{int64(count / 3), 0, 0},
			})
		}
		plain.Exemplars = []*writev2.Exemplar{{LabelsRefs: refs("trace_id", "4bf92f3577b34da6"), Value: 3, Timestamp: remoteStart}}
		stats, err := x.remote().Write(t.Context(), remote.WriteV2MessageType, &writev2.Request{Timeseries: []*writev2.TimeSeries{plain, native}, Symbols: symbols.Symbols()})
		refused := stats.Histograms == 0 && err != nil && strings.Contains(err.Error(), "native histograms are not supported; the others are stored")
		if err != nil && !refused || stats.Samples != n {
			t.Fatalf("%+v, %v; want %d samples", stats, err, n)
		}
		x.wants("beside_total", want)
		x.wantsHistograms(stats.Histograms, n)
	})
}

// wantsHistograms checks that histograms which were written are there to be queried, or were counted as left out.
func (x *target) wantsHistograms(written, sent int) {
	x.t.Helper()
	if written == 0 {
		body, err := get("http://" + x.insert + "/metrics")
		if line := fmt.Sprintf("vm_rows_ignored_total{reason=\"native_histogram\"} %d\n", sent); err != nil || !strings.Contains(string(body), line) {
			x.t.Errorf("no histogram was written, and metrics do not say %q: %v", line, err)
		}
		return
	}
	if written != sent {
		x.t.Errorf("%d histograms were written of %d", written, sent)
	}
	for query, want := range map[string]string{"histogram_count(native_seconds)": `"34"]`, "histogram_sum(native_seconds)": `"33"]`} {
		eventually(x.t, query, func() error {
			body, err := get(fmt.Sprintf("%s/api/v1/query?dialect=promql&time=%d&query=%s", x.read, remoteStart/1000+15*(sent-1), url.QueryEscape(query)))
			if err == nil && !strings.Contains(string(body), want) {
				err = errors.New(string(body))
			}
			return err
		})
	}
}
