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

// AddMetadata implements storageapi.MetadataWriter. A description goes to the node which its metric's name prefers, or to the next one when that fails. The
// error is that of the last node when none takes it.
func (r *Router) AddMetadata(ctx context.Context, list []model.Metadata) error {
	usable := r.describable()
	var last error
	for len(list) > 0 {
		shares, ok := r.shareMetadata(list, usable)
		if !ok {
			return errkind.New(errkind.Unavailable, "cannot store metadata of %d metrics: no storage node takes it: %w", len(list), last)
		}
		errs := make([]error, len(r.nodes))
		var wg sync.WaitGroup
		for node, share := range shares {
			if len(share) > 0 {
				wg.Go(func() { errs[node] = r.nodes[node].Metadata.AddMetadata(ctx, share) })
			}
		}
		wg.Wait()
		list = nil
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
func (r *Router) describable() []bool {
	usable := make([]bool, len(r.nodes))
	healthy := false
	r.mu.Lock()
	for i := range r.nodes {
		usable[i] = r.nodes[i].Metadata != nil && r.mu.health[i].kind == errkind.OK
		healthy = healthy || usable[i]
	}
	r.mu.Unlock()
	for i := range r.nodes {
		usable[i] = usable[i] || !healthy && r.nodes[i].Metadata != nil
	}
	return usable
}

// shareMetadata spreads the list over the usable nodes; false when there are none.
func (r *Router) shareMetadata(list []model.Metadata, usable []bool) ([][]model.Metadata, bool) {
	shares := make([][]model.Metadata, len(r.nodes))
	for i := range list {
		node := r.ring.FirstOf(xxhash.Sum64String(list[i].Metric), usable)
		if node < 0 {
			return nil, false
		}
		shares[node] = append(shares[node], list[i])
	}
	return shares, true
}
