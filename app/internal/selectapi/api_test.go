package selectapi

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

// t0 is 2024-06-01T00:00:00Z.
const t0 = 1717200000

// env is a read API over a store with a few series.
type env struct {
	api   *API
	set   *metrics.Set
	store *partialStore
	now   time.Time
}

// partialStore answers with a failed node when asked to.
type partialStore struct {
	*apitest.Memory
	failed bool
}

type partialIterator struct{ storageapi.SeriesIterator }

func coverage() storageapi.Coverage {
	return storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: "node-2:8401", Err: errors.New("connection refused")}}}
}

func (it partialIterator) Coverage() storageapi.Coverage { return coverage() }

func (s *partialStore) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	it, err := s.Memory.Search(ctx, q)
	if err == nil && s.failed {
		it = partialIterator{it}
	}
	return it, err
}

func (s *partialStore) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	names, err := s.Memory.LabelNames(ctx, q, limit)
	if s.failed {
		names.Coverage = coverage()
	}
	return names, err
}

func newEnv(t *testing.T, args ...string) *env {
	t.Helper()
	var c Config
	var qc query.Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	qc.RegisterFlags(fs)
	singleNode := fs.Bool("singleNode", false, "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	e := &env{set: metrics.NewSet(), store: &partialStore{Memory: apitest.NewMemory()}, now: time.Unix(t0+3600, 0)}
	now := func() time.Time { return e.now }
	engine := query.New(&qc, query.Options{Source: NewSource(e.store, nil, 0, e.set), Logger: logger.Discard(), Metrics: e.set, Budget: memory.NewBudget(1 << 30), Now: now})
	e.api = New(Options{Config: &c, Searcher: e.store, Catalog: e.store, Engine: engine, Logger: logger.Discard(), Metrics: e.set, Now: now, SingleNode: *singleNode})
	e.ingest(t, model.TenantID{}, `cpu`, []string{"host", "a"}, 1, 2, 3)
	e.ingest(t, model.TenantID{}, `cpu`, []string{"host", `b"\`}, 10, 20, math.Inf(1))
	e.ingest(t, model.TenantID{}, `odd`, nil, math.NaN(), 0.5, math.Inf(-1), math.Float64frombits(0x7ff0000000000002))
	e.ingest(t, model.TenantID{AccountID: 7, ProjectID: 9}, `other`, nil, 5)
	return e
}

// ingest stores values 60 seconds apart, from t0 on.
func (e *env) ingest(t *testing.T, tenant model.TenantID, name string, labels []string, values ...float64) {
	t.Helper()
	list := []model.Label{{Name: model.MetricNameLabel, Value: name}}
	for i := 0; i < len(labels); i += 2 {
		list = append(list, model.Label{Name: labels[i], Value: labels[i+1]})
	}
	var b model.Batch
	if err := b.AddSeries(tenant, list); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		b.AddSample((t0+int64(i)*60)*1000, v)
	}
	if err := e.store.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// get asks and returns the status and the body, without the figures that vary.
func (e *env) get(t *testing.T, method, path string, args url.Values) (int, string, http.Header) {
	t.Helper()
	var r *http.Request
	if method == http.MethodPost {
		r = httptest.NewRequest(method, path, strings.NewReader(args.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		r = httptest.NewRequest(method, path+"?"+args.Encode(), nil)
	}
	w := httptest.NewRecorder()
	if !e.api.Handle(w, r) {
		return 0, "", nil
	}
	body := regexp.MustCompile(`"executionTimeMsec":\d+`).ReplaceAllString(w.Body.String(), `"executionTimeMsec":0`)
	return w.Code, body, w.Header()
}

const api = "/select/0/prometheus/api/v1/"

func TestAnswers(t *testing.T) {
	e := newEnv(t)
	at := func(more ...string) url.Values {
		v := url.Values{"time": {fmt.Sprint(t0 + 60)}, "nocache": {"1"}}
		for i := 0; i < len(more); i += 2 {
			v.Add(more[i], more[i+1])
		}
		return v
	}
	span := func(more ...string) url.Values {
		v := url.Values{"start": {fmt.Sprint(t0)}, "end": {fmt.Sprint(t0 + 180)}, "step": {"60"}}
		for i := 0; i < len(more); i += 2 {
			v.Add(more[i], more[i+1])
		}
		return v
	}
	for _, tc := range []struct {
		path string
		args url.Values
		want string
	}{
		{"query", at("query", `cpu{host="a"}`), `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[{"metric":{"__name__":"cpu","host":"a"},"value":[1717200060,"2"]}]},"stats":{"seriesFetched": "1","executionTimeMsec":0}}`},
		{"query", at("query", `sum(cpu)`), `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[{"metric":{},"value":[1717200060,"22"]}]},"stats":{"seriesFetched": "2","executionTimeMsec":0}}`},
		{"query", at("query", `nosuch`), `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[]},"stats":{"seriesFetched": "0","executionTimeMsec":0}}`},
		{"query", at("query", `1/3`, "round_digits", "2"), `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[{"metric":{},"value":[1717200060,"0.33"]}]},"stats":{"seriesFetched": "0","executionTimeMsec":0}}`},
		{"query", at("query", `cpu`, "extra_label", "host=a"), `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[{"metric":{"__name__":"cpu","host":"a"},"value":[1717200060,"2"]}]},"stats":{"seriesFetched": "1","executionTimeMsec":0}}`},
		{"query", at("query", `cpu`, "extra_filters[]", `{host!="a"}`, "extra_filters", `{host="nosuch"}`), `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[{"metric":{"__name__":"cpu","host":"b\"\\"},"value":[1717200060,"20"]}]},"stats":{"seriesFetched": "1","executionTimeMsec":0}}`},
		{"query", at("query", `cpu`, "limit", `1`), `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[{"metric":{"__name__":"cpu","host":"a"},"value":[1717200060,"2"]}]},"stats":{"seriesFetched": "2","executionTimeMsec":0}}`},
		{"query", at("query", `cpu{host="a"}[2m]`), `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"cpu","host":"a"},"values":[[1717200000,"1"],[1717200060,"2"]]}]}}`},
		{"query_range", span("query", `cpu{host!="a"}`, "nocache", "1"), `{"status":"success","isPartial":false,"data":{"resultType":"matrix","result":[{"metric":{"__name__":"cpu","host":"b\"\\"},"values":[[1717200000,"10"],[1717200060,"20"],[1717200120,"+Inf"],[1717200180,"+Inf"]]}]},"stats":{"seriesFetched": "1","executionTimeMsec":0}}`},
		{"series", span("match[]", `cpu`), `{"status":"success","isPartial":false,"data":[{"__name__":"cpu","host":"a"},{"__name__":"cpu","host":"b\"\\"}]}`},
		{"series", span("match[]", `cpu`, "limit", "1"), `{"status":"success","isPartial":false,"data":[{"__name__":"cpu","host":"a"}]}`},
		{"labels", span(), `{"status":"success","isPartial":false,"data":["__name__","host"]}`},
		{"labels", span("match[]", "odd"), `{"status":"success","isPartial":false,"data":["__name__"]}`},
		{"label/__name__/values", span(), `{"status":"success","isPartial":false,"data":["cpu","odd"]}`},
		{"label/host/values", span("limit", "1"), `{"status":"success","isPartial":false,"data":["a"]}`},
		{"label/U__ho_73_t/values", span("limit", "1"), `{"status":"success","isPartial":false,"data":["a"]}`},
		{"label/nosuch/values", span(), `{"status":"success","isPartial":false,"data":[]}`},
		{"export", span("match[]", "odd"), `{"metric":{"__name__":"odd"},"values":[null,0.5,"-Infinity",null],"timestamps":[1717200000000,1717200060000,1717200120000,1717200180000]}` + "\n"},
		{"export", span("match[]", "odd", "values", "bits"), `{"metric":{"__name__":"odd"},"values":["7ff8000000000001","3fe0000000000000","fff0000000000000","7ff0000000000002"],"timestamps":[1717200000000,1717200060000,1717200120000,1717200180000]}` + "\n"},
		{"export", span("match[]", `cpu{host="a"}`, "max_rows_per_line", "2"), `{"metric":{"__name__":"cpu","host":"a"},"values":[1,2],"timestamps":[1717200000000,1717200060000]}` + "\n" + `{"metric":{"__name__":"cpu","host":"a"},"values":[3],"timestamps":[1717200120000]}` + "\n"},
		{"export", span("match[]", `cpu{host="a"}`, "format", "prometheus"), "cpu{host=\"a\"} 1 1717200000000\ncpu{host=\"a\"} 2 1717200060000\ncpu{host=\"a\"} 3 1717200120000\n"},
		{"export", span("match[]", `cpu{host="a"}`, "format", "promapi"), `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"cpu","host":"a"},"values":[[1717200000,"1"],[1717200060,"2"],[1717200120,"3"]]}]}}`},
		{"export", span("match[]", `nosuch`), ""},
		{"status/buildinfo", nil, `{"status":"success","data":{"version":"2.24.0"}}`},
		{"query_exemplars", url.Values{"query": {"cpu"}}, `{"status":"success","isPartial":false,"data":[]}`},
		{"rules", nil, `{"status":"success","data":{"groups":[]}}`},
		{"alerts", nil, `{"status":"success","data":{"alerts":[]}}`},
		{"metadata", nil, `{"status":"success","isPartial":false,"data":{}}`},
	} {
		for _, method := range []string{"GET", "POST"} {
			for _, slash := range []string{"", "/"} {
				code, body, _ := e.get(t, method, api+tc.path+slash, tc.args)
				if code != 200 || body != tc.want {
					t.Errorf("%s %s%s %v: %d\n got %s\nwant %s", method, tc.path, slash, tc.args, code, body, tc.want)
				}
			}
		}
	}
}

func TestTenants(t *testing.T) {
	e := newEnv(t)
	if code, body, _ := e.get(t, "GET", "/admin/tenants", nil); code != 200 || body != `{"status":"success","data":["0:0","7:9"]}` {
		t.Errorf("/admin/tenants: %d %s", code, body)
	}
	r := httptest.NewRequest("GET", "/select/prometheus/api/v1/label/__name__/values?start=0", nil)
	r.Header.Set("AccountID", "7")
	r.Header.Set("ProjectID", "9")
	w := httptest.NewRecorder()
	if !e.api.Handle(w, r) || w.Code != 200 || !strings.Contains(w.Body.String(), `["other"]`) {
		t.Errorf("tenant by headers: %d %s", w.Code, w.Body)
	}
	if code, body, _ := e.get(t, "GET", "/admin/tenants", url.Values{"start": {"bad"}}); code != 400 || !strings.Contains(body, "cannot parse start=bad") {
		t.Errorf("/admin/tenants?start=bad: %d %s", code, body)
	}
	args := url.Values{"match[]": {`{__name__!=""}`}}
	if code, body, _ := e.get(t, "GET", "/select/7:9/prometheus/api/v1/export", args); code != 200 || strings.Count(body, "\n") != 1 || !strings.Contains(body, `"other"`) {
		t.Errorf("tenant 7:9 sees %d %s", code, body)
	}
}

func TestErrors(t *testing.T) {
	e := newEnv(t, "-search.maxSeries=1")
	for _, tc := range []struct {
		path   string
		args   url.Values
		status int
		want   string
	}{
		{"query", url.Values{}, 400, "missing `query` arg"},
		{"query", url.Values{"query": {"sum("}}, 400, "column"},
		{"query", url.Values{"query": {"nosuchfunc(cpu)"}}, 400, "nosuchfunc"},
		{"query", url.Values{"query": {"rate()"}}, 422, "rate"},
		{"query", url.Values{"query": {"cpu"}, "time": {"foo"}}, 400, "cannot parse time=foo"},
		{"query", url.Values{"query": {"cpu"}, "step": {"0"}}, 400, "out of allowed range"},
		{"query", url.Values{"query": {"cpu"}, "timeout": {"x"}}, 400, "timeout"},
		{"query", url.Values{"query": {"cpu"}, "round_digits": {"x"}}, 400, "round_digits"},
		{"query", url.Values{"query": {"cpu"}, "extra_label": {"bad"}}, 400, "`extra_label` query arg must have the format"},
		{"query", url.Values{"query": {"cpu"}, "extra_filters[]": {"{bad"}}, 400, "cannot parse extra_filters={bad"},
		{"query_range", url.Values{"query": {"cpu"}, "step": {"-1"}}, 400, "out of allowed range"},
		{"query_range", url.Values{"query": {"cpu"}, "start": {"0"}, "end": {"100000"}, "step": {"1"}}, 422, "30000"},
		{"series", url.Values{}, 400, "missing `match[]` arg"},
		{"series", url.Values{"match[]": {"{}"}}, 400, "cannot parse matches[]={}"},
		{"series", url.Values{"match[]": {"sum(x)"}}, 400, "expecting metricSelector"},
		{"series", url.Values{"match[]": {"cpu"}, "limit": {"x"}}, 400, `cannot parse integer \"limit\"=\"x\"`},
		{"series", url.Values{"match[]": {"cpu"}, "start": {"0"}}, 422, "1"},
		{"labels", url.Values{"end": {"bad"}}, 400, "cannot parse end=bad"},
	} {
		code, body, h := e.get(t, "GET", api+tc.path, tc.args)
		prefix := fmt.Sprintf(`{"status":"error","errorType":"%d","error":"`, tc.status)
		if code != tc.status || !strings.HasPrefix(body, prefix) || !strings.Contains(body, tc.want) || h.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v: %d %s; want %d with %q", tc.path, tc.args, code, body, tc.status, tc.want)
		}
	}
	for _, args := range []url.Values{{}, {"match[]": {"{"}}, {"match[]": {"cpu"}, "format": {"xml"}}, {"match[]": {"cpu"}, "values": {"octal"}}} {
		code, body, h := e.get(t, "GET", api+"export", args)
		if code != 400 || strings.HasPrefix(body, "{") || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") {
			t.Errorf("export %v: %d %s; want a plain text error", args, code, body)
		}
	}
}

