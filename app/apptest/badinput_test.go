package apptest

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
)

// badWrite is a request that is refused as a whole or in part.
type badWrite struct {
	name     string
	path     string // below /insert/<tenant>/prometheus
	encoding string
	body     []byte
	status   int
	says     []string // in the body, or in the headers when the status is 204
	metric   string   // the family that counts it
	labels   []string // of that metric
	grows    float64  // by how much, at least; 0 means 1
	storage  bool     // the metric is one of the storage nodes
	kept     int      // samples that are stored nevertheless
}

func badWrites(t *testing.T) []badWrite {
	at := anHourAgo()
	good := series("__name__", "good").at(at, 1)
	labelled := func(n int, more ...string) ts {
		labels := []string{"__name__", "bad"}
		for i := range n {
			labels = append(labels, fmt.Sprintf("l%02d", i), "x")
		}
		return series(append(labels, more...)...).at(at, 1)
	}
	remote := func(name string, body []byte, status int, says ...string) badWrite {
		return badWrite{name: name, path: "/api/v1/write", encoding: "snappy", body: body, status: status, says: says,
			metric: "vm_http_request_errors_total", labels: []string{`protocol="promremotewrite"`}}
	}
	dropped := func(name, reason string, kept int, list ...ts) badWrite {
		return badWrite{name: name, path: "/api/v1/write", encoding: "snappy", body: snappyBody(list...), status: http.StatusNoContent,
			metric: "vm_rows_ignored_total", labels: []string{`reason="` + reason + `"`}, kept: kept}
	}
	late := func(name, reason string, ms int64) badWrite {
		b := dropped(name, reason, 1, series("__name__", "bad").at(ms, 1), good)
		b.storage = true
		return b
	}
	text := func(name, body string, kept int, says ...string) badWrite {
		return badWrite{name: name, path: "/api/v1/import/prometheus", body: []byte(body), status: http.StatusNoContent, says: says,
			metric: "vm_rows_invalid_total", labels: []string{`type="prometheus"`}, kept: kept}
	}
	lines := func(name, body string, kept int, says ...string) badWrite {
		return badWrite{name: name, path: "/api/v1/import", body: []byte(body), status: http.StatusNoContent, says: says,
			metric: "vm_rows_invalid_total", labels: []string{`type="vmimport"`}, kept: kept}
	}
	goodLine := fmt.Sprintf(`{"metric":{"__name__":"good"},"values":[1],"timestamps":[%d]}`+"\n", at)
	huge := snappy.Encode(nil, make([]byte, 9<<20))
	whole := writeRequest(good)
	return []badWrite{
		remote("not snappy", []byte("not snappy at all"), http.StatusBadRequest, "snappy"),
		remote("snappy cut off", snappyBody(good)[:10], http.StatusBadRequest, "snappy"),
		remote("snappy that promises 4 GiB", []byte("\xff\xff\xff\xff\x0f\x00"), http.StatusBadRequest, "snappy"),
		remote("protobuf cut off", snappy.Encode(nil, whole[:len(whole)-3]), http.StatusBadRequest, "byte"),
		remote("protobuf of something else", snappy.Encode(nil, []byte("hello, world")), http.StatusBadRequest),
		remote("too large unpacked", huge, http.StatusRequestEntityTooLarge, "-maxInsertRequestSize=8"),
		remote("too large packed", make([]byte, 9<<20), http.StatusRequestEntityTooLarge, "-maxInsertRequestSize=8"),
		{name: "zstd cut off", path: "/api/v1/write", encoding: "zstd", body: zstdBody(t, good)[:8], status: http.StatusBadRequest, says: []string{"zstd"},
			metric: "vm_http_request_errors_total", labels: []string{`protocol="promremotewrite"`}},
		{name: "unknown encoding", path: "/api/v1/import/prometheus", encoding: "br", body: []byte("good 1"), status: http.StatusBadRequest, says: []string{"br"},
			metric: "vm_http_request_errors_total", labels: []string{`protocol="prometheusimport"`}},
		{name: "gzip cut off", path: "/api/v1/import", encoding: "gzip", body: gzipped(t, []byte(goodLine))[:20], status: http.StatusBadRequest, says: []string{"unexpected EOF"},
			metric: "vm_http_request_errors_total", labels: []string{`protocol="vmimport"`}},
		{name: "unknown path", path: "/api/v1/nosuch", status: http.StatusBadRequest, says: []string{"/api/v1/nosuch", "unsupported path"},
			metric: "vm_http_request_errors_total", labels: []string{`reason="unsupported"`}},
		{name: "bad extra_label", path: "/api/v1/write?extra_label=novalue", body: snappyBody(good), status: http.StatusBadRequest, says: []string{"extra_label", "novalue"},
			metric: "vm_http_request_errors_total", labels: []string{`protocol="promremotewrite"`}},

		dropped("too many labels", "too_many_labels", 1, labelled(40), good),
		dropped("too long name", "too_long_label_name", 1, labelled(0, strings.Repeat("n", 257), "x"), good),
		dropped("too long value", "too_long_label_value", 1, labelled(0, "l", strings.Repeat("v", 4097)), good),
		dropped("duplicate name", "duplicate_label_name", 1, labelled(0, "a", "1", "a", "2"), good),
		dropped("empty label name", "empty_label_name", 1, labelled(0, "", "1"), good),
		dropped("no metric name", "empty_metric_name", 1, series("job", "x").at(at, 1), good),
		dropped("empty metric name", "empty_metric_name", 1, series("__name__", "", "job", "x").at(at, 1), good),
		dropped("no labels", "empty_metric_name", 1, ts{}.at(at, 1), good),

		late("before retention", "small_timestamp", time.Now().AddDate(-1, -2, 0).UnixMilli()),
		late("at the epoch", "small_timestamp", 0),
		late("negative", "small_timestamp", -1),
		late("far future", "big_timestamp", time.Now().AddDate(0, 0, 4).UnixMilli()),
		late("end of time", "big_timestamp", math.MaxInt64),
		late("beginning of time", "small_timestamp", math.MinInt64),

		text("bad lines", "good 1\nbad{ 1\nnovalue\nx abc\n", 1, "3"),
		lines("bad JSON", "{bad json\n"+goodLine, 1, "1"),
		lines("lengths differ", `{"metric":{"__name__":"x"},"values":[1,2],"timestamps":[1]}`+"\n"+goodLine, 1),
		lines("no values", `{"metric":{"__name__":"x"},"timestamps":[1]}`+"\n"+goodLine, 1),
		lines("line too long", `{"metric":{"__name__":"`+strings.Repeat("x", 11<<20)+`"},"values":[1],"timestamps":[1]}`+"\n"+goodLine, 1),
	}
}

