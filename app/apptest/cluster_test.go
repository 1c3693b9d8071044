package apptest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/prompb"
)

// fixed is 2024-06-01T00:00:00Z in Unix milliseconds.
const fixed = 1717200000000

// TestCluster writes in all ways and reads in all ways.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	// The order matters for the first three only: they count what there is.
	t.Run("empty", func(t *testing.T) { testEmptyCluster(t, c) })
	t.Run("tenants", func(t *testing.T) { testTenants(t, c) })
	t.Run("spread", func(t *testing.T) { testSpread(t, c) })
	t.Run("write paths", func(t *testing.T) { testWritePaths(t, c) })
	t.Run("write formats", func(t *testing.T) { testWriteFormats(t, c) })
	t.Run("tenant headers", func(t *testing.T) { testTenantHeaders(t, c) })
	t.Run("visibility", func(t *testing.T) { testVisibility(t, c) })
	t.Run("answers", func(t *testing.T) { testAnswers(t, c) })
	t.Run("read paths", func(t *testing.T) { testReadPaths(t, c) })
	t.Run("filters and limits", func(t *testing.T) { testFiltersAndLimits(t, c) })
	t.Run("time arguments", func(t *testing.T) { testTimeArguments(t, c) })
	t.Run("wrong half", func(t *testing.T) { testWrongHalf(t, c) })
	t.Run("float values", func(t *testing.T) { testFloatValues(t, c) })
}

// testEmptyCluster: lists are [], never null.
func testEmptyCluster(t *testing.T, c *cluster) {
	for target, want := range map[string]string{
		"http://" + c.selectAddr + "/admin/tenants":      `{"status":"success","data":[]}`,
		c.readURL("0") + "/api/v1/labels":                `{"status":"success","isPartial":false,"data":[]}`,
		c.readURL("0") + "/api/v1/label/job/values":      `{"status":"success","isPartial":false,"data":[]}`,
		c.readURL("0") + "/api/v1/series?match[]=m":      `{"status":"success","isPartial":false,"data":[]}`,
		c.readURL("0") + "/api/v1/export?match[]=m":      ``,
		c.readURL("0") + "/api/v1/status/buildinfo":      `{"status":"success","data":{"version":"2.24.0"}}`,
		c.readURL("0") + "/api/v1/query?query=m&time=60": `{"status":"success","isPartial":false,"data":{"resultType":"vector","result":[]},"stats":{"seriesFetched": "0","executionTimeMsec":0}}`,
		c.readURL("0") + "/api/v1/query_range?query=m":   `{"status":"success","isPartial":false,"data":{"resultType":"matrix","result":[]},"stats":{"seriesFetched": "0","executionTimeMsec":0}}`,
	} {
		if a := get(t, target).want(t, http.StatusOK); untimed(a.body) != want {
			t.Errorf("%s: got %s; want %s", target, a.body, want)
		}
	}
	// What people watch is there before anything happened.
	for _, m := range []string{"vm_rpc_rows_sent_total", "vm_rows_inserted_total", "vm_rpc_rows_rerouted_from_here_total", "vm_rows_ignored_total"} {
		if v := mustMetric(t, c.insertAddr, m); v != 0 {
			t.Errorf("%s is %v at the start", m, v)
		}
	}
	for _, n := range c.storage {
		if v := mustMetric(t, n.http, "vm_vminsert_metrics_read_total"); v != 0 {
			t.Errorf("vm_vminsert_metrics_read_total is %v at the start", v)
		}
	}
}

// untimed sets the one figure of an answer that varies to 0.
func untimed(body string) string {
	return regexp.MustCompile(`"executionTimeMsec":\d+`).ReplaceAllString(body, `"executionTimeMsec":0`)
}

