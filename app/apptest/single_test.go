package apptest

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSingleNode: the routes of a cluster without tenant, with and without /prometheus.
func TestSingleNode(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	get(t, s.url("/api/v1/labels")).want(t, http.StatusOK, `"data":[]`)
	for i, path := range []string{
		"/api/v1/write", "/prometheus/api/v1/write", "/api/v1/push", "/prometheus/api/v1/push", "/api/v1/write/", "//prometheus//api/v1//write",
		"/api/v1/import/prometheus", "/prometheus/api/v1/import/prometheus/", "/api/v1/import", "/prometheus/api/v1/import/",
	} {
		metric := fmt.Sprintf("m%d", i)
		var body []byte
		switch {
		case strings.Contains(path, "import/prometheus"):
			body = fmt.Appendf(nil, "%s 1.5 %d\n", metric, fixed)
		case strings.Contains(path, "import"):
			body = fmt.Appendf(nil, `{"metric":{"__name__":%q},"values":[1.5],"timestamps":[%d]}`, metric, fixed)
		default:
			body = snappyBody(series("__name__", metric).at(fixed, 1.5))
		}
		request(t, http.MethodPost, s.url(path), body).want(t, http.StatusNoContent)
		if got, want := export(t, s.url(""), metric).String(), fmt.Sprintf(`{"__name__":%q} 1.5@%d`, metric, fixed); got != want {
			t.Errorf("after a write to %s there is %q; want %q", path, got, want)
		}
	}
	for _, path := range []string{"/insert/0/prometheus/api/v1/write", "/select/0/prometheus/api/v1/query", "/admin/tenants", "/api/v1/nosuch"} {
		get(t, s.url(path), "query", "m").want(t, http.StatusBadRequest, path)
	}
	if got := mustMetric(t, s.addr, "vm_rows_inserted_total"); got != 10 {
		t.Errorf("vm_rows_inserted_total is %v", got)
	}
	if got := mustMetric(t, s.addr, "vm_rows_added_to_storage_total"); got != 10 {
		t.Errorf("vm_rows_added_to_storage_total is %v", got)
	}
}

// TestSingleNodeAnswers: the same answers as a cluster's but for isPartial, before and after a flush and a restart.
func TestSingleNodeAnswers(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	writeRooms(t, s.url("/api/v1/write"))
	checkAnswers(t, s.url(""), "")
	get(t, s.url("/internal/force_flush")).want(t, http.StatusOK)
	checkAnswers(t, s.url("/prometheus"), "")
	get(t, s.url("/internal/force_merge")).want(t, http.StatusOK)
	s.stop(syscall.SIGINT)
	s.restart()
	checkAnswers(t, s.url("/prometheus"), "")
	now := time.Now().UnixMilli()
	mustWrite(t, s.url("/api/v1/write"), series("__name__", "soon").at(now, 5))
	eventually(t, time.Second, "sample in the answer to a query", func() error {
		if got := instant(t, s.url(""), "soon", now); len(got) != 1 || got[0] != "soon{} 5" {
			return fmt.Errorf("the answer is %v", got)
		}
		return nil
	})
}
