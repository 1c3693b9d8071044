package apptest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestTenantsTogether writes and reads for many tenants at once.
func TestTenantsTogether(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{selectArgs: []string{"-search.tenantCacheExpireDuration=0s", "-search.maxSeries=20"}})
	t.Run("months", func(t *testing.T) { testTenantMonths(t, c) })
	t.Run("write", func(t *testing.T) { testWriteTogether(t, c) })
	t.Run("query", func(t *testing.T) { testQueryTogether(t, c) })
	t.Run("lists", func(t *testing.T) { testListsTogether(t, c) })
	t.Run("node lost", func(t *testing.T) { testTogetherPartial(t, c) })
}

// testTenantMonths: the list has the tenants with samples in the months of the range.
func testTenantMonths(t *testing.T, c *cluster) {
	const january, march = 1705276800000, 1710028800000 // the 15th, the 10th
	mustWrite(t, c.writeURL("41")+"/api/v1/write", series("__name__", "m").at(january, 1))
	mustWrite(t, c.writeURL("42:7")+"/api/v1/write", series("__name__", "m").at(march, 1))
	mustWrite(t, c.writeURL("5")+"/api/v1/write", series("__name__", "m").at(january, 1).at(march, 1))
	admin := "http://" + c.selectAddr + "/admin/tenants"
	for _, tc := range []struct{ start, end, want string }{
		{"2024-01", "2024-01", `"41:0","5:0"`}, {"2024-02-01", "2024-02-29", ``}, {"2024-01-31T23:00:00Z", "2024-03-01T00:00:00Z", `"41:0","42:7","5:0"`},
		{"1709251200", "1711929599", `"42:7","5:0"`}, {"1709251200000", "1711929599000", `"42:7","5:0"`}, {"2024-03-01", "2024-03-02", `"42:7","5:0"`}, {"", "2024-02-01", `"41:0","5:0"`}, {"2024-03-31T23:59:59.999Z", "", `"42:7","5:0"`},
		{"", "", `"41:0","42:7","5:0"`}, {"-1h", "now", ``}, {"now-1d", "", ``},
	} {
		want := `{"status":"success","data":[` + tc.want + `]}`
		if a := get(t, admin, "start", tc.start, "end", tc.end).want(t, http.StatusOK); a.body != want {
			t.Errorf("tenants from %q to %q: %s; want %s", tc.start, tc.end, a.body, want)
		}
	}
	s := startSingle(t)
	get(t, s.url("/admin/tenants")).want(t, http.StatusBadRequest)
}

