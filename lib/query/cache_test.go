package query

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/trace"
)

// liveFleet is a source to which samples are added while time goes by: of targets which are scraped at intervals of their own, begin, end,
// have holes and come back.
type liveFleet struct {
	*memSource
	rng      *rand.Rand
	now      int64
	targets  []*target
	versions Version
	promised int64
	changes  []change
	err      error // of Versions
	dedup    int64
}

type change struct {
	at int64
	r  model.TimeRange
}

type target struct {
	id       int
	interval int64
	jitter   int64
	next     int64
	silent   int64 // until then
	values   []float64
	counter  bool
	whole    bool // numbers
}

func newLiveFleet(rng *rand.Rand, targets int) *liveFleet {
	f := &liveFleet{memSource: newMemSource(), rng: rng, now: oracleStart, versions: Version{Instance: rng.Uint64()}, promised: math.MinInt64}
	for range targets {
		f.begin()
	}
	return f
}

// Reading implements Source.
func (f *liveFleet) Reading() Reading { return Reading{KeepNaN: true, DedupIntervalMs: f.dedup} }

func (f *liveFleet) begin() {
	intervals := []int64{5_000, 15_000, 15_000, 15_000, 30_000, 60_000, 60_000, 61_000, 120_000, 400_000}
	t := &target{id: len(f.targets), interval: intervals[f.rng.IntN(len(intervals))], counter: f.rng.IntN(2) == 0, whole: f.rng.IntN(2) == 0}
	if f.rng.IntN(2) == 0 {
		t.jitter = t.interval / 20
	}
	t.next = f.now + f.rng.Int64N(t.interval)
	t.values = make([]float64, 1+f.rng.IntN(3))
	f.targets = append(f.targets, t)
}

// advance lets time go by.
func (f *liveFleet) advance(ms int64) {
	f.now += ms
	for _, t := range f.targets {
		for ; t.next <= f.now; t.next += t.interval {
			f.scrape(t)
		}
	}
	if f.rng.IntN(12) == 0 {
		f.begin()
	}
}

func (f *liveFleet) scrape(t *target) {
	at := t.next
	if t.jitter > 0 {
		at = min(f.now, at+f.rng.Int64N(t.jitter))
	}
	if at < t.silent {
		return
	}
	end := f.rng.IntN(400) == 0
	if end || f.rng.IntN(150) == 0 { // a hole, or for good
		t.silent = at + t.interval*(1+f.rng.Int64N(60))
		if end && f.rng.IntN(2) == 0 {
			t.silent = math.MaxInt64
		}
	}
	stale := t.silent == math.MaxInt64 && f.rng.IntN(2) == 0
	for i := range t.values {
		t.values[i] = t.change(f.rng, t.values[i])
		v := t.values[i]
		if stale {
			v = math.Float64frombits(0x7ff0000000000002)
		}
		f.add(f.labels(t, i), []int64{at}, []float64{v})
	}
}

func (t *target) change(rng *rand.Rand, v float64) float64 {
	d := rng.Float64() * 10
	if t.whole {
		d = math.Floor(d)
	}
	switch {
	case !t.counter:
		return d - 5
	case rng.IntN(200) == 0:
		return d
	case rng.IntN(300) == 0:
		return v * 0.95
	}
	return v + d
}

func (f *liveFleet) labels(t *target, i int) map[string]string {
	return map[string]string{"__name__": "x", "i": fmt.Sprint(t.id % 7), "g": fmt.Sprint(t.id % 3), "n": fmt.Sprintf("%d_%d", t.id, i)}
}

// late writes a sample of the past.
func (f *liveFleet) late() {
	t := f.targets[f.rng.IntN(len(f.targets))]
	f.lateAt(t, f.now-f.rng.Int64N(3600_000))
}

func (f *liveFleet) lateAt(t *target, at int64) {
	f.add(f.labels(t, 0), []int64{at}, []float64{f.rng.Float64() * 100})
	if at < f.promised {
		f.versions.Sequence++
		f.changes = append(f.changes, change{at: int64(f.versions.Sequence), r: model.TimeRange{Min: at, Max: at}})
	}
}

