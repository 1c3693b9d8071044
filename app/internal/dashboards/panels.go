package main

// Panels of several dashboards. Selectors begin with an at sign and are put in by resolve: @any for all processes, @storage, @insert and @select
// for those which store, take samples, and answer queries. In a single node they are all the same.

func stats() row {
	s := func(title, about, unit, expr string) panel {
		return panel{title: title, about: about, unit: unit, kind: "stat", width: 4, queries: []query{{expr, ""}}}
	}
	return row{title: "Stats", panels: []panel{
		s("Samples", "Samples stored, copies included. Grows until -retentionPeriod is reached.", "short", `sum(vm_rows{@storage, type!~"indexdb.*"})`),
		s("Ingestion rate", "Samples that senders bring per second. A sudden drop: look at the senders, then at errors of requests.", "short", `sum(rate(vm_rows_inserted_total{@insert}[$__rate_interval]))`),
		s("Active series", "Series with a sample in the last hour, copies included. Memory is planned by it: docs/capacity-planning.md.", "short", `sum(vm_cache_entries{@storage, type="storage/hour_metric_ids"})`),
		s("Read requests", "Requests for data per second.", "reqps", `sum(rate(vm_http_requests_total{@select, path!~"/metrics|/health|/-/.*"}[$__rate_interval]))`),
		s("Disk used", "Samples and index on the disks. Snapshots hold more; free space below says what is left.", "bytes", `sum(vm_data_size_bytes{@storage, type!~".*/inmemory"})`),
		s("Bytes per sample", "On disk, index included. Below 1 is usual for metrics of machines; more means many short-lived series, whose index weighs more than their samples.", "bytes",
			`sum(vm_data_size_bytes{@storage, type!~".*/inmemory"}) / sum(vm_rows{@storage, type=~"storage/(small|big)"})`),
		s("Free disk", "On all disks together. Keep 20 % free: merges need room.", "bytes", `sum(vm_free_disk_space_bytes{@storage})`),
		s("CPU cores", "Cores that the processes may use.", "short", `sum(vm_available_cpu_cores{@any})`),
		s("Memory", "Memory that the processes may use.", "bytes", `sum(vm_available_memory_bytes{@any})`),
		s("Processes", "How many there are. Fewer than you have started: the alert ServiceDown names them.", "short", `count(vm_app_start_timestamp{@any})`),
		s("Shortest uptime", "Of all processes. Below five minutes without a reason: read why in the log.", "s", `min(vm_app_uptime_seconds{@any})`),
		{title: "Versions", about: "Processes by version. Unlike versions of one binary: an upgrade was left half done.", kind: "stat", width: 4, unit: "short",
			queries: []query{{`count by (short_version) (vm_app_version{@any})`, "{{short_version}}"}}},
	}}
}