// TestBadWrites: each fault is answered with a status and words that fit, counted, and does not harm what comes after.
func TestBadWrites(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{storageArgs: []string{"-retentionPeriod=1y"}, insertArgs: []string{"-maxInsertRequestSize=8MiB"}})
	for i, b := range badWrites(t) {
		t.Run(b.name, func(t *testing.T) {
			tenant := fmt.Sprint(i + 1)
			before := b.count(t, c)
			a := request(t, http.MethodPost, c.writeURL(tenant)+b.path, b.body, "Content-Encoding", b.encoding).want(t, b.status)
			said := a.body
			if a.status == http.StatusNoContent {
				said = fmt.Sprint(a.header)
			}
			if !containsAll(said, b.says) {
				t.Errorf("it says %q; want %q in it", said, b.says)
			}
			if a.status == http.StatusNoContent && !b.storage && a.header.Get("X-Rows-Dropped")+a.header.Get("X-Rows-Invalid") == "" {
				t.Errorf("the headers %v do not tell what was left out", a.header)
			}
			if grown := b.count(t, c) - before; grown < max(b.grows, 1) {
				t.Errorf("%s%v grew by %v", b.metric, b.labels, grown)
			}
			if got := export(t, c.readURL(tenant), `{__name__!=""}`); got.samples() != b.kept {
				t.Errorf("%d samples are stored; want %d: %s", got.samples(), b.kept, got)
			}
			mustWrite(t, c.writeURL(tenant)+"/api/v1/write", series("__name__", "after").at(time.Now().UnixMilli(), 1))
			if got := export(t, c.readURL(tenant), "after").samples(); got != 1 {
				t.Errorf("a good write afterwards left %d samples", got)
			}
		})
	}
	for _, p := range []*process{c.insert, c.sel, c.storage[0].process, c.storage[1].process} {
		if !p.running() {
			t.Errorf("%s has ended", p.spec.name)
		}
	}
}

// count returns the metric that counts this fault.
func (b *badWrite) count(t *testing.T, c *cluster) float64 {
	t.Helper()
	if !b.storage {
		return mustMetric(t, c.insertAddr, b.metric, b.labels...)
	}
	sum := 0.0
	for _, n := range c.storage {
		sum += mustMetric(t, n.http, b.metric, b.labels...)
	}
	return sum
}

