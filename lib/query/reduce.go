package query

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
)

// An aggregate over a rollup of a selector is evaluated by the stores which hold the series, if the source knows how to ask
// them: see package fragment. What they send has the size of the answer, not that of the samples.

// Reducer is a Source whose stores evaluate fragments.
type Reducer interface {
	// Reduce returns what the fragment has come to in each store, or declines: then the series have
	// to be read, which gives the same answer. No fingerprint is in two of the results.
	Reduce(ctx context.Context, f *fragment.Fragment) (*Reduced, error)
}

// Reduced is what a fragment has come to.
type Reduced struct {
	Results []*fragment.Result
	Partial bool // stored data may be missing
	// Declined is empty, or says why there are no results.
	Declined string
}

// pushDown evaluates the call by the stores; false when that cannot be done.
func (ev *evaluation) pushDown(c *rollupCall, s *selection, p rollup.Params) ([]*vector.Series, bool, error) {
	reducer, ok := ev.e.source.(Reducer)
	if !ok || c.fold == nil || ev.cfg.DisablePushDown || ev.req.NoPushDown {
		return nil, false, nil
	}
	reduced, err := reducer.Reduce(ev.ctx, ev.fragment(c, s, &p))
	if err != nil {
		return nil, false, ev.sourceError(err)
	}
	if reduced.Declined != "" {
		ev.e.notPushed.Inc()
		return nil, false, nil
	}
	ev.e.pushed.Inc()
	ev.partial = ev.partial || reduced.Partial
	t := tally{ev: ev, found: new(atomic.Int64)}
	lists := make([][]vector.Part, 0, len(reduced.Results)+1)
	for _, res := range reduced.Results {
		if err := ev.reserveGroups(res.Groups); err != nil {
			return nil, false, err
		}
		t.series += res.SeriesRead
		t.samples += res.SamplesRead
		if err := t.settle(); err != nil {
			return nil, false, err
		}
		lists = append(lists, partsOf(res.Groups))
	}
	excluded, err := ev.reduceExcluded(c, p, s.r, reduced.Results)
	if err != nil {
		return nil, false, err
	}
	fold, err := vector.FoldParts(*c.fold, points(&p), append(lists, excluded)...)
	if err != nil {
		return nil, false, err
	}
	return fold.Series(), true, nil
}

// reserveGroups takes the memory of groups which have arrived.
func (ev *evaluation) reserveGroups(groups []fragment.Group) error {
	n := int64(0)
	for i := range groups {
		g := &groups[i]
		n += int64(len(g.Counts)+len(g.Values)+len(g.Rests))*8 + int64(len(g.First)) + vector.SeriesSize(g.Labels)
	}
	return ev.reserve(n)
}

func points(p *rollup.Params) int { return int((p.End-p.Start)/p.Step) + 1 }

// fragment puts a call into the form in which it travels.
func (ev *evaluation) fragment(c *rollupCall, s *selection, p *rollup.Params) *fragment.Fragment {
	return &fragment.Fragment{
		Search:   model.SearchQuery{Tenant: ev.req.Tenant, AllTenants: ev.req.AllTenants, Range: s.r, Filters: s.filters, MaxSeries: ev.cfg.MaxUniqueSeries, Detail: s.detail, Aspect: s.aspect},
		Function: c.f.Name, Texts: c.texts, Args: c.args, KeepName: c.keepName,
		Start: p.Start, End: p.End, Step: p.Step, Window: p.Window, Lookback: p.Lookback, MinStaleness: p.MinStaleness,
		KeepStaleMarkers: p.KeepStaleMarkers, DedupIntervalMs: ev.reading.DedupIntervalMs,
		Aggregate: c.fold.Name, Grouping: fragment.Grouping(c.fold.Grouping), Labels: c.fold.Labels,
		MaxSamples: ev.cfg.MaxSamplesPerQuery, MaxSamplesPerSeries: ev.cfg.MaxSamplesPerSeries,
	}
}

// reduceExcluded aggregates the series which several stores hold.
func (ev *evaluation) reduceExcluded(c *rollupCall, p rollup.Params, r model.TimeRange, results []*fragment.Result) ([]vector.Part, error) {
	var list []fragment.Series
	for _, res := range results {
		list = append(list, res.Excluded...)
	}
	if len(list) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(list, func(a, b fragment.Series) int { return bytes.Compare(a.Key, b.Key) })
	here := *c
	here.firsts = true
	run := newRollupRun(ev, &here, p, r)
	var err error
	for i, j := 0, 0; i < len(list) && err == nil; i = j {
		s := EncodedSeries{Key: list[i].Key}
		for j = i; j < len(list) && bytes.Equal(list[j].Key, s.Key); j++ {
			s.Blocks = append(s.Blocks, list[j].Blocks...)
		}
		err = run.add(&s)
	}
	if err = cmp.Or(run.wait(), err); err != nil {
		return nil, err
	}
	return run.mu.total.Parts(), nil
}

