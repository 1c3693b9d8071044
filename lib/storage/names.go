package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs"
)

// nameStatsFile is in the directory of the data. The byte page is docs/format/name_stats.md.
const nameStatsFile = "name_stats"

// recordOverhead is about what a record takes in memory besides its key.
const recordOverhead = 120

// nameStats counts by metric how often searches have found series of it. Its memory is bounded: when it is full, further metrics are
// not counted. The zero value is not ready.
type nameStats struct {
	maxBytes int64

	mu struct {
		sync.Mutex
		sinceSecs int64
		records   map[string]*storageapi.Usage // by the part of the series key up to the metric name: tenant, length, name
		bytes     int64
	}
}

func newNameStats(maxBytes, nowSecs int64) *nameStats {
	n := &nameStats{maxBytes: maxBytes}
	n.reset(nowSecs)
	return n
}

func (n *nameStats) reset(nowSecs int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.sinceSecs, n.mu.bytes = nowSecs, 0
	n.mu.records = map[string]*storageapi.Usage{}
}

// splitPrefix returns the tenant and the metric name of a record.
func splitPrefix(prefix string) (model.TenantID, string) {
	_, n := binary.Uvarint([]byte(prefix[model.TenantSize:]))
	return model.SeriesKeyTenant([]byte(prefix[:model.TenantSize])), prefix[model.TenantSize+max(0, n):]
}

func appendPrefix(dst []byte, t model.TenantID, name string) []byte {
	dst = binary.AppendUvarint(t.AppendTo(dst), uint64(len(name)))
	return append(dst, name...)
}

// count counts a search which has found the series with the sorted keys that key returns.
func (n *nameStats) count(series int, key func(i int) []byte, nowSecs int64) {
	if series == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var prefix []byte
	for i := range series {
		k := key(i)
		if i > 0 && bytes.HasPrefix(k, prefix) {
			continue
		}
		prefix = model.MetricOfKey(k)
		if u := n.recordLocked(prefix); u != nil {
			u.Requests++
			u.LastRequestSecs = nowSecs
		}
	}
}

func (n *nameStats) recordLocked(prefix []byte) *storageapi.Usage {
	if u := n.mu.records[string(prefix)]; u != nil {
		return u
	}
	size := int64(len(prefix) + recordOverhead)
	if n.mu.bytes+size > n.maxBytes {
		return nil
	}
	n.mu.bytes += size
	u := &storageapi.Usage{}
	n.mu.records[string(prefix)] = u
	return u
}

// usage returns what is known of a metric.
func (n *nameStats) usage(t model.TenantID, name string) storageapi.Usage {
	n.mu.Lock()
	defer n.mu.Unlock()
	if u := n.mu.records[string(appendPrefix(nil, t, name))]; u != nil {
		return *u
	}
	return storageapi.Usage{}
}

// summary returns everything but the records, and the records of a tenant by name.
func (n *nameStats) summary(t model.TenantID) (storageapi.NameStats, map[string]storageapi.Usage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := storageapi.NameStats{
		SinceSecs: n.mu.sinceSecs, Tracked: uint64(len(n.mu.records)),
		MaxBytes: uint64(n.maxBytes), CurrentBytes: uint64(n.mu.bytes),
	}
	own := map[string]storageapi.Usage{}
	for prefix, u := range n.mu.records {
		if tenant, name := splitPrefix(prefix); tenant == t {
			own[name] = *u
		}
	}
	return out, own
}

// noteSearch counts a search for samples.
func (s *Storage) noteSearch(it *iterator) {
	if s.names != nil && !it.keysOnly {
		s.names.count(len(it.found), it.key, s.o.Now().Unix())
	}
}

// collectNameStats writes the metrics of the counters.
func (s *Storage) collectNameStats(w *metrics.Writer) {
	if s.names == nil {
		return
	}
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	w.Gauge(`vm_cache_entries{type="storage/metricNamesStatsTracker"}`, float64(len(s.names.mu.records)))
	w.Gauge(`vm_cache_size_bytes{type="storage/metricNamesStatsTracker"}`, float64(s.names.mu.bytes))
	w.Gauge(`vm_cache_size_max_bytes{type="storage/metricNamesStatsTracker"}`, float64(s.names.maxBytes))
}

// NameStats implements storageapi.Catalog. Metrics which nobody has asked for are those of the index.
func (s *Storage) NameStats(ctx context.Context, q *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	if s.names == nil {
		return storageapi.NameStats{}, errkind.New(errkind.Unprocessable, "cannot tell the usage of metrics: it is not counted; start the storage with -storage.trackMetricNamesStats")
	}
	out, records := s.names.summary(q.Tenant)
	all := &model.SearchQuery{Tenant: q.Tenant, Range: allTime(), KeysOnly: true}
	names, err := s.labels(ctx, all, 0, func(p *partition.Partition, iq index.Query) ([]string, error) {
		return p.Index().LabelValues(ctx, iq, model.MetricNameLabel, 0)
	})
	if err != nil {
		return storageapi.NameStats{}, err
	}
	for _, name := range names.Values {
		if _, ok := records[name]; !ok {
			records[name] = storageapi.Usage{} // those never asked for, too
		}
	}
	out.Records, err = q.Select(records)
	return out, err
}

// ResetNameStats implements storageapi.Catalog.
func (s *Storage) ResetNameStats(context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.names == nil {
		return nil
	}
	s.names.reset(s.o.Now().Unix())
	return s.writeNameStats()
}

func (s *Storage) nameStatsPath() string { return filepath.Join(s.cfg.DataPath, nameStatsFile) }

// loadNameStats reads what the last process has left. Damage costs the counters, not the start.
func (s *Storage) loadNameStats() error {
	if s.names == nil {
		return nil
	}
	data, err := s.fs.ReadFile(s.nameStatsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.names.unmarshal(data); err != nil {
		s.logger.Errorf("the usage of metrics is counted anew, since %s cannot be used: %s", s.nameStatsPath(), err)
		s.names.reset(s.o.Now().Unix())
	}
	return nil
}

func (s *Storage) writeNameStats() error {
	return vfs.WriteFileDurable(s.fs, s.nameStatsPath(), s.names.AppendTo(nil))
}

// saveNameStats writes the counters for the next process. That they cannot be written is no reason to end in disorder.
func (s *Storage) saveNameStats() {
	if s.names == nil || s.log.Err() != nil {
		return
	}
	if err := s.writeNameStats(); err != nil {
		s.logger.Warnf("cannot save how often metrics were asked for since the start; the counts of the last clean stop are kept: %s", err)
	}
}
