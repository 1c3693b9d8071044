package gather

import (
	"context"
	"sync"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.MetadataReader = (*Gather)(nil)

// Metadata implements storageapi.MetadataReader: what any of the nodes knows, the descriptions of a metric in the order of the nodes.
func (g *Gather) Metadata(ctx context.Context, q *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	lists := make([][]model.Metadata, len(g.nodes))
	answers := make([]answer, len(g.nodes))
	var wg sync.WaitGroup
	for i := range g.nodes {
		wg.Go(func() {
			node := &g.nodes[i]
			answers[i].node = node.Name
			if node.Metadata == nil {
				answers[i].err = errkind.New(errkind.Unsupported, "storage node %q does not offer it", node.Name)
				return
			}
			list, err := node.Metadata.Metadata(ctx, q)
			lists[i], answers[i].coverage, answers[i].err = list.Items, list.Coverage, err
		})
	}
	wg.Wait()
	cov, err := g.conclude(ctx, actionMetadata, answers)
	if err != nil {
		return storageapi.MetadataList{}, err
	}
	return storageapi.MetadataList{Items: storageapi.MergeMetadata(q, lists...), Coverage: cov}, nil
}
