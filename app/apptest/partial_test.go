package apptest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestDeadStorageNode: with one of two nodes gone writes go on and reads say that they are partial, or are refused
// when that was asked for; when it is back, everything that was acknowledged is there.
func TestDeadStorageNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	const n = 500
	batch := func(metric string) []ts {
		var list []ts
		for i := range n {
			list = append(list, series("__name__", metric, "i", fmt.Sprint(i)).at(fixed, float64(i)))
		}
		return list
	}
	mustWrite(t, c.writeURL("0")+"/api/v1/write", batch("before")...)
	dead := c.storage[1]
	dead.kill()
	mustWrite(t, c.writeURL("0")+"/api/v1/write", batch("during")...)
	if v := mustMetric(t, c.insertAddr, "vm_rpc_rows_rerouted_from_here_total", fmt.Sprintf("addr=%q", dead.insert)); v == 0 {
		t.Error("no rows are counted as re-routed")
	}
	waitMetric(t, 1, c.insertAddr, "vm_rpc_vmstorage_is_reachable", fmt.Sprintf("addr=%q", c.storage[0].insert))
	if v := mustMetric(t, c.insertAddr, "vm_rpc_vmstorage_is_reachable", fmt.Sprintf("addr=%q", dead.insert)); v != 0 {
		t.Errorf("the dead node counts as reachable: %v", v)
	}

	base := c.readURL("0")
	checkPartialAnswers(t, base, dead.sel, n)
	dead.restart()
	c.waitWhole()
	for metric, want := range map[string]int{"before": n, "during": n} {
		q := parseQuery(t, get(t, base+"/api/v1/query", "query", "count("+metric+")", "time", seconds(fixed), "deny_partial_response", "1"))
		if got := fmt.Sprint(vector(t, q)); q.IsPartial || got != fmt.Sprintf("[{} %d]", want) {
			t.Errorf("when the node is back, count(%s) is %s, partial %t", metric, got, q.IsPartial)
		}
	}
	if got := export(t, base, `{__name__!=""}`).samples(); got != 2*n {
		t.Errorf("when the node is back there are %d samples; want %d", got, 2*n)
	}
	mustWrite(t, c.writeURL("0")+"/api/v1/write", batch("after")...)
	eventually(t, patience, "rows at the node that is back", func() error {
		v, err := metric(dead.http, "vm_vminsert_metrics_read_total")
		if err == nil && v == 0 {
			mustWrite(t, c.writeURL("0")+"/api/v1/write", batch("after")...)
			err = fmt.Errorf("it got none")
		}
		return err
	})
}

// checkPartialAnswers: every kind of read with a dead node.
func checkPartialAnswers(t *testing.T, base, dead string, n int) {
	t.Helper()
	day := dayArgs()
	for path, args := range map[string][]string{
		"/api/v1/query":            {"query", "before", "time", seconds(fixed)},
		"/api/v1/query_range":      {"query", "before", "start", seconds(fixed), "end", seconds(fixed + 60000), "step", "60"},
		"/api/v1/series":           append(day, "match[]", "before"),
		"/api/v1/labels":           day,
		"/api/v1/label/i/values":   day,
		"/api/v1/query?query=time": {"query", "sum(before) by (i)", "time", seconds(fixed)},
	} {
		path, _, _ := strings.Cut(path, "?")
		get(t, base+path, args...).want(t, http.StatusOK, `"isPartial":true`)
		get(t, base+path, append(args, "deny_partial_response", "0")...).want(t, http.StatusOK, `"isPartial":true`)
		get(t, base+path, append(args, "deny_partial_response", "1")...).want(t, http.StatusServiceUnavailable, `"errorType":"503"`, dead)
	}
	// Raw data and the list of tenants are whole or refused.
	get(t, strings.Replace(base, "/select/0/prometheus", "/admin/tenants", 1)).want(t, http.StatusServiceUnavailable, dead)
	get(t, base+"/api/v1/export", "match[]", "before").want(t, http.StatusServiceUnavailable, dead)
	get(t, base+"/api/v1/query", "query", "before[5m]", "time", seconds(fixed)).want(t, http.StatusServiceUnavailable, dead)
	q := parseQuery(t, get(t, base+"/api/v1/query", "query", "count(before)", "time", seconds(fixed)))
	if got := vector(t, q); len(got) != 1 || number(strings.TrimPrefix(got[0], "{} ")) >= float64(n) || number(strings.TrimPrefix(got[0], "{} ")) == 0 {
		t.Errorf("half the cluster counts %v of %d series", got, n)
	}
	// What was written since the node died is whole.
	q = parseQuery(t, get(t, base+"/api/v1/query", "query", "count(during)", "time", seconds(fixed)))
	if got := fmt.Sprint(vector(t, q)); got != fmt.Sprintf("[{} %d]", n) || !q.IsPartial {
		t.Errorf("count(during) is %s, partial %t", got, q.IsPartial)
	}
}

// TestDenyPartialFlag: with the flag nobody gets partial answers.
func TestDenyPartialFlag(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{selectArgs: []string{"-search.denyPartialResponse"}})
	get(t, c.readURL("0")+"/api/v1/query", "query", "m").want(t, http.StatusOK, `"isPartial":false`)
	c.storage[0].kill()
	get(t, c.readURL("0")+"/api/v1/query", "query", "m").want(t, http.StatusServiceUnavailable, `"errorType":"503"`, c.storage[0].sel)
	get(t, c.readURL("0")+"/api/v1/query", "query", "m", "deny_partial_response", "0").want(t, http.StatusServiceUnavailable, `"errorType":"503"`)
}

