package apptest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// writeMany writes n series with a few samples each over two months.
func writeMany(t *testing.T, target, metric string, n int) {
	t.Helper()
	var list []ts
	for i := range n {
		s := series("__name__", metric, "i", fmt.Sprint(i), "parity", []string{"even", "odd"}[i%2])
		for k := range int64(8) {
			s = s.at(fixed-40*86400_000+k*10*86400_000+int64(i), float64(i)+float64(k)/8)
		}
		list = append(list, s)
	}
	mustWrite(t, target+"/api/v1/write", list...)
}

// newSnapshot makes a snapshot and returns its name.
func newSnapshot(t *testing.T, addr string) string {
	t.Helper()
	var out struct{ Status, Snapshot string }
	a := get(t, "http://"+addr+"/snapshot/create").want(t, http.StatusOK)
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || out.Status != "ok" || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s, %v", a, err)
	}
	if !regexp.MustCompile(`^\d{14}-[0-9A-F]{16}$`).MatchString(out.Snapshot) {
		t.Fatalf("the snapshot is called %q", out.Snapshot)
	}
	return out.Snapshot
}

func wantBody(t *testing.T, a answer, want string) {
	t.Helper()
	if strings.TrimSpace(a.body) != want {
		t.Errorf("%s; want %s", a, want)
	}
}

// TestSnapshots opens snapshots in place and copied elsewhere with other processes, while the first goes on.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	wantBody(t, get(t, s.url("/snapshot/list")).want(t, http.StatusOK), `{"status":"ok","snapshots":[]}`)
	writeMany(t, s.url(""), "first", 50)
	want := export(t, s.url(""), `{__name__!=""}`)
	if want.samples() != 400 {
		t.Fatalf("%d samples; want 400", want.samples())
	}
	name := newSnapshot(t, s.addr)
	writeMany(t, s.url(""), "second", 20)
	postForm(t, s.url("/api/v1/admin/tsdb/delete_series"), "match[]", `first{parity="odd"}`).want(t, http.StatusNoContent)
	second := newSnapshot(t, s.addr)
	later := export(t, s.url(""), `{__name__!=""}`)
	wantBody(t, get(t, s.url("/snapshot/list")).want(t, http.StatusOK), fmt.Sprintf(`{"status":"ok","snapshots":[%q,%q]}`, name, second))
	if got := mustMetric(t, s.addr, "vm_snapshots"); got != 2 {
		t.Errorf("vm_snapshots is %v", got)
	}
	dir := filepath.Join(s.data, "snapshots", name)
	copied := filepath.Join(t.TempDir(), "restored")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(s.data, "snapshots", second)
	for path, samples := range map[string]exported{dir: want, copied: want, other: later} {
		checkSnapshot(t, path, samples)
	}
	get(t, s.url("/internal/force_merge")).want(t, http.StatusOK)
	s.stop(syscall.SIGINT)
	s.restart()
	if got := export(t, s.url(""), `{__name__!=""}`); !reflect.DeepEqual(got, later) {
		t.Error("the data of the first process has changed")
	}
	wantBody(t, get(t, s.url("/snapshot/delete"), "snapshot", name).want(t, http.StatusOK), `{"status":"ok"}`)
	wantBody(t, get(t, s.url("/snapshot/delete"), "snapshot", name).want(t, http.StatusInternalServerError),
		fmt.Sprintf(`{"status":"error","msg":"cannot find snapshot \"%s\""}`, name))
	for _, bad := range []string{"", "../x", "../../data", ".", second + "/.."} {
		get(t, s.url("/snapshot/delete"), "snapshot", bad).want(t, http.StatusInternalServerError, `{"status":"error","msg":"cannot find snapshot`)
	}
	wantBody(t, request(t, http.MethodPost, s.url("/snapshot/delete_all"), nil).want(t, http.StatusOK), `{"status":"ok"}`)
	wantBody(t, get(t, s.url("/snapshot/list")).want(t, http.StatusOK), `{"status":"ok","snapshots":[]}`)
	get(t, s.url("/api/v1/admin/tsdb/snapshot")).want(t, http.StatusOK, `{"status":"success","data":{"name":"2`)
	get(t, s.url("/snapshot")).want(t, http.StatusBadRequest)
	get(t, s.url("/snapshot/nosuch")).want(t, http.StatusBadRequest)
	if got := mustMetric(t, s.addr, "vm_http_request_errors_total", `path="/snapshot/delete"`); got != 6 {
		t.Errorf("%v errors of /snapshot/delete are counted; want 6", got)
	}
}

