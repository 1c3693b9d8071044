package apptest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vmcluster/lib/certfiles/certtest"
)

// levels are two clusters with an insert and a select node above them, which are those of the embedded cluster. Its storage nodes are all there are below.
type levels struct {
	*cluster
	below []*cluster
	// At which the lower clusters are served.
	nativeInsert, nativeSelect []string
}

// levelOptions are flags besides the necessary ones.
type levelOptions struct {
	top, below clusterOptions
	tls        []string // of a side of the connections between levels, after its prefix and a dot
}

// startLevels starts two clusters of two storage nodes each, and the level above.
func startLevels(t testing.TB, o levelOptions) *levels {
	t.Helper()
	l := &levels{cluster: &cluster{t: t, insertAddr: freeAddr(t), selectAddr: freeAddr(t)}}
	flags := func(prefix string) (list []string) {
		for _, f := range o.tls {
			list = append(list, "-"+prefix+"."+f)
		}
		return list
	}
	insertArgs := slices.Concat([]string{"-httpListenAddr=" + l.insertAddr}, flags("cluster"), o.top.insertArgs)
	selectArgs := slices.Concat([]string{"-httpListenAddr=" + l.selectAddr}, flags("cluster"), o.top.selectArgs)
	for range 2 {
		in, sel := freeAddr(t), freeAddr(t)
		below := o.below
		below.insertArgs = slices.Concat(below.insertArgs, []string{"-clusternativeListenAddr=" + in}, flags("clusternative"))
		below.selectArgs = slices.Concat(below.selectArgs, []string{"-clusternativeListenAddr=" + sel}, flags("clusternative"))
		c := startCluster(t, below)
		l.below, l.storage = append(l.below, c), append(l.storage, c.storage...)
		l.nativeInsert, l.nativeSelect = append(l.nativeInsert, in), append(l.nativeSelect, sel)
		insertArgs, selectArgs = append(insertArgs, "-storageNode="+in), append(selectArgs, "-storageNode="+sel)
	}
	l.insert = start(t, spec{name: "vminsert above", binary: "vminsert", args: insertArgs})
	l.sel = start(t, spec{name: "vmselect above", binary: "vmselect", args: selectArgs})
	l.insert.httpAddr()
	l.sel.httpAddr()
	for i := range l.below {
		l.insert.waitLog(dialed(l.nativeInsert[i]))
		l.sel.waitLog(dialed(l.nativeSelect[i]))
	}
	return l
}

// TestLevels writes and reads through two levels, with parts of the lower ones missing.
func TestLevels(t *testing.T) {
	t.Parallel()
	l := startLevels(t, levelOptions{})
	l.below[0].insert.waitLog(`^started TCP clusternative server at "`)
	l.below[0].sel.waitLog(`^accepting vmselect conns at `)
	const n = 500 // so few that an export is not begun before it is known to be whole
	var list []ts
	for i := range n {
		list = append(list, series("__name__", "before", "i", fmt.Sprint(i)).at(fixed, float64(i)))
	}
	mustWrite(t, l.writeURL("0")+"/api/v1/write", list...)
	t.Run("spread", func(t *testing.T) { l.testSpread(t, n) })
	t.Run("reads", func(t *testing.T) { l.testReads(t, n) })
	t.Run("metadata", func(t *testing.T) { l.testMetadata(t) })
	t.Run("limits of the lower level", func(t *testing.T) { l.testLimits(t) })
	t.Run("a storage node is dead", func(t *testing.T) { l.testDeadNode(t, n) })
	t.Run("a select node is away", func(t *testing.T) { l.testAwaySelect(t) })
	t.Run("deletion", func(t *testing.T) { l.testDeletion(t, n) })
}

