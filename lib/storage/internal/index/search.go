package index

import (
	"cmp"
	"context"
	"runtime/debug"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// Query selects series of one tenant that pass all filters of at least one set and are active
// on a day in [FirstDay, LastDay] (days since 1970-01-01 UTC). No sets, or an empty set, select every series.
type Query struct {
	Tenant   model.TenantID
	Filters  [][]model.TagFilter
	FirstDay int32
	LastDay  int32
	Max      int // more series are an error of kind Unprocessable; 0 means no limit
}

// Search returns the ids of the selected series.
func (ix *Index) Search(ctx context.Context, q Query) (ids *roaring.Bitmap, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	sets, err := compileSets(q.Filters)
	if err != nil {
		return nil, err
	}
	st := ix.acquire()
	defer ix.release(st)
	return ix.search(ctx, st, &q, sets)
}

func (ix *Index) search(ctx context.Context, st *state, q *Query, sets []filterSet) (*roaring.Bitmap, error) {
	var parts []*roaring.Bitmap
	sources, err := st.sources(q.Tenant)
	if err != nil {
		return nil, err
	}
	for _, src := range sources {
		for i := range sets {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			ids, err := sets[i].eval(ctx, st, src)
			if err != nil {
				return nil, err
			}
			parts = append(parts, ids)
		}
	}
	found := roaring.And(union(parts), ix.days.active(q.FirstDay, q.LastDay))
	st.hide(found)
	if n := found.GetCardinality(); q.Max > 0 && n > uint64(q.Max) {
		return nil, errkind.New(errkind.Unprocessable,
			"cannot select %d series: the limit is %d; narrow the filters or the time range, or raise -search.maxUniqueTimeseries", n, q.Max)
	}
	return found, nil
}

// union returns all ids of the parts, which it does not change. The result may be one of them.
func union(parts []*roaring.Bitmap) *roaring.Bitmap {
	if len(parts) == 1 {
		return parts[0]
	}
	all := roaring.New()
	for _, p := range parts {
		all.Or(p)
	}
	return all
}

// sources returns everything that has series of the tenant.
func (st *state) sources(id model.TenantID) ([]tenantSource, error) {
	var list []tenantSource
	for _, s := range st.segments {
		src, ok, err := s.tenant(id)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, src)
		}
	}
	st.heads(func(h *head) bool {
		if src, ok := h.tenant(id); ok {
			list = append(list, src)
		}
		return true
	})
	return list, nil
}

// filterSet is a set of filters which a series has to pass all. Without terms it selects every series.
type filterSet struct {
	include []term // cheapest first
	exclude []term // cheapest first
}

// term is one filter, seen as a set of series to keep (include) or to drop (exclude): those whose
// label has the pattern or, as a complement, those that have the label with another value.
type term struct {
	name       string // internal
	m          *model.Matcher
	complement bool
	cost       int
}

// The costs of finding the series with a pattern, in rising order.
const (
	costValue    = iota // one posting
	costValues          // some postings, or the posting of a label
	costPrefix          // all values with a prefix
	costMatching        // matching the values with a prefix
	costScan            // matching all values
)

// compileSets turns filters into sets. Sets which cannot select anything are left out.
func compileSets(filters [][]model.TagFilter) ([]filterSet, error) {
	if len(filters) == 0 {
		return []filterSet{{}}, nil
	}
	var sets []filterSet
	for _, list := range filters {
		set, possible, err := compileSet(list)
		if err != nil {
			return nil, err
		}
		if possible {
			sets = append(sets, set)
		}
	}
	return sets, nil
}

func compileSet(list []model.TagFilter) (set filterSet, possible bool, err error) {
	possible = true
	for _, f := range list {
		m, err := f.Compile()
		if err != nil {
			return set, false, err
		}
		name, ok := internalName(f.Name)
		if !ok {
			possible = possible && m.MatchesEmpty()
			continue
		}
		t := term{name: name, m: m, cost: costOf(m)}
		empty := m.MatchPattern("")
		t.complement = empty
		switch {
		case m.MatchesEmpty() && empty && m.MatchesAnyNonEmpty(): // every series passes
		case m.MatchesEmpty():
			set.exclude = append(set.exclude, t)
		default:
			set.include = append(set.include, t)
		}
	}
	byCost := func(a, b term) int { return cmp.Compare(a.cost, b.cost) }
	slices.SortStableFunc(set.include, byCost)
	slices.SortStableFunc(set.exclude, byCost)
	return set, possible, nil
}

func costOf(m *model.Matcher) int {
	literals, finite := m.Literals()
	switch {
	case finite && len(literals) == 1 && literals[0] != "":
		return costValue
	case finite || m.MatchesAnyNonEmpty():
		return costValues
	case m.PrefixOnly():
		return costPrefix
	case m.Prefix() != "":
		return costMatching
	}
	return costScan
}

