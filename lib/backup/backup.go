package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs"
)

// Request says what to back up, and where.
type Request struct {
	Options
	FS       vfs.FS // of Dir
	Dir      string // of the snapshot; empty: the backup in Origin is copied
	Snapshot string // its name
	Dst      Store
	Origin   Store     // which may have some of it already; nil for none
	Now      time.Time // when the snapshot was taken; the time of the call by default
}

// Backup makes Dst a backup of a snapshot. When it fails, Dst holds what it held before, and another run goes on where this one has ended.
func Backup(ctx context.Context, r *Request) (Stats, error) {
	r.setDefaults()
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	b := &backupRun{Request: r, limit: limiter{perSecond: r.MaxBytesPerSecond}, uploaded: r.Metrics.Counter("vm_backups_uploaded_bytes_total")}
	if err := b.plan(ctx); err != nil {
		return Stats{}, err
	}
	if err := b.send(ctx); err != nil {
		return b.stats(), fmt.Errorf("cannot back up %s to %s: %w; what was sent stays there, run the same command again to go on", b.source(), b.Dst, err)
	}
	if err := b.commit(ctx); err != nil {
		return b.stats(), err
	}
	err := b.clean(ctx)
	return b.stats(), err
}

type backupRun struct {
	*Request
	list     *List
	have     map[string]int64 // objects of Dst, with their sizes
	origin   map[string]int64 // objects of Origin
	limit    limiter
	uploaded *metrics.Counter
	progress progress

	sent, copied, deleted atomic.Int64
}

func (b *backupRun) stats() Stats {
	return Stats{Files: len(b.list.Files), Bytes: b.list.SizeBytes, Moved: b.sent.Load(), Copied: b.copied.Load(), Deleted: b.deleted.Load()}
}

func (b *backupRun) source() string {
	if b.Dir == "" {
		return b.Origin.String()
	}
	return fmt.Sprintf("%q", b.Dir)
}

// plan finds out what there is.
func (b *backupRun) plan(ctx context.Context) (err error) {
	if b.Dir != "" {
		files, err := storage.ListFiles(b.FS, b.Dir)
		if err != nil {
			return err
		}
		b.list = newList(files, b.Snapshot, b.Now, b.PieceBytes)
	} else if b.list, err = ReadList(ctx, b.Origin, false); err != nil {
		return err
	}
	if b.have, err = keys(ctx, b.Dst); err != nil {
		return err
	}
	if b.Origin != nil {
		if b.origin, err = keys(ctx, b.Origin); err != nil {
			return err
		}
	}
	b.Logger.Infof("the backup of %s has %d files with %d bytes; %d objects are at %s, %d at the origin", b.source(), len(b.list.Files), b.list.SizeBytes, len(b.have), b.Dst, len(b.origin))
	return nil
}

func keys(ctx context.Context, s Store) (map[string]int64, error) {
	m := map[string]int64{}
	if err := s.List(ctx, func(key string, size int64) { m[key] = size }); err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", s, err)
	}
	return m, nil
}

// send makes sure that Dst has all pieces. Those of the largest files go first, so that the last one to end is small.
func (b *backupRun) send(ctx context.Context) error {
	var files []*sending
	b.progress = progress{log: b.Logger, what: "uploaded", route: fmt.Sprintf("from %s to %s", b.source(), b.Dst)}
	for _, f := range b.list.Files {
		s := &sending{File: f, pieces: f.pieces(b.list.PieceBytes)}
		s.crcs = make([]uint32, len(s.pieces))
		for i, p := range s.pieces {
			if b.missing(p) {
				b.progress.total += p.size
				s.missing = append(s.missing, i)
			}
		}
		if len(s.missing) > 0 {
			s.whole.Store(b.Dir != "" && len(s.missing) == len(s.pieces))
			s.left.Store(int64(len(s.missing)))
			files = append(files, s)
		}
	}
	slices.SortStableFunc(files, func(x, y *sending) int { return cmp.Compare(y.Size, x.Size) })
	var jobs []job[*sending]
	for _, s := range files {
		for _, i := range s.missing {
			jobs = append(jobs, job[*sending]{file: s, piece: i})
		}
	}
	b.Logger.Infof("%d files with %d bytes are missing at %s", len(files), b.progress.total, b.Dst)
	return b.progress.watched(ctx, func() error { return each(ctx, b.Concurrency, jobs, b.sendJob) })
}

// sending is a file on its way.
type sending struct {
	File
	pieces  []piece
	missing []int    // which of them are sent
	crcs    []uint32 // of the pieces that were read from the disk
	left    atomic.Int64
	whole   atomic.Bool // all pieces are read from the disk
}

// job is one piece of a file.
type job[F any] struct {
	file  F
	piece int
}

