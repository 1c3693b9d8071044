package query

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/model"
)

// cutSource answers with as little as the detail of a search allows.
type cutSource struct {
	*memSource
	cut int // series which were cut down
}

func (s *cutSource) Reading() Reading { return Reading{} }

func (s *cutSource) Select(ctx context.Context, q *model.SearchQuery) (SeriesIterator, error) {
	it, err := s.memSource.Select(ctx, q)
	if err != nil || q.Detail == model.AllSamples {
		return it, err
	}
	list := it.(*memIterator).series
	for i, raw := range list {
		n := len(raw.Values) - 1
		v := raw.Values[n]
		if v != v && math.Float64bits(v) != 0x7ff0000000000002 {
			continue
		}
		if q.Detail == model.NewestKind && v == v {
			v = 12345
		}
		list[i] = &RawSeries{Labels: raw.Labels, Timestamps: raw.Timestamps[n:], Values: []float64{v}}
		s.cut++
	}
	return it, nil
}

// wholeSource answers with all samples, as cutSource does without a hint.
type wholeSource struct{ *memSource }

func (s *wholeSource) Reading() Reading { return Reading{} }

// TestNewestSamplesSuffice compares queries over sources which leave out what they may with queries over all samples.
func TestNewestSamplesSuffice(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	m := oddFleet(rng, 60)
	cut := &cutSource{memSource: m}
	a, b := testEngine(t, &wholeSource{m}), testEngine(t, cut)
	queries := []string{
		"x", "x > 5", "count(x)", "count(x) by (g)", "count without (i) (x)", "group(x) by (g)", "sum(x) by (g)", "avg(x)", "min(x) by (g)", "max(x)",
		"stddev(x)", "topk(3, x)", "x offset 1m", "x[2m]", "count(x[1m]) by (g)", "count(x offset 90s) by (g)", "x == x", "count(x) / count(x offset 1m)",
		"x @ 1768370500", "count(x @ 1768370500)", "absent(x)", "count({i=~\".+\"}) by (__name__)", "count(rate(x[5m]))", "sum(last_over_time(x[1m]))",
		"x default 0", "count_values(\"v\", x)", "quantile(0.5, x) by (g)", "max_over_time(x[5m])", "x - x", "default_rollup(x[1m])", "count(default_rollup(x))",
		"changes(x[5m])", "timestamp(x)", "count(x) + count(rate(x)) + sum(x)", "x and x offset 1m", "distinct(x)",
	}
	for range 6 {
		at := oracleStart + rng.Int64N(1_500_000) - 100_000
		for _, query := range queries {
			for _, lookback := range []*int64{nil, new(int64), pointer(int64(90_000))} {
				compareQueries(t, a, b, &Request{Query: query, Start: at, End: at, NoCache: true, MaxLookback: lookback})
			}
		}
	}
	if cut.cut == 0 {
		t.Error("no search asked for the newest samples only")
	}
}

func pointer[T any](v T) *T { return &v }

func compareQueries(t *testing.T, a, b *Engine, r *Request) {
	t.Helper()
	for _, ask := range []func(*Engine) (*Result, error){
		func(e *Engine) (*Result, error) { return e.Query(context.Background(), r) },
		func(e *Engine) (*Result, error) { return e.QueryRange(context.Background(), r) },
	} {
		want, wantErr := ask(a)
		got, err := ask(b)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s at %d: %v; want %v", r.Query, r.Start, err, wantErr)
		}
		if err != nil {
			continue
		}
		if got.String() != want.String() || got.SeriesFetched != want.SeriesFetched {
			t.Fatalf("%s at %d:\n%s (%d series)\nwant\n%s (%d series)", r.Query, r.Start, got, got.SeriesFetched, want, want.SeriesFetched)
		}
	}
}

// oddFleet has series with gaps, NaN, staleness markers and ends of all kinds.
func oddFleet(rng *rand.Rand, series int) *memSource {
	m := newMemSource()
	for i := range series {
		var times []int64
		var values []float64
		at := oracleStart + rng.Int64N(600_000)
		for range 1 + rng.IntN(100) {
			v := float64(rng.IntN(20))
			switch rng.IntN(10) {
			case 0:
				v = math.NaN()
			case 1:
				v = math.Float64frombits(0x7ff0000000000002)
			}
			times, values = append(times, at), append(values, v)
			at += 15_000
			if rng.IntN(10) == 0 {
				at += rng.Int64N(600_000)
			}
		}
		m.add(map[string]string{"__name__": "x", "i": fmt.Sprint(i), "g": fmt.Sprint(i % 7)}, times, values)
	}
	return m
}
