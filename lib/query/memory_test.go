package query

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// endless is a source of very many series, which it makes as they are read.
type endless struct {
	series  int
	samples int
	next    atomic.Int64 // series handed out, over all searches
	open    atomic.Int64
	ctx     context.Context // of the last search
}

func (s *endless) Select(ctx context.Context, _ *model.SearchQuery) (SeriesIterator, error) {
	s.ctx = ctx
	s.open.Add(1)
	samples := tsblock.Samples{}
	for i := range s.samples {
		samples.Timestamps = append(samples.Timestamps, oracleStart+int64(i)*minute)
		samples.Values = append(samples.Values, float64(i%7))
	}
	_, block := tsblock.AppendEncode(nil, &samples)
	return &endlessIterator{source: s, current: EncodedSeries{Blocks: []tsblock.Block{block}}}, nil
}

func (s *endless) Reading() Reading { return Reading{} }

type endlessIterator struct {
	source  *endless
	n       int
	current EncodedSeries
}

func (it *endlessIterator) Next() bool {
	if it.n == it.source.series {
		return false
	}
	labels := []model.Label{{Name: "__name__", Value: "x"}, {Name: "g", Value: fmt.Sprint(it.n % 5)}, {Name: "i", Value: fmt.Sprintf("%09d", it.n)}}
	var err error
	if it.current.Key, err = model.AppendSeriesKey(it.current.Key[:0], model.TenantID{}, labels); err != nil {
		panic(err)
	}
	it.n++
	it.source.next.Add(1)
	return true
}

func (it *endlessIterator) At() *EncodedSeries { return &it.current }
func (it *endlessIterator) Err() error         { return nil }
func (it *endlessIterator) Partial() bool      { return false }
func (it *endlessIterator) Close() error {
	it.source.open.Add(-1)
	return nil
}

// TestHugeQueriesAreRefusedEarly checks that a million series are either streamed in little memory, or refused after
// as many as fit, and that the search is closed then.
func TestHugeQueriesAreRefusedEarly(t *testing.T) {
	const limit = 4 << 20
	for query, want := range map[string]struct {
		series   int // 0: refused
		atMost   int64
		selected bool
	}{
		`{__name__=~".+"}`:                              {0, 60_000, true},
		`rate({__name__=~".+"}[5m])`:                    {0, 60_000, true},
		`{__name__=~"x.*"} * on(g) group_left() sum(x)`: {0, 60_000, true},
		`stddev(x) by (i)`:                              {0, 60_000, true},
		`x + on (i) x offset 1m`:                        {0, 60_000, true},
		`topk(3, {__name__=~".+"})`:                     {0, 60_000, true},
		`sum by (i) (x)`:                                {0, 60_000, true},
		`x[1h]`:                                         {0, 60_000, true},
		`sum(x) + sum(rate(x[5m])) by (g)`:              {0, 60_000, true}, // x occurs twice, so it is kept
		`sum(rate(x[5m])) by (g)`:                       {5, 100_000, true},
		`count({__name__=~".+"})`:                       {1, 100_000, true},
		"(" + strings.Repeat("1,", 2000) + "x)":         {0, 0, false},
	} {
		source := &endless{series: 100_000, samples: 10}
		e := testEngine(t, source, fmt.Sprintf("-search.maxMemoryPerQuery=%d", limit))
		r := &Request{Query: query, Start: oracleStart, End: oracleStart + 300*minute, Step: minute, NoCache: true}
		res, err := e.QueryRange(context.Background(), r)
		if query == "x[1h]" {
			res, err = e.Query(context.Background(), r)
		}
		switch {
		case want.series > 0 && (err != nil || len(res.Series) != want.series || res.MemoryBytes > limit || res.MemoryBytes == 0):
			t.Errorf("%.60s: %v, %v", query, res, err)
		case want.series == 0 && (errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), "-search.maxMemoryPerQuery") || !strings.Contains(err.Error(), fmt.Sprint(limit))):
			t.Errorf("%.60s: %.300v; want it refused", query, err)
		}
		if n := source.next.Load(); n > want.atMost || want.selected != (n > 0) {
			t.Errorf("%.60s: %d series were read; want at most %d", query, n, want.atMost)
		}
		if source.open.Load() != 0 {
			t.Errorf("%.60s: the search stays open", query)
		}
	}
}

