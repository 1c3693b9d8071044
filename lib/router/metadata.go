package router

import (
	"context"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var (
	_ storageapi.MetadataWriter = (*Router)(nil)
	_ storageapi.ExemplarWriter = (*Router)(nil)
	_ storageapi.StartWriter    = (*Router)(nil)
)

// AddMetadata implements storageapi.MetadataWriter. A description goes to the nodes which its metric's name prefers.
func (r *Router) AddMetadata(ctx context.Context, list []model.Metadata) error {
	return spreadItems(ctx, r, list, &items[model.Metadata]{
		what:  "metadata of metrics",
		takes: func(n *Node) bool { return n.Metadata != nil },
		hash:  func(m *model.Metadata) uint64 { return xxhash.Sum64String(m.Metric) },
		write: func(ctx context.Context, n *Node, share []model.Metadata) error {
			return n.Metadata.AddMetadata(ctx, share)
		},
	})
}

// AddExemplars implements storageapi.ExemplarWriter. An exemplar goes to the nodes which the samples of its series prefer.
func (r *Router) AddExemplars(ctx context.Context, list []model.Exemplar) error {
	return spreadItems(ctx, r, list, &items[model.Exemplar]{
		what:  "exemplars",
		takes: func(n *Node) bool { return n.Exemplars != nil },
		hash:  func(e *model.Exemplar) uint64 { return model.HashSeriesKey(e.Series) },
		write: func(ctx context.Context, n *Node, share []model.Exemplar) error {
			return n.Exemplars.AddExemplars(ctx, share)
		},
	})
}

// AddStarts implements storageapi.StartWriter. The start of a series goes to the nodes which its samples prefer.
func (r *Router) AddStarts(ctx context.Context, list []model.Start) error {
	return spreadItems(ctx, r, list, &items[model.Start]{
		what:  "starts of series",
		takes: func(n *Node) bool { return n.Starts != nil },
		hash:  func(s *model.Start) uint64 { return model.HashSeriesKey(s.Series) },
		write: func(ctx context.Context, n *Node, share []model.Start) error { return n.Starts.AddStarts(ctx, share) },
	})
}
