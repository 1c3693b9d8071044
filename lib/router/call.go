package router

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// maxAttempt is how long one node may take to answer when there are others, and how long rows wait for a node. It is shorter than senders usually
// wait, since a node that hangs would otherwise hold every call until its sender gives up, and never be noticed. For the same reason it is at
// most half of the time the caller gives, who may be a router with the same patience.
const maxAttempt = 20 * time.Second

// patience returns how long the nodes of a call may take.
func patience(ctx context.Context, now time.Time) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(maxAttempt, deadline.Sub(now)/2)
	}
	return maxAttempt
}

// call is one Ingest under way. It is used by the goroutine of the call only; senders
// report through done.
type call struct {
	r        *Router
	set      *nodeSet
	ctx      context.Context
	batch    *model.Batch
	plan     *plan
	began    time.Time
	patience time.Duration
	probes   []bool // nodes this call probes and has not reported on
	why      []error
	done     chan *piece
	flying   []*piece
	lists    *lists // of the first spreading
	reserved int64
	err      error
}

// piece is a part of a batch on its way to one node.
type piece struct {
	set    *nodeSet
	node   int
	list   []uint32     // its series in the batch of the call; nil means all
	batch  *model.Batch // those; the call's own when list is nil
	pause  time.Duration
	since  time.Time
	bytes  int64
	ctx    context.Context
	cancel context.CancelFunc
	slot   int  // in the list of the watch; guarded by the router's mutex, as are the next two until the watch forgets the piece
	slow   bool // it was taken back, since the node is slow
	hangs  bool // it was taken back, since the node hangs
	err    error
}

// begin looks at the nodes.
func (r *Router) begin(ctx context.Context, batch *model.Batch) *call {
	set := r.acquire()
	n, now := len(set.nodes), time.Now()
	c := &call{r: r, set: set, ctx: ctx, batch: batch, began: now, patience: patience(ctx, now), why: make([]error, n), done: make(chan *piece, n)}
	marks := make([]bool, 2*n)
	avoided, probes := marks[:n], marks[n:]
	var drop []bool
	r.mu.Lock()
	for i, s := range set.states {
		switch s.health.ask(c.began, set.nodes[i].Reachable) {
		case avoid:
			avoided[i] = !r.waits(s.health.kind)
		case probe:
			probes[i] = true
		}
		switch {
		case avoided[i] || !set.window.exceeded(&s.load, c.began):
		case r.watches(set) && slow(set.states, i, set.window, c.began):
			avoided[i] = true // others wait for it already, and are about to give up
		case r.config.DropSamplesOnOverload:
			if drop == nil {
				drop = make([]bool, n)
			}
			drop[i] = true
		}
	}
	r.mu.Unlock()
	c.probes = probes
	c.plan = newPlan(set.ring, newView(avoided), batch, r.config.ReplicationFactor)
	c.plan.drop = drop
	return c
}

// end gives back what the call has taken, and probes which were not needed.
func (c *call) end() {
	if slices.Contains(c.probes, true) {
		c.r.mu.Lock()
		for i, probing := range c.probes {
			if probing {
				c.set.states[i].health.release()
			}
		}
		c.r.mu.Unlock()
	}
	c.r.release(c.set)
	if c.lists != nil {
		c.r.lists.Put(c.lists)
	}
	if c.reserved > 0 {
		c.r.budget.Release(c.reserved)
	}
}

// start sends the batch.
func (c *call) start() {
	if node := c.plan.soleTarget(); node >= 0 {
		// The common case of a single node, and of small batches: no copy.
		p := &piece{node: node, batch: c.batch}
		c.take([]*piece{p})
		c.send(p) // and no goroutine
		return
	}
	if err := c.reserve(); err != nil {
		if !c.r.config.DropSamplesOnOverload {
			c.fault(err)
			return
		}
		c.plan.dropped += c.batch.Rows()
		return
	}
	c.lists = c.r.getLists(len(c.set.nodes))
	c.plan.spread(*c.lists)
	c.dispatch(*c.lists)
}

// What a batch holds per series and sample.
const (
	seriesBytes = 32
	sampleBytes = 16
)

func batchBytes(b *model.Batch) int64 {
	return int64(b.Len()*seriesBytes + (b.Rows()-b.HistogramRows())*sampleBytes + b.HistogramBytes())
}

