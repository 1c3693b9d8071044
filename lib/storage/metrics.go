package storage

import (
	"fmt"
	"time"

	"vmcluster/lib/metrics"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
)

// storageMetrics are the counters of a storage. They exist from the start.
type storageMetrics struct {
	rowsReceived   *metrics.Counter
	rowsAdded      *metrics.Counter
	newSeries      *metrics.Counter
	slowInserts    *metrics.Counter
	ignoredSmall   *metrics.Counter
	ignoredBig     *metrics.Counter
	ignoredInvalid *metrics.Counter
	ignoredLarge   *metrics.Counter // native histograms
	rowsHistograms *metrics.Counter
	flushes        *metrics.Counter
	flushErrors    *metrics.Counter
	mergeErrors    *metrics.Counter
	lostRows       *metrics.Counter
	searches       *metrics.Counter
	damagedReads   *metrics.Counter
	flushSeconds   *metrics.Histogram
	startsAdded    *metrics.Counter
	oldExemplars   *metrics.Counter
	earlyExemplars *metrics.Counter
	partitions     partition.Counters
}

func newStorageMetrics(set *metrics.Set) *storageMetrics {
	m := &storageMetrics{
		rowsReceived:   set.Counter("vm_rows_received_by_storage_total"),
		rowsAdded:      set.Counter("vm_rows_added_to_storage_total"),
		newSeries:      set.Counter("vm_new_timeseries_created_total"),
		slowInserts:    set.Counter("vm_slow_row_inserts_total"),
		ignoredSmall:   set.Counter(`vm_rows_ignored_total{reason="small_timestamp"}`),
		ignoredBig:     set.Counter(`vm_rows_ignored_total{reason="big_timestamp"}`),
		ignoredInvalid: set.Counter(`vm_rows_ignored_total{reason="invalid_raw_metric_name"}`),
		ignoredLarge:   set.Counter(`vm_rows_ignored_total{reason="too_large_histogram"}`),
		rowsHistograms: set.Counter("vm_native_histograms_added_to_storage_total"),
		flushes:        set.Counter("vm_storage_flushes_total"),
		flushErrors:    set.Counter("vm_storage_flush_errors_total"),
		mergeErrors:    set.Counter("vm_storage_merge_errors_total"),
		lostRows:       set.Counter("vm_storage_unreplayable_rows_total"),
		searches:       set.Counter("vm_storage_searches_total"),
		damagedReads:   set.Counter("vm_storage_damaged_reads_total"),
		flushSeconds:   set.Histogram("vm_storage_flush_duration_seconds"),
		startsAdded:    set.Counter("vm_start_timestamps_added_total"),
		oldExemplars:   set.Counter(`vm_exemplars_ignored_total{reason="small_timestamp"}`),
		earlyExemplars: set.Counter(`vm_exemplars_ignored_total{reason="big_timestamp"}`),
	}
	index.RegisterMetrics(set) // the first index comes with the first sample
	m.partitions.CorruptManifests = set.Counter("vm_corrupt_manifests_total")
	m.partitions.Deduplicated = set.Counter(`vm_deduplicated_samples_total{type="merge"}`)
	m.partitions.CorruptParts = set.Counter("vm_corrupt_parts_total")
	for kind, c := range map[string]*partition.MergeCounters{"small": &m.partitions.Small, "big": &m.partitions.Big} {
		c.Merges = set.Counter(fmt.Sprintf("vm_merges_total{type=%q}", "storage/"+kind))
		c.Rows = set.Counter(fmt.Sprintf("vm_rows_merged_total{type=%q}", "storage/"+kind))
		c.Deleted = set.Counter(fmt.Sprintf("vm_rows_deleted_total{type=%q}", "storage/"+kind))
	}
	return m
}

