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
	s.Gauge(fmt.Sprintf("vm_os_info{os=%q, release=%q}", runtime.GOOS, kernelRelease()), func() float64 { return 1 })
	s.AddCollector(func(w *Writer) { writeGo(w) })
	s.AddCollector(func(w *Writer) { writeProcess(w, start) })
	s.AddCollector(writePressure)
}

// RegisterFS adds vm_fs_info for a directory. The type of its file system stays empty on systems without /proc.
func RegisterFS(s *Set, path string) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		mounts = nil // not on this system
	}
	full, err := filepath.Abs(path)
	if err == nil {
		full, err = filepath.EvalSymlinks(full)
	}
	if err != nil {
		full = path // then it is looked for as it was given
	}
	s.Gauge(fmt.Sprintf("vm_fs_info{path=%q, fs_type=%q}", path, fsType(string(mounts), full)), func() float64 { return 1 })
}

// fsType returns the type of the file system with a path; mounts is as in /proc/self/mountinfo. Of mounts over one another the last counts.
func fsType(mounts, path string) string {
	longest, found := -1, ""
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		fields, of := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(of) == 0 {
			continue
		}
		mount := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		inside := path == mount || strings.HasPrefix(path, strings.TrimSuffix(mount, "/")+"/")
		if inside && len(mount) >= longest {
			longest, found = len(mount), of[0]
		}
	}
	return found
}

func kernelRelease() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "" // not on this system
	}
	return strings.TrimSpace(string(release))
}

// writePressure writes for how long the tasks of the cgroup, or else of the machine, waited for what they need: some of them, and all at a time.
func writePressure(w *Writer) {
	for _, resource := range []string{"cpu", "io", "memory"} {
		data, err := os.ReadFile("/sys/fs/cgroup/" + resource + ".pressure")
		if err != nil {
			if data, err = os.ReadFile("/proc/pressure/" + resource); err != nil {
				continue // the kernel does not count it
			}
		}
		for line := range strings.Lines(string(data)) {
			which := map[string]string{"some": "waiting", "full": "stalled"}[strings.SplitN(line, " ", 2)[0]]
			_, total, ok := strings.Cut(line, "total=")
			micros, err := strconv.ParseUint(strings.TrimSpace(total), 10, 64)
			if which != "" && ok && err == nil {
				w.Counter("process_pressure_"+resource+"_"+which+"_seconds_total", float64(micros)/1e6)
			}
		}
	}
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
		{"go_memstats_stack_sys_bytes", m.StackSys}, {"go_memstats_sys_bytes", m.Sys}, {"go_memstats_buck_hash_sys_bytes", m.BuckHashSys},
		{"go_memstats_gc_sys_bytes", m.GCSys}, {"go_memstats_mcache_inuse_bytes", m.MCacheInuse}, {"go_memstats_mcache_sys_bytes", m.MCacheSys},
		{"go_memstats_mspan_inuse_bytes", m.MSpanInuse}, {"go_memstats_mspan_sys_bytes", m.MSpanSys}, {"go_memstats_other_sys_bytes", m.OtherSys},
	} {
		w.Gauge(g.name, float64(g.value))
	}
	w.Counter("go_memstats_alloc_bytes_total", float64(m.TotalAlloc))
	w.Counter("go_memstats_mallocs_total", float64(m.Mallocs))
	w.Counter("go_memstats_frees_total", float64(m.Frees))
	w.Gauge("go_memstats_gc_cpu_fraction", m.GCCPUFraction)
	w.Gauge("go_memstats_last_gc_time_seconds", float64(m.LastGC)/1e9)
	w.Counter("go_cgo_calls_count", float64(runtime.NumCgoCall()))
	w.Counter("go_gc_duration_seconds_count", float64(m.NumGC))
	w.Counter("go_gc_duration_seconds_sum", float64(m.PauseTotalNs)/1e9)
	writeRuntime(w)
}

// writeRuntime writes what package runtime/metrics knows. Other names of ours for its metrics are those that people know.
func writeRuntime(w *Writer) {
	samples := []rtmetrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}, {Name: "/cpu/classes/scavenge/total:cpu-seconds"},
		{Name: "/sync/mutex/wait/total:seconds"}, {Name: "/gc/cycles/forced:gc-cycles"}, {Name: "/gc/gomemlimit:bytes"}, {Name: "/gc/gogc:percent"},
		{Name: "/sched/latencies:seconds"}, {Name: "/sched/pauses/total/gc:seconds"},
	}
	rtmetrics.Read(samples)
	w.Counter("go_gc_cpu_seconds_total", samples[0].Value.Float64())
	w.Counter("go_gc_mark_assist_cpu_seconds_total", samples[1].Value.Float64())
	w.Counter("go_scavenge_cpu_seconds_total", samples[2].Value.Float64())
	w.Counter("go_mutex_wait_seconds_total", samples[3].Value.Float64())
	w.Counter("go_gc_forced_count", float64(samples[4].Value.Uint64()))
	w.Gauge("go_memlimit_bytes", float64(samples[5].Value.Uint64()))
	w.Gauge("vm_gogc", float64(samples[6].Value.Uint64()))
	writeBuckets(w, "go_sched_latencies_seconds", samples[7].Value.Float64Histogram())
	writeBuckets(w, "go_gc_pauses_seconds", samples[8].Value.Float64Histogram())
}

// writeBuckets writes a cumulative histogram with about one bucket per power of two.
func writeBuckets(w *Writer, family string, h *rtmetrics.Float64Histogram) {
	w.typeLine(family, "histogram")
	var total uint64
	last := 0.0
	for i, n := range h.Counts {
		total += n
		bound := h.Buckets[i+1]
		if bound < 2*last && i+1 < len(h.Counts) {
			continue
		}
		last = bound
		w.line(fmt.Sprintf("%s_bucket{le=%q}", family, strconv.FormatFloat(bound, 'g', 4, 64)), float64(total))
	}
	w.line(family+"_count", float64(total))
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
		"VmPeak":  "process_virtual_memory_peak_bytes",
		"Threads": "process_num_threads",
	})
	writeProcFile(w, "/proc/self/io", map[string]string{
		"rchar": "process_io_read_bytes_total", "wchar": "process_io_written_bytes_total", "syscr": "process_io_read_syscalls_total",
		"syscw": "process_io_write_syscalls_total", "read_bytes": "process_io_storage_read_bytes_total", "write_bytes": "process_io_storage_written_bytes_total",
	})
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
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
