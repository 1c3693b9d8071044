package query

import (
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
)

const (
	sampleBytes = 16
	seriesBytes = 256 // labels, headers and map entries of one series, roughly
)

// fetched are the series of a selector that occurs more than once in a query.
type fetched struct{ series []*RawSeries }

// eachSeries calls visit for every series with samples in the range. What visit gets is valid during the call only.
func (ev *evaluation) eachSeries(m *metricsql.MetricExpr, r model.TimeRange, visit func(s *RawSeries) error) error {
	filters := ev.filters(m)
	if len(filters) == 0 {
		return nil
	}
	text := metricsql.String(m)
	if ev.uses[text] < 2 {
		return ev.stream(filters, r, visit)
	}
	key := fetchKey{text: text, r: r}
	f := ev.fetched[key]
	if f == nil {
		f = &fetched{}
		if err := ev.stream(filters, r, func(s *RawSeries) error { return ev.keep(f, s) }); err != nil {
			return err
		}
		ev.fetched[key] = f
	}
	for _, s := range f.series {
		if err := ev.interrupted(); err != nil {
			return err
		}
		if err := visit(s); err != nil {
			return err
		}
	}
	return nil
}

type fetchKey struct {
	text string
	r    model.TimeRange
}

// keep adds a copy of s to f.
func (ev *evaluation) keep(f *fetched, s *RawSeries) error {
	if err := ev.reserve(int64(len(s.Values))*sampleBytes + seriesBytes); err != nil {
		return err
	}
	f.series = append(f.series, &RawSeries{Labels: copyLabels(s.Labels), Timestamps: slices.Clone(s.Timestamps), Values: slices.Clone(s.Values)})
	return nil
}

// stream reads the series that pass the filters from the source and counts them against the limits.
func (ev *evaluation) stream(filters [][]model.TagFilter, r model.TimeRange, visit func(s *RawSeries) error) (err error) {
	it, err := ev.e.source.Select(ev.ctx, &model.SearchQuery{Tenant: ev.req.Tenant, Range: r, Filters: filters, MaxSeries: ev.e.cfg.MaxUniqueSeries})
	if err != nil {
		return ev.sourceError(err)
	}
	defer func() {
		if closeErr := it.Close(); err == nil && closeErr != nil {
			err = ev.sourceError(closeErr)
		}
	}()
	found := 0
	for it.Next() {
		if err := ev.interrupted(); err != nil {
			return err
		}
		s := clip(it.At(), r)
		if len(s.Timestamps) == 0 {
			continue
		}
		found++
		if err := ev.count(s, found); err != nil {
			return err
		}
		if err := visit(s); err != nil {
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

// count checks the limits on series and samples.
func (ev *evaluation) count(s *RawSeries, found int) error {
	cfg := ev.e.cfg
	n := len(s.Timestamps)
	ev.seriesFetched++
	ev.samplesRead += n
	ev.e.samplesPerSeries.Update(float64(n))
	switch {
	case cfg.MaxUniqueSeries > 0 && found > cfg.MaxUniqueSeries:
		return errkind.New(errkind.Unprocessable, "cannot select more than %d series with one selector; narrow its filters or raise -search.maxUniqueTimeseries", cfg.MaxUniqueSeries)
	case cfg.MaxSamplesPerSeries > 0 && n > cfg.MaxSamplesPerSeries:
		return errkind.New(errkind.Unprocessable, "cannot read %d samples of series %s: at most %d are allowed; shorten the range or the window, or raise -search.maxSamplesPerSeries",
			n, model.LabelsString(s.Labels), cfg.MaxSamplesPerSeries)
	case cfg.MaxSamplesPerQuery > 0 && ev.samplesRead > cfg.MaxSamplesPerQuery:
		return errkind.New(errkind.Unprocessable, "cannot read more than %d samples in one query; select fewer series, shorten the range or the window, or raise -search.maxSamplesPerQuery",
			cfg.MaxSamplesPerQuery)
	}
	return nil
}

// clip returns s with the samples in r only.
func clip(s *RawSeries, r model.TimeRange) *RawSeries {
	n := len(s.Timestamps)
	if n == 0 || s.Timestamps[0] >= r.Min && s.Timestamps[n-1] <= r.Max {
		return s
	}
	i, _ := slices.BinarySearch(s.Timestamps, r.Min)
	j, found := slices.BinarySearch(s.Timestamps, r.Max)
	if found {
		j++
	}
	j = max(i, j)
	return &RawSeries{Labels: s.Labels, Timestamps: s.Timestamps[i:j], Values: s.Values[i:j]}
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
	text := string(buf)
	out := make([]model.Label, len(labels))
	for i, l := range labels {
		end := len(l.Name)
		out[i] = model.Label{Name: text[:end], Value: text[end : end+len(l.Value)]}
		text = text[end+len(l.Value):]
	}
	return out
}
