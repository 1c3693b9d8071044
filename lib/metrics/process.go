package metrics

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	rtmetrics "runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RegisterProcess adds metrics of the process and of the Go runtime:
// vm_app_*, process_* and go_*.
func RegisterProcess(s *Set, version string) {
	start := time.Now()
	s.Gauge(fmt.Sprintf("vm_app_version{version=%q, short_version=%q}", version, shortVersion(version)), func() float64 { return 1 })
	s.Gauge("vm_app_start_timestamp", func() float64 { return float64(start.Unix()) })
	s.Gauge("vm_app_uptime_seconds", func() float64 { return time.Since(start).Seconds() })
	s.Gauge("vm_available_cpu_cores", func() float64 { return float64(runtime.GOMAXPROCS(-1)) })
	s.Gauge("process_cpu_cores_available", func() float64 { return float64(runtime.NumCPU()) })
	s.AddCollector(func(w *Writer) { writeGo(w) })
	s.AddCollector(func(w *Writer) { writeProcess(w, start) })
}

// shortVersion cuts a version down to its tag.
func shortVersion(version string) string {
	tag, _, _ := strings.Cut(version, "-g")
	return tag
}

func writeGo(w *Writer) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.Gauge("go_goroutines", float64(runtime.NumGoroutine()))
	w.Gauge("go_cpu_count", float64(runtime.NumCPU()))
	w.Gauge("go_gomaxprocs", float64(runtime.GOMAXPROCS(-1)))
	w.Gauge(fmt.Sprintf("go_info{version=%q}", runtime.Version()), 1)
	for _, g := range []struct {
		name  string
		value uint64
	}{
		{"go_memstats_alloc_bytes", m.Alloc}, {"go_memstats_heap_alloc_bytes", m.HeapAlloc}, {"go_memstats_heap_idle_bytes", m.HeapIdle},
		{"go_memstats_heap_inuse_bytes", m.HeapInuse}, {"go_memstats_heap_objects", m.HeapObjects}, {"go_memstats_heap_released_bytes", m.HeapReleased},
		{"go_memstats_heap_sys_bytes", m.HeapSys}, {"go_memstats_next_gc_bytes", m.NextGC}, {"go_memstats_stack_inuse_bytes", m.StackInuse},
		{"go_memstats_stack_sys_bytes", m.StackSys}, {"go_memstats_sys_bytes", m.Sys},
	} {
		w.Gauge(g.name, float64(g.value))
	}
	w.Counter("go_memstats_alloc_bytes_total", float64(m.TotalAlloc))
	w.Counter("go_memstats_mallocs_total", float64(m.Mallocs))
	w.Counter("go_gc_duration_seconds_count", float64(m.NumGC))
	w.Counter("go_gc_duration_seconds_sum", float64(m.PauseTotalNs)/1e9)
	samples := []rtmetrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/sched/latencies:seconds"}}
	rtmetrics.Read(samples)
	w.Counter("go_gc_cpu_seconds_total", samples[0].Value.Float64())
	writeLatencies(w, samples[1].Value.Float64Histogram())
}

// writeLatencies writes the scheduling latencies as a cumulative histogram
// with about one bucket per power of two.
func writeLatencies(w *Writer, h *rtmetrics.Float64Histogram) {
	var total uint64
	last := 0.0
	for i, n := range h.Counts {
		total += n
		bound := h.Buckets[i+1]
		if bound < 2*last && i+1 < len(h.Counts) {
			continue
		}
		last = bound
		w.Counter(fmt.Sprintf("go_sched_latencies_seconds_bucket{le=%q}", strconv.FormatFloat(bound, 'g', 4, 64)), float64(total))
	}
	w.Counter("go_sched_latencies_seconds_count", float64(total))
}

// writeProcess writes what /proc/self tells; on systems without it, only CPU time.
func writeProcess(w *Writer, start time.Time) {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		user := float64(usage.Utime.Sec) + float64(usage.Utime.Usec)/1e6
		system := float64(usage.Stime.Sec) + float64(usage.Stime.Usec)/1e6
		w.Counter("process_cpu_seconds_total", user+system)
		w.Counter("process_cpu_seconds_user_total", user)
		w.Counter("process_cpu_seconds_system_total", system)
		w.Counter("process_major_pagefaults_total", float64(usage.Majflt))
		w.Counter("process_minor_pagefaults_total", float64(usage.Minflt))
	}
	w.Gauge("process_start_time_seconds", float64(start.Unix()))
	writeProcFile(w, "/proc/self/status", map[string]string{
		"VmRSS": "process_resident_memory_bytes", "RssAnon": "process_resident_memory_anon_bytes", "RssFile": "process_resident_memory_file_bytes",
		"RssShmem": "process_resident_memory_shared_bytes", "VmHWM": "process_resident_memory_peak_bytes", "VmSize": "process_virtual_memory_bytes",
		"Threads": "process_num_threads",
	})
	writeProcFile(w, "/proc/self/io", map[string]string{
		"rchar": "process_io_read_bytes_total", "wchar": "process_io_written_bytes_total", "syscr": "process_io_read_syscalls_total",
		"syscw": "process_io_write_syscalls_total", "read_bytes": "process_io_storage_read_bytes_total", "write_bytes": "process_io_storage_written_bytes_total",
	})
	if fds, err := filepath.Glob("/proc/self/fd/*"); err == nil {
		w.Gauge("process_open_fds", float64(len(fds)))
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		w.Gauge("process_max_fds", float64(limit.Cur))
	}
}

// writeProcFile writes the "Name: value [kB]" lines of a file under /proc.
func writeProcFile(w *Writer, path string, names map[string]string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return // not on this system
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		key, rest, _ := strings.Cut(sc.Text(), ":")
		name, ok := names[key]
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			v *= 1024
		}
		if strings.HasSuffix(name, "_total") {
			w.Counter(name, v)
		} else {
			w.Gauge(name, v)
		}
	}
}
