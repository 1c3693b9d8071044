package influx

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// row is one parsed line. What it has aliases the line or scratch.
type row struct {
	series       []byte // measurement and tags
	fields       []field
	timestamp    int64 // Unix milliseconds
	hasTimestamp bool

	raw     []byte // of one series, see rawLabels
	labels  []model.Label
	scratch []byte // unescaped strings
}

type field struct {
	key   []byte
	value float64
}

// A line makes as many series as it has fields, each with all of its tags, so that a small line could mean a lot of memory and work.
const (
	maxFields    = 1 << 16
	maxAllSeries = 16 << 20 // bytes of measurement and tags of all fields
)

// parse reads a line which is neither blank nor a comment, but for its tags. It returns what is wrong with it, or nothing.
func (r *row) parse(line []byte, unit time.Duration) (fault string) {
	end := unescapedSpace(line)
	if end < 0 {
		return "there are no fields"
	}
	r.series, r.fields, r.hasTimestamp = line[:end], r.fields[:0], false
	rest, fault := r.parseFields(trimLeft(line[end:]))
	if fault != "" {
		return fault
	}
	if rest = trimLeft(rest); len(rest) > 0 {
		t, ok := protoparser.ParseInt(rest)
		if !ok {
			return fmt.Sprintf("the timestamp is %.50q, which is not an integer", rest)
		}
		r.hasTimestamp = true
		if r.timestamp, ok = milliseconds(t, unit); !ok {
			return "the timestamp is out of range"
		}
	}
	return ""
}

// parseFields returns what follows the fields.
func (r *row) parseFields(b []byte) (rest []byte, fault string) {
	for {
		n := endOfName(b, true)
		if n == len(b) || b[n] != '=' {
			return nil, fmt.Sprintf("field %.50q has no value", b[:n])
		}
		if n == 0 {
			return nil, "a field has no name"
		}
		f := field{key: b[:n]}
		if f.value, b, fault = parseValue(b[n+1:]); fault != "" {
			return nil, fmt.Sprintf("field %.50q: %s", f.key, fault)
		}
		if len(r.fields) == maxFields || (len(r.fields)+1)*len(r.series) > maxAllSeries {
			return nil, fmt.Sprintf("it has more than %d fields with %d bytes of measurement and tags each", len(r.fields), len(r.series))
		}
		r.fields = append(r.fields, f)
		if len(b) == 0 || b[0] != ',' {
			return b, ""
		}
		b = b[1:]
	}
}

// parseValue reads the value of a field, behind which comes a comma, a space or nothing.
func parseValue(b []byte) (v float64, rest []byte, fault string) {
	if len(b) > 0 && b[0] == '"' {
		n := endOfText(b)
		if n < 0 {
			return 0, nil, "a quote is not closed"
		}
		rest = b[n:]
		if len(rest) > 0 && rest[0] != ',' && rest[0] != ' ' {
			return 0, nil, "there is text behind a closing quote"
		}
		return 0, rest, ""
	}
	n := 0
	for n < len(b) && b[n] != ',' && b[n] != ' ' {
		n++
	}
	v, ok := parseNumber(b[:n])
	if !ok {
		return 0, nil, fmt.Sprintf("the value is %.50q, which is neither a number, nor a boolean, nor a text in quotes", b[:n])
	}
	return v, b[n:], ""
}

func parseNumber(b []byte) (v float64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	digits, last := b[:len(b)-1], b[len(b)-1]
	switch {
	case '0' <= last && last <= '9' || last == '.':
		return protoparser.ParseFloat(b)
	case last == 'i':
		n, ok := protoparser.ParseInt(digits)
		return float64(n), ok
	case last == 'u' && len(digits) < 19: // more may not fit
		n, ok := protoparser.ParseInt(digits)
		return float64(n), ok && digits[0] != '-'
	case last == 'u':
		v, ok := protoparser.ParseFloat(digits)
		return v, ok && v >= 0 && v <= math.MaxUint64 && bytes.IndexByte(digits, '.') < 0
	}
	switch string(b) {
	case "t", "T", "true", "True", "TRUE":
		return 1, true
	case "f", "F", "false", "False", "FALSE":
		return 0, true
	}
	return protoparser.ParseFloat(b)
}

// milliseconds returns a time in the unit, or in the one that its size tells, as Unix milliseconds.
func milliseconds(t int64, unit time.Duration) (ms int64, ok bool) {
	const seconds, millis, micros = 1e11, 1e14, 1e17 // as seconds the first is the year 5138, as milliseconds 1973
	if unit == 0 {
		switch size := max(t, -t); {
		case size < 0: // the least there is
			unit = time.Nanosecond
		case size < seconds:
			unit = time.Second
		case size < millis:
			unit = time.Millisecond
		case size < micros:
			unit = time.Microsecond
		default:
			unit = time.Nanosecond
		}
	}
	if unit < time.Millisecond {
		return t / int64(time.Millisecond/unit), true
	}
	factor := unit.Milliseconds()
	return t * factor, max(t, -t) <= math.MaxInt64/factor && t != math.MinInt64
}

