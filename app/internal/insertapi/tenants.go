package insertapi

import (
	"slices"
	"sync"

	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// tenantRows are rows of a batch which belong to one tenant.
type tenantRows struct {
	tenant model.TenantID
	rows   int
}

// tenantsOf returns the tenants of a batch, each once, with their rows. Each, unless it is nil, is called for each series with the place of its tenant.
func (a *API) tenantsOf(req *protoparser.Request, b *model.Batch, each func(series, place int)) []tenantRows {
	if !req.TenantFromLabels {
		return []tenantRows{{req.Tenant, b.Rows()}}
	}
	if space := b.Space(); space != nil {
		return space.Attach(a, func() model.Attachment { return &tenantTable{budget: a.budget} }).(*tenantTable).tenantsOf(b, each)
	}
	return (&tenantTable{budget: a.budget, detached: true}).tenantsOf(b, each)
}

// tenantsOf is that of the API.
func (t *tenantTable) tenantsOf(b *model.Batch, each func(series, place int)) []tenantRows {
	tenants, _ := t.admit(b, func(int) bool { return true }, each)
	return tenants
}

// tenantTable knows the tenants of the numbered series of a space, whose keys would have to be made to see them. It implements
// model.Attachment and is safe for concurrent use.
type tenantTable struct {
	budget *memory.Budget // may be nil

	mu       sync.RWMutex
	tenants  []model.TenantID
	places   map[model.TenantID]uint32 // among tenants, from 1
	byNumber []uint32                  // places of series; 0: not known
	reserved int64
	detached bool
}

// learned is what a batch tells of a series.
type learned struct {
	number uint32
	tenant model.TenantID
}

// admit asks for series which are not known yet, by their places in the batch, whether they may go on. It returns the tenants of those which may and of
// known ones, each once, with their rows, and the places of all others. These are asked for again the next time. Each, unless it is nil, is called for each series
// which goes on with the place of its tenant.
func (t *tenantTable) admit(b *model.Batch, ask func(i int) bool, each func(series, place int)) (tenants []tenantRows, refused []int) {
	var list tenantList
	var news []learned
	t.mu.RLock()
	for i := range b.Len() {
		tenant, known := t.lookup(b.Number(i))
		switch {
		case known:
		case !ask(i):
			refused = append(refused, i)
			continue
		default:
			tenant = model.SeriesKeyTenant(b.Key(i))
			news = append(news, learned{b.Number(i), tenant})
		}
		list.add(tenant, b.RowsOf(i))
		if each != nil {
			each(i, list.last)
		}
	}
	t.mu.RUnlock()
	if len(news) > 0 {
		t.learn(news)
	}
	return list.tenants, refused
}

// tenantList adds up rows by tenant.
type tenantList struct {
	tenants []tenantRows
	places  map[model.TenantID]int // once there are more than a few
	last    int
}

const fewTenants = 8

func (l *tenantList) add(t model.TenantID, rows int) {
	if l.last >= len(l.tenants) || l.tenants[l.last].tenant != t {
		l.last = l.find(t)
	}
	l.tenants[l.last].rows += rows
}

// find returns the place of a tenant, which is added if it is not there.
func (l *tenantList) find(t model.TenantID) int {
	if place, ok := l.places[t]; ok {
		return place
	}
	if l.places == nil {
		if place := slices.IndexFunc(l.tenants, func(r tenantRows) bool { return r.tenant == t }); place >= 0 {
			return place
		}
	}
	place := len(l.tenants)
	l.tenants = append(l.tenants, tenantRows{tenant: t})
	switch {
	case l.places != nil:
		l.places[t] = place
	case len(l.tenants) > fewTenants:
		l.places = map[model.TenantID]int{}
		for i, r := range l.tenants {
			l.places[r.tenant] = i
		}
	}
	return place
}

// lookup returns the tenant of a series, if it is known. The caller holds the lock.
func (t *tenantTable) lookup(number uint32) (tenant model.TenantID, known bool) {
	if uint64(number) >= uint64(len(t.byNumber)) || t.byNumber[number] == 0 {
		return tenant, false
	}
	return t.tenants[t.byNumber[number]-1], true
}

func (t *tenantTable) learn(news []learned) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range news {
		if x.number == model.NoNumber || !t.growLocked(int(x.number)+1) {
			continue
		}
		place := t.places[x.tenant]
		if place == 0 {
			if t.places == nil {
				t.places = map[model.TenantID]uint32{}
			}
			t.tenants = append(t.tenants, x.tenant)
			place = uint32(len(t.tenants))
			t.places[x.tenant] = place
		}
		t.byNumber[x.number] = place
	}
}

// growLocked makes room for numbers below n; false when there is none, or the numbers have ended.
func (t *tenantTable) growLocked(n int) bool {
	if n <= len(t.byNumber) {
		return true
	}
	if t.detached {
		return false
	}
	grown := slices.Grow(t.byNumber, n-len(t.byNumber))
	const placeBytes = 4
	size := int64(cap(grown))*placeBytes - t.reserved
	if t.budget != nil && t.budget.Reserve(size, "the tenants of series") != nil {
		return false
	}
	t.reserved += size
	t.byNumber = grown[:n]
	return true
}

// Detach implements model.Attachment.
func (t *tenantTable) Detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detached = true
	if t.budget != nil {
		t.budget.Release(t.reserved)
	}
	t.reserved = 0
}
