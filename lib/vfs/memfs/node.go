package memfs

import (
	"maps"
	"slices"

	"vmcluster/lib/invariants"
)

// node is a file or a directory.
type node struct {
	id  uint64 // order of creation, for results that depend on nothing but the seed
	dir bool

	// Of a file. Bytes below len(data) are never changed in place, so synced
	// and mappings may share memory with data.
	data   []byte
	synced []byte
	kept   int // length of the common prefix of data and synced
	links  int // names of the file

	// Of a directory.
	entries map[string]*node
	durable map[string]*node
	pending []*change // entries = durable with pending applied
}

// change is one atomic change of names. It stands in the pending list of every
// directory it edits.
type change struct {
	edits  []edit
	synced bool
	crash  bool // survives the crash being computed
}

type edit struct {
	dir  *node
	name string
	to   *node // nil removes the name
}

func applyTo(m map[string]*node, d *node, c *change) {
	for _, e := range c.edits {
		switch {
		case e.dir != d:
		case e.to == nil:
			delete(m, e.name)
		default:
			m[e.name] = e.to
		}
	}
}

func (f *FS) newNodeLocked(dir bool) *node {
	f.mu.lastID++
	n := &node{id: f.mu.lastID, dir: dir}
	if dir {
		n.entries, n.durable = map[string]*node{}, map[string]*node{}
	}
	return n
}

// changeLocked makes the edits at once.
func (f *FS) changeLocked(edits ...edit) {
	c := &change{edits: edits}
	for _, e := range edits {
		if n := len(e.dir.pending); n == 0 || e.dir.pending[n-1] != c {
			e.dir.pending = append(e.dir.pending, c)
		}
		if old := e.dir.entries[e.name]; old != nil {
			f.unlinkedLocked(old)
		}
		if e.to != nil {
			e.to.links++
			e.dir.entries[e.name] = e.to
		} else {
			delete(e.dir.entries, e.name)
		}
	}
}

// unlinkedLocked accounts for a file which has lost a name.
func (f *FS) unlinkedLocked(n *node) {
	n.links--
	if n.links == 0 {
		f.mu.used -= int64(len(n.data))
	}
}

// syncDirLocked makes pending changes up to and including last (nil means all) durable, and
// whatever has to be durable before them.
func syncDirLocked(d *node, last *change) {
	for len(d.pending) > 0 {
		c := d.pending[0]
		d.pending = d.pending[1:]
		applyTo(d.durable, d, c)
		syncElsewhereLocked(d, c)
		if c == last {
			return
		}
	}
}

// syncElsewhereLocked makes a change that is durable in d durable in its other directory.
func syncElsewhereLocked(d *node, c *change) {
	if c.synced {
		return
	}
	c.synced = true
	for _, e := range c.edits {
		if e.dir != d {
			syncDirLocked(e.dir, c)
		}
	}
}

// writeLocked appends as much of p as fits and returns the number of bytes.
func (f *FS) writeLocked(n *node, p []byte) int {
	if n.links > 0 && f.mu.capacity > 0 {
		p = p[:min(int64(len(p)), max(0, f.mu.capacity-f.mu.used))]
	}
	n.data = append(n.data, p...)
	f.accountLocked(n, int64(len(p)))
	return len(p)
}

// resizeLocked cuts the file or extends it with zeros.
func (f *FS) resizeLocked(n *node, size int) {
	old := len(n.data)
	if size >= old {
		n.data = append(n.data, make([]byte, size-old)...)
	} else {
		n.data = slices.Clone(n.data[:size]) // later writes must not show in synced or in mappings
		n.kept = min(n.kept, size)
	}
	f.accountLocked(n, int64(size-old))
}

func (f *FS) accountLocked(n *node, grown int64) {
	if n.links > 0 {
		f.mu.used += grown
	}
	invariants.Check(f.mu.used >= 0, "%d bytes used", f.mu.used)
}

func sortedNames(m map[string]*node) []string { return slices.Sorted(maps.Keys(m)) }
