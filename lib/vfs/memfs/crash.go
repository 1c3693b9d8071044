package memfs

import (
	"math/rand/v2"
	"slices"
)

// pageSize is the unit in which a disk tears.
const pageSize = 4096

// Crash returns the file system as found after a power failure right now. The
// old one goes on working and shares nothing with the new one; locks are not
// carried over.
func (f *FS) Crash(rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	dirs := reachableDirs(f.mu.root)
	choose(rng, dirs)
	out := newFS(f.mu.capacity)
	b := &rebuild{rng: rng, out: out, copies: map[*node]*node{}}
	out.mu.root = b.copyOf(f.mu.root)
	return out
}

// reachableDirs returns all directories that have, had or may have a name, by id.
func reachableDirs(root *node) []*node {
	seen := map[*node]bool{}
	var dirs []*node
	var visit func(n *node)
	visit = func(n *node) {
		if n == nil || !n.dir || seen[n] {
			return
		}
		seen[n] = true
		dirs = append(dirs, n)
		for _, child := range n.durable {
			visit(child)
		}
		for _, c := range n.pending {
			for _, e := range c.edits {
				visit(e.dir)
				visit(e.to)
			}
		}
	}
	visit(root)
	slices.SortFunc(dirs, func(a, b *node) int { return int(a.id) - int(b.id) })
	return dirs
}

// choose marks which pending changes survive: of every directory a prefix, and
// changes of two directories in both or in neither.
func choose(rng *rand.Rand, dirs []*node) {
	limit := map[*node]int{}
	for _, d := range dirs {
		limit[d] = rng.IntN(len(d.pending) + 1)
	}
	for again := true; again; {
		again = false
		markSurvivors(dirs, limit)
		for _, d := range dirs {
			if i := slices.IndexFunc(d.pending[:limit[d]], func(c *change) bool { return !c.crash }); i >= 0 {
				limit[d] = i
				again = true
			}
		}
	}
}

// markSurvivors marks changes which are within the limit of every directory
// that still has them pending.
func markSurvivors(dirs []*node, limit map[*node]int) {
	for _, d := range dirs {
		for _, c := range d.pending {
			c.crash = true
		}
	}
	for _, d := range dirs {
		for _, c := range d.pending[limit[d]:] {
			c.crash = false
		}
	}
}

// rebuild copies the survivors of a crash.
type rebuild struct {
	rng    *rand.Rand
	out    *FS
	copies map[*node]*node
}

func (b *rebuild) copyOf(n *node) *node {
	if c := b.copies[n]; c != nil {
		return c
	}
	c := b.out.newNodeLocked(n.dir)
	b.copies[n] = c
	if !n.dir {
		c.data = b.survivingBytes(n)
		c.synced, c.kept = c.data, len(c.data)
		b.out.mu.used += int64(len(c.data))
		return c
	}
	names := map[string]*node{}
	for name, child := range n.durable {
		names[name] = child
	}
	for _, ch := range n.pending {
		if !ch.crash {
			break
		}
		applyTo(names, n, ch)
	}
	for _, name := range sortedNames(names) {
		child := b.copyOf(names[name])
		child.links++
		c.entries[name], c.durable[name] = child, child
	}
	return c
}

func (b *rebuild) survivingBytes(n *node) []byte {
	if n.kept < len(n.synced) && b.rng.IntN(2) == 0 {
		return slices.Clone(n.synced) // the truncation did not survive
	}
	tail := len(n.data) - n.kept
	end := n.kept + b.rng.IntN(tail+1)
	out := slices.Clone(n.data[:end])
	if b.rng.IntN(4) == 0 { // the size was written, the last bytes were not
		out = append(out, make([]byte, b.rng.IntN(len(n.data)-end+1))...)
	}
	if b.rng.IntN(2) == 0 {
		b.tearPage(out[n.kept:], n.kept)
	}
	return out
}

// tearPage overwrites one page of the unsynced bytes, which start at offset.
func (b *rebuild) tearPage(unsynced []byte, offset int) {
	if len(unsynced) == 0 {
		return
	}
	page := (offset + b.rng.IntN(len(unsynced))) / pageSize
	from := max(0, page*pageSize-offset)
	to := min(len(unsynced), (page+1)*pageSize-offset)
	garbage := b.rng.IntN(2) == 0
	for i := from; i < to; i++ {
		unsynced[i] = 0
		if garbage {
			unsynced[i] = byte(b.rng.Uint32())
		}
	}
}