// testSpread: rows go to all storage nodes of both clusters, and are counted on each level.
func (l *levels) testSpread(t *testing.T, n float64) {
	sum := 0.0
	for i, c := range l.below {
		got := mustMetric(t, c.insertAddr, "vm_rows_inserted_total", `type="clusternative"`)
		if sent := mustMetric(t, l.insertAddr, "vm_rpc_rows_sent_total", fmt.Sprintf("addr=%q", l.nativeInsert[i])); sent != got || got < n/4 {
			t.Errorf("cluster %d has taken %v rows of %v", i, got, sent)
		}
		if tenant := mustMetric(t, c.insertAddr, "vm_tenant_inserted_rows_total", `type="clusternative"`, `accountID="0"`); tenant != got {
			t.Errorf("cluster %d counts %v rows of tenant 0; want %v", i, tenant, got)
		}
		sum += got
	}
	if sum != n {
		t.Errorf("the clusters have taken %v rows; want %v", sum, n)
	}
	for _, node := range l.storage {
		if got := mustMetric(t, node.http, "vm_vminsert_metrics_read_total"); got < n/16 {
			t.Errorf("%s has %v rows of %v", node.http, got, n)
		}
	}
}

// testReads: each lower level answers its part, the one above all of it.
func (l *levels) testReads(t *testing.T, n int) {
	whole := export(t, l.readURL("0"), "before")
	if whole.samples() != n {
		t.Errorf("there are %d samples; want %d", whole.samples(), n)
	}
	parts := 0
	for _, c := range l.below {
		parts += export(t, c.readURL("0"), "before").samples()
	}
	if parts != n {
		t.Errorf("the lower levels have %d samples; want %d", parts, n)
	}
	for query, want := range map[string]string{
		"count(before)":                          fmt.Sprintf("[{} %d]", n),
		"sum(before)":                            fmt.Sprintf("[{} %d]", n*(n-1)/2),
		"sum(sum_over_time(before[5m])) by (no)": fmt.Sprintf("[{} %d]", n*(n-1)/2),
	} {
		if got := fmt.Sprint(instant(t, l.readURL("0"), query, fixed)); got != want {
			t.Errorf("%s is %s; want %s", query, got, want)
		}
	}
	// A dashboard, twice for the result cache.
	for range 2 {
		get(t, l.readURL("0")+"/api/v1/query_range", "query", "count(rate(before[5m]) >= 0) or count(before)", "start", seconds(fixed), "end", seconds(fixed+300_000), "step", "60").want(t, http.StatusOK, `"isPartial":false`, fmt.Sprintf("%q", fmt.Sprint(n)))
	}
	trace := get(t, l.readURL("0")+"/api/v1/query", "query", "sum(before)", "time", seconds(fixed), "trace", "1").want(t, http.StatusOK, " at vmselect", " at vmstorage")
	for _, node := range append(slices.Clone(l.nativeSelect), l.storage[0].sel, l.storage[3].sel) {
		if !strings.Contains(trace.body, " at storage node "+node) {
			t.Errorf("the trace does not name %s: %s", node, trace)
		}
	}
	if got := mustMetric(t, l.selectAddr, "vm_query_fragments_total", `evaluated_by="storage"`); got == 0 {
		t.Error("nothing is aggregated by storage nodes")
	}
	get(t, "http://"+l.selectAddr+"/admin/tenants").want(t, http.StatusOK, `["0:0"]`)
	get(t, l.readURL("0")+"/api/v1/series/count").want(t, http.StatusOK, fmt.Sprint(n))
	get(t, l.readURL("0")+"/api/v1/status/tsdb", "date", "2024-06-01").want(t, http.StatusOK, fmt.Sprintf(`"totalSeries":%d`, n))
	get(t, l.readURL("0")+"/api/v1/status/metric_names_stats").want(t, http.StatusOK, "before")
}

// testMetadata: what senders say of metrics passes both levels.
func (l *levels) testMetadata(t *testing.T) {
	text := fmt.Sprintf("# HELP heat how hot it is\n# TYPE heat gauge\nheat 1 %d\n", fixed)
	request(t, http.MethodPost, l.writeURL("3")+"/api/v1/import/prometheus", []byte(text)).want(t, http.StatusNoContent)
	get(t, l.readURL("3")+"/api/v1/metadata").want(t, http.StatusOK, "how hot it is", "gauge")
}

