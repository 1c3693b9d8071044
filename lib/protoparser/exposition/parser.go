package exposition

import (
	"fmt"

	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "prometheus"

// maxLineLen is the longest line in bytes: all labels at their default limits fit.
const maxLineLen = 1 << 20

// Parser reads text bodies. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	rows     protoparser.Pool[row]
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
	lines := p.intake.Lines(body, maxLineLen)
	defer lines.Release()
	r := p.rows.Get()
	defer p.putRow(r)

	var about *described
	if req.Metadata != nil {
		about = &described{to: p.intake.Metadata(req)}
	}
	exemplars := exemplars{parser: p, to: p.intake.Exemplars(req, p.counters.Exemplars)}
	read := 0
	for c.Err() == nil && lines.Next() {
		line := trimLeft(lines.At())
		if len(line) == 0 {
			continue
		}
		if line[0] == '#' {
			if about != nil {
				about.comment(line)
			}
			continue
		}
		if fault := p.store(c, r, line, req.DefaultTimestamp); fault != "" {
			p.intake.InvalidLine(c, p.counters, line, fault)
			continue
		}
		read++
		if len(r.exemplar) > 0 && exemplars.to != nil {
			exemplars.take(line, r)
		}
	}
	for range lines.TooLong() {
		p.intake.InvalidLine(c, p.counters, nil, fmt.Sprintf("the line is longer than %d bytes", maxLineLen))
	}
	p.counters.RowsRead.Add(read)
	result, err := c.Finish() // what was read before the body broke off is stored
	if about != nil {         // samples come first
		about.flush()
		about.to.Flush()
		p.counters.Metadata.Add(about.count)
	}
	result.Exemplars = exemplars.to.Flush()
	if err == nil && lines.Err() != nil {
		p.counters.ReadErrors.Inc()
		return result, lines.Err()
	}
	return result, err
}

// store stores the sample of a line and returns what is wrong with it, or nothing.
func (p *Parser) store(c *protoparser.Collector, r *row, line []byte, defaultTimestamp int64) (fault string) {
	started := false
	raw := rawLabels(line)
	if len(raw) > 0 {
		r.hasTimestamp = false
		if r.parseNumbers(line[len(raw):]) == "" {
			if started = c.StartRaw(raw, 0, 1); !started && c.Dropped() {
				return ""
			}
		}
	}
	if !started {
		if fault = r.parse(line); fault != "" {
			return fault
		}
		if r.labelsEnd == len(raw) {
			started = c.StartNew(r.labels, 1)
		} else {
			started = c.StartSeries(r.labels, 1)
		}
	}
	if !r.hasTimestamp {
		r.timestamp = defaultTimestamp
	}
	if started {
		c.Sample(r.timestamp, r.value)
	}
	return ""
}

func (p *Parser) putRow(r *row) {
	clear(r.labels[:cap(r.labels)])
	p.rows.Put(r)
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	r := p.rows.Get()
	defer p.putRow(r)
	fault := r.parse(append(raw[:len(raw):len(raw)], " 0"...))
	invariants.Check(fault == "", "labels of a known series: %s", fault)
	use(r.labels)
}
