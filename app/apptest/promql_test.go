package apptest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestPromQL: the dialect over a cluster and a single node, at all its URLs, against a Prometheus which reads the same samples from them.
func TestPromQL(t *testing.T) {
	prometheus := peer(t, "prometheus")
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	s := startSingle(t)
	at := anHourAgo()
	var list []ts
	for i := range 20 {
		x := series("__name__", "work_total", "i", fmt.Sprint(i), "Group", fmt.Sprint(i%3))
		for k := range 61 {
			x = x.at(at+int64(k)*15000+int64(i), float64((k*(i+1))%50))
		}
		list = append(list, x)
	}
	mustWrite(t, c.writeURL("4")+"/api/v1/write", list...)
	mustWrite(t, s.url("/api/v1/write"), list...)
	reader := startReader(t, prometheus, s.url("/api/v1/read"))
	when := seconds(at + 60*15000 - 7001) // not at the edge of a window, which 2.42 has on both sides
	for _, query := range []string{
		`work_total{Group="1"}`, `rate(work_total[5m])`, `increase(work_total{i=~"1.*"}[10m])`, `sum by (Group) (rate(work_total[3m]))`, `changes(work_total[5m])`, `resets(work_total[10m])`,
		`avg_over_time(work_total[4m])`, `work_total > 20`, `topk(3, work_total)`, `max_over_time(rate(work_total[2m])[6m:30s])`, `absent(nosuch{a="b"})`, `work_total offset 5m / ignoring(x) work_total`,
	} {
		want := instantDialect(t, reader+"/api/v1/query", query, when)
		if len(want) == 0 {
			t.Errorf("%s: Prometheus finds nothing", query)
		}
		for _, url := range []string{
			"http://" + c.selectAddr + "/select/4/promql/api/v1/query", c.readURL("4") + "/api/v1/query?dialect=promql",
			s.url("/promql/api/v1/query"), s.url("/prometheus/api/v1/query?dialect=promql"), s.url("/api/v1/query?dialect=promql"),
		} {
			if got := instantDialect(t, url, query, when); !slices.Equal(got, want) {
				t.Errorf("%s at %s:\ngot  %q\nwant %q", query, url, got, want)
			}
		}
	}
	get(t, "http://"+c.selectAddr+"/select/4/promql/api/v1/query", "query", "rate(").want(t, http.StatusBadRequest, `"errorType":"bad_data"`)
	get(t, s.url("/promql/api/v1/query"), "query", "1").want(t, http.StatusOK, `"resultType":"scalar"`)
	get(t, s.url("/promql/api/v1/labels"), "start", seconds(at)).want(t, http.StatusOK, `["Group","__name__","i"]`)
	c.storage[0].kill()
	eventually(t, patience, "a partial answer", func() error {
		a, err := do(http.MethodGet, "http://"+c.selectAddr+"/select/4/promql/api/v1/query?query=count(work_total)&time="+when, nil)
		if err == nil && !(strings.Contains(a.body, `"isPartial":true`) && strings.Contains(a.body, `"warnings":[`)) {
			err = fmt.Errorf("got %s", a)
		}
		return err
	})
}

// instantDialect returns the sorted elements of an answer, with values of ten digits.
func instantDialect(t *testing.T, url, query, at string) []string {
	t.Helper()
	path, dialect, _ := strings.Cut(url, "?dialect=")
	list := vector(t, parseQuery(t, get(t, path, "query", query, "time", at, "dialect", dialect)))
	for i, x := range list {
		labels, value, _ := cutLast(x, " ")
		list[i] = fmt.Sprintf("%s %.10g", labels, number(value))
	}
	slices.Sort(list)
	return list
}