// testLimits: a series that the lower level does not allow is left out there and counted, again and again, and the others are stored.
func (l *levels) testLimits(t *testing.T) {
	strict := startLevels(t, levelOptions{below: clusterOptions{nodes: 1, insertArgs: []string{"-maxLabelValueLen=20"}}, top: clusterOptions{}})
	for round := range int64(3) {
		var list []ts
		for i := range 50 {
			list = append(list, series("__name__", "limited", "i", fmt.Sprint(i)).at(fixed+round*1000, 1), series("__name__", "limited", "i", strings.Repeat("x", 30)+fmt.Sprint(i)).at(fixed+round*1000, 1))
		}
		mustWrite(t, strict.writeURL("5")+"/api/v1/write", list...)
	}
	if got := export(t, strict.readURL("5"), "limited").samples(); got != 150 {
		t.Errorf("%d samples are stored; want 150", got)
	}
	sum, stored := 0.0, 0.0
	for _, c := range strict.below {
		sum += mustMetric(t, c.insertAddr, "vm_rows_ignored_total", `reason="too_long_label_value"`)
		stored += mustMetric(t, c.insertAddr, "vm_rows_inserted_total", `type="clusternative"`)
	}
	if sum != 150 || stored != 150 {
		t.Errorf("%v rows are counted as ignored and %v as stored; want 150 each", sum, stored)
	}
}

// testDeadNode: a dead storage node of one lower level makes answers above partial, and they name it.
func (l *levels) testDeadNode(t *testing.T, n int) {
	dead := l.storage[1]
	dead.kill()
	var list []ts
	for i := range n {
		list = append(list, series("__name__", "during", "i", fmt.Sprint(i)).at(fixed, float64(i)))
	}
	mustWrite(t, l.writeURL("0")+"/api/v1/write", list...)
	checkPartialAnswers(t, l.readURL("0"), dead.sel, n)
	if a := postForm(t, "http://"+l.selectAddr+"/delete/0/prometheus/api/v1/admin/tsdb/delete_series", "match[]", "nothing"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, dead.sel) {
		t.Errorf("a deletion which one node misses: %s", a)
	}
	dead.restart()
	l.waitWhole()
	if got := export(t, l.readURL("0"), `{__name__=~"before|during"}`).samples(); got != 2*n {
		t.Errorf("there are %d samples; want %d", got, 2*n)
	}
}

// testAwaySelect: a lower select node that is away is like a storage node that is.
func (l *levels) testAwaySelect(t *testing.T) {
	away := l.below[1].sel
	away.stop(syscall.SIGTERM)
	get(t, l.readURL("0")+"/api/v1/query", "query", "count(before)", "time", seconds(fixed)).want(t, http.StatusOK, `"isPartial":true`)
	get(t, l.readURL("0")+"/api/v1/query", "query", "count(before)", "time", seconds(fixed), "deny_partial_response", "1").want(t, http.StatusServiceUnavailable, l.nativeSelect[1])
	away.run()
	away.httpAddr()
	l.waitWhole()
}

// testDeletion: series are deleted on all nodes of all levels.
func (l *levels) testDeletion(t *testing.T, n int) {
	postForm(t, "http://"+l.selectAddr+"/delete/0/prometheus/api/v1/admin/tsdb/delete_series", "match[]", `before{i=~".*7"}`).want(t, http.StatusNoContent)
	if got, want := export(t, l.readURL("0"), "before").samples(), n-n/10; got != want {
		t.Errorf("%d samples are left; want %d", got, want)
	}
	for _, c := range l.below {
		if got := export(t, c.readURL("0"), `before{i=~".*7"}`).samples(); got != 0 {
			t.Errorf("a lower level still has %d samples", got)
		}
	}
}

// TestRollingRestartOfLevels: the insert nodes between the levels are restarted in turn under load, one of them killed. No write fails
// when they stop in order, and nothing is lost in any case.
func TestRollingRestartOfLevels(t *testing.T) {
	t.Parallel()
	l := startLevels(t, levelOptions{})
	writes := startLoad(t, l.writeURL("0")+"/api/v1/write")
	writes.waitAcked(t, 50)
	for pass := range rounds(2) {
		for _, c := range l.below {
			c.insert.stop(syscall.SIGTERM)
			writes.waitAcked(t, 50)
			c.insert.run()
			c.insert.httpAddr()
			waitMetric(t, 1, c.insertAddr, "vm_rows_inserted_total", `type="clusternative"`)
			t.Logf("pass %d: %d writes acknowledged, %d failed", pass+1, writes.acked.Load(), writes.failed.Load())
		}
	}
	if n := writes.failed.Load(); n > 0 {
		t.Errorf("%d writes failed: %v", n, writes.last)
	}
	l.below[0].insert.kill()
	writes.waitAcked(t, 50)
	l.below[0].insert.run()
	l.below[0].insert.httpAddr()
	writes.stop()
	l.waitWhole()
	writes.check(t, l.readURL("0"))
}

