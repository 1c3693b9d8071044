package selectapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
)

const prom = "/select/0/prometheus/"

func TestFederate(t *testing.T) {
	e := newEnv(t)
	stale := math.Float64frombits(0x7ff0000000000002)
	e.ingest(t, model.TenantID{}, "ended", nil, 1, 2, stale)
	e.ingest(t, model.TenantID{}, "nan_last", nil, 1, 2, math.NaN())
	e.ingest(t, model.TenantID{}, "back", nil, 1, stale, 3)
	e.ingest(t, model.TenantID{}, "da.ta", []string{"ho.st", "a\n"}, 7)
	e.now = time.Unix(t0+250, 0)
	for _, c := range []struct{ args, accept, want string }{
		{"match[]=cpu", "", "cpu{host=\"a\"} 3 1717200120000\ncpu{host=\"b\\\"\\\\\"} +Inf 1717200120000\n"},
		{"match[]=ended&match[]=back&match[]=nan_last", "", "back 3 1717200120000\nnan_last 2 1717200060000\n"},
		{"match[]=cpu&max_lookback=1m", "", ""},
		{"match[]=cpu&extra_label=host=a&end=1717200100", "", "cpu{host=\"a\"} 2 1717200060000\n"},
		{"match[]=cpu{host='a'}&start=1717200000&end=1717200000", "", "cpu{host=\"a\"} 1 1717200000000\n"},
		{"match[]=nosuch", "", ""},
		{"match[]={__name__='da.ta'}", "", "da.ta{ho.st=\"a\\n\"} 7 1717200000000\n"},
		{"match[]={__name__='da.ta'}&match[]=back", "text/plain;escaping=allow-utf-8", "back 3 1717200120000\n{\"da.ta\",\"ho.st\"=\"a\\n\"} 7 1717200000000\n"},
	} {
		r := httptest.NewRequest("GET", prom+"federate?"+strings.ReplaceAll(c.args, " ", "+"), nil)
		r.Header.Set("Accept", c.accept)
		w := httptest.NewRecorder()
		if !e.api.Handle(w, r) || w.Code != 200 || w.Body.String() != c.want || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %q\nwant %q", c.args, w.Code, w.Body, c.want)
		}
	}
	for _, args := range []string{"", "match[]={", "match[]=cpu&max_lookback=x", "match[]=cpu&start=x", "match[]=cpu&end=x", "match[]=cpu&extra_label=x"} {
		if code, body, _ := e.getQuery(t, prom+"federate", args); code != 400 {
			t.Errorf("%q: %d %s", args, code, body)
		}
	}
	e.store.failed = true
	if code, body, _ := e.getQuery(t, prom+"federate", "match[]=cpu"); code != 503 || !strings.Contains(body, "node-2:8401") {
		t.Errorf("a partial answer: %d %s", code, body)
	}
}

// getQuery asks with raw arguments.
func (e *env) getQuery(t *testing.T, path, args string) (int, string, http.Header) {
	t.Helper()
	values, err := url.ParseQuery(args)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
			}
		}()
		if !e.api.Handle(w, httptest.NewRequest("GET", path+"?"+values.Encode(), nil)) {
			t.Fatalf("%s is not served", path)
		}
	}()
	return w.Code, w.Body.String(), w.Header()
}

func TestFederateLimit(t *testing.T) {
	e := newEnv(t, "-search.maxFederateSeries=1")
	e.now = time.Unix(t0+120, 0)
	if code, body, _ := e.getQuery(t, prom+"federate", "match[]=cpu"); code != 422 || !strings.Contains(body, "search.maxFederateSeries=1") {
		t.Errorf("%d %s", code, body)
	}
}

func TestExportCSV(t *testing.T) {
	e := newEnv(t)
	e.ingest(t, model.TenantID{}, "quoted", []string{"l", "a,\"b\"\n"}, 1)
	args := "match[]=%s&start=1717200000&end=1717200060.5&format=%s"
	for _, c := range []struct{ match, format, want string }{
		{"cpu", "__name__,host,__value__,__timestamp__", "__name__,host,__value__,__timestamp__\ncpu,a,1,1717200000000\ncpu,a,2,1717200060000\n" +
			"cpu,\"b\"\"\\\",10,1717200000000\ncpu,\"b\"\"\\\",20,1717200060000\n"},
		{"odd", "__value__,nosuch,__timestamp__:unix_s", "__value__,nosuch,__timestamp__:unix_s\nNaN,,1717200000\n0.5,,1717200060\n"},
		{"quoted", "l,__timestamp__:rfc3339,__timestamp__:unix_ns", "l,__timestamp__:rfc3339,__timestamp__:unix_ns\n\"a,\"\"b\"\"\n\",2024-06-01T00:00:00Z,1717200000000000000\n"},
		{"quoted", "__timestamp__:custom:2006-01-02 15:04", "__timestamp__:custom:2006-01-02 15:04\n2024-06-01 00:00\n"},
		{"nosuch", "__value__", "__value__\n"},
	} {
		code, body, h := e.getQuery(t, api+"export/csv", fmt.Sprintf(args, c.match, c.format))
		if code != 200 || body != c.want || h.Get("Content-Type") != "text/csv; charset=utf-8" {
			t.Errorf("%s: %d %q\nwant %q", c.format, code, body, c.want)
		}
	}
	for _, format := range []string{"", "__timestamp__:bad", "__timestamp__:custom:", "a,,b"} {
		if code, body, _ := e.getQuery(t, api+"export/csv", fmt.Sprintf(args, "cpu", format)); code != 400 {
			t.Errorf("format %q: %d %s", format, code, body)
		}
	}
}

