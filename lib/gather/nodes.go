package gather

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storageapi"
)

// Node is one source.
type Node struct {
	Name      string // the address as given by the user, for messages; different from that of the other nodes
	Group     string // of nodes that share a replication factor; may be empty
	Searcher  storageapi.Searcher
	Catalog   storageapi.Catalog        // nil: not offered
	Reducer   storageapi.Reducer        // nil: not offered
	Metadata  storageapi.MetadataReader // nil: not offered
	Exemplars storageapi.ExemplarReader // nil: it has none

	Versioner storageapi.Versioner // nil: not offered
}

// nodeSet is the nodes which a call asks. A call keeps its set when SetNodes brings another one.
type nodeSet struct {
	number uint64 // of the list, by chance
	nodes  []Node // by name
	copies copies
	single copies // for answers in which every node counts for itself

	calls  int           // under way; guarded by Gather.mu
	unused chan struct{} // closed when this set and all before it have been replaced and are in no call any more
}

// SetNodes replaces the nodes, at least one. Calls under way go on with those they have begun with; unused is closed when none
// of the former nodes is asked by any call, so that connections to nodes which are gone can be closed.
func (g *Gather) SetNodes(nodes []Node) (unused <-chan struct{}, err error) {
	set, err := newNodeSet(nodes, &g.config)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	former := g.mu.set
	g.mu.set = set
	g.mu.replaced = append(g.mu.replaced, former)
	g.forgetLocked()
	return former.unused, nil
}

func newNodeSet(nodes []Node, cfg *Config) (*nodeSet, error) {
	if len(nodes) == 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot answer queries: there are no storage nodes; name at least one with -storageNode")
	}
	// Answers do not depend on the order in which nodes are given: two processes with the same nodes answer the same.
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	for i := range nodes[1:] {
		if nodes[i].Name == nodes[i+1].Name {
			return nil, errkind.New(errkind.BadRequest, "cannot use storage node %q twice; list it once", nodes[i].Name)
		}
	}
	return &nodeSet{number: rand.Uint64(), nodes: nodes, copies: newCopies(nodes, cfg), single: newCopies(nodes, &Config{}), unused: make(chan struct{})}, nil
}

// acquire returns the nodes for a call, which calls release at its end.
func (g *Gather) acquire() *nodeSet {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.set.calls++
	return g.mu.set
}

func (g *Gather) release(set *nodeSet) {
	g.mu.Lock()
	defer g.mu.Unlock()
	set.calls--
	g.forgetLocked()
}

// forgetLocked drops replaced sets without calls, the oldest first: a set is unused only when those before it are, for they share nodes.
func (g *Gather) forgetLocked() {
	for len(g.mu.replaced) > 0 && g.mu.replaced[0].calls == 0 {
		close(g.mu.replaced[0].unused)
		g.mu.replaced = slices.Delete(g.mu.replaced, 0, 1)
	}
}

// copiesOf returns which nodes an answer can do without.
func (s *nodeSet) copiesOf(a action) *copies {
	switch a {
	case actionSeriesCount, actionStatus: // sums over all nodes
		return &s.single
	}
	return &s.copies
}
