package gather

import (
	"context"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.MetadataReader = (*Gather)(nil)

// Metadata implements storageapi.MetadataReader: what any of the nodes knows, the descriptions of a metric in the order of the nodes.
func (g *Gather) Metadata(ctx context.Context, q *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	lists, cov, err := ask(ctx, g, actionMetadata, func(ctx context.Context, n *Node) ([]model.Metadata, storageapi.Coverage, error) {
		if n.Metadata == nil {
			return nil, storageapi.Coverage{}, n.unsupported()
		}
		list, err := n.Metadata.Metadata(ctx, q)
		return list.Items, list.Coverage, err
	})
	if err != nil {
		return storageapi.MetadataList{}, err
	}
	return storageapi.MetadataList{Items: storageapi.MergeMetadata(q, lists...), Coverage: cov}, nil
}
