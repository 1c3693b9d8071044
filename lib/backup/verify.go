package backup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs"
)

// Verification says which backup to verify, and where there is room for it.
type Verification struct {
	Options
	Src     Store
	FS      vfs.FS
	TempDir string // the backup is loaded to a directory in it, which is removed in the end
	Budget  *memory.Budget
}

// Verified tells what was found in a backup.
type Verified struct {
	Files  int
	Bytes  int64
	Parts  int
	Rows   int64
	Series int64 // a series of several months counts in each
}

// Verify restores a backup to a temporary directory, compares all files with the list and opens them as a storage. The remains of a run that was
// killed are removed by the next one with the same TempDir and source.
func Verify(ctx context.Context, v *Verification) (_ Verified, err error) {
	v.setDefaults()
	list, err := ReadList(ctx, v.Src, false)
	if err != nil {
		return Verified{}, err
	}
	if err := vfs.MkdirAllDurable(v.FS, v.TempDir); err != nil {
		return Verified{}, err
	}
	if err := v.room(list.SizeBytes); err != nil {
		return Verified{}, err
	}
	dir := filepath.Join(v.TempDir, fmt.Sprintf("verify-%08x", codec.Checksum([]byte(v.Src.String()))))
	lock, err := v.FS.Lock(dir + ".lock")
	if err != nil {
		return Verified{}, fmt.Errorf("cannot verify %s twice at the same time: %w", v.Src, err)
	}
	defer func() { err = errors.Join(err, v.FS.RemoveAll(dir), v.FS.Remove(dir+".lock"), lock.Close()) }()
	if err := v.FS.RemoveAll(dir); err != nil {
		return Verified{}, err
	}
	if _, err := Restore(ctx, &Recovery{Options: v.Options, Src: v.Src, FS: v.FS, DataPath: dir, SkipPreallocation: true}); err != nil {
		return Verified{}, err
	}
	contents, err := v.check(dir, list)
	if err != nil {
		return Verified{}, fmt.Errorf("cannot rely on the backup at %s: %w", v.Src, err)
	}
	return Verified{Files: len(list.Files), Bytes: list.SizeBytes, Parts: contents.Parts, Rows: contents.Rows, Series: contents.Series}, nil
}

// room refuses to fill a disk which others may need.
func (v *Verification) room(need int64) error {
	space, err := v.FS.Space(v.TempDir)
	if err != nil {
		return err
	}
	need += need/20 + 64<<20 // directories, and what opening writes
	if space.Free < need {
		return errkind.New(errkind.Unavailable, "cannot verify %s in %q: %d bytes are free there, it takes %d; name a directory with more room", v.Src, v.TempDir, space.Free, need)
	}
	return nil
}

// check compares what was restored with the list and opens it.
func (v *Verification) check(dir string, list *List) (storage.Contents, error) {
	files, err := storage.ListFiles(v.FS, dir)
	if err != nil {
		return storage.Contents{}, err
	}
	same := slices.EqualFunc(files, list.Files, func(a storage.FileInfo, b File) bool { return File(a) == b })
	if !same {
		return storage.Contents{}, errkind.New(errkind.Corrupt, "its list names other files than are in it")
	}
	cfg := storage.DefaultConfig(dir)
	if err := cfg.RetentionPeriod.Set("1000y"); err != nil {
		return storage.Contents{}, err
	}
	return storage.Check(cfg, storage.Options{FS: v.FS, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: v.Budget})
}