// testWriteTogether: labels, or headers, say whose the series are, in every protocol.
func testWriteTogether(t *testing.T, c *cluster) {
	root := "http://" + c.insertAddr + "/insert/"
	native := get(t, c.readURL("5")+"/api/v1/export/native", "match[]", "m").want(t, http.StatusOK).body
	labelled := series("__name__", "w", "vm_account_id", "61", "vm_project_id", "6", "z", "y").at(fixed, 1)
	for _, tc := range []struct{ tenant, path, body, metric string }{
		{"61:6", "api/v1/write", string(snappyBody(labelled)), `{"__name__":"w","z":"y"}`},
		{"62:0", "api/v1/import", `{"metric":{"__name__":"w","vm_account_id":"62"},"values":[1],"timestamps":[1717200000000]}`, `{"__name__":"w"}`},
		{"0:63", "api/v1/import/prometheus", `w{vm_project_id="63",a="b"} 1 1717200000000`, `{"__name__":"w","a":"b"}`},
		{"64:1", "api/v1/import/prometheus/metrics/job/j/vm_account_id/64/vm_project_id/1", "w 1 1717200000000", `{"__name__":"w","job":"j"}`},
		{"65:0", "api/v1/import/csv?format=1:label:vm_account_id,2:metric:w,3:time:unix_ms", "65,1,1717200000000", `{"__name__":"w"}`},
		{"66:2", "api/v1/import/native?extra_label=vm_account_id=66&extra_label=vm_project_id=2", native, `{"__name__":"m"}`},
		{"67:0", "api/v1/import/prometheus?extra_label=vm_account_id=67", `w{vm_account_id="68"} 1 1717200000000`, `{"__name__":"w"}`},
	} {
		post := func(path string, headers ...string) {
			if a := request(t, http.MethodPost, root+path+tc.path, []byte(tc.body), headers...); a.status/100 != 2 {
				t.Errorf("%s%s: %s", path, tc.path, a)
			}
		}
		post("multitenant/prometheus/")
		wantOnly(t, c, tc.tenant, tc.metric)
		// The same by headers, the labels being labels of this tenant then.
		account, _, _ := strings.Cut(tc.tenant, ":")
		post("prometheus/", "AccountID", "7"+account, "ProjectID", "9")
		if got := export(t, c.readURL("7"+account+":9"), `{__name__!=""}`); got.samples() == 0 {
			t.Errorf("%s by headers: nothing is stored", tc.path)
		}
		post("prometheus/", "AccountID", "multitenant")
		wantOnly(t, c, tc.tenant, tc.metric)
	}
	if got := export(t, c.readURL("68"), `{__name__!=""}`); len(got) > 0 {
		t.Errorf("extra_label does not win: %s", got)
	}
	for _, bad := range []string{"bad", "-1", "4294967296", "1.5", "1:2", " 1"} {
		request(t, http.MethodPost, root+"multitenant/prometheus/api/v1/import/prometheus", []byte(fmt.Sprintf("odd{vm_account_id=%q,x=%q} 1 1717200000000\n", bad, bad))).want(t, http.StatusNoContent)
	}
	if got := export(t, c.readURL("0"), "odd"); len(got) != 6 || strings.Contains(got.String(), "vm_account_id") {
		t.Errorf("tenants which are none stand for 0: %s", got)
	}
	c.insert.waitLog(`series odd\{.*\} has no number in 0\.\.4294967295 as vm_account_id, which counts as 0`)
}

// wantOnly fails the test unless the tenant has this series only.
func wantOnly(t *testing.T, c *cluster, tenant, metric string) {
	t.Helper()
	got := export(t, c.readURL(tenant), `{__name__!=""}`)
	if len(got) != 1 || got[metric] == nil {
		t.Errorf("tenant %s has %s; want %s only", tenant, got, metric)
	}
}

// testQueryTogether: filters select tenants, in every place and by every operator.
func testQueryTogether(t *testing.T, c *cluster) {
	body := ""
	for _, labels := range []string{`vm_account_id="21"`, `vm_account_id="21",vm_project_id="2"`, `vm_project_id="3"`, `vm_account_id="bad",x="bad"`, `x="none"`} {
		body += "mt{" + labels + "} 1 1717200000000\n"
	}
	request(t, http.MethodPost, "http://"+c.insertAddr+"/insert/multitenant/prometheus/api/v1/import/prometheus", []byte(body)).want(t, http.StatusNoContent)
	base := c.readURL("multitenant")
	zeros := []string{`mt{vm_account_id="0",vm_project_id="0",x="bad"} 1`, `mt{vm_account_id="0",vm_project_id="0",x="none"} 1`}
	third, first, second := []string{`mt{vm_account_id="0",vm_project_id="3"} 1`}, []string{`mt{vm_account_id="21",vm_project_id="0"} 1`}, []string{`mt{vm_account_id="21",vm_project_id="2"} 1`}
	for _, tc := range []struct {
		query string
		args  []string
		want  []string
	}{
		{`mt`, nil, slices.Concat(zeros, third, first, second)},
		{`mt{vm_account_id="21"}`, nil, slices.Concat(first, second)},
		{`mt{vm_account_id="21",vm_project_id!="2"}`, nil, first},
		{`mt{vm_account_id=~"2.*" or vm_project_id="3"}`, nil, slices.Concat(third, first, second)},
		{`mt{vm_account_id!~"2.|7"}`, nil, slices.Concat(zeros, third)},
		{`mt{vm_account_id=""}`, nil, nil},
		{`mt{vm_account_id="bad"}`, nil, nil},
		{`mt`, []string{"extra_label", "vm_account_id=21"}, slices.Concat(first, second)},
		{`mt`, []string{"extra_filters[]", `{vm_project_id="2"}`, "extra_filters[]", `{vm_project_id="3"}`}, slices.Concat(third, second)},
		{`mt{vm_account_id="0"}`, []string{"extra_filters[]", `{vm_account_id="21"}`}, nil},
		{`sum(mt) by (vm_account_id)`, nil, []string{`{vm_account_id="0"} 3`, `{vm_account_id="21"} 2`}},
		{`count(mt * on(vm_account_id, vm_project_id) group_left() count(mt) by (vm_account_id, vm_project_id))`, nil, []string{`{} 5`}},
		{`max_over_time(mt{vm_project_id="3"}[1h])`, nil, third},
	} {
		for _, dialect := range []string{"metricsql", "promql"} {
			if dialect == "promql" && strings.Contains(tc.query, " or ") {
				continue
			}
			got := instant(t, base, tc.query, fixed+10000, append(tc.args, "dialect", dialect)...)
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tc.want))
			if dialect == "promql" && strings.Contains(tc.query, "over_time") {
				continue // names are dropped there
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s %q, %s: %q; want %q", tc.query, tc.args, dialect, got, want)
			}
		}
	}
	a := request(t, http.MethodGet, "http://"+c.selectAddr+"/select/prometheus/api/v1/query?query=sum(mt)&time=1717200010", nil, "AccountID", "multitenant", "ProjectID", "7")
	if got := vector(t, parseQuery(t, a)); !slices.Equal(got, []string{"{} 5"}) {
		t.Errorf("by headers: %q", got)
	}
	if got := instant(t, c.readURL("21"), "mt", fixed+10000); !slices.Equal(got, []string{"mt{} 1"}) {
		t.Errorf("one tenant: %q", got)
	}
	get(t, base+"/api/v1/query", "query", `mt{vm_account_id=~"("}`).want(t, http.StatusBadRequest)
}

