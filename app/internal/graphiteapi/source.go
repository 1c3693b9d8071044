package graphiteapi

import (
	"context"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/graphite"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
)

// source reads series for one request.
type source struct {
	api *API
	r   *request
}

// filters returns what q selects as filters. Series without a metric name have no path.
func (s *source) filters(q *graphite.Query) ([]model.TagFilter, error) {
	if q.Pattern == nil {
		filters := make([]model.TagFilter, len(q.Tags))
		for i, e := range q.Tags {
			filters[i] = tagFilter(e)
		}
		return filters, nil
	}
	if path, ok := q.Pattern.IsLiteral(); ok {
		return []model.TagFilter{{Name: model.MetricNameLabel, Value: path}}, nil
	}
	return []model.TagFilter{{Name: model.MetricNameLabel, Op: model.Regexp, Value: q.Pattern.Regexp()}, {Name: model.MetricNameLabel, Op: model.NotEqual}}, nil
}

// aspect returns what is wanted of downsampled samples.
func aspect(aggregate string) model.Aspect {
	switch aggregate {
	case "min":
		return model.AspectMin
	case "max":
		return model.AspectMax
	case "sum", "total":
		return model.AspectSum
	}
	return model.AspectSamples
}

// tagBytes is about what a tag takes in a map besides its text.
const tagBytes = 48

// Fetch implements graphite.Source.
func (s *source) Fetch(ctx context.Context, q *graphite.Query) (list []*graphite.Series, err error) {
	filters, err := s.filters(q)
	if err != nil || q.Points == 0 {
		return nil, err
	}
	times := model.TimeRange{Min: q.Start, Max: q.End() - 1}
	it, err := s.api.o.Searcher.Search(ctx, &model.SearchQuery{
		Tenant: s.r.tenant, Range: times, Filters: [][]model.TagFilter{filters}, MaxSeries: s.api.o.Config.MaxSeries, Aspect: aspect(q.Aggregate),
	})
	if err != nil {
		return nil, s.limit(err)
	}
	defer func() {
		if closed := it.Close(); err == nil {
			err = closed
		}
	}()
	d := query.Decoder{Range: times, Reading: query.Reading{DedupIntervalMs: s.api.o.DedupIntervalMs}}
	for it.Next() {
		found := it.At()
		long := query.LongSeriesBytes(found.Blocks)
		if err := q.Hold(long); err != nil {
			return nil, err
		}
		raw, err := d.Decode(found.Key, found.Blocks)
		var series *graphite.Series
		if err == nil && raw != nil {
			series, err = seriesOf(q, raw, len(found.Key))
		}
		q.Release(long)
		if err != nil {
			return nil, err
		}
		if series != nil {
			list = append(list, series)
		}
	}
	if err := it.Err(); err != nil {
		return nil, s.limit(err)
	}
	return list, s.api.covered(s.r, it.Coverage())
}

// seriesOf brings raw samples to the steps of q. The key, of so many bytes, has all labels.
func seriesOf(q *graphite.Query, raw *query.RawSeries, keyLen int) (*graphite.Series, error) {
	if err := q.Hold(int64(keyLen) + tagBytes*int64(len(raw.Labels))); err != nil {
		return nil, err
	}
	values, err := q.Grid(raw.Timestamps, raw.Values)
	if err != nil {
		return nil, err
	}
	tags := make(map[string]string, len(raw.Labels))
	for _, l := range raw.Labels {
		tags[tagOf(strings.Clone(l.Name))] = strings.Clone(l.Value)
	}
	return &graphite.Series{Name: tags["name"], Tags: tags, Start: q.Start, Step: q.Step, Values: values}, nil
}

// limit adds the limit of Graphite queries to an error about too many series.
func (s *source) limit(err error) error {
	if errkind.Of(err) != errkind.Unprocessable {
		return err
	}
	return errkind.New(errkind.Unprocessable, "%w; the limit of Graphite queries is -search.maxGraphiteSeries=%d", err, s.api.o.Config.MaxSeries)
}
