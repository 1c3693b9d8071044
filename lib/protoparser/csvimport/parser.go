package csvimport

import (
	"bytes"
	"fmt"
	"sync"
	"unicode/utf8"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "csvimport"

// Parser reads CSV bodies. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	trimMs   int64
	rows     sync.Pool // *row
}

// New returns a parser which counts in the intake's metrics, and lowers timestamps to multiples of trimMs if that is more than 1.
func New(in *protoparser.Intake, trimMs int64) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), trimMs: trimMs}
}

// Parse stores the samples of all rows which can be parsed, and counts the others. Errors are of kind BadRequest when the
// format is none or the body cannot be read, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	layout, err := parseLayout(req.Format)
	if err != nil {
		p.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	body, err := p.intake.Bodies.Stream(req.Body, req.Encoding)
	if err != nil {
		p.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	defer body.Close()
	c := p.intake.CollectRaw(req, p, nil)
	defer c.Release()
	lines := p.intake.Lines(body, p.intake.MaxImportLineLen())
	defer lines.Release()
	r, ok := p.rows.Get().(*row)
	if !ok {
		r = &row{}
	}
	defer p.rows.Put(r)
	r.clear()
	r.layout, r.number, r.maxLen, r.defaultMs, r.trimMs = layout, 0, p.intake.MaxImportLineLen(), req.DefaultTimestamp, p.trimMs
	for c.Err() == nil && lines.Next() {
		if r.add(lines.At()) {
			p.store(c, r)
		}
	}
	if lines.Err() == nil {
		p.storeRest(c, r)
	}
	for range lines.TooLong() {
		p.intake.InvalidLine(c, p.counters, nil, fmt.Sprintf("the line is longer than -import.maxLineLen=%d bytes", p.intake.MaxImportLineLen()))
	}
	result, err := c.Finish() // what was read before the body broke off is stored
	if err == nil && lines.Err() != nil {
		p.counters.ReadErrors.Inc()
		return result, lines.Err()
	}
	return result, err
}

// storeRest takes what follows a quote that nothing ends as the row it is meant to be.
func (p *Parser) storeRest(c *protoparser.Collector, r *row) {
	if len(r.text) > 0 && c.Err() == nil {
		p.intake.InvalidLine(c, p.counters, r.text, fmt.Sprintf("row %d has a quote which nothing ends", r.number+1))
		r.clear()
	}
}

// store stores the samples of a whole row.
func (p *Parser) store(c *protoparser.Collector, r *row) {
	defer r.clear()
	if isBlank(r.text) {
		return
	}
	r.number++
	fault := r.parse()
	if fault != "" {
		if r.number > 1 || !r.isHeader {
			p.intake.InvalidLine(c, p.counters, r.text, fmt.Sprintf("row %d: %s", r.number, fault))
		}
		return
	}
	p.counters.RowsRead.Add(len(r.samples))
	r.raw = r.raw[:0]
	for _, l := range r.labels {
		r.raw = protoparser.AppendRawText(protoparser.AppendRawText(r.raw, l.Name), l.Value)
	}
	nameless := len(r.raw)
	for _, s := range r.samples {
		r.raw = r.raw[:nameless]
		if !r.named {
			r.raw = protoparser.AppendRawText(protoparser.AppendRawText(r.raw, model.MetricNameLabel), s.name)
		}
		started := c.StartRaw(r.raw, 0, 1)
		if !started && !c.Dropped() {
			r.scratch = protoparser.AppendRawLabels(r.scratch[:0], r.raw)
			started = c.StartNew(r.scratch, 1)
		}
		if started {
			c.Sample(r.timestamp, s.value)
		}
	}
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	use(protoparser.AppendRawLabels(nil, raw))
}

func isBlank(b []byte) bool {
	return (len(b) == 0 || b[0] <= ' ' || b[0] >= utf8.RuneSelf) && len(bytes.TrimSpace(b)) == 0
}

// row is a row which is being read. Its strings are valid until the next one.
type row struct {
	layout    *layout
	number    int
	maxLen    int
	defaultMs int64
	trimMs    int64

	text     []byte // as it was read
	lines    []byte // where it is, if it has quotes, between which there may be line ends
	open     bool   // the number of quotes is odd
	unquoted []byte

	labels    []model.Label
	scratch   []model.Label
	raw       []byte // labels of a series
	named     bool   // a label gives the name
	samples   []namedValue
	timestamp int64
	isHeader  bool // what is wrong is what headers have wrong
}

type namedValue struct {
	name  string
	value float64
}

// clear makes room for the next row.
func (r *row) clear() { r.text, r.lines, r.open = nil, r.lines[:0], false }

// add adds a line, which stays as it is until the row was read, and reports whether the row is whole: it has an even number of quotes.
func (r *row) add(line []byte) bool {
	if !r.open && bytes.IndexByte(line, '"') < 0 {
		r.text = line
		return true
	}
	if r.open {
		r.lines = append(r.lines, '\n')
	}
	r.lines = append(r.lines, line...)
	r.text = r.lines
	r.open = r.open != (bytes.Count(line, []byte{'"'})%2 == 1)
	return !r.open || len(r.text) > r.maxLen
}

// parse takes the row apart and returns what is wrong with it, or nothing.
func (r *row) parse() (fault string) {
	r.labels, r.samples, r.named, r.isHeader = r.labels[:0], r.samples[:0], false, false
	r.timestamp = r.defaultMs
	if need := len(r.text); cap(r.unquoted) < need {
		r.unquoted = make([]byte, 0, need) // never moved, so that fields stay valid
	}
	r.unquoted = r.unquoted[:0]
	rest, more := r.text, true
	for i := range r.layout.columns {
		if !more {
			return fmt.Sprintf("it has %d columns, fewer than the format", i)
		}
		var field string
		if field, rest, more, fault = r.cutField(rest); fault != "" {
			return fault
		}
		if fault = r.take(&r.layout.columns[i], field); fault != "" {
			return fault
		}
	}
	if r.trimMs > 1 {
		r.timestamp -= r.timestamp % r.trimMs
	}
	return ""
}

// cutField cuts the first field off; more says that another one follows.
func (r *row) cutField(s []byte) (field string, rest []byte, more bool, fault string) {
	if len(s) == 0 || s[0] != '"' {
		n := bytes.IndexByte(s, ',')
		if n < 0 {
			return bytesutil.String(s), nil, false, ""
		}
		return bytesutil.String(s[:n]), s[n+1:], true, ""
	}
	start := len(r.unquoted)
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			r.unquoted = append(r.unquoted, s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			r.unquoted = append(r.unquoted, '"')
			i++
			continue
		}
		rest = s[i+1:]
		if len(rest) > 0 && rest[0] != ',' {
			return "", nil, false, "there is text behind a closing quote"
		}
		more = len(rest) > 0
		if more {
			rest = rest[1:]
		}
		return bytesutil.String(r.unquoted[start:]), rest, more, ""
	}
	return "", nil, false, "a quote is not closed"
}

// take uses a field as its column says.
func (r *row) take(c *column, field string) (fault string) {
	switch {
	case c.kind == kindLabel && field != "":
		r.labels = append(r.labels, model.Label{Name: c.name, Value: field})
		r.named = r.named || c.name == model.MetricNameLabel
	case c.kind == kindMetric && field != "": // an empty one is no sample
		v, ok := protoparser.ParseFloat(bytesutil.Bytes(field))
		if !ok {
			r.isHeader = true
			return fmt.Sprintf("the value of metric %q is %q, which is no number", c.name, field)
		}
		r.samples = append(r.samples, namedValue{c.name, v})
	case c.kind == kindTime:
		var ok bool
		if r.timestamp, ok = c.time(field); !ok {
			r.isHeader = true
			return fmt.Sprintf("the time is %q, which is not of the format", field)
		}
	}
	return ""
}
