package apitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// DefaultBase is 2026-11-10T00:00:00Z in Unix milliseconds.
const DefaultBase = 1794268800000

const (
	secondMs = int64(1000)
	dayMs    = 24 * 3600 * secondMs
)

// Target is an empty store under test.
type Target struct {
	Ingester storageapi.Ingester
	Searcher storageapi.Searcher
	Admin    storageapi.Admin   // may be nil
	Catalog  storageapi.Catalog // may be nil: its cases are skipped
	// Base is the start of a day (UTC), in Unix milliseconds, around which the
	// samples lie: from 45 days before to 2 days after. 0 means DefaultBase.
	Base int64
	// Copies is how many nodes keep each series; 0 means 1. Nodes is how many nodes there are; 0 means 1.
	Copies, Nodes int
}

// Run checks the contracts against the stores that factory returns. Every
// call of factory must return a fresh, empty store.
func Run(t *testing.T, factory func(t *testing.T) Target) {
	for _, c := range append(cases(), catalogCases()...) {
		t.Run(c.name, func(t *testing.T) {
			target := factory(t)
			if target.Base == 0 {
				target.Base = DefaultBase
			}
			if target.Base%dayMs != 0 {
				t.Fatalf("Target.Base %d is not the start of a day", target.Base)
			}
			c.run(t, &env{Target: target})
		})
	}
}

type testCase struct {
	name string
	run  func(t *testing.T, e *env)
}

// env is one store under test with helpers.
type env struct {
	Target
}

// sample is a sample whose value compares by its bits.
type sample struct {
	ts   int64
	bits uint64
}

func at(ts int64, value float64) sample { return sample{ts: ts, bits: math.Float64bits(value)} }

// found is a series as a reader sees it.
type found struct {
	key     string
	samples []sample

	histograms []histogram
}

// all covers every timestamp the suite uses.
func (e *env) all() model.TimeRange {
	return model.TimeRange{Min: e.Base - 45*dayMs, Max: e.Base + 2*dayMs - 1}
}

// parseSeries parses name{a=1,b=2}, where the part in braces may be missing.
func parseSeries(t *testing.T, s string) []model.Label {
	t.Helper()
	name, rest, _ := strings.Cut(s, "{")
	var labels []model.Label
	if name != "" {
		labels = append(labels, model.Label{Name: model.MetricNameLabel, Value: name})
	}
	rest = strings.TrimSuffix(rest, "}")
	for pair := range strings.SplitSeq(rest, ",") {
		if pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			t.Fatalf("cannot parse label %q of series %q", pair, s)
		}
		labels = append(labels, model.Label{Name: k, Value: v})
	}
	return labels
}

// filters parses a set of filters such as "a=1", "b!=", "c=~x|y", "d!~z".
func filters(t *testing.T, texts ...string) []model.TagFilter {
	t.Helper()
	set := []model.TagFilter{}
	for _, s := range texts {
		i := strings.IndexAny(s, "!=")
		if i < 0 {
			t.Fatalf("cannot parse filter %q", s)
		}
		f := model.TagFilter{Name: s[:i]}
		switch op := s[i:]; {
		case strings.HasPrefix(op, "!~"):
			f.Op, f.Value = model.NotRegexp, op[2:]
		case strings.HasPrefix(op, "=~"):
			f.Op, f.Value = model.Regexp, op[2:]
		case strings.HasPrefix(op, "!="):
			f.Op, f.Value = model.NotEqual, op[2:]
		default:
			f.Op, f.Value = model.Equal, op[1:]
		}
		set = append(set, f)
	}
	return set
}

// add ingests samples of one series.
func (e *env) add(t *testing.T, tenant model.TenantID, series string, samples ...sample) {
	t.Helper()
	var b model.Batch
	addTo(t, &b, tenant, series, samples...)
	e.ingest(t, &b)
}

func addTo(t *testing.T, b *model.Batch, tenant model.TenantID, series string, samples ...sample) {
	t.Helper()
	if err := b.AddSeries(tenant, parseSeries(t, series)); err != nil {
		t.Fatalf("cannot add series %s: %s", series, err)
	}
	for _, s := range samples {
		b.AddSample(s.ts, math.Float64frombits(s.bits))
	}
}

func (e *env) ingest(t *testing.T, b *model.Batch) {
	t.Helper()
	if err := e.Ingester.Ingest(context.Background(), b); err != nil {
		t.Fatalf("cannot ingest %d rows: %s", b.Rows(), err)
	}
}

// search returns all series with the samples in the range, as a reader sees
// them, and checks what the contract promises about the stream.
func (e *env) search(t *testing.T, q *model.SearchQuery) []found {
	t.Helper()
	out, err := collect(context.Background(), e.Searcher, q)
	if err != nil {
		t.Fatalf("cannot search %v: %s", *q, err)
	}
	return out
}

