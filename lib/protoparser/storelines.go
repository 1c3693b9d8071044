package protoparser

import "fmt"

// LineOptions say what is particular to a format whose rows are lines.
type LineOptions struct {
	Format    Format
	Counters  *Counters
	MaxLen    int    // of a line in bytes
	LimitName string // of MaxLen, for messages
	// Store stores the samples of a line, which is neither blank nor keeps spaces at its ends. It returns how many they are, or what is wrong with
	// the line, of which nothing is stored then.
	Store func(c *Collector, line []byte) (samples int, fault string)
}

// StoreLines stores the samples of all lines which can be parsed, and counts the others. Errors are of kind BadRequest when
// the body cannot be read or decompressed, or come from the sink.
func (in *Intake) StoreLines(req *Request, o *LineOptions) (Result, error) {
	body, err := in.Bodies.Stream(req.Body, req.Encoding)
	if err != nil {
		o.Counters.ReadErrors.Inc()
		return Result{}, err
	}
	defer body.Close()
	c := in.CollectRaw(req, o.Format, nil)
	defer c.Release()
	lines := in.Lines(body, o.MaxLen)
	defer lines.Release()
	read := 0
	for c.Err() == nil && lines.Next() {
		line := TrimSpaces(lines.At())
		if len(line) == 0 {
			continue
		}
		samples, fault := o.Store(c, line)
		if fault != "" {
			in.InvalidLine(c, o.Counters, line, fault)
		}
		read += samples
	}
	for range lines.TooLong() {
		in.InvalidLine(c, o.Counters, nil, fmt.Sprintf("the line is longer than %s=%d bytes", o.LimitName, o.MaxLen))
	}
	o.Counters.RowsRead.Add(read)
	result, err := c.Finish() // what was read before the body broke off is stored
	if err == nil && lines.Err() != nil {
		o.Counters.ReadErrors.Inc()
		return result, lines.Err()
	}
	return result, err
}

// InvalidLine counts and logs a line which cannot be parsed.
func (in *Intake) InvalidLine(c *Collector, counters *Counters, line []byte, fault string) {
	counters.RowsInvalid.Inc()
	text := ""
	if c.result.Reason == "" { // a body may be nothing but faults
		text = DescribeLine(line, fault)
		in.Warnf("%s; it is skipped and counted in vm_rows_invalid_total, as are more of the same request", text)
	}
	c.Invalid(text)
}

// DescribeLine says in a bounded text what is wrong with a line.
func DescribeLine(line []byte, fault string) string {
	return fmt.Sprintf("cannot parse line %q: %s", line[:min(len(line), 200)], fault)
}

// TrimSpaces cuts spaces and tabs, and the \r of line ends, off both ends.
func TrimSpaces(b []byte) []byte {
	for len(b) > 0 && IsSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && (IsSpace(b[len(b)-1]) || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}

// CutWord splits the first word off b, whose words have spaces and tabs between them and none before.
func CutWord(b []byte) (word, rest []byte) {
	n := 0
	for n < len(b) && !IsSpace(b[n]) {
		n++
	}
	word, rest = b[:n], b[n:]
	for len(rest) > 0 && IsSpace(rest[0]) {
		rest = rest[1:]
	}
	return word, rest
}

// IsSpace reports whether c separates words of a line.
func IsSpace(c byte) bool { return c == ' ' || c == '\t' }
