package tenantstat

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// maxTenants is how many tenants are counted one by one. Whoever may name a tenant may invent many.
const maxTenants = 10_000

// Counters are a counter for each tenant. They are safe for concurrent use.
type Counters[C any] struct {
	create func(name string) *C
	prefix string // of names, up to the labels of the tenant

	mu struct {
		sync.RWMutex
		counters map[model.TenantID]*C
	}
}

// New returns counters of a metric family, with labels such as type="x" or nothing besides those of tenants. Create returns
// the counter of a name, the same for the same name, as methods of metrics.Set do.
func New[C any](create func(name string) *C, family, labels string) *Counters[C] {
	c := &Counters[C]{create: create, prefix: family + "{"}
	if labels != "" {
		c.prefix += labels + ","
	}
	c.mu.counters = map[model.TenantID]*C{}
	return c
}

// Of returns the counter of a tenant.
func (c *Counters[C]) Of(t model.TenantID) *C {
	c.mu.RLock()
	counter := c.mu.counters[t]
	c.mu.RUnlock()
	if counter != nil {
		return counter
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if counter := c.mu.counters[t]; counter != nil {
		return counter
	}
	if len(c.mu.counters) >= maxTenants {
		return c.named("other", "other")
	}
	counter = c.named(fmt.Sprint(t.AccountID), fmt.Sprint(t.ProjectID))
	c.mu.counters[t] = counter
	return counter
}

// All returns the counter of what concerns all tenants together.
func (c *Counters[C]) All() *C { return c.named("multitenant", "multitenant") }

func (c *Counters[C]) named(account, project string) *C {
	return c.create(fmt.Sprintf("%saccountID=%q,projectID=%q}", c.prefix, account, project))
}

// WriteGauges writes a metric of each tenant; of tenants beyond the bound, in the order of their numbers, the sum.
func WriteGauges(w *metrics.Writer, family string, values map[model.TenantID]float64) {
	const format = "%s{accountID=%q,projectID=%q}"
	tenants := slices.SortedFunc(maps.Keys(values), model.TenantID.Compare)
	for _, t := range tenants[:min(len(tenants), maxTenants)] {
		w.Gauge(fmt.Sprintf(format, family, fmt.Sprint(t.AccountID), fmt.Sprint(t.ProjectID)), values[t])
	}
	if len(tenants) <= maxTenants {
		return
	}
	rest := 0.0
	for _, t := range tenants[maxTenants:] {
		rest += values[t]
	}
	w.Gauge(fmt.Sprintf(format, family, "other", "other"), rest)
}
