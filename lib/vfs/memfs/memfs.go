package memfs

import (
	"bytes"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"vmcluster/lib/vfs"
)

// unlimited is the total space reported when there is no capacity.
const unlimited = 1 << 40

// FS is a file system in memory. Relative paths start at its root.
type FS struct {
	mu struct {
		sync.Mutex
		root     *node
		lastID   uint64
		capacity int64
		used     int64
		locks    map[string]bool
	}
}

var _ vfs.FS = (*FS)(nil)

// Options configure a file system.
type Options struct {
	// Capacity bounds the bytes of all files; writes beyond it fail with ENOSPC.
	// 0 means no bound.
	Capacity int64
}

// New returns an empty file system.
func New(o Options) *FS {
	f := newFS(o.Capacity)
	f.mu.root = f.newNodeLocked(true)
	return f
}

func newFS(capacity int64) *FS {
	f := &FS{}
	f.mu.capacity = capacity
	f.mu.locks = map[string]bool{}
	return f
}

// SetCapacity changes the capacity in bytes; 0 means no bound.
func (f *FS) SetCapacity(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.capacity = n
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func split(path string) []string {
	path = strings.Trim(filepath.Clean("/"+path), "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func (f *FS) walkLocked(names []string) (*node, error) {
	n := f.mu.root
	for _, name := range names {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.entries[name]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// parentLocked returns the directory of path and the name in it.
func (f *FS) parentLocked(path string) (*node, string, error) {
	names := split(path)
	if len(names) == 0 {
		return nil, "", syscall.EBUSY // the root has no name
	}
	d, err := f.walkLocked(names[:len(names)-1])
	if err == nil && !d.dir {
		err = syscall.ENOTDIR
	}
	return d, names[len(names)-1], err
}

func (f *FS) fileLocked(path string) (*node, error) {
	n, err := f.walkLocked(split(path))
	if err == nil && n.dir {
		err = syscall.EISDIR
	}
	return n, err
}

func (f *FS) dirLocked(path string) (*node, error) {
	n, err := f.walkLocked(split(path))
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	return n, err
}

// Create implements vfs.FS.
func (f *FS) Create(path string) (vfs.File, error) { return asFile(f.open("create", path, true)) }

// OpenAppend implements vfs.FS.
func (f *FS) OpenAppend(path string) (vfs.File, error) { return asFile(f.open("append", path, false)) }

func asFile(w *file, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return w, nil
}

// CreateSized implements vfs.FS.
func (f *FS) CreateSized(path string, size int64, _ bool) (vfs.SizedFile, error) {
	w, err := f.open("create", path, true)
	if err == nil {
		err = f.Truncate(path, size)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (f *FS) open(op, path string, truncate bool) (*file, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, name, err := f.parentLocked(path)
	if err != nil {
		return nil, pathError(op, path, err)
	}
	n := d.entries[name]
	switch {
	case n == nil:
		n = f.newNodeLocked(false)
		f.changeLocked(edit{dir: d, name: name, to: n})
	case n.dir:
		return nil, pathError(op, path, syscall.EISDIR)
	case truncate:
		f.resizeLocked(n, 0)
	}
	return &file{fs: f, n: n, path: path}, nil
}

type file struct {
	fs     *FS
	n      *node
	path   string
	closed bool // guarded by fs.mu
}

// Write implements vfs.File.
func (w *file) Write(p []byte) (int, error) {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	if w.closed {
		return 0, pathError("write", w.path, fs.ErrClosed)
	}
	n := w.fs.writeLocked(w.n, p)
	if n < len(p) {
		return n, pathError("write", w.path, syscall.ENOSPC)
	}
	return n, nil
}

// WriteAt implements vfs.SizedFile.
func (w *file) WriteAt(p []byte, offset int64) (int, error) {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	switch {
	case w.closed:
		return 0, pathError("write", w.path, fs.ErrClosed)
	case offset < 0 || offset+int64(len(p)) > int64(len(w.n.data)):
		return 0, pathError("write", w.path, syscall.EINVAL)
	}
	w.n.data = bytes.Clone(w.n.data)
	w.n.kept = min(w.n.kept, int(offset))
	return copy(w.n.data[offset:], p), nil
}

// Sync implements vfs.File.
func (w *file) Sync() error {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	if w.closed {
		return pathError("sync", w.path, fs.ErrClosed)
	}
	w.n.synced, w.n.kept = w.n.data[:len(w.n.data):len(w.n.data)], len(w.n.data)
	return nil
}

// Close implements vfs.File.
func (w *file) Close() error {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	if w.closed {
		return pathError("close", w.path, fs.ErrClosed)
	}
	w.closed = true
	return nil
}

// snapshot returns the contents of a file; later changes do not show in it.
func (f *FS) snapshot(op, path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.fileLocked(path)
	if err != nil {
		return nil, pathError(op, path, err)
	}
	return n.data[:len(n.data):len(n.data)], nil
}

// Open implements vfs.FS. The reader sees the file as it is now.
func (f *FS) Open(path string) (vfs.Reader, error) {
	data, err := f.snapshot("open", path)
	if err != nil {
		return nil, err
	}
	return reader{bytes.NewReader(data)}, nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// ReadFile implements vfs.FS.
func (f *FS) ReadFile(path string) ([]byte, error) {
	data, err := f.snapshot("read", path)
	return bytes.Clone(data), err
}

type mapping struct{ data []byte }

func (m *mapping) Bytes() []byte { return m.data }
func (m *mapping) Close() error  { m.data = nil; return nil }

// Map implements vfs.FS.
func (f *FS) Map(path string) (vfs.Mapping, error) {
	data, err := f.snapshot("map", path)
	if err != nil {
		return nil, err
	}
	return &mapping{data: data}, nil
}

// Truncate implements vfs.FS.
func (f *FS) Truncate(path string, size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.fileLocked(path)
	switch {
	case err != nil:
	case size < 0:
		err = syscall.EINVAL
	case f.mu.capacity > 0 && size > int64(len(n.data)) && f.mu.used+size-int64(len(n.data)) > f.mu.capacity:
		err = syscall.ENOSPC
	}
	if err != nil {
		return pathError("truncate", path, err)
	}
	f.resizeLocked(n, int(size))
	return nil
}

// Space implements vfs.FS.
func (f *FS) Space(path string) (vfs.Space, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.walkLocked(split(path)); err != nil {
		return vfs.Space{}, pathError("statfs", path, err)
	}
	total := f.mu.capacity
	if total == 0 {
		total = unlimited
	}
	return vfs.Space{Free: max(0, total-f.mu.used), Total: total}, nil
}

type lock struct {
	fs   *FS
	path string
	once sync.Once
}

// Lock implements vfs.FS.
func (f *FS) Lock(path string) (io.Closer, error) {
	if w, err := f.OpenAppend(path); err != nil {
		return nil, err
	} else if err := w.Close(); err != nil {
		return nil, err
	}
	key := strings.Join(split(path), "/")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.locks[key] {
		return nil, vfs.LockedError(path)
	}
	f.mu.locks[key] = true
	return &lock{fs: f, path: key}, nil
}

// Close gives the lock back.
func (l *lock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		delete(l.fs.mu.locks, l.path)
	})
	return nil
}
