package index

import (
	"context"
	"slices"
	"sort"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
)

func (r *segmentReader) addAll(dst *idSet) error { return r.s.addBitmap(dst, r.all) }

func (s *segment) addBitmap(dst *idSet, place [2]uint64) error {
	b, err := s.bitmap(place[0], place[1])
	if err != nil {
		return err
	}
	dst.orOwned(b)
	return nil
}

// findName returns the record of a label name.
func (r *segmentReader) findName(name string) (rec nameRecord, ok bool, err error) {
	i := sort.Search(int(r.nameCount), func(i int) bool {
		n, e := r.s.nameAt(r.firstName + uint64(i))
		if e != nil {
			err = e
			return true
		}
		return n.name >= name
	})
	if err != nil || i == int(r.nameCount) {
		return nameRecord{}, false, err
	}
	rec, err = r.s.nameAt(r.firstName + uint64(i))
	return rec, err == nil && rec.name == name, err
}

func (r *segmentReader) addLabel(dst *idSet, name string) error {
	rec, ok, err := r.findName(name)
	if !ok || err != nil {
		return err
	}
	return r.s.addBitmap(dst, rec.ids)
}

func (r *segmentReader) hasAll(ids *roaring.Bitmap) (bool, error) { return r.s.isWithin(r.all, ids) }

func (r *segmentReader) hasAllWith(name string, ids *roaring.Bitmap) (bool, error) {
	rec, ok, err := r.findName(name)
	if !ok || err != nil {
		return err == nil, err
	}
	return r.s.isWithin(rec.ids, ids)
}

func (r *segmentReader) intersects(name string, ids *roaring.Bitmap) (bool, error) {
	rec, ok, err := r.findName(name)
	if !ok || err != nil {
		return false, err
	}
	return r.s.intersects(rec.ids, ids)
}

// isWithin reports whether all of a bitmap is in ids.
func (s *segment) isWithin(place [2]uint64, ids *roaring.Bitmap) (bool, error) {
	b, err := s.bitmap(place[0], place[1])
	return err == nil && isWithin(b, ids), err
}

// intersects reports whether a bitmap and ids have something in common. Often its first id is enough to tell.
func (s *segment) intersects(place [2]uint64, ids *roaring.Bitmap) (bool, error) {
	if data, ok := s.slice(place[0], place[1]); ok {
		if first, ok := firstOfBitmap(data); ok && ids.Contains(first) {
			return true, nil
		}
	}
	b, err := s.bitmap(place[0], place[1])
	return err == nil && ids.Intersects(b), err
}

func (r *segmentReader) addValue(dst *idSet, name, value string) error {
	c, err := r.seek(name, value)
	if err != nil {
		return err
	}
	if ok, err := c.next(); !ok || err != nil || c.value() != value {
		return err
	}
	return c.addIDs(dst)
}

func (r *segmentReader) addMatching(ctx context.Context, dst *idSet, m valueMatch) error {
	c, err := r.seek(m.name, m.prefix)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ok, err := c.next()
		if !ok || err != nil || !strings.HasPrefix(c.value(), m.prefix) {
			return err
		}
		if m.match != nil && !m.match(c.value()) {
			continue
		}
		if err := c.addIDs(dst); err != nil {
			return err
		}
	}
}

func (r *segmentReader) valueCount(name string) (int, error) {
	rec, _, err := r.findName(name)
	return int(rec.values), err
}

func (r *segmentReader) labelNames() ([]string, error) {
	var names []string
	for i := range r.nameCount {
		n, err := r.s.nameAt(r.firstName + i)
		if err != nil {
			return nil, err
		}
		names = append(names, strings.Clone(n.name))
	}
	return names, nil
}

func (r *segmentReader) values(name string) (valueCursor, error) { return r.seek(name, "") }

// seek returns a cursor that stands before the first value at or after from.
func (r *segmentReader) seek(name, from string) (*segmentValues, error) {
	rec, ok, err := r.findName(name)
	if !ok || err != nil {
		return &segmentValues{}, err
	}
	// The first block whose first value lies above from; the wanted value may stand in the one before.
	i := sort.Search(int(rec.blocks), func(i int) bool {
		c := segmentValues{s: r.s, block: rec.firstBlock + uint64(i), end: rec.firstBlock + uint64(i) + 1}
		ok, e := c.next()
		if e != nil || !ok {
			err = e
			return true
		}
		return c.value() > from
	})
	if err != nil {
		return nil, err
	}
	c := &segmentValues{s: r.s, block: rec.firstBlock + uint64(max(i-1, 0)), end: rec.firstBlock + rec.blocks}
	for from != "" {
		ok, err := c.next()
		if !ok || err != nil {
			return c, err
		}
		if c.value() >= from {
			c.peeked = true
			break
		}
	}
	return c, nil
}

func (c *segmentValues) addIDs(dst *idSet) error {
	if err := c.posting(); err != nil {
		return err
	}
	if len(c.few) > 0 {
		dst.few = append(dst.few, c.few...)
		dst.spill()
		return nil
	}
	return c.s.addBitmap(dst, c.place)
}

func (c *segmentValues) intersects(ids *roaring.Bitmap) (bool, error) {
	if err := c.posting(); err != nil {
		return false, err
	}
	if len(c.few) > 0 {
		return intersects(c.few, ids), nil
	}
	return c.s.intersects(c.place, ids)
}

// intersects reports whether an ascending list and ids have something in common. Each goes ahead to where the other is: the series of
// a target are neighbours, and of those that are looked for one target has few.
func intersects(list []uint32, ids *roaring.Bitmap) bool {
	const short = 8
	if len(list) < short {
		return slices.ContainsFunc(list, ids.Contains)
	}
	it := ids.Iterator()
	for len(list) > 0 {
		it.AdvanceIfNeeded(list[0])
		if !it.HasNext() {
			return false
		}
		i, found := slices.BinarySearch(list, it.PeekNext())
		if found {
			return true
		}
		list = list[i:]
	}
	return false
}

func (c *segmentValues) count(ids *roaring.Bitmap) (uint64, error) {
	if err := c.posting(); err != nil {
		return 0, err
	}
	if len(c.few) > 0 {
		return countIn(c.few, ids), nil
	}
	b, err := c.s.bitmap(c.place[0], c.place[1])
	if err != nil {
		return 0, err
	}
	return ids.AndCardinality(b), nil
}

// countIn returns how many of the list are in ids.
func countIn(list []uint32, ids *roaring.Bitmap) uint64 {
	n := uint64(0)
	for _, id := range list {
		if ids.Contains(id) {
			n++
		}
	}
	return n
}

// entry returns the value as a valueEntry without tenant and name.
func (c *segmentValues) entry(e *valueEntry) error {
	err := c.posting()
	e.value, e.few, e.bitmap = c.texts.value(), c.few, nil
	if len(c.few) > 0 || err != nil {
		return err
	}
	e.few = nil
	e.bitmap, err = c.s.bitmap(c.place[0], c.place[1])
	return err
}
