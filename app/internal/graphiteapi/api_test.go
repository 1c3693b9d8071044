package graphiteapi

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

// t0 is 2024-06-01T00:00:00Z.
const t0 = 1717200000

// store answers with a failed node when asked to, and counts how many label values it was asked for.
type store struct {
	*apitest.Memory
	failed bool
	values int
}

func (s *store) LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (storageapi.Strings, error) {
	found, err := s.Memory.LabelValues(ctx, q, label, limit)
	s.values += len(found.Values)
	if s.failed {
		found.Coverage = storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: "node-2:8401", Err: errors.New("connection refused")}}}
	}
	return found, err
}

type env struct {
	api   *API
	store *store
	now   time.Time
	held  int
}

func newEnv(t testing.TB, args ...string) *env {
	t.Helper()
	var c Config
	var sc selectapi.Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	sc.RegisterFlags(fs)
	single := fs.Bool("single", false, "")
	maxLen := fs.Int("maxLen", 16384, "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	e := &env{store: &store{Memory: apitest.NewMemory()}, now: time.Unix(t0+3600, 0)}
	e.api = New(Options{
		Config: &c, Select: &sc, Searcher: e.store, Catalog: e.store, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 30),
		Now: func() time.Time { return e.now }, SingleNode: *single, MaxQueryLen: *maxLen,
		Acquire: func(context.Context) (func(), error) { e.held++; return func() { e.held-- }, nil },
	})
	t.Cleanup(func() {
		if used := e.api.o.Budget.Used(); used != 0 || e.held != 0 {
			t.Errorf("%d bytes and %d places are still held", used, e.held)
		}
	})
	return e
}

// ingest stores values 60 seconds apart, from t0 on, under name;tag=value.
func (e *env) ingest(t testing.TB, tenant model.TenantID, path string, values ...float64) {
	t.Helper()
	parts := strings.Split(path, ";")
	labels := []model.Label{{Name: model.MetricNameLabel, Value: parts[0]}}
	for _, p := range parts[1:] {
		name, value, _ := strings.Cut(p, "=")
		labels = append(labels, model.Label{Name: name, Value: value})
	}
	if parts[0] == "" {
		labels = labels[1:]
	}
	var b model.Batch
	if err := b.AddSeries(tenant, labels); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		b.AddSample((t0+int64(i)*60)*1000, v)
	}
	if err := e.store.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// fill stores what most tests ask for.
func (e *env) fill(t testing.TB) {
	t.Helper()
	ramp := make([]float64, 20)
	for i := range ramp {
		ramp[i] = float64(i)
	}
	for _, path := range []string{"servers.web1.cpu", "servers.web2.cpu"} {
		e.ingest(t, model.TenantID{}, path, ramp...)
	}
	for _, path := range []string{"servers.db1.mem", "servers.db1.disk.used", "cpu_usage;job=app", "disk.used;dc=x;host=h1", "disk.used;dc=y;host=h1", ";a=noname"} {
		e.ingest(t, model.TenantID{}, path, 1, 2, 3)
	}
	e.ingest(t, model.TenantID{AccountID: 7}, "other.tenant", 1)
}

func (e *env) do(t testing.TB, method, path, args string) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequest(method, path+"?"+args, nil)
	if method == http.MethodPost {
		r = httptest.NewRequest(method, path, strings.NewReader(args))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	if !e.api.Handle(w, r) {
		return 0, "", nil
	}
	return w.Code, strings.TrimSpace(w.Body.String()), w.Header()
}

// newRequest returns a request without arguments.
func newRequest(t testing.TB) *http.Request {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	if err := r.ParseForm(); err != nil {
		t.Fatal(err)
	}
	return r
}

func esc(s string) string { return url.QueryEscape(s) }

const root = "/select/0/graphite"

