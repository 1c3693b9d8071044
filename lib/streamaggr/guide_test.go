package streamaggr_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOutputsOfGuide computes the examples in the table of outputs.
func TestOutputsOfGuide(t *testing.T) {
	const path = "../../docs/stream-aggregation.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	before, rest, found := strings.Cut(page, "\n## Outputs\n")
	section, after, _ := strings.Cut(rest, "\n## ")
	blocks := regexp.MustCompile("(?s)```(yaml|text)\n(.*?)```").FindAllStringSubmatch(section, -1)
	if !found || len(blocks) != 2 {
		t.Fatalf("there are %d blocks of code", len(blocks))
	}
	stored := runExample(t, blocks[0][2], blocks[1][2])
	lines, rows := strings.Split(section, "\n"), 0
	for i, line := range lines {
		cells := strings.Split(line, " | ")
		m := regexp.MustCompile("^\\| `([a-z_]+)").FindStringSubmatch(line)
		if m == nil || len(cells) < 3 {
			continue
		}
		rows++
		values := stored[m[1]]
		slices.Sort(values)
		lines[i] = strings.Join(cells[:2], " | ") + " | " + strings.TrimSuffix(cells[2], " |") + " | " + strings.Join(values, ", ") + " |"
	}
	if rows != len(stored) || rows != 19 {
		t.Errorf("there are %d rows, and %d outputs", rows, len(stored))
	}
	want := before + "\n## Outputs\n" + strings.Join(lines, "\n") + "\n## " + after
	switch {
	case want == page:
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not have the examples of\n%s", path, strings.Join(lines, "\n"))
	}
}

// runExample returns the values of outputs with their further labels.
func runExample(t *testing.T, rules, samples string) map[string][]string {
	script := []string{"load"}
	for line := range strings.Lines(rules) {
		script = append(script, "  "+strings.TrimSuffix(line, "\n"))
	}
	now := time.Duration(0)
	for line := range strings.Lines(samples) {
		at, sample, _ := strings.Cut(strings.TrimSpace(line), " ")
		d, err := time.ParseDuration(at)
		if err != nil {
			t.Fatal(err)
		}
		script = append(script, "+"+(d-now).String(), "in "+sample)
		now = d
	}
	script = append(script, "+"+(time.Minute-now).String())
	stored := map[string][]string{}
	pattern := regexp.MustCompile(`^> foo:1m_by_job_([a-z_]+)\{(.*?)\} (\S+) @1m0s$`)
	for _, line := range run(t, script) {
		if m := pattern.FindStringSubmatch(line); m != nil {
			labels := strings.Trim(strings.Replace(m[2], `job="a"`, "", 1), ",")
			value := m[3]
			if labels != "" {
				value = "`" + labels + "`: " + value
			}
			stored[m[1]] = append(stored[m[1]], value)
		}
	}
	return stored
}
