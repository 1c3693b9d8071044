package index

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// Merge combines all segments into one, and drops deleted series.
func (ix *Index) Merge(ctx context.Context) (err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	ix.mergeMu.Lock()
	defer ix.mergeMu.Unlock()
	st := ix.acquire()
	defer ix.release(st)
	if len(st.segments) == 0 || len(st.segments) == 1 && !st.hasDeleted(st.segments[0]) {
		return nil
	}
	if err := ix.checkRoom(st.segments); err != nil {
		return err
	}
	return ix.merge(ctx, st, st.segments)
}

// hasDeleted reports whether a segment has rows of deleted series.
func (st *state) hasDeleted(s *segment) bool {
	if st.deleted.IsEmpty() {
		return false
	}
	for i := range s.footer.tenantCount {
		t := s.tenantAt(i)
		if all, err := s.bitmap(t.all[0], t.all[1]); err == nil && all.Intersects(st.deleted) {
			return true
		}
	}
	return false
}

// spareBytes is what a merge leaves to the log and to flushes: those must go on, a merge can wait.
const spareBytes = 128 << 20

// checkRoom returns an error of kind Overloaded when the disk has no room for a merge.
func (ix *Index) checkRoom(list []*segment) error {
	need := int64(spareBytes)
	for _, s := range list {
		need += int64(len(s.data))
	}
	space, err := ix.o.FS.Space(ix.o.Dir)
	if err != nil || need <= space.Free {
		return err
	}
	return errkind.New(errkind.Overloaded, "cannot merge %d segments of index %q: that needs up to %d bytes of disk space and %d are free; free some space first",
		len(list), ix.o.Dir, need, space.Free)
}

// MergeNext combines segments of like size where there are many. It returns whether it did, so that there may be more to
// do. Call it in the background after flushes: without it the number of segments, and so the time of a
// search, grows. It does nothing while another merge is running, and when the disk has no room for one.
func (ix *Index) MergeNext(ctx context.Context) (more bool, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	if !ix.mergeMu.TryLock() {
		return false, nil
	}
	defer ix.mergeMu.Unlock()
	st := ix.acquire()
	defer ix.release(st)
	sizes := make([]int, len(st.segments))
	for i, s := range st.segments {
		sizes[i] = len(s.data)
	}
	picked := pickMerge(sizes)
	if picked == nil {
		return false, nil
	}
	list := make([]*segment, 0, len(picked))
	for _, i := range picked {
		list = append(list, st.segments[i])
	}
	if err := ix.checkRoom(list); err != nil {
		if errkind.Of(err) == errkind.Overloaded {
			err = nil // the next flush tries again
		}
		return false, err
	}
	return true, ix.merge(ctx, st, list)
}

const (
	// mergeWidth is the number of segments of like size that are worth a merge.
	mergeWidth = 4
	// maxSegments bounds the number of segments a search looks into.
	maxSegments = 8
	// mergeRatio is how much larger than all smaller ones together a segment of like size may be.
	mergeRatio = 2
)

// pickMerge returns the indexes, ascending, of the segments to combine, given their sizes; nil when
// there is nothing to do. It takes the smaller ones up to the first that is much larger than those before.
func pickMerge(sizes []int) []int {
	order := make([]int, len(sizes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return sizes[a] - sizes[b] })
	n, sum := 0, 0
	for n < len(order) && (n < 2 || sizes[order[n]] <= mergeRatio*sum) {
		sum += sizes[order[n]]
		n++
	}
	if len(sizes) > maxSegments {
		n = max(n, len(sizes)-maxSegments+1)
	} else if n < mergeWidth {
		return nil
	}
	picked := order[:n]
	slices.Sort(picked)
	return picked
}

// merge combines segments of the current state. The caller holds mergeMu and the state.
func (ix *Index) merge(ctx context.Context, st *state, list []*segment) error {
	s, err := ix.writeSegment(firstIDOf(list), func(w *segmentWriter) (err error) {
		defer ix.guard(debug.SetPanicOnFault(true), &err) // so that the unfinished file is removed
		return mergeInto(ctx, w, list, st.deleted)
	})
	if err == nil {
		err = ix.commit(s, nil, list)
	}
	if err != nil {
		return fmt.Errorf("cannot merge %d segments of index %q: %w", len(list), ix.o.Dir, err)
	}
	ix.merges.Inc()
	return nil
}

