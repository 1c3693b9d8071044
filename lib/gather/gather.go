package gather

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Options are the arguments of New.
type Options struct {
	Nodes []Node // at least one
	// DenyPartial makes every answer that is not whole an error of kind Unavailable.
	DenyPartial bool
	Config      Config
	Logger      *logger.Logger
	Metrics     *metrics.Set
	Now         func() time.Time // nil means time.Now
}

// Gather merges the answers of nodes. It implements storageapi.Searcher, Catalog and Reducer, and is
// safe for concurrent use.
type Gather struct {
	deny      bool
	config    Config
	warn      *logger.Throttle
	tolerated *logger.Throttle
	partial   [actionCount]*metrics.Counter
	skipped   *metrics.Counter

	mu struct {
		sync.Mutex
		set      *nodeSet
		replaced []*nodeSet // those of calls under way and those after them, oldest first
	}

	reducing reducing
}

var _ storageapi.Searcher = (*Gather)(nil)

type action uint8

const (
	actionSearch action = iota
	actionSearchKeys
	actionLabelNames
	actionLabelValues
	actionTenants
	actionSeriesCount
	actionStatus
	actionReduce
	actionMetadata
	actionExemplars

	actionCount
)

// String returns the value of the action label.
func (a action) String() string {
	return [actionCount]string{"search", "searchMetricNames", "labelNames", "labelValues", "tenants", "seriesCount", "tsdbStatus", "reduce", "metadata", "exemplars"}[a]
}

// The least time between warnings about partial answers, of which a busy vmselect gives many while a node is away, and
// about nodes which answers can do without.
const (
	warnInterval      = 5 * time.Second
	toleratedInterval = time.Minute
)

// New returns a gather over the nodes. It needs no Close.
func New(o Options) (*Gather, error) {
	g := &Gather{deny: o.DenyPartial, config: o.Config, reducing: reducing{now: o.Now}}
	var err error
	if g.mu.set, err = newNodeSet(o.Nodes, &g.config); err != nil {
		return nil, err
	}
	for group := range g.config.ReplicationFactor.Groups {
		if !slices.ContainsFunc(o.Nodes, func(n Node) bool { return n.Group == group }) {
			o.Logger.Warnf("-replicationFactor names group %q, of which there is no storage node; name nodes as in -storageNode=%s/host:port", group, group)
		}
	}
	g.warn, g.tolerated = logger.NewThrottle(o.Logger, warnInterval), logger.NewThrottle(o.Logger, toleratedInterval)
	if g.reducing.now == nil {
		g.reducing.now = time.Now
	}
	for a := range actionCount {
		g.partial[a] = o.Metrics.Counter(fmt.Sprintf(`vm_partial_results_total{action=%q, name="vmselect"}`, a.String()))
	}
	g.skipped = o.Metrics.Counter("vm_slow_replicas_skipped_total")
	return g, nil
}

func (g *Gather) policy(ctx context.Context, set *nodeSet, a action) policy {
	return policy{deny: g.deny || deniesPartial(ctx), copies: set.copiesOf(a)}
}

// conclude judges the answers of all nodes. It counts partial answers and nodes that were skipped, and logs failures.
func (g *Gather) conclude(ctx context.Context, a action, set *nodeSet, answers []answer) (storageapi.Coverage, error) {
	cov, err := g.policy(ctx, set, a).judge(answers, ctx.Err())
	if err != nil || len(cov.Failed) == 0 && !cov.Partial {
		return cov, err
	}
	failed := withoutSkipped(cov.Failed)
	g.skipped.Add(len(cov.Failed) - len(failed))
	if cov.Partial {
		g.partial[a].Inc()
		g.warn.Warnf("the answer of a query (%s) is partial, storage nodes are missing%s", a, describe(cov.Failed))
	} else if len(failed) > 0 {
		g.tolerated.Warnf("storage nodes are missing%s; answers (%s) are whole nevertheless, since others hold copies", describe(failed), a)
	}
	return cov, nil
}

// begin calls f, which begins something and seldom waits, for every node. A few are begun one after the
// other: that is faster than to start goroutines.
func (s *nodeSet) begin(f func(i int, s storageapi.Searcher)) {
	const few = 4
	if len(s.nodes) <= few {
		for i := range s.nodes {
			f(i, s.nodes[i].Searcher)
		}
		return
	}
	var wg sync.WaitGroup
	for i := range s.nodes {
		wg.Go(func() { f(i, s.nodes[i].Searcher) })
	}
	wg.Wait()
}

// LabelNames implements storageapi.Searcher.
func (g *Gather) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	return g.strings(ctx, actionLabelNames, limit, func(ctx context.Context, s storageapi.Searcher) (storageapi.Strings, error) {
		return s.LabelNames(ctx, q, limit)
	})
}

// LabelValues implements storageapi.Searcher.
func (g *Gather) LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (storageapi.Strings, error) {
	return g.strings(ctx, actionLabelValues, limit, func(ctx context.Context, s storageapi.Searcher) (storageapi.Strings, error) {
		return s.LabelValues(ctx, q, label, limit)
	})
}

func (g *Gather) strings(ctx context.Context, a action, limit int, f func(context.Context, storageapi.Searcher) (storageapi.Strings, error)) (storageapi.Strings, error) {
	lists, cov, err := ask(ctx, g, a, func(ctx context.Context, n *Node) ([]string, storageapi.Coverage, error) {
		list, err := f(ctx, n.Searcher)
		return list.Values, list.Coverage, err
	})
	if err != nil {
		return storageapi.Strings{}, err
	}
	return storageapi.Strings{Values: union(lists, limit, strings.Compare), Coverage: cov}, nil
}

// Tenants implements storageapi.Searcher.
func (g *Gather) Tenants(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	lists, cov, err := ask(ctx, g, actionTenants, func(ctx context.Context, n *Node) ([]model.TenantID, storageapi.Coverage, error) {
		list, err := n.Searcher.Tenants(ctx, r)
		return list.Values, list.Coverage, err
	})
	if err != nil {
		return storageapi.Tenants{}, err
	}
	return storageapi.Tenants{Values: union(lists, 0, model.TenantID.Compare), Coverage: cov}, nil
}

// union returns the first limit (0: all) distinct items of sorted lists in order.
func union[T any](lists [][]T, limit int, compare func(a, b T) int) []T {
	most := 0
	for _, l := range lists {
		most = max(most, len(l))
	}
	out := make([]T, 0, most)
	heads := make([]int, len(lists))
	for limit <= 0 || len(out) < limit {
		best := -1
		for i, l := range lists {
			if heads[i] < len(l) && (best < 0 || compare(l[heads[i]], lists[best][heads[best]]) < 0) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		item := lists[best][heads[best]]
		out = append(out, item)
		for i, l := range lists {
			for heads[i] < len(l) && compare(l[heads[i]], item) == 0 {
				heads[i]++
			}
		}
	}
	return out
}
