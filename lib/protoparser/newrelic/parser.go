package newrelic

import (
	"flag"
	"fmt"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "newrelic"

// Config holds the flags of the format.
type Config struct {
	MaxRequestSize flagvalue.Bytes
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.MaxRequestSize = 64 << 20
	fs.Var(&c.MaxRequestSize, "newrelic.maxInsertRequestSize", "The largest size of a body of New Relic agents in bytes, after decompression")
}

// Parser reads JSON bodies. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	body     protoparser.BodyOptions
	events   protoparser.Pool[event]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	counters := in.NewCounters(Format)
	return &Parser{intake: in, counters: counters, body: protoparser.BodyOptions{
		Counters: counters, MaxSize: int64(c.MaxRequestSize), LimitName: "-newrelic.maxInsertRequestSize", What: "events of New Relic", Opening: '[',
	}}
}

// Parse stores the samples of all events which are as they should be, and counts the others. Errors are of kind BadRequest or
// TooLarge when the body cannot be read or is not JSON, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	body, err := p.intake.ReadJSON(req, &p.body)
	if err != nil {
		return protoparser.Result{}, err
	}
	defer p.intake.Bodies.Put(body)
	s := protoparser.NewJSONScanner(body.B)
	s.Next()
	c := p.intake.CollectRaw(req, p, nil)
	defer c.Release()
	e := p.events.Get()
	defer p.putEvent(e)
	e.defaultMs = req.DefaultTimestamp / 1000 * 1000
	for s.Enter(); s.More(']') && c.Err() == nil; {
		p.storeEntity(c, e, s)
	}
	return c.Finish()
}

// storeEntity stores the events of the object which comes next.
func (p *Parser) storeEntity(c *protoparser.Collector, e *event, s *protoparser.JSONScanner) {
	if s.Next() != '{' {
		p.intake.InvalidLine(c, p.counters, s.Value(), "it is no object")
		return
	}
	for s.Enter(); s.More('}'); {
		key, value := s.Member()
		if string(key) != `"Events"` {
			continue
		}
		events := protoparser.NewJSONScanner(value)
		if events.Next() != '[' {
			p.intake.InvalidLine(c, p.counters, value, `"Events" is no array`)
			continue
		}
		for events.Enter(); events.More(']') && c.Err() == nil; {
			p.store(c, e, events)
		}
	}
	s.Leave()
}

// store stores the samples of the event which comes next.
func (p *Parser) store(c *protoparser.Collector, e *event, s *protoparser.JSONScanner) {
	text := s.Rest()
	fault := e.split(s)
	if fault != "" {
		p.intake.InvalidLine(c, p.counters, text[:len(text)-len(s.Rest())], fault)
		return
	}
	p.counters.RowsRead.Add(len(e.samples))
	for _, x := range e.samples {
		raw := e.rawLabels(x.key)
		started := c.StartRaw(raw, 0, 1)
		if !started && !c.Dropped() && c.Err() == nil {
			e.parseLabels(raw)
			started = c.StartNew(e.labels, 1)
		}
		if started {
			c.Sample(e.timestamp, x.value)
		}
	}
}

// maxPooledLabels bounds what is kept of events.
const maxPooledLabels = 64 << 10

func (p *Parser) putEvent(e *event) {
	if cap(e.raw) > maxPooledLabels || cap(e.samples) > maxPooledLabels || cap(e.labels) > maxPooledLabels {
		return
	}
	clear(e.labels[:cap(e.labels)])
	clear(e.samples[:cap(e.samples)])
	p.events.Put(e)
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	e := p.events.Get()
	defer p.putEvent(e)
	e.parseLabels(raw)
	use(e.labels)
}

// maxAllSeries bounds the texts of an event times its numbers, each of which makes a series with all of them.
const maxAllSeries = 16 << 20 // bytes

// event is one object. Its labels are parts of raw.
type event struct {
	raw       []byte // an array of an object of all texts and, behind commonEnd, the name of a number
	commonEnd int
	samples   []sample
	timestamp int64
	defaultMs int64
	labels    []model.Label
}

type sample struct {
	key   []byte // with quotes
	value float64
}

// split cuts off the value which comes next and finds its members. It returns what is wrong with it, or nothing.
func (e *event) split(s *protoparser.JSONScanner) (fault string) {
	if s.Next() != '{' {
		s.Value()
		return "it is no object"
	}
	e.timestamp, e.samples = e.defaultMs, e.samples[:0]
	e.raw = append(e.raw[:0], "[{"...)
	n := 0
	for s.Enter(); s.More('}'); {
		key, value := s.Member()
		if n++; n > protoparser.MaxLabels {
			fault = protoparser.TooManyLabelsFault()
			continue
		}
		switch {
		case string(key) == `"timestamp"`:
			if t, ok := protoparser.SecondsOrMs(protoparser.UnquoteNumber(value)); ok && t >= 0 {
				e.timestamp = t
			} else if string(value) != "null" {
				fault = `"timestamp" is not a number of seconds or milliseconds`
			}
		case value[0] == '"':
			if len(e.raw) > len("[{") {
				e.raw = append(e.raw, ',')
			}
			e.raw = append(append(append(e.raw, key...), ':'), value...)
		case value[0] == '-' || '0' <= value[0] && value[0] <= '9':
			if v, ok := protoparser.ParseFloat(value); ok {
				e.samples = append(e.samples, sample{key, v})
			} else {
				fault = fmt.Sprintf("the value of %.50s is out of range", key)
			}
		}
	}
	s.Leave()
	e.raw = append(e.raw, "},"...)
	e.commonEnd = len(e.raw)
	if e.commonEnd*len(e.samples) > maxAllSeries {
		return fmt.Sprintf("it has %d numbers with %d bytes of texts each, more than %d bytes together", len(e.samples), e.commonEnd, maxAllSeries)
	}
	return fault
}

// rawLabels returns the raw labels of a number of the event.
func (e *event) rawLabels(key []byte) []byte {
	e.raw = append(append(e.raw[:e.commonEnd], key...), ']')
	return e.raw
}

// parseLabels takes raw labels apart.
func (e *event) parseLabels(raw []byte) {
	s := protoparser.NewJSONScanner(raw)
	s.Enter()
	texts := protoparser.NewJSONScanner(s.Value())
	s.More(']')
	name, _ := protoparser.JSONText(s.Value())
	e.labels = append(e.labels[:0], model.Label{Name: model.MetricNameLabel, Value: bytesutil.String(name)})
	for texts.Enter(); texts.More('}'); {
		key, value := texts.Member()
		name, _ := protoparser.JSONText(key)
		text, ok := protoparser.JSONText(value)
		invariants.Check(ok, "the value of a text is none: %q", value)
		e.labels = append(e.labels, model.Label{Name: bytesutil.String(name), Value: bytesutil.String(text)})
	}
}