// firstIDOf returns a number no id in the list lies below.
func firstIDOf(list []*segment) uint32 {
	first := uint32(math.MaxUint32)
	for _, s := range list {
		first = min(first, s.footer.firstID)
	}
	return first
}

// mergeInto writes what is in the list, except deleted series. First come the dictionaries: that tells which ordinals their
// values get, so that rows are renumbered without a look at their text.
func mergeInto(ctx context.Context, w *segmentWriter, list []*segment, deleted *roaring.Bitmap) error {
	cursors := make([]*dictCursor, 0, len(list))
	ordinals := make([][]uint32, len(list)) // new ones + 1 by segment and old ones
	for i, s := range list {
		ordinals[i] = make([]uint32, s.footer.values)
		c := &dictCursor{s: s, ordinal: -1, ordinals: ordinals[i]}
		ok, err := c.next()
		if err != nil {
			return err
		}
		if ok {
			cursors = append(cursors, c)
		}
	}
	var same []*dictCursor
	var ids idSet
	for n := 0; len(cursors) > 0; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		same = smallest(same[:0], cursors)
		if err := writeMerged(w, same, &ids, deleted); err != nil {
			return err
		}
		for _, c := range same {
			ok, err := c.next()
			if err != nil {
				return err
			}
			if !ok {
				cursors = slices.DeleteFunc(cursors, func(o *dictCursor) bool { return o == c })
			}
		}
	}
	w.endValues()
	series := uint64(0)
	for _, s := range list {
		series += s.footer.series
	}
	w.hashes = make([]hashEntry, 0, series)
	m := rowMerge{w: w, ordinals: ordinals, deleted: deleted}
	if err := m.run(ctx, list); err != nil {
		return err
	}
	return w.err
}

// smallest appends the cursors that stand at the smallest value.
func smallest(dst, cursors []*dictCursor) []*dictCursor {
	for _, c := range cursors {
		if len(dst) > 0 {
			order := c.compare(dst[0])
			if order > 0 {
				continue
			}
			if order < 0 {
				dst = dst[:0]
			}
		}
		dst = append(dst, c)
	}
	return dst
}

func writeMerged(w *segmentWriter, same []*dictCursor, ids *idSet, deleted *roaring.Bitmap) error {
	e := valueEntry{tenant: same[0].tenant.id, name: bytesutil.Bytes(same[0].name.name)}
	if len(same) == 1 {
		if err := same[0].values.entry(&e); err != nil {
			return err
		}
	} else {
		for _, c := range same {
			if err := c.values.addIDs(ids); err != nil {
				return err
			}
		}
		e.value = same[0].values.texts.value()
		ids.fill(&e)
		ids.few = ids.few[:0]
	}
	e.drop(deleted)
	ordinal, added := w.addValue(&e)
	for _, c := range same {
		if c.ordinal >= len(c.ordinals) {
			return c.s.corrupt("dictionary")
		}
		if added {
			c.ordinals[c.ordinal] = ordinal + 1
		}
	}
	return nil
}

// dictCursor walks over all label values of a segment, by tenant, name and value.
type dictCursor struct {
	s          *segment
	nextTenant uint64
	tenant     *segmentReader
	nextName   uint64 // of the tenant
	name       nameRecord
	values     *segmentValues
	ordinal    int // of the value
	ordinals   []uint32
}

func (c *dictCursor) next() (bool, error) {
	for {
		if c.values != nil {
			if ok, err := c.values.next(); ok || err != nil {
				c.ordinal++
				return ok, err
			}
			c.values = nil
		}
		if ok, err := c.advance(); !ok || err != nil {
			return false, err
		}
	}
}