func TestPaths(t *testing.T) {
	e := newEnv(t)
	for path, want := range map[string]string{
		"/select/abc/prometheus/api/v1/query":        "accountID",
		"/select/1:x/prometheus/api/v1/query":        "projectID",
		"/select/4294967296/prometheus/api/v1/query": "accountID",
		"/select/0/prometheus/api/v1/nosuch":         "unsupported path requested",
		"/select/0/api/v1/query":                     "unsupported path requested",
		"/select/0/prometheus/api/v1/write":          "/insert/0/prometheus/api/v1/write",
		"/select/0/prometheus/api/v1/label//values":  "unsupported path requested",
		"/select/0/prometheus/admin/tenants":         "unsupported path requested",
	} {
		if code, body, _ := e.get(t, "GET", path, nil); code != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q; want 400 with %q", path, code, body, want)
		}
	}
	if code, body, _ := e.get(t, "GET", "/insert/0/prometheus", nil); code != 400 || !strings.Contains(body, "vminsert") {
		t.Errorf("a write at vmselect: %d %s", code, body)
	}
	if code, _, _ := e.get(t, "GET", "/nosuch", nil); code != 0 {
		t.Error("a path of others was answered")
	}
	single := newEnv(t, "-singleNode")
	for _, path := range []string{"/api/v1/labels", "/prometheus/api/v1/labels", "/api/v1/labels/"} {
		if code, body, _ := single.get(t, "GET", path, url.Values{"start": {"0"}}); code != 200 || !strings.Contains(body, "host") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _, _ := single.get(t, "GET", "/select/0/prometheus/api/v1/labels", nil); code != 0 {
		t.Error("the single node answers cluster paths")
	}
}