// TestPointsAreLimitedBeforeReading checks queries at a second's distance over a year.
func TestPointsAreLimitedBeforeReading(t *testing.T) {
	const year = 365 * 24 * 3600 * 1000
	for query, flag := range map[string]string{"x": "-search.maxPointsPerTimeseries", "max_over_time(rate(x[5m])[1y:1s])": "-search.maxPointsSubqueryPerTimeseries"} {
		source := &endless{series: 10, samples: 10}
		r := &Request{Query: query, Start: oracleStart, End: oracleStart + year, Step: 1000}
		if flag != "-search.maxPointsPerTimeseries" {
			r.End = oracleStart
		}
		_, err := testEngine(t, source).QueryRange(context.Background(), r)
		if errkind.Of(err) != errkind.Unprocessable || !strings.Contains(err.Error(), flag) || source.next.Load() != 0 {
			t.Errorf("%s: %v, %d series read", query, err, source.next.Load())
		}
	}
}

// TestCancellationReachesTheSource checks that a search is over, and closed, soon after its caller gave up.
func TestCancellationReachesTheSource(t *testing.T) {
	for _, query := range []string{"x", "sum(x)", "stddev(rate(x[5m]))", "x + x", "x[1h]", "absent_over_time(x[5m])", "max_over_time(sum(x)[10m:1m])"} {
		ctx, cancel := context.WithCancel(context.Background())
		source := &canceling{endless: endless{series: 1_000_000, samples: 10}, at: 5000, cancel: cancel}
		_, err := testEngine(t, source).Query(ctx, &Request{Query: query, Start: oracleStart})
		if errkind.Of(err) != errkind.Canceled {
			t.Errorf("%s: %v", query, err)
		}
		if n := source.next.Load(); n > source.at+1 || source.open.Load() != 0 || source.ctx.Err() == nil {
			t.Errorf("%s: %d series read, %d searches open, context of the search: %v", query, n, source.open.Load(), source.ctx.Err())
		}
	}
}

// canceling gives the query up in the middle of its search.
type canceling struct {
	endless
	at     int64
	cancel func()
}

type cancelingIterator struct {
	SeriesIterator
	s *canceling
}

func (s *canceling) Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error) {
	it, err := s.endless.Select(ctx, q)
	return &cancelingIterator{it, s}, err
}

func (it *cancelingIterator) Next() bool {
	if it.s.next.Load() == it.s.at {
		it.s.cancel()
	}
	return it.SeriesIterator.Next()
}

// TestWorkersDoNotChangeAnswers checks that parallel is serial, bit by bit.
func TestWorkersDoNotChangeAnswers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := randomFleet(rand.New(rand.NewPCG(seed, 0)), 700) // several batches
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	serial, parallel := testEngine(t, m, "-search.maxWorkersPerQuery=1"), testEngine(t, m, "-search.maxWorkersPerQuery=0")
	for _, query := range propertyQueries() {
		a, err := ask(serial, query, 0, 3600)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ask(parallel, query, 0, 3600)
		if err != nil || !sameBits(a, b) {
			t.Errorf("%s: serial and parallel answers differ (%v)", query, err)
		}
	}
}

