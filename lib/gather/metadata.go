package gather

import (
	"context"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.MetadataReader = (*Gather)(nil)

// Metadata implements storageapi.MetadataReader: what any of the nodes knows, the descriptions of a metric in the order of the nodes.
func (g *Gather) Metadata(ctx context.Context, q *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	lists := make([][]model.Metadata, len(g.nodes))
	answers := g.askNodes(func(i int, n *Node) (storageapi.Coverage, error) {
		if n.Metadata == nil {
			return storageapi.Coverage{}, n.unsupported()
		}
		list, err := n.Metadata.Metadata(ctx, q)
		lists[i] = list.Items
		return list.Coverage, err
	})
	cov, err := g.conclude(ctx, actionMetadata, answers)
	if err != nil {
		return storageapi.MetadataList{}, err
	}
	return storageapi.MetadataList{Items: storageapi.MergeMetadata(q, lists...), Coverage: cov}, nil
}