func overview() []panel {
	return []panel{
		{title: "Samples taken", about: "Samples per second by protocol. Normal: steady. A gap in all of them is a problem in front of us; look at the senders.", unit: "short",
			queries: []query{{`sum by (type) (rate(vm_rows_inserted_total{@insert}[$__rate_interval])) > 0`, "{{type}}"}}},
		{title: "Requests", about: "Requests per second by path. Normal: follows the dashboards and rules that ask.", unit: "reqps",
			queries: []query{{`sum by (job, path) (rate(vm_http_requests_total{@any}[$__rate_interval])) > 0`, "{{job}} {{path}}"}}},
		{title: "Errors of requests", about: "Requests answered with an error, by path and reason. Normal: none. The log of the process has each with its cause.", unit: "reqps",
			queries: []query{{`sum by (job, path, reason) (rate(vm_http_request_errors_total{@any}[$__rate_interval])) > 0 or sum by (job) (rate(vm_http_request_errors_total{@any}[$__rate_interval]))`, "{{job}} {{path}} {{reason}}"}}},
		{title: "Time of queries, 99 of 100", about: "99 of 100 requests of the last minutes were answered within it. Below a second for dashboards is usual. Slow: look at CPU, at what is read per query, and at /api/v1/status/top_queries.", unit: "s",
			queries: []query{{`max by (path) (vm_request_duration_seconds{@select, quantile="0.99"})`, "{{path}}"}}},
		{title: "Time of queries, mean", about: "Mean time of requests by path.", unit: "s",
			queries: []query{{`sum by (path) (rate(vm_request_duration_seconds_sum{@select}[$__rate_interval])) / (sum by (path) (rate(vm_request_duration_seconds_count{@select}[$__rate_interval])) > 0)`, "{{path}}"}}},
		{title: "Active series", about: "Series with a sample in the last hour, by process, copies included. Normal: even over the nodes of a cluster. A step up: a new sender, or a label that changes.", unit: "short",
			queries: []query{{`sum by (job, instance) (vm_cache_entries{@storage, type="storage/hour_metric_ids"})`, "{{instance}}"}}},
		{title: "Disk used", about: "Share of each disk that is used. Keep it below 80 %: merges need room. Beyond: add disk or nodes, or shorten -retentionPeriod.", unit: "percentunit", max: 1,
			queries: []query{{`1 - vm_free_disk_space_bytes{@storage} / vm_total_disk_space_bytes{@storage}`, "{{instance}} {{path}}"}}},
		{title: "Writes at a time", about: "Writes that are worked on, and how many there may be. At the limit for long: too little CPU, a slow disk, or storage nodes that are slow.", unit: "short",
			queries: []query{{`sum by (job, instance) (vm_concurrent_insert_current{@insert})`, "{{job}} {{instance}}"}, {`min by (job) (vm_concurrent_insert_capacity{@insert})`, "limit of {{job}}"}}},
		{title: "Queries at a time", about: "Queries that run or wait, and how many may run. Waiting ones mean too little CPU, or queries that are too large.", unit: "short",
			queries: []query{
				{`sum by (instance) (vm_concurrent_select_current{@select})`, "{{instance}}"}, {`sum by (instance) (vm_concurrent_select_waiting{@select})`, "{{instance}} waits"},
				{`min by (job) (vm_concurrent_select_capacity{@select})`, "limit of {{job}}"}}},
		{title: "Writes and queries refused", about: "Requests per second that waited too long for their turn: 503 for writes, 429 for queries. Normal: none. More CPU or processes; cheaper queries.", unit: "reqps",
			queries: []query{
				{`sum by (job, instance) (rate(vm_concurrent_insert_limit_timeout_total{@any}[$__rate_interval]))`, "{{job}} {{instance}} writes"},
				{`sum by (job, instance) (rate(vm_concurrent_select_limit_timeout_total{@any}[$__rate_interval]))`, "{{job}} {{instance}} queries"}}},
	}
}