// advance goes to the next name, or the next tenant.
func (c *dictCursor) advance() (bool, error) {
	if c.tenant == nil || c.nextName == c.tenant.nameCount {
		if c.nextTenant == c.s.footer.tenantCount {
			return false, nil
		}
		c.tenant, c.nextName = c.s.tenantAt(c.nextTenant), 0
		c.nextTenant++
		if c.tenant.firstName+c.tenant.nameCount > c.s.footer.nameCount {
			return false, c.s.corrupt("tenant table")
		}
		return true, nil
	}
	var err error
	if c.name, err = c.s.nameAt(c.tenant.firstName + c.nextName); err != nil {
		return false, err
	}
	c.nextName++
	c.values = &segmentValues{s: c.s, block: c.name.firstBlock, end: c.name.firstBlock + c.name.blocks}
	return true, nil
}

func (c *dictCursor) compare(o *dictCursor) int {
	if v := c.tenant.id.Compare(o.tenant.id); v != 0 {
		return v
	}
	if v := bytes.Compare(bytesutil.Bytes(c.name.name), bytesutil.Bytes(o.name.name)); v != 0 {
		return v
	}
	return bytes.Compare(c.values.texts.value(), o.values.texts.value())
}

// rowMerge writes the rows of segments by ascending id.
type rowMerge struct {
	w        *segmentWriter
	ordinals [][]uint32
	deleted  *roaring.Bitmap
	key      []byte
	row      []uint32
}

func (m *rowMerge) run(ctx context.Context, list []*segment) error {
	cursors := make([]*rowsCursor, 0, len(list))
	for i, s := range list {
		c := &rowsCursor{s: s, ordinals: m.ordinals[i]}
		if err := c.load(m.w); err != nil {
			return err
		}
		cursors = append(cursors, c)
	}
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var first *rowsCursor
		for _, c := range cursors {
			if !c.done() && (first == nil || c.id() < first.id()) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		// After the loss of a manifest a segment and those it was merged from may stand side by side.
		if (m.w.footer.series == 0 || first.id() != m.w.footer.lastID) && !m.deleted.Contains(first.id()) {
			if err := m.add(first); err != nil {
				return err
			}
		}
		first.pos++
		if err := first.load(m.w); err != nil {
			return err
		}
	}
}

// add writes the row at which a cursor stands.
func (m *rowMerge) add(c *rowsCursor) error {
	m.row = m.row[:0]
	last := int64(-1)
	for _, ref := range c.block.row(c.pos) {
		ord := c.renumbered[ref]
		if ord == 0 || int64(ord) <= last {
			return c.s.corrupt("row")
		}
		last = int64(ord)
		m.row = append(m.row, ord-1)
	}
	m.key = c.block.appendKey(m.key[:0], c.pos)
	m.w.addRow(c.id(), m.row, model.HashSeriesKey(m.key))
	return nil
}

// rowsCursor walks over the rows of a segment.
type rowsCursor struct {
	s          *segment
	ordinals   []uint32
	next       uint64 // block
	block      rowBlock
	renumbered []uint32 // new ordinals + 1 of the values of the block; 0 where there is none
	pos        int
}

func (c *rowsCursor) id() uint32 { return c.block.ids[c.pos] }

func (c *rowsCursor) done() bool { return c.pos >= len(c.block.ids) }

// load decodes the next block when the current one is used up.
func (c *rowsCursor) load(w *segmentWriter) error {
	if !c.done() || c.next == c.s.footer.rowBlocks {
		return nil
	}
	c.pos = 0
	c.next++
	if err := c.s.decodeRows(&c.block, c.next-1); err != nil {
		return err
	}
	c.renumbered = c.renumbered[:0]
	for i := range c.block.values {
		v := &c.block.values[i]
		ord := uint32(0)
		switch column := &c.block.columns[v.column]; {
		case column.bare:
			ord = w.bareOrdinal(column.tenant) + 1
		case int(v.ordinal) < len(c.ordinals):
			ord = c.ordinals[v.ordinal]
		}
		c.renumbered = append(c.renumbered, ord)
	}
	return nil
}