func TestPartialAnswers(t *testing.T) {
	e := newEnv(t)
	e.store.failed = true
	args := url.Values{"query": {"cpu"}, "match[]": {"cpu"}, "time": {fmt.Sprint(t0)}, "start": {fmt.Sprint(t0)}, "end": {fmt.Sprint(t0 + 60)}}
	for _, path := range []string{"query", "query_range", "series", "labels"} {
		if code, body, _ := e.get(t, "GET", api+path, args); code != 200 || !strings.Contains(body, `"isPartial":true`) {
			t.Errorf("%s: %d %s; want a partial answer", path, code, body)
		}
	}
	if code, body, _ := e.get(t, "GET", api+"export", args); code != 503 || !strings.Contains(body, "node-2:8401: connection refused") {
		t.Errorf("export: %d %s; raw data must not be partial", code, body)
	}
	raw := url.Values{"query": {"cpu[5m]"}, "time": {fmt.Sprint(t0)}}
	if code, body, _ := e.get(t, "GET", api+"query", raw); code != 503 {
		t.Errorf("raw samples: %d %s; they must not be partial", code, body)
	}
	args.Set("deny_partial_response", "1")
	for _, path := range []string{"query", "query_range", "series", "labels"} {
		if code, body, _ := e.get(t, "GET", api+path, args); code != 503 || !strings.HasPrefix(body, `{"status":"error","errorType":"503"`) {
			t.Errorf("%s: %d %s; want 503", path, code, body)
		}
	}
}

