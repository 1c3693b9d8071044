package apptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gridPanel is what a test needs of a panel of a Grafana dashboard.
type gridPanel struct {
	ID                       int
	Type, Title, Description string
	Collapsed                bool
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct{ Expr string }
	Panels                   []gridPanel // of a row that is closed
}

// grafanaDashboard is the same of a dashboard.
type grafanaDashboard struct {
	UID, Title  string
	Panels      []gridPanel
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct {
			Name, Type string
		}
	}
}

// all returns the panels which are not rows.
func (d *grafanaDashboard) all() (list []gridPanel) {
	for _, p := range d.Panels {
		if p.Type != "row" {
			list = append(list, p)
		}
		list = append(list, p.Panels...)
	}
	return list
}

// dashboards reads deployment/dashboards.
func dashboards(t *testing.T) map[string]*grafanaDashboard {
	t.Helper()
	files, err := filepath.Glob("../../deployment/dashboards/*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("dashboards: %q, %v", files, err)
	}
	list := map[string]*grafanaDashboard{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := &grafanaDashboard{}
		if err := json.Unmarshal(text, d); err != nil {
			t.Fatalf("%s: %s", path, err)
		}
		list[strings.TrimSuffix(filepath.Base(path), ".json")] = d
	}
	return list
}

// substitute puts in the values that variables have at first, and those which Grafana knows.
func (d *grafanaDashboard) substitute(expr string) string {
	pairs := []string{"$__rate_interval", "5s", "$__interval", "1s", "$__range", "1h"}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			pairs = append(pairs, `"$`+v.Name+`"`, `".*"`)
		}
	}
	return strings.NewReplacer(pairs...).Replace(expr)
}

// TestDashboards: panels lie beside one another within 24 columns and say what they are for; their queries are PromQL over metrics which we have.
func TestDashboards(t *testing.T) {
	names, uids := exportedMetrics(t), map[string]bool{}
	for file, d := range dashboards(t) {
		if d.UID == "" || uids[d.UID] {
			t.Errorf("%s: uid %q", file, d.UID)
		}
		uids[d.UID] = true
		ids := map[int]bool{}
		checkGrid(t, file, d.Panels, ids)
		for _, p := range d.Panels {
			checkGrid(t, file, p.Panels, ids)
		}
		for _, a := range d.Annotations.List {
			metricsOf(t, d.substitute(a.Expr))
		}
		for _, p := range d.all() {
			if p.Description == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %q has no description, or no query", file, p.Title)
			}
			for _, target := range p.Targets {
				expr := d.substitute(target.Expr)
				if strings.Contains(expr, "$") {
					t.Errorf("%s: panel %q has an unknown variable: %s", file, p.Title, expr)
				}
				for _, name := range metricsOf(t, expr) {
					if !names[name] {
						t.Errorf("%s: panel %q asks for %s, which no process has", file, p.Title, name)
					}
				}
			}
		}
	}
	for _, uid := range []string{"oS7Bi_0Wz", "wNf0q_kZk", "IZFqd3lMz"} { // links of others lead to these
		if !uids[uid] {
			t.Errorf("no dashboard has the uid %s", uid)
		}
	}
}

// checkGrid: no panel lies upon another or beyond the columns, and no id comes twice.
func checkGrid(t *testing.T, file string, panels []gridPanel, ids map[int]bool) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d comes twice", file, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: %q lies at %v", file, p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%s: %q lies upon %q", file, p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// panelQuery is a query of a panel which has not found anything yet.
type panelQuery struct{ panel, expr, dialect string }

