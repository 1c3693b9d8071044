package apptest

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cachedReads are where a dashboard reads and writes.
type cachedReads struct {
	write, read, reset, deletion string
	metrics                      string                 // address
	restart                      func(meanwhile func()) // has the reading process come back with what it kept; nil: it does not
}

// TestResultCache: a dashboard's query is answered from the cache as without, late samples and deletions show at once.
func TestResultCache(t *testing.T) {
	t.Parallel()
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		s := startSingle(t)
		testResultCache(t, cachedReads{write: s.url("/api/v1/write"), read: s.url(""), reset: s.url("/internal/resetRollupResultCache"), deletion: s.url("/api/v1/admin/tsdb/delete_series"), metrics: s.addr})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := startCluster(t, clusterOptions{selectArgs: []string{"-cacheDataPath=cache"}})
		restart := func(meanwhile func()) {
			t.Helper()
			c.sel.stop(syscall.SIGTERM)
			meanwhile()
			c.sel.run()
			c.sel.waitLog(`^loaded [1-9][0-9]* cached results from -cacheDataPath="cache" in `)
			c.sel.httpAddr()
			c.waitWhole()
		}
		testResultCache(t, cachedReads{write: c.writeURL("0") + "/api/v1/write", read: c.readURL("0"), reset: "http://" + c.selectAddr + "/internal/resetRollupResultCache",
			deletion: strings.Replace(c.readURL("0"), "/select/", "/delete/", 1) + "/api/v1/admin/tsdb/delete_series", metrics: c.selectAddr, restart: restart})
	})
}

func testResultCache(t *testing.T, r cachedReads) {
	t.Helper()
	const step = 30_000
	now := (time.Now().UnixMilli() - 300_000) / step * step // points are not held back any more
	var list []ts
	for i := range 8 {
		s := series("__name__", "requests", "instance", strconv.Itoa(i%4), "path", strconv.Itoa(i))
		for at := now - 3*3600_000; at < now; at += 15_000 {
			s = s.at(at+int64(i*100), float64((at-now)/1000*int64(i+1)%50_000))
		}
		list = append(list, s)
	}
	mustWrite(t, r.write, list...)
	text := regexp.MustCompile(`"stats":.*`)
	k := int64(0)
	ask := func(query, wantTrace string) string {
		t.Helper()
		args := []string{"query", query, "start", seconds(now - 3600_000 + k*step), "end", seconds(now + k*step), "step", "30s"}
		want := text.ReplaceAllString(get(t, r.read+"/api/v1/query_range", append(args, "nocache", "1")...).want(t, http.StatusOK).body, "")
		got := get(t, r.read+"/api/v1/query_range", append(args, "trace", "1")...).want(t, http.StatusOK, wantTrace).body
		if got = text.ReplaceAllString(got, ""); got != want {
			t.Fatalf("%s: %s\nwithout cache %s", query, got, want)
		}
		return got
	}
	for _, query := range []string{"sum by (instance) (rate(requests[5m]))", "requests", "max_over_time(requests[2m])", "quantile(0.9, increase(requests[1m]))"} {
		k = 0
		ask(query, "asked for the first time")
		k++
		ask(query, "nothing is kept yet")
		for range 3 {
			k++
			ask(query, "partial hit: ")
		}
	}
	if r.restart != nil {
		r.restart(func() {})
		k++
		ask("quantile(0.9, increase(requests[1m]))", "partial hit: ")
		ask("sum by (instance) (rate(requests[5m]))", "partial hit: ")
		r.restart(func() {
			mustWrite(t, r.write, series("__name__", "requests", "instance", "2", "path", "2").at(now-660_001, 1e9))
		})
		ask("quantile(0.9, increase(requests[1m]))", "samples have changed")
		ask("max_over_time(requests[2m])", "samples have changed")
	}
	late := series("__name__", "requests", "instance", "1", "path", "1").at(now-600_001, 1e9)
	mustWrite(t, r.write, late)
	if got := ask("max_over_time(requests[2m])", "samples have changed"); !strings.Contains(got, `"1000000000"`) {
		t.Errorf("a sample which is ten minutes late is not in %s", got)
	}
	ask("max_over_time(requests[2m])", "partial hit: ")
	postForm(t, r.deletion, "match[]", `requests{path="1"}`).want(t, http.StatusNoContent)
	if got := ask("max_over_time(requests[2m])", "samples have changed"); strings.Contains(got, `"path":"1"`) {
		t.Errorf("a deleted series is in %s", got)
	}
	ask("max_over_time(requests[2m])", "partial hit: ")
	get(t, r.reset).want(t, http.StatusOK)
	ask("max_over_time(requests[2m])", "asked for the first time")
	counted := map[string]float64{"requests_total": 20, "miss_total": 8, "partial_hits_total": 12, "resets_total": 1}
	if r.restart != nil { // they are of the last process
		counted = map[string]float64{"requests_total": 7, "miss_total": 5, "partial_hits_total": 2, "resets_total": 1}
	}
	for name, least := range counted {
		if got := mustMetric(t, r.metrics, "vm_rollup_result_cache_"+name); got < least {
			t.Errorf("vm_rollup_result_cache_%s is %v; want at least %v", name, got, least)
		}
	}
}
