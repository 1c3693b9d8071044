package tenantlimits

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	table, err := parse("# comment\n\n7:9 samples_per_second=1e3 concurrent_queries=8 # more\n  7\tconcurrent_queries=2\r\ndefault samples_per_second=0.5\n0:0\n" +
		"3 active_series=5\n4 excess_series=drop active_series=6\n5 excess_series=refuse active_series=7")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Limits{
		"7:9": {SamplesPerSecond: 1000, ConcurrentQueries: 8}, "7:0": {ConcurrentQueries: 2}, "0:0": {}, "1:1": {SamplesPerSecond: 0.5},
		"3:0": {ActiveSeries: 5}, "4:0": {ActiveSeries: 6, DropExcessSeries: true}, "5:0": {ActiveSeries: 7},
	} {
		id, err := model.ParseTenantID(text)
		if got := table.of(id); err != nil || got != want {
			t.Errorf("tenant %s has %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"7 x=1": `limit "x=1"`, "\n7 concurrent_queries=1.5": "line 2", "7 samples_per_second": "above 0", "7 samples_per_second=-1": "above 0", "7 samples_per_second=NaN": "above 0", "7 samples_per_second=1e13": "up to 1e+12",
		"7 active_series=0": "above 0", "7 active_series=2.5": "whole", "7 active_series": "above 0", "7 excess_series=keep": "drop or refuse",
		"7:x": "projectID", "7\n7:0": "tenant 7:0 has limits already", "default\ndefault": "default has limits", "all": "accountID",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) || errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%q: %v; want %q in it", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("7:9 samples_per_second=1e3 concurrent_queries=8 # more\ndefault samples_per_second=0.5")
	f.Add("1 active_series=5 excess_series=drop\n2 excess_series=refuse")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := parse(text)
		if err != nil {
			return
		}
		for id, l := range table.tenants {
			if !(l.SamplesPerSecond >= 0) || l.ConcurrentQueries < 0 || l.ActiveSeries < 0 || l.ActiveSeries > 0 && !table.series {
				t.Errorf("tenant %s has %+v", id, l)
			}
		}
	})
}

type env struct {
	*Limiter
	path string
	now  time.Time
	set  *metrics.Set
}

