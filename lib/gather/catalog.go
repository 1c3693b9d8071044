package gather

import (
	"context"
	"fmt"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.Catalog = (*Gather)(nil)

// ofCatalog is a question to the nodes' catalogs.
func ofCatalog[T any](f func(ctx context.Context, c storageapi.Catalog) (T, storageapi.Coverage, error)) question[T] {
	return func(ctx context.Context, n *Node) (value T, cov storageapi.Coverage, err error) {
		if n.Catalog == nil {
			return value, cov, n.unsupported()
		}
		return f(ctx, n.Catalog)
	}
}

func (n *Node) unsupported() error {
	return errkind.New(errkind.Unsupported, "storage node %q does not offer it", n.Name)
}

// all returns an error unless every node has done what it was told: a change that some nodes have missed is not made.
func (g *Gather) all(ctx context.Context, what string, answers []answer) error {
	if err := ctx.Err(); err != nil {
		return errkind.New(errkind.Of(err), "cannot %s: %w", what, err)
	}
	var failed []storageapi.NodeFailure
	kind := errkind.Unavailable
	for _, a := range answers {
		if a.err == nil {
			continue
		}
		failed = append(failed, storageapi.NodeFailure{Node: a.node, Err: a.err})
		if isQueryFault(a.err) {
			kind = errkind.Of(a.err)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return errkind.New(kind, "cannot %s on %d of %d storage nodes, the others have done it; try again%s", what, len(failed), len(answers), describe(failed))
}

// DeleteSeries implements storageapi.Catalog. Every node must have deleted its series; the count is the sum over the nodes.
func (g *Gather) DeleteSeries(ctx context.Context, q *model.SearchQuery) (int, error) {
	set := g.acquire()
	defer g.release(set)
	counts, answers := fanOut(ctx, set, nil, ofCatalog(func(ctx context.Context, c storageapi.Catalog) (int, storageapi.Coverage, error) {
		n, err := c.DeleteSeries(ctx, q)
		return n, storageapi.Coverage{}, err
	}))
	total := 0
	for _, n := range counts {
		total += n
	}
	return total, g.all(ctx, "delete series", answers)
}

// ResetNameStats implements storageapi.Catalog.
func (g *Gather) ResetNameStats(ctx context.Context) error {
	set := g.acquire()
	defer g.release(set)
	_, answers := fanOut(ctx, set, nil, ofCatalog(func(ctx context.Context, c storageapi.Catalog) (struct{}, storageapi.Coverage, error) {
		return struct{}{}, storageapi.Coverage{}, c.ResetNameStats(ctx)
	}))
	return g.all(ctx, "reset the usage of metrics", answers)
}

// SeriesCount implements storageapi.Catalog: the sum over the nodes, so copies of a series count as often as they are kept, and an answer
// without a node is partial whoever holds copies.
func (g *Gather) SeriesCount(ctx context.Context, tenant model.TenantID) (storageapi.Count, error) {
	counts, cov, err := ask(ctx, g, actionSeriesCount, ofCatalog(func(ctx context.Context, c storageapi.Catalog) (uint64, storageapi.Coverage, error) {
		n, err := c.SeriesCount(ctx, tenant)
		return n.Value, n.Coverage, err
	}))
	if err != nil {
		return storageapi.Count{}, err
	}
	out := storageapi.Count{Coverage: cov}
	for _, n := range counts {
		out.Value += n
	}
	return out, nil
}

// Status implements storageapi.Catalog: sums over the nodes, as those of SeriesCount. Values of a label which several nodes have
// count as often, too.
func (g *Gather) Status(ctx context.Context, q *storageapi.StatusQuery) (storageapi.Status, error) {
	wide := *q
	wide.TopN = max(q.TopN, storageapi.StatusMargin)
	list, cov, err := ask(ctx, g, actionStatus, ofCatalog(func(ctx context.Context, c storageapi.Catalog) (storageapi.Status, storageapi.Coverage, error) {
		s, err := c.Status(ctx, &wide)
		return s, s.Coverage, err
	}))
	if err != nil {
		return storageapi.Status{}, err
	}
	out := storageapi.MergeStatus(list, max(1, q.TopN))
	out.Coverage = cov
	return out, nil
}

// NameStats implements storageapi.Catalog. The answer is whole or an error: usage that is missing cannot be told from none.
func (g *Gather) NameStats(ctx context.Context, q *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	set := g.acquire()
	defer g.release(set)
	// A node's limit would cut records which the sum of others keeps.
	wide := *q
	if len(set.nodes) > 1 {
		wide.Limit, wide.MaxRequests = 0, -1
	}
	list, answers := fanOut(ctx, set, nil, ofCatalog(func(ctx context.Context, c storageapi.Catalog) (storageapi.NameStats, storageapi.Coverage, error) {
		s, err := c.NameStats(ctx, &wide)
		return s, s.Coverage, err
	}))
	cov, err := policy{deny: true, copies: &set.single}.judge(answers, ctx.Err())
	if err != nil {
		return storageapi.NameStats{}, fmt.Errorf("cannot tell the usage of metrics: %w", err)
	}
	out, err := mergeNameStats(list, q)
	out.Coverage = cov
	return out, err
}

func mergeNameStats(list []storageapi.NameStats, q *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	if len(list) == 1 {
		return list[0], nil
	}
	out := storageapi.NameStats{SinceSecs: list[0].SinceSecs}
	usage := map[string]storageapi.Usage{}
	for i := range list {
		s := &list[i]
		out.SinceSecs = min(out.SinceSecs, s.SinceSecs)
		out.Tracked = max(out.Tracked, s.Tracked)
		out.MaxBytes += s.MaxBytes
		out.CurrentBytes += s.CurrentBytes
		for _, r := range s.Records {
			u := usage[r.Name]
			u.Merge(r.Usage)
			usage[r.Name] = u
		}
	}
	var err error
	out.Records, err = q.Select(usage)
	return out, err
}