// testListsTogether: names and values know the labels of tenants, limits are those of all together.
func testListsTogether(t *testing.T, c *cluster) {
	base := c.readURL("multitenant")
	for _, tc := range []struct {
		path string
		args []string
		want string
	}{
		{"labels", []string{"match[]", "mt"}, `"__name__","vm_account_id","vm_project_id","x"`},
		{"labels", []string{"match[]", "mt", "limit", "2"}, `"__name__","vm_account_id"`},
		{"labels", []string{"match[]", "nosuch"}, ``},
		{"label/vm_account_id/values", []string{"match[]", "mt"}, `"0","21"`},
		{"label/vm_project_id/values", []string{"match[]", "mt"}, `"0","2","3"`},
		{"label/vm_project_id/values", []string{"match[]", `{vm_account_id="21"}`}, `"0","2"`},
		{"label/vm_account_id/values", []string{"match[]", "mt", "extra_label", "vm_project_id=3"}, `"0"`},
		{"label/x/values", nil, `"-1","1.5","1:2","4294967296","bad","none"," 1"`},
		{"series", []string{"match[]", `{__name__="mt",vm_project_id=~"2|3"}`}, `{"__name__":"mt","vm_account_id":"0","vm_project_id":"3"},{"__name__":"mt","vm_account_id":"21","vm_project_id":"2"}`},
	} {
		a := get(t, base+"/api/v1/"+tc.path, append(dayArgs(), tc.args...)...).want(t, http.StatusOK)
		list := strings.TrimSuffix(strings.TrimPrefix(a.body, `{"status":"success","isPartial":false,"data":[`), `]}`)
		got, want := strings.Split(list, ","), strings.Split(tc.want, ",")
		if tc.path != "series" {
			slices.Sort(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s %q: %s; want %s", tc.path, tc.args, a.body, tc.want)
		}
	}
	get(t, base+"/api/v1/series", append(dayArgs(), "match[]", `{__name__!=""}`)...).want(t, http.StatusUnprocessableEntity, "all tenants", "-search.maxSeries=20")
	get(t, base+"/api/v1/series", append(dayArgs(), "match[]", `{__name__!="",vm_account_id="21"}`)...).want(t, http.StatusOK)
	get(t, base+"/api/v1/query", "query", "mt", "trace", "1").want(t, http.StatusOK, "of tenant multitenant")
	get(t, "http://"+c.selectAddr+"/api/v1/status/top_queries", "topN", "1000").want(t, http.StatusOK, `"multiTenant":true`)
	if a := get(t, c.readURL("21")+"/api/v1/status/top_queries", "topN", "1000").want(t, http.StatusOK); strings.Contains(a.body, `"multiTenant":true`) {
		t.Errorf("a tenant sees queries of others: %s", a)
	}
}

// testTogetherPartial: what lacks a node says so.
func testTogetherPartial(t *testing.T, c *cluster) {
	c.storage[1].kill()
	base := c.readURL("multitenant")
	eventually(t, patience, "an answer which is partial", func() error {
		a, err := do(http.MethodGet, base+"/api/v1/query?query=mt&time=1717200010", nil)
		if err == nil && !strings.Contains(a.body, `"isPartial":true`) {
			err = fmt.Errorf("it is %s", a)
		}
		return err
	})
	get(t, base+"/api/v1/query", "query", "mt", "time", "1717200010", "deny_partial_response", "1").want(t, http.StatusServiceUnavailable, c.storage[1].sel)
	get(t, base+"/api/v1/export", "match[]", "mt").want(t, http.StatusServiceUnavailable)
	get(t, base+"/api/v1/labels", dayArgs()...).want(t, http.StatusOK, `"isPartial":true`)
	postForm(t, "http://"+c.selectAddr+"/delete/multitenant/prometheus/api/v1/admin/tsdb/delete_series", "match[]", "mt").want(t, http.StatusServiceUnavailable)
}

// TestTenantLimits: a tenant beyond its limits waits, others do not, and the limits change without a restart.
func TestTenantLimits(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "limits")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("7 samples_per_second=0.001 concurrent_queries=1\n")
	flags := []string{"-tenantLimits.config=" + file, "-tenantLimits.checkInterval=10ms"}
	c := startCluster(t, clusterOptions{insertArgs: flags, selectArgs: flags})
	path := "/api/v1/import/prometheus"
	request(t, http.MethodPost, c.writeURL("7")+path, []byte("a 1\nb 1\n")).want(t, http.StatusNoContent)
	a := request(t, http.MethodPost, c.writeURL("7")+path, []byte("a 1\n")).want(t, http.StatusTooManyRequests, "samples_per_second=0.001", "7:0")
	if a.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After in %v", a.header)
	}
	request(t, http.MethodPost, c.writeURL("7:1")+path, []byte("a 1\n")).want(t, http.StatusNoContent)
	request(t, http.MethodPost, c.writeURL("multitenant")+path, []byte("a{vm_account_id=\"8\"} 1\na{vm_account_id=\"7\"} 1\n")).want(t, http.StatusTooManyRequests, "7:0")
	request(t, http.MethodPost, c.writeURL("multitenant")+path, []byte("a{vm_account_id=\"8\"} 1\n")).want(t, http.StatusNoContent)
	if n := mustMetric(t, c.insertAddr, "vm_tenant_limit_exceeded_total", `limit="samples_per_second"`); n != 2 {
		t.Errorf("%v refusals are counted", n)
	}
	write("7 samples_per_second=1000000 concurrent_queries=1\n")
	eventually(t, patience, "the new limit to hold", func() error {
		a, err := do(http.MethodPost, c.writeURL("7")+path, []byte("a 1\n"))
		if err == nil && a.status != http.StatusNoContent {
			err = fmt.Errorf("%s", a)
		}
		return err
	})
	slow := "/api/v1/query_range?query=quantile_over_time(0.5,+rand()[1h:1s])&start=1717200000&end=1717203600&step=1"
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer cancel()
	for range 2 {
		busy.Go(func() {
			for ctx.Err() == nil {
				_, _ = do(http.MethodGet, c.readURL("7")+slow, nil) // it keeps a place busy, or is refused
			}
		})
	}
	eventually(t, patience, "a query of the tenant to be refused", func() error {
		a, err := do(http.MethodGet, c.readURL("7")+"/api/v1/query?query=1", nil)
		if err == nil && (a.status != http.StatusTooManyRequests || !strings.Contains(a.body, "concurrent_queries=1")) {
			err = fmt.Errorf("%s", a)
		}
		return err
	})
	get(t, c.readURL("8")+"/api/v1/query", "query", "1").want(t, http.StatusOK)
}
