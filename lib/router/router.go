package router

import (
	"cmp"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/consistenthash"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Node is one destination.
type Node struct {
	// Name is the node's address as given by the user. It decides which series the
	// node gets, so it must be the same after a restart.
	Name      string
	Ingester  storageapi.Ingester
	Metadata  storageapi.MetadataWriter // nil: the node takes none
	Exemplars storageapi.ExemplarWriter // nil: the node takes none
	Starts    storageapi.StartWriter    // nil: the node takes none
	// Reachable reports whether there is a connection that takes requests; nil means that nobody knows.
	Reachable func() bool
}

// Options are the arguments of New.
type Options struct {
	Config  Config
	Nodes   []Node // at least one and as many as there are copies, with distinct names
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget // sub-batches are part of it; nil means none
}

// Router spreads batches over nodes. It implements storageapi.Ingester and is
// safe for concurrent use.
type Router struct {
	config  Config
	logger  *logger.Logger
	warn    *logger.Throttle // of what happens to many calls
	metrics *routerMetrics
	set     *metrics.Set
	budget  *memory.Budget
	batches sync.Pool // *model.Batch
	lists   sync.Pool // *lists
	nodes   atomic.Pointer[nodeSet]

	mu struct {
		sync.Mutex
		states map[string]*nodeState // of all nodes there ever were
		former int                   // calls under way which use a former set
		unused []chan struct{}       // to close when there are none
		watch  watch
	}
}

var _ storageapi.Ingester = (*Router)(nil)

// nodeSet is the nodes of a call. It does not change, but for what the router's mutex guards.
type nodeSet struct {
	nodes  []Node
	ring   *consistenthash.Ring
	window window
	states []*nodeState // guarded
	users  int          // calls; guarded
	former bool         // guarded
}

// nodeState is what is known of a node.
type nodeState struct {
	health  health
	load    load
	metrics nodeMetrics
}

// New returns a router over the nodes. It starts no goroutines and needs no Close.
func New(o Options) (*Router, error) {
	r := &Router{config: o.Config, logger: o.Logger, warn: logger.NewThrottle(o.Logger, 5*time.Second), set: o.Metrics, budget: o.Budget, metrics: newMetrics(o.Metrics)}
	r.config.ReplicationFactor = max(r.config.ReplicationFactor, 1)
	r.config.HangTimeout = cmp.Or(r.config.HangTimeout, 3*time.Second)
	if o.Config.ReplicationFactor < 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot keep -replicationFactor=%d copies of samples: set it to 1 or more", o.Config.ReplicationFactor)
	}
	r.mu.states = map[string]*nodeState{}
	if _, err := r.SetNodes(o.Nodes); err != nil {
		return nil, err
	}
	return r, nil
}

// SetNodes replaces the nodes. Calls under way go on with those they began with; unused is closed when there are no such calls any more. What is known of nodes
// that stay is kept. On an error, which is of kind BadRequest, nothing changes.
func (r *Router) SetNodes(nodes []Node) (unused <-chan struct{}, err error) {
	s, err := r.newSet(nodes)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, n := range s.nodes {
		if r.mu.states[n.Name] == nil {
			r.mu.states[n.Name] = &nodeState{metrics: newNodeMetrics(r.set, n.Name)}
		}
		s.states[i] = r.mu.states[n.Name]
	}
	if old := r.nodes.Swap(s); old != nil {
		old.former = true
		r.mu.former += old.users
	}
	r.mu.unused = append(r.mu.unused, done)
	r.tellUnusedLocked()
	return done, nil
}

func (r *Router) tellUnusedLocked() {
	if r.mu.former > 0 {
		return
	}
	for _, done := range r.mu.unused {
		close(done)
	}
	r.mu.unused = nil
}

// acquire returns the nodes, which stay what they are until they are released.
func (r *Router) acquire() *nodeSet {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.nodes.Load()
	s.users++
	return s
}

func (r *Router) release(s *nodeSet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.users--
	if s.former {
		r.mu.former--
		r.tellUnusedLocked()
	}
}

