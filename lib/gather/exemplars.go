package gather

import (
	"context"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.ExemplarReader = (*Gather)(nil)

// Exemplars implements storageapi.ExemplarReader. Nodes which are too old for exemplars have none, and the answer lacks nothing without them.
func (g *Gather) Exemplars(ctx context.Context, q *storageapi.ExemplarQuery) (storageapi.ExemplarList, error) {
	lists, cov, err := ask(ctx, g, actionExemplars, func(ctx context.Context, n *Node) ([]model.Exemplar, storageapi.Coverage, error) {
		if n.Exemplars == nil {
			return nil, storageapi.Coverage{}, nil
		}
		list, err := n.Exemplars.Exemplars(ctx, q)
		if errkind.Of(err) == errkind.Unsupported {
			err = nil
		}
		return list.Items, list.Coverage, err
	})
	if err != nil {
		return storageapi.ExemplarList{}, err
	}
	items, err := storageapi.MergeExemplars(q, lists...)
	return storageapi.ExemplarList{Items: items, Coverage: cov}, err
}
