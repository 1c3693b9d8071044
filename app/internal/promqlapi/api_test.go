package promqlapi

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"vmcluster/lib/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is an hour before the clock of the tests.
const t0 = 1717200000_000 - 3600_000

var stale = math.Float64frombits(0x7ff0000000000002)

// newRoom returns an API with a counter that grows by 2 every 15 seconds for ten minutes, a series which ends, and one with odd values.
func newRoom(t *testing.T, args ...string) *env {
	t.Helper()
	e := newEnv(t, args...)
	tenant := model.TenantID{}
	if !strings.Contains(strings.Join(args, " "), "singleNode") {
		tenant = model.TenantID{AccountID: 7, ProjectID: 9}
	}
	var times []int64
	var values []float64
	for i := range 41 {
		times, values = append(times, t0+int64(i)*15000), append(values, float64(2*i))
	}
	for _, room := range []string{"hall", "kitchen"} {
		e.ingest(t, tenant, map[string]string{"__name__": "steps_total", "room": room, "Floor": "1"}, times, values)
	}
	e.ingest(t, tenant, map[string]string{"__name__": "gone"}, []int64{t0, t0 + 15000, t0 + 30000}, []float64{1, 2, stale})
	e.ingest(t, tenant, map[string]string{"__name__": "odd"}, []int64{t0, t0 + 60000, t0 + 120000, t0 + 180000}, []float64{math.NaN(), 1e-7, 1e21, math.Inf(-1)})
	return e
}

const root = "/select/7:9/promql"

// pairs makes arguments of names and values.
func pairs(list ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(list); i += 2 {
		v.Add(list[i], list[i+1])
	}
	return v
}

