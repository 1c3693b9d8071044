package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"vmcluster/lib/errkind"
)

// FS is a file system. Paths are those of the operating system; see the
// package comment for durability, errors and concurrency.
type FS interface {
	// Create opens a new file for writing, or empties an existing one. Its directory must exist.
	Create(path string) (File, error)
	// CreateSized opens a new file of size zeros for writing anywhere, or replaces the contents of an existing one by them. With reserve
	// the disk space is taken now, where the file system can.
	CreateSized(path string, size int64, reserve bool) (SizedFile, error)
	// OpenAppend opens a file for writing at its end and creates it when missing.
	OpenAppend(path string) (File, error)
	// Open opens a file for reading from its start.
	Open(path string) (Reader, error)
	// ReadFile returns the contents of a file.
	ReadFile(path string) ([]byte, error)
	// Map maps a file for reading; an empty file has empty bytes.
	Map(path string) (Mapping, error)
	// Rename gives a file or directory another name. An existing file or empty directory of that name is replaced.
	Rename(from, to string) error
	// Link gives a file a second name, which must not exist yet.
	Link(from, to string) error
	// Remove deletes a file or an empty directory.
	Remove(path string) error
	// RemoveAll deletes a file or a directory with everything in it; a missing path is not an error.
	RemoveAll(path string) error
	// MkdirAll creates a directory and the missing ones above it.
	MkdirAll(path string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(path string) ([]Entry, error)
	// Truncate cuts or extends (with zeros) a file to size bytes. Sync the file to make it durable.
	Truncate(path string, size int64) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
	// Lock takes the lock file at path, created when missing, until the closer
	// is closed or the process ends. When another process (or
	// another user in this one) holds it, the error is of kind Unavailable.
	Lock(path string) (io.Closer, error)
	// Space returns the size of the file system which holds path.
	Space(path string) (Space, error)
}

// File is a file being written, always at its end.
type File interface {
	io.Writer
	// Sync makes what was written durable. The name of a new file needs SyncDir as well.
	Sync() error
	// Close closes the file without making anything durable.
	Close() error
}

// SizedFile is a file being written anywhere, by several goroutines if they like. What was not written is zeros.
type SizedFile interface {
	io.WriterAt
	// Sync makes what was written durable, as that of File.
	Sync() error
	// Close closes the file without making anything durable.
	Close() error
}

// Reader is a file being read, in order or anywhere.
type Reader interface {
	io.Reader
	io.ReaderAt
	io.Closer
}

// Mapping is a file mapped into memory for reading.
type Mapping interface {
	// Bytes returns the contents, valid until Close. They must not be written to.
	Bytes() []byte
	Close() error
}

// Entry is one name in a directory.
type Entry struct {
	Name  string
	IsDir bool
	Size  int64 // bytes; 0 for directories
}

// Space tells how full a file system is, in bytes.
type Space struct {
	Free  int64 // what this process may still write
	Total int64
}

// MkdirAllDurable creates a directory and the missing ones above it, and makes their names
// durable. So it does with the name of one that exists: a process which was killed may have created it just before.
func MkdirAllDurable(fsys FS, path string) error {
	path = filepath.Clean(path)
	_, err := fsys.ReadDir(path)
	parent := filepath.Dir(path)
	if err == nil {
		if err = fsys.SyncDir(parent); errors.Is(err, fs.ErrPermission) {
			return nil // a parent that is not ours: somebody else has made the directory
		}
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) || parent == path {
		return err
	}
	if err := MkdirAllDurable(fsys, parent); err != nil {
		return err
	}
	if err := fsys.MkdirAll(path); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

// WriteFileDurable replaces the contents of a file, or creates it: after a crash
// the file holds either the old or the new contents, and the new ones when
// WriteFileDurable has returned nil. It uses the name path + ".tmp" meanwhile.
func WriteFileDurable(fsys FS, path string, data []byte) error {
	tmp := path + ".tmp"
	if err := writeSynced(fsys, tmp, data); err != nil {
		return errors.Join(err, fsys.RemoveAll(tmp))
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return errors.Join(err, fsys.RemoveAll(tmp))
	}
	return fsys.SyncDir(filepath.Dir(path))
}

func writeSynced(fsys FS, path string, data []byte) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot close file %q: %w", path, err)
	}
	return nil
}

// LockedError returns the error of an FS whose lock file at path is taken.
func LockedError(path string) error {
	return errkind.New(errkind.Unavailable,
		"cannot lock %q: another process uses the directory %q; stop it, or choose another directory", path, filepath.Dir(path))
}
