package selectapi

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
)

// newLogTest returns an API with nothing but a query log, and its clock.
func newLogTest(singleNode bool, last int) (*API, *time.Time) {
	now := time.Unix(t0, 0)
	c := &Config{LastQueriesCount: last, MinQueryDuration: flagvalue.Duration(time.Second), MinQueryMemory: 1024}
	a := &API{o: Options{Config: c, SingleNode: singleNode, Metrics: metrics.NewSet()}}
	a.queries = newQueryLog(c, func() time.Time { return now })
	return a, &now
}

func page(t *testing.T, serve serveFunc, args string) string {
	t.Helper()
	return pageOf(t, scope{all: true}, serve, args)
}

func pageOf(t *testing.T, to scope, serve serveFunc, args string) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/?"+args, nil)
	if err := r.ParseForm(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if err := serve(w, &request{Request: r, scope: to}); err != nil {
		return err.Error()
	}
	return w.Body.String()
}

// run notes a query which runs for the given time.
func run(a *API, now *time.Time, tenant uint32, text string, d time.Duration) {
	end := a.queries.begin(&request{Request: httptest.NewRequest("GET", "/", nil)}, &query.Request{Tenant: model.TenantID{AccountID: tenant}, Query: text, Start: t0 * 1000, End: t0*1000 + 60_000, Step: 1000})
	*now = now.Add(d)
	end(int64(len(text)) * 300)
}

func TestActiveQueries(t *testing.T) {
	for _, single := range []bool{true, false} {
		a, now := newLogTest(single, 10)
		if got := page(t, a.activeQueries, ""); got != `{"status":"ok","data":[]}` {
			t.Errorf("without queries: %s", got)
		}
		r := &request{Request: httptest.NewRequest("GET", "/", nil)}
		r.RemoteAddr = "10.0.0.1:5"
		end := a.queries.begin(r, &query.Request{Tenant: model.TenantID{AccountID: 7}, Query: `up{a="b"}`, Start: 1000, End: 2000, Step: 10})
		*now = now.Add(600 * time.Millisecond)
		id := fmt.Sprintf("%016X", uint64(t0)*1e9+1)
		tenant, multi := `"account_id":"7","project_id":"0",`, `,"is_multitenant":false`
		if single {
			tenant, multi = "", ""
		}
		want := `{"status":"ok","data":[{"duration":"0.600s","id":"` + id + `","remote_addr":"10.0.0.1:5",` + tenant + `"query":"up{a=\"b\"}","start":1000,"end":2000,"step":10` + multi + `}]}`
		if got := page(t, a.activeQueries, ""); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		for to, want := range map[scope]string{{tenant: model.TenantID{AccountID: 7}}: want, {tenant: model.TenantID{AccountID: 7, ProjectID: 1}}: `{"status":"ok","data":[]}`} {
			if got := pageOf(t, to, a.activeQueries, ""); got != want {
				t.Errorf("told to tenant %s: %s", to, got)
			}
		}
		end(0)
		if got := page(t, a.activeQueries, ""); got != `{"status":"ok","data":[]}` {
			t.Errorf("afterwards: %s", got)
		}
	}
}

func TestTopQueries(t *testing.T) {
	a, now := newLogTest(true, 4)
	run(a, now, 0, "old", time.Hour) // gives way to the four that follow
	for range 3 {
		run(a, now, 0, "often", time.Second)
	}
	run(a, now, 0, "slow", 2*time.Second)
	run(a, now, 0, "too short to count", time.Millisecond)
	want := `{"topN":"1","maxLifetime":"10m0s","search.queryStats.lastQueriesCount":4,"search.queryStats.minQueryDuration":"1s","search.queryStats.minQueryMemoryUsage":"1024",` +
		`"topByCount":[{"query":"often","timeRangeSeconds":60,"count":3}],` +
		`"topByAvgDuration":[{"query":"slow","timeRangeSeconds":60,"avgDurationSeconds":2,"count":1}],` +
		`"topBySumDuration":[{"query":"often","timeRangeSeconds":60,"sumDurationSeconds":3,"count":3}],"topByAvgMemoryUsage":[{"query":"often","timeRangeSeconds":60,"avgMemoryBytes":1500,"count":3}]}`
	if got := page(t, a.topQueries, "topN=1"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := page(t, a.topQueries, "maxLifetime=1s"); strings.Contains(got, "often") || !strings.Contains(got, "slow") {
		t.Errorf("of the last second: %s", got)
	}
	for _, args := range []string{"topN=x", "maxLifetime=x"} {
		if got := page(t, a.topQueries, args); !strings.Contains(got, "cannot parse") {
			t.Errorf("%s: %s", args, got)
		}
	}
	a, now = newLogTest(false, 4)
	run(a, now, 7, "q", time.Second)
	if got := page(t, a.topQueries, ""); !strings.Contains(got, `{"accountID":7,"projectID":0,"query":"q","timeRangeSeconds":60,"count":1,"multiTenant":false}`) {
		t.Errorf("of a cluster: %s", got)
	}
	a.queries.begin(&request{Request: httptest.NewRequest("GET", "/", nil)}, &query.Request{AllTenants: true, Query: "of all", Start: 1})(0)
	for to, want := range map[scope]bool{{tenant: model.TenantID{AccountID: 7}}: true, {}: false} {
		if got := pageOf(t, to, a.topQueries, ""); strings.Contains(got, `"q"`) != want || strings.Contains(got, "of all") {
			t.Errorf("told to tenant %s: %s", to, got)
		}
	}
}
