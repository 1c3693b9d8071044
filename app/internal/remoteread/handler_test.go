package remoteread

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

// t0 is 2024-06-01T00:00:00Z.
const t0 = 1717200000_000

// env is a read API with remote read over a store with a few series.
type env struct {
	api    *selectapi.API
	store  *store
	budget *memory.Budget
}

// store answers with a failed node, or ends the context of its caller, when asked to.
type store struct {
	*apitest.Memory
	failed bool
	cancel func()
	mixed  *mixed // which is asked instead, if there is one
}

type partialIterator struct{ storageapi.SeriesIterator }

func (partialIterator) Coverage() storageapi.Coverage {
	return storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: "node-2:8401", Err: errors.New("connection refused")}}}
}

func (s *store) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	if s.mixed != nil {
		return s.mixed.Search(ctx, q)
	}
	it, err := s.Memory.Search(ctx, q)
	if err == nil && s.failed {
		it = partialIterator{it}
	}
	if s.cancel != nil {
		s.cancel()
	}
	return it, err
}

func newEnv(t *testing.T, args ...string) *env {
	t.Helper()
	var c selectapi.Config
	var qc query.Config
	var rc Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	qc.RegisterFlags(fs)
	rc.RegisterFlags(fs)
	dedup := fs.Duration("dedup", 0, "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	e := &env{store: &store{Memory: apitest.NewMemory()}, budget: memory.NewBudget(1 << 30)}
	set := metrics.NewSet()
	now := func() time.Time { return time.UnixMilli(t0 + 3600_000) }
	source := selectapi.NewSource(e.store, nil, dedup.Milliseconds(), set)
	engine := query.New(&qc, query.Options{Source: source, Logger: logger.Discard(), Metrics: set, Budget: e.budget, Now: now})
	h := New(Options{Config: &rc, Budget: e.budget, Logger: logger.Discard(), Reading: source.Reading(), MaxSeries: qc.MaxUniqueSeries})
	e.api = selectapi.New(selectapi.Options{Config: &c, Searcher: e.store, Catalog: e.store, Engine: engine, Logger: logger.Discard(), Metrics: set, Now: now, RemoteRead: h.Serve})
	for i, host := range []string{"aa", "b", "c"} {
		var b model.Batch
		if err := b.AddSeries(model.TenantID{AccountID: 7}, []model.Label{{Name: model.MetricNameLabel, Value: "cpu"}, {Name: "host", Value: host}, {Name: "Zone", Value: "z"}}); err != nil {
			t.Fatal(err)
		}
		for k := range 300 {
			b.AddSample(t0+int64(k)*1000, float64(1000*i+k))
		}
		b.AddSample(t0+300_000, math.Float64frombits(0x7ff0000000000002))
		if err := e.store.Ingest(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if n := e.budget.Used(); n != 0 {
			t.Errorf("%d bytes of the budget were not given back", n)
		}
	})
	return e
}

// post sends a request and returns the answer.
func (e *env) post(t *testing.T, r *prompb.ReadRequest, args string) *httptest.ResponseRecorder {
	t.Helper()
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return e.postRaw(http.MethodPost, snappy.Encode(nil, data), args)
}

func (e *env) postRaw(method string, body []byte, args string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/select/7/prometheus/api/v1/read"+args, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	w := httptest.NewRecorder()
	e.api.Handle(w, r)
	return w
}

// ask is a query for hosts in the whole range.
func ask(hosts string, kind prompb.LabelMatcher_Type) *prompb.Query {
	return &prompb.Query{StartTimestampMs: t0, EndTimestampMs: t0 + 3600_000, Matchers: []*prompb.LabelMatcher{
		{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: "cpu"}, {Type: kind, Name: "host", Value: hosts},
	}}
}

var streamed = []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS}

