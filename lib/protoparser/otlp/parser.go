package otlp

import (
	"sync"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "opentelemetry"

// Parser reads OTLP bodies. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	config   Config
	readers  sync.Pool // *protobuf
	scratch  sync.Pool // *[]model.Label
	seeds    *seeds
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), config: c, seeds: newSeeds()}
}

// Parse stores the samples of all points. The format of the request is json for JSON, firehose for the envelope of Amazon Data
// Firehose, and protobuf otherwise. Errors are of kind BadRequest or TooLarge, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	body, err := p.intake.Bodies.ReadAll(req.Body, req.Encoding, int64(p.config.MaxRequestSize), "-opentelemetry.maxRequestSize")
	if err != nil {
		p.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	defer p.intake.Bodies.Put(body)
	r := p.get()
	defer p.put(r)
	format := protoparser.Format(r)
	if req.Format == "json" {
		r.w.proto, format = nil, p
	}
	c := p.intake.CollectRaw(req, format, nil)
	defer c.Release()
	r.w.c = c
	if req.Metadata != nil {
		r.w.metadata = p.intake.Metadata(req)
	}
	r.w.exemplars = p.intake.Exemplars(req, p.counters.Exemplars)
	switch req.Format {
	case "json":
		err = r.w.json(body.B)
	case "firehose":
		err = r.w.envelope(body.B, r.request)
	default:
		err = r.request(body.B)
	}
	p.counters.RowsRead.Add(r.w.rows)
	if sinkErr := c.Err(); sinkErr != nil {
		return c.Result(), sinkErr
	}
	if err != nil {
		p.counters.UnmarshalErrors.Inc()
		p.counters.RowsInvalid.Inc()
		return c.Result(), err
	}
	result, err := c.Finish()
	if r.w.metadata != nil { // samples come first
		r.w.metadata.Flush()
	}
	result.Exemplars = r.w.exemplars.Flush()
	return result, err
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	labels, ok := p.scratch.Get().(*[]model.Label)
	if !ok {
		labels = new([]model.Label)
	}
	*labels = protoparser.AppendRawLabels((*labels)[:0], raw)
	use(*labels)
	clear(*labels)
	p.scratch.Put(labels)
}

func (p *Parser) get() *protobuf {
	r, ok := p.readers.Get().(*protobuf)
	if !ok {
		r = &protobuf{w: &writer{config: &p.config, counters: p.counters}, known: known{seeds: p.seeds}}
	}
	r.w.proto = r
	return r
}

func (p *Parser) put(r *protobuf) {
	const kept = 4 << 10 // labels
	if r.known.end(); r.known.isLarge() || cap(r.w.labels)+cap(r.w.resource)+cap(r.attributes) > kept || cap(r.w.raw) > maxRawLabels {
		return
	}
	r.point.reset()
	clear(r.attributes[:cap(r.attributes)])
	w := r.w
	for _, scratch := range []*[]model.Label{&w.resource, &w.scope, &w.base, &w.labels, &w.series} {
		clear((*scratch)[:cap(*scratch)])
		*scratch = (*scratch)[:0]
	}
	w.c, w.metadata, w.exemplars, w.metric, w.name, w.rows, w.hasBase, w.err = nil, nil, nil, metric{}, "", 0, false, nil
	p.readers.Put(r)
}
