package selectapi

import (
	"net/http"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/model"
)

// Paths of requests which change something. In a cluster they are not below /select/.
const (
	deletePath     = "/api/v1/admin/tsdb/delete_series"
	resetNamesPath = "/api/v1/admin/status/metric_names_stats/reset"
	resetCachePath = "/internal/resetRollupResultCache"
)

// adminRoute is a route for those who may change something.
type adminRoute struct {
	route
	keyFlag  string
	authKey  flagvalue.Secret
	postOnly bool
}

// adminRoutes are the routes by their path without tenant.
func (a *API) adminRoutes() map[string]adminRoute {
	c := a.o.Config
	deleteLabel, resetLabel := "/delete/{}/prometheus"+deletePath, "/admin"+resetNamesPath
	if a.o.SingleNode {
		deleteLabel, resetLabel = deletePath, resetNamesPath
	}
	return map[string]adminRoute{
		deletePath: {
			route:   route{Endpoint: a.namedEndpoint(deleteLabel), serve: a.deleteSeries, timeout: c.MaxDeleteDuration.D()},
			keyFlag: "deleteAuthKey", authKey: c.DeleteAuthKey, postOnly: true,
		},
		resetNamesPath: {
			route:   route{Endpoint: a.namedEndpoint(resetLabel), serve: a.resetNameStats, timeout: c.MaxStatusRequestDuration.D()},
			keyFlag: "metricNamesStatsResetAuthKey", authKey: c.NameStatsResetAuthKey,
		},
		resetCachePath: {
			route:   route{Endpoint: a.namedEndpoint(resetCachePath), serve: a.resetCache, timeout: c.MaxStatusRequestDuration.D()},
			keyFlag: "search.resetCacheAuthKey", authKey: c.CacheResetAuthKey,
		},
	}
}

// handleAdmin serves a request which changes something, or returns false when the path is none of these. The path has no slash at its end.
func (a *API) handleAdmin(w http.ResponseWriter, r *http.Request, path string) bool {
	if a.o.SingleNode {
		route, ok := a.admin[strings.TrimPrefix(path, "/prometheus")]
		if ok {
			a.serveAdmin(w, r, scope{}, route)
		}
		return ok
	}
	switch path {
	case resetCachePath:
		a.serveAdmin(w, r, scope{}, a.admin[resetCachePath])
		return true
	case "/admin" + resetNamesPath:
		a.serveAdmin(w, r, scope{}, a.admin[resetNamesPath])
		return true
	case "/api/v1/status/active_queries", "/api/v1/status/top_queries":
		a.serve(w, &request{Request: r, scope: scope{all: true}, started: a.o.Now()}, a.routes[path])
		return true
	}
	rest, ok := strings.CutPrefix(path, "/delete/")
	if !ok {
		return false
	}
	tenantText, suffix := a.cutTenant(r, rest)
	tenant, err := parseScope(tenantText)
	if err != nil || suffix != "prometheus"+deletePath {
		a.refuse(w, r, errkind.New(errkind.NotFound, "unsupported path requested: %q; series are deleted at /delete/<accountID>[:<projectID>]/prometheus%s", r.URL.Path, deletePath))
		return true
	}
	a.serveAdmin(w, r, tenant, a.admin[deletePath])
	return true
}

// serveAdmin is serve without leave for pages of other sites to call, and with plain errors.
func (a *API) serveAdmin(w http.ResponseWriter, r *http.Request, tenant scope, route adminRoute) {
	req := &request{Request: r, scope: tenant, started: a.o.Now()}
	route.requests.Inc()
	defer func() { route.duration.Update(a.o.Now().Sub(req.started).Seconds()) }()
	if route.postOnly && r.Method != http.MethodPost {
		route.errors.Inc()
		w.Header().Set("Allow", http.MethodPost)
		httpserver.Error(w, r, a.o.Logger, errkind.New(errkind.MethodNotAllowed, "Only POST method is allowed. Got %s.", r.Method))
		return
	}
	if !httpserver.CheckAuthKey(w, r, route.keyFlag, route.authKey) {
		route.errors.Inc()
		return
	}
	if err := a.run(w, req, route.route); err != nil {
		route.errors.Inc()
		httpserver.Error(w, r, a.o.Logger, err)
	}
}

// deleteSeries deletes the series that match[] selects.
func (a *API) deleteSeries(w http.ResponseWriter, r *request) error {
	if r.Form.Get("start") != "" || r.Form.Get("end") != "" {
		return errkind.New(errkind.BadRequest, "delete API does not support specific time ranges using start and end args, the series can only be deleted completely; leave the arguments out")
	}
	filters, err := selected(r.Request)
	if err != nil {
		return err
	}
	n, err := a.o.Catalog.DeleteSeries(r.Context(), &model.SearchQuery{Tenant: r.tenant, AllTenants: r.all, Filters: filters, MaxSeries: a.o.Config.MaxDeleteSeries})
	if err != nil {
		return err
	}
	a.o.Logger.Infof("deleted %d series of tenant %s for %s: %q", n, r.scope, r.RemoteAddr, httpserver.LoggedURI(r.Request))
	w.Header().Set("X-Deleted-Series", strconv.Itoa(n))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// resetNameStats starts counting the usage of metrics anew.
func (a *API) resetNameStats(w http.ResponseWriter, r *request) error {
	if err := a.o.Catalog.ResetNameStats(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