// Raw labels are those of a series, a space and the key of its field. There is no key when the field is not part of the name.

func (r *row) startRaw() { r.raw = append(append(r.raw[:0], r.series...), ' ') }

// rawLabels returns the raw labels of a field, once startRaw was called for the line.
func (r *row) rawLabels(key []byte) []byte {
	r.raw = append(r.raw[:len(r.series)+1], key...)
	return r.raw
}

// parseLabels takes raw labels apart and returns what is wrong with them, or nothing.
func (r *row) parseLabels(raw []byte, c *Config, database string) (fault string) {
	end := unescapedSpace(raw)
	b, key := raw[:end], raw[end+1:]
	r.scratch = r.scratch[:0]
	n := endOfName(b, false)
	if n == 0 {
		return "there is no measurement"
	}
	r.labels = append(r.labels[:0], model.Label{Name: model.MetricNameLabel, Value: r.metricName(b[:n], key, c)})
	hasDatabase := database == "" || c.DatabaseLabel == ""
	for b = b[n:]; len(b) > 0; {
		b = b[1:] // the comma
		if n = endOfName(b, true); n == 0 || n == len(b) || b[n] != '=' {
			return "a tag is not of the form name=value"
		}
		l := model.Label{Name: r.unescaped(b[:n])}
		b = b[n+1:]
		n = endOfName(b, false)
		l.Value, b = r.unescaped(b[:n]), b[n:]
		r.labels = append(r.labels, l)
		hasDatabase = hasDatabase || l.Name == c.DatabaseLabel
	}
	if !hasDatabase {
		r.labels = append(r.labels, model.Label{Name: c.DatabaseLabel, Value: database})
	}
	return ""
}

func (r *row) metricName(measurement, key []byte, c *Config) string {
	start := len(r.scratch)
	if !c.SkipMeasurement || len(key) == 0 {
		r.scratch = appendUnescaped(r.scratch, measurement)
	}
	if !c.SkipMeasurement && len(key) > 0 {
		r.scratch = append(r.scratch, c.Separator...)
	}
	r.scratch = appendUnescaped(r.scratch, key)
	return bytesutil.String(r.scratch[start:])
}

// unescaped returns a name or value without its escapes. When scratch moves while it grows, strings made before stay in the old memory.
func (r *row) unescaped(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return bytesutil.String(b)
	}
	start := len(r.scratch)
	r.scratch = appendUnescaped(r.scratch, b)
	return bytesutil.String(r.scratch[start:])
}

func appendUnescaped(dst, b []byte) []byte {
	for i := 0; i < len(b); i++ {
		if isEscape(b, i) {
			i++
		}
		dst = append(dst, b[i])
	}
	return dst
}

// isEscape reports whether b[i] is a \ that makes the byte behind it part of a name or value.
func isEscape(b []byte, i int) bool {
	if b[i] != '\\' || i+1 == len(b) {
		return false
	}
	switch b[i+1] {
	case ',', '=', ' ', '\\':
		return true
	}
	return false
}

// unescapedSpace returns where the first space is that separates, -1 when there is none.
func unescapedSpace(b []byte) int {
	i := bytes.IndexByte(b, ' ')
	if i <= 0 || b[i-1] != '\\' {
		return i
	}
	for i = 0; i < len(b); i++ {
		if isEscape(b, i) {
			i++
		} else if b[i] == ' ' {
			return i
		}
	}
	return -1
}

// endOfName returns where the first comma, space or, for a key, equals sign is that separates.
func endOfName(b []byte, key bool) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case ',', ' ':
			return i
		case '=':
			if key {
				return i
			}
		case '\\':
			if isEscape(b, i) {
				i++
			}
		}
	}
	return len(b)
}

// endOfText returns where the text ends that begins with a quote, behind its other quote, or -1.
func endOfText(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// endOfLine returns where the first line of b ends, which begins with no space. Line ends in texts do not count, unless the text does not end.
func endOfLine(b []byte) int {
	end := lineEnd(b, 0)
	if !bytes.Contains(b[:end], []byte(`="`)) || b[0] == '#' {
		return end
	}
	i := unescapedSpace(b[:end]) // texts are among the fields only
	if i < 0 {
		return end
	}
	for ; i < len(b) && b[i] != '\n'; i++ {
		switch {
		case isEscape(b, i):
			i++
		case b[i] == '=' && i+1 < len(b) && b[i+1] == '"':
			n := endOfText(b[i+1:])
			if n < 0 {
				return lineEnd(b, i)
			}
			i += n
		}
	}
	return min(i, len(b))
}

// lineEnd returns where the first line end at or behind i is.
func lineEnd(b []byte, i int) int {
	if n := bytes.IndexByte(b[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(b)
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	return b
}
