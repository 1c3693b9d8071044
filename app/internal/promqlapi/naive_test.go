package promqlapi

import (
	"bytes"
	"cmp"
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
	key     []byte // of our storage, for the same order
	labels  labels.Labels
	samples []naiveSample
}

// add stores samples; a later one of the same time takes the place of an earlier one.
func (n *naive) add(t testing.TB, set map[string]string, times []int64, values []float64) {
	t.Helper()
	samples := make([]naiveSample, len(times))
	for i, at := range times {
		samples[i] = naiveSample{at: at, value: values[i]}
	}
	n.put(t, set, samples)
}

// put stores samples and native histograms.
func (n *naive) put(t testing.TB, set map[string]string, samples []naiveSample) {
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
	for _, sample := range samples {
		j := s.from(sample.at)
		if j == len(s.samples) || s.samples[j].at != sample.at {
			s.samples = slices.Insert(s.samples, j, sample)
		}
		s.samples[j] = sample
	}
}

// from returns the index of the first sample at a time or later.
func (s *naiveSeries) from(at int64) int {
	i, _ := slices.BinarySearchFunc(s.samples, at, func(s naiveSample, at int64) int { return cmp.Compare(s.at, at) })
	return i
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
		from, to := s.from(hints.Start), s.from(hints.End+1)
		if to <= from {
			continue
		}
		var list []chunks.Sample
		for _, sample := range s.samples[from:to] {
			list = append(list, sample)
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
	h     *histogram.FloatHistogram // nil: the sample is a number
	bytes []byte                    // its payload; nil: that of h
}

func (s naiveSample) T() int64              { return s.at }
func (naiveSample) ST() int64               { return 0 }
func (s naiveSample) F() float64            { return s.value }
func (naiveSample) H() *histogram.Histogram { return nil }
func (s naiveSample) Copy() chunks.Sample   { return s }

// FH returns a copy, which the engine may change.
func (s naiveSample) FH() *histogram.FloatHistogram { return s.h.Copy() }

func (s naiveSample) Type() chunkenc.ValueType {
	if s.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

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
