package router

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/consistenthash"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Node is one destination.
type Node struct {
	// Name is the node's address as given by the user. It decides which series the
	// node gets, so it must be the same after a restart.
	Name     string
	Ingester storageapi.Ingester
	Metadata storageapi.MetadataWriter // nil: the node takes none
}

// Options are the arguments of New.
type Options struct {
	Nodes   []Node // at least one, with distinct names
	Logger  *logger.Logger
	Metrics *metrics.Set
}

// Router spreads batches over nodes. It implements storageapi.Ingester and is
// safe for concurrent use.
type Router struct {
	nodes   []Node
	ring    *consistenthash.Ring
	logger  *logger.Logger
	metrics *routerMetrics
	batches sync.Pool // *model.Batch
	lists   sync.Pool // *lists

	mu struct {
		sync.Mutex
		health []health
	}
}

var _ storageapi.Ingester = (*Router)(nil)

// New returns a router over the nodes. It starts no goroutines and needs no Close.
func New(o Options) (*Router, error) {
	if len(o.Nodes) == 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot route writes: there are no storage nodes; name at least one with -storageNode")
	}
	names := make([]string, len(o.Nodes))
	seen := map[string]bool{}
	for i, n := range o.Nodes {
		if seen[n.Name] {
			return nil, errkind.New(errkind.BadRequest, "cannot route writes: storage node %q is given twice; name each node once", n.Name)
		}
		seen[n.Name], names[i] = true, n.Name
	}
	r := &Router{nodes: o.Nodes, ring: consistenthash.New(names), logger: o.Logger}
	r.mu.health = make([]health, len(names))
	r.metrics = newMetrics(o.Metrics, names)
	return r, nil
}

// maxPooledBatch is the size in bytes above which a sub-batch is not kept for reuse.
const maxPooledBatch = 8 << 20

func (r *Router) getBatch() *model.Batch {
	if b, ok := r.batches.Get().(*model.Batch); ok {
		return b
	}
	return &model.Batch{}
}

func (r *Router) putBatch(b *model.Batch) {
	if b.Size() <= maxPooledBatch {
		b.Reset()
		r.batches.Put(b)
	}
}

// split distributes a batch over the usable nodes.
func (r *Router) split(v *view, batch *model.Batch) []share {
	scratch, ok := r.lists.Get().(*lists)
	if !ok {
		made := make(lists, len(r.nodes))
		scratch = &made
	}
	defer r.lists.Put(scratch)
	return v.split(r.ring, batch, r.getBatch, *scratch)
}

// Ingest stores the batch on the nodes its series prefer, or on others when those fail with a kind
// that says another node may take it. It returns after all nodes it asked have answered. The error
// is of kind Unavailable when no node takes a part of the batch, and else that of the node that refused it.
func (r *Router) Ingest(ctx context.Context, batch *model.Batch) error {
	if batch.Rows() == 0 {
		return ctx.Err()
	}
	c := r.begin(ctx)
	defer c.end()
	if node := c.view.soleTarget(r.ring, batch); node >= 0 {
		// The common case of a single node, and of small batches: no copy, no goroutine.
		c.settle(outcome{node: node, batch: batch, borrowed: true, err: c.ingest(node, batch)})
	} else {
		c.send(r.split(c.view, batch))
	}
	for c.pending > 0 {
		o := <-c.done
		c.pending--
		c.settle(o)
	}
	return c.err
}

// call is one Ingest under way. It is used by the goroutine of the call only; senders
// report through done.
type call struct {
	r       *Router
	ctx     context.Context
	view    *view
	probes  []bool // nodes this call probes and has not reported on
	why     []error
	done    chan outcome
	pending int
	err     error
}

// outcome is the answer of one node to one piece.
type outcome struct {
	node     int
	batch    *model.Batch
	borrowed bool // the batch is the caller's own
	err      error
}

func (r *Router) begin(ctx context.Context) *call {
	n := len(r.nodes)
	c := &call{r: r, ctx: ctx, probes: make([]bool, n), why: make([]error, n), done: make(chan outcome, n)}
	avoided := make([]bool, n)
	now := time.Now()
	r.mu.Lock()
	for i := range r.mu.health {
		switch r.mu.health[i].ask(now) {
		case avoid:
			avoided[i] = true
		case probe:
			c.probes[i] = true
		}
	}
	r.mu.Unlock()
	c.view = newView(avoided)
	return c
}

