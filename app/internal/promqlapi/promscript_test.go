package promqlapi

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/model"
)

// promCommand is a command of a test script: load, eval or clear.
type promCommand struct {
	load       bool
	step       int64
	series     []promSeries
	histograms bool // native ones are made of the series
	starts     bool // there are start timestamps
	eval       *promCase
}

// promCase is one eval command of a test script.
type promCase struct {
	id          string // file:line
	query       string
	instant     bool
	start       int64
	end         int64
	step        int64
	series      []promSeries
	fails       bool
	failText    string
	failPattern *regexp.Regexp
	ordered     bool
	text        *string // the expected string
	rangeStart  int64   // of the expected samples of a range vector
	rangeStep   int64
	notes       promNotes
}

// promNotes are the expected warnings and infos.
type promNotes struct {
	warn, noWarn, info, noInfo bool
	warnTexts, infoTexts       []string
}

// compare returns what is wrong with the notes of an answer.
func (n *promNotes) compare(warnings, infos []string) string {
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

// promSeries is a line with a series and its points; NaN without a bit set in present is a gap.
type promSeries struct {
	labels    map[string]string
	values    []float64
	present   []bool
	histogram bool
}

// promScript is the state while a script is read.
type promScript struct {
	file     string
	lines    []string
	next     int
	commands []promCommand
}

// parsePromScript returns the commands of a script in the language of Prometheus' tests:
// load, clear and eval, each with indented lines up to an empty one.
func parsePromScript(file, text string) ([]promCommand, error) {
	p := &promScript{file: file, lines: strings.Split(text, "\n")}
	for p.next < len(p.lines) {
		line := strings.TrimSpace(p.lines[p.next])
		p.next++
		var err error
		switch {
		case line == "" || line[0] == '#':
		case line == "clear":
			p.commands = append(p.commands, promCommand{})
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
func (p *promScript) block() []string {
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

func (p *promScript) load(line string) error {
	fields := strings.Fields(line)
	step, err := promDuration(fields[1])
	if err != nil {
		return err
	}
	c := promCommand{load: true, step: step, histograms: fields[0] == "load_with_nhcb"}
	for _, line := range p.block() {
		if strings.Contains(line, "@st ") {
			c.starts = true
			continue
		}
		s, err := promLine(line)
		if err != nil {
			return err
		}
		c.series = append(c.series, s)
	}
	p.commands = append(p.commands, c)
	return nil
}

func (p *promScript) eval(line string) error {
	c := &promCase{id: fmt.Sprintf("%s:%d", p.file, p.next)}
	command, rest, _ := strings.Cut(line, " ")
	c.fails, c.ordered = command == "eval_fail", command == "eval_ordered"
	rest, kind := cutWord(rest)
	c.instant = kind == "instant"
	times := map[string]*int64{"at": &c.start, "from": &c.start, "to": &c.end, "step": &c.step}
	for {
		after, word := cutWord(rest)
		if times[word] == nil {
			break
		}
		after, value := cutWord(after)
		d, err := promDuration(value)
		if err != nil {
			return err
		}
		*times[word] = d
		rest = after
	}
	c.query = strings.TrimSpace(rest)
	for _, line := range p.block() {
		if err := c.expect(line); err != nil {
			return err
		}
	}
	p.commands = append(p.commands, promCommand{eval: c})
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

func (c *promCase) expect(line string) error {
	if rest, ok := strings.CutPrefix(line, "expect "); ok {
		return c.expectation(strings.TrimSpace(rest))
	}
	if text, ok := strings.CutPrefix(line, "expected_fail_message "); ok {
		c.failText = strings.TrimSpace(text)
		return nil
	}
	s, err := promLine(line)
	c.series = append(c.series, s)
	return err
}

// expectation takes what follows the word expect.
func (c *promCase) expectation(text string) error {
	rest, word := cutWord(text)
	rest, kind := cutWord(rest)
	rest = strings.TrimSpace(rest)
	n := &c.notes
	switch word {
	case "fail":
		c.fails = true
		switch kind {
		case "msg:":
			c.failText = rest
		case "regex:":
			c.failPattern = regexp.MustCompile(rest)
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
		c.ordered = true
	case "string":
		s, err := strconv.Unquote(strings.TrimSpace(strings.TrimPrefix(text, "string")))
		c.text = &s
		return err
	case "range":
		return c.expectRange(strings.Fields(text))
	}
	return nil
}

// expectRange takes: range vector from 10s to 1m step 10s.
func (c *promCase) expectRange(fields []string) (err error) {
	if len(fields) != 8 {
		return fmt.Errorf("cannot parse expectation %q", fields)
	}
	if c.rangeStart, err = promDuration(fields[3]); err != nil {
		return err
	}
	c.rangeStep, err = promDuration(fields[7])
	return err
}

// promDuration parses a time such as 50m, 1h30m, -10s, 1.5 (seconds) and returns milliseconds.
func promDuration(s string) (int64, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return int64(math.Round(f * 1000)), nil
	}
	days := int64(0)
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseInt(before, 10, 64)
		if err != nil {
			return 0, err
		}
		days, s = n*86400000, after
	}
	if s == "" {
		return days, nil
	}
	d, err := time.ParseDuration(s)
	return days + d.Milliseconds(), err
}

// promLine parses name{label="value",...} points.
func promLine(line string) (promSeries, error) {
	s := promSeries{labels: map[string]string{}}
	rest := line
	if i := strings.IndexAny(line, "{ \t"); i >= 0 && !strings.HasPrefix(line, "{{") && !isPromValue(line[:i]) {
		if i > 0 {
			s.labels[model.MetricNameLabel] = line[:i]
		}
		rest = line[i:]
		if rest[0] == '{' {
			var err error
			if rest, err = promLabels(rest[1:], s.labels); err != nil {
				return s, fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	return s, s.points(rest)
}

func isPromValue(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil && s != "" || s == "_"
}

// promLabels parses labels up to and including the closing brace and returns what follows.
func promLabels(s string, labels map[string]string) (string, error) {
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return "", fmt.Errorf("no closing brace")
		}
		if s[0] == '}' {
			return s[1:], nil
		}
		name, rest, err := promWord(s)
		if err != nil {
			return "", err
		}
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, "=") {
			labels[model.MetricNameLabel] = name // {"name", ...}
			s = rest
			continue
		}
		value, rest, err := promWord(strings.TrimLeft(rest[1:], " \t"))
		if err != nil {
			return "", err
		}
		if value != "" {
			labels[name] = value
		}
		s = rest
	}
}

// promWord parses a quoted string or an identifier.
func promWord(s string) (word, rest string, err error) {
	if quoted, err := strconv.QuotedPrefix(s); err == nil {
		word, err := strconv.Unquote(quoted)
		return word, s[len(quoted):], err
	}
	if strings.HasPrefix(s, "'") {
		if end := strings.IndexByte(s[1:], '\''); end >= 0 {
			return s[1 : 1+end], s[2+end:], nil
		}
	}
	i := strings.IndexAny(s, "=, \t}")
	if i <= 0 {
		return "", "", fmt.Errorf("no label name or value in %q", s)
	}
	return s[:i], s[i:], nil
}

// points parses values: 1, 1x3 (4 times), 1+2x3 (1 3 5 7), _ and _x3 (gaps), stale, and {{...}}, {{...}}x3 and
// {{...}}+{{...}}x3 for histograms, which become gaps.
func (s *promSeries) points(text string) error {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if strings.HasPrefix(text, "{{") {
			s.histogram = true
			n := 0
			n, text = cutHistograms(text)
			for range n {
				s.push(math.NaN(), false)
			}
			continue
		}
		word := text
		if i := strings.IndexAny(text, " \t"); i >= 0 {
			word = text[:i]
		}
		text = text[len(word):]
		if err := s.word(word); err != nil {
			return err
		}
	}
	return nil
}

// cutHistograms returns for how many points the histogram expression at the start of text stands, and what follows it.
func cutHistograms(text string) (n int, rest string) {
	for strings.HasPrefix(text, "{{") {
		_, text, _ = strings.Cut(text, "}}")
		if strings.HasPrefix(text, "+{{") || strings.HasPrefix(text, "-{{") {
			text = text[1:]
		}
	}
	end := len(text)
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		end = i
	}
	if times, err := strconv.Atoi(strings.TrimPrefix(text[:end], "x")); err == nil {
		return times + 1, text[end:]
	}
	return 1, text[end:]
}

// word parses one expression of numbers.
func (s *promSeries) word(word string) error {
	body, times := word, 0
	if i := strings.LastIndexByte(word, 'x'); i > 0 {
		n, err := strconv.Atoi(word[i+1:])
		if err != nil {
			return fmt.Errorf("cannot parse points %q: %w", word, err)
		}
		body, times = word[:i], n
	}
	if body == "_" {
		for range max(times, 1) {
			s.push(math.NaN(), false)
		}
		return nil
	}
	v, delta, err := promValue(body)
	if err != nil {
		return err
	}
	for i := range times + 1 {
		if body == "stale" {
			s.push(math.Float64frombits(0x7ff0000000000002), true)
			continue
		}
		s.push(v+float64(i)*delta, true)
	}
	return nil
}

func (s *promSeries) push(v float64, present bool) {
	s.values, s.present = append(s.values, v), append(s.present, present)
}

// promValue parses 5, 5+1, 5-1, -5, 1e3, NaN, Inf and stale.
func promValue(s string) (v, delta float64, err error) {
	if s == "stale" {
		return 0, 0, nil
	}
	if v, err = strconv.ParseFloat(s, 64); err == nil {
		return v, 0, nil
	}
	for i := len(s) - 1; i > 0; i-- {
		if s[i] != '+' && s[i] != '-' {
			continue
		}
		v, errV := strconv.ParseFloat(s[:i], 64)
		d, errD := strconv.ParseFloat(s[i:], 64)
		if errV == nil && errD == nil {
			return v, d, nil
		}
	}
	return 0, 0, fmt.Errorf("cannot parse value %q", s)
}