func TestAnswers(t *testing.T) {
	e := newRoom(t)
	const ok = `{"status":"success","isPartial":false,"data":`
	at := func(s int) string { return fmt.Sprint(t0/1000 + int64(s)) }
	for _, tc := range []struct {
		path string
		args url.Values
		want string
	}{
		{"/api/v1/query", pairs("query", "1.5", "time", "12.25"), ok + `{"resultType":"scalar","result":[12.250,"1.5"]}}`},
		{"/api/v1/query", pairs("query", `"a\"b"`, "time", "12"), ok + `{"resultType":"string","result":[12,"a\"b"]}}`},
		{"/api/v1/query", pairs("query", `steps_total{room="hall"}`, "time", at(600)), ok + `{"resultType":"vector","result":[{"metric":{"Floor":"1","__name__":"steps_total","room":"hall"},"value":[` + at(600) + `,"80"]}]}}`},
		// Four samples from 15 to 60 seconds, a rise of 6 over 45 seconds, extrapolated to the whole minute.
		{"/api/v1/query", pairs("query", `increase(steps_total{room="hall"}[1m])`, "time", at(60)), ok + `{"resultType":"vector","result":[{"metric":{"Floor":"1","room":"hall"},"value":[` + at(60) + `,"8"]}]}}`},
		// Four samples from 0 to 45 seconds, extrapolated to 55 but not below zero: 6*55/45 in a minute.
		{"/api/v1/query", pairs("query", `rate(steps_total{room="hall"}[1m])`, "time", at(55)), ok + `{"resultType":"vector","result":[{"metric":{"Floor":"1","room":"hall"},"value":[` + at(55) + `,"0.12222222222222223"]}]}}`},
		{"/api/v1/query", pairs("query", `gone`, "time", at(20)), ok + `{"resultType":"vector","result":[{"metric":{"__name__":"gone"},"value":[` + at(20) + `,"2"]}]}}`},
		{"/api/v1/query", pairs("query", `gone`, "time", at(31)), ok + `{"resultType":"vector","result":[]}}`},
		{"/api/v1/query", pairs("query", `odd`, "time", at(479)), ok + `{"resultType":"vector","result":[{"metric":{"__name__":"odd"},"value":[` + at(479) + `,"-Inf"]}]}}`},
		{"/api/v1/query", pairs("query", `odd`, "time", at(481)), ok + `{"resultType":"vector","result":[]}}`},
		{"/api/v1/query", pairs("query", `odd`, "time", at(190), "lookback_delta", "9"), ok + `{"resultType":"vector","result":[]}}`},
		{"/api/v1/query", pairs("query", `odd[5m]`, "time", at(180)), ok + `{"resultType":"matrix","result":[{"metric":{"__name__":"odd"},"values":[[` + at(0) + `,"NaN"],[` + at(60) + `,"1e-07"],[` + at(120) + `,"1e+21"],[` + at(180) + `,"-Inf"]]}]}}`},
		{"/api/v1/query", pairs("query", `sum by (room) (steps_total)`, "time", at(0), "limit", "1"), ok + `{"resultType":"vector","result":[{"metric":{"room":"hall"},"value":[` + at(0) + `,"0"]}]},"warnings":["results truncated due to limit"]}`},
		{"/api/v1/query", pairs("query", `rate(odd[5m])`, "time", at(60)), ok + `{"resultType":"vector","result":[{"metric":{},"value":[` + at(60) + `,"NaN"]}]},"infos":["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"odd\" (1:6)"]}`},
		{"/api/v1/query", pairs("query", `steps_total`, "time", at(0), "extra_label", "room=hall"), ok + `{"resultType":"vector","result":[{"metric":{"Floor":"1","__name__":"steps_total","room":"hall"},"value":[` + at(0) + `,"0"]}]}}`},
		{"/api/v1/query_range", pairs("query", `gone`, "start", at(0), "end", at(60), "step", "20s"), ok + `{"resultType":"matrix","result":[{"metric":{"__name__":"gone"},"values":[[` + at(0) + `,"1"],[` + at(20) + `,"2"]]}]}}`},
		{"/api/v1/query_range", pairs("query", `1`, "start", "2024-05-31T23:00:00Z", "end", at(0), "step", "20"), ok + `{"resultType":"matrix","result":[{"metric":{},"values":[[` + at(0) + `,"1"]]}]}}`},
		{"/api/v1/format_query", pairs("query", `sum  by(a)(b )`), `{"status":"success","data":"sum by (a) (b)"}`},
		{"/api/v1/labels", pairs("start", at(0), "end", at(60), "match[]", "gone"), ok + `["__name__"]}`},
		{"/api/v1/label/room/values", pairs("start", at(0), "end", at(60)), ok + `["hall","kitchen"]}`},
		{"/api/v1/series", pairs("start", at(0), "end", at(60), "match[]", "gone"), ok + `[{"__name__":"gone"}]}`},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if status, got := e.ask(method, root+tc.path, tc.args); status != http.StatusOK || got != tc.want {
				t.Errorf("%s %s %v: status %d\ngot  %s\nwant %s", method, tc.path, tc.args, status, got, tc.want)
			}
		}
		if !strings.HasPrefix(tc.path, "/api/v1/query") {
			continue
		}
		tc.args.Set("dialect", "promql")
		if status, got := e.ask(http.MethodGet, "/select/7:9/prometheus"+tc.path, tc.args); status != http.StatusOK || got != tc.want {
			t.Errorf("dialect=promql %v: status %d\ngot  %s\nwant %s", tc.args, status, got, tc.want)
		}
	}
}

func TestStats(t *testing.T) {
	e := newRoom(t)
	_, got := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "gone", "time", fmt.Sprint(t0/1000), "stats", "all"))
	if !strings.Contains(got, `"stats":{"timings":{`) || !strings.Contains(got, `"samples":{`) {
		t.Errorf("got %s", got)
	}
}

func TestSingleNodePaths(t *testing.T) {
	e := newRoom(t, "-singleNode")
	args := pairs("query", "count(steps_total)", "time", fmt.Sprint(t0/1000))
	want := `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[` + fmt.Sprint(t0/1000) + `,"2"]}]}}`
	for _, path := range []string{"/promql/api/v1/query", "/promql/api/v1/query/", "/api/v1/query?dialect=promql", "/prometheus/api/v1/query?dialect=promql"} {
		path, dialect, _ := strings.Cut(path, "?dialect=")
		args.Set("dialect", dialect)
		if status, got := e.ask(http.MethodGet, path, args); status != http.StatusOK || got != want {
			t.Errorf("%s: status %d: %s", path, status, got)
		}
	}
	if status, got := e.ask(http.MethodGet, "/promqlx/api/v1/query", args); status == http.StatusOK {
		t.Errorf("got %s", got)
	}
}

