package streamaggr_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/streamaggr"
)

// nowhere takes everything.
type nowhere struct{}

func (nowhere) Ingest(context.Context, *model.Batch) error { return nil }

// benchSeries are spread over groups of a hundred.
const benchSeries = 100_000

func newBench(b *testing.B, rule string) (*streamaggr.Aggregator, []*model.Batch) {
	a, _ := newTest(b, nowhere{}, nil, "- {interval: 1h, "+rule+"}")
	space := model.NewSpace()
	all := batchOf(space, benchSeries, benchSeries/100, time.Now(), 1)
	var batches []*model.Batch
	for start := 0; start < benchSeries; start += 10_000 {
		part := &model.Batch{}
		for i := range 10_000 {
			part.Append(all, start+i)
		}
		batches = append(batches, part)
	}
	for _, batch := range batches {
		if err := a.Ingest(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() {
		_ = a.Close()
		space.Close()
	})
	return a, batches
}

// cpuTime returns the CPU time of the process. Other processes do not matter to it as much as to the time that passes.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSample(b *testing.B) {
	for _, output := range []string{"total", "avg", "count_series", "'quantiles(0.5,0.99)'", "histogram_bucket", "'avg,max,min,count_samples,sum_samples,stddev'"} {
		for _, labels := range []string{"name: all", "by: [group]", "without: [instance]", "by: [group], dedup_interval: 1m"} {
			b.Run(fmt.Sprintf("%s/%s", output, labels), func(b *testing.B) {
				list := output
				if list[0] == '\'' && list[1] == 'a' {
					list = list[1 : len(list)-1]
				}
				a, batches := newBench(b, labels+", outputs: ["+list+"]")
				b.ReportAllocs()
				b.ResetTimer()
				start := cpuTime(b)
				for i := range b.N {
					if err := a.Ingest(b.Context(), batches[i%len(batches)]); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((cpuTime(b)-start).Nanoseconds())/float64(b.N)/10_000, "cpu-ns/sample")
			})
		}
	}
}