func collect(ctx context.Context, s storageapi.Searcher, q *model.SearchQuery) ([]found, error) {
	it, err := s.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	defer closeIterator(it)
	var out []found
	previous := ""
	for it.Next() {
		f, err := read(it.At(), q)
		if err != nil {
			return nil, err
		}
		if f.key <= previous {
			return nil, fmt.Errorf("key %q comes after %q: want ascending keys, each once", f.key, previous)
		}
		previous = f.key
		if q.KeysOnly || len(f.samples)+len(f.histograms) > 0 {
			out = append(out, f)
		}
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	if c := it.Coverage(); c.Partial || len(c.Failed) > 0 {
		return nil, fmt.Errorf("coverage is %+v: want a whole answer", c)
	}
	return out, nil
}

// closeIterator closes twice, which must be harmless. The error of closing a
// finished iteration says nothing about the answer.
func closeIterator(it io.Closer) {
	_ = it.Close()
	_ = it.Close()
}

// read merges and cuts the blocks of a series as readers do.
func read(s *storageapi.Series, q *model.SearchQuery) (found, error) {
	f := found{key: string(s.Key)}
	if _, _, err := model.ParseSeriesKey(nil, s.Key); err != nil {
		return f, err
	}
	if q.KeysOnly != (len(s.Blocks) == 0) {
		return f, fmt.Errorf("%d blocks with KeysOnly=%t", len(s.Blocks), q.KeysOnly)
	}
	merged, histograms := map[int64]uint64{}, map[int64]string{}
	for i := range s.Blocks {
		b := &s.Blocks[i]
		if i > 0 && b.MinTimestamp < s.Blocks[i-1].MinTimestamp {
			return f, errors.New("blocks are not ordered by MinTimestamp")
		}
		var err error
		switch {
		case b.Content() != tsblock.Histograms:
			err = mergeBlock(merged, b, q.Range)
		case q.Histograms == model.NoHistograms:
			err = errors.New("native histograms, which were not asked for")
		default:
			err = mergeHistograms(histograms, b, q.Range)
		}
		if err != nil {
			return f, fmt.Errorf("block %d of %s: %w", i, model.SeriesKeyString(s.Key), err)
		}
	}
	for ts, bits := range merged {
		f.samples = append(f.samples, sample{ts, bits})
	}
	for _, ts := range slices.Sorted(maps.Keys(histograms)) {
		f.histograms = append(f.histograms, histogram{ts, histograms[ts]})
	}
	slices.SortFunc(f.samples, func(a, b sample) int { return int(a.ts - b.ts) })
	return f, nil
}

func mergeBlock(merged map[int64]uint64, b *tsblock.Block, r model.TimeRange) error {
	var samples tsblock.Samples
	if err := b.Decode(&samples); err != nil {
		return err
	}
	n := samples.Len()
	if n != b.Count || n < 1 || n > tsblock.MaxSamplesPerBlock {
		return fmt.Errorf("%d samples, Count %d", n, b.Count)
	}
	if samples.Timestamps[0] != b.MinTimestamp || samples.Timestamps[n-1] != b.MaxTimestamp || !slices.IsSorted(samples.Timestamps) {
		return fmt.Errorf("timestamps %d..%d, sorted: %t, differ from header %d..%d",
			samples.Timestamps[0], samples.Timestamps[n-1], slices.IsSorted(samples.Timestamps), b.MinTimestamp, b.MaxTimestamp)
	}
	for i, ts := range samples.Timestamps {
		bits := math.Float64bits(samples.Values[i])
		if old, ok := merged[ts]; r.Contains(ts) && (!ok || stays(bits, old)) {
			merged[ts] = bits
		}
	}
	return nil
}

// keys renders the series of a search, for comparison with literals.
func keys(t *testing.T, results []found) []string {
	t.Helper()
	out := []string{}
	for _, f := range results {
		_, labels, err := model.ParseSeriesKey(nil, []byte(f.key))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.ReplaceAll(model.LabelsString(labels), `"`, ""))
	}
	return out
}

// want fails unless the series that the filter sets select are those given.
func (e *env) want(t *testing.T, sets [][]model.TagFilter, r model.TimeRange, want ...string) {
	t.Helper()
	for _, keysOnly := range []bool{false, true} {
		q := &model.SearchQuery{Range: r, Filters: sets, KeysOnly: keysOnly}
		if got := keys(t, e.search(t, q)); !slices.Equal(got, want) && (!keysOnly || !isSuperset(got, want)) {
			t.Errorf("filters %v in %s, KeysOnly=%t: got series %q; want %q", sets, r, keysOnly, got, want)
		}
	}
}

func isSuperset(got, want []string) bool {
	for _, w := range want {
		if !slices.Contains(got, w) {
			return false
		}
	}
	return true
}

// wantSamples fails unless the only series in range has exactly these samples.
func (e *env) wantSamples(t *testing.T, r model.TimeRange, want ...sample) {
	t.Helper()
	got := e.search(t, &model.SearchQuery{Range: r})
	switch {
	case len(want) == 0 && len(got) == 0:
	case len(got) != 1:
		t.Errorf("%d series in %s; want one with %d samples", len(got), r, len(want))
	case !slices.Equal(got[0].samples, want):
		t.Errorf("samples in %s differ: %s", r, difference(got[0].samples, want))
	}
}

func difference(got, want []sample) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	show := func(s []sample) string {
		if i >= len(s) {
			return "nothing"
		}
		return fmt.Sprintf("%d:%#x", s[i].ts, s[i].bits)
	}
	return fmt.Sprintf("%d samples; want %d; at index %d got %s; want %s", len(got), len(want), i, show(got), show(want))
}

// settle flushes and merges where the store can.
func (e *env) settle(t *testing.T) {
	t.Helper()
	if e.Admin == nil {
		return
	}
	if err := e.Admin.Flush(context.Background()); err != nil {
		t.Fatalf("cannot flush: %s", err)
	}
	if err := e.Admin.Merge(context.Background(), ""); err != nil {
		t.Fatalf("cannot merge: %s", err)
	}
}

// twice runs check on fresh data and again after flush and merge.
func (e *env) twice(t *testing.T, check func()) {
	t.Helper()
	check()
	if e.Admin != nil && !t.Failed() {
		e.settle(t)
		check()
		if t.Failed() {
			t.Log("the answers differ only after flush and merge")
		}
	}
}