// checkSnapshot opens a snapshot with a process of its own and compares all samples.
func checkSnapshot(t *testing.T, dir string, want exported) {
	t.Helper()
	addr := freeAddr(t)
	p := start(t, spec{name: "opened-snapshot", binary: "victoria-metrics", args: []string{"-storageDataPath=" + dir, "-httpListenAddr=" + addr, "-retentionPeriod=100y"}})
	p.httpAddr()
	if got := export(t, "http://"+addr, `{__name__!=""}`); !reflect.DeepEqual(got, want) {
		t.Errorf("snapshot %s has %d samples of %d series, or others; want %d of %d", dir, got.samples(), len(got), want.samples(), len(want))
	}
	// It is a storage like any other: it can be written to and merged.
	writeMany(t, "http://"+addr, "third", 3)
	get(t, "http://"+addr+"/internal/force_flush").want(t, http.StatusOK)
	if got := export(t, "http://"+addr, "third").samples(); got != 24 {
		t.Errorf("%d samples written to an opened snapshot; want 24", got)
	}
	p.stop(syscall.SIGINT)
}

// TestSnapshotsOfKilledNode: after kill -9 in the middle of making snapshots, those that are listed are whole.
func TestSnapshotsOfKilledNode(t *testing.T) {
	t.Parallel()
	n := startStorage(t, "vmstorage")
	n.ready()
	addr := freeAddr(t)
	insert := start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=" + addr, "-storageNode=" + n.insert}})
	insert.httpAddr()
	insert.waitLog(dialed(n.insert))
	writeMany(t, "http://"+addr+"/insert/0/prometheus", "m", 200)
	first := newSnapshot(t, n.http)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := do(http.MethodGet, "http://"+n.http+"/snapshot/create", nil); err != nil {
				return // it has been killed
			}
		}
	}()
	waitMetric(t, 4, n.http, "vm_snapshots")
	n.kill()
	<-done
	insert.kill()
	n.restart()
	var out struct{ Snapshots []string }
	if err := json.Unmarshal([]byte(get(t, "http://"+n.http+"/snapshot/list").want(t, http.StatusOK).body), &out); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(n.data, "snapshots"))
	if err != nil || len(entries) != len(out.Snapshots) || len(entries) < 4 || out.Snapshots[0] != first {
		t.Fatalf("%d entries for snapshots %q, %v; the first was %s", len(entries), out.Snapshots, err, first)
	}
	files := -1
	for _, name := range out.Snapshots {
		count := 0
		err := filepath.WalkDir(filepath.Join(n.data, "snapshots", name, "data"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "MANIFEST" {
				count++
			}
			return err
		})
		if err != nil || count == 0 || files >= 0 && count != files {
			t.Errorf("snapshot %s has %d manifests, %v; want %d", name, count, err, files)
		}
		files = count
	}
}

