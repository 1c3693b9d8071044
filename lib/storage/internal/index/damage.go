package index

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

// corruptSuffix marks damaged files, which are kept for the operator.
const corruptSuffix = ".corrupt"

// isDamage reports whether an error says that a file is damaged or gone. Other errors, such as
// too many open files or a later format version, say nothing about the data.
func isDamage(err error) bool {
	return errkind.Of(err) == errkind.Corrupt || errors.Is(err, fs.ErrNotExist)
}

// isSegmentName reports whether name is that of a finished segment.
func isSegmentName(name string) bool {
	return strings.HasPrefix(name, segmentPrefix) && !strings.HasSuffix(name, tempSuffix) && !strings.HasSuffix(name, corruptSuffix)
}

// manifestFromFiles returns a manifest which lists every segment on disk. Those that a lost
// manifest did not list, left by an interrupted flush or merge, repeat or complete what the others tell.
func manifestFromFiles(entries []vfs.Entry) manifest {
	var m manifest
	for _, e := range entries {
		if isSegmentName(e.Name) {
			m.segments = append(m.segments, e.Name)
		}
		if isDeletedName(e.Name) { // the last one has all; numbers of equal length sort like text
			m.deleted = max(m.deleted, strings.TrimSuffix(e.Name, copySuffix))
		}
		if day, ok := parseDayName(e.Name); ok {
			m.days = append(m.days, day)
		}
		if seq, ok := sequenceOf(e.Name); ok {
			m.nextSeq = max(m.nextSeq, seq+1)
		}
	}
	slices.Sort(m.days)
	return m
}

// sequenceOf returns the number in the name of a file, which may be set aside.
func sequenceOf(name string) (uint64, bool) {
	name = strings.TrimSuffix(strings.TrimSuffix(name, corruptSuffix), copySuffix)
	for _, prefix := range [2]string{segmentPrefix, deletedPrefix} {
		if number, ok := strings.CutPrefix(name, prefix); ok {
			seq, err := strconv.ParseUint(number, 16, 64)
			return seq, err == nil
		}
	}
	return 0, false
}

// setAside gives a damaged file another name, if it is still there.
func (ix *Index) setAside(name string) error {
	path := filepath.Join(ix.o.Dir, name)
	err := ix.o.FS.Rename(path, path+corruptSuffix)
	if errors.Is(err, fs.ErrNotExist) && isSegmentName(name) {
		return vfs.WriteFileDurable(ix.o.FS, path+corruptSuffix, nil) // so that the next open knows of the loss as well
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return ix.o.FS.SyncDir(ix.o.Dir)
}

func (ix *Index) openSegment(path string) (*segment, error) {
	s, err := openSegment(ix.o.FS, path, ix.dec)
	if err == nil {
		s.matches, s.rows = ix.matches, ix.rows
	}
	return s, err
}

// openSegments opens the listed segments. Damaged ones are set aside and taken off the manifest. Their files get
// another name first: a file which is not listed would be deleted by the next open.
func (ix *Index) openSegments(m *manifest, changed bool) (*state, error) {
	st := &state{head: newHead(), deleted: roaring.New()}
	left := manifest{nextSeq: m.nextSeq, deleted: m.deleted, days: m.days}
	for _, name := range m.segments {
		path := filepath.Join(ix.o.Dir, name)
		s, err := ix.openSegment(path)
		if err != nil && isDamage(err) {
			ix.corruptFiles.Inc()
			ix.o.Logger.Errorf("index segment %q is set aside as %q: its series cannot be found any more, and their samples are kept but not served; "+
				"to get them back restore the whole directory of this month from a backup: %s", path, path+corruptSuffix, err)
			changed = true
			if err = ix.setAside(name); err == nil {
				continue
			}
		}
		if err != nil {
			ix.releaseSegments(st.segments)
			return nil, err
		}
		st.segments = append(st.segments, s)
		left.segments = append(left.segments, name)
		ix.reg.nextID = max(ix.reg.nextID, uint64(s.footer.lastID)+1)
	}
	data := left.appendTo(nil)
	ix.manifestSize.Store(int64(len(data)))
	if changed {
		if err := vfs.WriteFileDurable(ix.o.FS, filepath.Join(ix.o.Dir, manifestName), data); err != nil {
			ix.releaseSegments(st.segments)
			return nil, err
		}
	}
	return st, nil
}

// rebuildDays replaces damaged and missing files of active days: every series counts as active on them. That costs searches of
// these days some time, and no answer lacks anything. The damaged files are kept under another name.
func (ix *Index) rebuildDays(st *state, damaged map[string]error) error {
	if len(damaged) == 0 {
		return nil
	}
	known, err := st.known()
	if err != nil {
		return err
	}
	for name, cause := range damaged {
		path := filepath.Join(ix.o.Dir, name)
		ix.corruptFiles.Inc()
		ix.o.Logger.Errorf("index file %q is set aside as %q; all series count as active on that day from now on, which loses nothing: %s", path, path+corruptSuffix, cause)
		day, ok := parseDayName(name)
		if !ok {
			if err := ix.setAside(name); err != nil {
				return err
			}
			continue
		}
		// A second name first, so that at no moment the day is without a file.
		if err := ix.o.FS.Link(path, path+corruptSuffix); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		data, err := appendDay(nil, day, known.Clone())
		if err != nil {
			return err
		}
		if err := vfs.WriteFileDurable(ix.o.FS, path, data); err != nil {
			return err
		}
		ix.days.mu.days[day] = &dayBits{ids: known.Clone(), size: int64(len(data))}
	}
	return nil
}

// known returns the ids that have keys.
func (st *state) known() (*roaring.Bitmap, error) {
	ids := roaring.New()
	for _, s := range st.segments {
		for i := range s.footer.tenantCount {
			all, err := s.bitmap(s.tenantAt(i).all[0], s.tenantAt(i).all[1])
			if err != nil {
				return nil, err
			}
			ids.Or(all)
		}
	}
	st.heads(func(h *head) bool { ids.AddMany(h.ids()); return true })
	return ids, nil
}

// Known returns the ids of all registered and all deleted series. After the loss of a segment parts may have others.
func (ix *Index) Known() (*roaring.Bitmap, error) {
	st := ix.acquire()
	defer ix.release(st)
	ids, err := ix.knownOf(st)
	if err == nil {
		ids.Or(st.deleted)
	}
	return ids, err
}

func (ix *Index) knownOf(st *state) (ids *roaring.Bitmap, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	return st.known()
}

// Reserve makes Add give no id below end: somebody has seen these ids in use, though the index, which
// may have lost a segment, need not know them.
func (ix *Index) Reserve(end uint64) {
	ix.reg.Lock()
	defer ix.reg.Unlock()
	ix.reg.nextID = max(ix.reg.nextID, end)
}