// testTenants: each tenant sees its own data, and the list names all.
func testTenants(t *testing.T, c *cluster) {
	tenants := []string{"0", "7:9", "7", "4294967295:4294967295"}
	for i, tenant := range tenants {
		mustWrite(t, c.writeURL(tenant)+"/api/v1/write", series("__name__", "who", "tenant", tenant).at(fixed, float64(i)))
	}
	for i, tenant := range tenants {
		want := fmt.Sprintf(`{"__name__":"who","tenant":%q} %d@%d`, tenant, i, fixed)
		if got := export(t, c.readURL(tenant), `{__name__!=""}`).String(); got != want {
			t.Errorf("tenant %s has %s; want %s", tenant, got, want)
		}
	}
	if got := export(t, c.readURL("7:8"), `{__name__!=""}`); len(got) > 0 {
		t.Errorf("a tenant without data has %s", got)
	}
	if got := export(t, c.readURL("0:0"), "who").samples(); got != 1 {
		t.Errorf("tenant 0:0, which is 0, has %d samples", got)
	}
	admin := "http://" + c.selectAddr + "/admin/tenants"
	for _, tc := range []struct{ target, want string }{
		{admin, `{"status":"success","data":["0:0","4294967295:4294967295","7:0","7:9"]}`},
		{admin + "/", `{"status":"success","data":["0:0","4294967295:4294967295","7:0","7:9"]}`},
		{admin + "?start=2024-06-01T00:00:00Z&end=2024-06-01T01:00:00Z", `{"status":"success","data":["0:0","4294967295:4294967295","7:0","7:9"]}`},
		{admin + "?start=2024-04-12&end=2024-04-20", `{"status":"success","data":[]}`},
	} {
		if a := get(t, tc.target).want(t, http.StatusOK); a.body != tc.want {
			t.Errorf("%s: got %s; want %s", tc.target, a.body, tc.want)
		}
	}
	get(t, admin, "start", "bad").want(t, http.StatusBadRequest, `"bad"`)
}

