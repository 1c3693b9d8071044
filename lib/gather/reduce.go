package gather

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/storageapi"
)

var _ storageapi.Reducer = (*Gather)(nil)

const (
	// Series which several nodes hold travel as they are stored. Beyond so many, and one in so many, all do.
	freeShared    = 100
	sharedPortion = 20
	// After a fragment for which that was so, none is tried for this long: what it would have cost is not paid again and again.
	holdBack = time.Minute
)

// reducing is what Gather knows of fragments.
type reducing struct {
	now       func() time.Time
	notBefore atomic.Int64 // Unix nanoseconds
}

// wait makes the next fragments be read for a while.
func (r *reducing) wait() { r.notBefore.Store(r.now().Add(holdBack).UnixNano()) }

// Reduce implements storageapi.Reducer. Each node aggregates the series that it holds alone. Which these are, the nodes find out by
// way of fingerprints: what two of them report is excluded in a second round, in which they hand it over as it is stored.
func (g *Gather) Reduce(ctx context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	set := g.acquire()
	defer g.release(set)
	switch {
	case set.copies.replicated():
		return storageapi.Reduction{Declined: "storage nodes hold copies of each other's series", ForNow: true}, nil
	case g.reducing.now().UnixNano() < g.reducing.notBefore.Load():
		return storageapi.Reduction{Declined: heldBack, ForNow: true}, nil
	}
	out, shared, err := g.reduceOnce(ctx, set, f)
	if err != nil || len(shared) == 0 {
		return out, err
	}
	total := 0
	for _, r := range out.Results {
		total += len(r.Fingerprints)
	}
	if len(shared) <= max(freeShared, total/sharedPortion) {
		again := *f
		again.Exclude = slices.Sorted(slices.Values(slices.Concat(f.Exclude, shared)))
		// A series may have come to a second node between the rounds.
		if out, shared, err = g.reduceOnce(ctx, set, &again); err != nil || len(shared) == 0 {
			return out, err
		}
	}
	g.reducing.wait()
	return storageapi.Reduction{Declined: heldBack, ForNow: true}, nil
}

const heldBack = "several storage nodes hold many of the same series, or one of them does not evaluate fragments for now"

// reduceOnce has all nodes evaluate the fragment, and returns the fingerprints that several of them report. Without
// results the series have to be read.
func (g *Gather) reduceOnce(ctx context.Context, set *nodeSet, f *fragment.Fragment) (out storageapi.Reduction, shared []uint32, err error) {
	var declined atomic.Bool
	nodesCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, answers := fanOut(nodesCtx, set, nil, func(ctx context.Context, n *Node) ([]*fragment.Result, storageapi.Coverage, error) {
		r, err := n.reduce(ctx, f)
		if len(r.Results) > 0 {
			return r.Results, r.Coverage, err
		}
		if older := errkind.Of(err) == errkind.Unsupported; older || err == nil {
			if older {
				g.reducing.wait()
			}
			declined.Store(true)
			cancel() // the others need not go on
		}
		return nil, r.Coverage, err
	})
	if declined.Load() {
		return storageapi.Reduction{Declined: "the results would take as much as the samples"}, nil, nil
	}
	if out.Coverage, err = g.conclude(ctx, actionReduce, set, answers); err != nil {
		return storageapi.Reduction{}, nil, err
	}
	out.Results = slices.Concat(results...)
	return out, sharedBy(out.Results, f), nil
}

// sharedBy returns the fingerprints of series which were aggregated in one result and are in another one, too, ascending. A node with nodes of its
// own hands over what several of these hold, whether it was told to or not.
func sharedBy(results []*fragment.Result, f *fragment.Fragment) []uint32 {
	var lists [][]uint32
	var handedOver []uint32
	for _, r := range results {
		lists = append(lists, r.Fingerprints)
		for i := range r.Excluded {
			if fingerprint := fragment.Fingerprint(r.Excluded[i].Key); !f.Excludes(fingerprint) {
				handedOver = append(handedOver, fingerprint)
			}
		}
	}
	shared := fragment.Shared(lists)
	if len(handedOver) == 0 {
		return shared
	}
	slices.Sort(handedOver)
	handedOver = slices.Compact(handedOver)
	for _, list := range lists {
		shared = append(shared, fragment.Shared([][]uint32{list, handedOver})...)
	}
	slices.Sort(shared)
	return slices.Compact(shared)
}

func (n *Node) reduce(ctx context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	if n.Reducer == nil {
		return storageapi.Reduction{}, n.unsupported()
	}
	return n.Reducer.Reduce(ctx, f)
}
