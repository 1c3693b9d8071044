package partition

import (
	"path/filepath"
	"slices"

	"vmcluster/lib/vfs"
)

// Snapshot makes dir, below which nothing may be yet, a copy of the partition as it is on disk: parts by hard links, and a MANIFEST of
// its own. It is durable at the return, but for the name of dir itself. Frozen heads and the head are not in it. The
// caller keeps flushes and the end of the partition away; merges may go on.
func (p *Partition) Snapshot(dir string) error {
	entries := p.acquireParts()
	defer func() {
		for _, e := range entries {
			e.Release()
		}
	}()
	fsys := p.o.FS
	for _, sub := range []string{dir, filepath.Join(dir, "parts"), filepath.Join(dir, "index")} {
		if err := fsys.MkdirAll(sub); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := linkFiles(fsys, e.Dir(), filepath.Join(dir, "parts", e.name)); err != nil {
			return err
		}
	}
	if err := fsys.SyncDir(filepath.Join(dir, "parts")); err != nil {
		return err
	}
	// Taken after the list of parts, the index has the series of all of them.
	if err := p.index.Snapshot(filepath.Join(dir, "index")); err != nil {
		return err
	}
	m := manifest{}
	for _, e := range entries {
		m.parts = append(m.parts, e.manifestPart)
	}
	m.parts = append(m.parts, p.lost...)
	p.mu.RLock()
	m.nextSeq = p.mu.nextSeq
	p.mu.RUnlock()
	return vfs.WriteFileDurable(fsys, filepath.Join(dir, manifestName), m.AppendTo(nil)) // syncs dir, too
}

// acquireParts returns the parts with a reference to each, so that their files stay.
func (p *Partition) acquireParts() []*entry {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, e := range p.mu.parts {
		e.Acquire()
	}
	return slices.Clone(p.mu.parts)
}

// linkFiles makes a new directory with hard links to all files of another.
func linkFiles(fsys vfs.FS, from, to string) error {
	entries, err := fsys.ReadDir(from)
	if err != nil {
		return err
	}
	if err := fsys.MkdirAll(to); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir {
			continue
		}
		if err := fsys.Link(filepath.Join(from, e.Name), filepath.Join(to, e.Name)); err != nil {
			return err
		}
	}
	return fsys.SyncDir(to)
}
