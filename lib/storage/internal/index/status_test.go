package index

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs/memfs"
)

// status counts series by series.
func (n *naive) status(q *StatusQuery) *Status {
	ids := n.search(&Query{Tenant: q.Tenant, Filters: q.Filters, FirstDay: q.FirstDay, LastDay: q.LastDay})
	s := &Status{TotalSeries: uint64(len(ids))}
	metrics, names, focused, pairs, distinct := map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for _, id := range ids {
		_, labels := n.labels(id)
		for name, value := range labels {
			s.TotalLabelValuePairs++
			names[name]++
			if name == model.MetricNameLabel {
				metrics[value]++
			}
			if name == q.FocusLabel {
				focused[value]++
			}
			if pairs[name+"="+value]++; pairs[name+"="+value] == 1 {
				distinct[name]++
			}
		}
	}
	s.SeriesCountByMetricName, s.SeriesCountByLabelName = topOf(metrics, q.TopN), topOf(names, q.TopN)
	s.SeriesCountByFocusLabelValue, s.SeriesCountByLabelValuePair = topOf(focused, q.TopN), topOf(pairs, q.TopN)
	s.LabelValueCountByLabelName = topOf(distinct, q.TopN)
	return s
}

func topOf(counts map[string]uint64, n int) []StatusEntry {
	var list []StatusEntry
	for name := range maps.Keys(counts) {
		list = append(list, StatusEntry{name, counts[name]})
	}
	slices.SortFunc(list, compareEntries)
	return list[:min(n, len(list))]
}

func checkStatus(t *testing.T, ix *Index, n *naive, w *world) {
	t.Helper()
	search := w.query()
	q := StatusQuery{Tenant: search.Tenant, Filters: search.Filters, FirstDay: search.FirstDay, LastDay: search.LastDay, TopN: 1 + w.rng.IntN(20), FocusLabel: w.name()}
	got, err := ix.Status(ctx, q)
	if want := n.status(&q); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Status(%+v) = %+v, %v; want %+v", q, got, err, want)
	}
}

func TestStatusMerge(t *testing.T) {
	a := &Status{TotalSeries: 3, TotalLabelValuePairs: 7, SeriesCountByLabelName: []StatusEntry{{"x", 5}, {"y", 2}}}
	b := &Status{TotalSeries: 2, TotalLabelValuePairs: 4, SeriesCountByLabelName: []StatusEntry{{"y", 4}, {"a", 1}}}
	a.Merge(b, 2)
	if a.TotalSeries != 5 || a.TotalLabelValuePairs != 11 || !slices.Equal(a.SeriesCountByLabelName, []StatusEntry{{"y", 6}, {"x", 5}}) {
		t.Errorf("merged into %+v", a)
	}
}

// TestTopListKeepsTheLargest has more entries than the list keeps, many of them equal.
func TestTopListKeepsTheLargest(t *testing.T) {
	counts := map[string]uint64{}
	top := topList{n: 5}
	for i := range 3000 {
		name := string([]byte{byte('a' + i%26), byte('a' + i/26%26), byte('a' + i/676)})
		counts[name] = uint64(i % 7)
		top.add(counts[name], name[:1], name[1:])
	}
	if got, want := top.sorted(), topOf(counts, 5); !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestCanceled(t *testing.T) {
	ix := goldenIndex(t, memfs.New(memfs.Options{}))
	gone, cancel := context.WithCancel(ctx)
	cancel()
	q := Query{LastDay: 30000, Filters: [][]model.TagFilter{{{Name: "instance", Value: ".*1.*", Op: model.Regexp}}}}
	_, searchErr := ix.Search(gone, q)
	_, namesErr := ix.LabelNames(gone, q, 0)
	_, valuesErr := ix.LabelValues(gone, q, "instance", 0)
	_, statusErr := ix.Status(gone, StatusQuery{LastDay: 30000})
	for _, err := range []error{searchErr, namesErr, valuesErr, statusErr, ix.Merge(gone)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v; want that of the context", err)
		}
	}
	closed(t, ix)
}
