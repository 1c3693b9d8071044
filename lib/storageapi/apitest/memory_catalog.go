package apitest

import (
	"context"
	"slices"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.Catalog = (*Memory)(nil)

// allTime covers every timestamp.
func allTime() model.TimeRange { return model.TimeRange{Min: -1 << 63, Max: 1<<63 - 1} }

// DeleteSeries removes the selected series from the map.
func (m *Memory) DeleteSeries(ctx context.Context, q *model.SearchQuery) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	whole := *q
	whole.Range = allTime()
	keys, err := m.selectLocked(ctx, &whole)
	if err != nil {
		return 0, err
	}
	if q.MaxSeries > 0 && len(keys) > q.MaxSeries {
		return 0, errkind.New(errkind.Unprocessable, "cannot delete more than %d series: %d match", q.MaxSeries, len(keys))
	}
	for _, key := range keys {
		delete(m.mu.series, key)
	}
	return len(keys), nil
}

// SeriesCount counts the series of a tenant.
func (m *Memory) SeriesCount(ctx context.Context, tenant model.TenantID) (storageapi.Count, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	keys, err := m.selectLocked(ctx, &model.SearchQuery{Tenant: tenant, Range: allTime()})
	return storageapi.Count{Value: uint64(len(keys))}, err
}

// Status counts labels.
func (m *Memory) Status(ctx context.Context, q *storageapi.StatusQuery) (storageapi.Status, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	keys, err := m.selectLocked(ctx, &q.Search)
	if err != nil {
		return storageapi.Status{}, err
	}
	var metrics, names, focus, pairs, values counts
	for _, key := range keys {
		for _, l := range m.mu.series[key].labels {
			names.add(l.Name)
			if pairs.add(l.Name+"="+l.Value) == 1 {
				values.add(l.Name)
			}
			if l.Name == model.MetricNameLabel {
				metrics.add(l.Value)
			}
			if l.Name == q.FocusLabel {
				focus.add(l.Value)
			}
		}
	}
	out := storageapi.Status{TotalSeries: uint64(len(keys))}
	for _, n := range pairs {
		out.TotalLabelPairs += n
	}
	out.SeriesByMetricName, out.SeriesByLabelName = metrics.top(q.TopN), names.top(q.TopN)
	out.SeriesByFocusLabelValue, out.SeriesByLabelPair = focus.top(q.TopN), pairs.top(q.TopN)
	out.ValuesByLabelName = values.top(q.TopN)
	for i := range out.SeriesByMetricName {
		e := &out.SeriesByMetricName[i]
		e.Usage = m.mu.usage[usageKey{q.Search.Tenant, e.Name}]
	}
	return out, nil
}

// counts counts names.
type counts map[string]uint64

func (c *counts) add(name string) uint64 {
	if *c == nil {
		*c = counts{}
	}
	(*c)[name]++
	return (*c)[name]
}

func (c counts) top(n int) []storageapi.StatusEntry {
	var list []storageapi.StatusEntry
	for name, count := range c {
		list = append(list, storageapi.StatusEntry{Name: name, Count: count})
	}
	slices.SortFunc(list, storageapi.CompareStatusEntries)
	return list[:min(n, len(list))]
}

type usageKey struct {
	tenant model.TenantID
	name   string
}

// noteLocked counts a search which has found series.
func (m *Memory) noteLocked(q *model.SearchQuery, keys []string) {
	found := map[string]bool{}
	for _, key := range keys {
		name := ""
		for _, l := range m.mu.series[key].labels {
			if l.Name == model.MetricNameLabel {
				name = l.Value
			}
		}
		if found[name] {
			continue
		}
		found[name] = true
		u := m.mu.usage[usageKey{q.Tenant, name}]
		u.Requests++
		u.LastRequestSecs = time.Now().Unix()
		m.mu.usage[usageKey{q.Tenant, name}] = u
	}
}

// NameStats tells how often metrics have been asked for.
func (m *Memory) NameStats(ctx context.Context, q *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	names, err := m.LabelValues(ctx, &model.SearchQuery{Tenant: q.Tenant, Range: allTime()}, model.MetricNameLabel, 0)
	if err != nil {
		return storageapi.NameStats{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := storageapi.NameStats{SinceSecs: m.mu.since, Tracked: uint64(len(m.mu.usage)), MaxBytes: 1 << 20}
	all := map[string]storageapi.Usage{}
	for _, name := range names.Values {
		all[name] = storageapi.Usage{}
	}
	for key, u := range m.mu.usage {
		if key.tenant == q.Tenant {
			all[key.name] = u
		}
	}
	out.Records, err = q.Select(all)
	return out, err
}

// ResetNameStats forgets all usage.
func (m *Memory) ResetNameStats(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.usage = map[usageKey]storageapi.Usage{}
	m.mu.since = time.Now().Unix()
	return ctx.Err()
}
