package fsstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/backup"
	"vmcluster/lib/errkind"
)

// Store is a directory.
type Store struct {
	root string
	mu   sync.RWMutex // held for writing while empty directories are removed
}

var _ backup.Store = (*Store)(nil)

// writing is the beginning of the names of files which are being written.
const writing = ".writing-"

// abandoned is the age at which such a file belongs to a process which was killed.
const abandoned = 24 * time.Hour

// New returns the store in a directory, which is created by the first Put.
func New(root string) (*Store, error) {
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("cannot use directory %q: want an absolute path, such as fs:///mnt/backups/node1", root)
	}
	return &Store{root: filepath.Clean(root)}, nil
}

// Root returns the directory.
func (s *Store) Root() string { return s.root }

// String implements backup.Store.
func (s *Store) String() string { return "fs://" + s.root }

func (s *Store) path(key string) string { return filepath.Join(s.root, filepath.FromSlash(key)) }

// List implements backup.Store.
func (s *Store) List(ctx context.Context, visit func(key string, size int64)) error {
	return filepath.WalkDir(s.root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil // there is nothing yet, or a file has been removed meanwhile
		case err != nil:
			return err
		case !e.Type().IsRegular():
			return nil
		}
		info, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case strings.HasPrefix(e.Name(), writing):
			if time.Since(info.ModTime()) > abandoned {
				return os.Remove(name)
			}
			return nil
		}
		key, err := filepath.Rel(s.root, name)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(key), info.Size())
		return nil
	})
}

// Put implements backup.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.write(key, func(f *os.File) error {
		n, err := io.Copy(f, body)
		if err == nil && n != size {
			err = errkind.New(errkind.Internal, "%d bytes came, not %d", n, size)
		}
		return err
	})
}

// write makes a file of what fill writes, durably.
func (s *Store) write(key string, fill func(f *os.File) error) (err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := s.path(key)
	if err := mkdirDurable(filepath.Dir(name)); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), writing)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

// mkdirDurable creates a directory and those above it.
func mkdirDurable(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := mkdirDurable(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements backup.Store.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errkind.New(errkind.NotFound, "there is no file %q", s.path(key))
	}
	return f, err
}

// Delete implements backup.Store.
func (s *Store) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.path(key)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(name); dir != s.root; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil { // something is in it
			break
		}
	}
	return nil
}

// CopyFrom implements backup.Store: within a file system by a second name for the file, which never changes.
func (s *Store) CopyFrom(_ context.Context, from backup.Store, key string, _ int64) (bool, error) {
	origin, ok := from.(*Store)
	if !ok {
		return false, nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	name := s.path(key)
	if err := mkdirDurable(filepath.Dir(name)); err != nil {
		return false, err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.Link(origin.path(key), name); err != nil {
		return false, nil //nolint:nilerr // another file system, or one without links: it is sent
	}
	return true, syncDir(filepath.Dir(name))
}