// testSpread: rows go to both nodes, and the counts on both sides agree.
func testSpread(t *testing.T, c *cluster) {
	const n = 1000
	before := mustMetric(t, c.insertAddr, "vm_rpc_rows_sent_total")
	inserted := mustMetric(t, c.insertAddr, "vm_rows_inserted_total", `type="promremotewrite"`)
	var list []ts
	for i := range n {
		list = append(list, series("__name__", "spread", "i", fmt.Sprint(i)).at(fixed, float64(i)).at(fixed+1000, float64(i)))
	}
	mustWrite(t, c.writeURL("1")+"/api/v1/write", list...)
	if got := mustMetric(t, c.insertAddr, "vm_rows_inserted_total", `type="promremotewrite"`) - inserted; got != 2*n {
		t.Errorf("vm_rows_inserted_total grew by %v; want %d", got, 2*n)
	}
	if got := mustMetric(t, c.insertAddr, "vm_rpc_rows_sent_total") - before; got != 2*n {
		t.Errorf("vm_rpc_rows_sent_total grew by %v; want %d", got, 2*n)
	}
	for _, node := range c.storage {
		sent := mustMetric(t, c.insertAddr, "vm_rpc_rows_sent_total", fmt.Sprintf("addr=%q", node.insert))
		if read := mustMetric(t, node.http, "vm_vminsert_metrics_read_total"); read != sent || sent < 2*n/4 || sent > 2*n*3/4 {
			t.Errorf("%s has read %v rows of %v that were sent to it", node.spec.name, read, sent)
		}
	}
	if got := instant(t, c.readURL("1"), "count(spread)", fixed+1000); len(got) != 1 || got[0] != "{} 1000" {
		t.Errorf("count is %v", got)
	}
	if got := export(t, c.readURL("1"), "spread").samples(); got != 2*n {
		t.Errorf("export has %d samples; want %d", got, 2*n)
	}
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// testWritePaths: every form of the path leads to the right tenant and format.
func testWritePaths(t *testing.T, c *cluster) {
	root := "http://" + c.insertAddr
	for i, tc := range []struct{ path, format string }{
		{"/insert/T/prometheus/api/v1/write", "remote write"},
		{"/insert/T/prometheus/api/v1/write/", "remote write"},
		{"/insert/T/prometheus/api/v1/push", "remote write"},
		{"/insert/T/prometheus", "remote write"},
		{"/insert/T/prometheus/", "remote write"},
		{"//insert//T//prometheus///api/v1//write", "remote write"},
		{"/insert/T/prometheus//", "remote write"},
		{"/insert/T/prometheus/api/v1/import/prometheus", "text"},
		{"/insert/T/prometheus/api/v1/import/prometheus/", "text"},
		{"//insert/T/prometheus//api/v1/import//prometheus", "text"},
		{"/insert/T/prometheus/api/v1/import", "json"},
		{"/insert/T/prometheus/api/v1/import/", "json"},
		{"/insert//T/prometheus/api//v1/import//", "json"},
	} {
		for _, tenant := range []string{fmt.Sprintf("%d", 100+i), fmt.Sprintf("%d:5", 100+i)} {
			var body []byte
			switch tc.format {
			case "remote write":
				body = snappyBody(series("__name__", "path", "tenant", tenant).at(fixed, 1.5))
			case "text":
				body = fmt.Appendf(nil, "path{tenant=%q} 1.5 %d\n", tenant, fixed)
			case "json":
				body = fmt.Appendf(nil, `{"metric":{"__name__":"path","tenant":%q},"values":[1.5],"timestamps":[%d]}`+"\n", tenant, fixed)
			}
			target := root + strings.Replace(tc.path, "T", tenant, 1)
			request(t, http.MethodPost, target, body).want(t, http.StatusNoContent)
			want := fmt.Sprintf(`{"__name__":"path","tenant":%q} 1.5@%d`, tenant, fixed)
			if got := export(t, c.readURL(tenant), "path").String(); got != want {
				t.Errorf("after a write to %s there is %q; want %q", target, got, want)
			}
		}
	}
}

// testWriteFormats: all formats and encodings store the same.
func testWriteFormats(t *testing.T, c *cluster) {
	list := []ts{
		series("__name__", "temperature", "room", "kitchen", "unit", "°C").at(fixed, 21.5).at(fixed+15000, -0.25),
		series("__name__", "power_total", "quote", `a"b\c`).at(fixed, 1e15+0.5),
	}
	text := fmt.Appendf(nil, "# TYPE temperature gauge\ntemperature{room=\"kitchen\",unit=\"°C\"} 21.5 %d\ntemperature{room=\"kitchen\",unit=\"°C\"} -0.25 %d\n"+
		"power_total{quote=\"a\\\"b\\\\c\"} 1000000000000000.5 %[1]d\n", fixed, fixed+15000)
	lines := fmt.Appendf(nil, `{"metric":{"__name__":"temperature","room":"kitchen","unit":"°C"},"values":[21.5,-0.25],"timestamps":[%d,%d]}`+"\n"+
		`{"metric":{"__name__":"power_total","quote":"a\"b\\c"},"values":[1000000000000000.5],"timestamps":[%[1]d]}`+"\n", fixed, fixed+15000)
	want := fmt.Sprintf(`{"__name__":"power_total","quote":"a\"b\\c"} 1000000000000000.5@%d`+"\n"+
		`{"__name__":"temperature","room":"kitchen","unit":"°C"} 21.5@%[1]d -0.25@%d`, fixed, fixed+15000)
	for i, tc := range []struct {
		name, path, encoding string
		body                 []byte
	}{
		{"snappy", "/api/v1/write", "snappy", snappyBody(list...)},
		{"snappy without header", "/api/v1/write", "", snappyBody(list...)},
		{"zstd", "/api/v1/write", "zstd", zstdBody(t, list...)},
		{"text", "/api/v1/import/prometheus", "", text},
		{"text without line end", "/api/v1/import/prometheus", "", bytes.TrimSpace(text)},
		{"text with CRLF", "/api/v1/import/prometheus", "", bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))},
		{"text gzip", "/api/v1/import/prometheus", "gzip", gzipped(t, text)},
		{"json lines", "/api/v1/import", "", lines},
		{"json lines gzip", "/api/v1/import", "gzip", gzipped(t, lines)},
	} {
		tenant := fmt.Sprint(200 + i)
		a := request(t, http.MethodPost, c.writeURL(tenant)+tc.path, tc.body, "Content-Encoding", tc.encoding).want(t, http.StatusNoContent)
		if a.header.Get("X-Rows-Invalid") != "" || a.header.Get("X-Rows-Dropped") != "" {
			t.Errorf("%s: headers %v", tc.name, a.header)
		}
		if got := export(t, c.readURL(tenant), `{__name__!=""}`).String(); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, want)
		}
	}
	testImportArguments(t, c)
}

