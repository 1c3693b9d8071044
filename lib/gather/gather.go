package gather

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Node is one source.
type Node struct {
	Name     string // the address as given by the user, for messages
	Searcher storageapi.Searcher
	Catalog  storageapi.Catalog        // nil: not offered
	Reducer  storageapi.Reducer        // nil: not offered
	Metadata storageapi.MetadataReader // nil: not offered
}

// Options are the arguments of New.
type Options struct {
	Nodes []Node // at least one
	// DenyPartial makes every answer that is not whole an error of kind Unavailable.
	DenyPartial bool
	// ReplicationFactor is the number of nodes that hold each sample: with fewer of them
	// missing, answers are whole. 0 means 1.
	ReplicationFactor int
	Logger            *logger.Logger
	Metrics           *metrics.Set
	Now               func() time.Time // nil means time.Now
}

// Gather merges the answers of nodes. It implements storageapi.Searcher, Catalog and Reducer, and is
// safe for concurrent use.
type Gather struct {
	nodes   []Node
	deny    bool
	spare   int
	warn    *logger.Throttle
	partial [actionCount]*metrics.Counter

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

	actionCount
)

// String returns the value of the action label.
func (a action) String() string {
	return [actionCount]string{"search", "searchMetricNames", "labelNames", "labelValues", "tenants", "seriesCount", "tsdbStatus", "reduce", "metadata"}[a]
}

// warnInterval is the least time between warnings about partial answers, of
// which a busy vmselect gives many while a node is away.
const warnInterval = 5 * time.Second

// New returns a gather over the nodes. It needs no Close.
func New(o Options) (*Gather, error) {
	if len(o.Nodes) == 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot answer queries: there are no storage nodes; name at least one with -storageNode")
	}
	g := &Gather{nodes: o.Nodes, reducing: reducing{now: o.Now}, deny: o.DenyPartial, spare: max(o.ReplicationFactor, 1) - 1, warn: logger.NewThrottle(o.Logger, warnInterval)}
	if g.reducing.now == nil {
		g.reducing.now = time.Now
	}
	for a := range actionCount {
		g.partial[a] = o.Metrics.Counter(fmt.Sprintf(`vm_partial_results_total{action=%q, name="vmselect"}`, a.String()))
	}
	return g, nil
}

// conclude judges the answers of all nodes, and counts and logs a partial one.
func (g *Gather) conclude(ctx context.Context, a action, answers []answer) (storageapi.Coverage, error) {
	p := policy{deny: g.deny || deniesPartial(ctx), spare: g.spare}
	cov, err := p.judge(answers, ctx.Err())
	if err == nil && cov.Partial {
		g.partial[a].Inc()
		g.warn.Warnf("the answer of a query (%s) is partial, storage nodes are missing%s", a, describe(cov.Failed))
	}
	return cov, err
}

// each calls f for every node at the same time and returns when all are done.
func (g *Gather) each(f func(i int, s storageapi.Searcher)) {
	var wg sync.WaitGroup
	for i := 1; i < len(g.nodes); i++ {
		wg.Go(func() { f(i, g.nodes[i].Searcher) })
	}
	f(0, g.nodes[0].Searcher)
	wg.Wait()
}

// begin calls f, which begins something and seldom waits, for every node. A few are begun one after the
// other: that is faster than to start goroutines.
func (g *Gather) begin(f func(i int, s storageapi.Searcher)) {
	const few = 4
	if len(g.nodes) > few {
		g.each(f)
		return
	}
	for i := range g.nodes {
		f(i, g.nodes[i].Searcher)
	}
}

// LabelNames implements storageapi.Searcher.
func (g *Gather) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	return g.strings(ctx, actionLabelNames, limit, func(s storageapi.Searcher) (storageapi.Strings, error) {
		return s.LabelNames(ctx, q, limit)
	})
}

// LabelValues implements storageapi.Searcher.
func (g *Gather) LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (storageapi.Strings, error) {
	return g.strings(ctx, actionLabelValues, limit, func(s storageapi.Searcher) (storageapi.Strings, error) {
		return s.LabelValues(ctx, q, label, limit)
	})
}

func (g *Gather) strings(ctx context.Context, a action, limit int, ask func(storageapi.Searcher) (storageapi.Strings, error)) (storageapi.Strings, error) {
	answers := make([]answer, len(g.nodes))
	lists := make([][]string, len(g.nodes))
	g.each(func(i int, s storageapi.Searcher) {
		list, err := ask(s)
		lists[i], answers[i] = list.Values, answer{node: g.nodes[i].Name, err: err, coverage: list.Coverage}
	})
	for i := range answers {
		if answers[i].err != nil {
			lists[i] = nil
		}
	}
	cov, err := g.conclude(ctx, a, answers)
	if err != nil {
		return storageapi.Strings{}, err
	}
	return storageapi.Strings{Values: union(lists, limit, strings.Compare), Coverage: cov}, nil
}

// Tenants implements storageapi.Searcher.
func (g *Gather) Tenants(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	answers := make([]answer, len(g.nodes))
	lists := make([][]model.TenantID, len(g.nodes))
	g.each(func(i int, s storageapi.Searcher) {
		list, err := s.Tenants(ctx, r)
		if err == nil {
			lists[i] = list.Values
		}
		answers[i] = answer{node: g.nodes[i].Name, err: err, coverage: list.Coverage}
	})
	cov, err := g.conclude(ctx, actionTenants, answers)
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
