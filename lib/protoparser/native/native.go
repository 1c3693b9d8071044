package native

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
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
	var d decoder
	for err == nil && c.Err() == nil && r.Next() {
		err = p.store(c, r.At(), &d)
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

// decoder is memory for what is in a block.
type decoder struct {
	samples    tsblock.Samples
	histograms tsblock.HistogramSamples
	histogram  nativehistogram.Histogram
}

// store stores the blocks of one series.
func (p *Parser) store(c *protoparser.Collector, s *tsdump.Series, d *decoder) error {
	for i := range s.Blocks {
		if s.Blocks[i].Content() == tsblock.Histograms {
			if err := p.storeHistograms(c, s.Labels, &s.Blocks[i], d); err != nil {
				return err
			}
			continue
		}
		samples := &d.samples
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

// storeHistograms stores a block of native histograms. A damaged one ends the import, since a dump has what was stored.
func (p *Parser) storeHistograms(c *protoparser.Collector, labels []model.Label, b *tsblock.Block, d *decoder) error {
	d.histograms.Reset()
	if err := b.DecodeHistograms(&d.histograms); err != nil {
		return err
	}
	p.counters.RowsRead.Add(d.histograms.Len())
	for _, payload := range d.histograms.Payloads {
		if err := d.histogram.Parse(payload); err != nil {
			return err
		}
		if err := d.histogram.Check(); err != nil {
			return err
		}
	}
	if !c.StartSeries(labels, d.histograms.Len()) {
		return nil
	}
	for i, ts := range d.histograms.Timestamps {
		c.Histogram(ts, d.histograms.Payloads[i])
	}
	return nil
}
