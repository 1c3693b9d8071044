package apitest

import (
	"context"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var (
	_ storageapi.ExemplarWriter = (*Memory)(nil)
	_ storageapi.ExemplarReader = (*Memory)(nil)
)

// AddExemplars keeps all exemplars.
func (m *Memory) AddExemplars(ctx context.Context, list []model.Exemplar) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range list {
		e.Series, e.Labels = slices.Clone(e.Series), slices.Clone(e.Labels)
		m.mu.exemplars = append(m.mu.exemplars, e)
	}
	return nil
}

// Exemplars returns the exemplars of the series which the filters select.
func (m *Memory) Exemplars(ctx context.Context, q *storageapi.ExemplarQuery) (storageapi.ExemplarList, error) {
	if err := ctx.Err(); err != nil {
		return storageapi.ExemplarList{}, err
	}
	sets, err := compile(q.Search.Filters)
	if err != nil {
		return storageapi.ExemplarList{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []model.Exemplar
	for _, e := range m.mu.exemplars {
		tenant, labels, err := model.ParseSeriesKey(nil, e.Series)
		if err != nil {
			return storageapi.ExemplarList{}, err
		}
		if tenant == q.Search.Tenant && q.Search.Range.Contains(e.Timestamp) && matchesAny(sets, labels) {
			list = append(list, e)
		}
	}
	list, err = storageapi.MergeExemplars(q, list)
	return storageapi.ExemplarList{Items: list}, err
}
