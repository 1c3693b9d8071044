package exposition

import (
	"bytes"
	"math"
	"strconv"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
)

// row is one parsed line. Its strings alias the line or scratch.
type row struct {
	labels       []model.Label
	value        float64
	timestamp    int64 // Unix milliseconds
	hasTimestamp bool
	labelsEnd    int    // in the line, of name and labels
	exemplar     []byte // what follows # behind the value; empty when nothing does
	scratch      []byte // unescaped strings
}

// parse reads a line which is neither empty nor a comment. It returns what is
// wrong with it, or nothing.
func (r *row) parse(line []byte) (fault string) {
	r.labels, r.scratch, r.hasTimestamp = r.labels[:0], r.scratch[:0], false
	end := 0
	for end < len(line) && line[end] != '{' && !isSpace(line[end]) {
		end++
	}
	switch {
	case end == len(line):
		return "there is no value"
	case end > 0:
		r.addMetric(bytesutil.String(line[:end]))
	}
	r.labelsEnd = end
	rest := trimLeft(line[end:])
	if len(rest) > 0 && rest[0] == '{' {
		if rest, fault = r.parseLabels(rest[1:]); fault != "" {
			return fault
		}
		r.labelsEnd = len(line) - len(rest)
	}
	return r.parseNumbers(rest)
}

// rawLabels returns the bytes of a line which are metric name and labels, or nothing when they are not simple to find. It
// may be wrong for lines that parse refuses, and tells as parse does for all lines which begin with the same bytes.
func rawLabels(line []byte) []byte {
	i := 0
	for i < len(line) && line[i] != '{' && !isSpace(line[i]) {
		i++
	}
	if i < len(line) && line[i] != '{' {
		if rest := trimLeft(line[i:]); len(rest) > 0 && rest[0] == '{' {
			return nil
		}
		return line[:i]
	}
	quoted := false
	for ; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '}' && !quoted:
			return line[:i+1]
		}
	}
	return nil
}

func (r *row) addMetric(name string) {
	r.labels = append(r.labels, model.Label{Name: model.MetricNameLabel, Value: name})
}

// parseLabels reads up to the closing brace and returns what follows it.
func (r *row) parseLabels(b []byte) (rest []byte, fault string) {
	for {
		b = trimLeft(b)
		if len(b) == 0 {
			return nil, "the labels are not closed by }"
		}
		if b[0] == '}' {
			return b[1:], ""
		}
		if b, fault = r.parseLabel(b); fault != "" {
			return nil, fault
		}
		b = trimLeft(b)
		if len(b) > 0 && b[0] == ',' {
			b = b[1:]
			continue
		}
		if len(b) > 0 && b[0] != '}' {
			return nil, "there is no comma between labels"
		}
	}
}

// parseLabel reads name="value", or the quoted metric name.
func (r *row) parseLabel(b []byte) (rest []byte, fault string) {
	var l model.Label
	if b[0] == '"' {
		if l.Name, b, fault = r.parseQuoted(b); fault != "" {
			return nil, fault
		}
		b = trimLeft(b)
		if len(b) > 0 && (b[0] == ',' || b[0] == '}') {
			r.addMetric(l.Name)
			return b, ""
		}
	} else {
		n := 0
		for n < len(b) && !endsLabelName(b[n]) {
			n++
		}
		if n == len(b) || b[n] != '=' {
			return nil, "a label has no ="
		}
		l.Name = bytesutil.String(trimRight(b[:n]))
		b = b[n:]
	}
	if len(b) == 0 || b[0] != '=' {
		return nil, "a label has no ="
	}
	b = trimLeft(b[1:])
	if len(b) == 0 || b[0] != '"' {
		return nil, "a label value is not quoted"
	}
	if l.Value, b, fault = r.parseQuoted(b); fault != "" {
		return nil, fault
	}
	r.labels = append(r.labels, l)
	return b, ""
}