// TestBadTenants: what is no tenant is refused on both sides, with the fault in the text.
func TestBadTenants(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	for _, tenant := range []string{"abc", "4294967296", "-1", "1:x", "1:2:3", "7:", ":5", "0x1", "1.5", "1:4294967296", "1%3A2%3A3", "%20"} {
		plain := strings.NewReplacer("%3A", ":", "%20", " ").Replace(tenant)
		before := mustMetric(t, c.insertAddr, "vm_http_request_errors_total")
		body := snappyBody(series("__name__", "m").at(fixed, 1))
		request(t, http.MethodPost, c.writeURL(tenant)+"/api/v1/write", body).want(t, http.StatusBadRequest, plain)
		if mustMetric(t, c.insertAddr, "vm_http_request_errors_total") == before {
			t.Errorf("a write to tenant %q is not counted", tenant)
		}
		before = mustMetric(t, c.selectAddr, "vm_http_request_errors_total")
		get(t, c.readURL(tenant)+"/api/v1/query", "query", "m").want(t, http.StatusBadRequest, plain)
		if mustMetric(t, c.selectAddr, "vm_http_request_errors_total") == before {
			t.Errorf("a query of tenant %q is not counted", tenant)
		}
	}
	if a := get(t, "http://"+c.selectAddr+"/admin/tenants"); a.body != `{"status":"success","data":[]}` {
		t.Errorf("tenants were made: %s", a)
	}
}

// TestBadReads: the answer to a bad query is JSON with the fault in it, and is counted.
func TestBadReads(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{selectArgs: []string{"-search.maxQueryLen=1000", "-search.maxSeries=2", "-search.maxUniqueTimeseries=3"}})
	var list []ts
	for i := range 5 {
		list = append(list, series("__name__", "many", "i", fmt.Sprint(i)).at(fixed, 1))
	}
	mustWrite(t, c.writeURL("0")+"/api/v1/write", list...)
	query, queryRange := "/api/v1/query", "/api/v1/query_range"
	for _, tc := range []struct {
		path   string
		args   []string
		status int
		says   []string
	}{
		{query, nil, 400, []string{"query"}},
		{query, []string{"query", "sum("}, 400, []string{"line 1, column 5"}},
		{query, []string{"query", "foo{"}, 400, []string{"line 1, column 5"}},
		{query, []string{"query", "foo\n  + + )"}, 400, []string{"line 2, column 7"}},
		{query, []string{"query", "nosuchfunc(foo)"}, 400, []string{"nosuchfunc"}},
		{query, []string{"query", `{a=~"("}`}, 400, []string{"("}},
		{query, []string{"query", "m", "step", "0"}, 400, []string{"step"}},
		{query, []string{"query", strings.Repeat("x", 1001)}, 400, []string{"-search.maxQueryLen"}},
		{query, []string{"query", "m", "timeout", "x"}, 400, []string{"timeout", "x"}},
		{query, []string{"query", "m", "round_digits", "x"}, 400, []string{"round_digits", "x"}},
		{query, []string{"query", "many", "time", "2024-06-01"}, 422, []string{"3", "-search.max"}},
		{queryRange, []string{"query", "m", "step", "0"}, 400, []string{"step"}},
		{queryRange, []string{"query", "m", "step", "-1m"}, 400, []string{"step"}},
		{queryRange, []string{"query", "m", "step", "abc"}, 400, []string{"step", "abc"}},
		{queryRange, []string{"query", "m", "start", "0", "end", "1717200000", "step", "1"}, 422, []string{"30000", "-search.maxPointsPerTimeseries"}},
		{"/api/v1/series", nil, 400, []string{"match[]"}},
		{"/api/v1/series", []string{"match[]", "{"}, 400, []string{"match"}},
		{"/api/v1/series", []string{"match[]", "sum(x)"}, 400, []string{"sum(x)"}},
		{"/api/v1/series", []string{"match[]", "many", "start", "2024-06-01", "end", "2024-06-02"}, 422, []string{"-search.maxSeries=2"}},
		{"/api/v1/labels", []string{"limit", "x"}, 400, []string{"limit"}},
		{"/api/v1/labels", []string{"match[]", "{}"}, 400, []string{"match"}},
	} {
		counter := []string{fmt.Sprintf(`path="/select/{}/prometheus%s"`, tc.path)}
		before := mustMetric(t, c.selectAddr, "vm_http_request_errors_total", counter...)
		a := get(t, c.readURL("0")+tc.path, tc.args...)
		if want := append(tc.says, fmt.Sprintf(`{"status":"error","errorType":"%d","error":"`, tc.status)); a.status != tc.status || !containsAll(a.body, want) {
			t.Errorf("%s %.200q: %s; want status %d and %q", tc.path, tc.args, a, tc.status, want)
		}
		if grown := mustMetric(t, c.selectAddr, "vm_http_request_errors_total", counter...) - before; grown != 1 {
			t.Errorf("%s %.200q: vm_http_request_errors_total grew by %v", tc.path, tc.args, grown)
		}
	}
	for _, tc := range []struct {
		args []string
		says string
	}{{nil, "match[]"}, {[]string{"match[]", "m", "format", "xml"}, "xml"}, {[]string{"match[]", "{"}, "match"}, {[]string{"match[]", "m", "start", "x"}, "start"}} {
		a := get(t, c.readURL("0")+"/api/v1/export", tc.args...).want(t, http.StatusBadRequest, tc.says)
		if strings.HasPrefix(a.body, "{") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Errorf("export %q answers %s, %s; want plain text", tc.args, a.header.Get("Content-Type"), a)
		}
	}
	// An end before the start is no fault of a client whose clock is a little off.
	parseQuery(t, get(t, c.readURL("0")+queryRange, "query", "1", "start", "1717200060", "end", "1717200000"))
	get(t, c.readURL("0")+"/api/v1/series", "match[]", "m", "start", "1717200060", "end", "1717200000").want(t, http.StatusOK)
	if got := instant(t, c.readURL("0"), `count(many{i=~"[01]"})`, fixed); len(got) != 1 || got[0] != "{} 2" {
		t.Errorf("a good query afterwards gives %v", got)
	}
}

