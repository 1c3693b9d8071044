package promqlapi

import (
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"vmcluster/app/internal/held"
	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/trace"
)

// run is one query while the engine evaluates it, which it does on one goroutine.
type run struct {
	h        *Handlers
	call     *selectapi.Call
	lookback int64 // milliseconds

	sets    map[string]*held.Set // by what was asked for; selectors may occur more than once
	samples int                  // decoded so far
	bytes   int64                // reserved besides those of the sets
	inSets  int64                // bytes
}

// release gives back all memory. The query has ended.
func (r *run) release() {
	for _, s := range r.sets {
		s.Release()
	}
	r.h.o.Budget.Release(r.bytes)
}

// figures tells what has been read.
func (r *run) figures() *query.Result {
	read := &query.Result{SamplesRead: r.samples, MemoryBytes: r.inSets + r.bytes}
	for _, s := range r.sets {
		read.SeriesFetched += s.Len()
	}
	return read
}

func (r *run) reserve(n int64) error {
	limit := r.h.memoryPerQuery()
	if r.inSets+r.bytes+n > limit {
		return errkind.New(errkind.Unprocessable, "cannot use more than %d bytes of memory for one query (%d are in use, %d more are needed); select fewer series, shorten the range, or raise -search.maxMemoryPerQuery",
			limit, r.inSets+r.bytes, n)
	}
	if err := r.h.o.Budget.ReserveMore(n, r.inSets+r.bytes, "a PromQL query"); err != nil {
		return err
	}
	r.bytes += n
	return nil
}

// count checks the limits for n more samples of a series.
func (r *run) count(n int) error {
	c := r.h.o.Limits
	r.samples += n
	if c.MaxSamplesPerSeries > 0 && n > c.MaxSamplesPerSeries {
		return errkind.New(errkind.Unprocessable, "cannot read %d samples of one series: at most %d are allowed; shorten the range or the window, or raise -search.maxSamplesPerSeries", n, c.MaxSamplesPerSeries)
	}
	if c.MaxSamplesPerQuery > 0 && r.samples > c.MaxSamplesPerQuery {
		return errkind.New(errkind.Unprocessable, "cannot read more than %d samples in one query; select fewer series, shorten the range or the window, or raise -search.maxSamplesPerQuery", c.MaxSamplesPerQuery)
	}
	return nil
}

// Querier implements storage.Queryable.
func (r *run) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{run: r, all: model.TimeRange{Min: mint, Max: maxt}}, nil
}

// querier is the engine's view of the series of one tenant.
type querier struct {
	run *run
	all model.TimeRange
}

// Select implements storage.Querier. The search begins when the engine asks for the first series.
func (q *querier) Select(ctx context.Context, sortSeries bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	s := &seriesSet{run: q.run, ctx: ctx, matchers: matchers, sorted: sortSeries, r: q.all, next: -1}
	if hints != nil {
		s.r, s.step = model.TimeRange{Min: hints.Start, Max: hints.End}, hints.Step
		s.newest = q.run.newestIsEnough(hints)
	}
	return s
}

// newestIsEnough reports whether the engine looks at the last sample of each series only: a plain selector evaluated once.
func (r *run) newestIsEnough(hints *storage.SelectHints) bool {
	return hints.Range == 0 && hints.End-hints.Start < r.lookback &&
		r.h.o.Reading.DedupIntervalMs <= 1 // else all nodes settle together which sample of an interval counts
}

// LabelValues implements storage.Querier. The engine never asks; the routes of labels do not come by here.
func (*querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errLabels
}

// LabelNames implements storage.Querier, as LabelValues does.
func (*querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errLabels
}

var errLabels = errkind.New(errkind.Unsupported, "cannot list labels within a query")

// Close implements storage.Querier. Results are read after it, so memory is given back by release.
func (*querier) Close() error { return nil }

// seriesSet is what one selector finds.
type seriesSet struct {
	run      *run
	ctx      context.Context // of the query, which the interface of the engine passes only here
	matchers []*labels.Matcher
	r        model.TimeRange
	step     int64 // milliseconds; 0 for one time
	sorted   bool
	newest   bool

	set     *held.Set
	next    int
	builder labels.ScratchBuilder
	scratch []model.Label
	current *series
	err     error
}

// Next implements storage.SeriesSet.
func (s *seriesSet) Next() bool {
	if s.err != nil {
		return false
	}
	if s.set == nil {
		if s.set, s.err = s.find(); s.err == nil {
			s.err = s.run.reserve(int64(s.set.Len()) * s.bytesPerSeries())
		}
		if s.err != nil {
			return false
		}
	}
	if s.next++; s.next >= s.set.Len() {
		return false
	}
	if s.scratch, s.err = held.AppendLabels(s.scratch[:0], s.set.Key(s.next)); s.err != nil {
		return false
	}
	s.builder.Reset()
	for _, l := range s.scratch {
		s.builder.Add(l.Name, l.Value)
	}
	s.current = &series{run: s.run, ctx: s.ctx, r: s.r, set: s.set, index: s.next, points: s.points(), labels: s.builder.Labels()}
	return true
}