// TestDashboardQueries runs every query of every panel, in both languages, over the metrics of a cluster, a single node and, made up, of backups. All
// find something: what counts errors is there at 0, and what is not there before the first has been provoked.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	limits := filepath.Join(t.TempDir(), "limits")
	if err := os.WriteFile(limits, []byte("5 samples_per_second=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	watcher := startSingle(t, "-selfScrapeInterval=200ms", "-search.latencyOffset=0s")
	tenants := "-tenantLimits.config=" + limits
	w := &watched{single: watcher, cluster: startCluster(t, clusterOptions{
		storageArgs: pushTo(watcher, "vmstorage"), insertArgs: append(pushTo(watcher, "vminsert"), tenants), selectArgs: append(pushTo(watcher, "vmselect"), tenants),
	})}
	w.use(t)
	w.cluster.flush()
	get(t, watcher.url("/internal/force_flush")).want(t, http.StatusOK)
	var left []panelQuery
	for file, d := range dashboards(t) {
		for _, p := range d.all() {
			for _, target := range p.Targets {
				for _, dialect := range []string{"metricsql", "promql"} {
					left = append(left, panelQuery{file + ": " + p.Title, d.forJobs(file, target.Expr), dialect})
				}
			}
		}
	}
	if len(left) < 500 {
		t.Errorf("only %d queries", len(left))
	}
	deadline := time.Now().Add(2 * patience)
	for len(left) > 0 && !time.Now().After(deadline) {
		w.use(t)
		w.beyondLimits(t)
		w.backupMetrics(t)
		var still []panelQuery
		for _, q := range left {
			if !w.finds(t, q) {
				still = append(still, q)
			}
		}
		left = still
	}
	for _, q := range left {
		if !uncounted(q.expr) {
			t.Errorf("%s finds nothing in %s: %s", q.panel, q.dialect, q.expr)
		}
	}
}

// forJobs substitutes variables, so that each dashboard sees the processes which it is about.
func (d *grafanaDashboard) forJobs(file, expr string) string {
	jobs := map[string]string{
		"victoriametrics": `job=~"victoria-metrics"`, "victoriametrics-cluster": `job=~"vm(storage|insert|select)"`, "clusterbytenant": `job=~"vm(storage|insert|select)"`, "backupmanager": `job=~"vmbackupmanager"`,
	}
	pairs := []string{`job=~"$job"`, jobs[file]}
	for _, role := range []string{"storage", "insert", "select"} {
		pairs = append(pairs, `job=~"$job_`+role+`"`, `job=~"vm`+role+`"`)
	}
	return d.substitute(strings.NewReplacer(pairs...).Replace(expr))
}

// finds reports whether a query has an answer with a number in it.
func (w *watched) finds(t *testing.T, q panelQuery) bool {
	t.Helper()
	a := get(t, w.single.url("/api/v1/query"), "query", q.expr, "time", seconds(time.Now().UnixMilli()), "dialect", q.dialect)
	if a.status != http.StatusOK {
		t.Fatalf("%s: %s: %s", q.panel, q.expr, a)
	}
	for _, series := range vector(t, parseQuery(t, a)) {
		if _, value, _ := cutLast(series, " "); value != "NaN" {
			return true
		}
	}
	return false
}

// beyondLimits makes a tenant send more than it may.
func (w *watched) beyondLimits(t *testing.T) {
	t.Helper()
	eventually(t, patience, "refusal for a limit", func() error {
		if a := request(t, http.MethodPost, w.cluster.writeURL("5")+"/api/v1/import/prometheus", []byte("x 1\nx 2\nx 3\n")); a.status != http.StatusTooManyRequests {
			return errors.New(a.String())
		}
		return nil
	})
}

// backupMetrics stores what vmbackupmanager would say.
func (w *watched) backupMetrics(t *testing.T) {
	t.Helper()
	var b strings.Builder
	for _, m := range metricList(t) {
		if len(m.processes) != 1 || !strings.HasPrefix(m.processes[0], "vmbackup") && m.processes[0] != "vmrestore" {
			continue
		}
		labels := `job="vmbackupmanager",instance="b:1"`
		if _, ok := m.labels["type"]; ok {
			labels += `,type="daily"`
		}
		fmt.Fprintf(&b, "%s{%s} 1\n", m.family, labels)
	}
	request(t, http.MethodPost, w.single.url("/api/v1/import/prometheus"), []byte(b.String())).want(t, http.StatusNoContent)
}