// end gives back probes which were not needed.
func (c *call) end() {
	for i, probing := range c.probes {
		if probing {
			c.r.mu.Lock()
			c.r.mu.health[i].release()
			c.r.mu.Unlock()
		}
	}
}

// send starts one sender per share.
func (c *call) send(shares []share) {
	for node := range shares {
		s := &shares[node]
		if s.batch == nil {
			continue
		}
		c.r.metrics.detoured(node, s)
		c.pending++
		go func() {
			c.done <- outcome{node: node, batch: s.batch, err: c.ingest(node, s.batch)}
		}()
	}
}

// maxAttempt is how long one node may take to answer when there are others. It is shorter than senders usually
// wait, since a node that hangs would otherwise hold every call until its sender gives up, and never be noticed.
const maxAttempt = 20 * time.Second

// ingest sends one piece to one node.
func (c *call) ingest(node int, batch *model.Batch) error {
	ingester := c.r.nodes[node].Ingester
	if len(c.r.nodes) == 1 {
		return ingester.Ingest(c.ctx, batch)
	}
	ctx, cancel := context.WithTimeout(c.ctx, maxAttempt)
	defer cancel()
	err := ingester.Ingest(ctx, batch)
	if err != nil && ctx.Err() != nil && c.ctx.Err() == nil {
		return errkind.New(errkind.Timeout, "it has not answered within %s: %w", maxAttempt, err)
	}
	return err
}

// settle takes the answer to one piece: it notes the node's health and sends the rows
// of a failed node elsewhere.
func (c *call) settle(o outcome) {
	defer func() {
		if !o.borrowed {
			c.r.putBatch(o.batch)
		}
	}()
	if o.err == nil {
		c.succeeded(o.node)
		return
	}
	if c.ctx.Err() != nil {
		c.fault(c.ctx.Err()) // tells nothing about the node
		return
	}
	if !errkind.Of(o.err).TryElsewhere() {
		c.succeeded(o.node) // the node is there and refuses this batch
		name := c.r.nodes[o.node].Name
		c.fault(errkind.New(errkind.Of(o.err), "cannot store %d rows at storage node %q: %w", o.batch.Rows(), name, o.err))
		return
	}
	c.failed(o.node, o.err)
	if c.view.left == 0 {
		c.fault(c.unavailable(o.batch.Rows()))
		return
	}
	if c.err == nil { // else the caller sends everything again
		c.r.metrics.reroutes.Inc()
		c.r.metrics.processed.Add(o.batch.Rows())
		c.send(c.r.split(c.view, o.batch))
	}
}

func (c *call) fault(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *call) succeeded(node int) {
	c.probes[node] = false
	c.r.mu.Lock()
	recovered := c.r.mu.health[node].success()
	c.r.mu.Unlock()
	if recovered {
		c.r.logger.Infof("storage node %q takes writes again", c.r.nodes[node].Name)
	}
}

func (c *call) failed(node int, err error) {
	c.probes[node] = false
	c.why[node] = err
	c.view.fail(node)
	c.r.mu.Lock()
	changed := c.r.mu.health[node].failure(time.Now(), err)
	c.r.mu.Unlock()
	if changed {
		c.r.logger.Warnf("cannot write to storage node %q, its rows go to other nodes until it answers: %s", c.r.nodes[node].Name, err)
	}
}

// unavailable is the error when all nodes have failed within the call.
func (c *call) unavailable(rows int) error {
	var b strings.Builder
	wait := maxHint
	for i, err := range c.why {
		fmt.Fprintf(&b, "; %q: %s", c.r.nodes[i].Name, err)
		if hint := errkind.RetryAfterOf(err); hint > 0 {
			wait = min(wait, hint)
		} else {
			wait = min(wait, maxCoolDown)
		}
	}
	return errkind.New(errkind.Unavailable, "cannot store %d rows: none of the %d storage nodes takes writes%s", rows, len(c.why), b.String()).WithRetryAfter(wait)
}