// newSet checks a list of nodes.
func (r *Router) newSet(nodes []Node) (*nodeSet, error) {
	if len(nodes) == 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot route writes: there are no storage nodes; name at least one with -storageNode")
	}
	if copies := r.config.ReplicationFactor; copies > len(nodes) {
		return nil, errkind.New(errkind.BadRequest, "cannot keep -replicationFactor=%d copies of samples on %d storage nodes: name at least as many with -storageNode as there are copies, better %d, "+
			"so that there are enough when some are lost", copies, len(nodes), 2*copies-1)
	}
	s := &nodeSet{nodes: make([]Node, len(nodes)), states: make([]*nodeState, len(nodes)), window: r.windowOf(len(nodes))}
	names := make([]string, len(nodes))
	seen := map[string]bool{}
	for i, n := range nodes {
		if seen[n.Name] {
			return nil, errkind.New(errkind.BadRequest, "cannot route writes: storage node %q is given twice; name each node once", n.Name)
		}
		if n.Reachable == nil {
			n.Reachable = func() bool { return true }
		}
		seen[n.Name], names[i], s.nodes[i] = true, n.Name, n
	}
	s.ring = consistenthash.New(names)
	return s, nil
}

// windowOf returns what may be under way to each of n nodes before they are full. Half of the calls an insert node works on may
// wait for one node, and an eighth of the memory is for all nodes.
func (r *Router) windowOf(n int) window {
	w := window{pieces: max(2, runtime.GOMAXPROCS(0)), bytes: 64 << 20}
	if r.budget != nil {
		w.bytes = min(max(r.budget.Limit()/8/int64(n), 1<<20), w.bytes)
	}
	return w
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

// getLists returns empty lists for n nodes.
func (r *Router) getLists(n int) *lists {
	l, ok := r.lists.Get().(*lists)
	if !ok || len(*l) != n {
		made := make(lists, n)
		return &made
	}
	for node := range *l {
		(*l)[node] = (*l)[node][:0]
	}
	return l
}

// waits reports whether rows wait for a node that failed in this way, instead of going to others. The disk of a read-only one may be full for days.
func (r *Router) waits(kind errkind.Kind) bool {
	switch kind {
	case errkind.Overloaded:
		return r.config.DisableRerouting
	case errkind.Unavailable, errkind.Draining, errkind.Timeout:
		return r.config.DisableReroutingOnUnavailable
	}
	return false
}

// watches reports whether calls look out for slow nodes.
func (r *Router) watches(s *nodeSet) bool {
	return r.config.ReplicationFactor == 1 && !r.config.DisableRerouting && len(s.nodes) >= 3
}

// watchesHanging reports whether calls look out for nodes that answer nobody: there must be others for all copies.
func (r *Router) watchesHanging(s *nodeSet) bool {
	return !r.config.DisableRerouting && !r.config.DisableReroutingOnUnavailable && len(s.nodes) > r.config.ReplicationFactor
}

// Ingest stores each row of the batch on the nodes its series prefers, or on others when those fail with a kind
// that says another node may take it. It returns after all nodes it asked have answered. The error
// is of kind Unavailable when no node takes a part of the batch, or ReadOnly or Overloaded if all nodes are, Overloaded when there is no memory for it, and else that of the node that refused it.
func (r *Router) Ingest(ctx context.Context, batch *model.Batch) error {
	if batch.Rows() == 0 {
		return ctx.Err()
	}
	c := r.begin(ctx, batch)
	defer c.end()
	c.start()
	for len(c.flying) > 0 {
		c.settle(<-c.done)
	}
	if c.err == nil {
		r.count(c.plan)
	}
	return c.err
}

// count counts rows of a call which was answered with success and did not get what they should.
func (r *Router) count(p *plan) {
	if n := p.dropped; n > 0 {
		r.metrics.dropped.Add(n)
		r.warn.Warnf("dropped %d rows, as -dropSamplesOnOverload says, since storage nodes or memory cannot keep up; add storage nodes, or memory if that is short", n)
	}
	if n := p.incomplete(); n > 0 {
		r.metrics.incomplete.Add(n)
		r.warn.Warnf("stored %d rows with fewer than -replicationFactor=%d copies, since too few storage nodes take them; nobody adds copies later, so bring the missing nodes back soon", n, p.copies)
	}
}