// TestLongExport sends one series of many samples in pieces.
func TestLongExport(t *testing.T) {
	e := newEnv(t)
	values := make([]float64, 3*rowsPerPiece+5)
	for i := range values {
		values[i] = float64(i)
	}
	e.ingest(t, model.TenantID{}, "long", nil, values...)
	args := "match[]=long&start=0&end=4102444800"
	_, body, _ := e.getQuery(t, api+"export/csv", args+"&format=__value__")
	_, text, _ := e.getQuery(t, api+"export", args+"&format=prometheus")
	for i, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n")[1:] {
		if line != fmt.Sprint(i) {
			t.Fatalf("row %d is %q", i, line)
		}
	}
	if n := strings.Count(body, "\n"); n != len(values)+1 || strings.Count(text, "\n") != len(values) {
		t.Errorf("%d rows of CSV, %d of exposition", n, strings.Count(text, "\n"))
	}
}

// TestPartialExport has an answer that lacks data: it must not look whole.
func TestPartialExport(t *testing.T) {
	e := newEnv(t)
	e.store.failed = true
	for path, args := range map[string]string{"export": "", "export/csv": "&format=__value__", "export/native": ""} {
		if code, body, _ := e.getQuery(t, api+path, "match[]=cpu&start=0"+args); code != 503 || !strings.Contains(body, "node-2:8401") {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

func TestTrace(t *testing.T) {
	e := newEnv(t)
	type trace struct {
		Duration *float64 `json:"duration_msec"`
		Message  string
		Children []trace
	}
	for path, want := range map[string]string{
		"query?query=sum(cpu)&time=1717200060": "found 2 series with", "query_range?query=cpu&start=1717200000&end=1717200060&step=15": "found 2 series with",
		"series?match[]=cpu&start=1717200000": "found 2 series", "labels?start=1717200000": "found 2", "label/host/values?start=1717200000": "found 2",
		"status/tsdb?date=2024-06-01": "found 3", "series/count": "found 3",
	} {
		code, body, _ := e.getQuery(t, api+strings.Split(path, "?")[0], strings.Join(strings.Split(path, "?")[1:], "")+"&trace=1")
		var answer struct{ Trace *trace }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 200 || answer.Trace == nil {
			t.Errorf("%s: %d %v %s", path, code, err, body)
			continue
		}
		last := answer.Trace
		for len(last.Children) > 0 {
			last = &last.Children[0]
		}
		if last == answer.Trace || last.Duration == nil || !strings.Contains(last.Message, want) || !strings.HasPrefix(answer.Trace.Message, "/select/0/") {
			t.Errorf("%s: %s; the innermost step does not say %q", path, body, want)
		}
	}
	for _, e := range []*env{newEnv(t), newEnv(t, "-denyQueryTracing")} {
		trace := "0"
		if e.api.o.Config.DenyQueryTracing {
			trace = "1"
		}
		if _, body, _ := e.getQuery(t, api+"query", "query=cpu&trace="+trace); strings.Contains(body, "trace") {
			t.Errorf("a trace nobody wants: %s", body)
		}
	}
}

func TestExpressions(t *testing.T) {
	e := newEnv(t)
	for path, want := range map[string]string{
		"expand-with-exprs?query=WITH (a=b) a%2B1&format=json": `{"status": "success","expr":"b + 1"}`,
		"expand-with-exprs?format=json":                        `{"status": "error","error":"query string cannot be empty"}`,
		"prettify-query?query=a%2B1":                           `{"status": "success", "query": "a + 1"}`,
	} {
		path, args, _ := strings.Cut(path, "?")
		if code, body, _ := e.getQuery(t, prom+path, args); code != 200 || body != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for path, want := range map[string]string{
		"expand-with-exprs?query=sum(&format=json": `{"status": "error","error":"Cannot parse query: `, "prettify-query?query=sum(": `{"status": "error", "msg": "`,
		"expand-with-exprs": "<!DOCTYPE html>", "expand-with-exprs?query=WITH (a=<b>) a": "<!DOCTYPE html>",
	} {
		path, args, _ := strings.Cut(path, "?")
		if code, body, _ := e.getQuery(t, prom+path, args); code != 200 || !strings.HasPrefix(body, want) || strings.Contains(body, "<b>") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestMetadata(t *testing.T) {
	e := newEnv(t)
	e.api.o.Metadata = e.store
	if err := e.store.AddMetadata(t.Context(), []model.Metadata{
		{Metric: "b", Type: model.TypeGauge, Help: `of "b"`}, {Metric: "a", Type: model.TypeCounter, Unit: "s"}, {Metric: "a"}, {Tenant: model.TenantID{AccountID: 1}, Metric: "x"},
	}); err != nil {
		t.Fatal(err)
	}
	const a1, a2, b = `{"type":"unknown","help":""}`, `{"type":"counter","unit":"s","help":""}`, `"b":[{"type":"gauge","help":"of \"b\""}]`
	for args, want := range map[string]string{
		"": `"a":[` + a1 + "," + a2 + "]," + b, "metric=b": b, "limit=1": `"a":[` + a1 + "," + a2 + "]", "limit_per_metric=1": `"a":[` + a1 + "]," + b, "metric=nosuch": "", "limit=-1": `"a":[` + a1 + "," + a2 + "]," + b,
	} {
		if code, body, _ := e.getQuery(t, api+"metadata", args); code != 200 || body != `{"status":"success","isPartial":false,"data":{`+want+"}}" {
			t.Errorf("%s: %d %s", args, code, body)
		}
	}
	if code, _, _ := e.getQuery(t, api+"metadata", "limit=x"); code != 400 {
		t.Errorf("a bad limit: %d", code)
	}
	e.api.o.Config.EnableMetadata = false
	if _, body, _ := e.getQuery(t, api+"metadata", ""); !strings.Contains(body, `"data":{}`) {
		t.Errorf("turned off: %s", body)
	}
}

func TestLabelsWithoutExtraFilters(t *testing.T) {
	for flagText, want := range map[string]string{"-search.ignoreExtraFiltersAtLabelsAPI": `["a","b\"\\"]`, "-search.ignoreExtraFiltersAtLabelsAPI=false": `["a"]`} {
		e := newEnv(t, flagText)
		if _, body, _ := e.getQuery(t, api+"label/host/values", "start=1717200000&extra_label=host=a"); !strings.Contains(body, want) {
			t.Errorf("%s: %s", flagText, body)
		}
	}
}

func TestRuleProxy(t *testing.T) {
	var seen *http.Request
	vmalert := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		w.Header().Set("X-From", "vmalert")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "answer") // the test looks at what arrives
	}))
	defer vmalert.Close()
	e := newEnv(t, "-vmalert.proxyURL="+strings.Replace(vmalert.URL, "http://", "http://user:secret@", 1)+"/base")
	for path, want := range map[string]string{
		"api/v1/rules?type=alert": "/base/api/v1/rules?type=alert", "rules": "/base/api/v1/rules", "api/v1/alerts": "/base/api/v1/alerts", "api/v1/notifiers": "/base/api/v1/notifiers",
		"vmalert/": "/base/vmalert/", "vmalert/api/v1/rule?rule_id=1": "/base/vmalert/api/v1/rule?rule_id=1", "vmalert/groups": "/base/vmalert/groups",
	} {
		r := httptest.NewRequest("GET", prom+path, nil)
		r.Header.Set("Authorization", "Basic own")
		w := httptest.NewRecorder()
		if !e.api.Handle(w, r) || w.Code != http.StatusTeapot || w.Body.String() != "answer" || w.Header().Get("X-From") != "vmalert" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if user, password, _ := seen.BasicAuth(); seen.URL.String() != want || user != "user" || password != "secret" {
			t.Errorf("%s: vmalert is asked for %s as %s", path, seen.URL, user)
		}
	}
	form := httptest.NewRequest("POST", prom+"api/v1/rules", strings.NewReader("type=record"))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	e.api.Handle(httptest.NewRecorder(), form)
	if seen.URL.RawQuery != "type=record" {
		t.Errorf("a form arrives as %s %s", seen.Method, seen.URL)
	}
	vmalert.Close()
	if code, body, _ := e.getQuery(t, prom+"api/v1/rules", ""); code != 503 || !strings.Contains(body, "-vmalert.proxyURL") || strings.Contains(body, "secret") {
		t.Errorf("vmalert is away: %d %s", code, body)
	}
}

func TestWithoutVMAlert(t *testing.T) {
	for args, location := range map[string]string{"-singleNode=false": "../prometheus/vmalert/", "-singleNode": "vmalert/"} {
		e, base := newEnv(t, args), prom
		if args == "-singleNode" {
			base = "/"
		}
		if code, body, _ := e.getQuery(t, base+"vmalert/", ""); code != 400 || !strings.Contains(body, "-vmalert.proxyURL") {
			t.Errorf("%d %s", code, body)
		}
		if code, _, h := e.getQuery(t, base+"vmalert", ""); code != 302 || h.Get("Location") != location {
			t.Errorf("%d %v", code, h)
		}
	}
	var u ProxyURL
	for _, bad := range []string{"vmalert:8880", "ftp://x", "http://", "%"} {
		if err := u.Set(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := u.Set("http://u:p@x/y"); err != nil || u.String() != "http://u:xxxxx@x/y" {
		t.Errorf("%s, %v", &u, err)
	}
}

func TestCORS(t *testing.T) {
	for _, disabled := range []bool{false, true} {
		e := newEnv(t)
		e.api.o.DisableCORS = disabled
		_, _, h := e.getQuery(t, api+"query", "query=1")
		if (h.Get("Access-Control-Allow-Origin") == "") != disabled {
			t.Errorf("disabled %v: %v", disabled, h)
		}
	}
}

func TestExemplars(t *testing.T) {
	e := newEnv(t)
	e.api.o.Exemplars = e.store
	var none model.TenantID
	second, other := apitest.Exemplar(none, "m", "b", "2", 2500), apitest.Exemplar(none, "n", "a", "4", 1000)
	second.Value = 1e30
	upper := apitest.Exemplar(none, "m", "", "3", 1000)
	upper.Series, _ = model.AppendSeriesKey(nil, none, []model.Label{{Name: model.MetricNameLabel, Value: "z"}, {Name: "Zone", Value: "1"}}) // fails never
	if err := e.store.AddExemplars(t.Context(), []model.Exemplar{other, second, apitest.Exemplar(none, "m", "b", "1", 1000), upper, apitest.Exemplar(model.TenantID{AccountID: 1}, "m", "b", "x", 1000)}); err != nil {
		t.Fatal(err)
	}
	at := apitest.DefaultBase / 1000
	one := func(trace, value string, time string) string {
		return fmt.Sprintf(`{"labels":{"trace_id":"%s"},"value":"%s","timestamp":%s}`, trace, value, time)
	}
	first := one("1", "1000", fmt.Sprint(at+1))
	b := `{"seriesLabels":{"__name__":"m","job":"b"},"exemplars":[` + first + "," + one("2", "1e+30", fmt.Sprintf("%d.5", at+2)) + `]}`
	z := `{"seriesLabels":{"Zone":"1","__name__":"z"},"exemplars":[` + one("3", "1000", fmt.Sprint(at+1)) + `]}`
	n := `{"seriesLabels":{"__name__":"n","job":"a"},"exemplars":[` + one("4", "1000", fmt.Sprint(at+1)) + `]}`
	for args, want := range map[string]string{
		"query=m":                     b,
		"query=rate(m[5m]) / on() n":  b + "," + n,
		`query=m or {Zone!=""}`:       z + "," + b,
		`query={job="a" or Zone="1"}`: z + "," + n,
		"query=nosuch":                "",
		"query=1%2B2":                 "",
		fmt.Sprintf("query=m&start=%d&end=%d", at, at+2): `{"seriesLabels":{"__name__":"m","job":"b"},"exemplars":[` + first + `]}`,
		"query=m&extra_label=job=x":                      "",
		`query={__name__!=""}&extra_label=job=a`:         n,
	} {
		if code, body, _ := e.getQuery(t, api+"query_exemplars", args); code != 200 || body != `{"status":"success","isPartial":false,"data":[`+want+"]}" {
			t.Errorf("%s: %d %s\nwant %s", args, code, body, want)
		}
	}
	for args, want := range map[string]string{
		"": "missing `query` arg", "query=m{": "", "query=m&start=x": "", "query=m&start=20&end=10": "before", "query=" + strings.Repeat("a%2B", 1000) + "b": "1001 selectors",
	} {
		if code, body, _ := e.getQuery(t, api+"query_exemplars", args); code != 400 && code != 422 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", args, code, body)
		}
	}
	e.api.o.Config.MaxExemplars = 1
	if code, body, _ := e.getQuery(t, api+"query_exemplars", "query=m"); code != 422 || !strings.Contains(body, "-search.maxExemplars") {
		t.Errorf("beyond the limit: %d %s", code, body)
	}
}