func TestAnswers(t *testing.T) {
	e := newEnv(t)
	e.fill(t)
	span := "&from=1717200000&until=1717203600"
	points := func(values string) string {
		var b strings.Builder
		for i, v := range strings.Fields(values) {
			fmt.Fprintf(&b, "[%s,%d],", v, t0+60*i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	short := "&from=1717200000&until=1717200240&format=json&storage_step=1m"
	for _, c := range []struct{ path, args, want string }{
		{"/metrics/find", "query=*", `[{"id":"cpu_usage","text":"cpu_usage","allowChildren":0,"expandable":0,"leaf":1},{"id":"disk.","text":"disk","allowChildren":1,"expandable":1,"leaf":0},{"id":"servers.","text":"servers","allowChildren":1,"expandable":1,"leaf":0}]`},
		{"/metrics/find", "query=servers.*.cpu" + span, `[{"id":"servers.*.cpu","text":"cpu","allowChildren":0,"expandable":0,"leaf":1}]`},
		{"/metrics/find", "query=servers.web1.*&format=completer" + span, `{"metrics":[{"path":"servers.web1.cpu","name":"cpu","is_leaf":1}]}`},
		{"/metrics/find", "query=servers.web1.c&format=completer" + span, `{"metrics":[{"path":"servers.web1.cpu","name":"cpu","is_leaf":1}]}`},
		{"/metrics/find", "query=" + esc("servers.{web1,db1}.*") + span, `[{"id":"servers.{web1,db1}.cpu","text":"cpu","allowChildren":0,"expandable":0,"leaf":1},{"id":"servers.{web1,db1}.disk.","text":"disk","allowChildren":1,"expandable":1,"leaf":0},{"id":"servers.{web1,db1}.mem","text":"mem","allowChildren":0,"expandable":0,"leaf":1}]`},
		{"/metrics/find", "query=servers.web1,db1.mem&automatic_variants=1" + span, `[{"id":"servers.{web1,db1}.mem","text":"mem","allowChildren":0,"expandable":0,"leaf":1}]`},
		{"/metrics/find", "query=" + esc("servers.web[12].cpu"), `[{"id":"servers.web[12].cpu","text":"cpu","allowChildren":0,"expandable":0,"leaf":1}]`},
		{"/metrics/find", "query=nosuch.*", `[]`},
		{"/metrics/find", "query=servers.*.mem&wildcards=1", `[{"id":"servers.*.mem","text":"mem","allowChildren":0,"expandable":0,"leaf":1}]`},
		{"/metrics/find", "query=servers.web*&wildcards=1&jsonp=cb", `cb([{"id":"servers.web1.","text":"web1","allowChildren":1,"expandable":1,"leaf":0},{"id":"servers.web2.","text":"web2","allowChildren":1,"expandable":1,"leaf":0},{"id":"servers.*","text":"*","allowChildren":1,"expandable":1,"leaf":0}])`},
		{"/metrics/find", "query=servers.*&leavesOnly=1", `[]`},
		{"/metrics/find", "query=*&label=job", `[{"id":"app","text":"app","allowChildren":0,"expandable":0,"leaf":1}]`},
		{"/metrics/find", "query=*&delimiter=_", `[{"id":"cpu_","text":"cpu","allowChildren":1,"expandable":1,"leaf":0},{"id":"disk.used","text":"disk.used","allowChildren":0,"expandable":0,"leaf":1},{"id":"servers.db1.disk.used","text":"servers.db1.disk.used","allowChildren":0,"expandable":0,"leaf":1},{"id":"servers.db1.mem","text":"servers.db1.mem","allowChildren":0,"expandable":0,"leaf":1},{"id":"servers.web1.cpu","text":"servers.web1.cpu","allowChildren":0,"expandable":0,"leaf":1},{"id":"servers.web2.cpu","text":"servers.web2.cpu","allowChildren":0,"expandable":0,"leaf":1}]`},
		{"/metrics/expand", "query=servers.*&query=disk.*", `["servers.db1.","servers.web1.","servers.web2.","disk.used"]`},
		{"/metrics/expand", "query=servers.*&query=disk.*&groupByExpr=1", `{"results":{"disk.*":["disk.used"],"servers.*":["servers.db1.","servers.web1.","servers.web2."]}}`},
		{"/metrics/expand", "query=servers.*.*", `["servers.db1.disk.","servers.db1.mem","servers.web1.cpu","servers.web2.cpu"]`},
		{"/metrics/expand", "query=*&delimiter=_", `["cpu_","disk.used","servers.db1.disk.used","servers.db1.mem","servers.web1.cpu","servers.web2.cpu"]`},
		{"/metrics/index.json", "", `["cpu_usage","disk.used","servers.db1.disk.used","servers.db1.mem","servers.web1.cpu","servers.web2.cpu"]`},
		{"/metrics/index.json", "jsonp=x.y&from=" + fmt.Sprint(t0+86400*40) + "&until=" + fmt.Sprint(t0+86400*41), `x.y([])`},
		{"/tags", "", `[{"tag":"a"},{"tag":"dc"},{"tag":"host"},{"tag":"job"},{"tag":"name"}]`},
		{"/tags", "filter=" + esc("d|h") + "&limit=1", `[{"tag":"dc"}]`},
		{"/tags/dc", "", `{"tag":"dc","values":[{"value":"x"},{"value":"y"}]}`},
		{"/tags/name", "filter=disk.*", `{"tag":"name","values":[{"value":"disk.used"}]}`},
		{"/tags/nosuch", "", `{"tag":"nosuch","values":[]}`},
		{"/tags/findSeries", "expr=" + esc("name=disk.used"), `["disk.used;dc=x;host=h1","disk.used;dc=y;host=h1"]`},
		{"/tags/findSeries", "expr=" + esc("name=disk.used") + "&expr=" + esc("dc!=x"), `["disk.used;dc=y;host=h1"]`},
		{"/tags/findSeries", "expr=" + esc("dc=~x|y") + "&limit=1", `["disk.used;dc=x;host=h1"]`},
		{"/tags/findSeries", "expr=" + esc("name=~disk") + "&expr=" + esc("dc!=~x"), `["disk.used;dc=y;host=h1"]`},
		{"/tags/autoComplete/tags", "tagPrefix=d", `["dc"]`},
		{"/tags/autoComplete/tags", "expr=" + esc("name=disk.used"), `["dc","host","name"]`},
		{"/tags/autoComplete/values", "tag=dc&expr=" + esc("host=h1"), `["x","y"]`},
		{"/tags/autoComplete/values", "tag=name&valuePrefix=servers.w&limit=1", `["servers.web1.cpu"]`},
		{"/render", "format=json", `[]`},
		{"/render", "target=nosuch.a" + short, `[]`},
		{"/render", "target=servers.web1.cpu" + short, `[{"target":"servers.web1.cpu","tags":{"name":"servers.web1.cpu"},"datapoints":[` + points("0 1 2 3") + `]}]`},
		{"/render", "target=" + esc("sumSeries(servers.*.cpu)") + short, `[{"target":"sumSeries(servers.*.cpu)","tags":{"aggregatedBy":"sum","name":"sumSeries(servers.*.cpu)"},"datapoints":[` + points("0 2 4 6") + `]}]`},
		{"/render", "target=" + esc("servers.*.cpu|sumSeries()|alias('x')") + short, `[{"target":"x","tags":{"aggregatedBy":"sum","name":"sumSeries(servers.*.cpu)"},"datapoints":[` + points("0 2 4 6") + `]}]`},
		{"/render", "target=" + esc(`seriesByTag("name=disk.used","dc=x")`) + short, `[{"target":"disk.used","tags":{"dc":"x","host":"h1","name":"disk.used"},"datapoints":[` + points("1 2 3 null") + `]}]`},
		{"/render", "target=" + esc(`seriesByTag("name=disk.used","dc=x")`) + short + "&noNullPoints=1", `[{"target":"disk.used","tags":{"dc":"x","host":"h1","name":"disk.used"},"datapoints":[` + points("1 2 3") + `]}]`},
		{"/render", "target=" + esc(`summarize(servers.web1.cpu,"5min","sum")`) + "&from=1717200000&until=1717200600&format=json&storage_step=1m", `[{"target":"summarize(servers.web1.cpu,'5min','sum')","tags":{"name":"servers.web1.cpu","summarize":"5min","summarizeFunction":"sum"},"datapoints":[[10,1717200000],[35,1717200300],[60,1717200600]]}]`},
		{"/render", "target=" + esc(`movingAverage(servers.web1.cpu,3)`) + "&from=1717200000&until=1717200300&format=json&storage_step=1m", `[{"target":"movingAverage(servers.web1.cpu,3)","tags":{"movingAverage":"3","name":"servers.web1.cpu"},"datapoints":[` + points("null 0 0.5 1 2 3") + `]}]`},
		{"/render", "target=" + esc(`groupByNode(servers.*.cpu,1,"sum")`) + short, `[{"target":"web1","tags":{"aggregatedBy":"sum","name":"servers.web1.cpu"},"datapoints":[` + points("0 1 2 3") + `]},{"target":"web2","tags":{"aggregatedBy":"sum","name":"servers.web2.cpu"},"datapoints":[` + points("0 1 2 3") + `]}]`},
		{"/render", "target=constantLine(5)&from=1717200000&until=1717200600&format=json", `[{"target":"5","tags":{"name":"5"},"datapoints":[[5,1717200000],[5,1717200300],[5,1717200600]]}]`},
		{"/render", "target=servers.web1.cpu&from=1717200000&until=1717200600&maxDataPoints=3&format=json", `[{"target":"servers.web1.cpu","tags":{"name":"servers.web1.cpu"},"datapoints":[[1.5,1717200000],[5,1717200200],[8,1717200400]]}]`},
		{"/render", "target=servers.web1.cpu&from=20240601&until=20240602&maxDataPoints=5&format=json&jsonp=cb", `cb([{"target":"servers.web1.cpu","tags":{"name":"servers.web1.cpu"},"datapoints":[[9.5,1717200000],[null,1717217280],[null,1717234560],[null,1717251840],[null,1717269120]]}])`},
		{"/render", "target=servers.web1.cpu&from=" + esc("00:01_20240601") + "&until=" + esc("00:02_20240601") + "&format=json&storage_step=30", `[{"target":"servers.web1.cpu","tags":{"name":"servers.web1.cpu"},"datapoints":[[1,1717200060],[null,1717200090]]}]`},
		{"/render", "target=servers.web1.cpu&from=-60min&until=-58min&format=json&storage_step=60", `[{"target":"servers.web1.cpu","tags":{"name":"servers.web1.cpu"},"datapoints":[[0,1717200000],[1,1717200060]]}]`},
	} {
		code, body, header := e.do(t, "GET", root+c.path, c.args)
		if code != 200 || body != c.want {
			t.Errorf("%s?%s:\ngot  %d %s\nwant 200 %s", c.path, c.args, code, body, c.want)
		}
		wantType := "application/json"
		if strings.Contains(c.args, "jsonp=") {
			wantType = "text/javascript; charset=utf-8"
		}
		if header.Get("Content-Type") != wantType {
			t.Errorf("%s?%s: Content-Type %q", c.path, c.args, header.Get("Content-Type"))
		}
		if code, posted, _ := e.do(t, "POST", root+c.path, c.args); code != 200 || posted != body {
			t.Errorf("POST %s %s: %d %s", c.path, c.args, code, posted)
		}
	}
}

func TestErrors(t *testing.T) {
	e := newEnv(t, "-search.maxGraphiteSeries=3", "-search.maxTagValueSuffixesPerSearch=1", "-search.graphiteMaxPointsPerSeries=100", "-maxLen=60")
	e.fill(t)
	for _, c := range []struct {
		path, args string
		code       int
		want       string
	}{
		{"/metrics/find", "", 400, "expecting non-empty `query` arg"},
		{"/metrics/find", "query=a&format=bad", 400, `unexpected "format" query arg: "bad"; expecting "treejson" or "completer"`},
		{"/metrics/find", "query=a&from=bad", 400, `cannot parse from="bad": unsupported time "bad"`},
		{"/metrics/find", "query=" + strings.Repeat("a", 61), 400, "too long query; got 61 bytes"},
		{"/metrics/find", "query=a&delimiter=xx", 400, `delimiter="xx"`},
		{"/metrics/find", "query=a&jsonp=" + esc("alert(1)//"), 400, "cannot use jsonp="},
		{"/metrics/find", "query=" + esc("a.[b"), 400, "cannot parse path"},
		{"/metrics/find", "query=" + esc("servers.*"), 400, "cannot answer more than 1 nodes; narrow the path expression or raise -search.maxTagValueSuffixesPerSearch"},
		{"/metrics/expand", "query=" + esc("servers.*"), 400, "-search.maxTagValueSuffixesPerSearch"},
		{"/metrics/expand", "", 400, "missing `query` arg"},
		{"/tags/findSeries", "", 400, "expecting at least one `expr` query arg"},
		{"/tags/findSeries", "expr=bad", 400, "cannot parse `expr` query arg: missing tag value in filter expression \"bad\""},
		{"/tags/autoComplete/values", "", 400, "missing `tag` query arg"},
		{"/tags", "filter=(", 400, "cannot parse regexp filter="},
		{"/tags/tagSeries", "path=a", 501, "graphite tag registration has been disabled"},
		{"/tags/tagMultiSeries", "path=a", 501, "graphite tag registration has been disabled"},
		{"/tags/delSeries", "path=a", 405, "Only POST method is allowed. Got GET."},
		{"/functions/nosuch", "", 400, `cannot find function "nosuch"`},
		{"/nosuch", "", 400, `unsupported path requested: "/select/0/graphite/nosuch"`},
		{"/", "", 400, `unsupported path requested: "/select/0/graphite/"`},
		{"/render", "target=a&format=csv", 400, `error in "/select/0/graphite/render": unsupported format="csv"; supported values: json`},
		{"/render", "target=a", 400, `unsupported format=""`},
		{"/render", "target=a&format=json&from=bad", 400, `error in "/select/0/graphite/render": cannot parse from="bad": unsupported time "bad"`},
		{"/render", "target=a&format=json&from=1717200600&until=1717200000", 400, `from=1717200600 cannot exceed until=1717200000`},
		{"/render", "target=a&format=json&xFilesFactor=x", 400, `cannot parse xFilesFactor="x"`},
		{"/render", "target=a&format=json&storage_step=x", 400, `cannot parse datapoints interval x: cannot parse interval "x"`},
		{"/render", "target=a&format=json&storage_step=0", 400, `cannot use a datapoints interval of 0 ms`},
		{"/render", "target=a&format=json&tz=Mars", 400, `cannot parse tz="Mars"`},
		{"/render", "target=badfunc(a)&format=json", 400, `error in "/select/0/graphite/render": cannot eval target="badfunc(a)": unknown function "badfunc"`},
		{"/render", "target=sumSeries(&format=json", 400, `cannot eval target="sumSeries(": cannot parse "sumSeries("`},
		{"/render", "target=servers.web1.cpu&from=-1d&format=json", 400, "-search.graphiteMaxPointsPerSeries"},
		{"/render", "target=" + strings.Repeat("a", 61) + "&format=json", 400, "too long query; got 61 bytes"},
		{"/render", "target=*.used.*.*&format=json&from=-1min", 200, "[]"},
		{"/render", "target=" + esc("*.*{,.*,.*.*}") + "&format=json&from=1717200000&until=1717200060", 400, "-search.maxGraphiteSeries=3"},
		{"/tags/findSeries", "expr=" + esc("name=~.+"), 400, "3"},
	} {
		code, body, _ := e.do(t, "GET", root+c.path, c.args)
		if code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s?%s: got %d %s\nwant %d %s", c.path, c.args, code, body, c.code, c.want)
		}
	}
	if code, body, _ := e.do(t, "GET", "/select/multitenant/graphite/render", ""); code != 400 || !strings.Contains(body, "multi-tenant queries are not supported") {
		t.Errorf("multitenant: %d %s", code, body)
	}
	if code, _, _ := e.do(t, "GET", "/select/x/graphite/render", ""); code != 400 {
		t.Errorf("bad tenant: %d", code)
	}
	for _, path := range []string{"/select/0/prometheus/api/v1/query", "/render", "/select/0/graphitex"} {
		if code, _, _ := e.do(t, "GET", path, ""); code != 0 {
			t.Errorf("%s is served", path)
		}
	}
}

func TestTenants(t *testing.T) {
	e := newEnv(t)
	e.fill(t)
	if _, body, _ := e.do(t, "GET", "/select/7/graphite/metrics/index.json", ""); body != `["other.tenant"]` {
		t.Errorf("got %s", body)
	}
	if _, body, _ := e.do(t, "GET", "/select/7:1/graphite/render", "target=*.*&format=json&from=1717200000"); body != "[]" {
		t.Errorf("got %s", body)
	}
}

func TestSingleNode(t *testing.T) {
	e := newEnv(t, "-single")
	e.fill(t)
	for _, prefix := range []string{"", "/graphite"} {
		code, body, header := e.do(t, "GET", prefix+"/metrics/find", "query=disk.*")
		if code != 200 || !strings.Contains(body, "disk.used") || header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %s", prefix, code, body)
		}
		if code, body, _ = e.do(t, "GET", prefix+"/functions/sumSeries", ""); code != 200 || !strings.Contains(body, `"params":[{"name":"seriesLists","type":"seriesList","required":true,"multiple":true}]`) {
			t.Errorf("%s: %d %s", prefix, code, body)
		}
	}
	if code, _, _ := e.do(t, "GET", "/nosuch", ""); code != 0 {
		t.Error("a path of nobody is served")
	}
	if code, _, _ := e.do(t, "GET", "/graphite/nosuch", ""); code != 400 {
		t.Error("an unknown path is not refused")
	}
}

func TestPartialAnswers(t *testing.T) {
	e := newEnv(t)
	e.fill(t)
	e.store.failed = true
	if code, body, _ := e.do(t, "GET", root+"/metrics/find", "query=disk.*"); code != 200 || !strings.Contains(body, "used") {
		t.Errorf("got %d %s", code, body)
	}
	if code, body, _ := e.do(t, "GET", root+"/metrics/find", "query=disk.*&deny_partial_response=1"); code != 503 || !strings.Contains(body, "node-2:8401") {
		t.Errorf("got %d %s", code, body)
	}
}

func TestDeleteSeries(t *testing.T) {
	e := newEnv(t)
	e.fill(t)
	e.ingest(t, model.TenantID{}, "disk.used;dc=x;host=h1;more=1", 5)
	e.ingest(t, model.TenantID{AccountID: 7}, "disk.used;dc=x;host=h1", 5)
	for _, c := range []struct{ path, want string }{
		{"nosuch;b=c", "false"}, {"disk.used;dc=x", "false"}, {"disk.used;host=h1;dc=x", "true"}, {"disk.used;host=h1;dc=x", "false"},
	} {
		if code, body, _ := e.do(t, "POST", root+"/tags/delSeries", "path="+esc(c.path)); code != 200 || body != c.want {
			t.Errorf("%s: %d %s", c.path, code, body)
		}
	}
	if _, body, _ := e.do(t, "GET", root+"/tags/findSeries", "expr="+esc("name=disk.used")); body != `["disk.used;dc=x;host=h1;more=1","disk.used;dc=y;host=h1"]` {
		t.Errorf("left: %s", body)
	}
	if _, body, _ := e.do(t, "GET", "/select/7/graphite/tags/findSeries", "expr="+esc("name=disk.used")); body != `["disk.used;dc=x;host=h1"]` {
		t.Errorf("left in the other tenant: %s", body)
	}
	locked := newEnv(t, "-deleteAuthKey=secret")
	if code, _, _ := locked.do(t, "POST", root+"/tags/delSeries", "path=a"); code != 401 {
		t.Errorf("without the key: %d", code)
	}
}

func TestFunctionsAreListed(t *testing.T) {
	e := newEnv(t)
	_, body, _ := e.do(t, "GET", root+"/functions", "")
	var all map[string]functionJSON
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 151 {
		t.Errorf("%d functions, want 151", len(all))
	}
	_, grouped, _ := e.do(t, "GET", root+"/functions", "grouped=1&pretty=1")
	var groups map[string]map[string]functionJSON
	if err := json.Unmarshal([]byte(grouped), &groups); err != nil || !strings.Contains(grouped, "\n\t") {
		t.Fatal(err, grouped[:100])
	}
	n := 0
	for _, g := range groups {
		n += len(g)
	}
	if n != len(all) {
		t.Errorf("%d functions in groups, want %d", n, len(all))
	}
	for name, f := range all {
		if f.Description == "" || f.Group == "" || f.Name != name || !strings.HasPrefix(f.Function, name+"(") {
			t.Errorf("%+v", f)
		}
	}
}

// TestFindSkipsBranches makes sure that finding the top level does not read all names below it.
func TestFindSkipsBranches(t *testing.T) {
	e := newEnv(t)
	var want []string
	for b := range 3 {
		for i := range 5000 {
			e.ingest(t, model.TenantID{}, fmt.Sprintf("branch%d.leaf%d", b, i), 1)
		}
		want = append(want, fmt.Sprintf("branch%d.", b))
	}
	for i := range 2500 {
		e.ingest(t, model.TenantID{}, fmt.Sprintf("flat%d", i), 1)
		want = append(want, fmt.Sprintf("flat%d", i))
	}
	e.ingest(t, model.TenantID{}, "zürich", 1)
	e.ingest(t, model.TenantID{}, "\U0010ffff.x", 1)
	want = append(want, "zürich", "\U0010ffff.")
	_, body, _ := e.do(t, "GET", root+"/metrics/expand", "query=*")
	var got []string
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d nodes, want %d", len(got), len(want))
	}
	if e.store.values > 13_000 {
		t.Errorf("%d of 17502 values were read", e.store.values)
	}
}

