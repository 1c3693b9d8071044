package influx

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "influx"

// Parser reads bodies of lines. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	config   Config
	trimMs   int64
	rows     protoparser.Pool[row]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), config: c, trimMs: c.TrimTimestamp.D().Milliseconds()}
}

// Parse stores the samples of a request: of all lines or none, in stream mode of all lines which can be parsed. Errors are of kind BadRequest
// or TooLarge when the body cannot be read or parsed, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	l := &lines{Parser: p, req: *req, row: p.rows.Get()}
	defer p.putRow(l.row)
	if !req.Stream && !p.config.ForceStream {
		return l.storeWhole()
	}
	return p.intake.StoreLines(req, &protoparser.LineOptions{
		Format: l, Counters: p.counters, MaxLen: int(p.config.MaxLineSize), LimitName: "-influx.maxLineSize", Store: l.store,
	})
}

func (p *Parser) putRow(r *row) {
	clear(r.labels[:cap(r.labels)])
	clear(r.fields[:cap(r.fields)])
	r.series = nil
	p.rows.Put(r)
}

// lines are those of one request.
type lines struct {
	*Parser
	req  protoparser.Request
	row  *row
	rest []byte // of a request which is stored as a whole, from the line which is being stored
	sure bool   // all of rest can be parsed
}

// Name implements protoparser.Format. The database is among the labels, so what is known of series holds for one only.
func (l *lines) Name() string { return Format + "/" + l.req.Database }

// UseLabels implements protoparser.Format.
func (l *lines) UseLabels(raw []byte, use func([]model.Label)) {
	r := l.rows.Get()
	defer l.putRow(r)
	fault := r.parseLabels(raw, &l.config, l.req.Database)
	invariants.Check(fault == "", "labels of a known series: %s", fault)
	use(r.labels)
}

// store stores the samples of a line.
func (l *lines) store(c *protoparser.Collector, line []byte) (samples int, fault string) {
	if line[0] == '#' {
		return 0, ""
	}
	r := l.row
	if fault = r.parse(line, l.req.Unit); fault != "" {
		return 0, fault
	}
	timestamp := l.req.DefaultTimestamp
	if r.hasTimestamp {
		timestamp = r.timestamp
	}
	timestamp = protoparser.Lower(timestamp, l.trimMs)
	single := l.config.SkipSingleField && len(r.fields) == 1
	r.startRaw()
	for i := range r.fields {
		f := &r.fields[i]
		if single {
			f.key = nil
		}
		raw := r.rawLabels(f.key)
		started := c.StartRaw(raw, 0, 1)
		if !started && !c.Dropped() && c.Err() == nil {
			// Labels have no fault behind the first field, so that a line is stored as a whole or not at all.
			if fault = r.parseLabels(raw, &l.config, l.req.Database); fault != "" {
				return 0, fault
			}
			started = c.StartNew(r.labels, 1)
		}
		if started {
			c.Sample(timestamp, f.value)
		}
	}
	return len(r.fields), ""
}

// storeWhole stores all lines or none.
func (l *lines) storeWhole() (protoparser.Result, error) {
	body, err := l.intake.Bodies.ReadAll(l.req.Body, l.req.Encoding, int64(l.config.MaxRequestSize), "-influx.maxRequestSize")
	if err != nil {
		l.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	defer l.intake.Bodies.Put(body)
	req := l.req
	req.Sink = func(b *model.Batch) error {
		if err := l.checkRest(); err != nil {
			return err
		}
		return l.req.Sink(b)
	}
	c := l.intake.CollectRaw(&req, l, nil)
	defer c.Release()
	read := 0
	for l.rest = body.B; c.Err() == nil; {
		line, rest := cutLine(l.rest)
		if len(line) == 0 {
			l.sure = true
			break
		}
		samples, fault := l.store(c, line)
		if fault != "" {
			return c.Result(), l.refuse(line, fault)
		}
		read += samples
		l.rest = rest
	}
	l.counters.RowsRead.Add(read)
	return c.Finish()
}

// checkRest parses all lines which come before anything is stored, so that there is no fault behind it.
func (l *lines) checkRest() error {
	if l.sure {
		return nil
	}
	r := l.rows.Get()
	defer l.putRow(r)
	line, rest := cutLine(l.rest)
	for ; len(line) > 0; line, rest = cutLine(rest) {
		if line[0] == '#' {
			continue
		}
		fault := r.parse(line, l.req.Unit)
		if fault == "" {
			r.startRaw()
			fault = r.parseLabels(r.rawLabels(r.fields[0].key), &l.config, l.req.Database)
		}
		if fault != "" {
			return l.refuse(line, fault)
		}
	}
	l.sure = true
	return nil
}

// refuse counts a line that cannot be parsed and returns the error for its request.
func (l *lines) refuse(line []byte, fault string) error {
	l.counters.RowsInvalid.Inc()
	return errkind.New(errkind.BadRequest, "%s; nothing of the request is stored; correct the line, or send the header Stream-Mode: 1 to have all others stored",
		protoparser.DescribeLine(line, fault))
}

// cutLine returns the first line that is not blank, without spaces at its ends; empty when there is none.
func cutLine(b []byte) (line, rest []byte) {
	for len(b) > 0 {
		if b[0] == '\n' || b[0] == '\r' || protoparser.IsSpace(b[0]) {
			b = b[1:]
			continue
		}
		end := endOfLine(b)
		return protoparser.TrimSpaces(b[:end]), b[min(end+1, len(b)):]
	}
	return nil, nil
}