func (b *backupRun) missing(p piece) bool {
	size, ok := b.have[p.key]
	return !ok || size != p.size
}

// sendJob sends a piece. Who sends the last one of a file looks whether they make up what the file should be.
func (b *backupRun) sendJob(ctx context.Context, j job[*sending]) error {
	f, p := j.file, j.file.pieces[j.piece]
	copied, err := b.copyPiece(ctx, p)
	if err != nil {
		return err
	}
	if copied {
		f.whole.Store(false)
	} else if f.crcs[j.piece], err = b.sendPiece(ctx, f.Path, p); err != nil {
		return err
	}
	if f.left.Add(-1) > 0 || !f.whole.Load() {
		return nil
	}
	if crc := combined(f.crcs, f.pieces); crc != f.CRC32C {
		return errors.Join(b.withdraw(ctx, &f.File), errkind.New(errkind.Corrupt, "%s has the checksum %08x, not %08x: it is damaged on the disk; see what the storage says of it, and docs/operations.md", f.Path, crc, f.CRC32C))
	}
	return nil
}

// combined returns the checksum of a file by those of its pieces.
func combined(crcs []uint32, pieces []piece) (crc uint32) {
	for i, p := range pieces {
		crc = codec.CombineChecksums(crc, crcs[i], p.size)
	}
	return crc
}

// withdraw deletes the pieces of a file which was found damaged when it had been sent.
func (b *backupRun) withdraw(ctx context.Context, f *File) (err error) {
	for _, p := range f.pieces(b.list.PieceBytes) {
		err = errors.Join(err, b.Dst.Delete(ctx, p.key))
	}
	return err
}

// copyPiece lets the server copy a piece from the origin, if that has it and the server can.
func (b *backupRun) copyPiece(ctx context.Context, p piece) (bool, error) {
	if size, ok := b.origin[p.key]; !ok || size != p.size {
		return false, nil
	}
	copied, err := b.Dst.CopyFrom(ctx, b.Origin, p.key, p.size)
	if err != nil {
		return false, fmt.Errorf("cannot copy %q from %s: %w", p.key, b.Origin, err)
	}
	if copied {
		b.copied.Add(p.size)
		b.progress.done.Add(p.size)
	}
	return copied, nil
}

// sendPiece sends a piece of a file on the disk and returns its checksum, or relays one of the origin if there is no disk.
func (b *backupRun) sendPiece(ctx context.Context, name string, p piece) (_ uint32, err error) {
	if b.Dir == "" {
		return 0, b.relay(ctx, p)
	}
	local, err := b.FS.Open(filepath.Join(b.Dir, filepath.FromSlash(name)))
	if err != nil {
		return 0, err
	}
	defer closing(&err, name, local)
	section := io.NewSectionReader(local, p.offset, p.size)
	body := &seekableMeter{meter: meter{ctx: ctx, r: section, limit: &b.limit, count: b.count}, section: section}
	if err := b.Dst.Put(ctx, p.key, body, p.size); err != nil {
		return 0, fmt.Errorf("cannot write %q: %w", p.key, err)
	}
	b.sent.Add(p.size)
	return body.crc, nil
}

func (b *backupRun) count(n int) {
	b.uploaded.Add(n)
	b.progress.done.Add(int64(n))
}

// commit writes the list, which makes the pieces a backup, and the mark.
func (b *backupRun) commit(ctx context.Context) error {
	data, err := b.list.marshal()
	if err != nil {
		return err
	}
	if err := putBytes(ctx, b.Dst, listKey, data); err != nil {
		return fmt.Errorf("cannot write the list of files to %s: %w", b.Dst, err)
	}
	mark := fmt.Sprintf(`{"created_at":%q,"completed_at":%q}`, b.list.CreatedAt.Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
	if err := putBytes(ctx, b.Dst, markKey, []byte(mark)); err != nil {
		return fmt.Errorf("cannot mark the backup at %s as whole: %w", b.Dst, err)
	}
	return nil
}

// clean deletes pieces of earlier backups.
func (b *backupRun) clean(ctx context.Context) error {
	wanted := map[string]bool{}
	for _, f := range b.list.Files {
		for _, p := range f.pieces(b.list.PieceBytes) {
			wanted[p.key] = true
		}
	}
	var old []string
	for key := range b.have {
		if isPiece(key) && !wanted[key] {
			old = append(old, key)
		}
	}
	err := each(ctx, b.Concurrency, old, func(ctx context.Context, key string) error {
		if err := b.Dst.Delete(ctx, key); err != nil {
			return fmt.Errorf("cannot delete %q: %w", key, err)
		}
		b.deleted.Add(b.have[key])
		return nil
	})
	if err != nil {
		return fmt.Errorf("the backup at %s is whole, but what it has no use for could not be deleted: %w", b.Dst, err)
	}
	return nil
}
