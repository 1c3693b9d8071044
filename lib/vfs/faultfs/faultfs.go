package faultfs

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"

	"vmcluster/lib/vfs"
)

// Kind is a kind of operation.
type Kind uint8

// The kinds of operations.
const (
	Create Kind = iota
	OpenAppend
	Write
	Sync
	Rename
	Link
	Remove
	RemoveAll
	MkdirAll
	Truncate
	SyncDir
	Read // Open, ReadFile, Map and ReadDir; not counted by Ops
)

// String returns the name of the kind.
func (k Kind) String() string {
	names := [...]string{"create", "open", "write", "sync", "rename", "link", "remove", "removeall", "mkdir", "truncate", "syncdir", "read"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Op is one operation about to happen.
type Op struct {
	Kind Kind
	Path string
	N    int64 // number among the mutating operations, from 1; 0 for reads
}

// Fault says which operations fail.
type Fault struct {
	At     int64  // the At-th matching operation from now on fails; 0 means none
	Sticky bool   // and all matching ones after it
	Kinds  []Kind // which operations match; none means every mutating one
	Err    error  // nil means EIO
	Short  bool   // a failing write passes on half of its bytes
}

// FS is a file system with faults. The zero Fault lets everything pass.
type FS struct {
	inner vfs.FS
	mu    struct {
		sync.Mutex
		ops     int64
		fault   Fault
		matched int64
		hook    func(Op)
		bad     []badRange
	}
}

// badRange are bytes of a file which cannot be read.
type badRange struct {
	path     string
	from, to int64
}

var _ vfs.FS = (*FS)(nil)

// New wraps inner.
func New(inner vfs.FS) *FS { return &FS{inner: inner} }

// SetFault replaces the fault and starts counting matching operations anew.
func (f *FS) SetFault(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.fault, f.mu.matched = fault, 0
}

// SetHook sets a function to be called before each operation, reads included.
// It may use the wrapped file system, not this one.
func (f *FS) SetHook(hook func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.hook = hook
}

// SetUnreadable lets every read of the bytes [from, to) of a file fail with EIO from now on, as a bad sector does. It is about
// readers of Open only.
func (f *FS) SetUnreadable(path string, from, to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.bad = append(f.mu.bad, badRange{path: path, from: from, to: to})
}

// readable returns how many of the n bytes at offset come before the first bad one.
func (f *FS) readable(path string, offset, n int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.mu.bad {
		if b.path == path && b.from < offset+n && offset < b.to {
			n = max(0, b.from-offset)
		}
	}
	return n
}

// reader is a file being read, with bad places.
type reader struct {
	vfs.Reader
	fs     *FS
	path   string
	offset int64
}

func (r *reader) ReadAt(p []byte, offset int64) (int, error) {
	good := r.fs.readable(r.path, offset, int64(len(p)))
	if good == int64(len(p)) {
		return r.Reader.ReadAt(p, offset)
	}
	n, err := r.Reader.ReadAt(p[:good], offset)
	if err == nil {
		err = fmt.Errorf("cannot read %q at byte %d: injected fault: %w", r.path, offset+good, syscall.EIO)
	}
	return n, err
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.offset)
	r.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Ops returns the number of mutating operations so far, failed ones included.
func (f *FS) Ops() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.ops
}

// before accounts for an operation and returns the error it has to fail with.
func (f *FS) before(kind Kind, path string) error {
	_, err := f.beforeWrite(kind, path)
	return err
}

func (f *FS) beforeWrite(kind Kind, path string) (short bool, err error) {
	f.mu.Lock()
	op := Op{Kind: kind, Path: path}
	if kind != Read {
		f.mu.ops++
		op.N = f.mu.ops
	}
	hook, fault := f.mu.hook, f.mu.fault
	if fault.matches(kind) {
		f.mu.matched++
		if f.mu.matched == fault.At || fault.Sticky && f.mu.matched > fault.At {
			err = fault.error(op)
		}
	}
	f.mu.Unlock()
	if hook != nil {
		hook(op)
	}
	return fault.Short, err
}

func (t *Fault) matches(kind Kind) bool {
	if t.At == 0 {
		return false
	}
	if len(t.Kinds) == 0 {
		return kind != Read
	}
	return slices.Contains(t.Kinds, kind)
}

func (t *Fault) error(op Op) error {
	err := t.Err
	if err == nil {
		err = syscall.EIO
	}
	return fmt.Errorf("cannot %s %q: injected fault: %w", op.Kind, op.Path, err)
}

type file struct {
	fs    *FS
	inner vfs.File
	path  string
}

func (w *file) Write(p []byte) (int, error) {
	short, err := w.fs.beforeWrite(Write, w.path)
	if err == nil {
		return w.inner.Write(p)
	}
	if !short {
		return 0, err
	}
	n, innerErr := w.inner.Write(p[:len(p)/2])
	if innerErr != nil {
		return n, innerErr
	}
	return n, err
}

// sizedFile is a file being written anywhere.
type sizedFile struct {
	vfs.SizedFile
	fs   *FS
	path string
}

func (w *sizedFile) WriteAt(p []byte, offset int64) (int, error) {
	short, err := w.fs.beforeWrite(Write, w.path)
	if err == nil {
		return w.SizedFile.WriteAt(p, offset)
	}
	if !short {
		return 0, err
	}
	n, innerErr := w.SizedFile.WriteAt(p[:len(p)/2], offset)
	if innerErr != nil {
		return n, innerErr
	}
	return n, err
}

func (w *sizedFile) Sync() error {
	if err := w.fs.before(Sync, w.path); err != nil {
		return err
	}
	return w.SizedFile.Sync()
}

func (w *file) Sync() error {
	if err := w.fs.before(Sync, w.path); err != nil {
		return err
	}
	return w.inner.Sync()
}

func (w *file) Close() error { return w.inner.Close() }

// Create implements vfs.FS.
func (f *FS) Create(path string) (vfs.File, error) {
	return f.open(Create, path, f.inner.Create)
}

// OpenAppend implements vfs.FS.
func (f *FS) OpenAppend(path string) (vfs.File, error) {
	return f.open(OpenAppend, path, f.inner.OpenAppend)
}

// CreateSized implements vfs.FS.
func (f *FS) CreateSized(path string, size int64, reserve bool) (vfs.SizedFile, error) {
	if err := f.before(Create, path); err != nil {
		return nil, err
	}
	inner, err := f.inner.CreateSized(path, size, reserve)
	if err != nil {
		return nil, err
	}
	return &sizedFile{SizedFile: inner, fs: f, path: path}, nil
}

func (f *FS) open(kind Kind, path string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if err := f.before(kind, path); err != nil {
		return nil, err
	}
	inner, err := open(path)
	if err != nil {
		return nil, err
	}
	return &file{fs: f, inner: inner, path: path}, nil
}

// Open implements vfs.FS.
func (f *FS) Open(path string) (vfs.Reader, error) {
	if err := f.before(Read, path); err != nil {
		return nil, err
	}
	inner, err := f.inner.Open(path)
	if err != nil {
		return nil, err
	}
	return &reader{Reader: inner, fs: f, path: path}, nil
}

// ReadFile implements vfs.FS.
func (f *FS) ReadFile(path string) ([]byte, error) {
	if err := f.before(Read, path); err != nil {
		return nil, err
	}
	return f.inner.ReadFile(path)
}

// Map implements vfs.FS.
func (f *FS) Map(path string) (vfs.Mapping, error) {
	if err := f.before(Read, path); err != nil {
		return nil, err
	}
	return f.inner.Map(path)
}

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(path string) ([]vfs.Entry, error) {
	if err := f.before(Read, path); err != nil {
		return nil, err
	}
	return f.inner.ReadDir(path)
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	if err := f.before(Rename, from); err != nil {
		return err
	}
	return f.inner.Rename(from, to)
}

// Link implements vfs.FS.
func (f *FS) Link(from, to string) error {
	if err := f.before(Link, from); err != nil {
		return err
	}
	return f.inner.Link(from, to)
}

// Remove implements vfs.FS.
func (f *FS) Remove(path string) error {
	if err := f.before(Remove, path); err != nil {
		return err
	}
	return f.inner.Remove(path)
}

// RemoveAll implements vfs.FS.
func (f *FS) RemoveAll(path string) error {
	if err := f.before(RemoveAll, path); err != nil {
		return err
	}
	return f.inner.RemoveAll(path)
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(path string) error {
	if err := f.before(MkdirAll, path); err != nil {
		return err
	}
	return f.inner.MkdirAll(path)
}

// Truncate implements vfs.FS.
func (f *FS) Truncate(path string, size int64) error {
	if err := f.before(Truncate, path); err != nil {
		return err
	}
	return f.inner.Truncate(path, size)
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(path string) error {
	if err := f.before(SyncDir, path); err != nil {
		return err
	}
	return f.inner.SyncDir(path)
}

// Lock implements vfs.FS.
func (f *FS) Lock(path string) (io.Closer, error) { return f.inner.Lock(path) }

// Space implements vfs.FS.
func (f *FS) Space(path string) (vfs.Space, error) { return f.inner.Space(path) }
