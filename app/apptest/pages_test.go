package apptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Pages of the documentation are written for tests, too. Code in them is fenced, and the word behind the fence says what it is:
//
//	sh            commands which a test runs, those of a page one after the other in one shell
//	sh terminal   a command which stays; it is started in the background
//	text          what the commands before print; <...> stands for anything
//	shell         commands which no test runs: a comment on the line before says why, <!-- not run: reason -->
//	yaml, promql, ini   no commands

// docPath returns the path of a page below docs.
func docPath(name string) string { return filepath.Join("../../docs", name) }

// readDoc returns the text of a page below docs.
func readDoc(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(docPath(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// guideStep is a block of commands of a page and what they print, if it says so.
type guideStep struct {
	commands, output string
	terminal         bool
}

func guideSteps(page string) []guideStep {
	var steps []guideStep
	for _, m := range regexp.MustCompile("(?ms)^```(sh|sh terminal|text)\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		if m[1] == "text" {
			steps[len(steps)-1].output = m[2]
		} else {
			steps = append(steps, guideStep{commands: m[2], terminal: m[1] == "sh terminal"})
		}
	}
	return steps
}

// pageRun is how the commands of a page are run by a test.
type pageRun struct {
	page          string            // below docs
	sameAddresses bool              // other ports only; without, addresses of loopback are others, too
	ports         []int             // that are used besides those of the local cluster
	settled       map[string]string // what to wait for after a terminal with this command
}

const endOfBlock = "end of block"

// script returns the commands of the page at other ports, and for a shell that stops at the first that fails.
func (r pageRun) script(t *testing.T, steps []guideStep, offset int) string {
	t.Helper()
	s := "set -euo pipefail\n" + // what was started last stops first
		"trap 'for p in $(jobs -p | tac); do kill $p 2>/dev/null && wait $p; done || true' EXIT\n" +
		fmt.Sprintf("make() { [ \"$*\" = cluster-up ] && exec bin/clusterup -bin bin -data cluster-data -portOffset=%d; }\n", offset)
	for i, step := range steps {
		if !step.terminal {
			s += step.commands + "echo " + endOfBlock + "\n"
			continue
		}
		command := "exec " + step.commands // so that it is what gets the signal in the end
		if strings.HasPrefix(step.commands, "make ") {
			command = step.commands // the function above
		}
		s += fmt.Sprintf("(\n%s) >terminal-%d.log 2>&1 &\n", command, i)
		for command, wait := range r.settled {
			if strings.Contains(step.commands, command) {
				s += fmt.Sprintf("until %s; do kill -0 $!; sleep 0.1; done\n", strings.ReplaceAll(wait, "LOG", fmt.Sprintf("terminal-%d.log", i)))
			}
		}
		s += "echo " + endOfBlock + "\n"
	}
	if !r.sameAddresses {
		s = strings.ReplaceAll(s, "127.0.0.", fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256)))
	}
	return shiftPorts(s, offset)
}

// shiftPorts adds an offset to all port numbers that the pages use.
func shiftPorts(s string, offset int) string {
	return regexp.MustCompile(`:(8[345]\d\d|9[01]\d\d)\b`).ReplaceAllStringFunc(s, func(port string) string {
		n, err := strconv.Atoi(port[1:])
		if err != nil {
			panic(err) // four digits
		}
		return ":" + strconv.Itoa(n+offset)
	})
}

