package router

import (
	"context"
	"sync"

	"vmcluster/lib/errkind"
)

// items is how a list of what goes along with samples is spread over nodes.
type items[T any] struct {
	what  string                                              // for messages
	takes func(n *Node) bool                                  // whether a node takes such items
	hash  func(item *T) uint64                                // decides which nodes an item prefers
	write func(ctx context.Context, n *Node, share []T) error // to a node which takes them
}

// spreadItems writes each item to the nodes that its hash prefers, as many as there are copies of rows, or to the next ones when those fail: who has an item
// already gets it again. The error is that of the last node when none takes an item.
func spreadItems[T any](ctx context.Context, r *Router, list []T, how *items[T]) error {
	set := r.acquire()
	defer r.release(set)
	usable := r.takers(set, how.takes)
	var last error
	for len(list) > 0 {
		shares, ok := how.share(set, list, usable, r.config.ReplicationFactor)
		if !ok {
			return errkind.New(errkind.Unavailable, "cannot store %s: no storage node takes it: %w", how.what, last)
		}
		errs := make([]error, len(set.nodes))
		var wg sync.WaitGroup
		for node, share := range shares {
			if len(share) > 0 {
				wg.Go(func() { errs[node] = how.write(ctx, &set.nodes[node], share) })
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

// takers returns the nodes that take items and are healthy; when none is, all that take them.
func (r *Router) takers(set *nodeSet, takes func(n *Node) bool) []bool {
	usable := make([]bool, len(set.nodes))
	healthy := false
	r.mu.Lock()
	for i, s := range set.states {
		usable[i] = takes(&set.nodes[i]) && s.health.kind == errkind.OK
		healthy = healthy || usable[i]
	}
	r.mu.Unlock()
	for i := range set.nodes {
		usable[i] = usable[i] || !healthy && takes(&set.nodes[i])
	}
	return usable
}

// share spreads the list over the usable nodes; false when there are none.
func (how *items[T]) share(s *nodeSet, list []T, usable []bool, copies int) ([][]T, bool) {
	shares, chosen := make([][]T, len(s.nodes)), make([]uint64, copies)
	for i := range list {
		nodes := s.ring.FillFirst(chosen, how.hash(&list[i]), usable)
		if len(nodes) == 0 {
			return nil, false
		}
		for _, node := range nodes {
			shares[node] = append(shares[node], list[i])
		}
	}
	return shares, true
}
