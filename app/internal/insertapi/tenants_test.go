package insertapi

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// TestTenantRows counts rows by tenant, those which are stored.
func TestTenantRows(t *testing.T) {
	s := newServer(t, Cluster)
	post := func(path, body string) int {
		return s.do(http.MethodPost, path, strings.NewReader(body)).Code
	}
	const path, many = "/insert/7:9/prometheus/api/v1/import/prometheus", "/insert/multitenant/prometheus/api/v1/import/prometheus"
	for range 2 { // known series are counted as new ones are
		if post(path, "a 1 1\nb 2 2\n") != 204 || post(many, "a{vm_account_id=\"7\",vm_project_id=\"9\"} 1 1\na{vm_account_id=\"8\"} 1 1\nb{vm_account_id=\"8\"} 1 1\na 1 1\nb{vm_account_id=\"8\"} 1 2\n") != 204 {
			t.Fatal("a write fails")
		}
	}
	s.err = errors.New("no room")
	if code := post(path, "a 1 1\n"); code == 204 {
		t.Fatalf("a write which fails is answered %d", code)
	}
	for labels, want := range map[string]string{`accountID="7",projectID="9"`: "6", `accountID="8",projectID="0"`: "6", `accountID="0",projectID="0"`: "2"} {
		if got := s.metric(t, `vm_tenant_inserted_rows_total{type="prometheus",`+labels+"}"); got != want {
			t.Errorf("%s: %s rows are counted; want %s", labels, got, want)
		}
	}
}
