package index

import (
	"cmp"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// hasFilters reports whether the sets select less than every series.
func hasFilters(sets []filterSet) bool {
	for i := range sets {
		if len(sets[i].include)+len(sets[i].exclude) == 0 {
			return false
		}
	}
	return true
}

// selected returns the ids a query selects; without filters those of other tenants may be among them.
func (ix *Index) selected(st *state, q *Query) (*roaring.Bitmap, error) {
	sets, err := compileSets(q.Filters)
	if err != nil {
		return nil, err
	}
	if hasFilters(sets) || q.Max > 0 {
		return ix.search(st, q, sets)
	}
	return ix.days.active(q.FirstDay, q.LastDay), nil
}

// LabelNames returns the sorted label names of the selected series, at most limit (0: no limit).
func (ix *Index) LabelNames(q Query, limit int) ([]string, error) {
	st := ix.acquire()
	defer ix.release(st)
	ids, err := ix.selected(st, &q)
	if err != nil || ids.IsEmpty() {
		return nil, err
	}
	sources, err := st.sources(q.Tenant)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, src := range sources {
		if found, err = appendNames(found, src, ids); err != nil {
			return nil, err
		}
	}
	for i, name := range found {
		found[i] = externalName(name)
	}
	return sortedUnique(found, limit), nil
}

// appendNames appends the names of labels that a series in ids has.
func appendNames(dst []string, src tenantSource, ids *roaring.Bitmap) ([]string, error) {
	names, err := src.labelNames()
	if err != nil {
		return dst, err
	}
	for _, name := range names {
		var with idSet
		if err := src.addLabel(&with, name); err != nil {
			return dst, err
		}
		if ids.Intersects(with.take()) {
			dst = append(dst, name)
		}
	}
	return dst, nil
}

func sortedUnique(list []string, limit int) []string {
	slices.Sort(list)
	list = slices.Compact(list)
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	return list
}

// LabelValues returns the sorted values that a label has in the selected series, at most limit (0: no limit).
func (ix *Index) LabelValues(q Query, name string, limit int) ([]string, error) {
	st := ix.acquire()
	defer ix.release(st)
	ids, err := ix.selected(st, &q)
	if err != nil || ids.IsEmpty() {
		return nil, err
	}
	name, ok := internalName(name)
	if !ok {
		return nil, nil
	}
	sources, err := st.sources(q.Tenant)
	if err != nil {
		return nil, err
	}
	values := 0
	for _, src := range sources {
		n, err := src.valueCount(name)
		if err != nil {
			return nil, err
		}
		values += n
	}
	// Without filters the ids may belong to other tenants, so that their keys cannot be used.
	if len(q.Filters) > 0 && ids.GetCardinality()*rowCost < uint64(values) {
		return valuesByRow(st, q.Tenant, ids, name, limit)
	}
	return valuesByPosting(sources, ids, name, limit)
}

// valuesByRow reads the keys of the ids that belong to the tenant.
func valuesByRow(st *state, tenant model.TenantID, ids *roaring.Bitmap, name string, limit int) ([]string, error) {
	r := keyReader{st: st}
	var labels []model.Label
	seen := map[string]struct{}{}
	for it := ids.Iterator(); it.HasNext(); {
		key, err := r.key(it.Next())
		if errkind.Of(err) == errkind.NotFound {
			continue // active on the day, but its segment was lost
		}
		if err != nil {
			return nil, err
		}
		var t model.TenantID
		if t, labels, err = model.ParseSeriesKey(labels[:0], key); err != nil {
			return nil, err
		}
		value := labelValue(labels, name)
		if _, ok := seen[value]; !ok && value != "" && t == tenant {
			seen[strings.Clone(value)] = struct{}{}
		}
	}
	found := make([]string, 0, len(seen))
	for value := range seen {
		found = append(found, value)
	}
	return sortedUnique(found, limit), nil
}

// valuesByPosting walks over the sorted values of all sources at once and keeps those with a series in ids.
func valuesByPosting(sources []tenantSource, ids *roaring.Bitmap, name string, limit int) ([]string, error) {
	cursors := make([]valueCursor, 0, len(sources))
	for _, src := range sources {
		c, err := src.values(name)
		if err != nil {
			return nil, err
		}
		ok, err := c.next()
		if err != nil {
			return nil, err
		}
		if ok {
			cursors = append(cursors, c)
		}
	}
	var found []string
	var value []byte
	for len(cursors) > 0 && (limit <= 0 || len(found) < limit) {
		smallest := slices.MinFunc(cursors, func(a, b valueCursor) int { return cmp.Compare(a.value(), b.value()) })
		value = append(value[:0], smallest.value()...) // the cursor reuses its memory
		selected := false
		var err error
		if cursors, selected, err = passValue(cursors, bytesutil.String(value), ids); err != nil {
			return nil, err
		}
		if selected {
			found = append(found, string(value))
		}
	}
	return found, nil
}

// passValue moves the cursors that stand at value on and drops those at their end. It reports whether a series in ids
// has the value.
func passValue(cursors []valueCursor, value string, ids *roaring.Bitmap) (left []valueCursor, selected bool, err error) {
	left = cursors[:0]
	for _, c := range cursors {
		if c.value() != value {
			left = append(left, c)
			continue
		}
		if !selected {
			if selected, err = c.intersects(ids); err != nil {
				return nil, false, err
			}
		}
		ok, err := c.next()
		if err != nil {
			return nil, false, err
		}
		if ok {
			left = append(left, c)
		}
	}
	return left, selected, nil
}
