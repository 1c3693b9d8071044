package apptest

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
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

// operatorGuide returns the text of docs/cluster-operations.md.
func operatorGuide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/cluster-operations.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// guideStep is a block of commands of the guide and what they print, if it says so.
type guideStep struct{ commands, output string }

func guideSteps(guide string) []guideStep {
	var steps []guideStep
	for _, m := range regexp.MustCompile("(?ms)^```(sh|text)\n(.*?)^```$").FindAllStringSubmatch(guide, -1) {
		if m[1] == "sh" {
			steps = append(steps, guideStep{commands: m[2]})
		} else {
			steps[len(steps)-1].output = m[2]
		}
	}
	return steps
}

// TestOperatorGuideCommands runs all commands of the guide in one shell, at other loopback addresses and ports.
func TestOperatorGuideCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Dir(binary(t, "vmstorage")), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	steps := guideSteps(operatorGuide(t))
	if len(steps) < 7 {
		t.Fatalf("the guide has only %d blocks of commands", len(steps))
	}
	const end = "end of block"
	script := "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
	for _, s := range steps {
		script += s.commands + "echo " + end + "\n"
	}
	offset := freeOffset(t)
	script = strings.ReplaceAll(script, "127.0.0.", fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256)))
	script = regexp.MustCompile(`:8[45]\d\d\b`).ReplaceAllStringFunc(script, func(port string) string {
		n, err := strconv.Atoi(port[1:])
		if err != nil {
			t.Fatal(err)
		}
		return ":" + strconv.Itoa(n+offset)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	var stdout, stderr output
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // its processes end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	outputs := strings.Split(stdout.String(), end+"\n")
	if err != nil {
		t.Errorf("block %d of commands fails: %s\n%s%s", len(outputs), err, steps[min(len(outputs), len(steps))-1].commands, stderr.String())
	}
	for i, s := range steps {
		if i < len(outputs) && s.output != "" && strings.ReplaceAll(outputs[i], " ", "") != strings.ReplaceAll(s.output, " ", "") {
			t.Errorf("block %d prints\n%s\nand the guide says\n%s", i+1, outputs[i], s.output)
		}
	}
	if t.Failed() {
		showFiles(t, filepath.Join(dir, "*.log"))
	}
}

// guideTables returns the rows of all tables below a heading, up to the next one of the same or a higher level, without headers.
func guideTables(t *testing.T, guide, heading string) [][]string {
	t.Helper()
	_, text, ok := strings.Cut(guide, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("the guide has no section %q", heading)
	}
	level := strings.Count(heading, "#")
	var rows [][]string
	for line := range strings.Lines(text) {
		if n := len(line) - len(strings.TrimLeft(line, "#")); n > 0 && n <= level {
			break
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "|--") {
			rows = rows[:len(rows)-1] // the header
		} else if strings.HasPrefix(line, "| ") {
			rows = append(rows, strings.Split(strings.Trim(line, "| "), " | "))
		}
	}
	if len(rows) == 0 {
		t.Fatalf("section %q of the guide has no table", heading)
	}
	return rows
}

// quoted returns the texts in backquotes.
func quoted(text string) []string {
	var list []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			list = append(list, part)
		}
	}
	return list
}

// missingMetric tells why a page of metrics does not have name{label,...}, or returns nothing.
func missingMetric(page, metric string) string {
	name, labels, _ := strings.Cut(strings.TrimSuffix(metric, "}"), "{")
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `[{ ].*$`).FindString(page)
	if line == "" {
		return "it is not there"
	}
	for _, label := range strings.Split(labels, ",") {
		if label != "" && !regexp.MustCompile(`[{ ,]`+regexp.QuoteMeta(strings.TrimSpace(label))+`="`).MatchString(line) {
			return "it has no label " + label
		}
	}
	return ""
}

