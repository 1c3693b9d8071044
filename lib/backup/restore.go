package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs"
)

// Recovery says what to restore, and where.
type Recovery struct {
	Options
	Src               Store
	FS                vfs.FS
	DataPath          string   // of a storage which is not running
	SkipCompleteCheck bool     // also without the mark that the backup is whole
	SkipPreallocation bool     // take disk space for a file as it comes, rather than at its beginning
	Keep              []string // names of files in DataPath, besides those of the backup, which stay
}

// loading is the end of the names of files which are being loaded.
const loading = ".loading"

// Restore makes the data directory what it was when the snapshot was taken. Files which do not belong to it are removed. When it fails,
// no storage can be opened there until another run has ended.
func Restore(ctx context.Context, r *Recovery) (_ Stats, err error) {
	r.setDefaults()
	run := &restoreRun{Recovery: r, limit: limiter{perSecond: r.MaxBytesPerSecond}, downloaded: r.Metrics.Counter("vm_backups_downloaded_bytes_total")}
	if run.list, err = ReadList(ctx, r.Src, r.SkipCompleteCheck); err != nil {
		return Stats{}, err
	}
	if err := vfs.MkdirAllDurable(r.FS, r.DataPath); err != nil {
		return Stats{}, err
	}
	lock, err := r.FS.Lock(filepath.Join(r.DataPath, storage.LockName))
	if err != nil {
		return Stats{}, fmt.Errorf("cannot restore to %q while a process uses it, stop that first: %w", r.DataPath, err)
	}
	defer closing(&err, storage.LockName, lock)
	if err := run.restore(ctx); err != nil {
		return run.stats(), fmt.Errorf("cannot restore %s to %q: %w; run the same command again to go on", r.Src, r.DataPath, err)
	}
	return run.stats(), nil
}

type restoreRun struct {
	*Recovery
	list       *List
	limit      limiter
	downloaded *metrics.Counter
	progress   progress

	loaded, deleted atomic.Int64
}

func (r *restoreRun) stats() Stats {
	return Stats{Files: len(r.list.Files), Bytes: r.list.SizeBytes, Moved: r.loaded.Load(), Deleted: r.deleted.Load()}
}

func (r *restoreRun) restore(ctx context.Context) error {
	mark := filepath.Join(r.DataPath, storage.RestoreMark)
	if err := vfs.WriteFileDurable(r.FS, mark, []byte(r.Src.String()+"\n")); err != nil {
		return err
	}
	kept, err := r.keep(ctx)
	if err != nil {
		return err
	}
	if err := r.remove("", kept); err != nil {
		return err
	}
	if err := r.load(ctx, kept); err != nil {
		return err
	}
	if err := r.FS.Remove(mark); err != nil {
		return err
	}
	return r.FS.SyncDir(r.DataPath)
}

// keep returns which files are there already: those of the same identity whose bytes are what they should be.
func (r *restoreRun) keep(ctx context.Context) (map[string]bool, error) {
	kept := map[string]bool{}
	there, err := storage.ListFiles(r.FS, r.DataPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.Logger.Warnf("nothing of what is there is kept, since not all of it can be read: %s", err)
	}
	identities := make(map[string]string, len(there))
	for _, f := range there {
		identities[f.Path] = f.Identity
	}
	for _, f := range r.list.Files {
		if identities[f.Path] != f.Identity {
			continue
		}
		same, err := r.intact(ctx, &f)
		if err != nil {
			return nil, err
		}
		if same {
			kept[f.Path] = true
		}
	}
	r.Logger.Infof("%d of %d files are there already", len(kept), len(r.list.Files))
	return kept, nil
}

