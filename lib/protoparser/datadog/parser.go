package datadog

import (
	"flag"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// The values of the type label of the formats' metrics.
const (
	V1       = "datadogv1"
	V2       = "datadogv2"
	Sketches = "datadogsketches"
)

// Protobuf is the format of a request of V2 whose body is protobuf, not JSON.
const Protobuf = "protobuf"

// Config holds the flags of the formats.
type Config struct {
	MaxRequestSize flagvalue.Bytes
	SanitizeNames  bool
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.MaxRequestSize = 64 << 20
	fs.Var(&c.MaxRequestSize, "datadog.maxInsertRequestSize", "The largest size of a body of Datadog agents in bytes, after decompression")
	fs.BoolVar(&c.SanitizeNames, "datadog.sanitizeMetricName", true,
		"Make metric names of Datadog agents what Datadog makes of them: characters other than a-zA-Z0-9_. become underscores, of underscores in a row one is kept, and none beside a dot")
}

// Parser reads bodies. It is safe for concurrent use.
type Parser struct {
	intake       *protoparser.Intake
	sanitize     bool
	v1, v2, beta protoparser.BodyOptions
	series       protoparser.Pool[series]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	options := func(format, what string) protoparser.BodyOptions {
		return protoparser.BodyOptions{
			Counters: in.NewCounters(format), MaxSize: int64(c.MaxRequestSize), LimitName: "-datadog.maxInsertRequestSize", What: what, Opening: '{',
		}
	}
	return &Parser{
		intake: in, sanitize: c.SanitizeNames,
		v1: options(V1, "series of Datadog"), v2: options(V2, "series of Datadog"), beta: options(Sketches, "sketches of Datadog"),
	}
}

// ParseV1 stores the samples of all series of /api/v1/series which are as they should be, and counts the others. Errors are of kind BadRequest or
// TooLarge when the body cannot be read or is not JSON, or come from the sink.
func (p *Parser) ParseV1(req *protoparser.Request) (protoparser.Result, error) {
	return p.parseJSON(req, &p.v1, jsonV1())
}

// ParseV2 is ParseV1 for /api/v2/series. When the format of the request is Protobuf and the body breaks off, series which came before may have been stored.
func (p *Parser) ParseV2(req *protoparser.Request) (protoparser.Result, error) {
	if req.Format == Protobuf {
		return p.parseProtobuf(req, &p.v2, p.storeSeries)
	}
	return p.parseJSON(req, &p.v2, jsonV2())
}

// ParseSketches is ParseV2 for the protobuf of /api/beta/sketches.
func (p *Parser) ParseSketches(req *protoparser.Request) (protoparser.Result, error) {
	return p.parseProtobuf(req, &p.beta, p.storeSketch)
}

func (p *Parser) parseJSON(req *protoparser.Request, o *protoparser.BodyOptions, format jsonFormat) (protoparser.Result, error) {
	body, err := p.intake.ReadJSON(req, o)
	if err != nil {
		return protoparser.Result{}, err
	}
	defer p.intake.Bodies.Put(body)
	c := p.intake.CollectRaw(req, p, nil)
	defer c.Release()
	x := p.series.Get()
	defer p.putSeries(x)
	s := protoparser.NewJSONScanner(body.B)
	s.Next()
	for s.Enter(); s.More('}') && c.Err() == nil; {
		key, value := s.Member()
		if string(key) != `"series"` || string(value) == "null" {
			continue
		}
		list := protoparser.NewJSONScanner(value)
		if list.Next() != '[' {
			p.intake.InvalidLine(c, o.Counters, value, `"series" is no array`)
			continue
		}
		for list.Enter(); list.More(']') && c.Err() == nil; {
			text := list.Rest()
			if fault := x.readJSON(list, &format); fault != "" {
				p.intake.InvalidLine(c, o.Counters, text[:len(text)-len(list.Rest())], fault)
				continue
			}
			p.store(c, o.Counters, x, x.raw, x.samples)
		}
	}
	return c.Finish()
}

// parseProtobuf calls store with each message of the first field, which the lists of series and of sketches have in common.
func (p *Parser) parseProtobuf(req *protoparser.Request, o *protoparser.BodyOptions,
	store func(c *protoparser.Collector, x *series, b []byte) (fault string, err error),
) (protoparser.Result, error) {
	body, err := p.intake.ReadWhole(req, o)
	if err != nil {
		return protoparser.Result{}, err
	}
	defer p.intake.Bodies.Put(body)
	c := p.intake.CollectRaw(req, p, nil)
	defer c.Release()
	x := p.series.Get()
	defer p.putSeries(x)
	m := message{b: body.B}
	for err == nil && c.Err() == nil && m.next() {
		if !m.isBytes(1) {
			continue
		}
		var fault string
		if fault, err = store(c, x, m.bytes); fault != "" {
			p.intake.InvalidLine(c, o.Counters, x.name, fault)
		}
	}
	if err == nil {
		err = m.err
	}
	if err != nil && c.Err() == nil {
		o.Counters.UnmarshalErrors.Inc()
		return c.Result(), errkind.New(errkind.BadRequest, "cannot decode %s of %d bytes: %w", o.What, len(body.B), err)
	}
	return c.Finish()
}

// store stores samples of the series with the given raw labels.
func (p *Parser) store(c *protoparser.Collector, counters *protoparser.Counters, x *series, raw []byte, samples []model.Sample) {
	counters.RowsRead.Add(len(samples) + x.nulls)
	for range x.nulls {
		c.Null()
	}
	started := c.StartRaw(raw, 0, len(samples))
	if !started && !c.Dropped() && c.Err() == nil {
		x.parseLabels(raw, p.sanitize)
		started = c.StartNew(x.labels, len(samples))
	}
	if started {
		for _, s := range samples {
			c.Sample(s.Timestamp, s.Value)
		}
	}
}

// maxPooled bounds what is kept of series.
const maxPooled = 64 << 10

func (p *Parser) putSeries(x *series) {
	if cap(x.raw) > maxPooled || cap(x.samples) > maxPooled || cap(x.labels) > maxPooled || cap(x.points) > maxPooled {
		return
	}
	clear(x.labels[:cap(x.labels)])
	x.name, x.list = nil, protoparser.JSONScanner{}
	p.series.Put(x)
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return "datadog" }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	x := p.series.Get()
	defer p.putSeries(x)
	x.parseLabels(raw, p.sanitize)
	invariants.Check(len(x.labels) > 0, "a known series has no labels: %q", raw)
	use(x.labels)
}