// freeFragmentBytes is how large the groups of a fragment may be, whatever its samples take.
const freeFragmentBytes = 128 << 10

// ErrNotWorthIt ends the evaluation of a fragment that comes to about as much as its samples. A Source says so that the samples must be read elsewhere.
var ErrNotWorthIt = errors.New("the fragment is not worth it")

// fragmentFunc returns the rollup of a fragment, which has come from elsewhere.
func fragmentFunc(f *fragment.Fragment, o *vector.AggregateOptions) (*rollup.Func, error) {
	if !vector.CanFold(o) {
		return nil, errkind.New(errkind.Unsupported, "cannot evaluate aggregate %q here: this node is older than the one asking", f.Aggregate)
	}
	if want := rollup.ScalarArgs(f.Function); want >= 0 && len(f.Args) != want || want < 0 && len(f.Args) == 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot evaluate %s with %d numbers: it takes %d", f.Function, len(f.Args), want)
	}
	return rollup.New(f.Function, f.Texts)
}

// Reduce evaluates a fragment over the engine's source. Without a result and an error, it comes to about as much as its
// samples, and these had better be read. Partial tells whether stored data may be missing. Errors are those of Query.
func (e *Engine) Reduce(ctx context.Context, f *fragment.Fragment) (res *fragment.Result, partial bool, err error) {
	cfg := *e.cfg
	cfg.MaxSamplesPerQuery, cfg.MaxSamplesPerSeries, cfg.MaxUniqueSeries = f.MaxSamples, f.MaxSamplesPerSeries, 0
	reading := e.source.Reading()
	reading.DedupIntervalMs = f.DedupIntervalMs
	ev := &evaluation{e: e, cfg: &cfg, reading: reading, ctx: ctx, req: &Request{Tenant: f.Search.Tenant}, lookback: f.Lookback, limit: e.memoryLimit()}
	defer ev.release()
	c := &rollupCall{keepName: f.KeepName, args: f.Args, texts: f.Texts, firsts: true,
		fold: &vector.AggregateOptions{Name: f.Aggregate, Grouping: vector.GroupOp(f.Grouping), Labels: f.Labels, Guard: ev.guard}}
	if c.f, err = fragmentFunc(f, c.fold); err != nil {
		return nil, false, err
	}
	if err := ev.reserve(int64(f.Points()) * sampleBytes); err != nil {
		return nil, false, err
	}
	p := rollup.Params{Start: f.Start, End: f.End, Step: f.Step, Window: f.Window, Lookback: f.Lookback,
		MinStaleness: f.MinStaleness, KeepStaleMarkers: f.KeepStaleMarkers, Args: f.Args, Guard: ev.guard}
	run := newRollupRun(ev, c, p, f.Search.Range)
	res = &fragment.Result{}
	err = ev.readFragment(f, res, run)
	switch err = cmp.Or(run.wait(), err); {
	case errors.Is(err, ErrNotWorthIt):
		return nil, ev.partial, nil
	case err != nil:
		return nil, false, err
	}
	for _, part := range run.mu.total.Parts() {
		res.Groups = append(res.Groups, fragment.Group(part))
	}
	slices.Sort(res.Fingerprints)
	res.SeriesRead, res.SamplesRead = int(ev.seriesFetched.Load()), int(ev.samplesRead.Load())
	return res, ev.partial, nil
}

func partsOf(groups []fragment.Group) []vector.Part {
	parts := make([]vector.Part, len(groups))
	for i, g := range groups {
		parts[i] = vector.Part(g)
	}
	return parts
}

// readFragment hands the series to the run, but for those which are to be answered as they are.
func (ev *evaluation) readFragment(f *fragment.Fragment, res *fragment.Result, run *rollupRun) error {
	bytes := 0
	return ev.streamQuery(&f.Search, func(s *EncodedSeries) error {
		fingerprint := fragment.Fingerprint(s.Key)
		if !f.Excludes(fingerprint) {
			for i := range s.Blocks {
				bytes += len(s.Blocks[i].Timestamps) + len(s.Blocks[i].Values)
			}
			res.Fingerprints = append(res.Fingerprints, fingerprint)
			if len(res.Fingerprints)%run.size == 0 && run.groups()*f.Points()*sampleBytes > max(bytes, freeFragmentBytes) {
				return ErrNotWorthIt
			}
			return run.add(s)
		}
		own := fragment.Series{Key: slices.Clone(s.Key)}
		n := int64(len(s.Key) + seriesBytes)
		for _, b := range s.Blocks {
			b.Timestamps, b.Values = slices.Clone(b.Timestamps), slices.Clone(b.Values)
			own.Blocks = append(own.Blocks, b)
			n += int64(len(b.Timestamps) + len(b.Values))
		}
		res.Excluded = append(res.Excluded, own)
		return ev.reserve(n)
	})
}