// read returns the answer as one line per series: query, labels, number of samples, first and last time and value.
func (e *env) read(t *testing.T, r *prompb.ReadRequest) string {
	t.Helper()
	w := e.post(t, r, "")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var out strings.Builder
	line := func(query int, labels []prompb.Label, times []int64, values []float64) {
		fmt.Fprintf(&out, "%d", query)
		for _, l := range labels {
			fmt.Fprintf(&out, " %s=%s", l.Name, l.Value)
		}
		n := len(times) - 1
		fmt.Fprintf(&out, " %d %d:%x %d:%x\n", n+1, times[0]-t0, math.Float64bits(values[0]), times[n]-t0, math.Float64bits(values[n]))
	}
	if len(r.AcceptedResponseTypes) > 0 {
		if got := w.Header().Get("Content-Type"); got != "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse" {
			t.Errorf("content type %q", got)
		}
		for _, f := range readFrames(t, w.Body.Bytes()) {
			var times []int64
			var values []float64
			for i := range f.ChunkedSeries[0].Chunks {
				times, values = chunkSamples(t, &f.ChunkedSeries[0].Chunks[i], times, values)
			}
			line(int(f.QueryIndex), f.ChunkedSeries[0].Labels, times, values)
		}
		return out.String()
	}
	if w.Header().Get("Content-Type") != "application/x-protobuf" || w.Header().Get("Content-Encoding") != "snappy" {
		t.Errorf("headers %v", w.Header())
	}
	data, err := snappy.Decode(nil, w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var m prompb.ReadResponse
	if err := m.Unmarshal(data); err != nil {
		t.Fatal(err)
	}
	if len(m.Results) != len(r.Queries) {
		t.Fatalf("%d results for %d queries", len(m.Results), len(r.Queries))
	}
	for i, res := range m.Results {
		for _, s := range res.Timeseries {
			var times []int64
			var values []float64
			for _, p := range s.Samples {
				times, values = append(times, p.Timestamp), append(values, p.Value)
			}
			line(i, s.Labels, times, values)
		}
	}
	return out.String()
}

func TestRead(t *testing.T) {
	e := newEnv(t)
	all := "Zone=z __name__=cpu host="
	end := " 301 0:%x 300000:7ff0000000000002\n"
	series := func(query int, host string, first float64) string {
		return fmt.Sprintf("%d "+all+host+end, query, math.Float64bits(first))
	}
	part := ask("b", prompb.LabelMatcher_EQ)
	part.StartTimestampMs, part.EndTimestampMs = t0+5000, t0+9999
	for _, tc := range []struct {
		queries []*prompb.Query
		want    string
	}{
		{nil, ""},
		{[]*prompb.Query{ask("b", prompb.LabelMatcher_EQ)}, series(0, "b", 1000)},
		{[]*prompb.Query{ask("b", prompb.LabelMatcher_NEQ)}, series(0, "aa", 0) + series(0, "c", 2000)},
		{[]*prompb.Query{ask("a+|c", prompb.LabelMatcher_RE)}, series(0, "aa", 0) + series(0, "c", 2000)},
		{[]*prompb.Query{ask("a+|c", prompb.LabelMatcher_NRE)}, series(0, "b", 1000)},
		{[]*prompb.Query{ask("x", prompb.LabelMatcher_EQ), ask("c", prompb.LabelMatcher_EQ), ask("y", prompb.LabelMatcher_EQ), ask(".*", prompb.LabelMatcher_RE)},
			series(1, "c", 2000) + series(3, "aa", 0) + series(3, "b", 1000) + series(3, "c", 2000)},
		{[]*prompb.Query{part}, fmt.Sprintf("0 %sb 5 5000:%x 9000:%x\n", all, math.Float64bits(1005), math.Float64bits(1009))},
	} {
		for _, types := range [][]prompb.ReadRequest_ResponseType{nil, streamed} {
			if got := e.read(t, &prompb.ReadRequest{Queries: tc.queries, AcceptedResponseTypes: types}); got != tc.want {
				t.Errorf("%v %v:\ngot  %s\nwant %s", tc.queries, types, got, tc.want)
			}
		}
	}
}

func TestReadDeduplicates(t *testing.T) {
	e := newEnv(t, "-dedup=10s")
	got := e.read(t, &prompb.ReadRequest{Queries: []*prompb.Query{ask("b", prompb.LabelMatcher_EQ)}, AcceptedResponseTypes: streamed})
	if want := fmt.Sprintf("0 Zone=z __name__=cpu host=b 31 0:%x 300000:7ff0000000000002\n", math.Float64bits(1000)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReadRefuses(t *testing.T) {
	whole := &prompb.ReadRequest{Queries: []*prompb.Query{ask(".*", prompb.LabelMatcher_RE)}}
	chunks := &prompb.ReadRequest{Queries: whole.Queries, AcceptedResponseTypes: streamed}
	check := func(name string, w *httptest.ResponseRecorder, status int, text string) {
		t.Helper()
		if w.Code != status || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s: status %d %q, want %d with %q", name, w.Code, w.Body, status, text)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/x-") {
			t.Errorf("%s: content type of an error is %q", name, w.Header().Get("Content-Type"))
		}
	}
	e := newEnv(t, "-search.maxRemoteReadSamples=400")
	check("samples", e.post(t, whole, ""), http.StatusUnprocessableEntity, "-search.maxRemoteReadSamples")
	if w := e.post(t, chunks, ""); w.Code != http.StatusOK {
		t.Errorf("a stream has no limit of samples: %d %s", w.Code, w.Body)
	}
	check("GET", e.postRaw(http.MethodGet, nil, ""), http.StatusMethodNotAllowed, "POST")
	check("not snappy", e.postRaw(http.MethodPost, []byte("abc"), ""), http.StatusBadRequest, "snappy")
	check("not protobuf", e.postRaw(http.MethodPost, snappy.Encode(nil, []byte("\x0a\x05abc")), ""), http.StatusBadRequest, "ends within a field")
	check("long", e.postRaw(http.MethodPost, make([]byte, maxRequestBytes+1), ""), http.StatusRequestEntityTooLarge, "more than")
	check("bomb", e.postRaw(http.MethodPost, snappy.Encode(nil, make([]byte, maxRequestBytes+1)), ""), http.StatusRequestEntityTooLarge, "at most")
	check("regular expression", e.post(t, &prompb.ReadRequest{Queries: []*prompb.Query{ask("(", prompb.LabelMatcher_RE)}}, ""), http.StatusBadRequest, "host")
	check("enforced filters", e.post(t, whole, "?extra_label=bad"), http.StatusBadRequest, "extra_label")
	if w := e.post(t, chunks, "?extra_label=host=c"); len(readFrames(t, w.Body.Bytes())) != 1 {
		t.Errorf("extra_label=host=c leaves %s", w.Body)
	}
	e.store.failed = true
	check("partial", e.post(t, chunks, ""), http.StatusServiceUnavailable, "node-2:8401")
	check("partial", e.post(t, whole, ""), http.StatusServiceUnavailable, "node-2:8401")
	check("series", newEnv(t, "-search.maxUniqueTimeseries=2").post(t, chunks, ""), http.StatusUnprocessableEntity, "2")
}

func TestReadStopsWithItsCaller(t *testing.T) {
	e := newEnv(t)
	data, err := (&prompb.ReadRequest{Queries: []*prompb.Query{ask(".*", prompb.LabelMatcher_RE)}, AcceptedResponseTypes: streamed}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	e.store.cancel = cancel
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/select/7/prometheus/api/v1/read", bytes.NewReader(snappy.Encode(nil, data)))
	w := httptest.NewRecorder()
	e.api.Handle(w, r)
	if w.Code == http.StatusOK {
		t.Errorf("the answer to a canceled request is %d with %d bytes", w.Code, w.Body.Len())
	}
}
