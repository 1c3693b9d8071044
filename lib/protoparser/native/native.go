package native

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/tsdump"
)

// Format is the value of the type label of this format's metrics.
const Format = "native"

// Parser reads dumps. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format)}
}

// Parse stores the samples of the dump. Errors are of kind BadRequest when it cannot be read or is damaged, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	body, err := p.intake.Bodies.Stream(req.Body, req.Encoding)
	if err != nil {
		p.counters.ReadErrors.Inc()
		return protoparser.Result{}, err
	}
	defer body.Close()
	c := p.intake.Collect(req)
	defer c.Release()
	r := tsdump.NewReader(body)
	var samples tsblock.Samples
	for err == nil && c.Err() == nil && r.Next() {
		err = p.store(c, r.At(), &samples)
	}
	result, sinkErr := c.Finish() // what came before the damage is stored
	if sinkErr != nil {
		return result, sinkErr
	}
	if err == nil {
		err = r.Err()
	}
	if err == nil {
		return result, nil
	}
	p.counters.UnmarshalErrors.Inc()
	return result, errkind.New(errkind.BadRequest, "%w; %d samples which came before are stored, and importing again is harmless", err, result.Rows)
}

// store stores the blocks of one series.
func (p *Parser) store(c *protoparser.Collector, s *tsdump.Series, samples *tsblock.Samples) error {
	for i := range s.Blocks {
		samples.Reset()
		if err := s.Blocks[i].Decode(samples); err != nil {
			return err
		}
		p.counters.RowsRead.Add(samples.Len())
		if !c.StartSeries(s.Labels, samples.Len()) {
			continue
		}
		for j, ts := range samples.Timestamps {
			c.Sample(ts, samples.Values[j])
		}
	}
	return nil
}
