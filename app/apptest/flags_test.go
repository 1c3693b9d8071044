package apptest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryKnownFlag: the flags of the product that is re-implemented, listed in
// testdata/flags, are known to each binary; and what flags.txt says a binary
// lacks, it really lacks.
func TestEveryKnownFlag(t *testing.T) {
	t.Parallel()
	letters := map[string]string{"vmstorage": "s", "vminsert": "i", "vmselect": "q", "victoria-metrics": "v", "vmbackup": "b", "vmrestore": "r"}
	lacking, err := os.ReadFile("../internal/flagcompat/flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	for binary, letter := range letters {
		known := helpTexts(t, binary)
		names, err := os.ReadFile("testdata/flags/" + binary + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(string(names)) {
			if _, ok := known[name]; !ok {
				t.Errorf("%s does not know -%s", binary, name)
			}
		}
		for line := range strings.Lines(string(lacking)) {
			cells := strings.Split(line, " | ")
			if len(cells) < 5 || !slices.Contains(strings.Split(cells[2], ","), letter) {
				continue
			}
			if text := known[cells[0]]; !strings.HasPrefix(text, "No effect") && !strings.HasPrefix(text, "Not supported") {
				t.Errorf("%s has -%s (%s), which flags.txt says it lacks", binary, cells[0], text)
			}
		}
	}
}

// helpTexts returns the flags of a binary with their descriptions.
func helpTexts(t *testing.T, binary string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  -(\S+)(?: \S+)?\s+(.*)$`).FindAllStringSubmatch(runToEnd(t, spec{binary: binary, args: []string{"-help"}}).stdout, -1) {
		texts[m[1]] = m[2]
	}
	if len(texts) < 50 {
		t.Fatalf("only %d flags found in the help of %s", len(texts), binary)
	}
	return texts
}