// eval returns the series of a source that pass the set. The result may be shared.
func (s *filterSet) eval(ctx context.Context, st *state, src tenantSource) (*roaring.Bitmap, error) {
	var found *roaring.Bitmap
	for i := range s.include {
		t := &s.include[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if found != nil && found.IsEmpty() {
			return found, nil
		}
		byRow, err := t.cheaperByRow(found, src)
		if err != nil {
			return nil, err
		}
		if byRow {
			found, err = t.filterRows(ctx, st, found)
		} else {
			found, err = t.intersect(ctx, found, src)
		}
		if err != nil {
			return nil, err
		}
	}
	if found == nil {
		var all idSet
		if err := src.addAll(&all); err != nil {
			return nil, err
		}
		found = all.take()
	}
	return s.drop(ctx, st, src, found)
}

// drop returns found without what the exclude terms name.
func (s *filterSet) drop(ctx context.Context, st *state, src tenantSource, found *roaring.Bitmap) (*roaring.Bitmap, error) {
	for i := range s.exclude {
		t := &s.exclude[i]
		if found.IsEmpty() {
			break
		}
		byRow, err := t.cheaperByRow(found, src)
		if err != nil {
			return nil, err
		}
		if byRow {
			if found, err = t.filterRows(ctx, st, found); err != nil {
				return nil, err
			}
			continue
		}
		ids, err := t.ids(ctx, src)
		if err != nil {
			return nil, err
		}
		found = roaring.AndNot(found, ids)
	}
	return found, nil
}

func (t *term) intersect(ctx context.Context, found *roaring.Bitmap, src tenantSource) (*roaring.Bitmap, error) {
	ids, err := t.ids(ctx, src)
	if err != nil || found == nil {
		return ids, err
	}
	return roaring.And(found, ids), nil
}

// ids returns the series the term names. They may be shared and must not be changed.
func (t *term) ids(ctx context.Context, src tenantSource) (*roaring.Bitmap, error) {
	key, cached := t.key(src)
	if cached {
		if ids, ok := key.s.matches.get(key); ok {
			key.s.matches.use.hit()
			return ids, nil
		}
	}
	ids, err := t.find(ctx, src)
	if err == nil && cached && (t.cost > costValue || ids.GetSizeInBytes() >= minCachedBytes) {
		key.s.matches.use.miss() // what is not worth an entry is not missed
		key.s.matches.put(key, ids)
	}
	return ids, err
}

func (t *term) find(ctx context.Context, src tenantSource) (*roaring.Bitmap, error) {
	var with idSet
	if err := t.addPattern(ctx, &with, src); err != nil {
		return nil, err
	}
	if !t.complement {
		return with.take(), nil
	}
	var any idSet
	if err := src.addLabel(&any, t.name); err != nil {
		return nil, err
	}
	ids := any.take()
	ids.AndNot(with.take())
	return ids, nil
}

// addPattern adds the series that have the label with a value that has the pattern.
func (t *term) addPattern(ctx context.Context, dst *idSet, src tenantSource) error {
	literals, finite := t.m.Literals()
	switch {
	case finite:
		for _, value := range literals {
			if value == "" {
				continue
			}
			if err := src.addValue(dst, t.name, value); err != nil {
				return err
			}
		}
		return nil
	case t.m.MatchesAnyNonEmpty():
		return src.addLabel(dst, t.name)
	case t.m.PrefixOnly():
		return src.addMatching(ctx, dst, valueMatch{name: t.name, prefix: t.m.Prefix()})
	}
	return src.addMatching(ctx, dst, valueMatch{name: t.name, prefix: t.m.Prefix(), match: t.m.MatchPattern})
}

// rowCost is how many values can be matched in the time one key takes to be read.
const rowCost = 64

// fewRows is the number of keys which are read in any case: the next time they are at hand.
const fewRows = 512

// cheaperByRow reports whether reading the keys found so far costs less than walking over all values.
func (t *term) cheaperByRow(found *roaring.Bitmap, src tenantSource) (bool, error) {
	if found == nil || t.cost < costPrefix {
		return false, nil
	}
	n, err := src.valueCount(t.name)
	return err == nil && found.GetCardinality()*rowCost < uint64(n), err
}

// filterRows returns the found series whose key passes the filter of the term.
func (t *term) filterRows(ctx context.Context, st *state, found *roaring.Bitmap) (*roaring.Bitmap, error) {
	r := keyReader{st: st, ids: found}
	kept := roaring.New()
	var labels []model.Label
	n := 0
	for it := found.Iterator(); it.HasNext(); n++ {
		id := it.Next()
		if n%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		key, err := r.key(id)
		if err != nil {
			return nil, err
		}
		if _, labels, err = model.ParseSeriesKey(labels[:0], key); err != nil {
			return nil, err
		}
		if t.m.Match(labelValue(labels, t.name)) {
			kept.Add(id)
		}
	}
	return kept, nil
}

// labelValue returns the value of a label by its internal name, or nothing.
func labelValue(labels []model.Label, name string) string {
	for i := range labels {
		if labels[i].Name == externalName(name) {
			return labels[i].Value
		}
	}
	return ""
}