// remove deletes a series.
func (f *liveFleet) remove() {
	i := f.rng.IntN(len(f.keys))
	delete(f.series, string(f.keys[i]))
	f.keys = slices.Delete(f.keys, i, i+1)
	f.versions.Sequence++
	f.changes = append(f.changes, change{at: int64(f.versions.Sequence), r: model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64}})
}

// Versions implements Versioner.
func (f *liveFleet) Versions(_ context.Context, _ model.TenantID, r model.TimeRange) ([]Version, error) {
	v := f.versions
	v.Until = min(r.Max, f.now)
	f.promised = max(f.promised, v.Until)
	for _, c := range f.changes {
		if c.r.Overlaps(r) {
			v.Changed = uint64(c.at)
		}
	}
	return []Version{v}, f.err
}

// cachedEngines returns engines over the fleet with and without a cache.
func cachedEngines(t testing.TB, f *liveFleet, flags ...string) (with, without *Engine, set *metrics.Set) {
	t.Helper()
	clock := func() time.Time { return time.UnixMilli(f.now) }
	with, without = testEngine(t, f, flags...), testEngine(t, f, flags...)
	with.now, without.now = clock, clock
	set = metrics.NewSet()
	with.cache = NewCache(CacheOptions{Versions: f, Budget: with.budget, Metrics: set})
	t.Cleanup(with.ResetCache)
	return with, without, set
}

// answer is what an engine with a cache answers and what it says came of the cache.
type answer struct {
	*Result
	notes []string
}

// askBoth evaluates a range query with both engines, compares the answers, and returns that of the engine with a cache.
func askBoth(t *testing.T, with, without *Engine, r *Request) answer {
	t.Helper()
	want, wantErr := without.QueryRange(context.Background(), r)
	span := trace.New(time.Now, time.Now(), "")
	got, err := with.QueryRange(span.Within(context.Background()), r)
	var notes []string
	for _, n := range span.Node().Children {
		notes = append(notes, n.Message)
	}
	switch {
	case (err == nil) != (wantErr == nil):
		t.Fatalf("%s: error %v; without cache %v", r.Query, err, wantErr)
	case err == nil && !sameBits(got, want):
		t.Fatalf("%s from %d to %d step %d differs: %s\n%s", r.Query, r.Start, r.End, r.Step, difference(got, want), strings.Join(notes, "\n"))
	}
	return answer{got, notes}
}

// difference tells where two answers differ first.
func difference(got, want *Result) string {
	for i, s := range want.Series {
		if i >= len(got.Series) || !slices.Equal(s.Labels, got.Series[i].Labels) {
			return "there is no " + model.LabelsString(s.Labels)
		}
		for k, v := range s.Values {
			g := got.Series[i]
			if k >= len(g.Values) || g.Timestamps[k] != s.Timestamps[k] || math.Float64bits(v) != math.Float64bits(g.Values[k]) {
				return fmt.Sprintf("%s at %d should be %v; got %d %v", model.LabelsString(s.Labels), s.Timestamps[k], v, g.Timestamps[min(k, len(g.Values)-1)], g.Values[min(k, len(g.Values)-1)])
			}
		}
	}
	return fmt.Sprintf("%d series or points too many", len(got.Series)-len(want.Series))
}

