package opentsdbhttp

import (
	"flag"
	"sync"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "opentsdbhttp"

// Config holds the flags of the format.
type Config struct {
	TrimTimestamp  flagvalue.Duration
	MaxRequestSize flagvalue.Bytes
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.TrimTimestamp = flagvalue.Duration(time.Millisecond)
	fs.Var(&c.TrimTimestamp, "opentsdbhttpTrimTimestamp", "Lower timestamps of OpenTSDB's /api/put to multiples of this duration")
	c.MaxRequestSize = 32 << 20
	fs.Var(&c.MaxRequestSize, "opentsdbhttp.maxInsertRequestSize", "The largest size of a body of OpenTSDB's /api/put in bytes, after decompression")
}

// Parser reads JSON bodies. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	trimMs   int64
	maxSize  int64
	rows     sync.Pool // *row
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), trimMs: c.TrimTimestamp.D().Milliseconds(), maxSize: int64(c.MaxRequestSize)}
}

// Parse stores the samples of all rows which are as they should be, and counts the others. Errors are of kind BadRequest or TooLarge
// when the body cannot be read or is not JSON, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	body, err := p.intake.Bodies.ReadAll(req.Body, req.Encoding, p.maxSize, "-opentsdbhttp.maxInsertRequestSize")
	if err != nil {
		p.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	defer p.intake.Bodies.Put(body)
	r := p.getRow()
	defer p.putRow(r)
	r.defaultMs = req.DefaultTimestamp / 1000 * 1000
	var plain bool
	r.plain, plain = appendPlain(r.plain[:0], body.B)
	if !plain {
		if err := protoparser.ValidateJSON(body.B); err != nil {
			p.counters.UnmarshalErrors.Inc()
			return protoparser.Result{}, errkind.New(errkind.BadRequest, "cannot parse body of OpenTSDB's /api/put as JSON: %.300s; nothing of it is stored", err)
		}
	}
	c := p.intake.CollectRaw(req, p, nil)
	defer c.Release()
	if plain {
		p.storePlain(c, r)
		return c.Finish()
	}
	switch s := protoparser.NewJSONScanner(body.B); s.Next() {
	case '{':
		p.store(c, r, s)
	case '[':
		for s.Enter(); s.More(']') && c.Err() == nil; {
			p.store(c, r, s)
		}
	default:
		p.counters.UnmarshalErrors.Inc()
		return protoparser.Result{}, errkind.New(errkind.BadRequest, "cannot parse body of OpenTSDB's /api/put: it is neither an object nor an array of objects")
	}
	return c.Finish()
}

// storePlain stores the samples of a plain body.
func (p *Parser) storePlain(c *protoparser.Collector, r *row) {
	for i := range r.plain {
		if c.Err() != nil {
			return
		}
		x := &r.plain[i]
		tags := x.tags
		if len(tags) == 0 {
			tags = []byte("{}")
		}
		r.setRaw(x.metric, tags)
		started := c.StartRaw(r.raw, 0, 1)
		if !started && !c.Dropped() {
			if fault := r.parseLabels(r.raw); fault != "" {
				p.intake.InvalidLine(c, p.counters, r.raw, fault)
				continue
			}
			started = c.StartNew(r.labels, 1)
		}
		p.counters.RowsRead.Inc()
		if started {
			at := x.timestamp
			if at == 0 {
				at = r.defaultMs
			}
			c.Sample(protoparser.Lower(at, p.trimMs), x.value)
		}
	}
}

// store stores the sample of the row which comes next.
func (p *Parser) store(c *protoparser.Collector, r *row, s *protoparser.JSONScanner) {
	text := s.Rest()
	fault := r.split(s)
	started := false
	if fault == "" {
		started = c.StartRaw(r.raw, 0, 1)
		if !started && !c.Dropped() {
			if fault = r.parseLabels(r.raw); fault == "" {
				started = c.StartNew(r.labels, 1)
			}
		}
	}
	if fault != "" {
		p.intake.InvalidLine(c, p.counters, text[:len(text)-len(s.Rest())], fault)
		return
	}
	p.counters.RowsRead.Inc()
	if started {
		c.Sample(protoparser.Lower(r.timestamp, p.trimMs), r.value)
	}
}

