package exemplars

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

const (
	// maxPerSeries is how many exemplars a series may have; the oldest ones leave.
	maxPerSeries = 10_000
	// What an exemplar and a series take in memory besides their texts, roughly.
	itemOverhead   = 80
	seriesOverhead = 250
)

// index is what is in memory. It is not safe for concurrent use.
type index struct {
	metrics map[string]map[string]*series // by tenant and metric name, then by series key
	series  int
	items   int
	bytes   int64
}

// series is the exemplars of one series.
type series struct {
	key   []byte
	items []item // ascending, all different
}

// item is an exemplar and where it is on disk.
type item struct {
	model.Exemplar
	segment uint64
}

func newIndex() *index { return &index{metrics: map[string]map[string]*series{}} }

func (x *index) find(key []byte) *series {
	return x.metrics[string(model.MetricOfKey(key))][string(key)]
}

// place returns where the exemplar belongs; false when it is there, or older than all of a series which has enough.
func (s *series) place(e *model.Exemplar) (at int, wanted bool) {
	at, found := slices.BinarySearchFunc(s.items, e, func(it item, e *model.Exemplar) int { return it.Compare(e) })
	return at, !found && (at > 0 || len(s.items) < maxPerSeries)
}

// wants reports whether add would keep the exemplar.
func (x *index) wants(e *model.Exemplar) bool {
	s := x.find(e.Series)
	if s == nil {
		return true
	}
	_, wanted := s.place(e)
	return wanted
}

// add keeps an exemplar, whose bytes it copies, and reports whether it did.
func (x *index) add(e *model.Exemplar, segment uint64) bool {
	s := x.find(e.Series)
	if s == nil {
		s = x.newSeries(e.Series)
	}
	at, wanted := s.place(e)
	if !wanted {
		return false
	}
	if len(s.items) >= maxPerSeries {
		x.forget(&s.items[0])
		s.items = slices.Delete(s.items, 0, 1)
		at--
	}
	kept := *e
	kept.Series, kept.Labels = s.key, slices.Clone(e.Labels)
	s.items = slices.Insert(s.items, at, item{kept, segment})
	x.items++
	x.bytes += itemOverhead + int64(len(e.Labels))
	return true
}

func (x *index) newSeries(key []byte) *series {
	s := &series{key: slices.Clone(key)}
	metric := string(model.MetricOfKey(key))
	if x.metrics[metric] == nil {
		x.metrics[metric] = map[string]*series{}
	}
	x.metrics[metric][string(key)] = s
	x.series++
	x.bytes += seriesOverhead + int64(len(key))
	return s
}

func (x *index) forget(it *item) {
	x.items--
	x.bytes -= itemOverhead + int64(len(it.Labels))
}

// within returns where the exemplars of a range begin and end.
func (s *series) within(r model.TimeRange) (from, to int) {
	from, _ = slices.BinarySearchFunc(s.items, r.Min, func(it item, t int64) int { return cmp.Compare(it.Timestamp, t) })
	n, _ := slices.BinarySearchFunc(s.items[from:], r.Max, func(it item, t int64) int { // no time compares as equal: the end of those at r.Max
		if it.Timestamp <= t {
			return -1
		}
		return 1
	})
	return from, from + n
}

// remove drops a series and all it has, if it is there.
func (x *index) remove(key []byte) {
	if s := x.find(key); s != nil {
		x.keep(s, func(*item) bool { return false })
	}
}

// evict drops what is in a segment and returns how many exemplars that were.
func (x *index) evict(segment uint64) int {
	before := x.items
	for _, list := range x.metrics {
		for _, s := range list {
			x.keep(s, func(it *item) bool { return it.segment != segment })
		}
	}
	return before - x.items
}

// keep drops the exemplars of a series that are not to be kept, and the series when none is left.
func (x *index) keep(s *series, kept func(*item) bool) {
	s.items = slices.DeleteFunc(s.items, func(it item) bool {
		if kept(&it) {
			return false
		}
		x.forget(&it)
		return true
	})
	if len(s.items) > 0 {
		return
	}
	metric := string(model.MetricOfKey(s.key))
	delete(x.metrics[metric], string(s.key))
	if len(x.metrics[metric]) == 0 {
		delete(x.metrics, metric)
	}
	x.series--
	x.bytes -= seriesOverhead + int64(len(s.key))
}

// selector finds the series that pass all filters of at least one set.
type selector struct {
	tenant string // as keys begin
	sets   [][]*model.Matcher
	labels []model.Label // scratch
}

func newSelector(q *model.SearchQuery) (*selector, error) {
	s := &selector{tenant: string(q.Tenant.AppendTo(nil))}
	for _, set := range q.Filters {
		var matchers []*model.Matcher
		for _, f := range set {
			m, err := f.Compile()
			if err != nil {
				return nil, err
			}
			matchers = append(matchers, m)
		}
		s.sets = append(s.sets, matchers)
	}
	if len(s.sets) == 0 {
		s.sets = [][]*model.Matcher{nil}
	}
	return s, nil
}

// walk calls use for each series found, in no order, until it returns an error.
func (x *index) walk(ctx context.Context, q *model.SearchQuery, use func(*series) error) error {
	sel, err := newSelector(q)
	if err != nil {
		return err
	}
	for metric, list := range x.metrics {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !strings.HasPrefix(metric, sel.tenant) {
			continue
		}
		possible := sel.ofMetric(metric)
		if len(possible) == 0 {
			continue
		}
		for _, s := range list {
			if !sel.selects(s.key, possible) {
				continue
			}
			if err := use(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofMetric returns the sets which a metric, given as tenant and name, may pass.
func (s *selector) ofMetric(metric string) [][]*model.Matcher {
	_, labels, err := model.ParseSeriesKey(s.labels[:0], []byte(metric))
	if err != nil {
		return nil
	}
	s.labels = labels
	return slices.DeleteFunc(slices.Clone(s.sets), func(set []*model.Matcher) bool {
		return slices.ContainsFunc(set, func(m *model.Matcher) bool {
			return m.Filter().Name == model.MetricNameLabel && !m.Match(valueOf(s.labels, model.MetricNameLabel))
		})
	})
}

// selects reports whether a series passes one of the sets.
func (s *selector) selects(key []byte, sets [][]*model.Matcher) bool {
	_, labels, err := model.ParseSeriesKey(s.labels[:0], key)
	if err != nil {
		return false
	}
	s.labels = labels
	return slices.ContainsFunc(sets, func(set []*model.Matcher) bool {
		return !slices.ContainsFunc(set, func(m *model.Matcher) bool { return !m.Match(valueOf(labels, m.Filter().Name)) })
	})
}

func valueOf(labels []model.Label, name string) string {
	for i := range labels {
		if labels[i].Name == name {
			return labels[i].Value
		}
	}
	return ""
}

// search returns the exemplars that q asks for, by series key and time.
func (x *index) search(ctx context.Context, q *storageapi.ExemplarQuery) ([]model.Exemplar, error) {
	var found [][]item
	n := 0
	err := x.walk(ctx, &q.Search, func(s *series) error {
		from, to := s.within(q.Search.Range)
		if from >= to {
			return nil
		}
		if n += to - from; q.Limit > 0 && n > q.Limit {
			return storageapi.TooManyExemplars(q.Limit)
		}
		found = append(found, s.items[from:to])
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b []item) int { return slices.Compare(a[0].Series, b[0].Series) })
	out := make([]model.Exemplar, 0, n)
	for _, items := range found {
		for i := range items {
			out = append(out, items[i].Exemplar)
		}
	}
	return out, nil
}