func TestErrors(t *testing.T) {
	e := newRoom(t, "-search.maxSamplesPerQuery=50", "-search.maxUniqueTimeseries=1", "-search.maxPointsPerTimeseries=100", "-search.maxQueryLen=100")
	at := fmt.Sprint(t0/1000 + 600)
	for _, tc := range []struct {
		path      string
		args      url.Values
		status    int
		errorType string
		text      string
	}{
		{"/api/v1/query", nil, 400, "bad_data", `invalid parameter "query": unknown position: parse error: no expression found in input`},
		{"/api/v1/query", pairs("query", "a +"), 400, "bad_data", `invalid parameter "query": 1:4: parse error: unexpected end of input`},
		{"/api/v1/query", pairs("query", "limitk(1, a)"), 400, "bad_data", `experimental`},
		{"/api/v1/query", pairs("query", "WITH (x = 1) x"), 400, "bad_data", `parse error`},
		{"/api/v1/query", pairs("query", "1", "time", "yesterday"), 400, "bad_data", `invalid parameter "time": `},
		{"/api/v1/query", pairs("query", "1", "time", "NaN"), 400, "bad_data", `invalid parameter "time": cannot parse "NaN" to a valid timestamp`},
		{"/api/v1/query", pairs("query", "1", "limit", "-1"), 400, "bad_data", `invalid parameter "limit": `},
		{"/api/v1/query", pairs("query", "1", "lookback_delta", "x"), 400, "bad_data", `invalid parameter "lookback_delta": `},
		{"/api/v1/query", pairs("query", strings.Repeat("1+", 60)+"1"), 400, "bad_data", `-search.maxQueryLen`},
		{"/api/v1/query_range", pairs("query", "1", "end", "2", "step", "1"), 400, "bad_data", `invalid parameter "start": cannot parse "" to a valid timestamp`},
		{"/api/v1/query_range", pairs("query", "1", "start", "3", "end", "2", "step", "1"), 400, "bad_data", `invalid parameter "end": end timestamp must not be before start time`},
		{"/api/v1/query_range", pairs("query", "1", "start", "1", "end", "2", "step", "0"), 400, "bad_data", `invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer`},
		{"/api/v1/query_range", pairs("query", "1", "start", "1", "end", "2"), 400, "bad_data", `invalid parameter "step": cannot parse "" to a valid duration`},
		{"/api/v1/query_range", pairs("query", "1", "start", "1", "end", "101", "step", "1"), 400, "bad_data", `exceeded maximum resolution of 100 points per timeseries`},
		{"/api/v1/query_range", pairs("query", "odd[1m]", "start", "1", "end", "2", "step", "1"), 400, "bad_data", `invalid expression type "range vector" for range query, must be Scalar or instant Vector`},
		{"/api/v1/query", pairs("query", "gone * on() group_left steps_total", "time", at), 422, "execution", `-search.maxUniqueTimeseries`},
		{"/api/v1/query", pairs("query", `steps_total{room="hall"}[1h] `, "time", at), 200, "", ``},
		{"/api/v1/query", pairs("query", `sum_over_time(steps_total{room="hall"}[10m:1s])`, "time", at), 422, "execution", `query processing would load too many samples into memory in query execution`},
		{"/api/v1/query", pairs("query", `min_over_time(steps_total{room="hall"}[9m]) + max_over_time(steps_total{room="hall"}[10m])`, "time", at), 422, "execution", `-search.maxSamplesPerQuery`},
		{"/api/v1/query", pairs("query", `{a=~"("}`), 400, "bad_data", `error parsing regexp`},
		{"/api/v1/labels", pairs("match[]", "{"), 400, "bad_data", `match`},
		{"/api/v1/nosuch", nil, 404, "not_found", `/promql/api/v1/nosuch`},
		{"", nil, 400, "", ""},
	} {
		status, body := e.ask(http.MethodGet, root+tc.path, tc.args)
		want := `{"status":"error","errorType":"` + tc.errorType + `","error":"`
		text := strings.ReplaceAll(body, `\"`, `"`)
		if status != tc.status && tc.path != "" || tc.errorType != "" && (!strings.HasPrefix(body, want) || !strings.Contains(text, tc.text)) {
			t.Errorf("%s %v: status %d, want %d %s: %s\n%s", tc.path, tc.args, status, tc.status, tc.errorType, tc.text, body)
		}
	}
	if status, body := e.ask(http.MethodGet, "/select/7:9/prometheus/api/v1/query", pairs("query", "1", "dialect", "sql")); status != 400 || !strings.Contains(body, "metricsql") {
		t.Errorf("unknown dialect: status %d %s", status, body)
	}
	if status, body := e.ask(http.MethodGet, "/select/7:9/prometheus/api/v1/query", pairs("query", "1 +", "dialect", "promql")); status != 400 || !strings.Contains(body, `"errorType":"bad_data"`) {
		t.Errorf("error with dialect=promql: status %d %s", status, body)
	}
}

