package metricsql

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

var update = flag.Bool("update", false, "rewrite the answers to mistakes under testdata")

const mistakesFile = "testdata/mistakes.txt"

// TestMistakes checks the whole texts of the answers to typical mistakes. The file has a query in JSON and the answer in turns; whoever
// changes an answer reads it as somebody who has made the mistake.
func TestMistakes(t *testing.T) {
	data, err := os.ReadFile(mistakesFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) < 120 || len(lines)%2 != 0 {
		t.Fatalf("%d lines; want pairs of a query and its answer", len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		var q string
		if err := json.Unmarshal([]byte(lines[i]), &q); err != nil {
			t.Fatalf("line %d: %s", i+1, err)
		}
		e, err := Parse(q)
		if err == nil {
			t.Errorf("%s is accepted: %s", q, String(e))
			continue
		}
		if *update {
			lines[i+1] = "\t" + err.Error()
		} else if got := err.Error(); got != strings.TrimPrefix(lines[i+1], "\t") || errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%s\ngot  %s\nwant%s", q, got, lines[i+1])
		}
	}
	if *update {
		if err := os.WriteFile(mistakesFile, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