// TestCacheOnIsCacheOff asks random queries again and again while time goes by, samples come late, series begin, end and are deleted, and now and then what is kept goes through a file. The answers
// are those of an engine without cache to the last bit.
func TestCacheOnIsCacheOff(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	g := &queryGen{rng: rng}
	hits, reasons := 0, map[string]int{}
	fleets := 12
	if testing.Short() {
		fleets = 2
	}
	for range fleets {
		f := newLiveFleet(rng, 5+rng.IntN(20))
		f.advance(3600_000)
		if rng.IntN(4) == 0 {
			f.dedup = []int64{1000, 20_000, 60_000, 400_000}[rng.IntN(4)]
		}
		with, without, _ := cachedEngines(t, f, oneFlag(rng)...)
		for range 25 {
			f.dashboard(t, likely(g), with, without, reasons)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		if strings.HasPrefix(why, "partial hit") {
			hits += reasons[why]
		}
		t.Logf("%5d %s", reasons[why], why)
	}
	if hits < 300 && !testing.Short() {
		t.Errorf("%d hits: the queries test little", hits)
	}
}

var digits = regexp.MustCompile(`[0-9]+`)

// dashboard asks a query again and again while time goes by.
func (f *liveFleet) dashboard(t *testing.T, query string, with, without *Engine, reasons map[string]int) {
	t.Helper()
	rng := f.rng
	r := &Request{Query: query, Step: []int64{15_000, 30_000, 60_000, 7_000, 100_000}[rng.IntN(5)]}
	fixed := rng.IntN(6) == 0
	r.End = f.now
	r.Start = r.End - (30+rng.Int64N(80))*r.Step
	for range 4 + rng.IntN(12) {
		for _, note := range askBoth(t, with, without, r).notes {
			_, why, _ := strings.Cut(digits.ReplaceAllString(note, "N"), "): ")
			words := strings.Fields(why)
			reasons[strings.Join(words[:min(4, len(words))], " ")]++
		}
		moved := r.Step * rng.Int64N(4)
		f.advance(moved)
		r.End += moved
		if !fixed {
			r.Start += moved
		}
		if rng.IntN(12) == 0 && with.cache != nil {
			f.restart(t, with, testOrigin)
		}
		switch rng.IntN(25) {
		case 0:
			f.late()
		case 1:
			r.Start -= r.Step * 5
		case 2:
			r.End -= r.Step * 2
		case 3:
			f.remove()
		}
	}
}

func oneFlag(rng *rand.Rand) []string {
	switch rng.IntN(8) {
	case 0:
		return []string{"-search.maxStalenessInterval=1m"}
	case 1:
		return []string{"-search.minStalenessInterval=2m"}
	case 2:
		return []string{"-search.cacheTimestampOffset=30s"}
	case 3:
		return []string{"-search.setLookbackToStep"}
	}
	return nil
}

// likely returns a query of which parts are often kept, or any.
func likely(g *queryGen) string {
	f := g.oneOf("rate", "increase", "irate", "delta", "idelta", "changes", "max_over_time", "avg_over_time", "count_over_time", "last_over_time", "default_rollup", "increase_pure",
		"lag", "resets", "deriv", "stddev_over_time", "rate_prometheus", "tlast_change_over_time", "lifetime", "timestamp", "present_over_time", "deriv_fast", "ascent_over_time")
	leaf := f + "(" + g.selector() + g.oneOf("[1m]", "[5m]", "[5m]", "[3m]", "[2i]", "", "[45s]", "[20m]") + g.oneOf("", "", "", " offset 1m", " offset -45s") + ")"
	switch g.rng.IntN(8) {
	case 0:
		return g.query()
	case 1:
		return "quantile_over_time(0.3, " + g.selector() + "[3m])"
	case 2:
		return g.selector()
	case 3:
		return leaf
	case 4:
		return "(" + leaf + ") + on(n) group_left() " + g.oneOf("1", "max_over_time(x[4m])", "sum(rate(x[4m])) by (n)")
	case 5:
		return "topk(2, " + leaf + ")"
	}
	return g.oneOf("sum", "avg", "min", "max", "count", "group", "sum2") + "(" + leaf + ")" + g.oneOf("", " by (g)", " by (i)", " without (n)")
}

// steady returns a fleet of a few targets which are scraped every 15 seconds, after an hour.
func steady(t *testing.T, targets int) *liveFleet {
	t.Helper()
	return steadyFleet(targets)
}

func steadyFleet(targets int) *liveFleet {
	f := newLiveFleet(rand.New(rand.NewPCG(1, 1)), 0)
	f.now += 15_000
	for i := range targets {
		f.targets = append(f.targets, &target{id: i, interval: 15_000, next: f.now, values: make([]float64, 1)})
	}
	for range 240 {
		f.tick()
	}
	return f
}

// tick lets all targets be scraped once.
func (f *liveFleet) tick() {
	f.now += 15_000
	for _, t := range f.targets {
		t.values[0] += float64(t.id + 1)
		f.add(f.labels(t, 0), []int64{f.now}, []float64{t.values[0]})
	}
}

func lastHour(f *liveFleet, query string) *Request {
	return &Request{Query: query, Start: f.now - 3600_000, End: f.now, Step: 30_000}
}

// noteOf returns what came of the cache for a query of one rollup.
func noteOf(t *testing.T, a answer) string {
	t.Helper()
	if len(a.notes) == 0 {
		t.Fatal("the cache is not mentioned")
	}
	return strings.Join(a.notes, "; ")
}

func wantNote(t *testing.T, a answer, want string) {
	t.Helper()
	if got := noteOf(t, a); !strings.Contains(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
}

// warm asks until a query is answered from the cache.
func warm(t *testing.T, f *liveFleet, with, without *Engine, query string) {
	t.Helper()
	wantNote(t, askBoth(t, with, without, lastHour(f, query)), "asked for the first time")
	wantNote(t, askBoth(t, with, without, lastHour(f, query)), "nothing is kept yet")
	for range 3 {
		f.tick()
		wantNote(t, askBoth(t, with, without, lastHour(f, query)), "partial hit: ")
	}
}

func TestCacheReadsTheTailOnly(t *testing.T) {
	for _, query := range []string{"sum(rate(x[5m])) by (g)", "x", "rate(x[5m])", "histogram_quantile(0.9, sum(rate(x[5m])) by (i))", "max_over_time(x[2m])", "topk(1, rate(x[1m]))"} {
		f := steady(t, 4)
		with, without, set := cachedEngines(t, f)
		warm(t, f, with, without, query)
		f.tick()
		f.tick()
		r := lastHour(f, query)
		res, err := with.QueryRange(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := without.QueryRange(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if res.SamplesRead*3 > whole.SamplesRead {
			t.Errorf("%s: %d samples are read; without cache %d", query, res.SamplesRead, whole.SamplesRead)
		}
		if res.SeriesFetched != whole.SeriesFetched {
			t.Errorf("%s: %d series are fetched; without cache %d", query, res.SeriesFetched, whole.SeriesFetched)
		}
		if n := set.Counter("vm_rollup_result_cache_partial_hits_total").Get(); n != 4 {
			t.Errorf("%s: %d partial hits", query, n)
		}
	}
}

func TestCacheIsNotUsedAfterChanges(t *testing.T) {
	const query = "sum(rate(x[5m])) by (g)"
	for name, change := range map[string]func(f *liveFleet){
		"samples have changed":        func(f *liveFleet) { f.lateAt(f.targets[0], f.now-1800_001) },
		"samples have changed ":       func(f *liveFleet) { f.remove() },
		" samples have changed":       func(f *liveFleet) { f.versions.Instance++ },
		"not all stores tell whether": func(f *liveFleet) { f.err = fmt.Errorf("down") },
		"left out or downsampled": func(f *liveFleet) {
			f.changes = append(f.changes, change{at: math.MaxInt64, r: model.TimeRange{Max: math.MaxInt64}})
		},
		"stores leave out samples by -dedup.minScrapeI": func(f *liveFleet) { f.versions.DedupIntervalMs = 1000 },
		"the interval between samples": func(f *liveFleet) {
			for range 21 { // makes holes which were passed over count
				f.now += 60_000
				f.targets[0].values[0]++
				f.add(f.labels(f.targets[0], 0), []int64{f.now}, []float64{f.targets[0].values[0]})
			}
		},
	} {
		q := query
		if strings.HasPrefix(name, "the interval") {
			q = "x"
		}
		f := steady(t, 4)
		if q == "x" { // a scrape of every ten is lost
			for k := 0; k < 250; k += 10 {
				s := f.series[string(f.keys[0])]
				if k < len(s.Timestamps) {
					s.Timestamps, s.Values = slices.Delete(s.Timestamps, k, k+3), slices.Delete(s.Values, k, k+3)
				}
			}
		}
		with, without, _ := cachedEngines(t, f)
		warm(t, f, with, without, q)
		change(f)
		r := lastHour(f, q)
		res := askBoth(t, with, without, r)
		wantNote(t, res, strings.TrimSpace(name))
	}
}

func TestCacheFullHit(t *testing.T) {
	f := steady(t, 4)
	with, without, set := cachedEngines(t, f)
	r := lastHour(f, "sum(increase(x[5m])) by (g)")
	f.now += 3600_000
	for range 2 {
		askBoth(t, with, without, r)
	}
	res := askBoth(t, with, without, r)
	wantNote(t, res, "hit: all 121 points")
	if res.SamplesRead != 0 || set.Counter("vm_rollup_result_cache_full_hits_total").Get() != 1 {
		t.Errorf("%d samples are read", res.SamplesRead)
	}
	res.Series[0].Values[0] = -1 // what is answered belongs to its reader
	askBoth(t, with, without, r)
}

func TestCacheIsBypassed(t *testing.T) {
	f := steady(t, 2)
	with, without, _ := cachedEngines(t, f)
	warm(t, f, with, without, "sum(rate(x[5m]))")
	r := lastHour(f, "sum(rate(x[5m]))")
	r.NoCache = true
	if a := askBoth(t, with, without, r); len(a.notes) != 0 {
		t.Errorf("nocache: %s", a.notes)
	}
	for query, want := range map[string]string{
		"x - x":                          "occurs more than once",
		"rollup(x[5m])":                  "several results per series",
		"integrate(x[5m])":               "holds the last value",
		"mode_over_time(x[5m])":          "if that happens to be read",
		"quantile_over_time(time(), x)":  "an argument changes over time",
		"count_values_over_time('v', x)": "several results per series",
	} {
		wantNote(t, askBoth(t, with, without, lastHour(f, query)), want)
	}
	with.ResetCache()
	wantNote(t, askBoth(t, with, without, lastHour(f, "sum(rate(x[5m]))")), "asked for the first time")
	warm(t, f, with, without, "max(rate(x[5m]))")
	r = lastHour(f, "max(rate(x[5m]))")
	r.AllTenants = true
	wantNote(t, askBoth(t, with, without, r), "of one tenant only")
}

// With the flag, what is kept is used although samples have changed, until a reset.
func TestCacheWithoutAutoReset(t *testing.T) {
	f := steady(t, 2)
	with, without, _ := cachedEngines(t, f, "-search.disableAutoCacheReset")
	const query = "min(min_over_time(x[1m]))"
	warm(t, f, with, without, query)
	f.lateAt(f.targets[0], f.now-1800_001)
	for _, reset := range []bool{false, true} {
		if reset {
			with.ResetCache()
		}
		want, err := without.QueryRange(context.Background(), lastHour(f, query))
		if err != nil {
			t.Fatal(err)
		}
		got, err := with.QueryRange(context.Background(), lastHour(f, query))
		if err != nil || sameBits(got, want) != reset {
			t.Errorf("reset %v: %v; the answers are the same: %v", reset, err, sameBits(got, want))
		}
	}
}

// Filters, tenants and arguments are told apart.
func TestCacheKeys(t *testing.T) {
	f := steady(t, 4)
	with, without, _ := cachedEngines(t, f)
	var requests []*Request
	for _, query := range []string{"sum(rate(x[5m]))", "sum(rate(x[4m]))", "avg(rate(x[5m]))", "sum(rate(x[5m])) by (g)", "sum(rate(x[5m])) without (g)", `sum(rate(x{g="1"}[5m]))`, `sum(rate(x{g!="1"}[5m]))`,
		"rate(x[5m])", "rate(x[5m]) keep_metric_names", "quantile_over_time(0.1, x[5m])", "quantile_over_time(0.2, x[5m])", `rate(x{g="1" or g="2"}[5m])`, `rate(x{g="1",g="2"}[5m])`} {
		requests = append(requests, lastHour(f, query))
	}
	enforced := lastHour(f, "sum(rate(x[5m]))")
	enforced.EnforcedFilters = [][]model.TagFilter{{{Name: "g", Value: "2"}}}
	lookback := int64(10_000)
	short := lastHour(f, "sum(rate(x[5m]))")
	short.MaxLookback = &lookback
	shifted := lastHour(f, "sum(rate(x[5m]))")
	shifted.Step = 60_000
	requests = append(requests, enforced, short, shifted)
	for range 4 {
		f.tick()
		for _, r := range requests {
			r.Start, r.End = r.Start+15_000, r.End+15_000
			askBoth(t, with, without, r)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	f := steady(t, 40)
	with, without, _ := cachedEngines(t, f)
	with.ResetCache()
	const most = 200 << 10
	with.cache = NewCache(CacheOptions{Versions: f, Budget: with.budget, Metrics: metrics.NewSet(), MaxBytes: most})
	for i := range 20 {
		for range 3 {
			askBoth(t, with, without, lastHour(f, fmt.Sprintf("sum(rate(x[%dm]))", i+1)))
		}
		if n := with.budget.Used(); n > most || n == 0 {
			t.Fatalf("%d bytes are reserved; at most %d may be", n, most)
		}
	}
	for range 2 {
		askBoth(t, with, without, lastHour(f, "x"))
	}
	wantNote(t, askBoth(t, with, without, lastHour(f, "x")), "there is no room for")
}

// What would be noted of the series of an aggregate is more than an entry may take, although its result is small.
func TestCacheNotesWhatItHasRoomFor(t *testing.T) {
	f := steady(t, 40)
	with, without, set := cachedEngines(t, f)
	with.cache = NewCache(CacheOptions{Versions: f, Budget: with.budget, Metrics: set, MaxBytes: 8 << 10})
	for _, want := range []string{"asked for the first time", "there is no room for so many series", "there is no room for so many series"} {
		wantNote(t, askBoth(t, with, without, lastHour(f, "sum(rate(x[5m]))")), want)
		if n := with.budget.Used(); n > 8<<10 {
			t.Errorf("%d bytes are reserved", n)
		}
	}
}

// hangingVersions is a store which does not answer.
type hangingVersions struct{ asked int }

// Versions implements Versioner.
func (h *hangingVersions) Versions(ctx context.Context, _ model.TenantID, _ model.TimeRange) ([]Version, error) {
	h.asked++
	<-ctx.Done()
	return nil, ctx.Err()
}

// A store which stands still is asked now and then only, and queries do without it.
func TestCacheDoesNotWaitForStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := steady(t, 2)
		with, without, _ := cachedEngines(t, f)
		hanging := &hangingVersions{}
		with.cache.versions = hanging
		for i, asked := range []int{0, 1, 1, 1, 2} { // the first query asks for no versions
			start := time.Now()
			a := askBoth(t, with, without, lastHour(f, "sum(rate(x[5m]))"))
			if waited := time.Since(start); hanging.asked != asked || waited > versionsWait {
				t.Errorf("query %d waited for %s, and stores have been asked %d times, not %d", i, waited, hanging.asked, asked)
			}
			if i > 0 {
				wantNote(t, a, "not all stores tell whether")
			}
			f.now += (versionsPause / 3).Milliseconds() + 1
		}
	})
}

// Results which change all the time are kept less and less often.
func TestCacheGivesUp(t *testing.T) {
	f := steady(t, 2)
	with, without, _ := cachedEngines(t, f)
	fills := 0
	for range 60 {
		f.versions.Instance++
		note := noteOf(t, askBoth(t, with, without, lastHour(f, "sum(rate(x[5m]))")))
		if !strings.Contains(note, "of no use") {
			fills++
		}
	}
	if fills > 10 {
		t.Errorf("results are kept %d times in vain", fills)
	}
}

func TestCacheConcurrently(t *testing.T) {
	f := steady(t, 20)
	with, without, _ := cachedEngines(t, f)
	var wg sync.WaitGroup
	with.cache.versions = &lockedVersions{v: f}
	source := &lockedSource{Source: f}
	with.source, without.source = source, source
	for i := range 8 {
		wg.Go(func() {
			for k := range 6 {
				r := lastHour(f, "sum(rate(x[5m])) by (g)")
				r.Start, r.End = r.Start+int64(k)*r.Step, r.End+int64(k)*r.Step
				want, err := without.QueryRange(context.Background(), r)
				if err != nil {
					t.Error(err)
				}
				if got, err := with.QueryRange(context.Background(), r); err != nil || !sameBits(got, want) {
					t.Errorf("%v: differs", err)
				}
				if i == 3 && k == 3 {
					with.ResetCache()
				}
			}
		})
	}
	wg.Wait()
}

type lockedVersions struct {
	sync.Mutex
	v Versioner
}

func (l *lockedVersions) Versions(ctx context.Context, tenant model.TenantID, r model.TimeRange) ([]Version, error) {
	l.Lock()
	defer l.Unlock()
	return l.v.Versions(ctx, tenant, r)
}

type lockedSource struct {
	sync.Mutex
	Source
}

func (l *lockedSource) Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error) {
	l.Lock()
	defer l.Unlock()
	return l.Source.Select(ctx, q)
}
