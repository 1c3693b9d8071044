package chart

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const docs = "../../../docs/helm.md"

// TestDocs: the tables of docs/helm.md are what values.yaml says.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(clusterDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- these tables are written by go test ./chart -run TestDocs -update -->\n", "<!-- end of tables -->"
	before, rest, ok := bytes.Cut(page, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the tables", docs)
	}
	golden(t, docs, slices.Concat(before, []byte(begin), tables(describe(t, text)), []byte(end), after))
}

// tables are a table of keys outside of components, and one of keys within them, where those that are the same share a row.
func tables(rows []row) []byte {
	var shared []row
	of := map[row][]string{}
	table := []byte("\n| key | default | |\n|---|---|---|\n")
	for _, r := range rows {
		component, _, _ := strings.Cut(r.path, "/")
		if within(r.path) == r.path || component == "vmauth" {
			if strings.Contains(r.path, "/") || !strings.HasPrefix(r.path, "vm") && r.path != "global" {
				table = fmt.Appendf(table, "| `%s` | `%s` | %s |\n", dots(r.path), cell(r.value), cell(r.text))
			}
			continue
		}
		name := strings.NewReplacer(component, "{component}")
		key := row{within(r.path), name.Replace(r.text), name.Replace(r.value)}
		if of[key] == nil {
			shared = append(shared, key)
		}
		of[key] = append(of[key], component)
	}
	slices.SortStableFunc(shared, func(a, b row) int {
		return strings.Compare(strings.Split(a.path, "/")[0], strings.Split(b.path, "/")[0])
	})
	table = append(table, "\n| key of a component | of | default | |\n|---|---|---|---|\n"...)
	for _, r := range shared {
		components := "all"
		if len(of[r]) < 3 {
			components = strings.Join(of[r], ", ")
		}
		table = fmt.Appendf(table, "| `%s` | %s | `%s` | %s |\n", dots(r.path), components, cell(r.value), cell(r.text))
	}
	return append(table, '\n')
}

func dots(path string) string { return strings.ReplaceAll(path, "/", ".") }

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
