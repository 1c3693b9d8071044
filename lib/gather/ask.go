package gather

import (
	"context"
	"sync"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storageapi"
)

// question is what each node is asked.
type question[T any] func(ctx context.Context, n *Node) (T, storageapi.Coverage, error)

// ask asks every node and judges their answers. The values are in the order of the nodes, the zero value for those that failed.
func ask[T any](ctx context.Context, g *Gather, a action, q question[T]) ([]T, storageapi.Coverage, error) {
	set := g.acquire()
	defer g.release(set)
	values, answers := fanOut(ctx, set, g.skippable(set, a), q)
	cov, err := g.conclude(ctx, a, set, answers)
	if err != nil {
		return nil, storageapi.Coverage{}, err
	}
	return values, cov, nil
}

// skippable returns which nodes need not be waited for; nil when all must be.
func (g *Gather) skippable(set *nodeSet, a action) *copies {
	if c := set.copiesOf(a); g.config.SkipSlowReplicas && c.replicated() {
		return c
	}
	return nil
}

// fanOut asks every node at the same time and returns what they gave, and what became of each. With skip, nodes that are
// slower than those which hold copies of all their data are cancelled.
func fanOut[T any](ctx context.Context, set *nodeSet, skip *copies, q question[T]) ([]T, []answer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	values := make([]T, len(set.nodes))
	w := waiting{skip: skip, cancel: cancel}
	w.mu.answers, w.mu.given = make([]answer, len(set.nodes)), make([]bool, len(set.nodes))
	one := func(i int) {
		n := &set.nodes[i]
		value, cov, err := q(ctx, n)
		if err == nil {
			values[i] = value
		}
		w.add(i, answer{node: n.Name, err: err, coverage: cov})
	}
	var wg sync.WaitGroup
	for i := 1; i < len(set.nodes); i++ {
		wg.Go(func() { one(i) })
	}
	one(0)
	wg.Wait()
	return values, w.mu.answers
}

// waiting collects what became of the nodes.
type waiting struct {
	skip   *copies // nil: all nodes are waited for
	cancel context.CancelFunc

	mu struct {
		sync.Mutex
		answers []answer
		given   []bool
		over    bool // the others need not answer
	}
}

// errSkipped is the failure of a node that was not waited for.
var errSkipped = errkind.New(errkind.Timeout, "it is slower than the nodes which hold copies of its data, see -search.skipSlowReplicas")

func (w *waiting) add(i int, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.over && a.err != nil {
		a.err = errSkipped
	}
	w.mu.answers[i], w.mu.given[i] = a, true
	if w.skip == nil || w.mu.over {
		return
	}
	if !w.skip.hides(func(node int) bool { return !w.mu.given[node] || w.mu.answers[node].lacks() }) {
		w.mu.over = true
		w.cancel()
	}
}
