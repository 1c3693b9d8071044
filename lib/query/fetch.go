package query

import (
	"cmp"
	"slices"
	"sync/atomic"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

const (
	sampleBytes = 16
	seriesBytes = 256 // labels, headers and map entries of one series, roughly
)

// selection is what one selector reads.
type selection struct {
	filters [][]model.TagFilter
	text    string
	r       model.TimeRange
	detail  model.Detail
	aspect  model.Aspect
}

// fetched are the series of a selector that occurs more than once in a query.
type fetched struct{ series []*RawSeries }

type fetchKey struct {
	text   string
	r      model.TimeRange
	detail model.Detail
	aspect model.Aspect
}

// selection returns what the selector reads in a range; false when it selects nothing.
func (ev *evaluation) selection(m *metricsql.MetricExpr, r model.TimeRange, detail model.Detail) (*selection, bool) {
	filters := ev.filters(m)
	if ev.e.source.Reading().DedupIntervalMs > 1 {
		detail = model.AllSamples // which sample of an interval counts is settled over all nodes
	}
	return &selection{filters: filters, text: metricsql.String(m), r: r, detail: detail}, len(filters) > 0
}

// eachSeries calls visit for every series with samples in the range. What visit gets is valid during the call only.
func (ev *evaluation) eachSeries(s *selection, visit func(s *RawSeries) error) error {
	if ev.uses[s.text] < 2 {
		return ev.decode(s, visit)
	}
	kept, err := ev.kept(s)
	if err != nil {
		return err
	}
	for _, s := range kept {
		if err := ev.interrupted(); err != nil {
			return err
		}
		if err := visit(s); err != nil {
			return err
		}
	}
	return nil
}

// kept returns the series of a selector which occurs more than once. They are read the first time only.
func (ev *evaluation) kept(s *selection) ([]*RawSeries, error) {
	key := fetchKey{text: s.text, r: s.r, detail: s.detail, aspect: s.aspect}
	f := ev.fetched[key]
	if f == nil {
		f = &fetched{}
		if err := ev.decode(s, func(s *RawSeries) error { return ev.keep(f, s) }); err != nil {
			return nil, err
		}
		ev.fetched[key] = f
	}
	return f.series, nil
}

// keep adds a copy of s to f.
func (ev *evaluation) keep(f *fetched, s *RawSeries) error {
	bytes := int64(len(s.Values))*sampleBytes + vector.SeriesSize(s.Labels)
	if err := ev.reserve(bytes); err != nil {
		return err
	}
	ev.keptBytes += bytes
	f.series = append(f.series, &RawSeries{Labels: copyLabels(s.Labels), Timestamps: slices.Clone(s.Timestamps), Values: slices.Clone(s.Values), Facts: s.Facts})
	return nil
}

// decode reads and decodes the series of a selection.
func (ev *evaluation) decode(s *selection, visit func(s *RawSeries) error) error {
	d := ev.decoder(s.r)
	t := tally{ev: ev, found: new(atomic.Int64)}
	err := ev.stream(s, func(es *EncodedSeries) error {
		raw, err := d.Decode(es.Key, es.Blocks)
		if err != nil || raw == nil {
			return err
		}
		if err := t.count(raw); err != nil {
			return err
		}
		return visit(raw)
	})
	return cmp.Or(err, t.settle())
}

func (ev *evaluation) decoder(r model.TimeRange) *Decoder {
	return &Decoder{Range: r, Reading: ev.reading}
}

// stream reads the series of a selection from the source.
func (ev *evaluation) stream(s *selection, visit func(s *EncodedSeries) error) error {
	return ev.streamQuery(&model.SearchQuery{Tenant: ev.req.Tenant, AllTenants: ev.req.AllTenants, Range: s.r, Filters: s.filters, MaxSeries: ev.cfg.MaxUniqueSeries, Detail: s.detail, Aspect: s.aspect}, visit)
}

func (ev *evaluation) streamQuery(q *model.SearchQuery, visit func(s *EncodedSeries) error) (err error) {
	it, err := ev.e.source.Select(ev.ctx, q)
	if err != nil {
		return ev.sourceError(err)
	}
	defer func() {
		if closeErr := it.Close(); err == nil && closeErr != nil {
			err = ev.sourceError(closeErr)
		}
	}()
	for it.Next() {
		if err := ev.interrupted(); err != nil {
			return err
		}
		if err := visit(it.At()); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return ev.sourceError(err)
	}
	ev.partial = ev.partial || it.Partial()
	return nil
}

// sourceError makes sure that a search which was cut short by the deadline says so.
func (ev *evaluation) sourceError(err error) error {
	if interrupted := ev.interrupted(); interrupted != nil {
		return interrupted
	}
	return err
}

// tally counts what has been read and checks the limits. Each goroutine has its own and settles it now and then.
type tally struct {
	ev      *evaluation
	found   *atomic.Int64 // series of the selector
	series  int
	samples int
	same    int // how many series in a row had as many samples as the last one
	last    int
}

// count takes note of a series.
func (t *tally) count(s *RawSeries) error {
	cfg := t.ev.cfg
	n := len(s.Timestamps)
	if n != t.last {
		t.observe()
		t.last = n
	}
	t.same++
	t.series++
	t.samples += n
	if cfg.MaxSamplesPerSeries > 0 && n > cfg.MaxSamplesPerSeries {
		return errkind.New(errkind.Unprocessable, "cannot read %d samples of series %s: at most %d are allowed; shorten the range or the window, or raise -search.maxSamplesPerSeries",
			n, model.LabelsString(s.Labels), cfg.MaxSamplesPerSeries)
	}
	if cfg.MaxUniqueSeries > 0 || cfg.MaxSamplesPerQuery > 0 && t.samples >= tallySamples {
		return t.settle()
	}
	return nil
}

// tallySamples is how many samples may be read before they are counted against the limits.
const tallySamples = 1 << 14

// observe adds the last series, which were of one length, to the histogram.
func (t *tally) observe() {
	if t.same > 0 {
		t.ev.e.samplesPerSeries.UpdateN(float64(t.last), t.same)
		t.same = 0
	}
}

// settle adds the counts to those of the query and checks its limits.
func (t *tally) settle() error {
	t.observe()
	cfg := t.ev.cfg
	series := t.found.Add(int64(t.series))
	t.ev.seriesFetched.Add(int64(t.series))
	samples := t.ev.samplesRead.Add(int64(t.samples))
	t.series, t.samples = 0, 0
	if cfg.MaxUniqueSeries > 0 && series > int64(cfg.MaxUniqueSeries) {
		return errkind.New(errkind.Unprocessable, "cannot select more than %d series with one selector; narrow its filters or raise -search.maxUniqueTimeseries", cfg.MaxUniqueSeries)
	}
	if cfg.MaxSamplesPerQuery > 0 && samples > int64(cfg.MaxSamplesPerQuery) {
		return errkind.New(errkind.Unprocessable, "cannot read more than %d samples in one query; select fewer series, shorten the range or the window, or raise -search.maxSamplesPerQuery",
			cfg.MaxSamplesPerQuery)
	}
	return nil
}

// copyLabels returns labels in memory of their own: one block for all strings.
func copyLabels(labels []model.Label) []model.Label {
	n := 0
	for _, l := range labels {
		n += len(l.Name) + len(l.Value)
	}
	buf := make([]byte, 0, n)
	for _, l := range labels {
		buf = append(append(buf, l.Name...), l.Value...)
	}
	text := bytesutil.String(buf)
	out := make([]model.Label, len(labels))
	for i, l := range labels {
		end := len(l.Name)
		out[i] = model.Label{Name: text[:end], Value: text[end : end+len(l.Value)]}
		text = text[end+len(l.Value):]
	}
	return out
}
