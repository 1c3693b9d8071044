package index

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

// Flush makes all registrations and active days known when it is called durable. After an error
// everything stays searchable, and the next Flush tries again.
func (ix *Index) Flush() error {
	ix.flushMu.Lock()
	defer ix.flushMu.Unlock()
	// The days first: whoever is marked in them is then in the head that is frozen.
	days := ix.days.dirty()
	for _, h := range ix.freeze() {
		s, err := ix.writeSegment(h.writeTo)
		if err == nil {
			err = ix.commit(s, h, nil)
		}
		if err != nil {
			ix.days.redirty(days)
			return fmt.Errorf("cannot flush index %q: %w", ix.o.Dir, err)
		}
	}
	if err := ix.days.flush(days); err != nil {
		return fmt.Errorf("cannot flush active days of index %q: %w", ix.o.Dir, err)
	}
	ix.flushes.Inc()
	return nil
}

// freeze makes the head read-only, starts an empty one and returns the heads to be written.
func (ix *Index) freeze() []*head {
	ix.commitMu.Lock()
	defer ix.commitMu.Unlock()
	ix.reg.Lock()
	defer ix.reg.Unlock()
	st := ix.acquire()
	defer ix.release(st)
	if st.head.seriesCount() == 0 {
		return st.frozen
	}
	frozen := append(slices.Clone(st.frozen), st.head)
	ix.setState(st.with(newHead(), frozen, st.segments))
	return frozen
}

// writeSegment writes a new durable segment, which is not listed yet. The caller has a reference. It
// is nil when there were no series to write.
func (ix *Index) writeSegment(fill func(w *segmentWriter) error) (*segment, error) {
	path := filepath.Join(ix.o.Dir, fmt.Sprintf("%s%016x", segmentPrefix, ix.nextSeq.Add(1)-1))
	tmp := path + tempSuffix
	w, err := newSegmentWriter(ix.o.FS, tmp)
	if err != nil {
		return nil, err
	}
	if err := fill(w); err != nil {
		return nil, errors.Join(err, w.abort(), ix.o.FS.RemoveAll(tmp))
	}
	if w.footer.series == 0 {
		return nil, errors.Join(w.abort(), ix.o.FS.RemoveAll(tmp))
	}
	if _, err := w.finish(); err != nil {
		return nil, errors.Join(err, ix.o.FS.RemoveAll(tmp))
	}
	if err := ix.o.FS.Rename(tmp, path); err != nil {
		return nil, errors.Join(err, ix.o.FS.RemoveAll(tmp))
	}
	if err := ix.o.FS.SyncDir(ix.o.Dir); err != nil {
		return nil, errors.Join(err, ix.o.FS.RemoveAll(path))
	}
	return openSegment(ix.o.FS, path, ix.dec)
}

// commit lists a new segment, if there is one, in place of a frozen head or of other segments. It takes over the
// reference to the segment, also on an error.
func (ix *Index) commit(added *segment, written *head, merged []*segment) error {
	ix.commitMu.Lock()
	defer ix.commitMu.Unlock()
	st := ix.acquire()
	defer ix.release(st)
	next := st.with(st.head, nil, nil)
	for _, h := range st.frozen {
		if h != written {
			next.frozen = append(next.frozen, h)
		}
	}
	for _, s := range st.segments {
		if !slices.Contains(merged, s) {
			next.segments = append(next.segments, s)
		}
	}
	if added != nil {
		defer ix.releaseSegments([]*segment{added})
		next.segments = append(next.segments, added)
	}
	if err := ix.publishLocked(next); err != nil {
		if added != nil {
			ix.orphans = append(ix.orphans, added.path)
		}
		return err
	}
	for _, s := range merged {
		s.obsolete.Store(true)
	}
	return nil
}

// publishLocked makes a state durable and current. After an error nobody knows whether the new manifest is on disk: so the
// caller must not remove a file, be it listed in the old one or in the new one, but add it to orphans.
func (ix *Index) publishLocked(next *state) error {
	m := next.manifest(ix.nextSeq.Load())
	data := m.appendTo(nil)
	if err := vfs.WriteFileDurable(ix.o.FS, filepath.Join(ix.o.Dir, manifestName), data); err != nil {
		return err
	}
	ix.removeOrphansLocked()
	ix.manifestSize.Store(int64(len(data)))
	ix.setState(next)
	return nil
}

// removeOrphansLocked removes files which the manifest does not list for sure.
func (ix *Index) removeOrphansLocked() {
	for _, path := range ix.orphans {
		if err := ix.o.FS.RemoveAll(path); err != nil {
			ix.o.Logger.Warnf("cannot remove the unused index file %q; the next start does: %s", path, err)
		}
	}
	ix.orphans = nil
}

// writeTo writes a frozen head as a segment.
func (h *head) writeTo(w *segmentWriter) error {
	var key []byte
	for _, id := range h.ids() {
		key, _ = h.appendKey(key[:0], id)
		w.addRow(id, key)
	}
	w.endRows()
	tenants := h.appendTenants(nil)
	slices.SortFunc(tenants, model.TenantID.Compare)
	for _, t := range tenants {
		if err := h.writeTenant(w, t); err != nil {
			return err
		}
	}
	return w.err
}

func (h *head) writeTenant(w *segmentWriter, t model.TenantID) error {
	source, _ := h.tenant(t)
	names, err := source.labelNames()
	if err != nil {
		return err
	}
	var ids idSet
	for _, name := range names {
		values, err := source.values(name)
		if err != nil {
			return err
		}
		for ok, _ := values.next(); ok; ok, _ = values.next() {
			if err := values.addIDs(&ids); err != nil {
				return err
			}
			e := valueEntry{tenant: t, name: bytesutil.Bytes(name), value: bytesutil.Bytes(values.value())}
			ids.fill(&e)
			w.addValue(&e)
			ids.few = ids.few[:0]
		}
	}
	return nil
}

// fill moves the ids into a value entry; few ids are valid until the set is used again.
func (s *idSet) fill(e *valueEntry) {
	e.few, e.bitmap = nil, nil
	if s.bitmap == nil && len(s.few) < inlineIDs {
		slices.Sort(s.few)
		e.few = slices.Compact(s.few)
		return
	}
	e.bitmap = s.take()
}
