package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "vmcluster/"

// tableRows returns the rows of the Markdown table between two comments in docs/ARCHITECTURE.md.
func tableRows(t *testing.T, name string) [][]string {
	t.Helper()
	doc, err := os.ReadFile(root + "/docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "<!-- "+name+": read by lib/archtest -->")
	body, _, okEnd := strings.Cut(rest, "<!-- end of ")
	if !ok || !okEnd {
		t.Fatalf("docs/ARCHITECTURE.md has no %s", name)
	}
	var rows [][]string
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows[1:] // without the heading
}

// split returns the comma-separated items of a cell.
func split(cell string) []string {
	var items []string
	for item := range strings.SplitSeq(cell, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

type listedPackage struct {
	ImportPath string
	Imports    []string
}

func goList(t *testing.T, args ...string) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot run go list: %s", err)
	}
	var packages []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listedPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	return packages
}

// matches reports whether an import path is meant by an item of the table:
// a package, all packages below it (lib/x/*), or a module by the end of its path.
func matches(item, imported string) bool {
	local, isLocal := strings.CutPrefix(imported, module)
	if prefix, ok := strings.CutSuffix(item, "/*"); ok {
		return isLocal && strings.HasPrefix(local, prefix+"/")
	}
	if isLocal {
		return local == item
	}
	return imported == item || strings.Contains(imported+"/", "/"+item+"/") || strings.HasPrefix(imported, item+"/")
}

func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".") && first != "vmcluster"
}

func TestImportTable(t *testing.T) {
	rows := tableRows(t, "import table")
	ground := split("lib/bytesutil,lib/errkind,lib/flagvalue,lib/invariants,lib/logger,lib/memory,lib/metrics")
	testOnly := split("lib/archtest,lib/clustertest,lib/query/promscript,lib/transport/replay,app/apptest")
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(testOnly, name) {
			continue
		}
		allowedImports, ok := rowFor(rows, name)
		if !ok && !slices.Contains(ground, name) {
			t.Errorf("%s has no row in the import table of docs/ARCHITECTURE.md", name)
			continue
		}
		for _, imported := range p.Imports {
			if isStandard(imported) || slices.ContainsFunc(ground, func(g string) bool { return matches(g, imported) }) {
				continue
			}
			if !slices.ContainsFunc(allowedImports, func(item string) bool { return matches(item, imported) }) {
				t.Errorf("%s imports %s, which its row in docs/ARCHITECTURE.md does not allow", name, imported)
			}
		}
	}
}

// rowFor returns the allowed imports of a package: its own row, else that of a pattern.
func rowFor(rows [][]string, name string) ([]string, bool) {
	for _, row := range rows {
		if row[0] == name {
			return split(row[2]), true
		}
	}
	for _, row := range rows {
		if prefix, ok := strings.CutSuffix(row[0], "/*"); ok && path.Dir(name) == prefix {
			return split(row[2]), true
		}
	}
	return nil, false
}

func TestBinaryClosures(t *testing.T) {
	for _, row := range tableRows(t, "binary closures") {
		binary, forbidden := row[0], split(row[1])
		for _, p := range goList(t, "-deps", "./"+binary) {
			for _, item := range forbidden {
				if matches(item, p.ImportPath) || matches(item+"/*", p.ImportPath) {
					t.Errorf("%s links %s, which docs/ARCHITECTURE.md forbids", binary, p.ImportPath)
				}
			}
		}
	}
}
