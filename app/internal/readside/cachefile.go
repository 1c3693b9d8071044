package readside

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/query"
	"vmcluster/lib/vfs"
)

const (
	cacheFileName = "result_cache.bin"
	// maxCacheFile bounds the time that a stop and a start take for it.
	maxCacheFile = 256 << 20
)

// cacheFile holds the result cache while the process does not run. It is there between a stop and the next start only, so that a
// cache which was reset does not come back, and a file that brings a process down does so once.
type cacheFile struct {
	fs       vfs.FS
	dir      string
	settings string // all that answers depend on besides the program, the stores and their samples
	stores   func() (number uint64, names []string)
	logger   *logger.Logger
}

// origin tells what results rest on. The program is what is running, whatever lies in its place by now.
func (f *cacheFile) origin() (o query.CacheOrigin, err error) {
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		var path string
		if path, err = os.Executable(); err == nil {
			program, err = os.Open(path)
		}
	}
	if err != nil {
		return o, fmt.Errorf("cannot read the program: %w", err)
	}
	hash := sha256.New()
	_, err = io.Copy(hash, program)
	if err = errors.Join(err, program.Close()); err != nil {
		return o, fmt.Errorf("cannot read the program: %w", err)
	}
	var names []string
	o.Stores, names = f.stores()
	_, _ = fmt.Fprintf(hash, "%q %q", f.settings, names) // a hash takes everything
	o.MaxBytes = maxCacheFile
	hash.Sum(o.Identity[:0])
	return o, nil
}

// load removes what the process before has left, and takes it up if it is wanted.
func (f *cacheFile) load(cache *query.Cache, wanted bool) {
	started, path := time.Now(), filepath.Join(f.dir, cacheFileName)
	file, err := f.fs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	n := 0
	if err == nil {
		if err = f.fs.Remove(path); err == nil && wanted {
			n, err = f.read(cache, file)
		}
		_ = file.Close() // it was only read
	}
	switch {
	case errkind.Of(err) == errkind.Unsupported:
		f.logger.Infof("the cached results in -cacheDataPath=%q are not used: %s", f.dir, err)
	case err != nil:
		f.logger.Warnf("cannot use the cached results in -cacheDataPath=%q, starting without any: %s", f.dir, err)
	default:
		f.logger.Infof("loaded %d cached results from -cacheDataPath=%q in %.3f seconds", n, f.dir, time.Since(started).Seconds())
	}
}

func (f *cacheFile) read(cache *query.Cache, in io.Reader) (int, error) {
	origin, err := f.origin()
	if err != nil {
		return 0, err
	}
	return cache.Load(bufio.NewReaderSize(in, 1<<20), origin)
}

// save leaves what is kept to the next process. If it cannot, that is no failure of this one.
func (f *cacheFile) save(cache *query.Cache) {
	path := filepath.Join(f.dir, cacheFileName)
	n, err := f.write(cache, path+".tmp")
	if err == nil {
		err = f.fs.Rename(path+".tmp", path)
	}
	if err == nil {
		err = f.fs.SyncDir(f.dir)
	}
	if err != nil {
		_ = f.fs.RemoveAll(path + ".tmp") // it may not be there
		f.logger.Warnf("cannot save cached results in -cacheDataPath=%q, the next start may be without: %s", f.dir, err)
		return
	}
	f.logger.Infof("saved %d cached results in -cacheDataPath=%q", n, f.dir)
}

func (f *cacheFile) write(cache *query.Cache, path string) (int, error) {
	origin, err := f.origin()
	if err == nil {
		err = vfs.MkdirAllDurable(f.fs, f.dir)
	}
	if err != nil {
		return 0, err
	}
	file, err := f.fs.Create(path)
	if err != nil {
		return 0, err
	}
	n, err := cache.Save(file, origin)
	if err == nil {
		err = file.Sync()
	}
	return n, errors.Join(err, file.Close())
}