// At implements storage.SeriesSet.
func (s *seriesSet) At() storage.Series { return s.current }

// Err implements storage.SeriesSet.
func (s *seriesSet) Err() error { return s.err }

// Warnings implements storage.SeriesSet. What is missing from an answer is said once, when it is whole.
func (*seriesSet) Warnings() annotations.Annotations { return nil }

// find returns the series, from storage or from an equal selector.
func (s *seriesSet) find() (*held.Set, error) {
	q, err := s.searchQuery()
	if err != nil {
		return nil, err
	}
	key := searchKey(q, s.sorted)
	if set := s.run.sets[key]; set != nil {
		trace.From(s.ctx).Begin("use the %d series of an equal selector", set.Len()).End("")
		return set, nil
	}
	o := s.run.h.o
	it, err := s.run.call.Search(s.ctx, q)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := it.Close(); err != nil {
			o.Logger.Warnf("cannot close the search: %s", err)
		}
	}()
	ho := held.Options{Budget: o.Budget, What: "the series of a PromQL query", MaxSeries: o.Limits.MaxUniqueSeries}
	ho.MaxBytes = max(1, s.run.h.memoryPerQuery()-s.run.inSets-s.run.bytes)
	set, err := held.Collect(it, ho)
	if err != nil {
		return nil, err
	}
	s.run.sets[key] = set
	s.run.inSets += set.Bytes()
	if s.sorted {
		err = set.SortByLabels()
	}
	return set, err
}

// seriesBytes is what the engine keeps of a series besides its points, roughly.
const seriesBytes = 512

// bytesPerSeries returns what the engine takes for each series of the selector: what is done first with a selector makes a point of each
// series at each time, all of which the engine holds before it aggregates them.
func (s *seriesSet) bytesPerSeries() int64 {
	return seriesBytes + s.points()*iteratorBytes
}

// points returns how many points the engine makes of a series at most.
func (s *seriesSet) points() int64 {
	if s.step > 0 {
		return 1 + (s.r.Max-s.r.Min)/s.step
	}
	return 1
}

// memoryPerQuery returns how many bytes a query may reserve.
func (h *Handlers) memoryPerQuery() int64 {
	if limit := int64(h.o.Limits.MaxMemoryPerQuery); limit > 0 {
		return limit
	}
	return h.o.Budget.Limit() / 2
}

func (s *seriesSet) searchQuery() (*model.SearchQuery, error) {
	filters, err := s.run.call.Filters(filtersOf(s.matchers))
	if err != nil {
		return nil, err
	}
	q := &model.SearchQuery{Range: s.r, Filters: filters, MaxSeries: s.run.h.o.Limits.MaxUniqueSeries, Histograms: model.WithHistograms}
	if s.newest {
		q.Detail = model.NewestSample
	}
	return q, nil
}

// filtersOf returns what a selector of PromQL asks for.
func filtersOf(matchers []*labels.Matcher) []model.TagFilter {
	selector := make([]model.TagFilter, 0, len(matchers))
	for _, m := range matchers {
		selector = append(selector, model.TagFilter{Name: m.Name, Value: m.Value, Op: filterOp(m.Type)})
	}
	return selector
}

func filterOp(t labels.MatchType) model.FilterOp {
	switch t {
	case labels.MatchNotEqual:
		return model.NotEqual
	case labels.MatchRegexp:
		return model.Regexp
	case labels.MatchNotRegexp:
		return model.NotRegexp
	}
	return model.Equal
}

// searchKey tells searches of one query apart.
func searchKey(q *model.SearchQuery, sorted bool) string {
	b := strconv.AppendInt(nil, q.Range.Min, 10)
	b = strconv.AppendInt(append(b, ' '), q.Range.Max, 10)
	b = strconv.AppendInt(append(b, ' '), int64(q.Detail), 10)
	b = strconv.AppendBool(append(b, ' '), sorted)
	for _, set := range q.Filters {
		b = append(b, '{')
		for _, f := range set {
			b = strconv.AppendQuote(append(append(b, f.Op.String()...), ' '), f.Name)
			b = strconv.AppendQuote(b, f.Value)
		}
	}
	return string(b)
}

// iteratorBytes is what a sample takes in an iterator.
const iteratorBytes = 16

// memoryFor returns the most samples the engine may hold, which it does not reserve from the budget: a half of
// it, or the limit of samples per query if that is less.
func memoryFor(budget int64, limits *query.Config) int {
	n := int64(math.MaxInt32)
	if limits.MaxSamplesPerQuery > 0 {
		n = int64(limits.MaxSamplesPerQuery)
	}
	return int(slices.Min([]int64{n, max(budget/2/iteratorBytes, 1)}))
}