func TestFullQueueIsAnswered429(t *testing.T) {
	e := newEnv(t, "-search.maxConcurrentRequests=1", "-search.maxQueueDuration=1ms")
	e.api.slots <- struct{}{} // a query that never ends
	code, body, h := e.get(t, "GET", api+"query", url.Values{"query": {"cpu"}})
	if code != 429 || h.Get("Retry-After") != "10" || !strings.Contains(body, "search.maxConcurrentRequests") {
		t.Errorf("%d %s, Retry-After %q", code, body, h.Get("Retry-After"))
	}
	if code, _, _ := e.get(t, "GET", api+"status/buildinfo", nil); code != 200 {
		t.Errorf("a fixed answer waits for queries: %d", code)
	}
}

func TestTimeoutNamesTheLimit(t *testing.T) {
	e := newEnv(t, "-search.maxQueryDuration=1ns")
	code, body, _ := e.get(t, "GET", api+"query", url.Values{"query": {"cpu"}})
	if code != 503 || !strings.Contains(body, "search.maxQueryDuration") {
		t.Errorf("%d %s", code, body)
	}
}

func TestAppendSeconds(t *testing.T) {
	for ms, want := range map[int64]string{0: "0", 1: "0.001", 1768373399999: "1768373399.999", 1500: "1.5", 1010: "1.01", -1500: "-1.5"} {
		if got := string(appendSeconds(nil, ms)); got != want {
			t.Errorf("%d gives %s; want %s", ms, got, want)
		}
	}
}

func TestAppendFloat(t *testing.T) {
	for want, v := range map[string]float64{
		"1000000000000000000000": 1e21, "0.000000000037": 3.7e-11, "-0": math.Copysign(0, -1), "0": 0, "+Inf": math.Inf(1), "-Inf": math.Inf(-1), "NaN": math.NaN(), "123456": 123456, "0.1": 0.1,
	} {
		if got := string(appendFloat(nil, v)); got != want {
			t.Errorf("%v gives %s; want %s", v, got, want)
		}
	}
}

func TestAppendJSONString(t *testing.T) {
	for in, want := range map[string]string{
		"plain": `"plain"`, "q\"\\": `"q\"\\"`, "\n\t\r\x01": `"\n\t\r\u0001"`, "été": `"été"`, "bad\xffutf": "\"bad\ufffdutf\"",
	} {
		if got := string(appendJSONString(nil, in)); got != want {
			t.Errorf("%q gives %s; want %s", in, got, want)
		}
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	if errkind.Of(partialError(coverage())) != errkind.Unavailable {
		t.Error("a partial answer is not Unavailable")
	}
}
