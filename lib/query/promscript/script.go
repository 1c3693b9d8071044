package promscript

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Script is a file of commands.
type Script struct {
	Name     string
	Commands []Command
}

// Command is one of a script: load, eval, or, with neither, clear.
type Command struct {
	Load *Load
	Eval *Case
}

// Load adds samples to the store.
type Load struct {
	Step       int64 // milliseconds between the points of all series; the first is at 0
	Series     []Series
	Histograms bool // native ones are made of the series
	Starts     bool // there are start timestamps, which are left out
}

// Case is an eval command: a query and what it has to answer. Times are in milliseconds.
type Case struct {
	ID          string // file:line
	Query       string
	Instant     bool
	Start       int64
	End         int64
	Step        int64
	Series      []Series
	Fails       bool
	FailText    string
	FailPattern *regexp.Regexp
	Ordered     bool
	Text        *string // the expected string
	RangeStart  int64   // of the expected samples of a range vector
	RangeStep   int64   // 0: no range vector is expected
	Notes       Notes
}

// TimeOf returns the time of point i of the expected series.
func (c *Case) TimeOf(i int) int64 {
	switch {
	case c.RangeStep > 0:
		return c.RangeStart + int64(i)*c.RangeStep
	case c.Instant:
		return c.Start
	}
	return c.Start + int64(i)*c.Step
}

// WantsHistogram reports whether native histograms are expected.
func (c *Case) WantsHistogram() bool {
	return slices.ContainsFunc(c.Series, func(s Series) bool { return s.Histogram })
}

// Notes are the expected warnings and infos.
type Notes struct {
	warn, noWarn, info, noInfo bool
	warnTexts, infoTexts       []string
}

// Compare returns what is wrong with the notes of an answer, or an empty string.
func (n *Notes) Compare(warnings, infos []string) string {
	check := func(what string, want, none bool, texts, got []string) string {
		if want && len(got) == 0 || none && len(got) > 0 {
			return fmt.Sprintf("%s: %q", what, got)
		}
		for _, text := range texts {
			if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, text) }) {
				return fmt.Sprintf("%s: got %q, want %q", what, got, text)
			}
		}
		return ""
	}
	if diff := check("warnings", n.warn, n.noWarn, n.warnTexts, warnings); diff != "" {
		return diff
	}
	return check("infos", n.info, n.noInfo, n.infoTexts, infos)
}

// Scripts returns the test scripts of the Prometheus module. Without the module the test is skipped.
func Scripts(t testing.TB) []Script {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Skipf("cannot find the module with the test scripts: %s", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "promql", "promqltest", "testdata", "*.test"))
	if err != nil || len(files) == 0 {
		t.Skipf("no test scripts in the module: %v", err)
	}
	var scripts []Script
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		commands, err := parse(name, string(text))
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, Script{Name: name, Commands: commands})
	}
	return scripts
}

// script is the state while a script is read.
type script struct {
	file     string
	lines    []string
	next     int
	commands []Command
}

// parse returns the commands of a script in the language of Prometheus' tests:
// load, clear and eval, each with indented lines up to an empty one.
func parse(file, text string) ([]Command, error) {
	p := &script{file: file, lines: strings.Split(text, "\n")}
	for p.next < len(p.lines) {
		line := strings.TrimSpace(p.lines[p.next])
		p.next++
		var err error
		switch {
		case line == "" || line[0] == '#':
		case line == "clear":
			p.commands = append(p.commands, Command{})
		case strings.HasPrefix(line, "load"):
			err = p.load(line)
		case strings.HasPrefix(line, "eval"):
			err = p.eval(line)
		default:
			err = fmt.Errorf("unknown command %q", line)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, p.next, err)
		}
	}
	return p.commands, nil
}

// block returns the lines that belong to the current command.
func (p *script) block() []string {
	var out []string
	for p.next < len(p.lines) {
		line := strings.TrimSpace(p.lines[p.next])
		if line == "" || strings.HasPrefix(line, "eval") || strings.HasPrefix(line, "load ") || line == "clear" {
			return out
		}
		p.next++
		if line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

func (p *script) load(line string) error {
	fields := strings.Fields(line)
	step, err := parseDuration(fields[1])
	if err != nil {
		return err
	}
	c := &Load{Step: step, Histograms: fields[0] == "load_with_nhcb"}
	for _, line := range p.block() {
		if strings.Contains(line, "@st ") {
			c.Starts = true
			continue
		}
		s, err := parseSeries(line)
		if err != nil {
			return err
		}
		c.Series = append(c.Series, s)
	}
	p.commands = append(p.commands, Command{Load: c})
	return nil
}

func (p *script) eval(line string) error {
	c := &Case{ID: fmt.Sprintf("%s:%d", p.file, p.next)}
	command, rest, _ := strings.Cut(line, " ")
	c.Fails, c.Ordered = command == "eval_fail", command == "eval_ordered"
	rest, kind := cutWord(rest)
	c.Instant = kind == "instant"
	times := map[string]*int64{"at": &c.Start, "from": &c.Start, "to": &c.End, "step": &c.Step}
	for {
		after, word := cutWord(rest)
		if times[word] == nil {
			break
		}
		after, value := cutWord(after)
		d, err := parseDuration(value)
		if err != nil {
			return err
		}
		*times[word] = d
		rest = after
	}
	c.Query = strings.TrimSpace(rest)
	for _, line := range p.block() {
		if err := c.expect(line); err != nil {
			return err
		}
	}
	p.commands = append(p.commands, Command{Eval: c})
	return nil
}

func cutWord(s string) (rest, word string) {
	s = strings.TrimLeft(s, " \t")
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return "", s
	}
	return s[i:], s[:i]
}

func (c *Case) expect(line string) error {
	if rest, ok := strings.CutPrefix(line, "expect "); ok {
		return c.expectation(strings.TrimSpace(rest))
	}
	if text, ok := strings.CutPrefix(line, "expected_fail_message "); ok {
		c.FailText = strings.TrimSpace(text)
		return nil
	}
	s, err := parseSeries(line)
	c.Series = append(c.Series, s)
	return err
}

// expectation takes what follows the word expect.
func (c *Case) expectation(text string) error {
	rest, word := cutWord(text)
	rest, kind := cutWord(rest)
	rest = strings.TrimSpace(rest)
	n := &c.Notes
	switch word {
	case "fail":
		c.Fails = true
		switch kind {
		case "msg:":
			c.FailText = rest
		case "regex:":
			c.FailPattern = regexp.MustCompile(rest)
		}
	case "warn":
		n.warn = true
		if kind == "msg:" {
			n.warnTexts = append(n.warnTexts, rest)
		}
	case "info":
		n.info = true
		if kind == "msg:" {
			n.infoTexts = append(n.infoTexts, rest)
		}
	case "no_warn":
		n.noWarn = true
	case "no_info":
		n.noInfo = true
	case "ordered":
		c.Ordered = true
	case "string":
		s, err := strconv.Unquote(strings.TrimSpace(strings.TrimPrefix(text, "string")))
		c.Text = &s
		return err
	case "range":
		return c.expectRange(strings.Fields(text))
	}
	return nil
}

// expectRange takes: range vector from 10s to 1m step 10s.
func (c *Case) expectRange(fields []string) (err error) {
	if len(fields) != 8 {
		return fmt.Errorf("cannot parse expectation %q", fields)
	}
	if c.RangeStart, err = parseDuration(fields[3]); err != nil {
		return err
	}
	c.RangeStep, err = parseDuration(fields[7])
	return err
}
