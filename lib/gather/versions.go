package gather

import (
	"context"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.Versioner = (*Gather)(nil)

// Versions implements storageapi.Versioner: those of all nodes, in the order of the nodes. All of them must answer, whatever the
// replication factor: nobody knows what the one that does not has seen meanwhile.
func (g *Gather) Versions(ctx context.Context, tenant model.TenantID, r model.TimeRange) ([]storageapi.Version, error) {
	set := g.acquire()
	defer g.release(set)
	lists, answers := fanOut(ctx, set, nil, func(ctx context.Context, n *Node) ([]storageapi.Version, storageapi.Coverage, error) {
		if n.Versioner == nil {
			return nil, storageapi.Coverage{}, n.unsupported()
		}
		list, err := n.Versioner.Versions(ctx, tenant, r)
		return list, storageapi.Coverage{}, err
	})
	for _, a := range answers {
		if a.err != nil {
			return nil, a.err
		}
	}
	out := slices.Concat(lists...)
	for i := range out {
		// A query makes several calls, and the nodes may be replaced in between. Whoever keeps what has come of samples of a later list must not take
		// it for what the nodes of this one have, also not when these are back.
		out[i].Instance ^= set.number
	}
	return out, nil
}

// Stores returns the number that the instances of all versions have in them for as long as the nodes are not replaced, and the names of the
// nodes: what was kept with another number is of the same nodes only if it was theirs up to the end.
func (g *Gather) Stores() (number uint64, names []string) {
	set := g.acquire()
	defer g.release(set)
	for i := range set.nodes {
		names = append(names, set.nodes[i].Name)
	}
	return set.number, names
}
