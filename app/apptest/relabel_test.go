package apptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// droppedSeries is a series of the load which the rules drop.
const droppedSeries = "7"

// relabelFile is a file of rules which mark series with the number of their version, once before and once after other rules.
type relabelFile struct {
	t    *testing.T
	path string
}

func newRelabelFile(t *testing.T) *relabelFile {
	t.Helper()
	f := &relabelFile{t: t, path: filepath.Join(t.TempDir(), "rules.yml")}
	f.write(f.version(1))
	return f
}

func (f *relabelFile) version(n int) string {
	return fmt.Sprintf(`
- {target_label: first, replacement: "%d"}
- {action: drop, if: 'load{series="%s"}'}
- {source_labels: [writer], target_label: writer, replacement: "writer-$1"}
- {target_label: last, replacement: "%d"}
`, n, droppedSeries, n)
}

// write replaces the file at once, as a reader may come at any time.
func (f *relabelFile) write(text string) {
	f.t.Helper()
	err := os.WriteFile(f.path+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// metric checks a metric about the file.
func (f *relabelFile) metric(addr, name string, want int) {
	f.t.Helper()
	if n, err := metric(addr, "vm_relabel_config_"+name); err != nil || n != float64(want) {
		f.t.Errorf("vm_relabel_config_%s is %v, %v; want %d", name, n, err, want)
	}
}

// TestRelabelReload: while rules change under load, by SIGHUP and by /-/reload, no sample is lost, and each request is relabelled by one version.
func TestRelabelReload(t *testing.T) {
	t.Parallel()
	t.Run("single", func(t *testing.T) {
		f := newRelabelFile(t)
		s := startSingle(t, "-relabelConfig="+f.path)
		testRelabelReload(t, f, s.process, s.addr, s.url("/api/v1/write"), s.url(""))
	})
	t.Run("cluster", func(t *testing.T) {
		f := newRelabelFile(t)
		c := startCluster(t, clusterOptions{insertArgs: []string{"-relabelConfig=" + f.path}})
		testRelabelReload(t, f, c.insert, c.insertAddr, c.writeURL("0")+"/api/v1/write", c.readURL("0"))
		f.write("- {source_labels: [team], target_label: vm_account_id}\n- {action: labeldrop, regex: team}\n")
		get(t, "http://"+c.insertAddr+"/-/reload").want(t, http.StatusNoContent)
		mustWrite(t, c.writeURL("multitenant")+"/api/v1/write", series("__name__", "of_team", "team", "17").at(fixed, 1))
		c.flush()
		if got := export(t, c.readURL("17"), "of_team"); len(got) != 1 || got[`{"__name__":"of_team"}`] == nil {
			t.Errorf("tenant 17 has %v", got)
		}
	})
}

func testRelabelReload(t *testing.T, f *relabelFile, p *process, addr, writeURL, readURL string) {
	t.Helper()
	const versions = 12
	l := startLoad(t, writeURL)
	l.waitAcked(t, 20)
	reloads := 0
	reload := func(status int) {
		t.Helper()
		reloads++
		get(t, "http://"+addr+"/-/reload").want(t, status)
	}
	for n := 2; n <= versions; n++ {
		f.write(f.version(n))
		if n%2 == 0 {
			reload(http.StatusNoContent)
		} else {
			reloads++
			p.signal(syscall.SIGHUP)
			waitMetric(t, float64(reloads), addr, "vm_relabel_config_reloads_total")
		}
		l.waitAcked(t, 20)
		if n == versions/2 {
			f.write(f.version(99) + "- {action: nosuch}\n")
			reload(http.StatusBadRequest)
			f.metric(addr, "last_reload_successful", 0)
			l.waitAcked(t, 20)
		}
	}
	f.metric(addr, "last_reload_successful", 1)
	f.metric(addr, "reloads_errors_total", 1)
	f.metric(addr, "reloads_total", reloads)
	l.stop()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d writes failed: %v", n, l.last)
	}
	seen := map[int]bool{}
	for w := range loadWriters {
		for _, n := range l.versions(t, readURL, w) {
			seen[n] = true
		}
	}
	if len(seen) != versions {
		t.Errorf("versions %v were in use; want all of %d", seen, versions)
	}
	if n, err := metric(addr, "vm_relabel_metrics_dropped_total"); err != nil || int64(n) != l.acked.Load() {
		t.Errorf("%v series were dropped, %v; want one of each of %d requests", n, err, l.acked.Load())
	}
}

// versions returns by which versions of the rules the requests of a writer were relabelled, and checks that nothing is missing or mixed up.
func (l *load) versions(t *testing.T, base string, w int) []int {
	t.Helper()
	requests := len(l.results[w])
	versions := make([]int, requests)
	count := make([]int, requests)
	for key, points := range export(t, base, fmt.Sprintf(`load{writer="writer-%d"}`, w), "reduce_mem_usage", "1") {
		var labels map[string]string
		if err := json.Unmarshal([]byte(key), &labels); err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(labels["first"])
		s, errSeries := strconv.Atoi(labels["series"])
		if err != nil || errSeries != nil || labels["last"] != labels["first"] || labels["series"] == droppedSeries || len(labels) != 5 {
			t.Errorf("series %s was never to be stored", key)
			continue
		}
		for _, p := range points {
			r := int(p.ms-l.start) / loadStepMs
			if r >= requests || number(p.value) != loadValue(w, r, s) || versions[r] != 0 && versions[r] != n {
				t.Fatalf("series %s has %s@%d, of request %d, whose version is %d", key, p.value, p.ms, r, versions[r])
			}
			versions[r] = n
			count[r]++
		}
	}
	for r, n := range count {
		if n != loadSeries-1 {
			t.Errorf("writer %d: request %d has %d samples; want %d", w, r, n, loadSeries-1)
		}
	}
	if !slices.IsSorted(versions) {
		t.Errorf("writer %d: versions %v go back", w, versions)
	}
	return versions
}

// TestBadRelabelConfig: bad rules keep a process from starting, and the message says what to do.
func TestBadRelabelConfig(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte("- action: replace\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for binary, args := range map[string][]string{"victoria-metrics": nil, "vminsert": {"-storageNode=127.0.0.1:1"}} {
		args = append(args, "-httpListenAddr=127.0.0.1:0", "-relabelConfig="+path)
		r := runToEnd(t, spec{binary: binary, args: args})
		if want := "rule 1 in line 1: cannot use action replace without target_label; add it"; r.status != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s ends with status %d and %q; want %q", binary, r.status, r.stderr, want)
		}
	}
}
