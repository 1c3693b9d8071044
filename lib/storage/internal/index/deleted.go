package index

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

const (
	deletedMagic  = "vmcldel" // followed by the version byte
	deletedPrefix = "deleted-"
	copySuffix    = ".copy"
)

// Delete hides the series with the given ids for ever, durably when it returns nil. A search that starts afterwards finds
// none of them, and Add gives a series which comes back another id. Their rows go with the next merges; their
// ids stay in Deleted, so that merges of parts can drop the samples. Ids which are not known are taken as well.
// After an error nothing is hidden, though after a crash it may be. The ids are not kept.
func (ix *Index) Delete(ids *roaring.Bitmap) error {
	ix.commitMu.Lock()
	defer ix.commitMu.Unlock()
	st := ix.acquire()
	defer ix.release(st)
	all := roaring.Or(ids, st.deleted)
	if all.GetCardinality() == st.deleted.GetCardinality() {
		return nil
	}
	ix.Reserve(endOf(all))
	name := fmt.Sprintf("%s%016x", deletedPrefix, ix.nextSeq.Add(1)-1)
	err := ix.writeDeleted(name, all)
	if err == nil {
		next := st.with(st.head, st.frozen, st.segments)
		next.deleted, next.deletedName = all, name
		err = ix.publishLocked(next)
	}
	if err != nil {
		ix.orphanDeletedLocked(name)
		return fmt.Errorf("cannot delete %d series of index %q: %w", ids.GetCardinality(), ix.o.Dir, err)
	}
	ix.orphanDeletedLocked(st.deletedName)
	ix.removeOrphansLocked()
	return nil
}

// Deleted returns the ids of all series that were ever deleted, nil when there are none. Nobody may change it. An id in
// it never comes back, so samples under it can be dropped wherever they are found.
func (ix *Index) Deleted() *roaring.Bitmap {
	st := ix.acquire()
	defer ix.release(st)
	if st.deleted.IsEmpty() {
		return nil
	}
	return st.deleted
}

func (ix *Index) orphanDeletedLocked(name string) {
	if name != "" {
		path := filepath.Join(ix.o.Dir, name)
		ix.orphans = append(ix.orphans, path, path+copySuffix)
	}
}

// writeDeleted writes both copies of the file of deleted series. One alone would do, but when it is lost deleted series come back.
func (ix *Index) writeDeleted(name string, ids *roaring.Bitmap) error {
	data, err := appendDeleted(nil, ids)
	if err != nil {
		return err
	}
	path := filepath.Join(ix.o.Dir, name)
	if err := vfs.WriteFileDurable(ix.o.FS, path, data); err != nil {
		return err
	}
	ix.deletedSize.Store(2 * int64(len(data)))
	return vfs.WriteFileDurable(ix.o.FS, path+copySuffix, data)
}

// appendDeleted appends the file of deleted series. It may reorganise ids.
func appendDeleted(dst []byte, ids *roaring.Bitmap) ([]byte, error) {
	start := len(dst)
	dst = append(dst, deletedMagic...)
	dst = append(dst, formatVersion)
	return sealBitmap(dst, start, ids)
}

func decodeDeleted(data []byte, path string) (*roaring.Bitmap, error) {
	_, ids, err := openBitmap(data, path, deletedMagic, 0)
	return ids, err
}

// isDeletedName reports whether name is that of a file of deleted series, or of its copy.
func isDeletedName(name string) bool {
	return strings.HasPrefix(name, deletedPrefix) && !strings.HasSuffix(name, tempSuffix) && !strings.HasSuffix(name, corruptSuffix)
}

// loadDeleted reads the deleted series that the manifest names. A damaged copy is set aside and replaced. When both
// are, the series which were deleted and did not come back are visible again.
func (ix *Index) loadDeleted(m *manifest, st *state) error {
	if m.deleted == "" {
		return nil
	}
	var bad []string
	var causes []error
	for _, name := range [2]string{m.deleted, m.deleted + copySuffix} {
		ids, err := ix.readDeleted(name)
		switch {
		case err == nil:
			st.deleted = ids
		case isDamage(err):
			bad, causes = append(bad, name), append(causes, err)
		default:
			return err
		}
	}
	st.deletedName = m.deleted
	if len(bad) == 0 {
		return nil
	}
	lost := "the other copy is used, which loses nothing"
	if len(bad) == 2 {
		lost = "so is its copy: series which were deleted are visible again, unless they have been written to since; delete them again"
		var err error
		if st.deleted, err = st.superseded(); err != nil {
			return err
		}
	}
	for i, name := range bad {
		ix.corruptFiles.Inc()
		path := filepath.Join(ix.o.Dir, name)
		ix.o.Logger.Errorf("index file %q is set aside as %q; %s: %s", path, path+corruptSuffix, lost, causes[i])
		if err := ix.setAside(name); err != nil {
			return err
		}
	}
	return ix.writeDeleted(m.deleted, st.deleted)
}

