package jsonline

import (
	"fmt"
	"math"
	"strconv"

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
	lines    protoparser.Pool[line]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format)}
}

// Parse stores the samples of all lines which can be parsed, and counts the others. Errors are of
// kind BadRequest when the body cannot be read or decompressed, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	l := p.lines.Get()
	defer p.putLine(l)
	l.bits = req.ValueBits
	return p.intake.StoreLines(req, &protoparser.LineOptions{
		Format: p, Counters: p.counters, MaxLen: p.intake.MaxImportLineLen(), LimitName: "-import.maxLineLen", Store: l.store,
	})
}

func (p *Parser) putLine(l *line) {
	if cap(l.samples) <= maxPooled && cap(l.labels) <= maxPooled {
		clear(l.labels[:cap(l.labels)])
		p.lines.Put(l)
	}
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	l := p.lines.Get()
	defer p.putLine(l)
	fault := l.parseLabels(raw)
	invariants.Check(fault == "", "labels of a known series: %s", fault)
	use(l.labels)
}

// maxPooled bounds what is kept of lines.
const maxPooled = 100_000

// line is one parsed line. Its labels are parts of it.
type line struct {
	labels  []model.Label
	samples []model.Sample
	nulls   int
	bits    bool // values are the bits of their float64
}

// store stores the samples of a line. It returns how many they are, or what is wrong with the line.
func (l *line) store(c *protoparser.Collector, text []byte) (samples int, fault string) {
	raw, ok := l.parsePlain(text)
	if !ok {
		if raw, fault = l.parse(text); fault != "" {
			return 0, fault
		}
	}
	started := c.StartRaw(raw, 0, len(l.samples))
	if !started && !c.Dropped() {
		if fault = l.parseLabels(raw); fault != "" {
			return 0, fault
		}
		started = c.StartNew(l.labels, len(l.samples))
	}
	if started {
		for _, s := range l.samples {
			c.Sample(s.Timestamp, s.Value)
		}
	}
	for range l.nulls {
		c.Null()
	}
	return len(l.samples) + l.nulls, ""
}

// parse reads a line but for its labels, and returns the object which has them, or what is wrong with the line.
func (l *line) parse(text []byte) (metric []byte, fault string) {
	if err := protoparser.ValidateJSON(text); err != nil {
		return nil, fmt.Sprintf("it is not JSON: %.200s", err)
	}
	var values, timestamps []byte
	s := protoparser.NewJSONScanner(text)
	if s.Next() == '{' {
		for s.Enter(); s.More('}'); {
			switch key, value := s.Member(); string(key) {
			case `"metric"`:
				metric = value
			case `"values"`:
				values = value
			case `"timestamps"`:
				timestamps = value
			}
		}
	}
	switch {
	case len(metric) == 0 || metric[0] != '{':
		return nil, `there is no object "metric"`
	case len(values) == 0 || values[0] != '[':
		return nil, `there is no array "values"`
	case len(timestamps) == 0 || timestamps[0] != '[':
		return nil, `there is no array "timestamps"`
	}
	return metric, l.parseSamples(values, timestamps)
}

func (l *line) parseLabels(metric []byte) (fault string) {
	l.labels = l.labels[:0]
	s := protoparser.NewJSONScanner(metric)
	s.Next()
	for s.Enter(); s.More('}'); {
		key, value := s.Member()
		name, _ := protoparser.JSONText(key)
		text, ok := protoparser.JSONText(value)
		if !ok {
			return fmt.Sprintf("the value of label %.100q is not a string", name)
		}
		if len(l.labels) == protoparser.MaxLabels {
			return protoparser.TooManyLabelsFault()
		}
		l.labels = append(l.labels, model.Label{Name: bytesutil.String(name), Value: bytesutil.String(text)})
	}
	return ""
}

func (l *line) parseSamples(values, timestamps []byte) (fault string) {
	l.samples, l.nulls = l.samples[:0], 0
	vs, ts := protoparser.NewJSONScanner(values), protoparser.NewJSONScanner(timestamps)
	vs.Enter()
	ts.Enter()
	i := 0
	for ; ; i++ {
		more := vs.More(']')
		if ts.More(']') != more {
			return "there are not as many values as timestamps"
		}
		if !more {
			break
		}
		value, timestamp := vs.Value(), ts.Value()
		if string(value) == "null" {
			l.nulls++
			continue
		}
		v, ok := l.parseValue(value)
		if !ok {
			return fmt.Sprintf("value %d is not a number", i)
		}
		t, ok := protoparser.ParseInt(timestamp)
		if !ok {
			return fmt.Sprintf("timestamp %d is not a whole number of milliseconds", i)
		}
		l.samples = append(l.samples, model.Sample{Timestamp: t, Value: v})
	}
	if i == 0 {
		return "there are no values"
	}
	return ""
}

func (l *line) parseValue(value []byte) (f float64, ok bool) {
	text, isText := protoparser.JSONText(value)
	switch {
	case l.bits:
		bits, err := strconv.ParseUint(bytesutil.String(text), 16, 64)
		return math.Float64frombits(bits), err == nil && len(text) == 16
	case isText:
		return protoparser.ParseFloat(text)
	}
	return protoparser.ParseFloat(value)
}