// intact reports whether a file has the checksum it should have.
func (r *restoreRun) intact(ctx context.Context, f *File) (same bool, err error) {
	file, err := r.FS.Open(r.place(f.Path))
	if err != nil {
		return false, nil //nolint:nilerr // what cannot be read is loaded
	}
	defer closing(&err, f.Path, file)
	crc, buf := uint32(0), make([]byte, maxRead)
	for {
		n, err := file.Read(buf)
		crc = codec.UpdateChecksum(crc, buf[:n])
		if err != nil {
			return errors.Is(err, io.EOF) && crc == f.CRC32C, ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

func (r *restoreRun) place(name string) string {
	return filepath.Join(r.DataPath, filepath.FromSlash(name))
}

// remove deletes what is not kept below a directory, and directories in which nothing is to be.
func (r *restoreRun) remove(dir string, kept map[string]bool) error {
	entries, err := r.FS.ReadDir(r.place(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch {
		case dir == "" && (e.Name == storage.LockName || e.Name == storage.RestoreMark || slices.Contains(r.Keep, e.Name)), kept[name]:
			continue
		case e.IsDir && r.hasFilesBelow(name):
			err = r.remove(name, kept)
		default:
			r.deleted.Add(e.Size)
			r.Logger.Infof("removing %q, which is not in the backup or not as it should be", r.place(name))
			err = r.FS.RemoveAll(r.place(name))
		}
		if err != nil {
			return err
		}
	}
	return r.FS.SyncDir(r.place(dir))
}

// hasFilesBelow reports whether the backup has files below a directory.
func (r *restoreRun) hasFilesBelow(dir string) bool {
	i, _ := slices.BinarySearchFunc(r.list.Files, dir+"/", func(f File, dir string) int { return strings.Compare(f.Path, dir) })
	return i < len(r.list.Files) && strings.HasPrefix(r.list.Files[i].Path, dir+"/")
}

// load loads the files which are not kept, the largest first.
func (r *restoreRun) load(ctx context.Context, kept map[string]bool) error {
	var missing []File
	dirs := map[string]bool{"data": true}
	r.progress = progress{log: r.Logger, what: "downloaded", route: fmt.Sprintf("from %s to %q", r.Src, r.DataPath)}
	for _, f := range r.list.Files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
		if !kept[f.Path] {
			r.progress.total += f.Size
			missing = append(missing, f)
		}
	}
	for dir := range dirs {
		if err := r.FS.MkdirAll(r.place(dir)); err != nil {
			return err
		}
	}
	// Small files come first, since among them are those without which a run that goes on later cannot tell what the others are.
	slices.SortStableFunc(missing, func(x, y File) int {
		return cmp.Or(boolCompare(x.Size > maxRead, y.Size > maxRead), cmp.Compare(y.Size, x.Size))
	})
	if err := r.loadFiles(ctx, missing); err != nil {
		return err
	}
	for dir := range dirs {
		if err := r.FS.SyncDir(r.place(dir)); err != nil {
			return err
		}
	}
	return r.FS.SyncDir(r.DataPath)
}

func boolCompare(x, y bool) int {
	if x == y {
		return 0
	}
	if y {
		return -1
	}
	return 1
}

// loadFiles loads the pieces of files in the order of the files, so that few are open at once.
func (r *restoreRun) loadFiles(ctx context.Context, files []File) (err error) {
	var jobs []job[*loaded]
	for _, f := range files {
		l := &loaded{File: f, pieces: f.pieces(r.list.PieceBytes)}
		l.crcs = make([]uint32, len(l.pieces))
		l.left.Store(int64(len(l.pieces)))
		for i := range l.pieces {
			jobs = append(jobs, job[*loaded]{file: l, piece: i})
		}
	}
	err = r.progress.watched(ctx, func() error { return each(ctx, r.Concurrency, jobs, r.loadJob) })
	for _, j := range jobs {
		if l := j.file; l.open && j.piece == 0 { // another one has failed
			closing(&err, l.Path, l.to)
		}
	}
	return err
}

// loaded is a file which is being loaded beside its place.
type loaded struct {
	File
	pieces []piece
	crcs   []uint32 // of the pieces
	left   atomic.Int64
	mu     sync.Mutex // held while it is opened
	to     vfs.SizedFile
	open   bool
}

// loadJob loads a piece. Who loads the last one of a file moves it to its place, when its bytes are right and on the disk.
func (r *restoreRun) loadJob(ctx context.Context, j job[*loaded]) (err error) {
	l := j.file
	if err := r.create(l); err != nil {
		return err
	}
	if err := r.loadPiece(ctx, l, j.piece); err != nil {
		return err
	}
	if l.left.Add(-1) > 0 {
		return nil
	}
	for i := 1; combined(l.crcs, l.pieces) != l.CRC32C; i++ {
		err := errkind.New(errkind.Corrupt, "%s has the checksum %08x in the backup, not %08x: the backup is damaged, restore another one", l.Path, combined(l.crcs, l.pieces), l.CRC32C)
		if i == attempts {
			return err
		}
		r.Logger.Warnf("%s; trying again", err)
		for p := range l.pieces {
			if err := r.loadPiece(ctx, l, p); err != nil {
				return err
			}
		}
	}
	if err := l.to.Sync(); err != nil {
		return err
	}
	l.open = false
	if err := l.to.Close(); err != nil {
		return fmt.Errorf("cannot close %s: %w", l.Path, err)
	}
	return r.FS.Rename(r.place(l.Path)+loading, r.place(l.Path))
}

// create opens the file for the first of its pieces.
func (r *restoreRun) create(l *loaded) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		l.to, err = r.FS.CreateSized(r.place(l.Path)+loading, l.Size, !r.SkipPreallocation)
		l.open = err == nil
	}
	return err
}

// attempts is how often a piece is tried to be loaded: connections break in hours of loading.
const attempts = 3

func (r *restoreRun) loadPiece(ctx context.Context, l *loaded, i int) (err error) {
	for try := range attempts {
		if try > 0 {
			r.Logger.Warnf("%s; trying again", err)
		}
		if l.crcs[i], err = r.tryPiece(ctx, l.to, l.pieces[i]); err == nil {
			return nil
		}
		err = fmt.Errorf("cannot load %q: %w", l.pieces[i].key, err)
		if ctx.Err() != nil || errkind.Of(err) == errkind.NotFound {
			return err
		}
	}
	return err
}

// tryPiece writes a piece to its place in the file and returns its checksum.
func (r *restoreRun) tryPiece(ctx context.Context, to io.WriterAt, p piece) (_ uint32, err error) {
	object, err := r.Src.Get(ctx, p.key)
	if err != nil {
		return 0, err
	}
	defer closing(&err, p.key, object)
	body := &meter{ctx: ctx, r: io.LimitReader(object, p.size), limit: &r.limit, count: func(n int) {
		r.downloaded.Add(n)
		r.progress.done.Add(int64(n))
	}}
	n, err := io.Copy(io.NewOffsetWriter(to, p.offset), body)
	if err == nil && n != p.size {
		err = errkind.New(errkind.Corrupt, "it has %d bytes, not %d", n, p.size)
	}
	r.loaded.Add(n)
	return body.crc, err
}
