package insertapi

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
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

// TestManyTenants counts what requests of many tenants store, known series and new ones, several requests at a time.
func TestManyTenants(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newServer(t, Cluster)
	for range 4 {
		var wg sync.WaitGroup
		for k := range uint64(4) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, k))
				var body strings.Builder
				for range 1000 {
					fmt.Fprintf(&body, "m{vm_account_id=\"%d\",vm_project_id=\"%d\",x=\"%d\"} 1 1\n", rng.IntN(20), rng.IntN(3), rng.IntN(5))
				}
				if code := s.do(http.MethodPost, "/insert/multitenant/prometheus/api/v1/import/prometheus", strings.NewReader(body.String())).Code; code != 204 {
					t.Errorf("a write is answered %d", code)
				}
			})
		}
		wg.Wait()
	}
	want := map[string]int{}
	for _, row := range s.take() {
		want[regexp.MustCompile(`^tenant (\S+)`).FindStringSubmatch(row)[1]]++
	}
	for tenant, rows := range want {
		account, project, _ := strings.Cut(tenant, ":")
		if got := s.metric(t, fmt.Sprintf(`vm_tenant_inserted_rows_total{type="prometheus",accountID=%q,projectID=%q}`, account, project)); got != fmt.Sprint(rows) {
			t.Errorf("tenant %s: %s rows are counted; want %d", tenant, got, rows)
		}
	}
	if len(want) < 50 {
		t.Errorf("only %d tenants have rows", len(want))
	}
}
