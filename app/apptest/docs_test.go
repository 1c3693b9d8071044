package apptest

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// markdown returns the texts of all pages of the repository by their paths from its root.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") && path != root) {
			return fs.SkipDir
		}
		if strings.HasSuffix(name, ".md") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			pages[filepath.ToSlash(rel)] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var fenced = regexp.MustCompile("(?ms)^```.*?^```$\n?")

// anchors returns the names by which headings of a page are linked to, as GitHub makes them.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(m[1]))
		for base, n := name, 1; found[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		found[name] = true
	}
	return found
}

// TestLinks: what the pages link to within the repository is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages := markdown(t)
	if found := anchors("# A `b` c, d\n```\n# no\n```\n## 备份 1\n# A b c d\n"); !maps.Equal(found, map[string]bool{"a-b-c-d": true, "备份-1": true, "a-b-c-d-1": true}) {
		t.Fatalf("anchors are %v", found)
	}
	checked := 0
	link := regexp.MustCompile(`\]\(([^()\s]+)\)`)
	for path, page := range pages {
		text := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(fenced.ReplaceAllString(page, ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			checked++
			name, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if name != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(path), name))
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s links to %s: %s", path, m[1], err)
			} else if anchor != "" && !anchors(pages[target])[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", path, m[1], target)
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d links were found", checked)
	}
}

