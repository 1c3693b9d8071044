package metadata

import (
	"container/list"
	"context"
	"slices"
	"strings"
	"sync"

	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

const (
	maxPerMetric = 8
	// What a metric and a description take beside their texts, roughly.
	metricOverhead      = 200
	descriptionOverhead = 100
)

// Options are the arguments of New.
type Options struct {
	Config  Config
	Budget  *memory.Budget // what is held is part of it; nil means none
	Metrics *metrics.Set
}

// Store holds descriptions. It is safe for concurrent use and needs no Close.
type Store struct {
	maxBytes int64
	budget   *memory.Budget

	mu struct {
		sync.Mutex
		metrics map[key]*list.Element // of *metric
		recent  *list.List            // the metric described last is at the front
		bytes   int64
	}
}

type key struct {
	tenant model.TenantID
	name   string
}

// metric is all that is known of one.
type metric struct {
	key
	described []model.Metadata
	bytes     int64
}

var (
	_ storageapi.MetadataWriter = (*Store)(nil)
	_ storageapi.MetadataReader = (*Store)(nil)
)

// New returns an empty store.
func New(o Options) *Store {
	const fallback = 16 << 20
	s := &Store{maxBytes: int64(o.Config.MaxBytes), budget: o.Budget}
	if s.maxBytes <= 0 {
		s.maxBytes = fallback
		if o.Budget != nil {
			s.maxBytes = o.Budget.Limit() / 100
		}
	}
	s.mu.metrics, s.mu.recent = map[key]*list.Element{}, list.New()
	o.Metrics.Gauge("vm_metrics_metadata_storage_items", func() float64 { return float64(s.Len()) })
	o.Metrics.Gauge("vm_metrics_metadata_storage_size_bytes", func() float64 { return float64(s.Bytes()) })
	o.Metrics.Gauge("vm_metrics_metadata_storage_max_size_bytes", func() float64 { return float64(s.maxBytes) })
	return s
}

// Len returns the number of metrics described.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.metrics)
}

// Bytes returns roughly how much memory the descriptions take.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.bytes
}

// AddMetadata implements storageapi.MetadataWriter.
func (s *Store) AddMetadata(ctx context.Context, list []model.Metadata) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		s.addLocked(&list[i])
	}
	return nil
}

func (s *Store) addLocked(m *model.Metadata) {
	at, known := s.mu.metrics[key{m.Tenant, m.Metric}]
	if known {
		s.mu.recent.MoveToFront(at)
		x := at.Value.(*metric)
		if x.described[0] == *m {
			return
		}
		if i := slices.Index(x.described, *m); i > 0 {
			first := x.described[i]
			copy(x.described[1:i+1], x.described[:i])
			x.described[0] = first
			return
		}
	} else {
		at = s.mu.recent.PushFront(&metric{key: key{m.Tenant, strings.Clone(m.Metric)}})
		x := at.Value.(*metric)
		s.mu.metrics[x.key] = at
		s.growLocked(x, metricOverhead+int64(len(m.Metric)))
	}
	x := at.Value.(*metric)
	if n := len(x.described); n == maxPerMetric {
		s.growLocked(x, -size(&x.described[n-1]))
		x.described = x.described[:n-1]
	}
	x.described = slices.Insert(x.described, 0, model.Metadata{
		Tenant: m.Tenant, Metric: x.name, Type: m.Type, Unit: strings.Clone(m.Unit), Help: strings.Clone(m.Help),
	})
	s.growLocked(x, size(m))
	for s.mu.bytes > s.maxBytes && s.mu.recent.Len() > 0 {
		s.dropLocked(s.mu.recent.Back())
	}
}

func size(m *model.Metadata) int64 { return descriptionOverhead + int64(len(m.Unit)+len(m.Help)) }

// growLocked accounts for n more bytes, or fewer when negative.
func (s *Store) growLocked(x *metric, n int64) {
	x.bytes += n
	s.mu.bytes += n
	switch {
	case s.budget == nil:
	case n < 0:
		s.budget.Release(-n)
	default:
		s.budget.ForceReserve(n) // bounded by maxBytes
	}
}

func (s *Store) dropLocked(at *list.Element) {
	x := at.Value.(*metric)
	s.mu.recent.Remove(at)
	delete(s.mu.metrics, x.key)
	s.growLocked(x, -x.bytes)
}

// Metadata implements storageapi.MetadataReader.
func (s *Store) Metadata(ctx context.Context, q *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	if err := ctx.Err(); err != nil {
		return storageapi.MetadataList{}, err
	}
	return storageapi.MetadataList{Items: storageapi.MergeMetadata(q, s.find(q))}, nil
}

// find returns all descriptions of the tenant, or those of one metric.
func (s *Store) find(q *storageapi.MetadataQuery) []model.Metadata {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Metric != "" {
		at, ok := s.mu.metrics[key{q.Tenant, q.Metric}]
		if !ok {
			return nil
		}
		return slices.Clone(at.Value.(*metric).described)
	}
	var out []model.Metadata
	for k, at := range s.mu.metrics {
		if k.tenant == q.Tenant {
			out = append(out, at.Value.(*metric).described...)
		}
	}
	return out
}
