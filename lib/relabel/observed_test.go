package relabel_test

import (
	"os"
	"strings"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/relabel"
)

// outcome returns what becomes of a series, as testdata has it.
func outcome(t *testing.T, rules, series string) string {
	t.Helper()
	compiled, err := relabel.Parse("test", []byte(rules))
	if err != nil {
		return "refused"
	}
	labels, kept := compiled.Apply(parseLabels(t, series))
	if !kept {
		return "dropped"
	}
	return labelsText(labels)
}

func parseLabels(t testing.TB, series string) []model.Label {
	t.Helper()
	labels, err := relabel.ParseLabels(series)
	if err != nil {
		t.Fatal(err)
	}
	return labels
}

// labelsText returns labels in the order of their names.
func labelsText(labels []model.Label) string {
	if _, err := model.AppendSeriesKey(nil, model.TenantID{}, labels); err != nil { // sorts them
		return err.Error()
	}
	return model.LabelsString(labels)
}

func TestObserved(t *testing.T) {
	text, err := os.ReadFile("testdata/observed.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for block := range strings.SplitSeq(string(text), "\n\n") {
		if block = strings.TrimSpace(block); block == "" || block[0] == '#' {
			continue
		}
		lines := strings.Split(block, "\n")
		want, differs := "", false
		for strings.HasPrefix(lines[len(lines)-1], "=> ") {
			line := lines[len(lines)-1]
			if own, ok := strings.CutPrefix(line, "=> we: "); ok {
				want, _, _ = strings.Cut(own, "   # ")
				differs = true
			} else if theirs := line[len("=> "):]; !differs {
				want = theirs
			} else if theirs == want {
				t.Errorf("listed as different, but is the same:\n%s", block)
			}
			lines = lines[:len(lines)-1]
		}
		rules, series := strings.Join(lines[:len(lines)-1], "\n"), lines[len(lines)-1]
		if got := outcome(t, rules, series); got != want {
			t.Errorf("%s\n got => %s", block, got)
		}
		n++
	}
	if n < 100 {
		t.Errorf("only %d cases were found", n)
	}
}
