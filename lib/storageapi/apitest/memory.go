package apitest

import (
	"cmp"
	"context"
	"maps"
	"math"
	"regexp"
	"slices"
	"sync"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

var (
	_ storageapi.Ingester = (*Memory)(nil)
	_ storageapi.Searcher = (*Memory)(nil)
	_ storageapi.Admin    = (*Memory)(nil)
)

// Memory is a store which keeps every sample in a map and answers by looking
// at all of them. It is the model the suite compares others with, and the
// backend for tests of RPC, router and gather. It is safe for concurrent use.
type Memory struct {
	mu struct {
		sync.RWMutex
		series    map[string]*memorySeries
		usage     map[usageKey]storageapi.Usage
		since     int64
		described []model.Metadata // the newest last
		exemplars []model.Exemplar
	}
}

type memorySeries struct {
	tenant  model.TenantID
	labels  []model.Label
	samples map[int64]uint64 // timestamp -> bits of the value

	histograms map[int64]string // timestamp -> payload
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	m := &Memory{}
	m.mu.series = map[string]*memorySeries{}
	m.mu.usage = map[usageKey]storageapi.Usage{}
	m.mu.since = time.Now().Unix()
	return m
}

// Ingest stores all samples of the batch.
func (m *Memory) Ingest(ctx context.Context, batch *model.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range batch.Len() {
		s, err := m.seriesLocked(batch.Key(i))
		if err != nil {
			return err
		}
		for _, sample := range batch.Samples(i) {
			bits := math.Float64bits(sample.Value)
			if old, ok := s.samples[sample.Timestamp]; !ok || stays(bits, old) {
				s.samples[sample.Timestamp] = bits
			}
		}
		for _, h := range batch.AppendHistograms(nil, i) {
			s.addHistogram(h)
		}
	}
	return nil
}

func (m *Memory) seriesLocked(key []byte) (*memorySeries, error) {
	if s := m.mu.series[string(key)]; s != nil {
		return s, nil
	}
	own := string(key)
	tenant, labels, err := model.ParseSeriesKey(nil, []byte(own))
	if err != nil {
		return nil, err
	}
	s := &memorySeries{tenant: tenant, labels: labels, samples: map[int64]uint64{}, histograms: map[int64]string{}}
	m.mu.series[own] = s
	return s, nil
}

// stays reports whether of two values with bits a and b at the same timestamp
// a is the one that stays: numbers before NaN, NaN before the stale
// marker, then the larger number, then the larger bits.
func stays(a, b uint64) bool {
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c > 0
	}
	if x, y := math.Float64frombits(a), math.Float64frombits(b); rank(a) == 2 && x != y {
		return x > y
	}
	return a > b
}

const staleMarker = 0x7ff0000000000002

func rank(bits uint64) int {
	switch v := math.Float64frombits(bits); {
	case bits == staleMarker:
		return 0
	case v != v:
		return 1
	}
	return 2
}

// Rows returns the number of samples the store holds, native histograms among them.
func (m *Memory) Rows() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := 0
	for _, s := range m.mu.series {
		n += len(s.samples) + len(s.histograms)
	}
	return n
}

// Flush does nothing: samples are visible at once.
func (m *Memory) Flush(ctx context.Context) error { return ctx.Err() }

// Merge does nothing: samples are merged as they come.
func (m *Memory) Merge(ctx context.Context, _ string) error { return ctx.Err() }

// Search returns the selected series with their samples cut to the range.
func (m *Memory) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys, err := m.selectLocked(ctx, q)
	if err != nil {
		return nil, err
	}
	if !q.KeysOnly {
		m.noteLocked(q, keys)
	}
	if q.MaxSeries > 0 && len(keys) > q.MaxSeries {
		return nil, errkind.New(errkind.Unprocessable, "cannot return more than %d series: %d match; narrow the filters or the time range", q.MaxSeries, len(keys))
	}
	it := &memoryIterator{ctx: ctx, at: -1}
	for _, key := range keys {
		s := memoryResult{key: []byte(key)}
		if !q.KeysOnly {
			s.samples = m.mu.series[key].cut(q.Range)
		}
		if q.Histograms != model.NoHistograms && !q.KeysOnly {
			s.histograms = m.mu.series[key].cutHistograms(q.Range)
		}
		if q.KeysOnly || s.samples.Len()+s.histograms.Len() > 0 {
			it.results = append(it.results, s)
		}
	}
	return it, nil
}

// cut returns the samples within r by ascending time.
func (s *memorySeries) cut(r model.TimeRange) tsblock.Samples {
	var out tsblock.Samples
	for _, ts := range slices.Sorted(maps.Keys(s.samples)) {
		if r.Contains(ts) {
			out.Append(ts, math.Float64frombits(s.samples[ts]))
		}
	}
	return out
}

