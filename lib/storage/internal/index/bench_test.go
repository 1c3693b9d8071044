package index

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
)

// benchSeries is the number of series of the benchmarks; INDEX_BENCH_SERIES changes it.
func benchSeries() int {
	if n, err := strconv.Atoi(os.Getenv("INDEX_BENCH_SERIES")); err == nil {
		return n
	}
	return 200_000
}

// k8sKeys returns keys as a Kubernetes cluster has them: pods of 400 series with ten labels each.
func k8sKeys(b testing.TB, n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		pod := i / 400
		keys[i] = testKey(b, model.TenantID{},
			model.MetricNameLabel, fmt.Sprintf("container_metric_number_%d_total", i%200),
			"cluster", "production-eu-west-1",
			"namespace", fmt.Sprintf("team-%d", pod%50),
			"pod", fmt.Sprintf("service-%d-7d9f8b6c5-%05x", pod%300, pod*7919),
			"container", fmt.Sprintf("container-%d", i/200%2),
			"instance", fmt.Sprintf("10.%d.%d.%d:10250", pod>>14&255, pod>>7&127, pod&127),
			"node", fmt.Sprintf("ip-10-0-%d-%d.eu-west-1.compute.internal", pod>>5&255, pod&31),
			"job", "kubelet",
			"image", fmt.Sprintf("registry.example.com/team/service-%d:v1.%d.0", pod%300, pod%7),
			"id", fmt.Sprintf("/kubepods/burstable/pod%08x", pod*104729),
		)
	}
	return keys
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpuTime returns the user time of the process, which a busy machine does not stretch.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano())
}

func fillBench(b *testing.B, ix *Index, keys [][]byte, hashes []uint64) {
	for i, key := range keys {
		id, _ := ix.Add(hashes[i], key)
		ix.MarkActive(id, int32(i%2))
	}
}

func hashAll(keys [][]byte) []uint64 {
	hashes := make([]uint64, len(keys))
	for i, key := range keys {
		hashes[i] = model.HashSeriesKey(key)
	}
	return hashes
}

// BenchmarkRegister measures the registration of a new series, and the memory it takes.
func BenchmarkRegister(b *testing.B) {
	keys := k8sKeys(b, benchSeries())
	hashes := hashAll(keys)
	for b.Loop() {
		b.StopTimer()
		ix := mustOpen(b, vfs.OS(), b.TempDir())
		before := heapBytes()
		cpu := cpuTime(b)
		b.StartTimer()
		for i, key := range keys {
			ix.Add(hashes[i], key)
		}
		b.StopTimer()
		b.ReportMetric(float64(cpuTime(b)-cpu)/float64(len(keys)), "cpu-ns/series")
		b.ReportMetric(float64(heapBytes()-before)/float64(len(keys)), "heapB/series")
		closed(b, ix)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(keys)), "ns/series")
}

// BenchmarkFlush measures the first flush of all series.
func BenchmarkFlush(b *testing.B) {
	keys := k8sKeys(b, benchSeries())
	hashes := hashAll(keys)
	for b.Loop() {
		b.StopTimer()
		ix := mustOpen(b, vfs.OS(), b.TempDir())
		fillBench(b, ix, keys, hashes)
		b.StartTimer()
		must(b, ix.Flush())
		b.StopTimer()
		b.ReportMetric(float64(ix.SizeBytes())/float64(len(keys)), "diskB/series")
		before := heapBytes()
		closed(b, ix)
		b.ReportMetric((float64(before)-float64(heapBytes()))/float64(len(keys)), "heapB/series")
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(keys)), "ns/series")
}

// BenchmarkMerge measures the merge of four segments.
func BenchmarkMerge(b *testing.B) {
	keys := k8sKeys(b, benchSeries())
	hashes := hashAll(keys)
	for b.Loop() {
		b.StopTimer()
		ix := mustOpen(b, vfs.OS(), b.TempDir())
		for i := range 3 {
			fillBench(b, ix, keys[i*len(keys)/3:(i+1)*len(keys)/3], hashes[i*len(keys)/3:])
			must(b, ix.Flush())
		}
		b.StartTimer()
		must(b, ix.Merge(ctx))
		b.StopTimer()
		b.ReportMetric(float64(ix.SizeBytes())/float64(len(keys)), "diskB/series")
		closed(b, ix)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(keys)), "ns/series")
}

// BenchmarkRead measures reads of the head and of one segment.
func BenchmarkRead(b *testing.B) {
	keys := k8sKeys(b, benchSeries())
	hashes := hashAll(keys)
	ix := mustOpen(b, vfs.OS(), b.TempDir())
	fillBench(b, ix, keys, hashes)
	b.Run("head", func(b *testing.B) { benchReads(b, ix, keys, hashes) })
	must(b, ix.Flush())
	must(b, ix.Merge(ctx))
	b.Run("segment", func(b *testing.B) { benchReads(b, ix, keys, hashes) })
	closed(b, ix)
}

func benchReads(b *testing.B, ix *Index, keys [][]byte, hashes []uint64) {
	for _, tc := range []struct {
		name    string
		filters []model.TagFilter
	}{
		{"metric", []model.TagFilter{{Name: model.MetricNameLabel, Value: "container_metric_number_7_total"}}},
		{"metric_and_namespace", []model.TagFilter{{Name: model.MetricNameLabel, Value: "container_metric_number_7_total"}, {Name: "namespace", Value: "team-3"}}},
		{"one", []model.TagFilter{{Name: model.MetricNameLabel, Value: "container_metric_number_7_total"}, {Name: "pod", Value: "service-3-7d9f8b6c5-05cc5"}}},
		{"prefix_regexp", []model.TagFilter{{Name: "pod", Value: "service-1.*", Op: model.Regexp}}},
		{"any_regexp", []model.TagFilter{{Name: "pod", Value: ".*-[0-9]+5-.*[aeb]+", Op: model.Regexp}}},
		{"all_regexp", []model.TagFilter{{Name: "pod", Value: ".+", Op: model.Regexp}}},
		{"negative", []model.TagFilter{{Name: "namespace", Value: "team-3", Op: model.NotEqual}}},
		{"missing", []model.TagFilter{{Name: "pod", Value: ""}}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			var found *roaring.Bitmap
			for b.Loop() {
				var err error
				if found, err = ix.Search(ctx, Query{Filters: [][]model.TagFilter{tc.filters}, LastDay: 1}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(found.GetCardinality()), "found")
		})
	}
	b.Run("lookup_in_order", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			j := i % len(keys)
			if _, ok := ix.Lookup(hashes[j], keys[j]); !ok {
				b.Fatal("lost")
			}
		}
	})
	b.Run("lookup_random", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			j := i * 7919 % len(keys)
			if _, ok := ix.Lookup(hashes[j], keys[j]); !ok {
				b.Fatal("lost")
			}
		}
	})
	b.Run("keys_of_all", func(b *testing.B) {
		all := roaring.New()
		all.AddRange(0, uint64(len(keys)))
		for b.Loop() {
			must(b, ix.Keys(ctx, all, func(uint32, []byte) bool { return true }))
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(keys)), "ns/key")
	})
	b.Run("label_values", func(b *testing.B) {
		for b.Loop() {
			_, err := ix.LabelValues(ctx, Query{LastDay: 1}, "pod", 0)
			must(b, err)
		}
	})
}