func resources() row {
	by := "{{job}} {{instance}}"
	return row{title: "Resource usage", closed: true, panels: []panel{
		{title: "CPU", about: "Cores used by each process. Normal: below half of what it may use, so that bursts and the loss of another node have room.", unit: "short",
			queries: []query{{`sum by (job, instance) (rate(process_cpu_seconds_total{@any}[$__rate_interval]))`, by}}},
		{title: "CPU, share", about: "Share of the cores a process may use. Above 90 % writes and queries wait: add cores or nodes.", unit: "percentunit", max: 1,
			queries: []query{{`max by (job, instance) (rate(process_cpu_seconds_total{@any}[$__rate_interval]) / vm_available_cpu_cores{@any})`, by}}},
		{title: "Memory", about: "Memory that the process itself holds (anonymous), without the page cache. Normal: well below -memory.allowedPercent.", unit: "bytes",
			queries: []query{{`sum by (job, instance) (process_resident_memory_anon_bytes{@any})`, by}}},
		{title: "Memory, share", about: "Share of the memory the process may have. Above 80 % little is left for the page cache: add memory or nodes.", unit: "percentunit", max: 1,
			queries: []query{{`max by (job, instance) (process_resident_memory_anon_bytes{@any} / vm_available_memory_bytes{@any})`, by}}},
		{title: "Memory budget", about: "What caches, buffers and queries have reserved of the budget they share. At 100 % queries fail with a message that names it, and writes wait.", unit: "percentunit", max: 1,
			queries: []query{{`max by (job, instance) (vm_reserved_memory_bytes{@any} / vm_allowed_memory_bytes{@any})`, by}}},
		{title: "Memory of the runtime", about: "Heap in use, and what the Go runtime has from the system besides. A gap that stays is memory it has not given back.", unit: "bytes",
			queries: []query{{`sum by (job) (go_memstats_heap_inuse_bytes{@any})`, "{{job}} heap in use"}, {`sum by (job) (go_memstats_sys_bytes{@any})`, "{{job}} from the system"}}},
		{title: "Disk writes", about: "Bytes per second written to disks. Normal: a few times what comes in, in bursts, for merges.", unit: "Bps",
			queries: []query{{`sum by (job, instance) (rate(process_io_storage_written_bytes_total{@any}[$__rate_interval]))`, by}}},
		{title: "Disk reads", about: "Bytes per second read from disks. Normal: near 0, since the page cache has what is asked for. Steadily much: queries read more than fits memory.", unit: "Bps",
			queries: []query{{`sum by (job, instance) (rate(process_io_storage_read_bytes_total{@any}[$__rate_interval]))`, by}}},
		{title: "System calls", about: "Reads and writes per second.", unit: "ops",
			queries: []query{{`sum by (job) (rate(process_io_read_syscalls_total{@any}[$__rate_interval]))`, "{{job}} reads"}, {`sum by (job) (rate(process_io_write_syscalls_total{@any}[$__rate_interval]))`, "{{job}} writes"}}},
		{title: "Open files", about: "Share of the files and connections a process may open. Above 80 %: raise the limit of the service.", unit: "percentunit", max: 1,
			queries: []query{{`max by (job, instance) (process_open_fds{@any} / process_max_fds{@any})`, by}}},
		{title: "Waiting for CPU", about: "Share of the time in which some task of the cgroup, or of the machine, waited for a CPU. Normal: below 20 %.", unit: "percentunit",
			queries: []query{{`max by (job, instance) (rate(process_pressure_cpu_waiting_seconds_total{@any}[$__rate_interval]))`, by}}},
		{title: "Waiting for memory and disk", about: "Share of the time in which some task waited for memory or for a disk. Normal: near 0. Memory: add some. Disk: a faster one.", unit: "percentunit",
			queries: []query{
				{`max by (job, instance) (rate(process_pressure_memory_waiting_seconds_total{@any}[$__rate_interval]))`, by + " memory"},
				{`max by (job, instance) (rate(process_pressure_io_waiting_seconds_total{@any}[$__rate_interval]))`, by + " disk"}}},
		{title: "Garbage collection", about: "Share of the CPU time that goes into garbage collection. Normal: below 15 %.", unit: "percentunit",
			queries: []query{{`max by (job, instance) (rate(go_gc_cpu_seconds_total{@any}[$__rate_interval]) / (rate(process_cpu_seconds_total{@any}[$__rate_interval]) > 0))`, by}}},
		{title: "Goroutines wait for CPU, 99 of 100", about: "How long 99 of 100 goroutines wait at most before they run. Normal: milliseconds. Above 100 ms: too little CPU, or a limit that throttles.", unit: "s",
			queries: []query{{`histogram_quantile(0.99, sum by (le, job) (rate(go_sched_latencies_seconds_bucket{@any}[$__rate_interval])))`, "{{job}}"}}},
		{title: "Goroutines", about: "Steady growth over hours is a leak: please report it with /debug/pprof/goroutine.", unit: "short",
			queries: []query{{`sum by (job, instance) (go_goroutines{@any})`, by}}},
		{title: "Threads", about: "Threads of the system. Many of them wait for disks.", unit: "short",
			queries: []query{{`sum by (job, instance) (process_num_threads{@any})`, by}}},
		{title: "Page faults", about: "Pages per second that had to be read from disk. Much: the page cache is too small for what is queried.", unit: "ops",
			queries: []query{{`sum by (job, instance) (rate(process_major_pagefaults_total{@any}[$__rate_interval]))`, by}}},
		{title: "Traffic of clients", about: "Bytes per second at the HTTP ports.", unit: "Bps",
			queries: []query{
				{`sum by (job) (rate(vm_tcplistener_read_bytes_total{@any, name="http"}[$__rate_interval]))`, "{{job}} in"},
				{`sum by (job) (rate(vm_tcplistener_written_bytes_total{@any, name="http"}[$__rate_interval]))`, "{{job}} out"}}},
		{title: "Connections of clients", about: "Open connections at the HTTP ports.", unit: "short",
			queries: []query{{`sum by (job, instance) (vm_tcplistener_conns{@any, name="http"})`, by}}},
	}}
}

