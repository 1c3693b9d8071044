package promscript

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/model"
)

// Series is a line with a series and its points.
type Series struct {
	Labels    map[string]string // the metric name as __name__
	Values    []float64
	Present   []bool // false: the point is a gap, or a native histogram
	Histogram bool   // there are native histograms among the points
	Line      string // for who knows what they are
}

// Samples returns the points that are there, the first point being at 0.
func (s *Series) Samples(step int64) (times []int64, values []float64) {
	for i, v := range s.Values {
		if s.Present[i] {
			times, values = append(times, int64(i)*step), append(values, v)
		}
	}
	return times, values
}

// parseDuration parses a time such as 50m, 1h30m, -10s, 1.5 (seconds) and returns milliseconds.
func parseDuration(s string) (int64, error) {
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

// parseSeries parses name{label="value",...} points.
func parseSeries(line string) (Series, error) {
	s := Series{Labels: map[string]string{}, Line: line}
	rest := line
	if i := strings.IndexAny(line, "{ \t"); i >= 0 && !strings.HasPrefix(line, "{{") && !isValue(line[:i]) {
		if i > 0 {
			s.Labels[model.MetricNameLabel] = line[:i]
		}
		rest = line[i:]
		if rest[0] == '{' {
			var err error
			if rest, err = parseLabels(rest[1:], s.Labels); err != nil {
				return s, fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	return s, s.points(rest)
}

func isValue(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil && s != "" || s == "_"
}

// parseLabels parses labels up to and including the closing brace and returns what follows.
func parseLabels(s string, labels map[string]string) (string, error) {
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return "", fmt.Errorf("no closing brace")
		}
		if s[0] == '}' {
			return s[1:], nil
		}
		name, rest, err := parseWord(s)
		if err != nil {
			return "", err
		}
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, "=") {
			labels[model.MetricNameLabel] = name // {"name", ...}
			s = rest
			continue
		}
		value, rest, err := parseWord(strings.TrimLeft(rest[1:], " \t"))
		if err != nil {
			return "", err
		}
		if value != "" {
			labels[name] = value
		}
		s = rest
	}
}

// parseWord parses a quoted string or an identifier.
func parseWord(s string) (word, rest string, err error) {
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
func (s *Series) points(text string) error {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if strings.HasPrefix(text, "{{") {
			s.Histogram = true
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
func (s *Series) word(word string) error {
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
	v, delta, err := parseValue(body)
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

func (s *Series) push(v float64, present bool) {
	s.Values, s.Present = append(s.Values, v), append(s.Present, present)
}

// parseValue parses 5, 5+1, 5-1, -5, 1e3, NaN, Inf and stale.
func parseValue(s string) (v, delta float64, err error) {
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