// TestDeleteSeries deletes through vmselect on all nodes, for one tenant.
func TestDeleteSeries(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{selectArgs: []string{"-deleteAuthKey=secret", "-search.maxDeleteSeries=40"}})
	for _, tenant := range []string{"0", "7:9"} {
		writeMany(t, c.writeURL(tenant), "m", 60)
	}
	path := "http://" + c.selectAddr + "/delete/0/prometheus/api/v1/admin/tsdb/delete_series"
	key := "?authKey=secret"
	request(t, http.MethodGet, path+key+"&match[]=m", nil).want(t, http.StatusMethodNotAllowed, "Only POST method is allowed. Got GET.")
	request(t, http.MethodPost, path+"?match[]=m", nil).want(t, http.StatusUnauthorized)
	request(t, http.MethodPost, path+"?match[]=m&authKey=bad", nil).want(t, http.StatusUnauthorized)
	request(t, http.MethodPost, path+key, nil).want(t, http.StatusBadRequest, "missing `match[]` arg")
	request(t, http.MethodPost, path+key+"&match[]=%7B", nil).want(t, http.StatusBadRequest)
	request(t, http.MethodPost, path+key+"&match[]=m&start=1717200000", nil).want(t, http.StatusBadRequest, "delete API does not support specific time ranges")
	request(t, http.MethodPost, "http://"+c.selectAddr+"/delete/x/prometheus/api/v1/admin/tsdb/delete_series"+key+"&match[]=m", nil).want(t, http.StatusBadRequest, "unsupported path")
	request(t, http.MethodPost, c.readURL("0")+"/api/v1/admin/tsdb/delete_series"+key+"&match[]=m", nil).want(t, http.StatusBadRequest, "unsupported path")
	a := postForm(t, path, "match[]", `m{parity="odd"}`, "authKey", "secret").want(t, http.StatusNoContent)
	if got := a.header.Get("X-Deleted-Series"); got != "30" {
		t.Errorf("%q series were deleted; want 30", got)
	}
	check := func(when string, want int) {
		t.Helper()
		if got := export(t, c.readURL("0"), "m"); len(got) != want || got.samples() != 8*want {
			t.Errorf("%s: %d series with %d samples; want %d", when, len(got), got.samples(), want)
		}
		if got := export(t, c.readURL("7:9"), "m"); len(got) != 60 {
			t.Errorf("%s: another tenant has %d series; want 60", when, len(got))
		}
	}
	check("at once", 30)
	get(t, c.readURL("0")+"/api/v1/series/count").want(t, http.StatusOK, `{"status":"success","isPartial":false,"data":[30]}`)
	for _, n := range c.storage { // what is durable before the answer survives kill -9, and the log brings nothing back
		n.kill()
		n.restart()
	}
	c.waitWhole()
	check("after kill -9", 30)
	mustWrite(t, c.writeURL("0")+"/api/v1/write", series("__name__", "m", "i", "1", "parity", "odd").at(fixed, 7))
	if got := export(t, c.readURL("0"), `m{i="1"}`).samples(); got != 1 {
		t.Errorf("a series that came back has %d samples; want 1", got)
	}
	postForm(t, path, "match[]", `m{i="1"}`, "authKey", "secret").want(t, http.StatusNoContent)
	c.flush()
	check("after a flush", 30)
	c.storage[1].kill()
	postForm(t, path, "match[]", `m`, "authKey", "secret").want(t, http.StatusServiceUnavailable, "cannot delete series on 1 of 2 storage nodes", c.storage[1].sel)
	c.storage[1].restart()
	c.waitWhole()
	postForm(t, path, "match[]", `m`, "authKey", "secret").want(t, http.StatusNoContent)
	check("after the second try", 0)
}

// TestDeleteTooMany: nothing is deleted beyond the limit.
func TestDeleteTooMany(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "-search.maxDeleteSeries=5")
	writeMany(t, s.url(""), "m", 6)
	path := s.url("/prometheus/api/v1/admin/tsdb/delete_series")
	postForm(t, path, "match[]", "m").want(t, http.StatusUnprocessableEntity, "-search.maxDeleteSeries")
	if got := len(export(t, s.url(""), "m")); got != 6 {
		t.Errorf("%d series are left; want all 6", got)
	}
	postForm(t, path, "match[]", `m{i="0"}`, "match[]", `m{i="1"}`).want(t, http.StatusNoContent)
	if got := len(export(t, s.url(""), "m")); got != 4 {
		t.Errorf("%d series are left; want 4", got)
	}
}

