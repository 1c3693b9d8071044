package selectapi

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/tenantstat"
)

// multitenant stands for all tenants where a tenant is named.
const multitenant = "multitenant"

// scope is whose series a request is about: those of one tenant, or of all.
type scope struct {
	tenant model.TenantID // zero when all is set
	all    bool
}

// String names the tenant.
func (s scope) String() string {
	if s.all {
		return multitenant
	}
	return s.tenant.String()
}

// sees reports whether queries of the other scope are its business.
func (s scope) sees(other scope) bool { return s.all || s == other }

// parseScope parses what paths and headers have for a tenant.
func parseScope(text string) (scope, error) {
	if text == multitenant {
		return scope{all: true}, nil
	}
	t, err := model.ParseTenantID(text)
	return scope{tenant: t}, err
}

// tenantCounters count the requests of each tenant.
type tenantCounters struct {
	requests *tenantstat.Counters[metrics.Counter]
	millis   *tenantstat.Counters[metrics.FloatCounter]
}

func newTenantCounters(set *metrics.Set) *tenantCounters {
	return &tenantCounters{
		requests: tenantstat.New(set.Counter, "vm_tenant_select_requests_total", ""),
		millis:   tenantstat.New(set.FloatCounter, "vm_tenant_select_requests_duration_ms_total", ""),
	}
}

// count counts a request which has been answered.
func (c *tenantCounters) count(s scope, duration time.Duration) {
	ms := duration.Seconds() * 1e3
	if s.all {
		c.requests.All().Inc()
		c.millis.All().Add(ms)
		return
	}
	c.requests.Of(s.tenant).Inc()
	c.millis.Of(s.tenant).Add(ms)
}

// CountTenant counts a request of a tenant to another read API, which has been answered.
func (a *API) CountTenant(t model.TenantID, started time.Time) {
	if !a.o.SingleNode {
		a.tenantCounters.count(scope{tenant: t}, a.o.Now().Sub(started))
	}
}

// cutTenant splits what follows /select/ or /delete/ into the tenant, which may be in headers instead, and the rest.
func (a *API) cutTenant(r *http.Request, path string) (tenant, rest string) {
	tenant, rest, _ = strings.Cut(path, "/")
	if tenant == "prometheus" && a.o.Config.TenantHeaders {
		return tenantOfHeaders(r.Header), path
	}
	return tenant, rest
}

// tenantOfHeaders returns the tenant of a request whose path names none.
func tenantOfHeaders(h http.Header) string {
	if h.Get("AccountID") == multitenant {
		return multitenant
	}
	return cmp.Or(h.Get("AccountID"), "0") + ":" + cmp.Or(h.Get("ProjectID"), "0")
}