// TestSingleNodeInCluster: a select node has a single node and a storage node as its nodes.
func TestSingleNodeInCluster(t *testing.T) {
	t.Parallel()
	native := freeAddr(t)
	s := startSingle(t, "-vmselectAddr="+native)
	c := startCluster(t, clusterOptions{nodes: 1, selectArgs: []string{"-storageNode=" + native}})
	c.sel.waitLog(dialed(native))
	mustWrite(t, s.url("/api/v1/write"), series("__name__", "heat", "of", "single").at(fixed, 1))
	for _, tenant := range []string{"0", "7"} {
		mustWrite(t, c.writeURL(tenant)+"/api/v1/write", series("__name__", "heat", "of", "cluster").at(fixed, 2))
	}
	text := fmt.Sprintf("# HELP told by the single node\ntold 1 %d\n", fixed)
	request(t, http.MethodPost, s.url("/api/v1/import/prometheus"), []byte(text)).want(t, http.StatusNoContent)
	for query, want := range map[string]string{"heat": `[heat{of="cluster"} 2 heat{of="single"} 1]`, "sum(sum_over_time(heat[5m]))": "[{} 3]"} {
		if got := instant(t, c.readURL("0"), query, fixed); len(got) == 0 || !sameSet(got, want) {
			t.Errorf("%s is %v; want %s", query, got, want)
		}
	}
	if got := fmt.Sprint(instant(t, c.readURL("7"), "sum(heat)", fixed)); got != "[{} 2]" {
		t.Errorf("another tenant has %s", got)
	}
	get(t, c.readURL("0")+"/api/v1/metadata").want(t, http.StatusOK, "by the single node")
	get(t, "http://"+c.selectAddr+"/admin/tenants").want(t, http.StatusOK, `["0:0","7:0"]`)
	get(t, c.readURL("0")+"/api/v1/query", "query", "sum(heat)", "time", seconds(fixed), "trace", "1").want(t, http.StatusOK, " at victoria-metrics", " at vmstorage")
	postForm(t, "http://"+c.selectAddr+"/delete/0/prometheus/api/v1/admin/tsdb/delete_series", "match[]", "heat").want(t, http.StatusNoContent)
	if got := export(t, s.url(""), "heat").samples(); got != 0 {
		t.Errorf("the single node still has %d samples", got)
	}
	s.kill()
	get(t, c.readURL("0")+"/api/v1/labels").want(t, http.StatusOK, `"isPartial":true`)
}

// sameSet reports whether a list has the items which are shown in order, whatever its own order is.
func sameSet(list []string, shown string) bool {
	sorted := slices.Sorted(slices.Values(list))
	return fmt.Sprint(sorted) == shown
}

// TestLevelsOverTLS: the connections between the levels demand certificates.
func TestLevelsOverTLS(t *testing.T) {
	t.Parallel()
	f := certtest.NewCA(t, "levels").Write(t, t.TempDir(), certtest.Leaf{})
	l := startLevels(t, levelOptions{below: clusterOptions{nodes: 1}, tls: []string{"tls", "tlsCertFile=" + f.Cert, "tlsKeyFile=" + f.Key, "tlsCAFile=" + f.CA}})
	mustWrite(t, l.writeURL("0")+"/api/v1/write", series("__name__", "secret", "i", "1").at(fixed, 1), series("__name__", "secret", "i", "2").at(fixed, 2))
	if got := export(t, l.readURL("0"), "secret").samples(); got != 2 {
		t.Errorf("there are %d samples", got)
	}
	stranger := start(t, spec{name: "vmselect without a certificate", binary: "vmselect", args: []string{"-httpListenAddr=127.0.0.1:0", "-storageNode=" + l.nativeSelect[0]}})
	get(t, readBase(stranger)+"/api/v1/labels").want(t, http.StatusServiceUnavailable, l.nativeSelect[0])
}