// parseQuoted reads a quoted string; b starts with the quote.
func (r *row) parseQuoted(b []byte) (s string, rest []byte, fault string) {
	b = b[1:]
	n := bytes.IndexByte(b, '"')
	if n < 0 {
		return "", nil, "a quote is not closed"
	}
	if bytes.IndexByte(b[:n], '\\') < 0 {
		return bytesutil.String(b[:n]), b[n+1:], ""
	}
	// When scratch moves while it grows, strings made before stay in the old memory.
	start := len(r.scratch)
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			return bytesutil.String(r.scratch[start:]), b[i+1:], ""
		case b[i] == '\\' && i+1 < len(b):
			i++
			r.scratch = appendEscaped(r.scratch, b[i])
		default:
			r.scratch = append(r.scratch, b[i])
		}
	}
	return "", nil, "a quote is not closed"
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case 'n':
		return append(dst, '\n')
	case '\\', '"':
		return append(dst, c)
	}
	return append(dst, '\\', c)
}

// parseNumbers reads the value and the timestamp. What follows a # is an exemplar.
func (r *row) parseNumbers(b []byte) (fault string) {
	value, rest := cutWord(b)
	if len(value) == 0 {
		return "there is no value"
	}
	v, err := strconv.ParseFloat(bytesutil.String(value), 64)
	if err != nil {
		return "the value is not a number"
	}
	r.value, r.exemplar = v, nil
	rest = trimLeft(rest)
	if len(rest) > 0 && rest[0] != '#' {
		word, tail := cutWord(rest)
		if fault = r.parseTimestamp(bytesutil.String(word)); fault != "" {
			return fault
		}
		rest = trimLeft(tail)
	}
	if len(rest) == 0 {
		return ""
	}
	if rest[0] != '#' {
		return "something follows the timestamp"
	}
	r.exemplar = rest[1:]
	return ""
}

// parseExemplar reads {labels} value [timestamp] behind the # of another line into r, whose fields are those of the exemplar then. The timestamp is
// in seconds, as all in OpenMetrics are.
func (r *row) parseExemplar(b []byte) (fault string) {
	r.labels, r.scratch, r.hasTimestamp = r.labels[:0], r.scratch[:0], false
	b = trimLeft(b)
	if len(b) == 0 || b[0] != '{' {
		return "the labels of the exemplar do not begin with {"
	}
	b, fault = r.parseLabels(b[1:])
	if fault != "" {
		return fault
	}
	word, b := cutWord(b)
	v, err := strconv.ParseFloat(bytesutil.String(word), 64)
	if err != nil {
		return "the value of the exemplar is not a number"
	}
	r.value = v
	word, b = cutWord(b)
	if len(word) == 0 {
		return ""
	}
	seconds, err := strconv.ParseFloat(bytesutil.String(word), 64)
	if err != nil || !(math.Abs(seconds) < 1<<53/1000) {
		return "the timestamp of the exemplar is not a number of seconds"
	}
	if len(trimLeft(b)) > 0 {
		return "something follows the exemplar"
	}
	r.timestamp, r.hasTimestamp = int64(math.Round(seconds*1000)), true
	return ""
}

func (r *row) parseTimestamp(s string) (fault string) {
	const seconds = 1 << 31 // as milliseconds this is still January 1970
	r.hasTimestamp = true
	if t, err := strconv.ParseInt(s, 10, 64); err == nil {
		if -seconds < t && t < seconds {
			t *= 1000
		}
		r.timestamp = t
		return ""
	}
	t, err := strconv.ParseFloat(s, 64)
	if err != nil || t != t {
		return "the timestamp is not a number"
	}
	if math.Abs(t) < seconds {
		t = math.Round(t * 1000)
	}
	if math.Abs(t) >= 1<<63 {
		return "the timestamp is out of range"
	}
	r.timestamp = int64(t)
	return ""
}

// cutWord splits the first word off b.
func cutWord(b []byte) (word, rest []byte) {
	b = trimLeft(b)
	n := 0
	for n < len(b) && !isSpace(b[n]) {
		n++
	}
	return b[:n], b[n:]
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func endsLabelName(c byte) bool { return c == '=' || c == ',' || c == '}' || c == '"' }

func trimLeft(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	return b
}

func trimRight(b []byte) []byte {
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}