// reserve reserves memory for the copies of the batch.
func (c *call) reserve() error {
	if c.r.budget == nil {
		return nil
	}
	n := int64(c.plan.copies) * batchBytes(c.batch)
	if err := c.r.budget.Reserve(n, "rows on their way to storage nodes"); err != nil {
		return errkind.New(errkind.Overloaded, "cannot store %d rows: %w", c.batch.Rows(), err).WithRetryAfter(time.Second)
	}
	c.reserved = n
	return nil
}

// dispatch starts one sender per list, and counts what goes where it does not belong.
func (c *call) dispatch(l lists) {
	pieces := make([]*piece, 0, len(l))
	for node, list := range l {
		if len(list) == 0 {
			continue
		}
		b := c.r.getBatch()
		b.AppendSome(c.batch, list)
		pieces = append(pieces, &piece{node: node, list: list, batch: b})
	}
	c.take(pieces)
	for _, p := range pieces {
		go c.send(p)
	}
	for i, s := range c.set.states {
		s.metrics.from.Add(c.plan.from[i])
		s.metrics.to.Add(c.plan.to[i])
	}
	clear(c.plan.from)
	clear(c.plan.to)
}

// take notes that pieces are under way.
func (c *call) take(pieces []*piece) {
	now := time.Now()
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for _, p := range pieces {
		p.since, p.bytes = now, batchBytes(p.batch)
		p.ctx, p.cancel = c.ctx, func() {}
		if len(c.set.nodes) > 1 {
			p.ctx, p.cancel = context.WithTimeout(c.ctx, c.patience)
		}
		c.set.states[p.node].load.enter(now, p.bytes)
		p.set = c.set
		c.r.watchLocked(p)
	}
	c.flying = append(c.flying, pieces...)
}

// send sends one piece to its node and reports the answer.
func (c *call) send(p *piece) {
	p.err = c.ingest(p)
	p.cancel()
	c.done <- p
}

