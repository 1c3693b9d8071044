package selectapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/query"
)

// queryLog knows the queries which are running, and the last ones that ran.
type queryLog struct {
	config *Config
	now    func() time.Time

	mu struct {
		sync.Mutex
		nextID uint64
		active map[uint64]*activeQuery
		ring   []ranQuery // the last ones; grows up to its limit
		next   int        // in ring
	}
}

type activeQuery struct {
	request    *query.Request
	remoteAddr string
	started    time.Time
	memory     int64 // bytes at most, known at the end
}

// queryIdentity is what queries are grouped by.
type queryIdentity struct {
	scope
	text      string
	rangeSecs int64
}

type ranQuery struct {
	queryIdentity
	at       time.Time
	duration time.Duration
	memory   int64 // bytes at most
}

func newQueryLog(c *Config, now func() time.Time) *queryLog {
	l := &queryLog{config: c, now: now}
	l.mu.nextID = uint64(now().UnixNano())
	l.mu.active = map[uint64]*activeQuery{}
	return l
}

// begin notes a query which starts; its end is told by calling the result, with how many bytes it took at most.
func (l *queryLog) begin(r *request, q *query.Request) (end func(memory int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.nextID++
	id := l.mu.nextID
	active := &activeQuery{request: q, remoteAddr: r.RemoteAddr, started: l.now()}
	l.mu.active[id] = active
	return func(memory int64) {
		active.memory = memory
		l.end(id, active)
	}
}

func (l *queryLog) end(id uint64, active *activeQuery) {
	now := l.now()
	duration := now.Sub(active.started)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.active, id)
	most := l.config.LastQueriesCount
	if most <= 0 || duration < l.config.MinQueryDuration.D() {
		return
	}
	q := active.request
	ran := ranQuery{queryIdentity{scope{q.Tenant, q.AllTenants}, q.Query, (q.End - q.Start) / 1000}, now, duration, active.memory}
	if len(l.mu.ring) < most {
		l.mu.ring = append(l.mu.ring, ran)
		return
	}
	l.mu.ring[l.mu.next] = ran
	l.mu.next = (l.mu.next + 1) % most
}

// activeJSON is a running query in answers. The single node leaves the tenant out.
type activeJSON struct {
	Duration      string  `json:"duration"`
	ID            string  `json:"id"`
	RemoteAddr    string  `json:"remote_addr"`
	AccountID     *string `json:"account_id,omitempty"`
	ProjectID     *string `json:"project_id,omitempty"`
	Query         string  `json:"query"`
	Start         int64   `json:"start"`
	End           int64   `json:"end"`
	Step          int64   `json:"step"`
	IsMultitenant *bool   `json:"is_multitenant,omitempty"`
}

// activeQueries serves /api/v1/status/active_queries.
func (a *API) activeQueries(w http.ResponseWriter, r *request) error {
	body := struct {
		Status string       `json:"status"`
		Data   []activeJSON `json:"data"`
	}{"ok", a.queries.running(r.scope, a.o.SingleNode)}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return writeJSON(w, text)
}

// running returns the running queries which may be told to whom, the longest first.
func (l *queryLog) running(to scope, singleNode bool) []activeJSON {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	list := []activeJSON{}
	for _, id := range slices.Sorted(maps.Keys(l.mu.active)) { // ids grow with time
		x := l.mu.active[id]
		q := x.request
		if !to.sees(scope{q.Tenant, q.AllTenants}) {
			continue
		}
		j := activeJSON{
			Duration: fmt.Sprintf("%.3fs", now.Sub(x.started).Seconds()), ID: fmt.Sprintf("%016X", id), RemoteAddr: x.remoteAddr,
			Query: q.Query, Start: q.Start, End: q.End, Step: q.Step,
		}
		if !singleNode {
			account, project := strconv.FormatUint(uint64(q.Tenant.AccountID), 10), strconv.FormatUint(uint64(q.Tenant.ProjectID), 10)
			j.AccountID, j.ProjectID, j.IsMultitenant = &account, &project, &q.AllTenants
		}
		list = append(list, j)
	}
	return list
}

// topQuery is a group of equal queries in answers.
type topQuery struct {
	AccountID   *uint32  `json:"accountID,omitempty"`
	ProjectID   *uint32  `json:"projectID,omitempty"`
	Query       string   `json:"query"`
	RangeSecs   int64    `json:"timeRangeSeconds"`
	AvgDuration *float64 `json:"avgDurationSeconds,omitempty"`
	SumDuration *float64 `json:"sumDurationSeconds,omitempty"`
	AvgMemory   *int64   `json:"avgMemoryBytes,omitempty"`
	Count       int      `json:"count"`
	MultiTenant *bool    `json:"multiTenant,omitempty"`
}

