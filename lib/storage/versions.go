package storage

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

var _ storageapi.Versioner = (*Storage)(nil)

const (
	hourMs = 3600 * 1000
	// maxLateHours bounds the hours of which changes are told apart. Beyond, all hours count as changed, and it starts anew.
	maxLateHours = 1 << 16
)

// versions counts the changes of samples which somebody may have kept results of. While nobody asks it counts nothing.
type versions struct {
	instance uint64
	// promised is the time up to which changes are counted, in Unix milliseconds. It only grows.
	promised atomic.Int64

	mu struct {
		sync.Mutex
		sequence uint64
		all      uint64 // as of the last change of everything
		hours    map[tenantHour]uint64
	}
}

// tenantHour is an hour of a tenant's samples, by number since 1970.
type tenantHour struct {
	tenant model.TenantID
	hour   int64
}

func hourOf(t int64) int64 {
	h := t / hourMs
	if t%hourMs < 0 {
		h--
	}
	return h
}

func newVersions() *versions {
	v := &versions{instance: rand.Uint64()}
	v.promised.Store(math.MinInt64)
	v.mu.hours = map[tenantHour]uint64{}
	return v
}

// promise makes changes of samples before a time count from now on.
func (v *versions) promise(until int64) {
	for old := v.promised.Load(); until > old && !v.promised.CompareAndSwap(old, until); {
		old = v.promised.Load()
	}
}

// changeAll counts a change which may concern all samples. It comes after the change can be seen, and before anybody is told of it.
func (v *versions) changeAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.sequence++
	v.mu.all = v.mu.sequence
	clear(v.mu.hours)
}

// state returns the sequence, and as of when the range was changed last.
func (v *versions) state(tenant model.TenantID, r model.TimeRange) (sequence, changed uint64) {
	first, last := hourOf(r.Min), hourOf(r.Max)
	v.mu.Lock()
	defer v.mu.Unlock()
	changed = v.mu.all
	if last-first > int64(len(v.mu.hours)) {
		for key, n := range v.mu.hours {
			if key.tenant == tenant && key.hour >= first && key.hour <= last {
				changed = max(changed, n)
			}
		}
		return v.mu.sequence, changed
	}
	for hour := first; hour <= last; hour++ {
		changed = max(changed, v.mu.hours[tenantHour{tenant: tenant, hour: hour}])
	}
	return v.mu.sequence, changed
}

// noteLate counts the samples of the batch which are older than what was promised to be counted. It is called when searches
// see the samples: who asked for versions before is told, and who asks later has seen them.
func (w *writer) noteLate(b *model.Batch) {
	v := w.s.versions
	promised := v.promised.Load()
	if w.oldest >= promised {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.sequence++
	for i := range w.runs {
		r := &w.runs[i]
		key := tenantHour{hour: math.MaxInt64}
		for j := r.start; j < r.end; j++ {
			t := w.timeOf(b, i, j)
			hour := hourOf(t)
			if t >= promised || hour == key.hour {
				continue
			}
			key = tenantHour{tenant: model.SeriesKeyTenant(b.Key(r.series)), hour: hour}
			v.mu.hours[key] = v.mu.sequence
		}
	}
	if len(v.mu.hours) > maxLateHours {
		v.mu.all = v.mu.sequence
		clear(v.mu.hours)
	}
}

// timeOf returns the timestamp of what is at a place of a run.
func (w *writer) timeOf(b *model.Batch, run, place int) int64 {
	if run < w.samples {
		return b.Samples(w.runs[run].series)[place].Timestamp
	}
	return w.histograms[place].Timestamp
}

// Versions implements storageapi.Versioner.
func (s *Storage) Versions(_ context.Context, tenant model.TenantID, r model.TimeRange) ([]storageapi.Version, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	version := storageapi.Version{
		Instance: s.versions.instance, Until: min(r.Max, s.o.Now().UnixMilli()), DedupIntervalMs: s.cfg.DedupMinScrape.D().Milliseconds(),
	}
	s.versions.promise(version.Until)
	version.Sequence, version.Changed = s.versions.state(tenant, r)
	if r.Min < s.settledFrom() {
		version.Changed = math.MaxUint64
	}
	return []storageapi.Version{version}, nil
}

// settledFrom returns the time before which samples come to be left out or thinned out as they grow older.
func (s *Storage) settledFrom() int64 {
	now := s.o.Now().UnixMilli()
	from := now - s.cfg.RetentionPeriod.Millis
	for i := range s.cfg.RetentionRules {
		from = max(from, now-s.cfg.RetentionRules[i].Keep.Milliseconds())
	}
	for i := range s.cfg.DownsamplingRules {
		from = max(from, now-s.cfg.DownsamplingRules[i].Offset.Milliseconds())
	}
	return from
}
