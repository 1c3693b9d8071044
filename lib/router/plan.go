package router

import (
	"slices"

	"vmcluster/lib/consistenthash"
	"vmcluster/lib/model"
)

// view is what one call knows of the nodes. Slices are indexed by node.
type view struct {
	avoided []bool // cooling down when the call began
	failed  []bool // failed within this call
	usable  []bool // neither
	healthy int    // number of usable nodes
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
	v.healthy = 0
	for i := range v.usable {
		v.usable[i] = !v.failed[i] && !v.avoided[i]
		if v.usable[i] {
			v.healthy++
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

// lists are the series of a batch by the node they go to: indexes in the batch.
type lists [][]uint32

// plan says where the series of one batch go. It is pure.
type plan struct {
	ring   *consistenthash.Ring
	view   *view
	batch  *model.Batch
	copies int
	drop   []bool // rows which prefer these nodes are dropped; nil: none

	// holders has the nodes of each series, counted from 1, copies of them each, 0 for a copy which has none. It is made when the first
	// node fails: as long as none does, they are the first usable ones of the preference list.
	holders []uint16

	dropped  int   // rows
	short    int   // rows which were spread over fewer nodes than copies
	homeless int   // rows which no node is left for
	from, to []int // rows which go elsewhere, by node

	chosen, natural []uint64 // scratch
	all             []bool   // all true
}

func newPlan(ring *consistenthash.Ring, v *view, batch *model.Batch, copies int) *plan {
	n := ring.Len()
	counts := make([]int, 2*n)
	p := &plan{ring: ring, view: v, batch: batch, copies: copies, from: counts[:n], to: counts[n:]}
	if copies > 1 {
		scratch := make([]uint64, 2*copies)
		p.chosen, p.natural, p.all = scratch[:copies], scratch[copies:], slices.Repeat([]bool{true}, n)
	}
	return p
}

// soleTarget returns the node all series go to, or -1 when they go to several, prefer an unusable one, or are dropped.
func (p *plan) soleTarget() int {
	if p.copies > 1 {
		return -1
	}
	sole := -1
	for i := range p.batch.Len() {
		node := p.ring.First(p.batch.Hash(i))
		if !p.view.usable[node] || sole >= 0 && node != sole || p.drops(node) {
			return -1
		}
		sole = node
	}
	return sole
}

func (p *plan) drops(preferred int) bool { return p.drop != nil && p.drop[preferred] }

// spread puts the series of the batch on the lists of their nodes. At least one node must be left.
func (p *plan) spread(to lists) {
	if p.copies > 1 {
		p.spreadCopies(to)
		return
	}
	batch, ring, v, drop := p.batch, p.ring, p.view, p.drop
	for i := range batch.Len() {
		rows := batch.RowsOf(i)
		if rows == 0 {
			continue
		}
		node, preferred := v.pick(ring, batch.Hash(i))
		if drop != nil && drop[preferred] {
			p.dropped += rows
			continue
		}
		to[node] = append(to[node], uint32(i))
		if node != preferred {
			p.detour(preferred, node, rows)
		}
	}
}

func (p *plan) spreadCopies(to lists) {
	batch, ring, usable := p.batch, p.ring, p.view.usable
	whole := p.view.healthy == len(p.all)
	for i := range batch.Len() {
		rows, hash := batch.RowsOf(i), batch.Hash(i)
		if rows == 0 {
			continue
		}
		if p.drop != nil && p.drop[ring.First(hash)] {
			p.dropped += rows
			continue
		}
		nodes := ring.FillFirst(p.chosen, hash, usable)
		for _, node := range nodes {
			to[node] = append(to[node], uint32(i))
		}
		if !whole {
			p.noteDetours(hash, nodes, rows)
		}
	}
}

// noteDetours counts the copies which are not where they would be if all nodes were usable, and rows with too few.
func (p *plan) noteDetours(hash uint64, nodes []uint64, rows int) {
	if len(nodes) < p.copies {
		p.short += rows
	}
	natural := p.ring.FillFirst(p.natural, hash, p.all)
	// Usable nodes keep their order, so those that stand in come last.
	standIns := nodes
	for _, node := range natural {
		if p.view.usable[node] {
			standIns = standIns[1:]
		}
	}
	for _, node := range natural {
		if len(standIns) > 0 && !p.view.usable[node] {
			p.from[node] += rows
			p.to[standIns[0]] += rows
			standIns = standIns[1:]
		}
	}
}

// fail notes that a node does not take the series in the list (all of the batch when it is nil) and puts them on the lists of others, unless
// enough others have them. Series which no node is left for are homeless. When to is nil, no other node is looked for.
func (p *plan) fail(node int, list []uint32, to lists) {
	if p.copies > 1 && p.holders == nil {
		p.track()
	}
	p.view.fail(node)
	n := len(list)
	if list == nil {
		n = p.batch.Len()
	}
	for k := range n {
		i := uint32(k)
		if list != nil {
			i = list[k]
		}
		if rows := p.batch.RowsOf(int(i)); rows > 0 {
			p.replace(node, i, rows, to)
		}
	}
}

// replace finds nodes in place of one that failed for series i.
func (p *plan) replace(failed int, i uint32, rows int, to lists) {
	hash := p.batch.Hash(int(i))
	found := false
	switch {
	case p.copies > 1:
		found = p.refill(failed, i, to)
	case to != nil:
		node := p.ring.FirstOf(hash, p.view.usable)
		if found = node >= 0; found {
			to[node] = append(to[node], i)
			p.detour(failed, node, rows)
		}
	}
	if !found {
		p.homeless += rows
	}
}

// dropHomeless drops the rows for which no node is left.
func (p *plan) dropHomeless() { p.dropped, p.homeless = p.dropped+p.homeless, 0 }

func (p *plan) detour(from, to, rows int) {
	p.from[from] += rows
	p.to[to] += rows
}

// refill gives series i a node for each copy that has none, as far as there are any, and reports whether it has one at all.
func (p *plan) refill(failed int, i uint32, to lists) bool {
	h := p.holdersOf(i)
	if k := slices.Index(h, uint16(failed+1)); k >= 0 {
		h[k] = 0
	}
	// The first usable nodes, as many as there are copies, hold one for each copy without a node that does not have the series yet.
	for _, node := range p.ring.FillFirst(p.chosen, p.batch.Hash(int(i)), p.view.usable) {
		free := slices.Index(h, 0)
		if to == nil || free < 0 || slices.Contains(h, uint16(node+1)) {
			continue
		}
		h[free] = uint16(node + 1)
		to[node] = append(to[node], i)
		p.detour(failed, int(node), p.batch.RowsOf(int(i)))
	}
	return slices.ContainsFunc(h, func(node uint16) bool { return node > 0 })
}

func (p *plan) holdersOf(i uint32) []uint16 {
	return p.holders[int(i)*p.copies : (int(i)+1)*p.copies]
}

// track notes which nodes have which series. No node has failed yet.
func (p *plan) track() {
	p.holders = make([]uint16, p.batch.Len()*p.copies)
	for i := range p.batch.Len() {
		hash := p.batch.Hash(i)
		if p.batch.RowsOf(i) == 0 || p.drop != nil && p.drop[p.ring.First(hash)] {
			continue
		}
		h := p.holdersOf(uint32(i))
		for k, node := range p.ring.FillFirst(p.chosen, hash, p.view.usable) {
			h[k] = uint16(node + 1)
		}
	}
}

// incomplete returns the rows with fewer copies than they should have, if all nodes which have not failed take what they got. Dropped ones do not count.
func (p *plan) incomplete() int {
	if p.holders == nil {
		return p.short
	}
	rows := 0
	for i := range p.batch.Len() {
		n := 0
		for _, node := range p.holdersOf(uint32(i)) {
			if node > 0 {
				n++
			}
		}
		if n > 0 && n < p.copies {
			rows += p.batch.RowsOf(i)
		}
	}
	return rows
}
