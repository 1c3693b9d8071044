package graphite

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDocumentation keeps the table of functions in docs/graphite.md as the functions are.
func TestDocumentation(t *testing.T) {
	const path, begin, end = "../../docs/graphite.md", "-update -->\n", "<!-- end of functions -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table of functions", path)
	}
	var b strings.Builder
	b.WriteString("| function | group | meaning |\n|---|---|---|\n")
	for _, f := range New().Functions() {
		if f.Description == "" || !strings.HasSuffix(f.Description, ".") {
			t.Errorf("%s() has no description, or one without an end: %q", f.Name, f.Description)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Signature(), f.Group, strings.ReplaceAll(f.Description, "|", `\|`))
	}
	got := before + begin + b.String() + end + after
	if got == string(text) {
		return
	}
	if !*update {
		t.Fatalf("the table of functions in %s is outdated; run go test ./lib/graphite -run TestDocumentation -update", path)
	}
	if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestFunctionNames checks the list of functions that dashboards may rely on.
func TestFunctionNames(t *testing.T) {
	listed, hidden := 0, 0
	for _, f := range New().Functions() {
		if f.Unlisted {
			hidden++
			continue
		}
		listed++
	}
	if listed != 151 || hidden != 4 {
		t.Errorf("%d functions are listed and %d are not, want 151 and 4", listed, hidden)
	}
}
