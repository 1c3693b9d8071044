package storage

import (
	"context"
	"errors"
	"slices"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/storageapi"
)

// LabelNames implements storageapi.Searcher. The months' answers are by the day.
func (s *Storage) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	limit = smallerLimit(limit, s.cfg.MaxTagKeys)
	return s.labels(ctx, q, limit, func(p *partition.Partition, iq index.Query) ([]string, error) {
		return p.Index().LabelNames(ctx, iq, limit)
	})
}

// LabelValues implements storageapi.Searcher. The months' answers are by the day.
func (s *Storage) LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (storageapi.Strings, error) {
	limit = smallerLimit(limit, s.cfg.MaxTagValues)
	return s.labels(ctx, q, limit, func(p *partition.Partition, iq index.Query) ([]string, error) {
		return p.Index().LabelValues(ctx, iq, label, limit)
	})
}

// smallerLimit returns the smaller of two limits, where 0 is no limit.
func smallerLimit(a, b int) int {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// labels unites the sorted answers of all months and cuts them at limit. The limit on series does not apply: names and
// values come from sets of series, which cost the same however many series there are, and no key is read.
func (s *Storage) labels(ctx context.Context, q *model.SearchQuery, limit int, ask func(p *partition.Partition, iq index.Query) ([]string, error)) (storageapi.Strings, error) {
	var all []string
	inside := *q
	inside.Range.Min = max(q.Range.Min, s.retained().Min)
	var coverage storageapi.Coverage
	if lost := s.lostInLog(inside.Range); lost != nil {
		coverage = s.partial(lost)
	}
	err := s.eachMonth(ctx, inside.Range, func(p *partition.Partition) error {
		iq, ok := indexQuery(&inside, p.Month(), 0)
		if !ok {
			return nil
		}
		if lost := p.LostSeries(); lost != nil && !coverage.Partial {
			coverage = s.partial(lost)
		}
		list, err := ask(p, iq)
		all = append(all, list...)
		if errkind.Of(err) == errkind.Corrupt {
			coverage, err = s.partial(err), nil
		}
		return err
	})
	if err != nil {
		return storageapi.Strings{}, err
	}
	slices.SortFunc(all, strings.Compare)
	all = slices.Compact(all)
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return storageapi.Strings{Values: all, Coverage: coverage}, nil
}

// Tenants implements storageapi.Searcher.
func (s *Storage) Tenants(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	var all []model.TenantID
	err := s.eachMonth(ctx, r, func(p *partition.Partition) error {
		list, err := p.Index().Tenants()
		all = append(all, list...)
		return err
	})
	if err != nil {
		return storageapi.Tenants{}, err
	}
	slices.SortFunc(all, model.TenantID.Compare)
	return storageapi.Tenants{Values: slices.Compact(all)}, nil
}

// eachMonth calls f with the partitions that r touches.
func (s *Storage) eachMonth(ctx context.Context, r model.TimeRange, f func(p *partition.Partition) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	partitions := s.acquire(r)
	var err error
	for _, p := range partitions {
		if err = ctx.Err(); err != nil {
			break
		}
		if s.closed.Load() {
			err = s.drainingErr()
			break
		}
		if err = f(p); err != nil {
			break
		}
	}
	return errors.Join(err, release(partitions))
}