// selectLocked returns the sorted keys of the series that q selects.
func (m *Memory) selectLocked(ctx context.Context, q *model.SearchQuery) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sets, err := compile(q.Filters)
	if err != nil {
		return nil, err
	}
	var keys []string
	for key, s := range m.mu.series {
		if s.tenant == q.Tenant && s.isIn(q, sets) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// isIn reports whether q, whose filters are the sets, selects the series.
func (s *memorySeries) isIn(q *model.SearchQuery, sets [][]compiledFilter) bool {
	hasHistograms := hasIn(s.histograms, q.Range)
	if matchesAny(sets, s.labels) {
		return hasHistograms || hasIn(s.samples, q.Range)
	}
	return hasHistograms && q.Histograms == model.HistogramParts && !q.KeysOnly && s.hasPartIn(sets)
}

func hasIn[V any](samples map[int64]V, r model.TimeRange) bool {
	for ts := range samples {
		if r.Contains(ts) {
			return true
		}
	}
	return false
}

type compiledFilter struct {
	model.TagFilter
	re *regexp.Regexp
}

func compile(sets [][]model.TagFilter) ([][]compiledFilter, error) {
	var out [][]compiledFilter
	for _, set := range sets {
		compiled := []compiledFilter{}
		for _, f := range set {
			c, err := compileFilter(f)
			if err != nil {
				return nil, err
			}
			compiled = append(compiled, c)
		}
		out = append(out, compiled)
	}
	return out, nil
}

func compileFilter(f model.TagFilter) (compiledFilter, error) {
	c := compiledFilter{TagFilter: f}
	if f.Op != model.Regexp && f.Op != model.NotRegexp {
		return c, nil
	}
	var err error
	if c.re, err = regexp.Compile("^(?s:" + f.Value + ")$"); err != nil {
		return c, errkind.New(errkind.BadRequest, "cannot parse regular expression of filter %s: %w", f, err)
	}
	return c, nil
}

func matchesAny(sets [][]compiledFilter, labels []model.Label) bool {
	if len(sets) == 0 {
		return true
	}
	for _, set := range sets {
		if !slices.ContainsFunc(set, func(f compiledFilter) bool { return !f.matches(labels) }) {
			return true
		}
	}
	return false
}

func (f *compiledFilter) matches(labels []model.Label) bool {
	value := ""
	for _, l := range labels {
		if l.Name == f.Name {
			value = l.Value
		}
	}
	switch f.Op {
	case model.Equal:
		return value == f.Value
	case model.NotEqual:
		return value != f.Value
	case model.Regexp:
		return f.re.MatchString(value)
	}
	return !f.re.MatchString(value)
}

// LabelNames returns the sorted names of the labels of the selected series.
func (m *Memory) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	return m.collect(ctx, q, limit, func(l model.Label) (string, bool) { return l.Name, true })
}

// LabelValues returns the sorted values of one label of the selected series.
func (m *Memory) LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (storageapi.Strings, error) {
	return m.collect(ctx, q, limit, func(l model.Label) (string, bool) { return l.Value, l.Name == label })
}

func (m *Memory) collect(ctx context.Context, q *model.SearchQuery, limit int, pick func(model.Label) (string, bool)) (storageapi.Strings, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	keys, err := m.selectLocked(ctx, q)
	if err != nil {
		return storageapi.Strings{}, err
	}
	found := map[string]bool{}
	for _, key := range keys {
		for _, l := range m.mu.series[key].labels {
			if s, ok := pick(l); ok {
				found[s] = true
			}
		}
	}
	values := slices.Sorted(maps.Keys(found))
	if limit > 0 && len(values) > limit {
		values = values[:limit]
	}
	return storageapi.Strings{Values: values}, nil
}

// Tenants returns the sorted tenants which have samples in the months of r.
func (m *Memory) Tenants(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	if err := ctx.Err(); err != nil {
		return storageapi.Tenants{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	found := map[model.TenantID]bool{}
	for _, s := range m.mu.series {
		for _, ts := range slices.AppendSeq(slices.Collect(maps.Keys(s.samples)), maps.Keys(s.histograms)) {
			if month(r.Min) <= month(ts) && month(ts) <= month(r.Max) {
				found[s.tenant] = true
				break
			}
		}
	}
	return storageapi.Tenants{Values: slices.SortedFunc(maps.Keys(found), model.TenantID.Compare)}, nil
}

type memoryResult struct {
	key     []byte
	samples tsblock.Samples

	histograms tsblock.HistogramSamples
}

type memoryIterator struct {
	ctx     context.Context
	results []memoryResult
	at      int
	err     error
	current storageapi.Series
}

func (it *memoryIterator) Next() bool {
	if it.err == nil {
		it.err = it.ctx.Err()
	}
	if it.err != nil || it.at+1 >= len(it.results) {
		return false
	}
	it.at++
	r := &it.results[it.at]
	it.current = storageapi.Series{Key: r.key}
	var e tsblock.Encoder
	it.current.Blocks, _ = e.AppendBlocks(nil, nil, &r.samples)
	it.current.Blocks, _ = e.AppendHistogramBlocks(it.current.Blocks, nil, &r.histograms)
	tsblock.SortBlocks(it.current.Blocks)
	return true
}

func (it *memoryIterator) At() *storageapi.Series        { return &it.current }
func (it *memoryIterator) Err() error                    { return it.err }
func (it *memoryIterator) Coverage() storageapi.Coverage { return storageapi.Coverage{} }

func (it *memoryIterator) Close() error {
	it.results, it.current = nil, storageapi.Series{}
	return nil
}

// month numbers the month (UTC) of a Unix time in milliseconds.
func month(ms int64) int64 {
	t := time.UnixMilli(ms).UTC()
	return int64(t.Year())*12 + int64(t.Month())
}