func TestPartial(t *testing.T) {
	e := newRoom(t)
	e.store.failed = true
	at := fmt.Sprint(t0 / 1000)
	status, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "gone", "time", at))
	if status != http.StatusOK || !strings.Contains(body, `"isPartial":true`) || !strings.Contains(body, `"warnings":["some of the storage nodes`) {
		t.Errorf("status %d %s", status, body)
	}
	for _, args := range []url.Values{pairs("query", "gone", "time", at, "deny_partial_response", "1"), pairs("query", "gone[1m]", "time", at)} {
		status, body := e.ask(http.MethodGet, root+"/api/v1/query", args)
		if status != http.StatusServiceUnavailable || !strings.Contains(body, `"errorType":"unavailable"`) || !strings.Contains(body, "node-2:8401") {
			t.Errorf("%v: status %d %s", args, status, body)
		}
	}
}

// TestSearches: what is asked of the storage.
func TestSearches(t *testing.T) {
	e := newRoom(t)
	at := int64(t0 + 600_000)
	for _, tc := range []struct {
		query  string
		r      model.TimeRange
		detail model.Detail
	}{
		{"gone", model.TimeRange{Min: at - 299_999, Max: at}, model.NewestSample},
		{"gone + gone", model.TimeRange{Min: at - 299_999, Max: at}, model.NewestSample}, // once
		{"gone offset 5m", model.TimeRange{Min: at - 599_999, Max: at - 300_000}, model.NewestSample},
		{"rate(gone[1m])", model.TimeRange{Min: at - 59_999, Max: at}, model.AllSamples},
		{"max_over_time(gone[1m:1s])", model.TimeRange{Min: at - 359_999, Max: at}, model.AllSamples},
		{"max_over_time(gone[1ms:1ms])", model.TimeRange{Min: at - 300_000, Max: at}, model.AllSamples},
	} {
		e.store.searches = nil
		e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", tc.query, "time", seconds(at)))
		if len(e.store.searches) != 1 {
			t.Errorf("%s: %d searches", tc.query, len(e.store.searches))
			continue
		}
		q := e.store.searches[0]
		if q.Range.Max != tc.r.Max || q.Range.Min < tc.r.Min-1 || q.Range.Min > tc.r.Min+1 || q.Detail != tc.detail || q.Tenant != (model.TenantID{AccountID: 7, ProjectID: 9}) {
			t.Errorf("%s: searched %v %v %v, want %v %v", tc.query, q.Tenant, q.Range, q.Detail, tc.r, tc.detail)
		}
	}
}

// TestDedup: of equal intervals the newest sample counts, as everywhere.
func TestDedup(t *testing.T) {
	e := newRoom(t, "-dedup=1m")
	args := pairs("query", `count_over_time(steps_total{room="hall"}[10m])`, "time", seconds(t0+600_000))
	if _, body := e.ask(http.MethodGet, root+"/api/v1/query", args); !strings.Contains(body, `,"10"]`) {
		t.Errorf("got %s", body)
	}
	if e.store.searches[0].Detail != model.AllSamples {
		t.Error("deduplication needs all samples")
	}
}

