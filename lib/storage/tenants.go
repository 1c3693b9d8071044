package storage

import (
	"sync"
	"time"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/tenantstat"
)

// Metrics of tenants, see docs/design/0034-tenant-accounts.md.

const (
	// A series is active when it has a sample within the last hour; since figures of parts are kept by slots, up to one slot longer.
	activeMs = hourMs
	// Counting may take this part of the time of a CPU.
	accountShare = 200
	// Figures are never older than accountMax when they are asked for again and again, and are not counted more often than each accountMin.
	accountMin, accountMax = time.Second, time.Minute
	// The first page waits so long for the first count, which looks through all parts.
	accountWait = time.Second
)

// tenantAccounts are what the tenants have, as of the last count.
type tenantAccounts struct {
	created *tenantstat.Counters[metrics.Counter] // new series

	mu struct {
		sync.Mutex
		active, bytes map[model.TenantID]float64
		counting      bool
		next          time.Time // when it is time to count again
	}
	counted chan struct{} // closed after the first count
}

func newTenantAccounts(set *metrics.Set) *tenantAccounts {
	return &tenantAccounts{created: tenantstat.New(set.Counter, "vm_tenant_timeseries_created_total", ""), counted: make(chan struct{})}
}

// collectTenants writes the metrics of tenants as of the last count, and starts another when it is time. The caller has entered.
func (s *Storage) collectTenants(w *metrics.Writer) {
	a := s.tenants
	a.mu.Lock()
	if !a.mu.counting && !s.o.Now().Before(a.mu.next) {
		a.mu.counting = true
		s.background.Go(s.accountForTenants)
	}
	a.mu.Unlock()
	select {
	case <-a.counted:
	case <-time.After(accountWait):
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	tenantstat.WriteGauges(w, "vm_tenant_active_timeseries", a.mu.active)
	tenantstat.WriteGauges(w, "vm_tenant_used_tenant_bytes", a.mu.bytes)
}

func (s *Storage) accountForTenants() {
	active, bytes, took := s.countTenants()
	a := s.tenants
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.active == nil {
		close(a.counted)
	}
	a.mu.active, a.mu.bytes, a.mu.counting = active, bytes, false
	a.mu.next = s.o.Now().Add(min(accountMax, max(accountMin, accountShare*took)))
}

// countTenants counts the active series and the bytes of the tenants. A series has another id in each month, so the months cannot be added up: what counts is the
// month in which a tenant has most active series.
func (s *Storage) countTenants() (active, bytes map[model.TenantID]float64, took time.Duration) {
	start := time.Now()
	since := partition.ActiveSince(s.o.Now().UnixMilli() - activeMs)
	active, bytes = map[model.TenantID]float64{}, map[model.TenantID]float64{}
	partitions := s.acquire(allTime())
	defer func() { s.noteErr("close", release(partitions)) }()
	for _, p := range partitions {
		usage, err := p.Usage(s.ctx, since)
		if s.ctx.Err() != nil {
			break // nobody will ask
		}
		if err != nil {
			s.damageWarn.Warnf("the metrics of tenants are without partition %s: %s", p.Month(), err)
			continue
		}
		for t, x := range usage {
			active[t] = max(active[t], float64(x.Active))
			bytes[t] += x.Bytes
		}
	}
	return active, bytes, time.Since(start)
}
