package multitenant

import (
	"bytes"
	"context"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Exemplars implements storageapi.ExemplarReader: those of all tenants, whose series have the labels of their tenants.
func (s *Searcher) Exemplars(ctx context.Context, q *storageapi.ExemplarQuery) (storageapi.ExemplarList, error) {
	if !q.Search.AllTenants {
		return s.Stores.Exemplars(ctx, q)
	}
	parts, coverage, err := s.parts(ctx, q.Search.Range, q.Search.Filters)
	if err != nil {
		return storageapi.ExemplarList{}, err
	}
	var all []model.Exemplar
	err = inWaves(parts, func(p *part) (storageapi.ExemplarList, error) {
		found, err := s.Stores.Exemplars(ctx, &storageapi.ExemplarQuery{Search: *p.query(&q.Search), Limit: q.Limit})
		if err == nil {
			found.Items, err = p.named(found.Items)
		}
		return found, err
	}, func(found storageapi.ExemplarList) {
		all = append(all, found.Items...)
		coverage.Merge(found.Coverage)
	})
	if err != nil {
		return storageapi.ExemplarList{}, err
	}
	all, err = storageapi.MergeExemplars(q, all)
	return storageapi.ExemplarList{Items: all, Coverage: coverage}, err
}

// named returns the exemplars with the labels of the tenant at their series.
func (p *part) named(list []model.Exemplar) ([]model.Exemplar, error) {
	out := slices.Clone(list)
	var maker keyMaker
	for i := range out {
		if i > 0 && bytes.Equal(list[i].Series, list[i-1].Series) {
			out[i].Series = out[i-1].Series
			continue
		}
		key, err := maker.of(p, list[i].Series)
		if err != nil {
			return nil, err
		}
		out[i].Series = slices.Clone(key)
	}
	return out, nil
}