// TestAccountCoversMemory checks that what queries reserve is not far below what they have alive.
func TestAccountCoversMemory(t *testing.T) {
	source := &endless{series: 5_000, samples: 40}
	e := testEngine(t, source)
	for _, query := range []string{"x", "rate(x[5m])", "x + 1", "label_set(x, 'a', 'b')", "x * on(i) x", "sum(x) by (i)", "stddev(x) by (i)", "x or (x > 3)", "topk(40000, x)", "sort(x)", "x + on(i) x offset 1m"} {
		base := liveBytes()
		old := debug.SetGCPercent(5)
		var peak atomic.Int64
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			looks := time.NewTicker(2 * time.Millisecond)
			defer looks.Stop()
			for {
				select {
				case <-stop:
					return
				case <-looks.C:
					peak.Store(max(peak.Load(), liveBytes()-base))
				}
			}
		}()
		res, err := e.QueryRange(context.Background(), &Request{Query: query, Start: oracleStart, End: oracleStart + 40*minute, Step: minute, NoCache: true})
		close(stop)
		<-done
		debug.SetGCPercent(old)
		if err != nil {
			t.Errorf("%s: %s", query, err)
			continue
		}
		if peak.Load() > res.MemoryBytes*3/2+1<<20 {
			t.Errorf("%s: %d bytes are reserved, and %d are alive", query, res.MemoryBytes, peak.Load())
		}
		t.Logf("%-24s reserved %6d KiB, alive %6d KiB", query, res.MemoryBytes>>10, peak.Load()>>10)
		runtime.KeepAlive(res)
	}
}

// TestInputsAreGivenBack checks that a chain of operators needs little more than its largest link, and that kept samples stay reserved.
func TestInputsAreGivenBack(t *testing.T) {
	source := &endless{series: 2000, samples: 10}
	peak := func(query string) int64 {
		t.Helper()
		res, failure := outcome(testEngine(t, source), query, oracleStart, oracleStart+50*minute, minute)
		if failure != "" {
			t.Fatalf("%s: %s", query, failure)
		}
		return res.MemoryBytes
	}
	one := peak("stddev(rate(x[5m])) by (g)")
	sum := "stddev(rate(x[5m])) by (g)"
	for i := range 9 {
		sum += fmt.Sprintf(" + stddev(rate(x{nope!='%d'}[5m])) by (g)", i)
	}
	if ten := peak(sum); ten > one*5/4 {
		t.Errorf("one aggregate takes %d bytes, and the sum of ten %d", one, ten)
	}
	if kept, plain := peak("x * 2 + 3 or last_over_time(x[5m])"), peak("x * 2 + 3 or last_over_time(x{a=''}[5m])"); kept < plain+2000*10*sampleBytes {
		t.Errorf("%d bytes with kept samples, %d without", kept, plain)
	}
}

// liveBytes returns the bytes alive after a collection.
func liveBytes() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// sameBits reports whether two answers are equal in order, labels, times and the bits of values.
func sameBits(a, b *Result) bool {
	return slices.EqualFunc(a.Series, b.Series, func(x, y ResultSeries) bool {
		return slices.Equal(x.Labels, y.Labels) && slices.Equal(x.Timestamps, y.Timestamps) &&
			slices.EqualFunc(x.Values, y.Values, func(v, w float64) bool { return math.Float64bits(v) == math.Float64bits(w) })
	})
}

// TestResultHoldsMemory: a result stays reserved until it is released, and not for those who do not ask for that.
func TestResultHoldsMemory(t *testing.T) {
	e := testEngine(t, &endless{series: 100, samples: 10})
	budget := e.budget
	for _, hold := range []bool{false, true} {
		res, err := e.QueryRange(t.Context(), &Request{Query: "x", Start: oracleStart, End: oracleStart + 9*minute, Step: minute, NoCache: true, HoldMemory: hold})
		if err != nil || len(res.Series) != 100 {
			t.Fatalf("%d series, %v", len(res.Series), err)
		}
		if used := budget.Used(); (used >= 100*10*sampleBytes) != hold || !hold && used != 0 {
			t.Errorf("held %v: %d bytes are reserved", hold, used)
		}
		res.Release()
		res.Release()
		if used := budget.Used(); used != 0 {
			t.Errorf("held %v: %d bytes are reserved after the release", hold, used)
		}
	}
	if _, err := e.QueryRange(t.Context(), &Request{Query: "x", Start: oracleStart, End: oracleStart + 99999*minute, Step: minute, HoldMemory: true}); err == nil || budget.Used() != 0 {
		t.Errorf("a query that fails leaves %d bytes, %v", budget.Used(), err)
	}
	(*Result)(nil).Release()
}
