package storageapi

import (
	"context"
	"maps"
	"slices"

	"vmcluster/lib/model"
)

// MetadataWriter takes what senders say of metrics.
type MetadataWriter interface {
	// AddMetadata keeps the descriptions as far as there is room: old ones may leave for new ones, and none are durable. The list and
	// its strings are not retained after the return. The error kinds are those of Ingester.
	AddMetadata(ctx context.Context, list []model.Metadata) error
}

// MetadataReader tells what senders said of metrics.
type MetadataReader interface {
	// Metadata returns the descriptions that q asks for.
	Metadata(ctx context.Context, q *MetadataQuery) (MetadataList, error)
}

// MetadataQuery asks for descriptions.
type MetadataQuery struct {
	Tenant model.TenantID
	// AllTenants asks for what is known to any tenant, whatever Tenant is. Only package multitenant answers it.
	AllTenants bool
	Metric     string // only of this one; empty for all
	// Limit is the largest number of metrics, LimitPerMetric that of descriptions of each; 0 means no limit.
	Limit, LimitPerMetric int
}

// MetadataList is an answer: by metric, the descriptions of one in the order of preference.
type MetadataList struct {
	Items    []model.Metadata
	Coverage Coverage
}

// MergeMetadata merges answers into one: metrics in order, the descriptions of a metric in the order of the answers, equal ones once.
func MergeMetadata(q *MetadataQuery, answers ...[]model.Metadata) []model.Metadata {
	byMetric := map[string][]model.Metadata{}
	for _, list := range answers {
		for _, m := range list {
			if known := byMetric[m.Metric]; !slices.Contains(known, m) {
				byMetric[m.Metric] = append(known, m)
			}
		}
	}
	var out []model.Metadata
	for i, name := range slices.Sorted(maps.Keys(byMetric)) {
		if q.Limit > 0 && i == q.Limit {
			break
		}
		list := byMetric[name]
		if q.LimitPerMetric > 0 {
			list = list[:min(len(list), q.LimitPerMetric)]
		}
		out = append(out, list...)
	}
	return out
}
