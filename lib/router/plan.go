package router

import (
	"vmcluster/lib/consistenthash"
	"vmcluster/lib/model"
)

// view is what one call knows of the nodes. Slices are indexed by node.
type view struct {
	avoided []bool // cooling down when the call began
	failed  []bool // failed within this call
	usable  []bool // neither
	healthy int    // number of usable nodes
	left    int    // number of nodes not failed
}

// newView returns the view of a call at whose start the given nodes were to be avoided.
func newView(avoided []bool) *view {
	v := &view{avoided: avoided, failed: make([]bool, len(avoided)), usable: make([]bool, len(avoided))}
	v.update()
	return v
}

// fail notes that a node failed within the call.
func (v *view) fail(node int) {
	v.failed[node] = true
	v.update()
}

func (v *view) update() {
	v.healthy, v.left = 0, 0
	for i := range v.usable {
		v.usable[i] = !v.failed[i] && !v.avoided[i]
		if v.usable[i] {
			v.healthy++
		}
		if !v.failed[i] {
			v.left++
		}
	}
	if v.healthy > 0 {
		return
	}
	// Better an ailing node than none.
	for i := range v.usable {
		v.usable[i] = !v.failed[i]
	}
}

// pick returns the node for a key: the first usable one of its preference list,
// and the first of the list. The node is -1 when all have failed.
func (v *view) pick(ring *consistenthash.Ring, hash uint64) (node, preferred int) {
	preferred = ring.First(hash)
	if preferred < 0 || v.usable[preferred] {
		return preferred, preferred
	}
	return ring.FirstOf(hash, v.usable), preferred
}

// share is the part of a batch that goes to one node.
type share struct {
	batch *model.Batch
	rows  int
	// detoured[i] counts rows which are here although they prefer node i; nil when there are none.
	detoured []int
}

// lists are the series of a batch by the node they go to: indexes in the batch.
type lists [][]uint32

// split distributes the series of src over shares, one per node; get makes
// empty batches, and scratch is used for the call only. At least one node must be left.
func (v *view) split(ring *consistenthash.Ring, src *model.Batch, get func() *model.Batch, scratch lists) []share {
	shares := make([]share, ring.Len())
	for node := range scratch {
		scratch[node] = scratch[node][:0]
	}
	for i := range src.Len() {
		rows := len(src.Samples(i))
		if rows == 0 {
			continue
		}
		node, preferred := v.pick(ring, src.Hash(i))
		scratch[node] = append(scratch[node], uint32(i))
		if node != preferred {
			shares[node].detour(preferred, rows, ring.Len())
		}
	}
	for node, list := range scratch {
		if len(list) == 0 {
			continue
		}
		s := &shares[node]
		s.batch = get()
		s.batch.AppendSome(src, list)
		s.rows = s.batch.Rows()
	}
	return shares
}

// detour notes rows which are in the share although they prefer another node.
func (s *share) detour(preferred, rows, nodes int) {
	if s.detoured == nil {
		s.detoured = make([]int, nodes)
	}
	s.detoured[preferred] += rows
}

// soleTarget returns the node all series of src go to, or -1 when they go to
// several or prefer an unusable one.
func (v *view) soleTarget(ring *consistenthash.Ring, src *model.Batch) int {
	sole := -1
	for i := range src.Len() {
		node := ring.First(src.Hash(i))
		if !v.usable[node] || sole >= 0 && node != sole {
			return -1
		}
		sole = node
	}
	return sole
}