// TestStatusPages asks for the pages about series and queries, of a cluster and of the single node.
func TestStatusPages(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{selectArgs: []string{"-metricNamesStatsResetAuthKey=k", "-search.queryStats.minQueryDuration=0"}})
	s := startSingle(t, "-search.queryStats.minQueryDuration=0")
	for _, target := range []string{c.writeURL("0"), s.url("")} {
		writeMany(t, target, "m", 10)
		writeMany(t, target, "rare", 2)
		writeMany(t, target, "never", 1)
	}
	for _, x := range []struct{ base, partial string }{{c.readURL("0"), `"isPartial":false,`}, {s.url(""), ""}} {
		for range 3 {
			instant(t, x.base, "sum(m)", fixed+1000)
		}
		instant(t, x.base, "rare", fixed+1000)
		get(t, x.base+"/api/v1/series/count").want(t, http.StatusOK, `{"status":"success",`+x.partial+`"data":[13]}`)
		a := get(t, x.base+"/api/v1/status/tsdb", "date", "2024-06-01", "focusLabel", "parity", "topN", "2").want(t, http.StatusOK)
		want := `{"status":"success",` + x.partial + `"data":{"totalSeries":13,"totalLabelValuePairs":39,` +
			`"seriesCountByMetricName":[{"name":"m","value":10,"requestsCount":3,"lastRequestTimestamp":N},{"name":"rare","value":2,"requestsCount":1,"lastRequestTimestamp":N}],` +
			`"seriesCountByLabelName":[{"name":"__name__","value":13},{"name":"i","value":13}],` +
			`"seriesCountByFocusLabelValue":[{"name":"even","value":7},{"name":"odd","value":6}],` +
			`"seriesCountByLabelValuePair":[{"name":"__name__=m","value":10},{"name":"parity=even","value":7}],"labelValueCountByLabelName":[`
		if got := regexp.MustCompile(`Timestamp":[1-9]\d+`).ReplaceAllString(a.body, `Timestamp":N`); !strings.HasPrefix(got, want) {
			t.Errorf("status is\n%s\nwant\n%s", got, want)
		}
		empty := `{"totalSeries":0,"totalLabelValuePairs":0,"seriesCountByMetricName":[],"seriesCountByLabelName":[],"seriesCountByFocusLabelValue":[],"seriesCountByLabelValuePair":[],"labelValueCountByLabelName":[]}`
		get(t, x.base+"/api/v1/status/tsdb", "date", "1970-01-01").want(t, http.StatusOK, empty)
		get(t, x.base+"/api/v1/status/tsdb", "date", "2024-06-01", "match[]", `{parity="even"}`, "extra_label", "i=2").want(t, http.StatusOK, `"totalSeries":1,`) // only m
		get(t, x.base+"/api/v1/status/tsdb", "date", "2024-06-01", "topN", "0").want(t, http.StatusOK, `"seriesCountByLabelValuePair":[{"name":"__name__=m","value":10}]`)
		get(t, x.base+"/api/v1/status/tsdb", "date", "bad").want(t, http.StatusBadRequest, `"errorType":"400"`, "cannot parse `date` arg")
		get(t, x.base+"/api/v1/status/tsdb", "topN", "x").want(t, http.StatusBadRequest, "cannot parse `topN` arg")
		names := x.base + "/api/v1/status/metric_names_stats"
		a = get(t, names).want(t, http.StatusOK, `{"status":"success","statsCollectedSince":`, `"statsCollectedRecordsTotal":2,`, `"trackerMemoryMaxSizeBytes":`, `"trackerCurrentMemoryUsageBytes":`)
		records := regexp.MustCompile(`Timestamp":[1-9]\d+`).ReplaceAllString(a.body[strings.Index(a.body, `"records"`):], `Timestamp":N`)
		if want := `"records":[{"metricName":"never","queryRequestsCount":0,"lastQueryRequestTimestamp":0},{"metricName":"rare","queryRequestsCount":1,"lastQueryRequestTimestamp":N},{"metricName":"m","queryRequestsCount":3,"lastQueryRequestTimestamp":N}]}`; records != want {
			t.Errorf("usage is\n%s\nwant\n%s", records, want)
		}
		get(t, names, "le", "0").want(t, http.StatusOK, `"records":[{"metricName":"never","queryRequestsCount":0,"lastQueryRequestTimestamp":0}]`)
		get(t, names, "limit", "1", "match_pattern", "ra").want(t, http.StatusOK, `"records":[{"metricName":"rare",`)
		get(t, names, "limit", "x").want(t, http.StatusBadRequest, "cannot parse `limit` arg")
		get(t, names, "le", "x").want(t, http.StatusBadRequest, "cannot parse `le` arg")
		get(t, names, "match_pattern", "(").want(t, http.StatusBadRequest, "must be valid regex")
		get(t, x.base+"/api/v1/status/active_queries").want(t, http.StatusOK, `{"status":"ok","data":[]}`)
		get(t, x.base+"/api/v1/status/top_queries", "topN", "1").want(t, http.StatusOK, `{"topN":"1","maxLifetime":"10m0s","search.queryStats.lastQueriesCount":20000,`,
			`"query":"sum(m)","timeRangeSeconds":0,"count":3`, `"topByAvgMemoryUsage":[]`)
	}
	get(t, "http://"+c.selectAddr+"/api/v1/status/active_queries").want(t, http.StatusOK, `{"status":"ok","data":[]}`)
	c.flush()
	for _, n := range c.storage { // a clean restart keeps the counters
		n.stop(syscall.SIGTERM)
		n.restart()
	}
	c.waitWhole()
	get(t, c.readURL("0")+"/api/v1/status/metric_names_stats").want(t, http.StatusOK, `{"metricName":"m","queryRequestsCount":3,`)
	reset := "http://" + c.selectAddr + "/admin/api/v1/admin/status/metric_names_stats/reset"
	get(t, reset).want(t, http.StatusUnauthorized)
	get(t, reset, "authKey", "k").want(t, http.StatusNoContent)
	get(t, c.readURL("0")+"/api/v1/status/metric_names_stats").want(t, http.StatusOK, `{"metricName":"m","queryRequestsCount":0,`, `"statsCollectedRecordsTotal":0,`)
	get(t, s.url("/api/v1/admin/status/metric_names_stats/reset")).want(t, http.StatusNoContent)
	get(t, s.url("/api/v1/status/metric_names_stats")).want(t, http.StatusOK, `{"metricName":"m","queryRequestsCount":0,`)
}