func (ix *Index) readDeleted(name string) (*roaring.Bitmap, error) {
	path := filepath.Join(ix.o.Dir, name)
	data, err := ix.o.FS.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ix.deletedSize.Store(2 * int64(len(data)))
	return decodeDeleted(data, path)
}

// superseded returns the ids whose key has a later id too: a key only gets another id when the series was deleted.
func (st *state) superseded() (*roaring.Bitmap, error) {
	known, err := st.known()
	if err != nil {
		return nil, err
	}
	old := roaring.New()
	latest := make(map[string]uint32, known.GetCardinality())
	r := keyReader{st: st, ids: known}
	for it := known.Iterator(); it.HasNext(); {
		id := it.Next()
		key, err := r.key(id)
		if err != nil {
			return nil, err
		}
		if earlier, ok := latest[string(key)]; ok {
			old.Add(earlier)
		}
		latest[string(key)] = id
	}
	return old, nil
}

// Snapshot links the files of the index as the last flush left it into a fresh directory, which can be
// opened as an index. It is durable when Snapshot returns nil; after an error the directory is removed.
func (ix *Index) Snapshot(dir string) error {
	if err := vfs.MkdirAllDurable(ix.o.FS, dir); err != nil {
		return err
	}
	if entries, err := ix.o.FS.ReadDir(dir); err != nil || len(entries) > 0 {
		return errors.Join(err, fmt.Errorf("cannot snapshot index %q to %q: the directory must be empty", ix.o.Dir, dir))
	}
	ix.flushMu.Lock() // no day file changes
	defer ix.flushMu.Unlock()
	ix.commitMu.Lock() // no segment comes or goes
	defer ix.commitMu.Unlock()
	st := ix.acquire()
	defer ix.release(st)
	if err := ix.linkAll(st, dir); err != nil {
		return errors.Join(fmt.Errorf("cannot snapshot index %q: %w", ix.o.Dir, err), ix.o.FS.RemoveAll(dir))
	}
	return nil
}

func (ix *Index) linkAll(st *state, dir string) error {
	m := st.manifest(ix.nextSeq.Load(), ix.days.files())
	names := append([]string(nil), m.segments...)
	if m.deleted != "" {
		names = append(names, m.deleted, m.deleted+copySuffix)
	}
	entries, err := ix.o.FS.ReadDir(ix.o.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isDayName(e.Name) { // those too which are not listed yet
			names = append(names, e.Name)
		}
	}
	for _, name := range names {
		if err := ix.o.FS.Link(filepath.Join(ix.o.Dir, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return vfs.WriteFileDurable(ix.o.FS, filepath.Join(dir, manifestName), m.appendTo(nil))
}

// isDeleted reports whether a series is deleted.
func (st *state) isDeleted(id uint32) bool { return st.deleted.Contains(id) }

// hide removes deleted series from ids.
func (st *state) hide(ids *roaring.Bitmap) {
	if !st.deleted.IsEmpty() {
		ids.AndNot(st.deleted)
	}
}

// visible returns the tenants which have a series that is not deleted.
func (st *state) visible(tenants []model.TenantID) ([]model.TenantID, error) {
	if st.deleted.IsEmpty() {
		return tenants, nil
	}
	left := tenants[:0]
	for _, t := range tenants {
		sources, err := st.sources(t)
		if err != nil {
			return nil, err
		}
		var all idSet
		for _, src := range sources {
			if err := src.addAll(&all); err != nil {
				return nil, err
			}
		}
		ids := all.take()
		if st.hide(ids); !ids.IsEmpty() {
			left = append(left, t)
		}
	}
	return left, nil
}
