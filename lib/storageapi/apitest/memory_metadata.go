package apitest

import (
	"context"
	"slices"
	"strings"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var (
	_ storageapi.MetadataWriter = (*Memory)(nil)
	_ storageapi.MetadataReader = (*Memory)(nil)
)

// AddMetadata keeps all descriptions.
func (m *Memory) AddMetadata(ctx context.Context, list []model.Metadata) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range list {
		m.mu.described = slices.DeleteFunc(m.mu.described, func(known model.Metadata) bool { return known == x })
		x.Metric, x.Unit, x.Help = strings.Clone(x.Metric), strings.Clone(x.Unit), strings.Clone(x.Help)
		m.mu.described = append(m.mu.described, x)
	}
	return nil
}

// Metadata returns the descriptions, the newest of a metric first.
func (m *Memory) Metadata(ctx context.Context, q *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	if err := ctx.Err(); err != nil {
		return storageapi.MetadataList{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []model.Metadata
	for _, x := range slices.Backward(m.mu.described) {
		if x.Tenant == q.Tenant && (q.Metric == "" || q.Metric == x.Metric) {
			list = append(list, x)
		}
	}
	return storageapi.MetadataList{Items: storageapi.MergeMetadata(q, list)}, nil
}
