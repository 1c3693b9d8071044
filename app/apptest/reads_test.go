package apptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dayArgs is a time range around fixed.
func dayArgs() []string { return []string{"start", "2024-06-01", "end", "2024-06-02"} }

// writeRooms writes what testAnswers and its like read: two metrics with three series.
func writeRooms(t testing.TB, target string) {
	t.Helper()
	var list []ts
	for i, room := range []string{"hall", "kitchen"} {
		s := series("__name__", "temperature", "room", room, "floor", "1")
		for minute := range 10 {
			s = s.at(fixed+int64(minute)*60000, float64(20+i*10+minute))
		}
		list = append(list, s)
	}
	list = append(list, series("__name__", "light", "room", "hall").at(fixed+500, 0.125))
	mustWrite(t, target, list...)
}

// testAnswers: the JSON of each answer, to the byte but for the time it took.
func testAnswers(t *testing.T, c *cluster) {
	writeRooms(t, c.writeURL("500")+"/api/v1/write")
	checkAnswers(t, c.readURL("500"), `"isPartial":false,`)
}

// checkAnswers compares answers about the series of writeRooms. Partial is the part of the answers that only a cluster has.
func checkAnswers(t *testing.T, base, partial string) {
	t.Helper()
	for _, tc := range []struct {
		path string
		args []string
		want string
	}{
		{"/api/v1/query", []string{"query", `temperature{room="hall"}`, "time", "1717200300"},
			`{"status":"success",P"data":{"resultType":"vector","result":[{"metric":{"__name__":"temperature","floor":"1","room":"hall"},"value":[1717200300,"25"]}]},"stats":{"seriesFetched": "1","executionTimeMsec":0}}`},
		{"/api/v1/query", []string{"query", `sum(temperature) by (floor)`, "time", "1717200300.25"},
			`{"status":"success",P"data":{"resultType":"vector","result":[{"metric":{"floor":"1"},"value":[1717200300.25,"60"]}]},"stats":{"seriesFetched": "2","executionTimeMsec":0}}`},
		{"/api/v1/query", []string{"query", `1.5`, "time", "1717200300"},
			`{"status":"success",P"data":{"resultType":"vector","result":[{"metric":{},"value":[1717200300,"1.5"]}]},"stats":{"seriesFetched": "0","executionTimeMsec":0}}`},
		{"/api/v1/query", []string{"query", `light`, "time", "1717200001"},
			`{"status":"success",P"data":{"resultType":"vector","result":[{"metric":{"__name__":"light","room":"hall"},"value":[1717200001,"0.125"]}]},"stats":{"seriesFetched": "1","executionTimeMsec":0}}`},
		{"/api/v1/query_range", []string{"query", `temperature{room="kitchen"}`, "start", "1717200060", "end", "1717200180", "step", "60"},
			`{"status":"success",P"data":{"resultType":"matrix","result":[{"metric":{"__name__":"temperature","floor":"1","room":"kitchen"},"values":[[1717200060,"31"],[1717200120,"32"],[1717200180,"33"]]}]},"stats":{"seriesFetched": "1","executionTimeMsec":0}}`},
		{"/api/v1/query", []string{"query", `temperature{room="hall"}[2m]`, "time", "1717200300"},
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"temperature","floor":"1","room":"hall"},"values":[[1717200240,"24"],[1717200300,"25"]]}]}}`},
		{"/api/v1/series", append(dayArgs(), "match[]", "light"), `{"status":"success",P"data":[{"__name__":"light","room":"hall"}]}`},
		{"/api/v1/labels", dayArgs(), `{"status":"success",P"data":["__name__","floor","room"]}`},
		{"/api/v1/labels", append(dayArgs(), "match[]", "light"), `{"status":"success",P"data":["__name__","room"]}`},
		{"/api/v1/label/room/values", dayArgs(), `{"status":"success",P"data":["hall","kitchen"]}`},
		{"/api/v1/label/__name__/values", dayArgs(), `{"status":"success",P"data":["light","temperature"]}`},
		{"/api/v1/label/room/values", append(dayArgs(), "match[]", `{__name__="light"}`), `{"status":"success",P"data":["hall"]}`},
		{"/api/v1/label/nosuch/values", dayArgs(), `{"status":"success",P"data":[]}`},
		{"/api/v1/export", []string{"match[]", "light"}, `{"metric":{"__name__":"light","room":"hall"},"values":[0.125],"timestamps":[1717200000500]}` + "\n"},
		{"/api/v1/export", []string{"match[]", "light", "format", "prometheus"}, `light{room="hall"} 0.125 1717200000500` + "\n"},
		{"/api/v1/export", []string{"match[]", "light", "format", "promapi"},
			`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"light","room":"hall"},"values":[[1717200000.5,"0.125"]]}]}}`},
		{"/api/v1/export", []string{"match[]", `temperature{room="hall"}`, "max_rows_per_line", "2", "start", "1717200000", "end", "1717200120"},
			`{"metric":{"__name__":"temperature","floor":"1","room":"hall"},"values":[20,21],"timestamps":[1717200000000,1717200060000]}` + "\n" +
				`{"metric":{"__name__":"temperature","floor":"1","room":"hall"},"values":[22],"timestamps":[1717200120000]}` + "\n"},
	} {
		want := strings.Replace(tc.want, "P", partial, 1)
		if strings.HasPrefix(tc.path, "/api/v1/export") {
			want = tc.want
		}
		for method, a := range map[string]answer{"GET": get(t, base+tc.path, tc.args...), "POST": postForm(t, base+tc.path, tc.args...)} {
			if a.status != http.StatusOK || untimed(a.body) != want {
				t.Errorf("%s %s %q: status %d, got\n%s\nwant\n%s", method, tc.path, tc.args, a.status, a.body, want)
			}
		}
	}
	if got := get(t, base+"/api/v1/query", "query", "1").header.Get("Content-Type"); got != "application/json" {
		t.Errorf("the content type is %q", got)
	}
}

// testReadPaths: a trailing slash and doubled slashes do no harm, unknown paths are refused.
func testReadPaths(t *testing.T, c *cluster) {
	root := "http://" + c.selectAddr
	args := "query=light&time=1717200001"
	for _, path := range []string{
		"/select/500/prometheus/api/v1/query", "/select/500/prometheus/api/v1/query/", "//select//500//prometheus///api/v1//query",
		"/select/500:0/prometheus/api/v1/query", "/select/500/prometheus/api/v1/query?unknown=x",
	} {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		q := parseQuery(t, get(t, root+path+sep+args))
		if got := vector(t, q); len(got) != 1 || got[0] != `light{room="hall"} 0.125` {
			t.Errorf("%s: %v", path, got)
		}
	}
	for path, text := range map[string]string{
		"/select/500/prometheus/api/v1/nosuch":       "nosuch",
		"/select/abc/prometheus/api/v1/query":        "abc",
		"/select/1:2:3/prometheus/api/v1/query":      "1:2:3",
		"/select/4294967296/prometheus/api/v1/query": "4294967296",
		"/select/500/admin/tenants":                  "/select/500/admin/tenants",
		"/nosuch":                                    "/nosuch",
	} {
		get(t, root+path).want(t, http.StatusBadRequest, text)
	}
}

// testFiltersAndLimits: extra_label, extra_filters[] and limit.
func testFiltersAndLimits(t *testing.T, c *cluster) {
	base := c.readURL("500")
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"extra_label", "room=hall"}, []string{`temperature{floor="1",room="hall"} 25`}},
		{[]string{"extra_label", "room=attic"}, []string{}},
		{[]string{"extra_filters[]", `{room="kitchen"}`}, []string{`temperature{floor="1",room="kitchen"} 35`}},
		{[]string{"extra_filters", `{room=~"k.*"}`}, []string{`temperature{floor="1",room="kitchen"} 35`}},
		{[]string{"extra_filters[]", `{room="kitchen"}`, "extra_filters[]", `{room="hall"}`}, []string{`temperature{floor="1",room="hall"} 25`, `temperature{floor="1",room="kitchen"} 35`}},
		{[]string{"extra_filters[]", `{room="kitchen"}`, "extra_label", "floor=2"}, []string{}},
		{[]string{"limit", "1"}, []string{`temperature{floor="1",room="hall"} 25`}},
		{[]string{"limit", "0"}, []string{`temperature{floor="1",room="hall"} 25`, `temperature{floor="1",room="kitchen"} 35`}},
	} {
		if got := instant(t, base, "temperature", fixed+300000, tc.args...); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%q: got %v; want %v", tc.args, got, tc.want)
		}
	}
	for _, tc := range []struct {
		path string
		args []string
		want string
	}{
		{"/api/v1/series", []string{"match[]", "temperature", "extra_label", "room=hall"}, `[{"__name__":"temperature","floor":"1","room":"hall"}]`},
		{"/api/v1/series", []string{"match[]", "temperature", "limit", "1"}, `[{"__name__":"temperature","floor":"1","room":"hall"}]`},
		{"/api/v1/series", []string{"match[]", "temperature", "match[]", "light", "extra_filters[]", `{room="hall"}`}, `[{"__name__":"light","room":"hall"},{"__name__":"temperature","floor":"1","room":"hall"}]`},
		{"/api/v1/labels", []string{"limit", "2"}, `["__name__","floor"]`},
		{"/api/v1/labels", []string{"extra_filters[]", `{__name__="light"}`}, `["__name__","room"]`},
		{"/api/v1/label/room/values", []string{"limit", "1"}, `["hall"]`},
		{"/api/v1/label/room/values", []string{"extra_label", "room=kitchen"}, `["kitchen"]`},
	} {
		a := get(t, base+tc.path, append(dayArgs(), tc.args...)...).want(t, http.StatusOK)
		if want := `{"status":"success","isPartial":false,"data":` + tc.want + `}`; a.body != want {
			t.Errorf("%s %q: got %s; want %s", tc.path, tc.args, a.body, want)
		}
	}
	if got := export(t, base, `{room!=""}`, "extra_label", "room=kitchen"); len(got) != 1 || got.samples() != 10 {
		t.Errorf("export with extra_label: %s", got)
	}
	get(t, base+"/api/v1/query", "query", "1", "extra_label", "novalue").want(t, http.StatusBadRequest, "novalue")
	get(t, base+"/api/v1/query", "query", "1", "extra_filters[]", "{").want(t, http.StatusBadRequest, "extra_filters")
	get(t, base+"/api/v1/query", "query", "1", "limit", "x").want(t, http.StatusBadRequest, "limit")
}

// testTimeArguments: all forms of a time mean the same instant.
func testTimeArguments(t *testing.T, c *cluster) {
	base := c.readURL("500")
	for text, want := range map[string]int64{
		"1717200300": fixed + 300000, "1717200300.5": fixed + 300500, "1717200300000": fixed + 300000, "1717200300123": fixed + 300123,
		"1717200300000000": fixed + 300000, "1717200300000000000": fixed + 300000, "1.7172003e9": fixed + 300000,
		"2024-06-01T00:05:00Z": fixed + 300000, "2024-06-01T00:05:00.25Z": fixed + 300250, "2024-06-01T02:05:00+02:00": fixed + 300000,
		"2024-06-01T00:05:00": fixed + 300000, "2024-06-01T00:05": fixed + 300000, "2024-06-01T00:05Z": fixed + 300000, "2024-06-01T00": fixed,
		"2024-06-01": fixed, "2024-06-01Z": fixed, "2024-06": fixed, "2024": 1704067200000,
	} {
		for method, a := range map[string]answer{
			"GET":  get(t, base+"/api/v1/query", "query", "time()", "time", text),
			"POST": postForm(t, base+"/api/v1/query", "query", "time()", "time", text),
		} {
			if got := vector(t, parseQuery(t, a)); len(got) != 1 || got[0] != "{} "+trimSeconds(want) {
				t.Errorf("%s time=%s: got %v; want %s", method, text, got, trimSeconds(want))
			}
		}
	}
	for text, ago := range map[string]time.Duration{
		"now": 0, "now-1h5m": 65 * time.Minute, "-1h5m": 65 * time.Minute, "1h5m": 65 * time.Minute, "now-90s": 90 * time.Second, "-1d": 24 * time.Hour,
	} {
		before := time.Now().Add(-ago)
		got := vector(t, parseQuery(t, get(t, base+"/api/v1/query", "query", "time()", "time", text, "latency_offset", "0s")))
		after := time.Now().Add(-ago)
		at, err := strconv.ParseFloat(strings.TrimPrefix(got[0], "{} "), 64)
		if err != nil || at < float64(before.UnixMilli())/1000-1 || at > float64(after.UnixMilli())/1000+1 {
			t.Errorf("time=%s: got %v, %v; want between %d and %d", text, got, err, before.Unix(), after.Unix())
		}
	}
	for _, start := range []string{"1717200060", "1717200060000", "2024-06-01T00:01:00Z", "2024-06-01T00:01"} {
		for _, end := range []string{"1717200180", "1717200180000000", "2024-06-01T00:03:00Z", "2024-06-01T01:03:00+01:00"} {
			if got := export(t, base, `temperature{room="hall"}`, "start", start, "end", end); got.String() !=
				`{"__name__":"temperature","floor":"1","room":"hall"} 21@1717200060000 22@1717200120000 23@1717200180000` {
				t.Errorf("export from %s to %s: %s", start, end, got)
			}
			for _, step := range []string{"60", "60s", "1m", "60.0", "60000ms"} {
				a := get(t, base+"/api/v1/query_range", "query", `temperature{room="hall"}`, "start", start, "end", end, "step", step)
				checkValues(t, "from "+start+" to "+end+" step "+step, a, "21", "22", "23")
			}
		}
	}
	for _, bad := range []string{"yesterday", "2024-13-01", "1h5x", "NaN"} {
		get(t, base+"/api/v1/query", "query", "1", "time", bad).want(t, http.StatusBadRequest, bad, `"errorType":"400"`)
		get(t, base+"/api/v1/query_range", "query", "1", "start", bad).want(t, http.StatusBadRequest, bad, "start")
		get(t, base+"/api/v1/export", "match[]", "m", "end", bad).want(t, http.StatusBadRequest, bad, "end")
		get(t, base+"/api/v1/labels", "start", bad).want(t, http.StatusBadRequest, bad, `"errorType":"400"`)
	}
}

// trimSeconds writes Unix milliseconds as seconds without trailing zeros.
func trimSeconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64) }

// checkValues compares the values of the only series of a range query.
func checkValues(t *testing.T, what string, a answer, want ...string) {
	t.Helper()
	q := parseQuery(t, a)
	var got []string
	for _, r := range q.Data.Result {
		for _, p := range r.Values {
			var v string
			if err := json.Unmarshal(p[1], &v); err != nil {
				t.Fatalf("%s: %s", what, err)
			}
			got = append(got, v)
		}
	}
	if len(q.Data.Result) != 1 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v in %d series; want %v", what, got, len(q.Data.Result), want)
	}
}

// testWrongHalf: who mixes up the halves of the cluster is told the right URL.
func testWrongHalf(t *testing.T, c *cluster) {
	for _, suffix := range []string{"api/v1/query", "api/v1/query_range", "api/v1/series", "api/v1/labels", "api/v1/label/x/values", "api/v1/export"} {
		get(t, c.writeURL("7")+"/"+suffix, "query", "m", "match[]", "m").want(t, http.StatusBadRequest, "/select/7/prometheus/"+suffix, "vmselect")
	}
	for _, suffix := range []string{"api/v1/write", "api/v1/import", "api/v1/import/prometheus"} {
		request(t, http.MethodPost, c.readURL("7")+"/"+suffix, nil).want(t, http.StatusBadRequest, "/insert/7/prometheus/"+suffix, "vminsert")
	}
	// Also when the path is right and the process is not.
	get(t, "http://"+c.insertAddr+"/select/7/prometheus/api/v1/query", "query", "m").want(t, http.StatusBadRequest, "/select/7/prometheus/api/v1/query", "vmselect")
	request(t, http.MethodPost, "http://"+c.selectAddr+"/insert/7/prometheus/api/v1/write", nil).want(t, http.StatusBadRequest, "/insert/7/prometheus/api/v1/write", "vminsert")
}

// testFloatValues: every kind of float64 comes back as it was.
func testFloatValues(t *testing.T, c *cluster) {
	values := []string{"0", "-0", "0.1", "5e-324", "1.7976931348623157e+308", "-1.7976931348623157e+308", "1e-7", "123456789012345678", "3.141592653589793", "+Inf", "-Inf"}
	s := series("__name__", "floats")
	for i, v := range values {
		s = s.at(fixed+int64(i)*1000, number(v))
	}
	mustWrite(t, c.writeURL("501")+"/api/v1/write", s)
	check := func(when string) {
		t.Helper()
		points := export(t, c.readURL("501"), "floats")[`{"__name__":"floats"}`]
		if len(points) != len(values) {
			t.Fatalf("%s: %d points; want %d", when, len(points), len(values))
		}
		for i, p := range points {
			if got, want := number(strings.Trim(p.value, `"`)), number(values[i]); got != want || strconv.FormatFloat(got, 'g', -1, 64) != strconv.FormatFloat(want, 'g', -1, 64) {
				t.Errorf("%s: %s came back as %s", when, values[i], p.value)
			}
		}
	}
	check("before a flush")
	c.flush()
	check("after a flush")
	for i, v := range values {
		at := fixed + int64(i)*1000
		a := get(t, c.readURL("501")+"/api/v1/query?"+url.Values{"query": {"floats"}, "time": {seconds(at)}}.Encode())
		got := vector(t, parseQuery(t, a))
		if len(got) != 1 || number(strings.TrimPrefix(got[0], "floats{} ")) != number(v) {
			t.Errorf("query for %s: %v", v, got)
		}
	}
}
