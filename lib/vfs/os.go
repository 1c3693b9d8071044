//go:build unix

package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"vmcluster/lib/errkind"
)

const (
	filePerm = 0o644
	dirPerm  = 0o755
)

// OS returns the file system of the operating system.
func OS() FS { return osFS{} }

type osFS struct{}

var _ FS = osFS{}

type osFile struct{ f *os.File }

func (f *osFile) Write(p []byte) (int, error)                 { return f.f.Write(p) }
func (f *osFile) WriteAt(p []byte, offset int64) (int, error) { return f.f.WriteAt(p, offset) }
func (f *osFile) Sync() error                                 { return wrap("sync file", f.f.Name(), syncData(f.f)) }
func (f *osFile) Close() error                                { return f.f.Close() }

func (osFS) Create(path string) (File, error) {
	return asFile(openFile("create file", path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC))
}

func (osFS) OpenAppend(path string) (File, error) {
	return asFile(openFile("open file for appending", path, os.O_WRONLY|os.O_CREATE|os.O_APPEND))
}

func asFile(f *osFile, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) CreateSized(path string, size int64, reserve bool) (SizedFile, error) {
	f, err := openFile("create file", path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	if err = f.f.Truncate(size); err == nil && reserve && size > 0 {
		err = reserveSpace(f.f, size)
	}
	if err != nil {
		return nil, errors.Join(wrap("reserve space for file", path, err), f.Close())
	}
	return f, nil
}

func openFile(what, path string, flags int) (*osFile, error) {
	f, err := os.OpenFile(path, flags, filePerm)
	if err != nil {
		return nil, wrap(what, path, err)
	}
	return &osFile{f: f}, nil
}

func (osFS) Open(path string) (Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, wrap("open file", path, err)
	}
	return f, nil
}

func (osFS) ReadFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	return data, wrap("read file", path, err)
}

func (osFS) Rename(from, to string) error {
	return wrap("rename", from, os.Rename(from, to)) // the cause names both
}

func (osFS) Link(from, to string) error {
	return wrap("link", from, os.Link(from, to)) // the cause names both
}

func (osFS) Remove(path string) error    { return wrap("remove", path, os.Remove(path)) }
func (osFS) RemoveAll(path string) error { return wrap("remove", path, os.RemoveAll(path)) }
func (osFS) MkdirAll(path string) error {
	return wrap("create directory", path, os.MkdirAll(path, dirPerm))
}
func (osFS) Truncate(path string, size int64) error {
	return wrap("truncate file", path, os.Truncate(path, size))
}

func (osFS) ReadDir(path string) ([]Entry, error) {
	list, err := os.ReadDir(path)
	if err != nil {
		return nil, wrap("list directory", path, err)
	}
	entries := make([]Entry, 0, len(list))
	for _, d := range list {
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, wrap("list directory", path, err)
		}
		e := Entry{Name: d.Name(), IsDir: d.IsDir()}
		if !e.IsDir {
			e.Size = info.Size()
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return wrap("sync directory", path, err)
	}
	err = d.Sync()
	return wrap("sync directory", path, errors.Join(err, d.Close()))
}

func (osFS) Space(path string) (Space, error) {
	var st unix.Statfs_t
	err := retry(func() error { return unix.Statfs(path, &st) })
	if err != nil {
		return Space{}, wrap("read free space of", path, err)
	}
	size := uint64(st.Bsize)
	return Space{Free: int64(st.Bavail * size), Total: int64(st.Blocks * size)}, nil
}

func (osFS) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, wrap("open lock file", path, err)
	}
	err = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		return f, nil // closing the descriptor gives the lock back
	}
	err = errors.Join(err, f.Close())
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, LockedError(path)
	}
	return nil, wrap("lock file", path, err)
}

// mapping is a file mapped by the operating system.
type mapping struct{ data []byte }

func (m *mapping) Bytes() []byte { return m.data }

func (m *mapping) Close() error {
	data := m.data
	m.data = nil
	if len(data) == 0 {
		return nil
	}
	return unix.Munmap(data)
}

func (osFS) Map(path string) (Mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, wrap("map file", path, err)
	}
	defer f.Close() // only read; the mapping outlives the descriptor
	info, err := f.Stat()
	if err != nil {
		return nil, wrap("map file", path, err)
	}
	size := info.Size()
	if size == 0 { // the system refuses empty mappings
		return &mapping{}, nil
	}
	if size != int64(int(size)) {
		return nil, errkind.New(errkind.TooLarge, "cannot map file %q: %d bytes do not fit the address space", path, size)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, wrap("map file", path, err)
	}
	return &mapping{data: data}, nil
}

// retry repeats a call which a signal has interrupted.
func retry(call func() error) error {
	for {
		err := call()
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func wrap(what, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot %s %q: %w", what, path, err)
}
