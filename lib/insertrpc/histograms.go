package insertrpc

import (
	"context"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/transport"
)

// flagHistograms says that a request has native histograms instead of samples. It is for nodes which have transport.CapabilityHistograms.
const flagHistograms = 1 << 2

// appendHistograms appends native histograms from the given one on until the batch or the room in a request ends, and returns where the next request
// goes on. After an error the dictionary has series which the node has not.
func (e *encoder) appendHistograms(b *model.Batch, at int) (int, error) {
	for at < b.HistogramRows() && len(e.dst)-e.start < maxRequestBytes && e.rows < maxRequestRows {
		series, h := b.HistogramAt(at)
		if len(h.Payload) > nativehistogram.MaxPayloadBytes {
			return at, errkind.New(errkind.BadRequest, "cannot send native histogram of %d bytes: at most %d are allowed; send fewer buckets", len(h.Payload), nativehistogram.MaxPayloadBytes)
		}
		if _, more, err := e.appendHead(b, series, 0); !more {
			return at, err
		}
		e.dst = codec.AppendVarint(e.dst, h.Timestamp-e.firstTime)
		e.dst = codec.AppendBytes(e.dst, h.Payload)
		e.firstTime = h.Timestamp
		e.rows++
		at++
	}
	return at, nil
}

// decodeHistogram reads the native histogram behind the head of an entry.
func (d *decoder) decodeHistogram(src []byte, count int, b *model.Batch) ([]byte, error) {
	delta, src, err := codec.CutVarint(src)
	if err != nil || count != 1 {
		return nil, errkind.New(errkind.Corrupt, "cannot read entry of %d native histograms: it is cut off, or there is more than one", count)
	}
	payload, src, err := codec.CutBytes(src)
	if err != nil {
		return nil, err
	}
	if err := d.histogram.Parse(payload); err != nil {
		return nil, err
	}
	d.state.firstTime += delta
	b.AddHistogram(d.state.firstTime, payload)
	return src, nil
}

// ingestHistograms sends a batch which has native histograms. A node that does not know them gets what others convert them to, rather than
// nothing: it is older than this one, and will not be for long.
func (c *Client) ingestHistograms(ctx context.Context, batch *model.Batch) error {
	lacks := func() bool { return c.transport.Lacks(transport.CapabilityHistograms) }
	if !lacks() {
		if err := c.ingest(ctx, batch); err == nil || !lacks() {
			return err
		}
	}
	c.metrics.converted.Add(batch.HistogramRows())
	c.warn.Warnf("stored native histograms as samples of their buckets, with the label %s, since storage node %q is of a version that does not know them; upgrade it",
		model.RangeLabel, c.Addr())
	return eachConverted(batch, func(b *model.Batch) error { return c.ingest(ctx, b) })
}

// maxConvertedRows is from how many rows on a batch of converted histograms is sent.
const maxConvertedRows = 16 << 10

// eachConverted calls use with batches which have the samples of the batch, and others instead of its native histograms.
func eachConverted(batch *model.Batch, use func(*model.Batch) error) error {
	c := converter{use: use}
	var histograms []model.Histogram
	for i := range batch.Len() {
		if samples := batch.Samples(i); len(samples) > 0 {
			c.out.AddKey(batch.Key(i), batch.Hash(i))
			for _, s := range samples {
				c.out.AddSample(s.Timestamp, s.Value)
			}
		}
		histograms = batch.AppendHistograms(histograms[:0], i)
		if err := c.add(batch.Key(i), histograms); err != nil {
			return err
		}
	}
	return c.flush(1)
}

type converter struct {
	out        model.Batch
	use        func(*model.Batch) error
	histogram  nativehistogram.Histogram
	numbers    nativehistogram.Numbers
	labels     []model.Label
	partLabels []model.Label
}

// add adds native histograms of one series.
func (c *converter) add(key []byte, list []model.Histogram) error {
	if len(list) == 0 {
		return c.flush(maxConvertedRows)
	}
	tenant, labels, err := model.ParseSeriesKey(c.labels[:0], key)
	if err != nil {
		return err
	}
	c.labels = labels
	for _, h := range list {
		if err := c.histogram.Parse(h.Payload); err != nil {
			return err
		}
		c.numbers.Each(&c.histogram, func(suffix string, vmrange []byte, value float64) {
			c.partLabels = model.AppendPartLabels(c.partLabels[:0], labels, suffix, string(vmrange))
			if c.out.AddSeries(tenant, c.partLabels) == nil { // always: they differ as those of the key do
				c.out.AddSample(h.Timestamp, value)
			}
		})
		if err := c.flush(maxConvertedRows); err != nil {
			return err
		}
	}
	return nil
}

// flush hands the batch on if it has so many rows.
func (c *converter) flush(rows int) error {
	if c.out.Rows() < rows {
		return nil
	}
	err := c.use(&c.out)
	c.out.Reset()
	return err
}