// registerMetrics registers what is computed when metrics are read.
func (s *Storage) registerMetrics() {
	set := s.o.Metrics
	for _, name := range []string{"vm_merges_total", "vm_rows_merged_total", "vm_rows_deleted_total"} {
		set.Counter(name + `{type="storage/inmemory"}`) // heads are never merged
	}
	set.Gauge("vm_search_max_unique_timeseries", func() float64 { return float64(s.maxSeries) })
	set.Gauge(fmt.Sprintf("vm_storage_is_read_only{path=%q}", s.cfg.DataPath), func() float64 { return boolFloat(s.readOnly.Load()) })
	set.Gauge(fmt.Sprintf("vm_free_disk_space_limit_bytes{path=%q}", s.cfg.DataPath), func() float64 { return float64(s.cfg.MinFreeDiskSpaceBytes) })
	set.Gauge("vm_storage_log_losses", func() float64 { return float64(len(s.losses)) })
	set.Gauge("vm_app_prev_shutdown_unclean", func() float64 { return boolFloat(s.unclean) })
	metrics.RegisterFS(set, s.cfg.DataPath)
	s.exemplars.RegisterMetrics()
	set.AddCollector(s.collect)
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// totals are the sums over all partitions, and what the last one has of it.
type totals struct {
	partition.Stats
	last partition.Stats
}

// sum adds up the partitions.
func (s *Storage) sum() totals {
	var t totals
	partitions := s.acquire(allTime())
	for _, p := range partitions {
		st := p.Stats()
		t.HeadRows += st.HeadRows
		t.HeadBytes += st.HeadBytes
		t.HeadSeries += st.HeadSeries
		t.HeadParts += st.HeadParts
		t.FrozenRows += st.FrozenRows
		t.Histograms += st.Histograms
		t.Small.Add(st.Small)
		t.Big.Add(st.Big)
		t.IndexBytes += st.IndexBytes
		t.SeriesCount += st.SeriesCount
		t.Index.Add(st.Index)
		t.last = st // partitions are in the order of time
	}
	s.noteErr("close", release(partitions))
	return t
}

// collect writes the metrics that need a walk over the partitions.
func (s *Storage) collect(w *metrics.Writer) {
	if s.enter() != nil {
		return
	}
	defer s.leave()
	t := s.sum()
	inMemory := partition.PartStats{Parts: t.HeadParts, Rows: t.HeadRows, Blocks: t.HeadSeries, SizeBytes: t.HeadBytes}
	ofIndex := map[string][2]int64{ // in memory, on disk
		"vm_data_size_bytes": {t.Index.HeadSizeBytes, t.IndexBytes},
		"vm_parts":           {t.Index.Heads, t.Index.Segments},
		"vm_rows":            {t.Index.HeadSeries, int64(t.SeriesCount) - t.Index.HeadSeries},
	}
	for _, m := range []struct {
		name string
		get  func(p *partition.PartStats) int64
	}{
		{"vm_blocks", func(p *partition.PartStats) int64 { return p.Blocks }},
		{"vm_data_size_bytes", func(p *partition.PartStats) int64 { return p.SizeBytes }},
		{"vm_parts", func(p *partition.PartStats) int64 { return p.Parts }},
		{"vm_rows", func(p *partition.PartStats) int64 { return p.Rows }},
	} {
		w.Gauge(m.name+`{type="storage/inmemory"}`, float64(m.get(&inMemory)))
		w.Gauge(m.name+`{type="storage/small"}`, float64(m.get(&t.Small)))
		w.Gauge(m.name+`{type="storage/big"}`, float64(m.get(&t.Big)))
		if of, ok := ofIndex[m.name]; ok {
			w.Gauge(m.name+`{type="indexdb/inmemory"}`, float64(of[0]))
			w.Gauge(m.name+`{type="indexdb/file"}`, float64(of[1]))
		}
	}
	w.Gauge(`vm_last_partition_parts{type="storage/inmemory"}`, float64(t.last.HeadParts))
	w.Gauge(`vm_last_partition_parts{type="storage/small"}`, float64(t.last.Small.Parts))
	w.Gauge(`vm_last_partition_parts{type="storage/big"}`, float64(t.last.Big.Parts))
	w.Gauge(`vm_pending_rows{type="storage"}`, float64(t.FrozenRows))
	w.Gauge(`vm_pending_rows{type="indexdb"}`, float64(t.Index.HeadSeries))
	w.Gauge("vm_native_histograms", float64(t.Histograms))
	w.Gauge(`vm_active_merges{type="storage/inmemory"}`, 0)
	w.Gauge(`vm_active_merges{type="storage/small"}`, float64(s.m.partitions.Small.Active.Load()))
	w.Gauge(`vm_active_merges{type="storage/big"}`, float64(s.m.partitions.Big.Active.Load()))
	w.Gauge(`vm_cache_entries{type="storage/hour_metric_ids"}`, float64(t.HeadSeries))
	s.collectCaches(w, &t.Index)
	w.Gauge("vm_snapshots", s.snapshotCount())
	w.Counter(`vm_deleted_metrics_total{type="indexdb"}`, float64(s.deletedSeries()))
	s.collectTenants(w)
	s.collectNameStats(w)
	w.Gauge("vm_next_retention_seconds", s.nextRetentionSeconds())
	if space, err := s.fs.Space(s.cfg.DataPath); err == nil {
		w.Gauge(fmt.Sprintf("vm_free_disk_space_bytes{path=%q}", s.cfg.DataPath), float64(space.Free))
		w.Gauge(fmt.Sprintf("vm_total_disk_space_bytes{path=%q}", s.cfg.DataPath), float64(space.Total))
	}
}

// collectCaches writes the sizes of caches. Samples are what is asked of storage/tsid: a miss had to ask the index for its series.
func (s *Storage) collectCaches(w *metrics.Writer, t *index.Stats) {
	w.Gauge(`vm_cache_entries{type="storage/tsid"}`, float64(s.hot.entries()))
	w.Gauge(`vm_cache_size_bytes{type="storage/tsid"}`, float64(s.hot.sizeBytes()))
	w.Counter(`vm_cache_requests_total{type="storage/tsid"}`, float64(s.m.rowsAdded.Get()))
	w.Counter(`vm_cache_misses_total{type="storage/tsid"}`, float64(s.m.slowInserts.Get()))
	for _, c := range []struct {
		name string
		of   index.CacheStats
	}{{index.FilterCacheName, t.Filters}, {index.KeyCacheName, t.Keys}, {index.RowCacheName, t.Rows}} {
		w.Gauge(fmt.Sprintf("vm_cache_entries{type=%q}", c.name), float64(c.of.Entries))
		w.Gauge(fmt.Sprintf("vm_cache_size_bytes{type=%q}", c.name), float64(c.of.SizeBytes))
		w.Gauge(fmt.Sprintf("vm_cache_size_max_bytes{type=%q}", c.name), float64(c.of.MaxBytes))
	}
}

// nextRetentionSeconds returns the time until the next month leaves retention.
func (s *Storage) nextRetentionSeconds() float64 {
	month := partition.MonthOf(max(0, s.retained().Min))
	if t := s.table.Load(); len(t.sorted) > 0 {
		month = max(month, t.sorted[0].Month())
	}
	return time.Duration((month.Range().Max - s.retained().Min) * int64(time.Millisecond)).Seconds()
}