func troubleshooting() row {
	return row{title: "Troubleshooting", closed: true, panels: []panel{
		{title: "New series", about: "Series registered per second. Normal: near 0 but after deployments, and once when a month begins. Steadily much is churn: drop labels that change.", unit: "short",
			queries: []query{{`sum by (job, instance) (rate(vm_new_timeseries_created_total{@storage}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "New series in 24 hours", about: "Compare with active series: more than three times as many means an index that grows faster than it should.", unit: "short",
			queries: []query{{`sum by (job) (increase(vm_new_timeseries_created_total{@storage}[24h]))`, "new"}, {`sum by (job) (vm_cache_entries{@storage, type="storage/hour_metric_ids"})`, "active"}}},
		{title: "Slow inserts", about: "Share of the samples whose series had to be looked up in the index. Normal: below 5 %, but for some minutes after a start. Else churn, or too little memory.", unit: "percentunit", max: 1,
			queries: []query{{`sum by (job, instance) (rate(vm_slow_row_inserts_total{@storage}[$__rate_interval])) / (sum by (job, instance) (rate(vm_rows_added_to_storage_total{@storage}[$__rate_interval])) > 0)`, "{{instance}}"}}},
		{title: "First samples of a day", about: "Series per second that got their first sample of a day. Normal: a wave at midnight UTC, and what is new.", unit: "short",
			queries: []query{{`sum by (job, instance) (rate(vm_slow_per_day_index_inserts_total{@storage}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Samples left out", about: "Samples per second which are not stored, by reason. Normal: none. The log names some; docs/compatibility.md has the reasons.", unit: "short",
			queries: []query{{`sum by (job, reason) (rate(vm_rows_ignored_total{@any}[$__rate_interval])) > 0 or sum by (job) (rate(vm_rows_ignored_total{@any}[$__rate_interval]))`, "{{job}} {{reason}}"}}},
		{title: "Lines that cannot be parsed", about: "Invalid rows per second by protocol. Normal: none. Some sender does not keep to its format.", unit: "short",
			queries: []query{{`sum by (type) (rate(vm_rows_invalid_total{@insert}[$__rate_interval]))`, "{{type}}"}}},
		{title: "Log messages", about: "Records per minute of warnings and errors. Normal: none. Each has a cause: read them.", unit: "short",
			queries: []query{{`sum by (job, level) (increase(vm_log_messages_total{@any, level!="info"}[1m])) or sum by (job, level) (increase(vm_log_messages_total{@any}[1m]))`, "{{job}} {{level}}"}}},
		{title: "Starts", about: "Starts of processes within 15 minutes. Normal: none.", unit: "short",
			queries: []query{{`sum by (job, instance) (changes(vm_app_start_timestamp{@any}[15m]))`, "{{job}} {{instance}}"}}},
		{title: "Not stopped as it should be", about: "1 when the process before this one could not close its storage: a crash, a kill or a power failure. Nothing acknowledged is lost; give processes time to stop.", unit: "short",
			queries: []query{{`max by (job, instance) (vm_app_prev_shutdown_unclean{@storage})`, "{{instance}}"}}},
		{title: "Damage", about: "Files and reads found damaged since the start. Normal: none. docs/operations.md, Damaged files.", unit: "short",
			queries: []query{
				{`sum by (job, instance) (vm_corrupt_parts_total{@storage} + vm_corrupt_index_total{@storage} + vm_corrupt_manifests_total{@storage})`, "{{instance}} files"},
				{`sum by (job, instance) (vm_wal_damaged_segments_total{@storage} + vm_wal_missing_segments_total{@storage} + vm_storage_log_losses{@storage})`, "{{instance}} log"},
				{`sum by (job, instance) (vm_storage_damaged_reads_total{@storage})`, "{{instance}} reads"}}},
		{title: "Errors of the disk", about: "Failed writes of log, flushes and merges per second. Normal: none. The log of the process has the answer of the system.", unit: "short",
			queries: []query{{`sum by (job, instance) (rate(vm_wal_errors_total{@storage}[$__rate_interval]) + rate(vm_storage_flush_errors_total{@storage}[$__rate_interval]) + rate(vm_storage_merge_errors_total{@storage}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Slow and large queries", about: "Queries per second beyond -search.logSlowQueryDuration and -search.logQueryMemoryUsage. The log and /api/v1/status/top_queries have them.", unit: "short",
			queries: []query{
				{`sum by (instance) (rate(vm_slow_queries_total{@select}[$__rate_interval]))`, "{{instance}} slow"},
				{`sum by (instance) (rate(vm_memory_intensive_queries_total{@select}[$__rate_interval]))`, "{{instance}} large"}}},
		{title: "Misses of caches", about: "Share of what was asked of a cache and not found. High for storage/tsid and insert/series: churn, or too little memory.", unit: "percentunit", max: 1,
			queries: []query{{`sum by (job, type) (rate(vm_cache_misses_total{@any}[$__rate_interval])) / (sum by (job, type) (rate(vm_cache_requests_total{@any}[$__rate_interval])) > 0)`, "{{job}} {{type}}"}}},
		{title: "Fill of caches", about: "Share of what each cache may take. Full ones work, and forget what was not asked for lately.", unit: "percentunit", max: 1,
			queries: []query{{`max by (job, type) (vm_cache_size_bytes{@any} / (vm_cache_size_max_bytes{@any} > 0))`, "{{job}} {{type}}"}}},
		{title: "Limits of series", about: "Share of -storage.maxHourlySeries and -storage.maxDailySeries that is used. At 100 % new series are dropped. 0 without such limits.", unit: "percentunit", max: 1,
			queries: []query{
				{`max by (instance) (vm_hourly_series_limit_current_series{@storage} / vm_hourly_series_limit_max_series{@storage}) or max by (instance) (vm_snapshots{@storage} * 0)`, "{{instance}} hour"},
				{`max by (instance) (vm_daily_series_limit_current_series{@storage} / vm_daily_series_limit_max_series{@storage}) or max by (instance) (vm_snapshots{@storage} * 0)`, "{{instance}} day"}}},
		{title: "Log, time of an fsync", about: "Every acknowledged write waits for one. Normal: up to some milliseconds. More: a faster disk, or one that is not shared.", unit: "s",
			queries: []query{{`sum by (job, instance) (rate(vm_wal_fsync_duration_seconds_sum{@storage}[$__rate_interval])) / (sum by (job, instance) (rate(vm_wal_fsync_duration_seconds_count{@storage}[$__rate_interval])) > 0)`, "{{instance}}"}}},
	}}
}

func storagePanels() []panel {
	return []panel{
		{title: "Samples stored", about: "Samples per second that get into storage, copies included. Normal: even over the nodes of a cluster.", unit: "short",
			queries: []query{{`sum by (job, instance) (rate(vm_rows_added_to_storage_total{@storage}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Disk by kind", about: "Bytes of samples in small and big parts, and of the index. An index larger than the samples: too many short-lived series.", unit: "bytes",
			queries: []query{{`sum by (type) (vm_data_size_bytes{@storage})`, "{{type}}"}}},
		{title: "Parts", about: "Parts by kind. Normal: steady saw teeth. Growth hour after hour: CPU or disk for merges is short.", unit: "short",
			queries: []query{{`sum by (type) (vm_parts{@storage})`, "{{type}}"}}},
		{title: "Parts of the current month", about: "The same for the month samples go into, by node.", unit: "short",
			queries: []query{{`sum by (instance, type) (vm_last_partition_parts{@storage})`, "{{instance}} {{type}}"}}},
		{title: "Merges under way", about: "Normal: now and then one.", unit: "short",
			queries: []query{{`sum by (instance) (vm_active_merges{@storage})`, "{{instance}}"}}},
		{title: "Merged samples", about: "Samples per second that merges write. Normal: a few times what comes in.", unit: "short",
			queries: []query{{`sum by (instance) (rate(vm_rows_merged_total{@storage}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Samples in memory", about: "Samples not yet in files, which are in the log; and those of them that are being written. Falls to 0 with each flush.", unit: "short",
			queries: []query{{`sum by (instance) (vm_rows{@storage, type="storage/inmemory"})`, "{{instance}}"}, {`sum by (instance) (vm_pending_rows{@storage, type="storage"})`, "{{instance}} being flushed"}}},
		{title: "Log on disk", about: "Bytes of the log that a start would have to read. Falls with each flush.", unit: "bytes",
			queries: []query{{`sum by (instance) (vm_wal_size_bytes{@storage})`, "{{instance}}"}}},
		{title: "Days until the disk is full", about: "By the growth of the last six hours; nothing when it does not grow. Below three: add disk or nodes.", unit: "d",
			queries: []query{{`vm_free_disk_space_bytes{@storage} / (-deriv(vm_free_disk_space_bytes{@storage}[6h]) > 0) / 86400 or vm_free_disk_space_bytes{@storage} * 0 + 9999`, "{{instance}} {{path}}"}}},
		{title: "Read-only", about: "1 below -storage.minFreeDiskSpaceBytes. Samples go to other nodes, if there are some. Free space; no restart is needed.", unit: "short",
			queries: []query{{`vm_storage_is_read_only{@storage}`, "{{instance}} {{path}}"}}},
		{title: "Samples left out by merges", about: "Samples per second that merges leave out since they are deleted, too old or thinned out, and duplicates.", unit: "short",
			queries: []query{
				{`sum by (instance) (rate(vm_rows_deleted_total{@storage}[$__rate_interval]))`, "{{instance}} deleted"},
				{`sum by (instance) (rate(vm_deduplicated_samples_total{@storage, type="merge"}[$__rate_interval]))`, "{{instance}} duplicates"}}},
		{title: "Snapshots", about: "Snapshots there are. Old ones hold disk space: delete them.", unit: "short",
			queries: []query{{`vm_snapshots{@storage}`, "{{instance}}"}}},
		{title: "Metadata and statistics", about: "Share of their room that descriptions and usage of metrics take. Full: raise -storage.maxMetadataStorageSize, -storage.cacheSizeMetricNamesStats.", unit: "percentunit", max: 1,
			queries: []query{
				{`vm_metrics_metadata_storage_size_bytes{@storage} / vm_metrics_metadata_storage_max_size_bytes{@storage}`, "{{instance}} descriptions"},
				{`vm_cache_size_bytes{@storage, type="storage/metricNamesStatsTracker"} / vm_cache_size_max_bytes{@storage, type="storage/metricNamesStatsTracker"}`, "{{instance}} usage"}}},
		{title: "Next month out of retention", about: "Time until the oldest month is dropped, and its disk space comes back.", unit: "s",
			queries: []query{{`vm_next_retention_seconds{@storage}`, "{{instance}}"}}},
	}
}

func readPanels() []panel {
	return []panel{
		{title: "Series per query", about: "Mean. Queries over many thousands of series are slow anywhere: use recording rules, or narrower filters.", unit: "short",
			queries: []query{{`sum by (job) (rate(vm_series_read_per_query_sum{@select}[$__rate_interval])) / (sum by (job) (rate(vm_series_read_per_query_count{@select}[$__rate_interval])) > 0)`, "{{job}}"}}},
		{title: "Samples per query", about: "Mean of what is decoded. Much: long ranges with short steps.", unit: "short",
			queries: []query{{`sum by (job) (rate(vm_rows_read_per_query_sum{@select}[$__rate_interval])) / (sum by (job) (rate(vm_rows_read_per_query_count{@select}[$__rate_interval])) > 0)`, "{{job}}"}}},
		{title: "Result cache", about: "What came of the cache of results, per second. Dashboards that refresh are partial hits; misses are queries that are new.", unit: "ops",
			queries: []query{
				{`sum(rate(vm_rollup_result_cache_full_hits_total{@select}[$__rate_interval]))`, "full hits"}, {`sum(rate(vm_rollup_result_cache_partial_hits_total{@select}[$__rate_interval]))`, "partial hits"},
				{`sum(rate(vm_rollup_result_cache_miss_total{@select}[$__rate_interval]))`, "misses"}}},
		{title: "Samples per second read", about: "What all queries decode.", unit: "short",
			queries: []query{{`sum by (instance) (rate(vm_rows_read_per_query_sum{@select}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Duplicates left out", about: "Samples per second that queries leave out since others have them too: copies, or two senders of the same.", unit: "short",
			queries: []query{{`sum by (instance) (rate(vm_deduplicated_samples_total{@select, type="select"}[$__rate_interval]))`, "{{instance}}"}}},
	}
}

func writePanels() []panel {
	return []panel{
		{title: "Samples per request", about: "Mean by protocol. Small requests cost CPU: senders should collect hundreds to thousands.", unit: "short",
			queries: []query{{`sum by (type) (rate(vm_rows_per_insert_sum{@insert}[$__rate_interval])) / (sum by (type) (rate(vm_rows_per_insert_count{@insert}[$__rate_interval])) > 0)`, "{{type}}"}}},
		{title: "Dropped by rules", about: "Series' samples per second that -relabelConfig drops. Nothing is dropped without it.", unit: "short",
			queries: []query{{`sum by (instance) (rate(vm_relabel_metrics_dropped_total{@insert}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Rules read", about: "1 when the last read of -relabelConfig succeeded, 0 also without that flag. 0 after a change: the log names the error, and the rules before hold.", unit: "short",
			queries: []query{{`min by (instance) (vm_relabel_config_last_reload_successful{@insert})`, "{{instance}}"}}},
		{title: "Known series", about: "Share of series that are recognised by the bytes of their labels. Falls with churn.", unit: "percentunit", max: 1,
			queries: []query{{`1 - sum by (instance) (rate(vm_cache_misses_total{@insert, type="insert/series"}[$__rate_interval])) / (sum by (instance) (rate(vm_cache_requests_total{@insert, type="insert/series"}[$__rate_interval])) > 0)`, "{{instance}}"}}},
		{title: "Descriptions of metrics", about: "Types, units and help texts per second that senders told anew.", unit: "short",
			queries: []query{{`sum by (type) (rate(vm_metadata_rows_inserted_total{@insert}[$__rate_interval]))`, "{{type}}"}}},
	}
}

func drilldown() row {
	return row{title: "Drilldown", closed: true, panels: []panel{
		{title: "Processes", about: "Versions by process.", kind: "table", width: 12, unit: "short", queries: []query{{`vm_app_version{@any}`, ""}}},
		{title: "Flags that are set", about: "Unlike values among equals are rarely meant.", kind: "table", width: 12, unit: "short", queries: []query{{`flag{@any, is_set="true"}`, ""}}},
		{title: "Log messages by place", about: "Where in the code warnings and errors of the last hour come from, most first.", kind: "table", width: 12, unit: "short",
			queries: []query{{`topk(20, sum by (job, instance, level, location) (increase(vm_log_messages_total{@any}[1h])))`, ""}}},
		{title: "Requests of the last hour", about: "By path, most first.", kind: "table", width: 12, unit: "short", queries: []query{{`topk(20, sum by (job, path) (increase(vm_http_requests_total{@any}[1h])))`, ""}}},
		{title: "CPU by process", about: "Cores used.", kind: "table", width: 8, unit: "short", queries: []query{{`sum by (job, instance) (rate(process_cpu_seconds_total{@any}[$__rate_interval]))`, ""}}},
		{title: "Memory by process", about: "Anonymous memory.", kind: "table", width: 8, unit: "bytes", queries: []query{{`sum by (job, instance) (process_resident_memory_anon_bytes{@any})`, ""}}},
		{title: "File systems", about: "Where the data lies. Network file systems are slow at fsync.", kind: "table", width: 8, unit: "short", queries: []query{{`vm_fs_info{@storage}`, ""}}},
	}}
}