func (p *Parser) getRow() *row {
	if r, ok := p.rows.Get().(*row); ok {
		return r
	}
	return &row{}
}

// maxPooledLabels bounds what is kept of rows.
const maxPooledLabels = 64 << 10

// maxPooledRows bounds what is kept of plain rows, which are 64 bytes each.
const maxPooledRows = 64 << 10

func (p *Parser) putRow(r *row) {
	if cap(r.raw) > maxPooledLabels || cap(r.labels) > maxPooledLabels {
		return
	}
	clear(r.plain)
	if cap(r.plain) > maxPooledRows {
		r.plain = nil
	}
	clear(r.labels[:cap(r.labels)])
	p.rows.Put(r)
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	r := p.getRow()
	defer p.putRow(r)
	fault := r.parseLabels(raw)
	invariants.Check(fault == "", "labels of a known series: %s", fault)
	use(r.labels)
}

// row is one object. Its labels are parts of raw.
type row struct {
	raw       []byte // the values of metric and tags in brackets, with a comma between
	timestamp int64
	value     float64
	defaultMs int64
	labels    []model.Label
	plain     []plainRow
}

// split cuts off the value which comes next and finds its members, whose labels stay as they are. It returns what is wrong with it, or nothing.
func (r *row) split(s *protoparser.JSONScanner) (fault string) {
	if s.Next() != '{' {
		s.Value()
		return "it is no object"
	}
	var metric, timestamp, value, tags []byte
	for s.Enter(); s.More('}'); {
		key, member := s.Member()
		switch string(key) {
		case `"metric"`:
			metric = member
		case `"timestamp"`:
			timestamp = member
		case `"value"`:
			value = member
		case `"tags"`:
			tags = member
		}
	}
	s.Leave()
	switch {
	case len(metric) == 0 || metric[0] != '"':
		return `there is no text "metric"`
	case len(tags) == 0 || string(tags) == "null":
		tags = []byte("{}")
	case tags[0] != '{':
		return `"tags" is no object`
	}
	r.setRaw(metric, tags)
	return r.parseNumbers(timestamp, value)
}

func (r *row) setRaw(metric, tags []byte) {
	r.raw = append(append(append(append(append(r.raw[:0], '['), metric...), ','), tags...), ']')
}

func (r *row) parseNumbers(timestamp, value []byte) (fault string) {
	var ok bool
	if r.value, ok = protoparser.ParseFloat(protoparser.UnquoteNumber(value)); !ok {
		return `"value" is not a number`
	}
	r.timestamp = r.defaultMs
	if len(timestamp) == 0 || string(timestamp) == "null" {
		return ""
	}
	t, ok := protoparser.SecondsOrMs(protoparser.UnquoteNumber(timestamp))
	if !ok || t < 0 {
		return `"timestamp" is not a number of seconds or milliseconds`
	}
	if t > 0 {
		r.timestamp = t
	}
	return ""
}

// parseLabels reads what split left as it is.
func (r *row) parseLabels(raw []byte) (fault string) {
	s := protoparser.NewJSONScanner(raw)
	s.Enter()
	metric, _ := protoparser.JSONText(s.Value())
	r.labels = append(r.labels[:0], model.Label{Name: model.MetricNameLabel, Value: bytesutil.String(metric)})
	s.More(']')
	s.Next()
	for s.Enter(); s.More('}'); {
		key, value := s.Member()
		name, _ := protoparser.JSONText(key)
		text, ok := protoparser.JSONText(value)
		if !ok {
			return "the value of a tag is not a text"
		}
		if len(r.labels) == protoparser.MaxLabels {
			return protoparser.TooManyLabelsFault()
		}
		r.labels = append(r.labels, model.Label{Name: bytesutil.String(name), Value: bytesutil.String(text)})
	}
	return ""
}