// queryTotals are the sums of a group.
type queryTotals struct {
	queryIdentity
	count  int
	sum    time.Duration
	memory int64 // bytes
}

func (t *queryTotals) averageMemory() int64 { return t.memory / int64(t.count) }

func (t *queryTotals) average() time.Duration { return t.sum / time.Duration(t.count) }

// topQueries serves /api/v1/status/top_queries.
func (a *API) topQueries(w http.ResponseWriter, r *request) error {
	topN := 20
	if s := r.Form.Get("topN"); s != "" {
		var err error
		if topN, err = strconv.Atoi(s); err != nil {
			return errkind.New(errkind.BadRequest, "cannot parse `topN` arg %q: %w", s, err)
		}
	}
	lifetime, err := durationArg(r.Request, "maxLifetime")
	if err != nil {
		return err
	}
	age := 10 * time.Minute
	if lifetime != nil {
		age = time.Duration(*lifetime) * time.Millisecond
	}
	groups := a.queries.totals(r.scope, age)
	byCount := a.top(groups, topN, func(x, y *queryTotals) int { return cmp.Compare(y.count, x.count) }, nil)
	byAverage := a.top(groups, topN, func(x, y *queryTotals) int { return cmp.Compare(y.average(), x.average()) }, func(t *queryTotals, out *topQuery) {
		seconds := t.average().Seconds()
		out.AvgDuration = &seconds
	})
	bySum := a.top(groups, topN, func(x, y *queryTotals) int { return cmp.Compare(y.sum, x.sum) }, func(t *queryTotals, out *topQuery) {
		seconds := t.sum.Seconds()
		out.SumDuration = &seconds
	})
	c := a.o.Config
	groups = slices.DeleteFunc(groups, func(t *queryTotals) bool { return t.averageMemory() < int64(c.MinQueryMemory) })
	byMemory := a.top(groups, topN, func(x, y *queryTotals) int { return cmp.Compare(y.averageMemory(), x.averageMemory()) }, func(t *queryTotals, out *topQuery) {
		bytes := t.averageMemory()
		out.AvgMemory = &bytes
	})
	text, err := json.Marshal(struct {
		TopN        string     `json:"topN"`
		MaxLifetime string     `json:"maxLifetime"`
		LastQueries int        `json:"search.queryStats.lastQueriesCount"`
		MinDuration string     `json:"search.queryStats.minQueryDuration"`
		MinMemory   string     `json:"search.queryStats.minQueryMemoryUsage"`
		ByCount     []topQuery `json:"topByCount"`
		ByAvg       []topQuery `json:"topByAvgDuration"`
		BySum       []topQuery `json:"topBySumDuration"`
		ByAvgMemory []topQuery `json:"topByAvgMemoryUsage"`
	}{strconv.Itoa(topN), age.String(), c.LastQueriesCount, c.MinQueryDuration.String(), c.MinQueryMemory.String(), byCount, byAverage, bySum, byMemory})
	if err != nil {
		return err
	}
	return writeJSON(w, text)
}

// totals groups the queries which ended within the given time and may be told to whom.
func (l *queryLog) totals(to scope, age time.Duration) []*queryTotals {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := l.now().Add(-age)
	groups := map[queryIdentity]*queryTotals{}
	for i := range l.mu.ring {
		ran := &l.mu.ring[i]
		if ran.at.Before(oldest) || !to.sees(ran.scope) {
			continue
		}
		t := groups[ran.queryIdentity]
		if t == nil {
			t = &queryTotals{queryIdentity: ran.queryIdentity}
			groups[ran.queryIdentity] = t
		}
		t.count++
		t.sum += ran.duration
		t.memory += ran.memory
	}
	return slices.Collect(maps.Values(groups))
}

// top returns the first groups in an order, equal ones by query.
func (a *API) top(groups []*queryTotals, n int, order func(x, y *queryTotals) int, fill func(t *queryTotals, out *topQuery)) []topQuery {
	slices.SortFunc(groups, func(x, y *queryTotals) int {
		return cmp.Or(order(x, y), cmp.Compare(x.text, y.text), cmp.Compare(x.rangeSecs, y.rangeSecs), x.tenant.Compare(y.tenant), cmp.Compare(x.String(), y.String()))
	})
	list := []topQuery{}
	for _, t := range groups[:min(max(0, n), len(groups))] {
		out := topQuery{Query: t.text, RangeSecs: t.rangeSecs, Count: t.count}
		if !a.o.SingleNode {
			out.AccountID, out.ProjectID, out.MultiTenant = &t.tenant.AccountID, &t.tenant.ProjectID, &t.all
		}
		if fill != nil {
			fill(t, &out)
		}
		list = append(list, out)
	}
	return list
}
