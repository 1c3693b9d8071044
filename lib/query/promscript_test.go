package query

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/model"
)

// promCase is one eval command of a test script.
type promCase struct {
	id         string // file:line
	query      string
	instant    bool
	start      int64
	end        int64
	step       int64
	series     []promSeries
	fails      bool
	ordered    bool
	text       bool // a string is expected
	raw        bool // samples of a range vector are expected
	histograms bool // a native histogram is expected or loaded
	source     *memSource
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
	file       string
	lines      []string
	next       int
	source     *memSource
	histograms bool
	cases      []promCase
}

// parsePromScript returns the cases of a script in the language of Prometheus' tests:
// commands load, clear and eval, each with indented lines up to an empty one.
func parsePromScript(file, text string) ([]promCase, error) {
	p := &promScript{file: file, lines: strings.Split(text, "\n"), source: newMemSource()}
	for p.next < len(p.lines) {
		line := strings.TrimSpace(p.lines[p.next])
		p.next++
		var err error
		switch {
		case line == "" || line[0] == '#':
		case line == "clear":
			p.source, p.histograms = newMemSource(), false
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
	return p.cases, nil
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

// load replaces the source by one with more samples, since earlier cases refer to the old one.
func (p *promScript) load(line string) error {
	fields := strings.Fields(line)
	step, err := promDuration(fields[1])
	if err != nil {
		return err
	}
	p.histograms = p.histograms || fields[0] == "load_with_nhcb"
	source := newMemSource()
	for _, s := range p.source.series {
		source.add(labelMap(s.Labels), s.Timestamps, s.Values)
	}
	for _, line := range p.block() {
		if strings.Contains(line, "@st ") {
			continue // start timestamps do not exist here
		}
		s, err := promLine(line)
		if err != nil {
			return err
		}
		p.histograms = p.histograms || s.histogram
		var times []int64
		var values []float64
		for i, v := range s.values {
			if s.present[i] {
				times, values = append(times, int64(i)*step), append(values, v)
			}
		}
		source.add(s.labels, times, values)
	}
	p.source = source
	return nil
}

func (p *promScript) eval(line string) error {
	c := promCase{id: fmt.Sprintf("%s:%d", p.file, p.next), source: p.source, histograms: p.histograms}
	command, rest, _ := strings.Cut(line, " ")
	c.fails, c.ordered = command == "eval_fail", command == "eval_ordered"
	fields := strings.SplitN(strings.TrimSpace(rest), " ", 8)
	times := map[string]*int64{"at": &c.start, "from": &c.start, "to": &c.end, "step": &c.step}
	c.instant = fields[0] == "instant"
	i := 1
	for ; i+1 < len(fields) && times[fields[i]] != nil; i += 2 {
		d, err := promDuration(fields[i+1])
		if err != nil {
			return err
		}
		*times[fields[i]] = d
	}
	c.query = strings.TrimSpace(strings.Join(fields[i:], " "))
	for _, line := range p.block() {
		if err := c.expect(line); err != nil {
			return err
		}
	}
	p.cases = append(p.cases, c)
	return nil
}

func (c *promCase) expect(line string) error {
	if rest, ok := strings.CutPrefix(line, "expect "); ok {
		word, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		switch strings.TrimSuffix(word, ":") {
		case "fail":
			c.fails = true
		case "ordered":
			c.ordered = true
		case "string":
			c.text = true
		case "range":
			c.raw = true
		}
		return nil
	}
	if strings.HasPrefix(line, "expected_fail") {
		return nil
	}
	s, err := promLine(line)
	if err != nil {
		return err
	}
	c.histograms = c.histograms || s.histogram
	c.series = append(c.series, s)
	return nil
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
		labels[name] = value
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
