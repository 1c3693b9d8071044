package gather

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.Catalog = (*Gather)(nil)

// askAll calls f for every node's catalog at the same time and returns what became of each.
func (g *Gather) askAll(f func(i int, c storageapi.Catalog) (storageapi.Coverage, error)) []answer {
	return g.askNodes(func(i int, n *Node) (storageapi.Coverage, error) {
		if n.Catalog == nil {
			return storageapi.Coverage{}, n.unsupported()
		}
		return f(i, n.Catalog)
	})
}

// askNodes calls f for every node at the same time and returns what became of each.
func (g *Gather) askNodes(f func(i int, n *Node) (storageapi.Coverage, error)) []answer {
	answers := make([]answer, len(g.nodes))
	var wg sync.WaitGroup
	for i := range g.nodes {
		wg.Go(func() {
			answers[i].node = g.nodes[i].Name
			answers[i].coverage, answers[i].err = f(i, &g.nodes[i])
		})
	}
	wg.Wait()
	return answers
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
	counts := make([]int, len(g.nodes))
	answers := g.askAll(func(i int, c storageapi.Catalog) (_ storageapi.Coverage, err error) {
		counts[i], err = c.DeleteSeries(ctx, q)
		return storageapi.Coverage{}, err
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	return total, g.all(ctx, "delete series", answers)
}

// ResetNameStats implements storageapi.Catalog.
func (g *Gather) ResetNameStats(ctx context.Context) error {
	return g.all(ctx, "reset the usage of metrics", g.askAll(func(_ int, c storageapi.Catalog) (storageapi.Coverage, error) {
		return storageapi.Coverage{}, c.ResetNameStats(ctx)
	}))
}

// SeriesCount implements storageapi.Catalog: the sum over the nodes, so copies of a series count as often as they are kept.
func (g *Gather) SeriesCount(ctx context.Context, tenant model.TenantID) (storageapi.Count, error) {
	counts := make([]uint64, len(g.nodes))
	answers := g.askAll(func(i int, c storageapi.Catalog) (storageapi.Coverage, error) {
		n, err := c.SeriesCount(ctx, tenant)
		if err == nil {
			counts[i] = n.Value
		}
		return n.Coverage, err
	})
	cov, err := g.conclude(ctx, actionSeriesCount, answers)
	if err != nil {
		return storageapi.Count{}, err
	}
	out := storageapi.Count{Coverage: cov}
	for _, n := range counts {
		out.Value += n
	}
	return out, nil
}

// statusMargin is how much longer the lists are which nodes are asked for, since a name may be on top of the sum and of no list.
const statusMargin = 1000

// Status implements storageapi.Catalog: sums over the nodes. Copies of a series count as often as they are kept, and so do values of a
// label which several nodes have.
func (g *Gather) Status(ctx context.Context, q *storageapi.StatusQuery) (storageapi.Status, error) {
	wide := *q
	if len(g.nodes) > 1 {
		wide.TopN = max(q.TopN, statusMargin)
	}
	list := make([]storageapi.Status, len(g.nodes))
	answers := g.askAll(func(i int, c storageapi.Catalog) (storageapi.Coverage, error) {
		s, err := c.Status(ctx, &wide)
		if err == nil {
			list[i] = s
		}
		return s.Coverage, err
	})
	cov, err := g.conclude(ctx, actionStatus, answers)
	if err != nil {
		return storageapi.Status{}, err
	}
	out := mergeStatus(list, max(1, q.TopN))
	out.Coverage = cov
	return out, nil
}

func mergeStatus(list []storageapi.Status, topN int) storageapi.Status {
	var out storageapi.Status
	for i := range list {
		out.TotalSeries += list[i].TotalSeries
		out.TotalLabelPairs += list[i].TotalLabelPairs
	}
	sum := func(pick func(s *storageapi.Status) []storageapi.StatusEntry) []storageapi.StatusEntry {
		return sumEntries(list, topN, pick)
	}
	out.SeriesByMetricName = sum(func(s *storageapi.Status) []storageapi.StatusEntry { return s.SeriesByMetricName })
	out.SeriesByLabelName = sum(func(s *storageapi.Status) []storageapi.StatusEntry { return s.SeriesByLabelName })
	out.SeriesByFocusLabelValue = sum(func(s *storageapi.Status) []storageapi.StatusEntry { return s.SeriesByFocusLabelValue })
	out.SeriesByLabelPair = sum(func(s *storageapi.Status) []storageapi.StatusEntry { return s.SeriesByLabelPair })
	out.ValuesByLabelName = sum(func(s *storageapi.Status) []storageapi.StatusEntry { return s.ValuesByLabelName })
	return out
}

func sumEntries(list []storageapi.Status, topN int, pick func(s *storageapi.Status) []storageapi.StatusEntry) []storageapi.StatusEntry {
	sums := map[string]*storageapi.StatusEntry{}
	for i := range list {
		for _, e := range pick(&list[i]) {
			known := sums[e.Name]
			if known == nil {
				known = &storageapi.StatusEntry{Name: e.Name}
				sums[e.Name] = known
			}
			known.Count += e.Count
			known.Usage.Merge(e.Usage)
		}
	}
	out := make([]storageapi.StatusEntry, 0, len(sums))
	for _, e := range sums {
		out = append(out, *e)
	}
	slices.SortFunc(out, storageapi.CompareStatusEntries)
	return out[:min(topN, len(out))]
}

// NameStats implements storageapi.Catalog. The answer is whole or an error: usage that is missing cannot be told from none.
func (g *Gather) NameStats(ctx context.Context, q *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	// A node's limit would cut records which the sum of others keeps.
	wide := *q
	if len(g.nodes) > 1 {
		wide.Limit, wide.MaxRequests = 0, -1
	}
	list := make([]storageapi.NameStats, len(g.nodes))
	answers := g.askAll(func(i int, c storageapi.Catalog) (storageapi.Coverage, error) {
		s, err := c.NameStats(ctx, &wide)
		if err == nil {
			list[i] = s
		}
		return s.Coverage, err
	})
	cov, err := policy{deny: true}.judge(answers, ctx.Err())
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
