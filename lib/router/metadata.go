package router

import (
	"context"
	"sync"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.MetadataWriter = (*Router)(nil)

// AddMetadata implements storageapi.MetadataWriter. A description goes to the nodes which its metric's name prefers, as many as there are copies of rows, or to the next
// ones when those fail. The error is that of the last node when none takes it.
func (r *Router) AddMetadata(ctx context.Context, list []model.Metadata) error {
	set := r.acquire()
	defer r.release(set)
	usable := r.describable(set)
	copies := r.config.ReplicationFactor
	var last error
	for len(list) > 0 {
		shares, ok := set.shareMetadata(list, usable, copies)
		if !ok {
			return errkind.New(errkind.Unavailable, "cannot store metadata of %d metrics: no storage node takes it: %w", len(list), last)
		}
		errs := make([]error, len(set.nodes))
		var wg sync.WaitGroup
		for node, share := range shares {
			if len(share) > 0 {
				wg.Go(func() { errs[node] = set.nodes[node].Metadata.AddMetadata(ctx, share) })
			}
		}
		wg.Wait()
		list, copies = nil, 1 // whoever stands in for a node may have it already
		for node, err := range errs {
			if err != nil {
				last, usable[node] = err, false
				list = append(list, shares[node]...)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// describable returns the nodes that take metadata and are healthy; when none is, all that take it.
func (r *Router) describable(set *nodeSet) []bool {
	usable := make([]bool, len(set.nodes))
	healthy := false
	r.mu.Lock()
	for i, s := range set.states {
		usable[i] = set.nodes[i].Metadata != nil && s.health.kind == errkind.OK
		healthy = healthy || usable[i]
	}
	r.mu.Unlock()
	for i := range set.nodes {
		usable[i] = usable[i] || !healthy && set.nodes[i].Metadata != nil
	}
	return usable
}

// shareMetadata spreads the list over the usable nodes; false when there are none.
func (s *nodeSet) shareMetadata(list []model.Metadata, usable []bool, copies int) ([][]model.Metadata, bool) {
	shares, chosen := make([][]model.Metadata, len(s.nodes)), make([]uint64, copies)
	for i := range list {
		nodes := s.ring.FillFirst(chosen, xxhash.Sum64String(list[i].Metric), usable)
		if len(nodes) == 0 {
			return nil, false
		}
		for _, node := range nodes {
			shares[node] = append(shares[node], list[i])
		}
	}
	return shares, true
}
