package remotewrite

import (
	"hash/maphash"
	"sync"

	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "promremotewrite"

// Parser reads remote write bodies. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	decoders sync.Pool // *decoder
	tables   sync.Pool // *table
	format   *format
	seeds    [2]maphash.Seed // of symbols
}

// decoder reads requests of 1.0.
type decoder struct {
	prompb.Decoder[model.Label]
	histograms histograms
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), format: &format{}, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// Parse stores all samples of the request. Errors are of kind BadRequest or TooLarge,
// or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	buf, err := p.intake.Bodies.ReadBlock(req.Body, req.Encoding)
	if err != nil {
		p.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	defer p.intake.Bodies.Put(buf)
	if req.SymbolTable && !isV1(buf.B) {
		return p.parseTable(buf.B, req)
	}
	d, ok := p.decoders.Get().(*decoder)
	if !ok {
		d = &decoder{histograms: p.newHistograms()}
	}
	d.Reset(buf.B)
	defer func() {
		d.Reset(nil)
		p.decoders.Put(d)
	}()
	return p.collect(d, buf.B, req)
}

func (p *Parser) collect(d *decoder, body []byte, req *protoparser.Request) (protoparser.Result, error) {
	c := p.intake.CollectRaw(req, p.format, body)
	defer c.Release()
	exemplars := exemplars{to: p.intake.Exemplars(req, p.counters.Exemplars)}
	rows, series, wrong := 0, 0, 0
	next := d.NextGuess
	for c.Err() == nil && next() {
		start, end := d.Raw()
		series++
		if d.Guessed() {
			if c.StartExpected(body[start:end], start) {
				s := &d.At().Samples[0]
				c.Sample(s.Timestamp, s.Value)
				rows++
				continue
			}
			if c.Dropped() {
				rows++
				continue
			}
			if wrong++; wrong > maxWrong+series/2 {
				next = d.NextRaw // the sender has an order of its own
			}
			if !d.Settle() {
				break
			}
		}
		if d.Exemplars() > 0 && exemplars.to != nil {
			exemplars.take(d) // before labels are changed
		}
		n, ok := startSeries(c, d, body)
		if !ok {
			break
		}
		rows += n
	}
	skipped := d.Skipped()
	p.counters.RowsRead.Add(rows)
	p.counters.Metadata.Add(skipped.Metadata)
	err := d.Err()
	if err == nil && series == 0 && skipped.V2 > 0 {
		err = errkind.New(errkind.BadRequest, "cannot decode remote write request: it is a message of remote write 2.0; "+
			"the sender must say so by Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request")
	}
	if err != nil {
		p.counters.UnmarshalErrors.Inc()
		p.counters.RowsInvalid.Inc()
		return c.Result(), err
	}
	result, err := c.Finish()
	if skipped.Metadata > 0 && req.Metadata != nil { // samples come first
		p.describe(d, req)
	}
	result.Exemplars = exemplars.to.Flush()
	return result, err
}

// describe hands on what the request says of metrics.
func (p *Parser) describe(d *decoder, req *protoparser.Request) {
	m := p.intake.Metadata(req)
	defer m.Flush()
	d.Metadata(func(x *prompb.Metadata) {
		t := model.MetricType(min(x.Type, 255))
		m.Add(x.Metric, t, x.Unit, x.Help)
	})
}

// maxWrong is how many guesses may be wrong at the start of a body, and half of all others, before no more are made.
const maxWrong = 16

// startSeries collects the current series and returns how many samples it has; false when it cannot be decoded.
func startSeries(c *protoparser.Collector, d *decoder, body []byte) (rows int, ok bool) {
	if d.Histograms() > 0 {
		return startHistograms(c, d, body)
	}
	samples := d.At().Samples
	started, ok := start(c, d, body, len(samples))
	if started {
		samples = d.At().Samples
		for i := range samples {
			c.Sample(samples[i].Timestamp, samples[i].Value)
		}
	}
	return len(samples), ok
}

// start begins the current series with so many rows; not ok when it cannot be decoded.
func start(c *protoparser.Collector, d *decoder, body []byte, rows int) (started, ok bool) {
	start, end := d.Raw()
	if c.StartRaw(body[start:end], start, rows) {
		return true, true
	}
	if c.Dropped() {
		return false, true
	}
	labels, ok := d.Labels()
	return ok && c.StartNew(labels, rows), ok
}

// startHistograms is startSeries for a series that has native histograms.
func startHistograms(c *protoparser.Collector, d *decoder, body []byte) (rows int, ok bool) {
	x := &d.histograms
	defer x.done()
	samples := len(d.At().Samples)
	taken := x.take(c, d)
	started, ok := start(c, d, body, samples+taken)
	if started {
		for _, s := range d.At().Samples {
			c.Sample(s.Timestamp, s.Value)
		}
		if taken > 0 {
			x.add(c)
		}
	}
	if ok && x.mode == protoparser.RangeHistograms {
		var labels []model.Label
		if labels, ok = d.Labels(); ok {
			x.convert(c, labels)
		}
	}
	return samples + d.Histograms(), ok
}

// format makes the labels of known series again.
type format struct {
	scratch sync.Pool // *[]model.Label
}

func (f *format) Name() string { return Format }

func (f *format) UseLabels(raw []byte, use func([]model.Label)) {
	labels, ok := f.scratch.Get().(*[]model.Label)
	if !ok {
		labels = new([]model.Label)
	}
	var err error
	*labels, err = prompb.AppendLabels((*labels)[:0], raw)
	invariants.Check(err == nil, "labels of a known series: %v", err)
	use(*labels)
	clear(*labels)
	f.scratch.Put(labels)
}