// TestMemoryPerRender has a limit which values, tags, and a series that is long to decode, are held against.
func TestMemoryPerRender(t *testing.T) {
	e := newEnv(t)
	e.ingest(t, model.TenantID{}, "short", 1)
	e.ingest(t, model.TenantID{}, "tagged;tag="+strings.Repeat("v", 3000), 1)
	e.ingest(t, model.TenantID{}, "long", make([]float64, 40_000)...)
	for _, c := range []struct {
		target string
		most   int64
		code   int
	}{
		{"short", 2000, 200}, {"short", 500, 400}, {"tagged", 2000, 400}, {"tagged", 6000, 200}, {"long", 6000, 400}, {"long", 0, 200},
	} {
		e.api.o.MaxBytes = c.most
		code, body, _ := e.do(t, "GET", "/select/0/graphite/render", fmt.Sprintf("target=%s&format=json&storage_step=60s&from=%d&until=%d", c.target, t0, t0+3600))
		if c.target == "long" { // what matters is what is read, not what is shown
			code, body, _ = e.do(t, "GET", "/select/0/graphite/render", fmt.Sprintf("target=long&format=json&storage_step=1d&from=%d&until=%d", t0, t0+40_000*60))
		}
		if code != c.code || code == 400 && !strings.Contains(body, "-search.maxMemoryPerQuery") {
			t.Errorf("%s with %d bytes: %d %.300s", c.target, c.most, code, body)
		}
	}
}
