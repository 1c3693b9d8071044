package promqlapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"vmcluster/lib/model"
)

// naive is a Queryable over slices, which shares no code with ours.
type naive struct{ series []*naiveSeries }

// naiveSeries has its samples in the order of time.
type naiveSeries struct {
	key    []byte // of our storage, for the same order
	labels labels.Labels
	times  []int64
	values []float64
}

// add stores samples; a later one of the same time takes the place of an earlier one.
func (n *naive) add(t testing.TB, set map[string]string, times []int64, values []float64) {
	t.Helper()
	var list []model.Label
	for name, value := range set {
		list = append(list, model.Label{Name: name, Value: value})
	}
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, list)
	if err != nil {
		t.Fatal(err)
	}
	i, found := slices.BinarySearchFunc(n.series, key, func(s *naiveSeries, key []byte) int { return bytes.Compare(s.key, key) })
	if !found {
		n.series = slices.Insert(n.series, i, &naiveSeries{key: key, labels: labels.FromMap(set)})
	}
	s := n.series[i]
	for k, at := range times {
		j, found := slices.BinarySearch(s.times, at)
		if !found {
			s.times, s.values = slices.Insert(s.times, j, at), slices.Insert(s.values, j, 0)
		}
		s.values[j] = values[k]
	}
}

func (n *naive) Querier(mint, maxt int64) (storage.Querier, error) {
	return &naiveQuerier{naive: n, mint: mint, maxt: maxt}, nil
}

type naiveQuerier struct {
	*naive
	mint, maxt int64
}

func (q *naiveQuerier) Select(_ context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &naiveSet{next: -1}
	for _, s := range q.series {
		matches := func(m *labels.Matcher) bool { return m.Matches(s.labels.Get(m.Name)) }
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !matches(m) }) {
			continue
		}
		from, _ := slices.BinarySearch(s.times, hints.Start)
		to, _ := slices.BinarySearch(s.times, hints.End+1)
		if to <= from {
			continue
		}
		var list []chunks.Sample
		for i := from; i < to; i++ {
			list = append(list, naiveSample{s.times[i], s.values[i]})
		}
		set.series = append(set.series, storage.NewListSeries(s.labels, list))
	}
	return set
}

func (*naiveQuerier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errLabels
}

func (*naiveQuerier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errLabels
}

func (*naiveQuerier) Close() error { return nil }

type naiveSet struct {
	series []storage.Series
	next   int
}

func (s *naiveSet) Next() bool {
	s.next++
	return s.next < len(s.series)
}
func (s *naiveSet) At() storage.Series              { return s.series[s.next] }
func (*naiveSet) Err() error                        { return nil }
func (*naiveSet) Warnings() annotations.Annotations { return nil }

// naiveSample is a sample in the form of Prometheus.
type naiveSample struct {
	at    int64
	value float64
}

func (s naiveSample) T() int64                    { return s.at }
func (naiveSample) ST() int64                     { return 0 }
func (s naiveSample) F() float64                  { return s.value }
func (naiveSample) H() *histogram.Histogram       { return nil }
func (naiveSample) FH() *histogram.FloatHistogram { return nil }
func (naiveSample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s naiveSample) Copy() chunks.Sample         { return s }

// result evaluates a query over the naive store and returns the JSON of its result, or the error. Step 0 is an instant query.
func (n *naive) result(t testing.TB, h *Handlers, query string, start, end, step int64) (string, error) {
	t.Helper()
	var q promql.Query
	var err error
	if step == 0 {
		q, err = h.engine.NewInstantQuery(t.Context(), n, nil, query, time.UnixMilli(start))
	} else {
		q, err = h.engine.NewRangeQuery(t.Context(), n, nil, query, time.UnixMilli(start), time.UnixMilli(end), time.Duration(step)*time.Millisecond)
	}
	if err != nil {
		return "", err
	}
	defer q.Close()
	res := q.Exec(t.Context())
	if res.Err != nil {
		return "", res.Err
	}
	w := httptest.NewRecorder()
	out := &writer{w: w}
	out.value(res)
	out.flush(0)
	return w.Body.String(), out.err
}

// elements returns the elements of a JSON array in the order of their text, and anything else as it is.
func elements(text string) []string {
	var list []json.RawMessage
	if json.Unmarshal([]byte(text), &list) != nil {
		return []string{text}
	}
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	slices.Sort(out)
	return out
}
