package multitenant

import (
	"context"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// part is a tenant with what is asked of it.
type part struct {
	tenant           model.TenantID
	account, project string              // as values of labels
	sets             [][]model.TagFilter // without filters of tenants
}

// query returns the query of the tenant.
func (p *part) query(q *model.SearchQuery) *model.SearchQuery {
	own := *q
	own.Tenant, own.AllTenants, own.Filters = p.tenant, false, p.sets
	return &own
}

// parts returns the tenants that filters select among those with samples in the months of r.
func (s *Searcher) parts(ctx context.Context, r model.TimeRange, filters [][]model.TagFilter) ([]part, storageapi.Coverage, error) {
	sets, err := splitSets(filters)
	if err != nil {
		return nil, storageapi.Coverage{}, err
	}
	tenants, err := s.tenants.get(ctx, r)
	if err != nil {
		return nil, storageapi.Coverage{}, err
	}
	return partsOf(tenants.Values, sets), tenants.Coverage, nil
}

// partsOf returns the tenants that sets of filters select.
func partsOf(tenants []model.TenantID, sets []splitSet) []part {
	parts := make([]part, 0, len(tenants))
	for _, t := range tenants {
		p := part{tenant: t, account: number(t.AccountID), project: number(t.ProjectID)}
		for i := range sets {
			if sets[i].selects(&p) {
				p.sets = append(p.sets, sets[i].rest)
			}
		}
		if len(p.sets) > 0 || len(sets) == 0 {
			parts = append(parts, p)
		}
	}
	return parts
}

// everyone returns all tenants with samples, and 0:0, which descriptions sent for many tenants are ascribed to.
func (s *Searcher) everyone(ctx context.Context) ([]part, storageapi.Coverage, error) {
	parts, coverage, err := s.parts(ctx, allTime(), nil)
	if err == nil && (len(parts) == 0 || parts[0].tenant != model.TenantID{}) {
		parts = slices.Insert(parts, 0, part{})
	}
	return parts, coverage, err
}

func number(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// splitSet is a set of filters of which those that select tenants are split off.
type splitSet struct {
	account, project []*model.Matcher
	rest             []model.TagFilter
}

func splitSets(filters [][]model.TagFilter) ([]splitSet, error) {
	sets := make([]splitSet, len(filters))
	for i, list := range filters {
		s := &sets[i]
		for _, f := range list {
			if f.Name != model.AccountLabel && f.Name != model.ProjectLabel {
				s.rest = append(s.rest, f)
				continue
			}
			m, err := f.Compile()
			if err != nil {
				return nil, err
			}
			if f.Name == model.AccountLabel {
				s.account = append(s.account, m)
			} else {
				s.project = append(s.project, m)
			}
		}
	}
	return sets, nil
}

func (s *splitSet) selects(p *part) bool {
	return matchAll(s.account, p.account) && matchAll(s.project, p.project)
}

func matchAll(list []*model.Matcher, value string) bool {
	return !slices.ContainsFunc(list, func(m *model.Matcher) bool { return !m.Match(value) })
}

// tenantLists remembers for a while which tenants have samples in which months.
type tenantLists struct {
	stores   storageapi.Searcher
	keep     time.Duration
	now      func() time.Time
	requests *metrics.Counter
	misses   *metrics.Counter

	mu struct {
		sync.Mutex
		lists map[months]tenantList
	}
}

// maxTenantLists is how many ranges of months are remembered.
const maxTenantLists = 64

type months struct{ first, last int }

type tenantList struct {
	tenants []model.TenantID
	until   time.Time
}

func newTenantLists(o *Options) *tenantLists {
	const labels = `{type="multitenancy/tenants"}`
	l := &tenantLists{
		stores: o.Stores, keep: o.Config.TenantCacheExpire.D(), now: o.Now,
		requests: o.Metrics.Counter("vm_cache_requests_total" + labels), misses: o.Metrics.Counter("vm_cache_misses_total" + labels),
	}
	l.mu.lists = map[months]tenantList{}
	return l
}

// get returns the tenants with samples in the months of r. The list is not to be changed.
func (l *tenantLists) get(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	l.requests.Inc()
	key := months{month(r.Min), month(r.Max)}
	if list, ok := l.peek(key); ok {
		return storageapi.Tenants{Values: list}, nil
	}
	l.misses.Inc()
	return l.ask(ctx, r)
}

// ask is get without what is remembered.
func (l *tenantLists) ask(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	asked := l.now()
	tenants, err := l.stores.Tenants(ctx, r)
	if err == nil && !tenants.Coverage.Partial && l.keep > 0 {
		l.put(months{month(r.Min), month(r.Max)}, tenantList{tenants: tenants.Values, until: asked.Add(l.keep)})
	}
	return tenants, err
}

func (l *tenantLists) peek(key months) ([]model.TenantID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list, ok := l.mu.lists[key]
	return list.tenants, ok && l.now().Before(list.until)
}

func (l *tenantLists) put(key months, list tenantList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.lists) >= maxTenantLists {
		clear(l.mu.lists) // who asks for so many different ranges gains nothing
	}
	l.mu.lists[key] = list
}

// month numbers the month (UTC) of a Unix time in milliseconds.
func month(ms int64) int {
	t := time.UnixMilli(ms).UTC()
	return t.Year()*12 + int(t.Month())
}

// allTime covers every timestamp that can be stored.
func allTime() model.TimeRange { return model.TimeRange{Max: math.MaxInt64 / 1_000_000} }
