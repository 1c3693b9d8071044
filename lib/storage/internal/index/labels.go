package index

import (
	"context"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

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
func (ix *Index) selected(ctx context.Context, st *state, q *Query) (*roaring.Bitmap, error) {
	sets, err := compileSets(q.Filters)
	if err != nil {
		return nil, err
	}
	if hasFilters(sets) || q.Max > 0 {
		return ix.search(ctx, st, q, sets)
	}
	ids := ix.days.active(q.FirstDay, q.LastDay)
	if !st.deleted.IsEmpty() {
		ids = roaring.AndNot(ids, st.deleted)
	}
	return ids, nil
}

// LabelNames returns the sorted label names of the selected series, at most limit (0: no limit).
func (ix *Index) LabelNames(ctx context.Context, q Query, limit int) (names []string, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	st := ix.acquire()
	defer ix.release(st)
	ids, err := ix.selected(ctx, st, &q)
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
	if all, err := src.hasAll(ids); all || err != nil {
		return append(dst, names...), err
	}
	for _, name := range names {
		found, err := src.intersects(name, ids)
		if err != nil {
			return dst, err
		}
		if found {
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
func (ix *Index) LabelValues(ctx context.Context, q Query, name string, limit int) (list []string, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	st := ix.acquire()
	defer ix.release(st)
	ids, err := ix.selected(ctx, st, &q)
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
	if n := ids.GetCardinality(); len(q.Filters) > 0 && (n <= fewRows || n*rowCost < uint64(values)) {
		found, err := valuesByRow(ctx, ix.keyReader(st, ids), &q, ids, name)
		return sortedUnique(found, limit), err
	}
	return valuesByPosting(ctx, sources, ids, name, limit)
}

// valuesByRow reads the keys of the ids that belong to the tenant. The values are not sorted.
func valuesByRow(ctx context.Context, r keyReader, q *Query, ids *roaring.Bitmap, name string) ([]string, error) {
	var labels []model.Label
	seen := map[string]struct{}{}
	n := 0
	for it := ids.Iterator(); it.HasNext(); n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
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
		if _, ok := seen[value]; !ok && value != "" && t == q.Tenant {
			seen[strings.Clone(value)] = struct{}{}
		}
	}
	found := make([]string, 0, len(seen))
	for value := range seen {
		found = append(found, value)
	}
	return found, nil
}

// valuesByPosting walks over the sorted values of all sources at once and keeps those with a series in ids.
func valuesByPosting(ctx context.Context, sources []tenantSource, ids *roaring.Bitmap, name string, limit int) ([]string, error) {
	m, err := newValueMerge(sources, name)
	if err != nil {
		return nil, err
	}
	if err := m.markSelected(sources, name, ids); err != nil {
		return nil, err
	}
	var found []string
	for (limit <= 0 || len(found) < limit) && m.more() {
		if err := m.check(ctx); err != nil {
			return nil, err
		}
		selected := false
		err := m.pass(func(c mergedCursor) (err error) {
			if selected = selected || c.selected; !selected {
				selected, err = c.intersects(ids)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if selected {
			found = append(found, string(m.text))
		}
	}
	return found, nil
}