// TestNaNAndInf: they are stored; export shows a NaN as null and queries skip it; a staleness marker ends the series.
func TestNaNAndInf(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	stale := math.Float64frombits(0x7ff0000000000002)
	mustWrite(t, c.writeURL("0")+"/api/v1/write",
		series("__name__", "odd").at(fixed, 1).at(fixed+1000, math.NaN()).at(fixed+2000, math.Inf(1)).at(fixed+3000, math.Inf(-1)).at(fixed+4000, 2),
		series("__name__", "only_nan").at(fixed, math.NaN()),
		series("__name__", "ended").at(fixed, 1).at(fixed+15000, stale))
	for _, when := range []string{"before a flush", "after a flush"} {
		want := fmt.Sprintf(`{"__name__":"odd"} 1@%d null@%d "Infinity"@%d "-Infinity"@%d 2@%d`, fixed, fixed+1000, fixed+2000, fixed+3000, fixed+4000)
		if got := export(t, c.readURL("0"), "odd").String(); got != want {
			t.Errorf("%s: got %s; want %s", when, got, want)
		}
		for at, value := range map[int64]string{fixed: "odd{} 1", fixed + 1000: "odd{} 1", fixed + 2000: "odd{} +Inf", fixed + 3000: "odd{} -Inf", fixed + 4000: "odd{} 2"} {
			if got := instant(t, c.readURL("0"), "odd", at); len(got) != 1 || got[0] != value {
				t.Errorf("%s: at %d there is %v; want %s", when, at, got, value)
			}
		}
		for query, want := range map[string]string{"only_nan": "[]", "ended": "[]", "count_over_time(odd[30s])": "[{} 4]"} {
			if got := fmt.Sprint(instant(t, c.readURL("0"), query, fixed+20000)); got != want {
				t.Errorf("%s: %s is %s; want %s", when, query, got, want)
			}
		}
		c.flush()
	}
	request(t, http.MethodPost, c.writeURL("1")+"/api/v1/import/prometheus", []byte("a NaN 1717200000000\nb +Inf 1717200000000\n")).want(t, http.StatusNoContent)
	// A null says that there is no value.
	a := request(t, http.MethodPost, c.writeURL("1")+"/api/v1/import", []byte(`{"metric":{"__name__":"c"},"values":["NaN",null,"-Infinity"],"timestamps":[1717200000000,1717200001000,1717200002000]}`))
	if a.want(t, http.StatusNoContent).header.Get("X-Rows-Dropped") != "1" || mustMetric(t, c.insertAddr, "vm_rows_ignored_total", `reason="null_value"`) != 1 {
		t.Errorf("a null is not counted: headers %v", a.header)
	}
	want := fmt.Sprintf(`{"__name__":"a"} null@%d`+"\n"+`{"__name__":"b"} "Infinity"@%[1]d`+"\n"+`{"__name__":"c"} null@%[1]d "-Infinity"@%d`, fixed, fixed+2000)
	if got := export(t, c.readURL("1"), `{__name__!=""}`).String(); got != want {
		t.Errorf("imports: got %s; want %s", got, want)
	}
	if got := mustMetric(t, c.insertAddr, "vm_rows_ignored_total"); got != 1 {
		t.Errorf("%v rows are counted as ignored; want 1", got)
	}
}
