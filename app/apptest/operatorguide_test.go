package apptest

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// operatorGuide returns the text of docs/cluster-operations.md.
func operatorGuide(t *testing.T) string {
	t.Helper()
	return readDoc(t, "cluster-operations.md")
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
	monitoring := readDoc(t, "monitoring.md")
	c := startCluster(t, clusterOptions{})
	page := func(addr string) string { return get(t, "http://"+addr+"/metrics").want(t, http.StatusOK).body }
	aggregation := filepath.Join(t.TempDir(), "aggregation.yml")
	if err := os.WriteFile(aggregation, []byte("- {match: aggregated, interval: 1m, outputs: [last]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	single := startSingle(t, "-streamAggr.config="+aggregation)
	addrs := map[string]string{"vminsert": c.insertAddr, "vmselect": c.selectAddr, "vmstorage": c.storage[0].http, "single node": single.addr}
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
	everywhere := strings.Join(slices.Collect(maps.Values(pages)), "")
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
	texts, err := sourceTexts()
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var sourceTexts = sync.OnceValues(func() ([]string, error) {
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
	return texts, errors.Join(filepath.WalkDir("../../lib", visit), filepath.WalkDir("../../app", visit))
})

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