// TestNoStorageNode: with all nodes gone, both halves answer 503 and say why, and recover by themselves.
func TestNoStorageNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	for _, n := range c.storage {
		n.kill()
	}
	write := func() (answer, error) {
		return remoteWrite(c.writeURL("0")+"/api/v1/write", series("__name__", "m").at(fixed, 1))
	}
	a, err := write()
	if err != nil {
		t.Fatal(err)
	}
	a.want(t, http.StatusServiceUnavailable, c.storage[0].insert, c.storage[1].insert)
	if a.header.Get("Retry-After") == "" {
		t.Error("the answer to the write has no Retry-After")
	}
	get(t, c.readURL("0")+"/api/v1/query", "query", "m").want(t, http.StatusServiceUnavailable, `"errorType":"503"`, c.storage[0].sel, c.storage[1].sel)
	get(t, c.readURL("0")+"/api/v1/labels").want(t, http.StatusServiceUnavailable, `"errorType":"503"`)
	get(t, c.readURL("0")+"/api/v1/export", "match[]", "m").want(t, http.StatusServiceUnavailable)
	get(t, "http://"+c.selectAddr+"/admin/tenants").want(t, http.StatusServiceUnavailable)
	get(t, "http://"+c.insertAddr+"/health").want(t, http.StatusOK)
	for _, n := range c.storage {
		n.restart()
	}
	eventually(t, patience, "a write that is acknowledged", func() error {
		a, err := write()
		if err == nil && a.status != http.StatusNoContent {
			err = fmt.Errorf("%s", a)
		}
		return err
	})
	c.waitWhole()
	if got := export(t, c.readURL("0"), "m").samples(); got != 1 {
		t.Errorf("there are %d samples", got)
	}
}

// TestReadOnlyStorageNode: a node short of disk space takes no writes, says so, and its rows go elsewhere.
func TestReadOnlyStorageNode(t *testing.T) {
	t.Parallel()
	full := startStorage(t, "vmstorage-full", "-storage.minFreeDiskSpaceBytes=1000TiB")
	free := startStorage(t, "vmstorage-free")
	full.ready()
	free.ready()
	insert := start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + full.insert + "," + free.insert}})
	only := start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + full.insert}})
	sel := start(t, spec{binary: "vmselect", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + full.sel, "-storageNode=" + free.sel}})
	for _, p := range []*process{insert, only} {
		p.waitLog(dialed(full.insert))
	}
	insert.waitLog(dialed(free.insert))
	sel.waitLog(dialed(full.sel))
	sel.waitLog(dialed(free.sel))

	var list []ts
	for i := range 200 {
		list = append(list, series("__name__", "m", "i", fmt.Sprint(i)).at(fixed, 1))
	}
	mustWrite(t, "http://"+insert.httpAddr()+"/insert/0/prometheus/api/v1/write", list...)
	if got := mustMetric(t, free.http, "vm_rows_added_to_storage_total"); got != 200 {
		t.Errorf("the node with free space has %v of 200 rows", got)
	}
	for _, m := range []struct {
		addr, family string
		want         float64
		labels       []string
	}{
		{full.http, "vm_storage_is_read_only", 1, []string{full.data}},
		{free.http, "vm_storage_is_read_only", 0, []string{free.data}},
		{full.http, "vm_rows_added_to_storage_total", 0, nil},
	} {
		if got := mustMetric(t, m.addr, m.family, m.labels...); got != m.want {
			t.Errorf("%s%v is %v; want %v", m.family, m.labels, got, m.want)
		}
	}
	if got := mustMetric(t, insert.httpAddr(), "vm_rpc_vmstorage_is_read_only", fmt.Sprintf("addr=%q", full.insert)); got == 0 {
		t.Error("vminsert does not show that the node is read-only")
	}
	a, err := remoteWrite("http://"+only.httpAddr()+"/insert/0/prometheus/api/v1/write", list[0])
	if err != nil {
		t.Fatal(err)
	}
	a.want(t, http.StatusServiceUnavailable, "minFreeDiskSpaceBytes")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	base := "http://" + sel.httpAddr() + "/select/0/prometheus"
	if got := instant(t, base, "count(m)", fixed); fmt.Sprint(got) != "[{} 200]" {
		t.Errorf("count(m) is %v", got)
	}
}

// TestDeduplication: of samples within an interval the newest counts, also when it is elsewhere.
func TestDeduplication(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{selectArgs: []string{"-dedup.minScrapeInterval=10s"}})
	s := series("__name__", "m")
	for i := range int64(30) {
		s = s.at(fixed+1000+i*1000, float64(i))
	}
	mustWrite(t, c.writeURL("0")+"/api/v1/write", s)
	// The same series on the other node, as after a detour, with samples in between.
	for _, n := range c.storage {
		direct := start(t, spec{binary: "vminsert", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + n.insert}})
		direct.waitLog(dialed(n.insert))
		mustWrite(t, "http://"+direct.httpAddr()+"/insert/0/prometheus/api/v1/write", series("__name__", "m").at(fixed+5500, 100).at(fixed+10000, 9))
	}
	want := fmt.Sprintf(`{"__name__":"m"} 9@%d 19@%d 29@%d`, fixed+10000, fixed+20000, fixed+30000)
	if got := export(t, c.readURL("0"), "m").String(); got != want {
		t.Errorf("export: %s; want %s", got, want)
	}
	if got := instant(t, c.readURL("0"), "count_over_time(m[1m])", fixed+30000); fmt.Sprint(got) != "[{} 3]" {
		t.Errorf("count_over_time is %v", got)
	}
}
