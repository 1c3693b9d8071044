package jsonline

import (
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/valyala/fastjson"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "vmimport"

// Parser reads JSON line bodies. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	lines    sync.Pool // *line
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format)}
}

// Parse stores the samples of all lines which can be parsed, and counts the others. Errors are of
// kind BadRequest when the body cannot be read or decompressed, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	body, err := p.intake.Bodies.Stream(req.Body, req.Encoding)
	if err != nil {
		p.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	defer body.Close()
	c := p.intake.CollectRaw(req, p, nil)
	defer c.Release()
	maxLineLen := p.intake.MaxImportLineLen()
	lines := p.intake.Lines(body, maxLineLen)
	defer lines.Release()
	l := p.getLine()
	l.bits = req.ValueBits
	read := 0
	for c.Err() == nil && lines.Next() {
		read += p.storeLine(c, l, lines.At())
	}
	p.putLine(l)
	for range lines.TooLong() {
		p.invalid(c, nil, fmt.Sprintf("the line is longer than -import.maxLineLen=%d bytes", maxLineLen))
	}
	p.counters.RowsRead.Add(read)
	result, err := c.Finish() // what was read before the body broke off is stored
	if err == nil && lines.Err() != nil {
		p.counters.ReadErrors.Inc()
		return result, lines.Err()
	}
	return result, err
}

// storeLine stores the samples of one line and returns their number.
func (p *Parser) storeLine(c *protoparser.Collector, l *line, text []byte) int {
	if isBlank(text) {
		return 0
	}
	started, fault := l.start(c, text)
	if fault != "" {
		p.invalid(c, text, fault)
		return 0
	}
	if started {
		for _, s := range l.samples {
			c.Sample(s.Timestamp, s.Value)
		}
	}
	for range l.nulls {
		c.Null()
	}
	return len(l.samples) + l.nulls
}

func (p *Parser) getLine() *line {
	if l, ok := p.lines.Get().(*line); ok {
		return l
	}
	return &line{}
}

func (p *Parser) putLine(l *line) {
	if cap(l.samples) <= maxPooledSamples && l.longest <= maxPooledLine {
		p.lines.Put(l) // a parser which has seen a huge line is left to the garbage collector
	}
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	l := p.getLine()
	defer p.putLine(l)
	v, err := l.parser.ParseBytes(raw)
	invariants.Check(err == nil, "labels of a known series: %v", err)
	l.labels, l.longest = l.labels[:0], max(l.longest, len(raw))
	fault := l.parseMetric(v.GetObject())
	invariants.Check(fault == "", "labels of a known series: %s", fault)
	use(l.labels)
}

func isBlank(b []byte) bool {
	for _, ch := range b {
		if ch != ' ' && ch != '\t' {
			return false
		}
	}
	return true
}

func (p *Parser) invalid(c *protoparser.Collector, text []byte, fault string) {
	p.counters.RowsInvalid.Inc()
	message := fmt.Sprintf("cannot parse line %q: %s", text[:min(len(text), 200)], fault)
	c.Invalid(message)
	p.intake.Warnf("%s; it is skipped and counted in vm_rows_invalid_total{type=%q}", message, Format)
}

const (
	maxPooledSamples = 100_000
	// The JSON parser keeps some fifty times as much memory as the longest line it has seen.
	maxPooledLine = 256 << 10
)

// line is one parsed line. Its strings belong to the JSON parser and are valid until the next parse.
type line struct {
	parser  fastjson.Parser
	labels  []model.Label
	samples []model.Sample
	nulls   int
	longest int  // bytes of a line
	bits    bool // values are the bits of their float64
}

// start reads one line and begins its series, unless something is wrong with it.
func (l *line) start(c *protoparser.Collector, text []byte) (started bool, fault string) {
	metric, fault := l.parse(text)
	if metric == nil {
		return false, fault
	}
	if fault == "" {
		if started = c.StartRaw(rawMetric(text), 0, len(l.samples)); started || c.Dropped() {
			return started, ""
		}
	}
	if metricFault := l.parseMetric(metric); metricFault != "" {
		return false, metricFault
	}
	return fault == "" && c.StartNew(l.labels, len(l.samples)), fault
}

// parse reads a line but for its labels, and returns the object which has them, and what is wrong with the
// line, or nothing. The object is nil when what is wrong comes before the labels.
func (l *line) parse(text []byte) (metric *fastjson.Object, fault string) {
	l.labels, l.samples, l.nulls = l.labels[:0], l.samples[:0], 0
	l.longest = max(l.longest, len(text))
	v, err := l.parser.ParseBytes(text)
	if err != nil {
		return nil, "it is not JSON: " + shorten(err.Error())
	}
	m := v.Get("metric")
	if m == nil || m.Type() != fastjson.TypeObject {
		return nil, `there is no object "metric"`
	}
	values, timestamps := v.Get("values"), v.Get("timestamps")
	if values == nil || values.Type() != fastjson.TypeArray {
		return nil, `there is no array "values"`
	}
	if timestamps == nil || timestamps.Type() != fastjson.TypeArray {
		return nil, `there is no array "timestamps"`
	}
	return m.GetObject(), l.parseSamples(values.GetArray(), timestamps.GetArray())
}

// rawMetric returns the bytes of the object with the labels when it comes first in a line, as it does in all that
// exports write; else nothing. Labels are strings, so the first brace outside of strings ends the object.
func rawMetric(text []byte) []byte {
	const start = `{"metric":`
	if len(text) <= len(start) || string(text[:len(start)]) != start || text[len(start)] != '{' {
		return nil
	}
	quoted := false
	for i := len(start) + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '}' && !quoted:
			return text[len(start) : i+1]
		}
	}
	return nil
}

func (l *line) parseMetric(metric *fastjson.Object) (fault string) {
	metric.Visit(func(key []byte, v *fastjson.Value) {
		if v.Type() != fastjson.TypeString {
			fault = fmt.Sprintf("the value of label %q is not a string", key)
			return
		}
		l.labels = append(l.labels, model.Label{Name: bytesutil.String(key), Value: bytesutil.String(v.GetStringBytes())})
	})
	return fault
}

func (l *line) parseSamples(values, timestamps []*fastjson.Value) (fault string) {
	if len(values) != len(timestamps) {
		return fmt.Sprintf("there are %d values and %d timestamps", len(values), len(timestamps))
	}
	if len(values) == 0 {
		return "there are no values"
	}
	for i := range values {
		if values[i].Type() == fastjson.TypeNull {
			l.nulls++
			continue
		}
		v, ok := l.parseValue(values[i])
		if !ok {
			return fmt.Sprintf("value %d is not a number", i)
		}
		t, err := timestamps[i].Int64()
		if err != nil {
			return fmt.Sprintf("timestamp %d is not a whole number of milliseconds", i)
		}
		l.samples = append(l.samples, model.Sample{Timestamp: t, Value: v})
	}
	return ""
}

func (l *line) parseValue(v *fastjson.Value) (f float64, ok bool) {
	if l.bits {
		text := v.GetStringBytes() // none of another type
		bits, err := strconv.ParseUint(bytesutil.String(text), 16, 64)
		return math.Float64frombits(bits), err == nil && len(text) == 16
	}
	if v.Type() == fastjson.TypeString {
		f, err := strconv.ParseFloat(bytesutil.String(v.GetStringBytes()), 64)
		return f, err == nil
	}
	f, err := v.Float64()
	return f, err == nil
}

func shorten(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
