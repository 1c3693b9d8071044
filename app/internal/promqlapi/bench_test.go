package promqlapi

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"vmcluster/lib/model"
)

// BenchmarkQueries measures queries over a thousand series of six hours with a sample every 15 seconds, beside the other dialect.
func BenchmarkQueries(b *testing.B) {
	const series, samples = 1000, 1440
	e := newEnv(b, "-search.maxPointsPerTimeseries=100000")
	for i := range series {
		var times []int64
		var values []float64
		for k := range samples {
			times, values = append(times, t0-int64(samples-k)*15000), append(values, float64(i*k))
		}
		e.ingest(b, model.TenantID{}, map[string]string{"__name__": "work_total", "i": fmt.Sprint(i), "group": fmt.Sprint(i % 10)}, times, values)
	}
	if err := e.store.db.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, q := range []struct{ name, query, kind, step string }{
		{"instant", "sum by (group) (work_total)", "query", ""},
		{"rate", "sum by (group) (rate(work_total[5m]))", "query_range", "60"},
		{"selector", "sum by (group) (work_total)", "query_range", "60"},
	} {
		for _, dialect := range []string{"promql", "prometheus"} {
			b.Run(q.name+"/"+dialect, func(b *testing.B) {
				args := pairs("query", q.query, "time", seconds(t0-10_000), "start", seconds(t0-6*3600_000), "end", seconds(t0-10_000), "step", q.step, "nocache", "1")
				b.ReportAllocs()
				before := cpuTime(b)
				for b.Loop() {
					if status, body := e.ask(http.MethodGet, "/select/0/"+dialect+"/api/v1/"+q.kind, args); status != http.StatusOK {
						b.Fatal(body)
					}
				}
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// cpuTime returns the nanoseconds of processor time which the process has used.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