// TestIndexOfPages: docs/README.md has all pages of its folder. Those of folders below are linked to from these.
func TestIndexOfPages(t *testing.T) {
	t.Parallel()
	index := readDoc(t, "README.md")
	for path := range markdown(t) {
		name, ok := strings.CutPrefix(path, "docs/")
		if ok && name != "README.md" && !strings.Contains(name, "/") && !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

// taughtPages are the pages whose commands people type one after the other: every block of code says what it is.
var taughtPages = []string{"quick-start.md", "cluster-guide.md", "cluster-operations.md", "disaster-recovery.md", "upgrade.md", "zh/cluster-guide.md", "zh/quick-start.md"}

func TestBlocksOfCode(t *testing.T) {
	t.Parallel()
	for _, name := range taughtPages {
		lines := strings.Split(readDoc(t, name), "\n")
		open := false
		for i, line := range lines {
			kind, fence := strings.CutPrefix(line, "```")
			if fence {
				open = !open
			}
			switch {
			case !fence || !open:
			case kind == "shell":
				if i == 0 || !regexp.MustCompile(`^<!-- not run: .{10,} -->$`).MatchString(lines[i-1]) {
					t.Errorf("%s:%d: no comment says why these commands are not run", name, i+1)
				}
			case !slices.Contains([]string{"sh", "sh terminal", "text", "yaml", "promql", "ini"}, kind):
				t.Errorf("%s:%d: a block of kind %q", name, i+1, kind)
			}
		}
	}
}

// TestTranslations: a page in another language has the same sections with the same code, names, tables and links; only words differ.
func TestTranslations(t *testing.T) {
	t.Parallel()
	for name := range markdown(t) {
		translated, ok := strings.CutPrefix(name, "docs/zh/")
		if !ok {
			continue
		}
		ours, theirs := sections(readDoc(t, translated)), sections(readDoc(t, "zh/"+translated))
		if len(ours) != len(theirs) {
			t.Errorf("%s has %d sections, the original %d", name, len(theirs), len(ours))
			continue
		}
		for i := range ours {
			if want, got := skeleton(ours[i]), skeleton(theirs[i]); want != got {
				heading, _, _ := strings.Cut(theirs[i], "\n")
				t.Errorf("%s: section %q differs from the original's. It has\n%s\nand should have\n%s", name, heading, got, want)
			}
		}
	}
}

// sections cuts a page at its headings.
func sections(page string) []string {
	blank := fenced.ReplaceAllStringFunc(page, func(block string) string { return strings.ReplaceAll(block, "\n#", "\n ") })
	var list []string
	last := 0
	for _, at := range regexp.MustCompile(`(?m)^#+ `).FindAllStringIndex(blank, -1) {
		list = append(list, page[last:at[0]])
		last = at[0]
	}
	return append(list, page[last:])
}

// skeleton returns what a section has whatever its language: level, code, names in a fixed order, shape of tables, files that are linked to.
func skeleton(section string) string {
	level := regexp.MustCompile(`^#*`).FindString(section)
	blocks := regexp.MustCompile("(?ms)^(<!-- not run|```.*?^```$)").FindAllString(section, -1)
	text := fenced.ReplaceAllString(section, "")
	blocks = append(blocks, regexp.MustCompile(`(?m)^    .*$`).FindAllString(text, -1)...)
	names := regexp.MustCompile("`[^`\n]+`").FindAllString(text, -1)
	for _, m := range regexp.MustCompile(`\]\(([^()\s#]*)`).FindAllStringSubmatch(text, -1) {
		link := strings.TrimPrefix(m[1], "../") // a translation lies one folder below
		if !strings.Contains(link, "cluster-guide.md") && !strings.Contains(link, "quick-start.md") {
			names = append(names, "link to "+strings.TrimPrefix(link, "../"))
		}
	}
	slices.Sort(names)
	var shape []string
	for _, line := range regexp.MustCompile(`(?m)^(\||- |\d+\. ).*$`).FindAllString(text, -1) {
		shape = append(shape, fmt.Sprintf("%c%d", line[0], strings.Count(line, " | ")))
	}
	return strings.Join(slices.Concat([]string{level}, blocks, names, shape), "\n")
}

// TestNamedTests: tests and targets that pages refer to exist.
func TestNamedTests(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, root := range []string{"../../lib", "../../app", "../../deployment"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
				known[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, page := range markdown(t) {
		if !strings.HasPrefix(path, "docs/") || strings.HasPrefix(path, "docs/design/") {
			continue
		}
		for _, m := range regexp.MustCompile("`(Test[A-Z]\\w+)").FindAllStringSubmatch(page, -1) {
			if !known[m[1]] && !slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(name string) bool { return strings.HasPrefix(name, m[1]) }) {
				t.Errorf("%s names %s, which is no test", path, m[1])
			}
		}
	}
}

// userPages returns the pages for those who use and run the product.
func userPages(t *testing.T) map[string]string {
	pages := markdown(t)
	for path := range pages {
		switch name := strings.TrimPrefix(path, "docs/"); {
		case strings.HasPrefix(name, "design/"), strings.HasPrefix(name, "format/"): // of the inside, and of what was considered
			delete(pages, path)
		case slices.Contains([]string{"ARCHITECTURE.md", "STYLE.md", "CHANGELOG.md"}, name): // of the code, and of the past
			delete(pages, path)
		case strings.HasPrefix(path, "app/"), strings.HasPrefix(path, "lib/"):
			delete(pages, path)
		}
	}
	return pages
}

// codeSpans returns what a page has in backquotes within lines.
func codeSpans(page string) []string {
	var spans []string
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		spans = append(spans, m[1])
	}
	return spans
}

// allFlags returns the flags of all binaries.
func allFlags(t *testing.T) map[string]bool {
	t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^BINARIES\s*:=(.*)$`).FindSubmatch(makefile)
	flags := map[string]bool{}
	for _, name := range append(strings.Fields(string(m[1])), "clusterup") {
		help := runToEnd(t, spec{binary: name, args: []string{"-help"}})
		for _, m := range regexp.MustCompile(`(?m)^  -([^\s,]+)`).FindAllStringSubmatch(help.stdout+help.stderr, -1) {
			flags[m[1]] = true
		}
	}
	return flags
}

// TestNamesOfFlags: flags in the pages are those of a binary.
func TestNamesOfFlags(t *testing.T) {
	t.Parallel()
	flags := allFlags(t)
	foreign := regexp.MustCompile(`^(go|make|curl|echo|kubectl|helm|docker|ping|kill|openssl|promtool|prometheus|ln|git|date|ss|sudo|vmbench|bin/vmbench|\.ci/run|vmagent|vmalert|vmctl|python3|az|aws|gcloud|apt-get|jq|du|ls|rm|chmod)\b`)
	flag := regexp.MustCompile(`(?:^|[\s,(|])--?([a-zA-Z*][\w.*]*)`)
	checked := 0
	flags["help"], flags["version"] = true, true
	for path, page := range userPages(t) {
		if slices.Contains([]string{"docs/benchmarks.md", "docs/reliability.md"}, path) {
			continue // flags of tests and of vmbench, which measure
		}
		for _, span := range codeSpans(page) {
			if foreign.MatchString(span) || foreignFlags[span] != "" {
				continue
			}
			for _, m := range flag.FindAllStringSubmatch(span, -1) {
				checked++
				name := strings.TrimRight(m[1], ".")
				pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, ".*") + "$")
				if !flags[name] && !slices.ContainsFunc(slices.Collect(maps.Keys(flags)), pattern.MatchString) {
					t.Errorf("%s names the flag -%s in `%s`, which no binary has", path, name, span)
				}
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d flags were found", checked)
	}
}

// foreignFlags are flags in pages which are not ours, with whose they are.
var foreignFlags = map[string]string{
	"--query.lookback-delta": "Prometheus", "--query.max-samples": "Prometheus", "--query.timeout": "Prometheus", "--query.max-concurrency": "Prometheus",
	"-remoteWrite.url": "vmagent, vmalert", "-datasource.url": "vmalert", "-remoteRead.url": "vmalert",
	"-remoteWrite.url=http://<vminsert>:8480/insert/0/prometheus": "vmagent",
	"--cascade=orphan": "kubectl", "--set vmstorage.image.tag=...": "helm", "-v": "docker", "--no-healthcheck": "docker", "-trimpath": "go build",
	"-name=value": "any", "--name=value": "any", "-Inf": "a number",
}

// foreignNames are names in pages that look like metrics of ours.
var foreignNames = map[string]string{}

// TestNamesOfMetrics: metrics in the pages are at a process, or stand in the source, where they appear later or under other flags.
func TestNamesOfMetrics(t *testing.T) {
	t.Parallel()
	native := "-clusternativeListenAddr=127.0.0.1:0"
	c := startCluster(t, clusterOptions{insertArgs: []string{native}, selectArgs: []string{native}})
	single := startSingle(t, "-storage.maxHourlySeries=1000000", "-storage.maxDailySeries=1000000")
	all := ""
	for _, addr := range []string{c.insertAddr, c.selectAddr, c.storage[0].http, single.addr} {
		all += get(t, "http://"+addr+"/metrics").want(t, http.StatusOK).body
	}
	all += strings.Join(logTexts(t), "\n")
	known := map[string]bool{}
	for _, name := range regexp.MustCompile(`\b(vm|process)_\w+`).FindAllString(all, -1) {
		known[name] = true
	}
	checked := 0
	for path, page := range userPages(t) {
		for _, name := range regexp.MustCompile(`\b(vm|process)_[a-z0-9_]+`).FindAllString(page, -1) {
			checked++
			if known[name] || foreignNames[name] != "" || strings.HasSuffix(name, "_") && strings.Contains(all, name) {
				continue
			}
			base := regexp.MustCompile(`_(sum|count|bucket)$`).ReplaceAllString(name, "")
			if !known[base] {
				t.Errorf("%s names the metric %s, which nobody has", path, name)
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d metrics were found", checked)
	}
}

// TestNamesOfPaths: every path in the pages is known to a process.
func TestNamesOfPaths(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	single := startSingle(t)
	addrs := []string{c.insertAddr, c.selectAddr, c.storage[0].http, single.addr}
	path := regexp.MustCompile(`^(?:http://<[a-z ]+>:\d+)?(/(?:api|insert|select|delete|admin|internal|snapshot|metrics|flags|health|ping|-|debug|federate|tags|metric-|target-)[^\s?]*)(\?\S*)?$`)
	tried := map[string]bool{}
	for page, text := range userPages(t) {
		for _, span := range codeSpans(text) {
			m := path.FindStringSubmatch(span)
			if m == nil || strings.ContainsAny(m[1], "*") || strings.Contains(m[1], "...") || tried[m[1]] {
				continue
			}
			tried[m[1]] = true
			target := strings.NewReplacer("[:<projectID>]", "", "<tenant>", "0", "<accountID>", "0").Replace(m[1])
			target = regexp.MustCompile(`<[^<>]*>`).ReplaceAllString(target, "x")
			if why := unknownPath(t, addrs, target); why != "" && foreignPaths[span] == "" && !managerPath.MatchString(m[1]) {
				t.Errorf("%s names the path %s, which nobody serves: %s", page, span, why)
			}
		}
	}
	if len(tried) < 40 {
		t.Errorf("only %d paths were found", len(tried))
	}
}

// managerPath is for paths of vmbackupmanager, whose tests ask for all of them.
var managerPath = regexp.MustCompile(`^/api/v1/(backups|restore)\b`)

// foreignPaths are paths in pages that are meant otherwise.
var foreignPaths = map[string]string{"/insert": "a beginning", "/select": "a beginning", "/insert/": "a beginning", "/select/": "a beginning", "/delete/": "a beginning", "/admin/": "a beginning", "/api/put": "at -opentsdbHTTPListenAddr", "/api/v1/parse_query": "of Prometheus, named as missing"}

// unknownPath returns what the last process says to a path that none of them knows.
func unknownPath(t *testing.T, addrs []string, path string) string {
	t.Helper()
	why := ""
	for _, addr := range addrs {
		a := get(t, "http://"+addr+path)
		if strings.HasPrefix(path, "/api/") && strings.Contains(a.body, "unsupported path requested") {
			a = get(t, "http://"+addr+"/promql"+path) // of the other dialect
		}
		if !strings.Contains(a.body, "unsupported path requested") && a.status != http.StatusNotFound {
			return ""
		}
		why = a.String()
	}
	return why
}

// TestNamesOfLogLines: what pages say is logged stands in the source.
func TestNamesOfLogLines(t *testing.T) {
	t.Parallel()
	texts := logTexts(t)
	checked := 0
	for path, page := range userPages(t) {
		for _, m := range regexp.MustCompile("(?:logs?|log says|logged as|prints) `([^`\n]+ [^`\n]+)`").FindAllStringSubmatch(page, -1) {
			checked++
			parts := regexp.MustCompile(`<[^<>]*>|\.\.\.`).Split(m[1], -1)
			if !slices.ContainsFunc(texts, func(text string) bool {
				for _, part := range parts {
					if !strings.Contains(text, strings.TrimSpace(part)) {
						return false
					}
				}
				return true
			}) {
				t.Errorf("%s: nobody logs %q", path, m[1])
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d log lines were found", checked)
	}
}

// TestGuideURLs: URLs of other guides do what these mean, or say what to use instead.
func TestGuideURLs(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	for _, suffix := range []string{"", "/", "/api/v1/write"} {
		mustWrite(t, c.writeURL("0")+suffix, series("__name__", "m", "written_to", "x"+suffix).at(fixed, 1))
	}
	if got := instant(t, c.readURL("0"), "count(m)", fixed); len(got) != 1 || got[0] != "{} 3" {
		t.Errorf("of 3 series there are %v", got)
	}
	get(t, c.writeURL("0")+"/api/v1/query", "query", "m").want(t, http.StatusBadRequest, "/select/0/prometheus")
	get(t, "http://"+c.selectAddr+"/select/0/vmui/").want(t, http.StatusBadRequest, "unsupported path")
	request(t, http.MethodPost, "http://"+c.storage[0].http+"/api/v1/write", nil).want(t, http.StatusBadRequest, "unsupported path")
}

// TestConfigurationsOfPrometheus: what pages say to write into its configuration so that it writes here is understood by it.
func TestConfigurationsOfPrometheus(t *testing.T) {
	t.Parallel()
	promtool, checked := peer(t, "promtool"), 0
	for path, page := range userPages(t) {
		for _, m := range regexp.MustCompile("(?ms)^```yaml\n(remote_write:.*?)^```$").FindAllStringSubmatch(page, -1) {
			file := filepath.Join(t.TempDir(), "prometheus.yml")
			if err := os.WriteFile(file, []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			checked++
			if out, err := exec.Command(promtool, "check", "config", "--syntax-only", file).CombinedOutput(); err != nil {
				t.Errorf("%s: promtool refuses\n%s\n%s", path, m[1], out)
			}
		}
	}
	if checked < 4 {
		t.Errorf("only %d configurations were found", checked)
	}
}

// TestKeysOfEndpoints: the page about security has every key there is.
func TestKeysOfEndpoints(t *testing.T) {
	t.Parallel()
	page := readDoc(t, "security.md")
	for _, binary := range []string{"vmstorage", "vminsert", "vmselect", "victoria-metrics"} {
		for name, text := range helpTexts(t, binary) {
			real := !strings.HasPrefix(text, "No effect") && !strings.HasPrefix(text, "Not supported")
			if real && strings.HasSuffix(name, "AuthKey") && !strings.Contains(page, "`-"+name+"`") {
				t.Errorf("security.md does not tell of -%s of %s", name, binary)
			}
		}
	}
}