// testImportArguments: timestamp and extra_label, and what export writes can be imported.
func testImportArguments(t *testing.T, c *cluster) {
	before := time.Now().UnixMilli()
	request(t, http.MethodPost, c.writeURL("220")+"/api/v1/import/prometheus?extra_label=job=x&extra_label=a=over", []byte(`now{a="own"} 1`)).want(t, http.StatusNoContent)
	request(t, http.MethodPost, c.writeURL("220")+"/api/v1/import/prometheus?timestamp="+fmt.Sprint(fixed), []byte("then 2")).want(t, http.StatusNoContent)
	request(t, http.MethodPost, c.writeURL("220")+"/api/v1/import/prometheus?timestamp=zz", []byte("then 2")).want(t, http.StatusBadRequest, "zz")
	got := export(t, c.readURL("220"), `{__name__!=""}`)
	points := got[`{"__name__":"now","a":"over","job":"x"}`]
	if len(got) != 2 || len(points) != 1 || points[0].ms < before || points[0].ms > time.Now().UnixMilli() {
		t.Errorf("got %s; want a sample of now", got)
	}
	if points := got[`{"__name__":"then"}`]; len(points) != 1 || points[0] != (point{fixed, "2"}) {
		t.Errorf("got %s; want the sample at %d", got, fixed)
	}
	copied := get(t, c.readURL("220")+"/api/v1/export", "match[]", `{__name__!=""}`)
	request(t, http.MethodPost, c.writeURL("221")+"/api/v1/import", []byte(copied.body)).want(t, http.StatusNoContent)
	if again := export(t, c.readURL("221"), `{__name__!=""}`); again.String() != got.String() {
		t.Errorf("imported %s; want %s", again, got)
	}
}

// testTenantHeaders: paths without tenant take it from headers, and from labels when asked to.
func testTenantHeaders(t *testing.T, c *cluster) {
	target := "http://" + c.insertAddr + "/insert/prometheus/api/v1/write"
	body := snappyBody(series("__name__", "headers").at(fixed, 1))
	request(t, http.MethodPost, target, body, "AccountID", "300", "ProjectID", "3").want(t, http.StatusNoContent)
	request(t, http.MethodPost, target, body, "AccountID", "301").want(t, http.StatusNoContent)
	request(t, http.MethodPost, target, body, "AccountID", "x").want(t, http.StatusBadRequest, "x")
	labelled := snappyBody(series("__name__", "headers", "vm_account_id", "302", "vm_project_id", "8").at(fixed, 1))
	request(t, http.MethodPost, "http://"+c.insertAddr+"/insert/multitenant/prometheus/api/v1/write", labelled).want(t, http.StatusNoContent)
	for _, tenant := range []string{"300:3", "301:0", "302:8"} {
		if got, want := export(t, c.readURL(tenant), `{__name__!=""}`).String(), fmt.Sprintf(`{"__name__":"headers"} 1@%d`, fixed); got != want {
			t.Errorf("tenant %s has %q; want %q", tenant, got, want)
		}
	}
}

