package querysource

import (
	"context"

	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
)

// Versioner returns the query engine's view of what tells whether stored samples have changed.
func Versioner(v storageapi.Versioner) query.Versioner { return versioner{v} }

type versioner struct{ stores storageapi.Versioner }

// Versions returns the versions of the stores.
func (v versioner) Versions(ctx context.Context, tenant model.TenantID, r model.TimeRange) ([]query.Version, error) {
	list, err := v.stores.Versions(ctx, tenant, r)
	out := make([]query.Version, len(list))
	for i := range list {
		out[i] = query.Version(list[i])
	}
	return out, err
}
