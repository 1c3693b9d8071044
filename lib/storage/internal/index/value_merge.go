package index

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/bytesutil"
)

// valueMerge walks over the sorted values that a label has in several sources: more, then value and pass.
type valueMerge struct {
	cursors []mergedCursor
	text    []byte
	steps   int
}

// mergedCursor is the cursor of one source.
type mergedCursor struct {
	valueCursor
	source   int
	selected bool // every value is
}

func newValueMerge(sources []tenantSource, name string) (*valueMerge, error) {
	m := &valueMerge{}
	for i, src := range sources {
		c, err := src.values(name)
		if err != nil {
			return nil, err
		}
		ok, err := c.next()
		if err != nil {
			return nil, err
		}
		if ok {
			m.cursors = append(m.cursors, mergedCursor{valueCursor: c, source: i})
		}
	}
	return m, nil
}

// markSelected finds the sources where every series that has the label is in ids, so that no value needs a look.
func (m *valueMerge) markSelected(sources []tenantSource, name string, ids *roaring.Bitmap) (err error) {
	for i := range m.cursors {
		c := &m.cursors[i]
		if c.selected, err = sources[c.source].hasAllWith(name, ids); err != nil {
			return err
		}
	}
	return nil
}

// more goes to the next value. False means that there is none.
func (m *valueMerge) more() bool {
	if len(m.cursors) == 0 {
		return false
	}
	smallest := m.cursors[0].value()
	for _, c := range m.cursors[1:] {
		if v := c.value(); v < smallest {
			smallest = v
		}
	}
	m.text = append(m.text[:0], smallest...) // the cursor reuses its memory
	return true
}

// check returns why the walk must stop.
func (m *valueMerge) check(ctx context.Context) error {
	if m.steps++; m.steps%checkEvery == 0 {
		return ctx.Err()
	}
	return nil
}

// value is valid until the next call of more.
func (m *valueMerge) value() string { return bytesutil.String(m.text) }

// pass calls visit with all cursors that stand at the value, and moves them on.
func (m *valueMerge) pass(visit func(c mergedCursor) error) error {
	left := m.cursors[:0]
	for _, c := range m.cursors {
		if c.value() != m.value() {
			left = append(left, c)
			continue
		}
		if err := visit(c); err != nil {
			return err
		}
		ok, err := c.next()
		if err != nil {
			return err
		}
		if ok {
			left = append(left, c)
		}
	}
	m.cursors = left
	return nil
}
