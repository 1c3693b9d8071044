package insertapi

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// newLimits has limits of tenants, until the end of the test.
func newLimits(t testing.TB, limits string, set *metrics.Set) *tenantlimits.Limiter {
	t.Helper()
	path := filepath.Join(t.TempDir(), "limits")
	if err := os.WriteFile(path, []byte(limits), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tenantlimits.New(tenantlimits.Options{
		Config: &tenantlimits.Config{Path: path, CheckInterval: flagvalue.Duration(time.Hour)}, Logger: logger.Discard(), Metrics: set, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// limitedServer has limits of tenants.
func limitedServer(t *testing.T, limits string) *server {
	t.Helper()
	s := newServer(t, Cluster)
	s.API = New(Options{Ingester: s.recorder, Logger: logger.Discard(), Metrics: s.set, Config: s.config, Limits: newLimits(t, limits, s.set)})
	return s
}

// TestExcessSeries writes more series than tenants may have: those which are known go on, and so do other tenants.
func TestExcessSeries(t *testing.T) {
	const multitenant = "multitenant"
	of := func(tenant string, rows ...string) (want []string) {
		for _, row := range rows {
			want = append(want, "tenant "+tenant+" "+row+"@1000=1")
		}
		return want
	}
	s := limitedServer(t, "1 active_series=2\n2 active_series=1 excess_series=drop\n3 samples_per_second=1000")
	for i, step := range []struct {
		tenant, body  string
		status        int
		says, dropped string
		stored        []string
	}{
		{"1", "a b", 204, "", "", of("1:0", "a", "b")},
		{"1", "a c b d", 429, "cannot take samples of 2 new series of tenant 1:0: it has active_series=2 already", "", of("1:0", "a", "b")},
		{"1", "c", 429, "of 1 new series", "", nil},
		{"1", "b", 204, "", "", of("1:0", "b")},
		{"2", "a b c", 204, "", "2", of("2:0", "a")},
		{"3", "a b c d", 204, "", "", of("3:0", "a", "b", "c", "d")},
		{multitenant, "a/1 e/1 a/2 f/2 g/3", 429, "of 1 new series of tenant 1:0", "", append(of("1:0", "a"), append(of("2:0", "a"), of("3:0", "g")...)...)},
		{multitenant, "a/1 e/1 a/2 f/2 g/3", 429, "of 1 new series of tenant 1:0", "", append(of("1:0", "a"), append(of("2:0", "a"), of("3:0", "g")...)...)},
		{multitenant, "a/1 f/2 g/3", 204, "", "1", append(of("1:0", "a"), of("3:0", "g")...)},
	} {
		var body strings.Builder
		for name := range strings.FieldsSeq(step.body) {
			name, tenant, many := strings.Cut(name, "/")
			if many {
				name += fmt.Sprintf("{vm_account_id=%q}", tenant)
			}
			fmt.Fprintf(&body, "%s 1 1\n", name)
		}
		a := s.do(http.MethodPost, "/insert/"+step.tenant+"/prometheus/api/v1/import/prometheus", strings.NewReader(body.String()))
		slices.Sort(step.stored)
		if stored := s.take(); a.Code != step.status || !slices.Equal(stored, step.stored) || !strings.Contains(a.Body.String(), step.says) || a.Header().Get("X-Rows-Dropped") != step.dropped {
			t.Errorf("step %d: status %d, %q, dropped %q, stored %q; want %d, %q, %q, %q", i, a.Code, a.Body, a.Header().Get("X-Rows-Dropped"), stored, step.status, step.says, step.dropped, step.stored)
		}
		if (a.Code == 429) != (a.Header().Get("Retry-After") != "") || (step.dropped != "") != strings.Contains(a.Header().Get("X-Drop-Reason"), "active_series=1") {
			t.Errorf("step %d: headers %v", i, a.Header())
		}
	}
	for name, want := range map[string]string{
		`vm_rows_inserted_total{type="prometheus"}`:                                    "18",
		`vm_tenant_inserted_rows_total{type="prometheus",accountID="1",projectID="0"}`: "8",
		`vm_tenant_inserted_rows_total{type="prometheus",accountID="2",projectID="0"}`: "3",
		`vm_rows_ignored_total{reason="tenant_active_series"}`:                         "5",
		`vm_tenant_limit_exceeded_total{limit="active_series"}`:                        "8",
		`vm_tenant_limit_active_series{accountID="1",projectID="0"}`:                   "2",
	} {
		if got := s.metric(t, name); got != want {
			t.Errorf("%s is %s; want %s", name, got, want)
		}
	}
}

// TestExcessSeriesInLargeRequests stores of bodies of many batches what is known, whether series are numbered or not, and all of tenants without limits.
func TestExcessSeriesInLargeRequests(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const limit, account = 500, 20
	s := limitedServer(t, fmt.Sprintf("0 active_series=%d\n1 active_series=%d excess_series=drop", limit, limit))
	tenantOf, sent := regexp.MustCompile(`^tenant (\S+)`), regexp.MustCompile(`vm_account_id="(\d+)",(.*)} 1`)
	series := map[string]map[string]bool{}
	for range 3 {
		var body strings.Builder
		for range 30_000 {
			fmt.Fprintf(&body, "m{vm_account_id=\"%d\",x=\"%d\"} 1 1\n", rng.IntN(account), rng.IntN(2000))
		}
		if a := s.do(http.MethodPost, "/insert/multitenant/prometheus/api/v1/import/prometheus", strings.NewReader(body.String())); a.Code != 429 {
			t.Fatalf("status %d, %s", a.Code, a.Body)
		}
		rows, want := map[string]int{}, map[string]int{}
		for _, row := range s.take() {
			tenant := tenantOf.FindStringSubmatch(row)[1]
			if series[tenant] == nil {
				series[tenant] = map[string]bool{}
			}
			series[tenant][row] = true
			rows[tenant]++
		}
		for line := range strings.Lines(body.String()) {
			m := sent.FindStringSubmatch(line)
			if tenant := m[1] + ":0"; series[tenant]["tenant "+tenant+" m{"+m[2]+"}@1000=1"] {
				want[tenant]++
			}
		}
		for tenant, n := range want {
			if rows[tenant] != n {
				t.Errorf("tenant %s: %d samples are stored; want %d", tenant, rows[tenant], n)
			}
		}
	}
	for i := range account {
		tenant := fmt.Sprintf("%d:0", i)
		if n := len(series[tenant]); i < 2 && n != limit || i >= 2 && n < limit {
			t.Errorf("tenant %s has %d series", tenant, n)
		}
	}
}
