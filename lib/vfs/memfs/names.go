package memfs

import (
	"errors"
	"syscall"

	"vmcluster/lib/vfs"
)

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.renameLocked(from, to); err != nil {
		return pathError("rename", from, err)
	}
	return nil
}

func (f *FS) renameLocked(from, to string) error {
	src, srcName, err := f.parentLocked(from)
	if err != nil {
		return err
	}
	dst, dstName, err := f.parentLocked(to)
	if err != nil {
		return err
	}
	n, old := src.entries[srcName], dst.entries[dstName]
	switch {
	case n == nil:
		return syscall.ENOENT
	case n == old:
		return nil // two names of one file: nothing happens, as POSIX wants it
	case n.dir && holds(n, dst):
		return syscall.EINVAL
	case old == nil:
	case n.dir && !old.dir:
		return syscall.ENOTDIR
	case !n.dir && old.dir:
		return syscall.EISDIR
	case old.dir && len(old.entries) > 0:
		return syscall.ENOTEMPTY
	}
	f.changeLocked(edit{dir: dst, name: dstName, to: n}, edit{dir: src, name: srcName})
	return nil
}

// holds reports whether d is n or lies below it.
func holds(n, d *node) bool {
	if n == d {
		return true
	}
	for _, child := range n.entries {
		if child.dir && holds(child, d) {
			return true
		}
	}
	return false
}

// Link implements vfs.FS.
func (f *FS) Link(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.fileLocked(from)
	if err != nil {
		return pathError("link", from, err)
	}
	d, name, err := f.parentLocked(to)
	if err == nil && d.entries[name] != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return pathError("link", to, err)
	}
	f.changeLocked(edit{dir: d, name: name, to: n})
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, name, err := f.parentLocked(path)
	switch {
	case err != nil:
	case d.entries[name] == nil:
		err = syscall.ENOENT
	case d.entries[name].dir && len(d.entries[name].entries) > 0:
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return pathError("remove", path, err)
	}
	f.changeLocked(edit{dir: d, name: name})
	return nil
}

// RemoveAll implements vfs.FS.
func (f *FS) RemoveAll(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, name, err := f.parentLocked(path)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return pathError("removeall", path, err)
	}
	f.removeTreeLocked(d, name)
	return nil
}

// removeTreeLocked removes the leaves first, as an operating system has to.
func (f *FS) removeTreeLocked(d *node, name string) {
	n := d.entries[name]
	if n == nil {
		return
	}
	for _, child := range sortedNames(n.entries) {
		f.removeTreeLocked(n, child)
	}
	f.changeLocked(edit{dir: d, name: name})
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.mu.root
	for _, name := range split(path) {
		n := d.entries[name]
		if n == nil {
			n = f.newNodeLocked(true)
			f.changeLocked(edit{dir: d, name: name, to: n})
		}
		if !n.dir {
			return pathError("mkdir", path, syscall.ENOTDIR)
		}
		d = n
	}
	return nil
}

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(path string) ([]vfs.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.dirLocked(path)
	if err != nil {
		return nil, pathError("readdir", path, err)
	}
	entries := make([]vfs.Entry, 0, len(d.entries))
	for _, name := range sortedNames(d.entries) {
		n := d.entries[name]
		entries = append(entries, vfs.Entry{Name: name, IsDir: n.dir, Size: int64(len(n.data))})
	}
	return entries, nil
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.dirLocked(path)
	if err != nil {
		return pathError("syncdir", path, err)
	}
	syncDirLocked(d, nil)
	return nil
}
