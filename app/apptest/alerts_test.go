package apptest

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v4"
)

const alertsDir = "../../deployment/alerts"

// alertRule is a rule of a file in deployment/alerts.
type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// alertRules returns the rules by file.
func alertRules(t *testing.T) map[string][]alertRule {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(alertsDir, "*.yml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("files with alerts: %q, %v", files, err)
	}
	rules := map[string][]alertRule{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Groups []struct{ Rules []alertRule } }
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %s", path, err)
		}
		for _, g := range file.Groups {
			rules[filepath.Base(path)] = append(rules[filepath.Base(path)], g.Rules...)
		}
	}
	return rules
}

// metricsOf returns the names of the metrics in an expression, which must be PromQL.
func metricsOf(t *testing.T, expr string) (names []string) {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("Prometheus cannot parse %s: %s", expr, err)
		return nil
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			names = append(names, s.Name)
		}
		return nil
	})
	return names
}

// exportedMetrics returns the metrics that some process has.
func exportedMetrics(t *testing.T) map[string]bool {
	names := map[string]bool{}
	for _, m := range metricList(t) {
		if len(m.processes) > 0 {
			names[m.family] = true
		}
	}
	return names
}

// TestAlerts: every alert is over metrics that we have, tells what to do, and is tested to fire and to stay quiet. What two files have is the same.
func TestAlerts(t *testing.T) {
	names, seen, uids := exportedMetrics(t), map[string]alertRule{}, map[string]bool{"": true}
	for _, d := range dashboards(t) {
		uids[d.UID] = true
	}
	for file, rules := range alertRules(t) {
		tests, err := os.ReadFile(filepath.Join(alertsDir, "tests", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			for _, name := range metricsOf(t, r.Expr) {
				if !names[name] && name != "up" { // which is of the scraper
					t.Errorf("%s of %s: no process has %s", r.Alert, file, name)
				}
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s of %s has no summary, description or severity: %v %v", r.Alert, file, r.Annotations, r.Labels)
			}
			if _, link, _ := strings.Cut(r.Annotations["dashboard"], "/d/"); !uids[strings.SplitN(link, "/", 2)[0]] {
				t.Errorf("%s of %s has a link to a dashboard which is not there: %s", r.Alert, file, link)
			}
			if n := len(regexp.MustCompile(`alertname(: |=")`+r.Alert+`\b`).FindAll(tests, -1)); n < 2 {
				t.Errorf("%s of %s has %d tests; want two, one of which fires", r.Alert, file, n)
			}
			old, ok := seen[r.Alert]
			old.Annotations, r.Annotations = nil, nil // links differ
			if ok && !reflect.DeepEqual(old, r) {
				t.Errorf("%s is not the same everywhere: %v and %v", r.Alert, old, r)
			}
			seen[r.Alert] = r
		}
	}
	readme, err := os.ReadFile(filepath.Join(alertsDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range seen {
		if !regexp.MustCompile("(?m)^\\| `" + name + "` \\| [a-z, ]+ \\| " + r.Labels["severity"] + " \\| .").Match(readme) {
			t.Errorf("%s/README.md does not say what %s means, and that it is %s", alertsDir, name, r.Labels["severity"])
		}
	}
}

// TestAlertsByPromtool lets promtool check all rules and run their tests.
func TestAlertsByPromtool(t *testing.T) {
	promtool := peer(t, "promtool")
	t.Parallel()
	for what, pattern := range map[string]string{"check": "*.yml", "test": "tests/*.yml"} {
		files, err := filepath.Glob(filepath.Join(alertsDir, pattern))
		if err != nil || len(files) < 4 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		if out, err := exec.Command(promtool, append([]string{what, "rules"}, files...)...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s rules: %s\n%s", what, err, out)
		}
	}
}

// TestAlertsCanFail: promtool finds an alert that no longer fires, so that its tests are worth something.
func TestAlertsCanFail(t *testing.T) {
	promtool := peer(t, "promtool")
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tests"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, change := range map[string][2]string{"tenants.yml": {"_reload_successful == 0", "_reload_successful == 2"}, "tests/tenants.yml": {"", ""}} {
		text, err := os.ReadFile(filepath.Join(alertsDir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, from), []byte(strings.Replace(string(text), change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(promtool, "test", "rules", filepath.Join(dir, "tests", "tenants.yml")).CombinedOutput(); err == nil || !strings.Contains(string(out), `exp: {alertname="TenantLimitsNotReloaded"}`) {
		t.Errorf("an alert that never fires: %v\n%s", err, out)
	}
}

// pushTo makes a process send its metrics, as a scraper would, with the labels which that gives them.
func pushTo(s *single, job string) []string {
	return []string{"-pushmetrics.url=" + s.url("/api/v1/import/prometheus"), "-pushmetrics.interval=200ms", "-pushmetrics.extraLabel=instance=" + job + ":1", "-pushmetrics.extraLabel=job=" + job}
}

// TestAlertsFire: the alerts are silent over the metrics of a healthy cluster, which another database has, and some fire when a node is lost.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	watcher := startSingle(t)
	c := startCluster(t, clusterOptions{storageArgs: pushTo(watcher, "vmstorage"), insertArgs: pushTo(watcher, "vminsert"), selectArgs: pushTo(watcher, "vmselect")})
	answer := func(expr string) []string { return instant(t, watcher.url(""), expr, time.Now().UnixMilli()) }
	for _, role := range []string{"vmstorage", "vminsert", "vmselect"} {
		waitFound(t, watcher.url(""), `count_over_time(vm_app_uptime_seconds{job="`+role+`"}[1m]) > 2`)
	}
	alerts, byFile := map[string]string{}, alertRules(t)
	for _, r := range slices.Concat(byFile["cluster.yml"], byFile["health.yml"], byFile["tenants.yml"]) {
		alerts[r.Alert] = r.Expr
		if got := answer(r.Expr); r.For == "" && len(got) > 0 {
			t.Errorf("alert %s of a cluster that has just started: %s: %v", r.Alert, r.Expr, got)
		}
		get(t, watcher.url("/api/v1/query"), "query", r.Expr, "dialect", "promql").want(t, http.StatusOK, `"status":"success"`)
	}
	c.storage[1].kill()
	for _, name := range []string{"StorageNotReachedByInsert", "StorageNotReachedBySelect", "RowsRerouted", "PartialAnswers", "RPCErrors"} {
		if alerts[name] == "" {
			t.Fatalf("there is no alert %s", name)
		}
		eventually(t, patience, "alert "+name, func() error {
			writeMany(t, c.writeURL("0"), "temperature", 50) // of which the lost node gets none with a chance of 2^-50
			get(t, c.readURL("0")+"/api/v1/query", "query", "temperature").want(t, http.StatusOK, `"isPartial":true`)
			if len(answer(alerts[name])) == 0 {
				return errors.New(alerts[name] + " has no answer")
			}
			return nil
		})
	}
}