// TestCancel: a client that goes away ends the query.
func TestCancel(t *testing.T) {
	e := newRoom(t)
	ctx, cancel := context.WithCancel(t.Context())
	e.store.onSearch = cancel
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, root+"/api/v1/query?"+pairs("query", "sum(steps_total)", "time", seconds(t0)).Encode(), nil)
	w := httptest.NewRecorder()
	e.api.Handle(w, r)
	if w.Code != 499 || !strings.Contains(w.Body.String(), `"errorType":"canceled"`) {
		t.Errorf("status %d %s", w.Code, w.Body)
	}
}

func TestTimeout(t *testing.T) {
	e := newRoom(t, "-search.maxQueryDuration=1ns")
	status, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "sum(steps_total)", "time", seconds(t0)))
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"errorType":"timeout"`) || !strings.Contains(body, "-search.maxQueryDuration") {
		t.Errorf("status %d %s", status, body)
	}
}

// TestMoreLimits: those which need a configuration of their own.
func TestMoreLimits(t *testing.T) {
	for _, flag := range []string{"-search.maxResponseSeries=1", "-search.maxMemoryPerQuery=200", "-search.maxMemoryPerQuery=1000", "-search.maxSamplesPerSeries=30"} {
		e := newRoom(t, flag)
		status, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "max_over_time(steps_total[10m])", "time", seconds(t0+600_000)))
		name, _, _ := strings.Cut(flag, "=")
		if status != http.StatusUnprocessableEntity || !strings.Contains(body, `"errorType":"execution"`) || !strings.Contains(body, name) {
			t.Errorf("%s: status %d %s", flag, status, body)
		}
	}
}

// TestPointsAreReserved: what a selector will make of its series is reserved before the engine makes it, a point for each evaluation time.
func TestPointsAreReserved(t *testing.T) {
	const limit = 20_000 // bytes; two series take a few thousand with one point each
	e := newRoom(t, fmt.Sprintf("-search.maxMemoryPerQuery=%d", limit))
	for query, fits := range map[string]bool{
		"max_over_time(steps_total[10m])": true, "sum(steps_total)": true, "max_over_time(steps_total[10m:1m])": true, "max_over_time(steps_total[10m:1s])": false,
	} {
		status, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", query, "time", seconds(t0+600_000)))
		if (status == http.StatusOK) != fits || !fits && !strings.Contains(body, "-search.maxMemoryPerQuery") {
			t.Errorf("%s: status %d %s", query, status, body)
		}
	}
	for step, fits := range map[string]bool{"60": true, "1": false} {
		status, body := e.ask(http.MethodGet, root+"/api/v1/query_range", pairs("query", "sum(steps_total)", "start", seconds(t0), "end", seconds(t0+600_000), "step", step))
		if (status == http.StatusOK) != fits {
			t.Errorf("step %s: status %d %s", step, status, body)
		}
	}
}

// TestBudget: a query takes no more memory than there is.
func TestBudget(t *testing.T) {
	e := newRoom(t, "-budget=100000")
	status, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "sum(steps_total)", "time", seconds(t0)))
	if status == http.StatusOK || !strings.Contains(body, "-memory.allowed") {
		t.Errorf("status %d %s", status, body)
	}
}

func TestListsOfQueries(t *testing.T) {
	e := newRoom(t, "-search.queryStats.minQueryDuration=0")
	active := ""
	e.store.onSearch = func() {
		_, active = e.ask(http.MethodGet, "/select/7:9/prometheus/api/v1/status/active_queries", nil)
	}
	e.ask(http.MethodGet, root+"/api/v1/query_range", pairs("query", "sum(steps_total)", "start", "1", "end", "2", "step", "0.5"))
	if !strings.Contains(active, `"query":"sum(steps_total)","start":1000,"end":2000,"step":500`) || !strings.Contains(active, `"account_id":"7"`) {
		t.Errorf("running queries are %s", active)
	}
	e.store.onSearch = nil
	e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "steps_total", "time", seconds(t0+60_000)))
	if _, top := e.ask(http.MethodGet, "/select/7:9/prometheus/api/v1/status/top_queries", nil); !strings.Contains(top, `"topByAvgMemoryUsage":[{"accountID":7,"projectID":9,"query":"steps_total"`) {
		t.Errorf("the last queries are %s", top)
	}
}

// TestFlagLimits: limits which the engine has no place for.
func TestFlagLimits(t *testing.T) {
	for _, tc := range []struct{ flag, query, want string }{
		{"-search.maxPointsSubqueryPerTimeseries=61", "max_over_time(steps_total[10m:10s])", ""},
		{"-search.maxPointsSubqueryPerTimeseries=60", "max_over_time(steps_total[10m:10s])", "at 61 points per series: at most 60"},
		{"-search.maxPointsSubqueryPerTimeseries=0", "max_over_time(steps_total[10m:10s])", ""},
		{"-search.maxPointsSubqueryPerTimeseries=10", "max_over_time(steps_total[10m:])", "at 11 points per series: at most 10"},
		{"-search.maxPointsSubqueryPerTimeseries=11", "max_over_time(steps_total[10m:])", ""},
		{"-search.maxPointsSubqueryPerTimeseries=20", "sum(max_over_time(max_over_time(steps_total[10m:1m])[10m:1m]))", "at 21 points per series: at most 20"},
		{"-search.maxPointsSubqueryPerTimeseries=20", "sum(max_over_time(max_over_time(steps_total[10m:1m] @ 1717200600)[10m:1m]))", ""},
		{"-search.maxSeriesPerAggrFunc=1", "sum by (room) (steps_total)", "cannot aggregate into 2 series: at most 1 are allowed"},
		{"-search.maxSeriesPerAggrFunc=1", "(sum by (room) (steps_total))", "-search.maxSeriesPerAggrFunc"},
		{"-search.maxSeriesPerAggrFunc=1", "sum(steps_total)", ""},
		{"-search.maxSeriesPerAggrFunc=1", "steps_total", ""},
		{"-search.maxSeriesPerAggrFunc=0", "sum by (room) (steps_total)", ""},
	} {
		e := newRoom(t, tc.flag)
		status, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", tc.query, "time", seconds(t0+600_000)))
		switch {
		case tc.want == "" && status != http.StatusOK:
			t.Errorf("%s %s: status %d %s", tc.flag, tc.query, status, body)
		case tc.want != "" && (status != http.StatusUnprocessableEntity || !strings.Contains(body, tc.want) || !strings.Contains(body, `"errorType":"execution"`)):
			t.Errorf("%s %s: status %d %s; want %q", tc.flag, tc.query, status, body, tc.want)
		}
	}
	e := newRoom(t, "-search.maxPointsSubqueryPerTimeseries=30")
	args := pairs("query", "max_over_time(steps_total[10m:1m])", "start", seconds(t0), "end", seconds(t0+1200_000), "step", "60")
	if status, body := e.ask(http.MethodGet, root+"/api/v1/query_range", args); status != http.StatusUnprocessableEntity || !strings.Contains(body, "at 31 points per series") {
		t.Errorf("a range counts, too: status %d %s", status, body)
	}
}

// TestTrace: the trace shows each search, equal ones once, and what the storage did.
func TestTrace(t *testing.T) {
	type node struct {
		Message  string
		Duration *float64 `json:"duration_msec"`
		Children []node
	}
	e := newRoom(t)
	_, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "sum(rate(steps_total[5m])) + sum(rate(steps_total[5m]))", "time", seconds(t0+600_000), "trace", "1"))
	var answer struct{ Trace *node }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Trace == nil || answer.Trace.Duration == nil {
		t.Fatalf("%v: %s", err, body)
	}
	texts := []string{}
	var collect func(n *node, depth int)
	collect = func(n *node, depth int) {
		texts = append(texts, strings.Repeat(" ", depth)+n.Message)
		for i := range n.Children {
			collect(&n.Children[i], depth+1)
		}
	}
	collect(answer.Trace, 0)
	all := strings.Join(texts, "\n")
	for _, want := range []string{
		" evaluate in the engine of Prometheus: ", "  search series of tenant 7:9 with {", "2 series with ", "   find the series in the index: 2 series", "   read the series and hand them on: 2 series", "  use the 2 series of an equal selector",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("want %q in\n%s", want, all)
		}
	}
	if strings.Count(all, "search series") != 1 {
		t.Errorf("more than one search in\n%s", all)
	}
	if _, body := e.ask(http.MethodGet, root+"/api/v1/query", pairs("query", "steps_total", "time", seconds(t0))); strings.Contains(body, "trace") {
		t.Errorf("a trace nobody wants: %s", body)
	}
}
