package apptest

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestActiveSeriesLimit: new series beyond the limit of a tenant are refused, all others go on, and the limit changes without a restart.
func TestActiveSeriesLimit(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "limits")
	writeWhole(t, file, "7 active_series=3\n8 active_series=1 excess_series=drop\n")
	c := startCluster(t, clusterOptions{insertArgs: []string{"-tenantLimits.config=" + file, "-tenantLimits.checkInterval=10ms"}})
	post := func(tenant, names string) answer {
		t.Helper()
		return request(t, http.MethodPost, c.writeURL(tenant)+"/api/v1/import/prometheus", []byte(strings.Join(strings.Fields(names), " 1\n")+" 1\n"))
	}
	has := func(tenant, names string) {
		t.Helper()
		want := `{"status":"success","isPartial":false,"data":[`
		for i, name := range strings.Fields(names) {
			want += strings.Repeat(",", min(i, 1)) + fmt.Sprintf("%q", name)
		}
		get(t, c.readURL(tenant)+"/api/v1/label/__name__/values").want(t, http.StatusOK, want+"]")
	}
	post("7", "a b").want(t, http.StatusNoContent)
	a := post("7", "a b c d e").want(t, http.StatusTooManyRequests, "2 new series of tenant 7:0", "active_series=3")
	if a.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After in %v", a.header)
	}
	has("7", "a b c")
	post("7", "a b c").want(t, http.StatusNoContent)
	post("7:1", "a b c d e").want(t, http.StatusNoContent)
	if a := post("8", "a b c").want(t, http.StatusNoContent); a.header.Get("X-Rows-Dropped") != "2" || !strings.Contains(a.header.Get("X-Drop-Reason"), "active_series=1") {
		t.Errorf("of three series the headers tell %v", a.header)
	}
	has("8", "a")
	post("multitenant", `a{vm_account_id="7"} z{vm_account_id="7"} z{vm_account_id="9"}`).want(t, http.StatusTooManyRequests, "1 new series of tenant 7:0")
	has("7", "a b c")
	has("9", "z")

	tenants := func(family string) (sum func(tenant string) float64) {
		return func(tenant string) (n float64) {
			account, project, _ := strings.Cut(tenant, ":")
			for _, s := range c.storage {
				v, err := metric(s.http, family, fmt.Sprintf("accountID=%q", account), fmt.Sprintf("projectID=%q", project))
				if err == nil { // a node need not have series of each tenant
					n += v
				}
			}
			return n
		}
	}
	active, created, used := tenants("vm_tenant_active_timeseries"), tenants("vm_tenant_timeseries_created_total"), tenants("vm_tenant_used_tenant_bytes")
	c.flush()
	for tenant, want := range map[string]float64{"7:0": 3, "7:1": 5, "8:0": 1, "9:0": 1} {
		eventually(t, patience, fmt.Sprintf("%v series of tenant %s", want, tenant), func() error {
			if n, m, b := active(tenant), created(tenant), used(tenant); n != want || m != want || b == 0 {
				return fmt.Errorf("%v are active, %v were created, and have %v bytes", n, m, b)
			}
			return nil
		})
	}
	if n := mustMetric(t, c.insertAddr, "vm_tenant_limit_active_series", `accountID="7"`); n != 3 {
		t.Errorf("vminsert counts %v series of tenant 7", n)
	}
	if n, m := mustMetric(t, c.insertAddr, "vm_tenant_limit_exceeded_total", `limit="active_series"`), mustMetric(t, c.insertAddr, "vm_rows_ignored_total", `reason="tenant_active_series"`); n != 3 || m != 2 {
		t.Errorf("%v refusals and %v dropped rows are counted", n, m)
	}

	writeWhole(t, file, "7 active_series=4\n")
	eventually(t, patience, "the new limit to hold", func() error {
		a, err := do(http.MethodPost, c.writeURL("7")+"/api/v1/import/prometheus", []byte("d 1\n"))
		if err == nil && a.status != http.StatusNoContent {
			err = fmt.Errorf("%s", a)
		}
		return err
	})
	post("7", "e").want(t, http.StatusTooManyRequests, "active_series=4")
	post("8", "a b c").want(t, http.StatusNoContent)
	has("7", "a b c d")
	has("8", "a b c")
}

// TestTenantMetricsOfSingleNode: the data of the single node are those of tenant 0:0.
func TestTenantMetricsOfSingleNode(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	request(t, http.MethodPost, s.url("/api/v1/import/prometheus"), []byte("a 1\nb 1\n")).want(t, http.StatusNoContent)
	eventually(t, patience, "two active series", func() error {
		n, err := metric(s.addr, "vm_tenant_active_timeseries", `accountID="0"`, `projectID="0"`)
		if err == nil && n != 2 {
			err = fmt.Errorf("%v are active", n)
		}
		return err
	})
	if n := mustMetric(t, s.addr, "vm_tenant_timeseries_created_total", `accountID="0"`, `projectID="0"`); n != 2 {
		t.Errorf("%v series were created", n)
	}
}
