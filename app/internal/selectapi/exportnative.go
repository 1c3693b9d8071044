package selectapi

import (
	"net/http"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/tsdump"
)

// exportNative serves /api/v1/export/native: blocks as they are stored, which is the cheapest form, and exact. Only
// blocks which begin or end outside of the range are decoded. Nothing is deduplicated.
func (a *API) exportNative(w http.ResponseWriter, r *request) error {
	q, err := a.exportQuery(r)
	if err != nil {
		return err
	}
	q.Histograms = model.WithHistograms
	it, err := a.o.Searcher.Search(r.Context(), q)
	if err != nil {
		return limitError(err, "search.maxExportSeries", q.MaxSeries)
	}
	defer closeIterator(a.o.Logger, it)
	out := &exportWriter{w: w, format: &exportFormat{contentType: "VictoriaMetrics/native"}, logger: a.o.Logger}
	trim := trimmer{r: q.Range}
	var dump tsdump.Writer
	var labels []model.Label
	out.buf = dump.AppendHeader(out.buf)
	for err == nil && it.Next() {
		s := it.At()
		var blocks []tsblock.Block
		if blocks, err = trim.trim(s.Blocks); err == nil {
			_, labels, err = model.ParseSeriesKey(labels[:0], s.Key)
		}
		if err != nil {
			break
		}
		if err := out.send(dump.AppendSeries(out.buf, labels, blocks)); err != nil {
			return err
		}
	}
	if err == nil {
		err = it.Err()
	}
	if err = searchEnd(err, it); err == nil {
		out.buf = dump.AppendEnd(out.buf)
	}
	return out.finish(limitError(err, "search.maxExportSeries", q.MaxSeries))
}

// trimmer cuts blocks to a range. Its memory is reused by the next call.
type trimmer struct {
	r       model.TimeRange
	encoder tsblock.Encoder
	blocks  []tsblock.Block
	samples tsblock.Samples
	inside  tsblock.Samples
	encoded []byte

	histograms tsblock.HistogramSamples
	scratch    tsblock.Scratch
}

// trim returns the blocks without the samples that lie outside of the range, valid until the next call.
func (t *trimmer) trim(blocks []tsblock.Block) ([]tsblock.Block, error) {
	t.blocks, t.encoded = t.blocks[:0], t.encoded[:0]
	for i := range blocks {
		b := &blocks[i]
		if t.r.Contains(b.MinTimestamp) && t.r.Contains(b.MaxTimestamp) {
			t.blocks = append(t.blocks, *b)
			continue
		}
		if !t.r.Overlaps(model.TimeRange{Min: b.MinTimestamp, Max: b.MaxTimestamp}) {
			continue
		}
		if b.Content() == tsblock.Histograms {
			t.histograms.Reset()
			if err := tsblock.ReadHistograms(&t.histograms, blocks[i:i+1], t.r, 0, &t.scratch); err != nil {
				return nil, err
			}
			t.blocks, t.encoded = t.encoder.AppendHistogramBlocks(t.blocks, t.encoded, &t.histograms)
			continue
		}
		t.samples.Reset()
		if err := b.Decode(&t.samples); err != nil {
			return nil, err
		}
		t.inside.Reset()
		for j, ts := range t.samples.Timestamps {
			if t.r.Contains(ts) {
				t.inside.Append(ts, t.samples.Values[j])
			}
		}
		if t.inside.Len() > 0 {
			var cut tsblock.Block
			t.encoded, cut = t.encoder.AppendEncode(t.encoded, &t.inside)
			t.blocks = append(t.blocks, cut)
		}
	}
	return t.blocks, nil
}
