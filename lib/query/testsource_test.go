package query

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// memSource is a Source over series in memory.
type memSource struct {
	keys   [][]byte
	series map[string]*RawSeries
	calls  int
}

func newMemSource() *memSource { return &memSource{series: map[string]*RawSeries{}} }

// add appends samples to a series. A sample at the time of an earlier one replaces it.
func (m *memSource) add(labels map[string]string, times []int64, values []float64) {
	var list []model.Label
	for name, value := range labels {
		list = append(list, model.Label{Name: name, Value: value})
	}
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, list)
	if err != nil {
		panic(err)
	}
	s := m.series[string(key)]
	if s == nil {
		_, parsed, err := model.ParseSeriesKey(nil, key)
		if err != nil {
			panic(err)
		}
		s = &RawSeries{Labels: parsed}
		m.series[string(key)] = s
		i, _ := slices.BinarySearchFunc(m.keys, key, bytes.Compare)
		m.keys = slices.Insert(m.keys, i, key)
	}
	for i, t := range times {
		k, found := slices.BinarySearch(s.Timestamps, t)
		if found {
			s.Values[k] = values[i]
			continue
		}
		s.Timestamps = slices.Insert(s.Timestamps, k, t)
		s.Values = slices.Insert(s.Values, k, values[i])
	}
}

func (m *memSource) Select(_ context.Context, q *model.SearchQuery) (SeriesIterator, error) {
	m.calls++
	match, err := matcher(q.Filters)
	if err != nil {
		return nil, err
	}
	it := &memIterator{}
	for _, key := range m.keys {
		s := m.series[string(key)]
		if !match(s.Labels) {
			continue
		}
		if c := clip(s, q.Range); len(c.Timestamps) > 0 {
			it.series = append(it.series, c)
		}
	}
	return it, nil
}

// matcher returns the meaning of filter sets.
func matcher(sets [][]model.TagFilter) (func([]model.Label) bool, error) {
	type test struct {
		f  model.TagFilter
		re *regexp.Regexp
	}
	var compiled [][]test
	for _, set := range sets {
		var tests []test
		for _, f := range set {
			t := test{f: f}
			if f.Op == model.Regexp || f.Op == model.NotRegexp {
				re, err := regexp.Compile("^(?s:" + f.Value + ")$")
				if err != nil {
					return nil, errkind.New(errkind.BadRequest, "cannot compile filter %s: %w", f, err)
				}
				t.re = re
			}
			tests = append(tests, t)
		}
		compiled = append(compiled, tests)
	}
	passes := func(t test, labels []model.Label) bool {
		value := ""
		for _, l := range labels {
			if l.Name == t.f.Name {
				value = l.Value
			}
		}
		switch t.f.Op {
		case model.Equal:
			return value == t.f.Value
		case model.NotEqual:
			return value != t.f.Value
		case model.Regexp:
			return t.re.MatchString(value)
		}
		return !t.re.MatchString(value)
	}
	return func(labels []model.Label) bool {
		if len(compiled) == 0 {
			return true
		}
		return slices.ContainsFunc(compiled, func(tests []test) bool {
			return !slices.ContainsFunc(tests, func(t test) bool { return !passes(t, labels) })
		})
	}, nil
}

// Reading implements Source.
func (m *memSource) Reading() Reading { return Reading{KeepNaN: true} }

// memIterator hands out copies which it spoils on Next, as a real source reuses its memory.
type memIterator struct {
	series  []*RawSeries
	next    int
	buf     []byte
	current EncodedSeries
}

func (it *memIterator) Next() bool {
	for i := range it.buf {
		it.buf[i] = 0xaa
	}
	if it.next >= len(it.series) {
		return false
	}
	s := it.series[it.next]
	it.next++
	var err error
	if it.current.Key, err = model.AppendSeriesKey(it.current.Key[:0], model.TenantID{}, slices.Clone(s.Labels)); err != nil {
		panic(err)
	}
	it.buf, it.current.Blocks = encodeBlocks(it.buf[:0], s)
	return true
}

// encodeBlocks cuts a series into a few blocks.
func encodeBlocks(buf []byte, s *RawSeries) ([]byte, []tsblock.Block) {
	const perBlock = 100
	var blocks []tsblock.Block
	buf = slices.Grow(buf, 32*len(s.Values)+1024)
	for start := 0; start < len(s.Values); start += perBlock {
		end := min(start+perBlock, len(s.Values))
		var b tsblock.Block
		buf, b = tsblock.AppendEncode(buf, &tsblock.Samples{Timestamps: s.Timestamps[start:end], Values: s.Values[start:end]})
		blocks = append(blocks, b)
	}
	return buf, blocks
}

// clip returns s with the samples in r only.
func clip(s *RawSeries, r model.TimeRange) *RawSeries {
	i, _ := slices.BinarySearch(s.Timestamps, r.Min)
	j, found := slices.BinarySearch(s.Timestamps, r.Max)
	if found {
		j++
	}
	j = max(i, j)
	return &RawSeries{Labels: s.Labels, Timestamps: s.Timestamps[i:j], Values: s.Values[i:j]}
}

func (it *memIterator) At() *EncodedSeries { return &it.current }
func (it *memIterator) Err() error         { return nil }
func (it *memIterator) Partial() bool      { return false }
func (it *memIterator) Close() error       { return nil }

// testEngine returns an engine with the default configuration, changed by the given flags.
func testEngine(t testing.TB, s Source, flags ...string) *Engine {
	t.Helper()
	cfg := &Config{}
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	cfg.RegisterFlags(fs)
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	budget := memory.NewBudget(1 << 30)
	t.Cleanup(func() {
		if used := budget.Used(); used != 0 {
			t.Errorf("%d bytes of the memory budget were not released", used)
		}
	})
	return New(cfg, Options{Source: s, Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: budget, Now: testNow})
}

// testNow is long after all test data.
func testNow() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

func (r *Result) String() string {
	var b bytes.Buffer
	for _, s := range r.Series {
		fmt.Fprintf(&b, "%s", model.LabelsString(s.Labels))
		for i, v := range s.Values {
			fmt.Fprintf(&b, " %d:%.10g", s.Timestamps[i], v)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
