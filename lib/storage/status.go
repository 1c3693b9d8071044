package storage

import (
	"context"

	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/storageapi"
)

// Status implements storageapi.Catalog. The range of one day lies in one month; over several, series of
// several months are counted once per month.
func (s *Storage) Status(ctx context.Context, q *storageapi.StatusQuery) (storageapi.Status, error) {
	topN := max(1, q.TopN)
	limit := q.Search.MaxSeries // the index counts without memory for each series, so the storage has no limit of its own
	var total index.Status
	err := s.eachMonth(ctx, q.Search.Range, func(p *partition.Partition) error {
		iq, ok := indexQuery(&q.Search, p.Month(), limit)
		if !ok {
			return nil
		}
		st, err := p.Index().Status(ctx, index.StatusQuery{
			Tenant: iq.Tenant, Filters: iq.Filters, FirstDay: iq.FirstDay, LastDay: iq.LastDay, Max: limit, TopN: topN, FocusLabel: q.FocusLabel,
		})
		if err == nil {
			total.Merge(st, topN)
		}
		return err
	})
	if err != nil {
		return storageapi.Status{}, err
	}
	out := storageapi.Status{
		TotalSeries:             total.TotalSeries,
		TotalLabelPairs:         total.TotalLabelValuePairs,
		SeriesByMetricName:      statusEntries(total.SeriesCountByMetricName),
		SeriesByLabelName:       statusEntries(total.SeriesCountByLabelName),
		SeriesByFocusLabelValue: statusEntries(total.SeriesCountByFocusLabelValue),
		SeriesByLabelPair:       statusEntries(total.SeriesCountByLabelValuePair),
		ValuesByLabelName:       statusEntries(total.LabelValueCountByLabelName),
	}
	for i := range out.SeriesByMetricName {
		if e := &out.SeriesByMetricName[i]; s.names != nil {
			e.Usage = s.names.usage(q.Search.Tenant, e.Name)
		}
	}
	return out, nil
}

func statusEntries(list []index.StatusEntry) []storageapi.StatusEntry {
	out := make([]storageapi.StatusEntry, len(list))
	for i, e := range list {
		out[i] = storageapi.StatusEntry{Name: e.Name, Count: e.Count}
	}
	return out
}