// TestSeriesLimitsAndLog: the daily limit drops what is too much, and new series are logged when asked.
func TestSeriesLimitsAndLog(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "-storage.maxDailySeries=25", "-storage.maxHourlySeries=-1", "-snapshotAuthKey=s", "-logNewSeriesAuthKey=l")
	get(t, s.url("/internal/log_new_series")).want(t, http.StatusUnauthorized)
	a := get(t, s.url("/internal/log_new_series"), "authKey", "l", "seconds", "600").want(t, http.StatusOK)
	if !regexp.MustCompile(`^\{"status":"success","data":\{"logEndTime":"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC"\}\}$`).MatchString(a.body) {
		t.Errorf("the answer is %s", a)
	}
	get(t, s.url("/internal/log_new_series"), "authKey", "l", "seconds", "x").want(t, http.StatusInternalServerError, `{"status":"error","msg":"cannot parse `+"`seconds`"+` arg`)
	get(t, s.url("/snapshot/create")).want(t, http.StatusUnauthorized)
	get(t, s.url("/snapshot/list"), "authKey", "s").want(t, http.StatusOK, `"snapshots":[]`)
	writeMany(t, s.url(""), "m", 40)
	if got := len(export(t, s.url(""), "m")); got != 25 {
		t.Errorf("%d series are stored; want 25", got)
	}
	for name, want := range map[string]float64{
		"vm_daily_series_limit_current_series": 25, "vm_daily_series_limit_max_series": 25, "vm_daily_series_limit_rows_dropped_total": 120,
		"vm_hourly_series_limit_current_series": 40, "vm_hourly_series_limit_rows_dropped_total": 0,
	} {
		if got := mustMetric(t, s.addr, name); got != want {
			t.Errorf("%s is %v; want %v", name, got, want)
		}
	}
	if got := mustMetric(t, s.addr, "vm_rows_ignored_total", `reason="daily_limit_exceeded"`); got != 120 {
		t.Errorf("%v rows are ignored; want 120", got)
	}
	s.waitLog(`^new series created: tenant 0:0 m\{i="0",parity="even"\}$`)
}
