package index

import (
	"encoding/binary"
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
		s, err := ix.writeSegment(h.firstID(), h.writeTo)
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
	if err := ix.listDays(); err != nil {
		return fmt.Errorf("cannot list the active days of index %q: %w", ix.o.Dir, err)
	}
	ix.flushes.Inc()
	return nil
}

// listDays lists the days whose files are new, which is the case once a day.
func (ix *Index) listDays() error {
	ix.commitMu.Lock()
	defer ix.commitMu.Unlock()
	if slices.Equal(ix.listed, ix.days.files()) {
		return nil
	}
	st := ix.acquire()
	defer ix.release(st)
	return ix.publishLocked(st.with(st.head, st.frozen, st.segments))
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
func (ix *Index) writeSegment(firstID uint32, fill func(w *segmentWriter) error) (*segment, error) {
	path := filepath.Join(ix.o.Dir, fmt.Sprintf("%s%016x", segmentPrefix, ix.nextSeq.Add(1)-1))
	tmp := path + tempSuffix
	w, err := newSegmentWriter(ix.o.FS, tmp, firstID)
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
	return ix.openSegment(path)
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
	m := next.manifest(ix.nextSeq.Load(), ix.days.files())
	data := m.appendTo(nil)
	if err := vfs.WriteFileDurable(ix.o.FS, filepath.Join(ix.o.Dir, manifestName), data); err != nil {
		return err
	}
	ix.removeOrphansLocked()
	ix.listed = m.days
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
	tenants := h.appendTenants(nil)
	slices.SortFunc(tenants, model.TenantID.Compare)
	ordinals := make([][]uint32, len(tenants)) // by slot and pair
	for _, t := range tenants {
		source := &headReader{h: h, t: h.mu.tenants[t]}
		list := make([]uint32, len(source.t.pairs))
		ordinals[source.t.slot] = list
		if err := source.writeTo(w, list); err != nil {
			return err
		}
	}
	w.endValues()
	w.hashes = make([]hashEntry, 0, h.seriesCount())
	var key []byte
	var row []uint32
	for _, id := range h.ids() {
		key, row = h.appendRow(key[:0], row[:0], id, ordinals)
		if len(row) == 0 {
			row = append(row, w.bareOrdinal(model.SeriesKeyTenant(key)))
		}
		w.addRow(id, row, model.HashSeriesKey(key))
	}
	return w.err
}

// appendRow appends the key of a series and the ordinals of its pairs.
func (h *head) appendRow(key []byte, row []uint32, id uint32, ordinals [][]uint32) ([]byte, []uint32) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	b, _ := h.rowLocked(id)
	c := h.openRowLocked(b)
	pairs := c.row
	for range c.left {
		pair, n := binary.Uvarint(pairs)
		pairs = pairs[n:]
		row = append(row, ordinals[c.tenant.slot][pair])
	}
	key = c.tenant.id.AppendTo(key)
	for encoded := c.next(); encoded != nil; encoded = c.next() {
		key = append(key, encoded...)
	}
	return key, row
}

// writeTo writes the dictionary of a tenant and fills in the ordinals of its pairs.
func (r *headReader) writeTo(w *segmentWriter, ordinals []uint32) error {
	names, err := r.labelNames()
	if err != nil {
		return err
	}
	var ids idSet
	for _, name := range names {
		values := r.sortedValues(name)
		for ok, _ := values.next(); ok; ok, _ = values.next() {
			if err := values.addIDs(&ids); err != nil {
				return err
			}
			e := valueEntry{tenant: r.t.id, name: bytesutil.Bytes(name), value: bytesutil.Bytes(values.value())}
			ids.fill(&e)
			ordinals[values.list[values.pos-1].pair], _ = w.addValue(&e)
			ids.few = ids.few[:0]
		}
	}
	return nil
}

// fill moves the ids into a value entry; few ids are valid until the set is used again.
func (s *idSet) fill(e *valueEntry) {
	e.few, e.bitmap = nil, nil
	if s.bitmap == nil {
		if !slices.IsSorted(s.few) {
			slices.Sort(s.few)
		}
		e.few = slices.Compact(s.few)
		return
	}
	e.bitmap = s.take()
}