// TestOperatorGuideMetrics looks for every metric that the guides to clusters and to monitoring name, at the processes which they name.
func TestOperatorGuideMetrics(t *testing.T) {
	t.Parallel()
	guide := operatorGuide(t)
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	monitoring := string(text)
	c := startCluster(t, clusterOptions{})
	page := func(addr string) string { return get(t, "http://"+addr+"/metrics").want(t, http.StatusOK).body }
	addrs := map[string]string{"vminsert": c.insertAddr, "vmselect": c.selectAddr, "vmstorage": c.storage[0].http}
	pages := map[string]string{}
	for name, addr := range addrs {
		pages[name] = page(addr)
	}
	writeMany(t, c.writeURL("0"), "temperature", 50)
	get(t, c.readURL("0")+"/api/v1/query", "query", "temperature").want(t, http.StatusOK)
	// A tenant has metrics once it has written or read, and paths have quantiles; all others are there from the start. At vmstorage it is counted now and then.
	eventually(t, patience, "metrics of a tenant", func() error {
		if why := missingMetric(page(addrs["vmstorage"]), "vm_tenant_active_timeseries{accountID,projectID}"); why != "" {
			return errors.New(why)
		}
		return nil
	})
	for name, addr := range addrs {
		pages[name] += strings.Join(regexp.MustCompile(`(?m)^(vm_tenant_|vm_request_duration_seconds\{).*\n`).FindAllString(page(addr), -1), "")
	}
	everywhere := pages["vminsert"] + pages["vmselect"] + pages["vmstorage"]
	checked := 0
	for _, cells := range guideTables(t, monitoring, "## Metrics") {
		processes := strings.Split(cells[0], ", ")
		if cells[0] == "all" {
			processes = []string{"vminsert", "vmselect", "vmstorage"}
		}
		for _, metric := range quoted(cells[1]) {
			if strings.HasPrefix(metric, "type=") {
				if !strings.Contains(pages[processes[0]], "{"+metric) {
					t.Errorf("no metric of %s has the label %s", cells[0], metric)
				}
				continue
			}
			for _, p := range processes {
				if why := missingMetric(pages[p], metric); why != "" && !uncounted(metric) {
					t.Errorf("%s of %s: %s", metric, p, why)
				}
			}
			checked++
		}
	}
	if checked < 80 {
		t.Errorf("only %d metrics were looked for", checked)
	}
	for _, name := range regexp.MustCompile(`\b(vm|process)_[a-z0-9_]+`).FindAllString(guide+monitoring, -1) {
		if why := missingMetric(everywhere, name); why != "" && !strings.HasSuffix(name, "_") && !uncounted(name) {
			t.Errorf("%s: %s", name, why)
		}
	}
}

// blank is what stands for a value in a log line.
const blank = "\x00"

// logTexts returns the string literals of all packages, with blanks for the values that are formatted into them.
func logTexts(t *testing.T) []string {
	t.Helper()
	verb := regexp.MustCompile(`%[-+#0]*[\d.]*[a-zA-Z]`)
	var texts []string
	visit := func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, unquoteErr := strconv.Unquote(lit.Value)
			err = errors.Join(err, unquoteErr)
			texts = append(texts, verb.ReplaceAllString(strings.ReplaceAll(text, "%q", `"%s"`), blank))
			return true
		})
		return err
	}
	for _, root := range []string{"../../lib", "../../app"} {
		if err := filepath.WalkDir(root, visit); err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

// inTexts reports whether a log line of the guide, with <value> and ... for what varies, is the beginning of a text.
func inTexts(texts []string, line string) bool {
	open := strings.HasSuffix(line, " ...")
	line = regexp.MustCompile(`<[^<>]*>`).ReplaceAllString(strings.TrimSuffix(line, " ..."), blank)
	for _, text := range texts {
		if text == line || open && strings.HasPrefix(text, line) {
			return true
		}
	}
	return false
}

// TestOperatorGuideLogLines looks for the log lines of the guide in the source: not all of them can be provoked.
func TestOperatorGuideLogLines(t *testing.T) {
	t.Parallel()
	texts := logTexts(t)
	if !inTexts(texts, `storage node "<address>" is read-only, ...`) || inTexts(texts, `storage node "<address>" is read-only`) || inTexts(texts, `storage node "<address>" is red, ...`) {
		t.Fatal("the search finds too little or too much")
	}
	for _, cells := range guideTables(t, operatorGuide(t), "### Log lines") {
		for _, line := range quoted(cells[1]) {
			if !inTexts(texts, line) {
				t.Errorf("nobody logs %q", line)
			}
		}
	}
}

// TestReadmeCommands runs the curl commands of the README against a cluster with other addresses.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	c := startCluster(t, clusterOptions{})
	wants := []string{`"result":[]`, ``, `"values":[42]`, `,"42"]`}
	commands := regexp.MustCompile(`(?m)^    (curl .*)$`).FindAllStringSubmatch(string(text), -1)
	if len(commands) != len(wants) {
		t.Fatalf("the README has %d commands; want %d", len(commands), len(wants))
	}
	for i, want := range wants {
		command := strings.NewReplacer("127.0.0.1:8480", c.insertAddr, "127.0.0.1:8481", c.selectAddr).Replace(commands[i][1])
		eventually(t, patience, command, func() error { // a query is for the beginning of the second
			out, err := exec.Command("bash", "-c", command+" -fsS").CombinedOutput()
			if err == nil && !strings.Contains(string(out), want) {
				err = fmt.Errorf("the answer is %q; want %q in it", out, want)
			}
			return err
		})
	}
}
