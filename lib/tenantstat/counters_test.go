package tenantstat

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

func TestCounters(t *testing.T) {
	set := metrics.NewSet()
	c := New(set.Counter, "rows_total", `type="x"`)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range uint32(maxTenants + 5) {
				c.Of(model.TenantID{AccountID: i, ProjectID: 7}).Inc()
			}
		})
	}
	wg.Wait()
	c.All().Add(3)
	New(set.Counter, "plain_total", "").Of(model.TenantID{}).Inc()
	var page bytes.Buffer
	if err := set.Write(&page, false); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`rows_total{type="x",accountID="multitenant",projectID="multitenant"} 3`, `rows_total{type="x",accountID="other",projectID="other"} 20`, `plain_total{accountID="0",projectID="0"} 1`,
	} {
		if !strings.Contains(page.String(), line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
	if n := strings.Count(page.String(), `"7"} 4`); n != maxTenants {
		t.Errorf("%d tenants are counted; want %d", n, maxTenants)
	}
}

func TestWriteGauges(t *testing.T) {
	set := metrics.NewSet()
	values := map[model.TenantID]float64{}
	for i := range uint32(maxTenants + 3) {
		values[model.TenantID{AccountID: i}] = float64(i)
	}
	set.AddCollector(func(w *metrics.Writer) {
		WriteGauges(w, "many", values)
		WriteGauges(w, "few", map[model.TenantID]float64{{AccountID: 7, ProjectID: 9}: 1.5})
	})
	var page bytes.Buffer
	if err := set.Write(&page, false); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`many{accountID="9999",projectID="0"} 9999`, `many{accountID="other",projectID="other"} 30003`, `few{accountID="7",projectID="9"} 1.5`,
	} {
		if !strings.Contains(page.String(), line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
	if n := strings.Count(page.String(), "\n"); n != maxTenants+2 {
		t.Errorf("%d lines", n)
	}
}
