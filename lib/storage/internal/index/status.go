package index

import (
	"cmp"
	"context"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
)

// StatusQuery asks what the series of a tenant look like. Filters and days select series as in Query.
type StatusQuery struct {
	Tenant     model.TenantID
	Filters    [][]model.TagFilter
	FirstDay   int32
	LastDay    int32
	TopN       int    // entries of each list; at least 1
	FocusLabel string // whose values are counted; empty for none
	Max        int    // more series are an error of kind Unprocessable; 0 means no limit
}

// Status counts selected series. Each list has the TopN largest counts, the largest first, equal ones by name. The counts
// are exact. Statuses of disjoint sets of series can be put together with Merge; the sums are exact for entries that were in
// all lists, so whoever merges asks for more entries than are shown.
type Status struct {
	TotalSeries uint64
	// TotalLabelValuePairs is the sum of the numbers of labels of all series.
	TotalLabelValuePairs         uint64
	SeriesCountByMetricName      []StatusEntry
	SeriesCountByLabelName       []StatusEntry
	SeriesCountByFocusLabelValue []StatusEntry
	SeriesCountByLabelValuePair  []StatusEntry // named name=value
	// LabelValueCountByLabelName counts values, which Merge adds up although several sides may have the same.
	LabelValueCountByLabelName []StatusEntry
}

// StatusEntry is a name and a count.
type StatusEntry struct {
	Name  string
	Count uint64
}

// Merge adds the counts of o and cuts the lists to topN entries.
func (s *Status) Merge(o *Status, topN int) {
	s.TotalSeries += o.TotalSeries
	s.TotalLabelValuePairs += o.TotalLabelValuePairs
	for _, pair := range [5][2]*[]StatusEntry{
		{&s.SeriesCountByMetricName, &o.SeriesCountByMetricName},
		{&s.SeriesCountByLabelName, &o.SeriesCountByLabelName},
		{&s.SeriesCountByFocusLabelValue, &o.SeriesCountByFocusLabelValue},
		{&s.SeriesCountByLabelValuePair, &o.SeriesCountByLabelValuePair},
		{&s.LabelValueCountByLabelName, &o.LabelValueCountByLabelName},
	} {
		counts := map[string]uint64{}
		for _, list := range pair {
			for _, e := range *list {
				counts[e.Name] += e.Count
			}
		}
		top := topList{n: topN}
		for name, count := range counts {
			top.add(count, name)
		}
		*pair[0] = top.sorted()
	}
}

// topList keeps the n largest entries.
type topList struct {
	n    int
	list []StatusEntry
	full StatusEntry // the smallest entry that still counts, once there are n
}

func compareEntries(a, b StatusEntry) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Name, b.Name))
}

// add takes an entry whose name is made of parts, which are copied only when it may stay.
func (t *topList) add(count uint64, parts ...string) {
	if count < t.full.Count {
		return
	}
	t.list = append(t.list, StatusEntry{Name: strings.Join(append([]string{""}, parts...), ""), Count: count})
	if len(t.list) >= 2*t.n+64 {
		t.cut()
		t.full = t.list[len(t.list)-1]
	}
}

func (t *topList) cut() {
	slices.SortFunc(t.list, compareEntries)
	t.list = t.list[:min(len(t.list), t.n)]
}

func (t *topList) sorted() []StatusEntry {
	t.cut()
	return slices.Clip(t.list)
}

// Status counts the selected series by metric name, label name and label value. It reads no keys: the counts are those of
// postings within the selection.
func (ix *Index) Status(ctx context.Context, q StatusQuery) (_ *Status, err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	q.TopN = max(q.TopN, 1)
	sets, err := compileSets(q.Filters)
	if err != nil {
		return nil, err
	}
	st := ix.acquire()
	defer ix.release(st)
	ids, err := ix.search(ctx, st, &Query{Tenant: q.Tenant, FirstDay: q.FirstDay, LastDay: q.LastDay, Max: q.Max}, sets)
	if err != nil || ids.IsEmpty() {
		return &Status{}, err
	}
	sources, err := st.sources(q.Tenant)
	if err != nil {
		return nil, err
	}
	names, err := allNames(sources)
	if err != nil {
		return nil, err
	}
	s := newStatusCounter(ids, &q)
	for _, name := range names {
		if err := s.count(ctx, sources, name); err != nil {
			return nil, err
		}
	}
	return &Status{
		TotalSeries: ids.GetCardinality(), TotalLabelValuePairs: s.pairs,
		SeriesCountByMetricName: s.metrics.sorted(), SeriesCountByLabelName: s.labels.sorted(),
		SeriesCountByFocusLabelValue: s.focused.sorted(), SeriesCountByLabelValuePair: s.values.sorted(),
		LabelValueCountByLabelName: s.distinct.sorted(),
	}, nil
}

// statusCounter counts series of a selection, label by label.
type statusCounter struct {
	ids   *roaring.Bitmap
	focus string // internal name
	pairs uint64

	hasFocus                                   bool
	metrics, labels, focused, values, distinct topList
}

func newStatusCounter(ids *roaring.Bitmap, q *StatusQuery) *statusCounter {
	s := &statusCounter{ids: ids}
	if q.FocusLabel != "" {
		s.focus, s.hasFocus = internalName(q.FocusLabel)
	}
	for _, t := range [5]*topList{&s.metrics, &s.labels, &s.focused, &s.values, &s.distinct} {
		t.n = q.TopN
	}
	return s
}

// count counts the series that have a label, given its internal name.
func (s *statusCounter) count(ctx context.Context, sources []tenantSource, name string) error {
	m, err := newValueMerge(sources, name)
	if err != nil {
		return err
	}
	series, distinct := uint64(0), uint64(0)
	for ok := m.more(); ok; ok = m.more() {
		if err := m.check(ctx); err != nil {
			return err
		}
		n := uint64(0)
		err := m.pass(func(c mergedCursor) error {
			part, err := c.count(s.ids)
			n += part
			return err
		})
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		series += n
		distinct++
		s.values.add(n, externalName(name), "=", m.value())
		if name == "" {
			s.metrics.add(n, m.value())
		}
		if s.hasFocus && name == s.focus {
			s.focused.add(n, m.value())
		}
	}
	s.pairs += series
	if series > 0 {
		s.labels.add(series, externalName(name))
		s.distinct.add(distinct, externalName(name))
	}
	return nil
}

// allNames returns the sorted internal names of the labels in all sources.
func allNames(sources []tenantSource) ([]string, error) {
	var all []string
	for _, src := range sources {
		names, err := src.labelNames()
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return sortedUnique(all, 0), nil
}
