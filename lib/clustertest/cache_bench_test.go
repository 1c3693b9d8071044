package clustertest

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/storage"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/vfs/memfs"
)

const (
	dashboardSeries = 12_000
	dashboardScrape = 30_000
	dashboardSpan   = 24 * 3600_000
)

// dashboardStorage holds a day of counters of a hundred instances.
func dashboardStorage(b *testing.B) *storage.Storage {
	b.Helper()
	cfg := storage.DefaultConfig("/data")
	if err := cfg.RetentionPeriod.Set("100y"); err != nil {
		b.Fatal(err)
	}
	now := func() time.Time { return time.UnixMilli(apitest.DefaultBase).Add(48 * time.Hour) }
	db, err := storage.Open(cfg, storage.Options{FS: memfs.New(memfs.Options{}), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(4 << 30), Now: now})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	// The last hours are not in the part of the others, as it is with flushes now and then.
	const flushed = dashboardSpan - 2*3600_000
	writeDashboard(b, db, 0, flushed)
	if err := db.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	writeDashboard(b, db, flushed, dashboardSpan+3600_000)
	return db
}

// writeDashboard writes samples of a part of the time.
func writeDashboard(b *testing.B, db *storage.Storage, start, end int64) {
	b.Helper()
	var batch model.Batch
	for i := range dashboardSeries {
		labels := []model.Label{{Name: model.MetricNameLabel, Value: "requests_total"}, {Name: "instance", Value: fmt.Sprintf("10.0.0.%d:9100", i%100)}, {Name: "path", Value: fmt.Sprint("/api/", i/100)}}
		if err := batch.AddSeries(model.TenantID{}, labels); err != nil {
			b.Fatal(err)
		}
		for at := start; at < end; at += dashboardScrape {
			k := at / dashboardScrape
			batch.AddSample(apitest.DefaultBase+at+int64(i%100)*137, float64(k*100*int64(i%50+1)+k*int64(i+1)%97))
		}
		if batch.Rows() > 200_000 || i == dashboardSeries-1 {
			if err := db.Ingest(b.Context(), &batch); err != nil {
				b.Fatal(err)
			}
			batch = model.Batch{}
		}
	}
}

// BenchmarkDashboard asks for a day with a step of a minute, moved on by a step each time.
func BenchmarkDashboard(b *testing.B) {
	db := dashboardStorage(b)
	for _, text := range []string{"sum by (instance) (rate(requests_total[5m]))", `max_over_time(requests_total{instance="10.0.0.7:9100"}[5m])`} {
		for _, cached := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/cache=%v", text, cached), func(b *testing.B) { benchDashboard(b, db, text, cached) })
		}
	}
}

func benchDashboard(b *testing.B, db *storage.Storage, text string, cached bool) {
	b.Helper()
	now := int64(apitest.DefaultBase + dashboardSpan)
	budget := memory.NewBudget(4 << 30)
	cfg := &query.Config{MaxPointsPerSeries: 30_000, MaxSamplesPerQuery: 1e9}
	if err := cfg.CacheTimestampOffset.Set("5m"); err != nil {
		b.Fatal(err)
	}
	o := query.Options{Source: querysource.New(db, nil, query.Reading{}), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: budget, Now: func() time.Time { return time.UnixMilli(now) }}
	if cached {
		o.Cache = query.NewCache(query.CacheOptions{Versions: querysource.Versioner(db), Budget: budget, Metrics: metrics.NewSet()})
		defer o.Cache.Reset()
	}
	engine := query.New(cfg, o)
	samples := 0
	ask := func() {
		res, err := engine.QueryRange(context.Background(), &query.Request{Query: text, Start: now - dashboardSpan, End: now, Step: 60_000})
		if err != nil || len(res.Series) == 0 {
			b.Fatal(err, len(res.Series))
		}
		samples = res.SamplesRead
		if now += 60_000; now > apitest.DefaultBase+dashboardSpan+3600_000 {
			now = apitest.DefaultBase + dashboardSpan
		}
	}
	for cached && samples == 0 { // the first look keeps nothing, the second all
		ask()
		ask()
	}
	before := cpuTime()
	for b.Loop() {
		ask()
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(samples), "samples/op")
}

// cpuTime returns the time that the process has computed.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