// run runs all commands of the page in one shell, in a folder with bin and deployment, and compares what they print.
func (r pageRun) run(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Dir(binary(t, "vmstorage")), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	offset := freeOffset(t, r.ports...)
	r.copyPrometheus(t, dir, offset)
	steps := guideSteps(readDoc(t, r.page))
	if len(steps) < 5 {
		t.Fatalf("the page has only %d blocks of commands", len(steps))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", r.script(t, steps, offset))
	var stdout, stderr output
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // its processes end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	outputs := strings.Split(stdout.String(), endOfBlock+"\n")
	if err != nil {
		t.Errorf("block %d of commands fails: %s\n%s%s", len(outputs), err, steps[min(len(outputs), len(steps))-1].commands, stderr.String())
	}
	for i, s := range steps {
		if i < len(outputs) && s.output != "" && !printed(s.output, outputs[i]) {
			t.Errorf("block %d prints\n%s\nand the page says\n%s", i+1, outputs[i], s.output)
		}
	}
	if t.Failed() {
		showFiles(t, filepath.Join(dir, "*.log"))
	}
}

// printed reports whether got is what the page says, apart from spaces.
func printed(want, got string) bool {
	pattern := regexp.MustCompile(`<[^<>]*>`).ReplaceAllString(regexp.QuoteMeta(strings.ReplaceAll(want, " ", "")), `.+`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(strings.ReplaceAll(got, " ", ""))
}

// copyPrometheus copies the configuration of deployment with other ports.
func (r pageRun) copyPrometheus(t *testing.T, dir string, offset int) {
	t.Helper()
	text, err := os.ReadFile("../../deployment/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "deployment", "prometheus")
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(shiftPorts(string(text), offset), "scrape_interval: 15s", "scrape_interval: 10s", 1)
	if err := os.WriteFile(filepath.Join(to, "prometheus.yml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestQuickStart(t *testing.T) {
	t.Parallel()
	peer(t, "prometheus")
	peer(t, "prometheus-node-exporter")
	pageRun{page: "quick-start.md", sameAddresses: true, ports: []int{8428, 9090, 9100}, settled: map[string]string{
		"cluster-up":       "grep -q 'The cluster is up' LOG",
		"victoria-metrics": "curl -fs http://127.0.0.1:8428/health",
	}}.run(t)
}

// TestOperatorGuideCommands runs all commands of the guide in one shell, at other loopback addresses and ports.
func TestOperatorGuideCommands(t *testing.T) {
	t.Parallel()
	pageRun{page: "cluster-operations.md"}.run(t)
}

// TestClusterGuideCommands is for the guide by which people set up a cluster.
func TestClusterGuideCommands(t *testing.T) {
	t.Parallel()
	pageRun{page: "cluster-guide.md", ports: []int{8420, 8421, 8428}}.run(t)
}

func TestDisasterRecovery(t *testing.T) {
	t.Parallel()
	pageRun{page: "disaster-recovery.md", ports: []int{8420, 8421}}.run(t)
}

// TestMovingFromVictoriaMetrics is for the page about it.
func TestMovingFromVictoriaMetrics(t *testing.T) {
	t.Parallel()
	peer(t, "victoria-metrics")
	pageRun{page: "upgrade.md", ports: []int{8428}, settled: map[string]string{"victoria-metrics": "curl -fs http://127.0.0.1:8428/health"}}.run(t)
}

// TestDirectoryOfVictoriaMetrics: a node that is started on it warns, and leaves it as it is.
func TestDirectoryOfVictoriaMetrics(t *testing.T) {
	t.Parallel()
	path := peer(t, "victoria-metrics")
	data, addr := t.TempDir(), freeAddr(t)
	args := []string{"-storageDataPath=" + data, "-httpListenAddr=" + addr, "-retentionPeriod=100y"}
	startTheirs := func() *process {
		theirs := start(t, spec{name: "VictoriaMetrics", binary: path, args: args})
		eventually(t, startTimeout, "answer of VictoriaMetrics", func() error {
			_, err := do(http.MethodGet, "http://"+addr+"/health", nil)
			return err
		})
		return theirs
	}
	theirs := startTheirs()
	request(t, http.MethodPost, "http://"+addr+"/api/v1/import/prometheus", fmt.Appendf(nil, "kept 5 %d\n", fixed)).want(t, http.StatusNoContent)
	theirs.stop(syscall.SIGINT)
	ours := start(t, spec{binary: "victoria-metrics", args: args})
	ours.waitLog(`^directory ".*" is of VictoriaMetrics, `)
	ours.httpAddr()
	mustWrite(t, "http://"+addr+"/api/v1/write", series("__name__", "kept").at(fixed, 6))
	ours.stop(syscall.SIGINT)
	theirs = startTheirs()
	get(t, "http://"+addr+"/api/v1/export", "match[]", "kept").want(t, http.StatusOK, `"values":[5]`)
	theirs.stop(syscall.SIGINT)
}
