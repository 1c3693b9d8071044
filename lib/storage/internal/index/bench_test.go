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

	"vmcluster/lib/memory"
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

// benchKeys returns the keys of the benchmarks: realistic ones, or with INDEX_BENCH_KEYS=simple those of k8sKeys.
func benchKeys(b testing.TB) [][]byte {
	if os.Getenv("INDEX_BENCH_KEYS") == "simple" {
		return k8sKeys(b, benchSeries())
	}
	return realKeys(b, benchSeries())
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
		id, _, _ := ix.Add(hashes[i], key)
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
	keys := benchKeys(b)
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
	keys := benchKeys(b)
	hashes := hashAll(keys)
	for b.Loop() {
		b.StopTimer()
		ix := mustOpen(b, vfs.OS(), b.TempDir())
		fillBench(b, ix, keys, hashes)
		cpu := cpuTime(b)
		b.StartTimer()
		must(b, ix.Flush())
		b.StopTimer()
		b.ReportMetric(float64(cpuTime(b)-cpu)/float64(len(keys)), "cpu-ns/series")
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
	keys := benchKeys(b)
	hashes := hashAll(keys)
	for b.Loop() {
		b.StopTimer()
		ix := mustOpen(b, vfs.OS(), b.TempDir())
		for i := range 3 {
			fillBench(b, ix, keys[i*len(keys)/3:(i+1)*len(keys)/3], hashes[i*len(keys)/3:])
			must(b, ix.Flush())
		}
		cpu := cpuTime(b)
		b.StartTimer()
		must(b, ix.Merge(ctx))
		b.StopTimer()
		b.ReportMetric(float64(cpuTime(b)-cpu)/float64(len(keys)), "cpu-ns/series")
		b.ReportMetric(float64(ix.SizeBytes())/float64(len(keys)), "diskB/series")
		closed(b, ix)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(keys)), "ns/series")
}

// BenchmarkRead measures reads of the head, of one segment without and with remembered filters.
func BenchmarkRead(b *testing.B) {
	keys := benchKeys(b)
	hashes := hashAll(keys)
	dir := b.TempDir()
	ix := mustOpen(b, vfs.OS(), dir)
	fillBench(b, ix, keys, hashes)
	b.Run("head", func(b *testing.B) { benchReads(b, ix, keys, hashes) })
	must(b, ix.Flush())
	must(b, ix.Merge(ctx))
	closed(b, ix)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			closed(b, mustOpen(b, vfs.OS(), dir))
		}
	})
	o := options(vfs.OS(), dir)
	o.Budget = memory.NewBudget(4 << 30)
	ix, err := Open(o)
	must(b, err)
	cache := ix.matches
	ix.mu.state.segments[0].matches = nil
	b.Run("segment", func(b *testing.B) { benchReads(b, ix, keys, hashes) })
	ix.mu.state.segments[0].matches = cache
	b.Run("cached", func(b *testing.B) { benchSearches(b, ix, keys) })
	b.Run("lists", func(b *testing.B) { benchLists(b, ix) })
	closed(b, ix)
}

func equal(name, value string) model.TagFilter { return model.TagFilter{Name: name, Value: value} }

func matching(name, value string) model.TagFilter {
	return model.TagFilter{Name: name, Value: value, Op: model.Regexp}
}

func benchSearches(b *testing.B, ix *Index, keys [][]byte) {
	_, labels, err := model.ParseSeriesKey(nil, keys[1000])
	must(b, err)
	metric := equal(model.MetricNameLabel, "container_metric_number_7_total")
	for _, tc := range []struct {
		name    string
		filters []model.TagFilter
	}{
		{"equality", []model.TagFilter{metric}},
		{"two_equalities", []model.TagFilter{metric, equal("namespace", "team-3")}},
		{"one_pod", []model.TagFilter{metric, equal("pod", labelValue(labels, "pod"))}},
		{"regexp_prefix", []model.TagFilter{matching("pod", "service-1.*")}},
		{"regexp_suffix", []model.TagFilter{matching("pod", ".*7")}},
		{"regexp_contains", []model.TagFilter{matching("pod", ".*-12.*")}},
		{"regexp_any", []model.TagFilter{matching("pod", ".*-[0-9]+5-.*[aeb]+")}},
		{"alternation", []model.TagFilter{matching("namespace", "team-1|team-2|team-3")}},
		{"every_name", []model.TagFilter{matching(model.MetricNameLabel, ".+")}},
		{"negative", []model.TagFilter{{Name: "namespace", Value: "team-3", Op: model.NotEqual}}},
		{"negative_regexp", []model.TagFilter{{Name: "namespace", Value: "team-.*1", Op: model.NotRegexp}}},
		{"empty", []model.TagFilter{equal("pod", "")}},
		{"not_empty", []model.TagFilter{{Name: "pod", Value: "", Op: model.NotEqual}}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			var found *roaring.Bitmap
			cpu := cpuTime(b)
			for b.Loop() {
				var err error
				if found, err = ix.Search(ctx, Query{Filters: [][]model.TagFilter{tc.filters}, LastDay: 1}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1000, "cpu-us/op")
			b.ReportMetric(float64(found.GetCardinality()), "found")
		})
	}
}

func benchLists(b *testing.B, ix *Index) {
	kubelet := Query{LastDay: 1, Filters: [][]model.TagFilter{{equal("namespace", "team-3")}}}
	for name, f := range map[string]func() error{
		"names":           func() error { _, err := ix.LabelNames(ctx, Query{LastDay: 1}, 0); return err },
		"values_of_name":  func() error { _, err := ix.LabelValues(ctx, Query{LastDay: 1}, model.MetricNameLabel, 0); return err },
		"values_of_pod":   func() error { _, err := ix.LabelValues(ctx, Query{LastDay: 1}, "pod", 0); return err },
		"names_filtered":  func() error { _, err := ix.LabelNames(ctx, kubelet, 0); return err },
		"values_filtered": func() error { _, err := ix.LabelValues(ctx, kubelet, "pod", 0); return err },
		"one_day_of_pods": func() error { _, err := ix.LabelValues(ctx, Query{}, "pod", 0); return err },
		"status":          func() error { _, err := ix.Status(ctx, StatusQuery{LastDay: 1, TopN: 10}); return err },
	} {
		b.Run(name, func(b *testing.B) {
			cpu := cpuTime(b)
			for b.Loop() {
				must(b, f())
			}
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1000, "cpu-us/op")
		})
	}
}

func benchReads(b *testing.B, ix *Index, keys [][]byte, hashes []uint64) {
	benchSearches(b, ix, keys)
	for name, step := range map[string]int{"lookup_in_order": 1, "lookup_random": 7919} {
		b.Run(name, func(b *testing.B) {
			cpu := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				j := i * step % len(keys)
				if _, ok, _ := ix.Lookup(hashes[j], keys[j]); !ok {
					b.Fatal("lost")
				}
			}
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1000, "cpu-us/op")
		})
	}
	b.Run("keys_of_all", func(b *testing.B) {
		all := roaring.New()
		all.AddRange(0, uint64(len(keys)))
		cpu := cpuTime(b)
		for b.Loop() {
			must(b, ix.Keys(ctx, all, func(uint32, []byte) bool { return true }))
		}
		b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/float64(len(keys)), "cpu-ns/key")
	})
	benchLists(b, ix)
}
