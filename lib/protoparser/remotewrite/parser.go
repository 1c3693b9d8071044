package remotewrite

import (
	"sync"

	"vmcluster/lib/errkind"
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
	decoders sync.Pool // *prompb.Decoder[model.Label]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format)}
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
	d, ok := p.decoders.Get().(*prompb.Decoder[model.Label])
	if !ok {
		d = &prompb.Decoder[model.Label]{}
	}
	d.Reset(buf.B)
	defer func() {
		d.Reset(nil)
		p.decoders.Put(d)
	}()
	return p.collect(d, req)
}

func (p *Parser) collect(d *prompb.Decoder[model.Label], req *protoparser.Request) (protoparser.Result, error) {
	c := p.intake.Collect(req)
	defer c.Release()
	rows, series := 0, 0
	for c.Err() == nil && d.Next() {
		s := d.At()
		series++
		rows += len(s.Samples)
		if !c.StartSeries(s.Labels, len(s.Samples)) {
			continue
		}
		for i := range s.Samples {
			c.Sample(s.Samples[i].Timestamp, s.Samples[i].Value)
		}
	}
	skipped := d.Skipped()
	p.counters.RowsRead.Add(rows)
	p.counters.Metadata.Add(skipped.Metadata)
	err := d.Err()
	if err == nil && series == 0 && skipped.V2 > 0 {
		err = errkind.New(errkind.BadRequest, "cannot decode remote write request: it is a message of remote write 2.0, which is not supported; "+
			"set protobuf_message: prometheus.WriteRequest at the sender")
	}
	if err != nil {
		p.counters.UnmarshalErrors.Inc()
		p.counters.RowsInvalid.Inc()
		return c.Result(), err
	}
	result, err := c.Finish()
	if skipped.Histograms > 0 {
		p.intake.Ignore(protoparser.NativeHistogram, skipped.Histograms)
		result.Dropped += skipped.Histograms
		if result.Reason == "" {
			result.Reason = "native histograms are not supported"
		}
	}
	return result, err
}