// testVisibility: a sample is there within a second, and at once after a flush.
func testVisibility(t *testing.T, c *cluster) {
	now := time.Now().UnixMilli()
	mustWrite(t, c.writeURL("400")+"/api/v1/write", series("__name__", "soon").at(now, 5))
	eventually(t, time.Second, "sample in the answer to a query", func() error {
		if got := instant(t, c.readURL("400"), "soon", now); len(got) != 1 || got[0] != "soon{} 5" {
			return fmt.Errorf("the answer is %v", got)
		}
		return nil
	})
	mustWrite(t, c.writeURL("400")+"/api/v1/write", series("__name__", "at_once").at(now, 6))
	c.flush()
	if got := instant(t, c.readURL("400"), "at_once", now); len(got) != 1 || got[0] != "at_once{} 6" {
		t.Errorf("after a flush the answer is %v", got)
	}
	// Without arguments, a query looks at 30 seconds ago and a list of series at today.
	q := parseQuery(t, get(t, c.readURL("400")+"/api/v1/query", "query", "soon"))
	if len(q.Data.Result) != 0 {
		t.Errorf("-search.latencyOffset has no effect: %v", q.Data.Result)
	}
	get(t, c.readURL("400")+"/api/v1/series", "match[]", "soon", "start", "-1h").want(t, http.StatusOK, `"data":[{"__name__":"soon"}]`)
}

// TestLargeRequests: requests of many series, of one long series and of many lines are stored whole.
func TestLargeRequests(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	const manySeries, manySamples, manyLines = 20_000, 100_000, 100_000
	var list []ts
	for i := range manySeries {
		list = append(list, series("__name__", "wide", "i", fmt.Sprint(i), "job", "a job with quite a long name").at(fixed, float64(i)))
	}
	long := series("__name__", "long")
	var lines, values, timestamps bytes.Buffer
	for i := range int64(manySamples) {
		long = ts{long.labels, append(long.samples, prompb.Sample{Timestamp: fixed + i*100, Value: float64(i)})}
		fmt.Fprintf(&values, ",%d", i)
		fmt.Fprintf(&timestamps, ",%d", fixed+i*100)
	}
	for i := range manyLines {
		fmt.Fprintf(&lines, "text{i=\"%d\"} %d %d\n", i%1000, i, fixed+i)
	}
	mustWrite(t, c.writeURL("0")+"/api/v1/write", list...)
	mustWrite(t, c.writeURL("0")+"/api/v1/write", long)
	request(t, http.MethodPost, c.writeURL("0")+"/api/v1/import/prometheus", lines.Bytes()).want(t, http.StatusNoContent)
	line := fmt.Sprintf(`{"metric":{"__name__":"line"},"values":[%s],"timestamps":[%s]}`, values.String()[1:], timestamps.String()[1:])
	request(t, http.MethodPost, c.writeURL("0")+"/api/v1/import", []byte(line)).want(t, http.StatusNoContent)
	want := map[string]string{
		`count(wide)`: "20000", `sum(wide)`: "199990000", `count_over_time(long[1d])`: "100000", `sum_over_time(line[1d])`: "4999950000",
		`sum(count_over_time(text[1d]))`: "100000", `sum(sum_over_time(text[1d]))`: "4999950000", `count(count_over_time(text[1d]))`: "1000",
	}
	for _, when := range []string{"before a flush", "after a flush"} {
		for query, value := range want {
			at := int64(fixed + 20*3600*1000)
			if strings.HasSuffix(query, "(wide)") {
				at = fixed
			}
			got := instant(t, c.readURL("0"), query, at)
			if len(got) != 1 || !strings.HasSuffix(got[0], "} "+value) {
				t.Errorf("%s: %s is %v; want %s", when, query, got, value)
			}
		}
		for selector, n := range map[string]int{"wide": manySeries, "long": manySamples, "line": manySamples, "text": manyLines} {
			if got := export(t, c.readURL("0"), selector).samples(); got != n {
				t.Errorf("%s: %d samples of %s; want %d", when, got, selector, n)
			}
		}
		c.flush()
	}
}