func (c *call) ingest(p *piece) error {
	if p.pause > 0 {
		timer := time.NewTimer(p.pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	err := c.set.nodes[p.node].Ingester.Ingest(p.ctx, p.batch)
	if err != nil && p.ctx.Err() != nil && c.ctx.Err() == nil {
		return errkind.New(errkind.Timeout, "it has not answered within %s: %w", c.patience.Round(time.Millisecond), err)
	}
	return err
}

// settle takes the answer to one piece: it notes the node's health and sends the rows
// of a failed node elsewhere.
func (c *call) settle(p *piece) {
	c.flying = slices.DeleteFunc(c.flying, func(other *piece) bool { return other == p })
	c.r.forget(p)
	kind := errkind.Of(p.err)
	if kind == errkind.Timeout && p.slow {
		kind = errkind.Overloaded
		p.err = errkind.New(kind, "it has not answered for %s, which is much longer than the other nodes take", time.Since(p.since).Round(time.Millisecond))
	}
	if kind == errkind.Timeout && p.hangs {
		p.err = errkind.New(kind, "it has answered nothing for %s, while other nodes answer; see whether its disk works, and -vmstorageUserTimeout", c.r.config.HangTimeout)
	}
	blameless := p.err != nil && c.ctx.Err() != nil // it tells nothing about the node
	failed := !blameless && kind.TryElsewhere()
	c.report(p, failed, blameless)
	switch {
	case blameless:
		c.fault(c.ctx.Err())
	case failed:
		c.why[p.node] = p.err
		c.detour(p, kind)
	case p.err != nil: // the node is there and refuses this batch
		name := c.set.nodes[p.node].Name
		c.fault(errkind.New(kind, "cannot store %d rows at storage node %q: %w", p.batch.Rows(), name, p.err))
	}
	if p.list != nil && p.batch != nil {
		c.r.putBatch(p.batch)
	}
}

// report notes what an answer says of the node.
func (c *call) report(p *piece, failed, blameless bool) {
	node := &c.set.nodes[p.node]
	reachable := !failed || node.Reachable()
	state := c.set.states[p.node]
	changed := false
	c.r.mu.Lock()
	state.load.leave(p.since, p.bytes)
	if kind := errkind.Of(p.err); !blameless && !p.slow && kind != errkind.Timeout && kind != errkind.Unavailable {
		state.load.heard = time.Now()
	}
	switch {
	case failed:
		c.probes[p.node] = false
		changed = state.health.failure(time.Now(), p.err, reachable)
	case !blameless:
		changed = state.health.success(p.since)
		c.probes[p.node] = c.probes[p.node] && !changed
	}
	c.r.mu.Unlock()
	switch {
	case changed && failed:
		c.r.logFailure(node.Name, p.err)
	case changed:
		c.r.logger.Infof("storage node %q takes writes again", node.Name)
	}
}

// logFailure says what is the matter with a node and what to do about it.
func (r *Router) logFailure(name string, err error) {
	kind := errkind.Of(err)
	fate := "its rows go to other nodes"
	if r.waits(kind) {
		fate = "its rows wait for it"
	}
	switch kind {
	case errkind.ReadOnly:
		r.logger.Warnf("storage node %q is read-only, %s; free disk space there or add storage nodes: %s", name, fate, err)
	case errkind.Draining:
		r.logger.Warnf("storage node %q is shutting down, %s until it is back: %s", name, fate, err)
	case errkind.Overloaded:
		r.logger.Warnf("storage node %q is overloaded, %s for a while; look at its CPU, memory and disk, or add storage nodes: %s", name, fate, err)
	default:
		r.logger.Warnf("cannot write to storage node %q, %s until it answers; see whether it runs and can be reached: %s", name, fate, err)
	}
}

// detour sends the rows of a piece which its node has not taken to other nodes, or lets them wait.
func (c *call) detour(p *piece, kind errkind.Kind) {
	switch {
	case c.err != nil: // the caller sends everything again
		return
	case c.r.waits(kind) && kind == errkind.Overloaded && c.r.config.DropSamplesOnOverload:
		c.plan.fail(p.node, p.list, nil)
		c.plan.dropHomeless()
		return
	case c.r.waits(kind):
		c.await(p)
		return
	}
	c.r.metrics.reroutes.Inc()
	c.r.metrics.processed.Add(p.batch.Rows())
	l := make(lists, len(c.set.nodes))
	c.plan.fail(p.node, p.list, l)
	if c.r.config.DropSamplesOnOverload && !slices.ContainsFunc(c.why, func(err error) bool { return errkind.Of(err) != errkind.Overloaded }) {
		c.plan.dropHomeless()
	}
	if c.plan.homeless > 0 {
		c.fault(c.unavailable(c.plan.homeless))
		return
	}
	c.dispatch(l)
}

// await sends a piece to its node again when that has had a rest.
func (c *call) await(p *piece) {
	c.r.mu.Lock()
	pause := max(time.Until(c.set.states[p.node].health.until), minCoolDown)
	c.r.mu.Unlock()
	if time.Since(c.began)+pause >= c.patience {
		c.fault(errkind.New(errkind.Unavailable, "cannot store %d rows: they wait for storage node %q only, see -disableRerouting and -disableReroutingOnUnavailable: %w",
			p.batch.Rows(), c.set.nodes[p.node].Name, p.err).WithRetryAfter(maxCoolDown))
		return
	}
	again := &piece{node: p.node, list: p.list, batch: p.batch, pause: pause}
	p.batch = nil
	c.take([]*piece{again})
	go c.send(again)
}

func (c *call) fault(err error) {
	if c.err == nil {
		c.err = err
	}
}

// unavailable is the error when all nodes have failed within the call. It is of their kind when all are read-only, or overloaded, and else Unavailable.
func (c *call) unavailable(rows int) error {
	var b strings.Builder
	wait, kind := maxHint, errkind.Of(c.why[0])
	if kind != errkind.ReadOnly && kind != errkind.Overloaded {
		kind = errkind.Unavailable
	}
	for i, err := range c.why {
		if errkind.Of(err) != kind {
			kind = errkind.Unavailable
		}
		fmt.Fprintf(&b, "; %q: %s", c.set.nodes[i].Name, err)
		if hint := errkind.RetryAfterOf(err); hint > 0 {
			wait = min(wait, hint)
		} else {
			wait = min(wait, maxCoolDown)
		}
	}
	return errkind.New(kind, "cannot store %d rows: none of the %d storage nodes takes writes%s", rows, len(c.why), b.String()).WithRetryAfter(wait)
}
