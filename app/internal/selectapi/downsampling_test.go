package selectapi

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs/memfs"
)

// openAt opens a storage whose clock shows now.
func openAt(t *testing.T, now time.Time, rules []storage.DownsamplingRule) (*storage.Storage, *query.Engine) {
	t.Helper()
	cfg := storage.DefaultConfig("/data")
	cfg.RetentionPeriod.Millis = 100 * 24 * 3600_000
	cfg.DownsamplingRules = rules
	clock := func() time.Time { return now }
	s, err := storage.Open(cfg, storage.Options{
		FS: memfs.New(memfs.Options{}), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 30), Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var qc query.Config
	qc.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError))
	return s, query.New(&qc, query.Options{Source: NewSource(s, nil, 0, metrics.NewSet()), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 30), Now: clock})
}

// sendDays sends four days of counters and gauges that end at now.
func sendDays(t *testing.T, rng *rand.Rand, now time.Time, stores ...*storage.Storage) {
	t.Helper()
	const series = 6
	var values [series]float64
	ctx := context.Background()
	for at := now.Add(-4 * 24 * time.Hour).UnixMilli(); at < now.UnixMilli(); at += 30_000 {
		b := &model.Batch{}
		for i := range series {
			labels := []model.Label{{Name: model.MetricNameLabel, Value: []string{"counter", "gauge"}[i%2]}, {Name: "i", Value: fmt.Sprint(i)}}
			if err := b.AddSeries(model.TenantID{}, labels); err != nil {
				t.Fatal(err)
			}
			switch {
			case i%2 == 1:
				values[i] = float64(rng.IntN(1000)) / 4
			case rng.IntN(500) == 0:
				values[i] = 0
			default:
				values[i] += float64(rng.IntN(20))
			}
			if rng.IntN(200) > 0 {
				b.AddSample(at+int64(i), values[i])
			}
		}
		for _, s := range stores {
			if err := s.Ingest(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range stores {
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Merge(ctx, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// TestQueriesOverDownsampled compares answers over downsampled samples with those over all samples, at windows of whole intervals.
func TestQueriesOverDownsampled(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	now := time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
	all, exact := openAt(t, now, nil)
	few, engine := openAt(t, now, []storage.DownsamplingRule{{Offset: 24 * time.Hour, Interval: 5 * time.Minute}, {Offset: 48 * time.Hour, Interval: time.Hour}})
	sendDays(t, rand.New(rand.NewPCG(seed, 0)), now, all, few)
	for _, q := range []string{
		"min_over_time(gauge[2h])", "max_over_time(gauge[2h])", "sum_over_time(gauge[2h])", "count_over_time(gauge[2h])", "avg_over_time(gauge[2h])", "last_over_time(gauge[2h])",
		"increase(counter[2h])", "rate(counter[2h])", "sum(increase(counter[1h]))", "max(max_over_time(gauge[3h])) by (i)", "sum(count_over_time(counter[1h]))",
		"avg_over_time(gauge[1h]) / avg_over_time(gauge[1h])", "count_over_time(counter[1h]) - count_over_time(counter[1h])", "min(avg_over_time(counter[2h]))",
		"delta(counter[2h])",
	} {
		r := &query.Request{Query: q, Start: now.Add(-80 * time.Hour).UnixMilli(), End: now.Add(-time.Hour).UnixMilli(), Step: 3600_000, NoCache: true}
		want, err := exact.QueryRange(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := engine.QueryRange(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Series) == 0 || want.SamplesRead < 2*got.SamplesRead {
			t.Errorf("%s: %d series; %d of %d samples were read", q, len(want.Series), got.SamplesRead, want.SamplesRead)
		}
		wantSame(t, q, got, want)
	}
}

func wantSame(t *testing.T, q string, got, want *query.Result) {
	t.Helper()
	if len(got.Series) != len(want.Series) {
		t.Errorf("%s: %d series; want %d", q, len(got.Series), len(want.Series))
		return
	}
	for i := range want.Series {
		g, w := got.Series[i], want.Series[i]
		if len(g.Values) != len(w.Values) {
			t.Errorf("%s: series %d has %d points; want %d", q, i, len(g.Values), len(w.Values))
			return
		}
		for k := range w.Values {
			a, b := g.Values[k], w.Values[k]
			if math.IsNaN(a) != math.IsNaN(b) || math.Abs(a-b) > 1e-9*math.Abs(b) {
				t.Errorf("%s: series %d at point %d is %v; want %v", q, i, k, a, b)
				return
			}
		}
	}
}