func newEnv(t *testing.T, text string, interval time.Duration) *env {
	t.Helper()
	e := &env{path: filepath.Join(t.TempDir(), "limits"), now: time.Unix(1e9, 0), set: metrics.NewSet()}
	e.write(t, text)
	var err error
	e.Limiter, err = New(Options{
		Config: &Config{Path: e.path, CheckInterval: flagvalue.Duration(interval)}, Logger: logger.Discard(), Metrics: e.set, Now: func() time.Time { return e.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *env) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(e.path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(e.path+".new", e.path); err != nil {
		t.Fatal(err)
	}
}

func TestSamples(t *testing.T) {
	e := newEnv(t, "1 samples_per_second=100\n2 concurrent_queries=1", time.Hour)
	one, two := model.TenantID{AccountID: 1}, model.TenantID{AccountID: 2}
	admitted := func(id model.TenantID, want bool) {
		t.Helper()
		err := e.AdmitSamples(id)
		if (err == nil) != want {
			t.Fatalf("tenant %s: %v; want it admitted: %t", id, err, want)
		}
		if err != nil && (!IsLimit(err) || errkind.Of(err) != errkind.Overloaded || !strings.Contains(err.Error(), "samples_per_second=100") || errkind.RetryAfterOf(err) <= 0) {
			t.Errorf("%v, retry after %s", err, errkind.RetryAfterOf(err))
		}
	}
	admitted(one, true)
	e.CountSamples(one, 99)
	admitted(one, true)
	e.CountSamples(one, 201) // more than is left, by two seconds
	admitted(one, false)
	if wait := errkind.RetryAfterOf(e.AdmitSamples(one)); wait < 2*time.Second || wait > 2010*time.Millisecond {
		t.Errorf("told to wait for %s", wait)
	}
	e.CountSamples(two, 1e9)
	admitted(two, true)
	e.now = e.now.Add(2001 * time.Millisecond)
	admitted(one, true)
	e.now = e.now.Add(time.Hour) // no more than a second's worth is saved
	e.CountSamples(one, 101)
	admitted(one, false)
	for i := range uint32(3 * maxUsages) {
		_ = e.AdmitSamples(model.TenantID{AccountID: 1, ProjectID: i}) // who has no limit leaves no trace
	}
	if n := len(e.mu.tenants); n != 1 {
		t.Errorf("%d tenants are remembered", n)
	}
}

func TestManyTenants(t *testing.T) {
	e := newEnv(t, "default samples_per_second=1 concurrent_queries=1", time.Hour)
	debtor := model.TenantID{AccountID: 7}
	e.CountSamples(debtor, 1000)
	busy, err := e.AdmitQuery(model.TenantID{AccountID: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer busy()
	for i := range uint32(3 * maxUsages) {
		if err := e.AdmitSamples(model.TenantID{ProjectID: i}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.mu.tenants); n > maxUsages {
		t.Errorf("%d tenants are remembered", n)
	}
	if e.AdmitSamples(debtor) == nil {
		t.Error("a debt is forgotten")
	}
	if _, err := e.AdmitQuery(model.TenantID{AccountID: 8}); err == nil {
		t.Error("a running query is forgotten")
	}
}

func TestQueries(t *testing.T) {
	e := newEnv(t, "1 concurrent_queries=2", time.Hour)
	id := model.TenantID{AccountID: 1}
	first, err := e.AdmitQuery(id)
	if err != nil {
		t.Fatal(err)
	}
	second, err := e.AdmitQuery(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.AdmitQuery(id); !IsLimit(err) || errkind.Of(err).HTTPStatus() != 429 || !strings.Contains(err.Error(), "concurrent_queries=2") {
		t.Errorf("a third query: %v", err)
	}
	if release, err := e.AdmitQuery(model.TenantID{AccountID: 2}); err != nil {
		t.Errorf("another tenant: %v", err)
	} else {
		release()
	}
	first()
	third, err := e.AdmitQuery(id)
	if err != nil {
		t.Fatal(err)
	}
	second()
	third()
	if n := e.mu.tenants[id].queries; n != 0 {
		t.Errorf("%d queries are left", n)
	}
}

func TestReload(t *testing.T) {
	e := newEnv(t, "1 concurrent_queries=2", time.Millisecond)
	id := model.TenantID{AccountID: 1}
	wait := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within 10 seconds", what)
			}
		}
	}
	e.write(t, "1 concurrent_queries=5")
	wait("new limits", func() bool { return e.current.Load().of(id).ConcurrentQueries == 5 })
	e.write(t, "1 concurrent_queries=five")
	wait("a bad file to be noticed", func() bool { return !e.usable.Load() })
	if got := e.current.Load().of(id).ConcurrentQueries; got != 5 {
		t.Errorf("a bad file has set the limit to %d", got)
	}
	if err := os.Remove(e.path); err != nil {
		t.Fatal(err)
	}
	e.write(t, "1 concurrent_queries=5")
	wait("a good file to be noticed", e.usable.Load)
}

func TestStart(t *testing.T) {
	if l, err := New(Options{Config: &Config{}}); l != nil || err != nil {
		t.Errorf("without a file: %v, %v", l, err)
	}
	var none *Limiter
	release, err := none.AdmitQuery(model.TenantID{})
	if err != nil || none.AdmitSamples(model.TenantID{}) != nil {
		t.Error(err)
	}
	release()
	none.CountSamples(model.TenantID{}, 1)
	for _, text := range []string{"", "x"} {
		path := filepath.Join(t.TempDir(), "limits")
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := New(Options{Config: &Config{Path: path}, Metrics: metrics.NewSet()}); err == nil || !strings.Contains(err.Error(), "-tenantLimits.config") {
			t.Errorf("file with %q: %v", text, err)
		}
	}
}
