package graphiteapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"vmcluster/app/internal/selectapi"
	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/errkind"
	"vmcluster/lib/graphite"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Options are what the Graphite API needs.
type Options struct {
	Config   *Config
	Select   *selectapi.Config // limits of all reads
	Searcher storageapi.Searcher
	Catalog  storageapi.Catalog
	// Acquire waits for a place among the running requests.
	Acquire func(ctx context.Context) (release func(), err error)
	// Count counts an answered request of a tenant; nil does not.
	Count   func(t model.TenantID, started time.Time)
	Limits  *tenantlimits.Limiter // of tenants; nil has none
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget
	// MaxBytes is how much of the budget a render may reserve; 0 means half of it.
	MaxBytes int64
	Now      func() time.Time
	// MaxQueryLen is the longest target or path expression in bytes; 0 means no limit.
	MaxQueryLen int
	// SingleNode serves the routes without tenants, at the root and under /graphite.
	SingleNode      bool
	DedupIntervalMs int64
}

// API serves the routes.
type API struct {
	o       Options
	engine  *graphite.Engine
	routes  map[string]*route
	refused *metrics.Counter
}

// request is one request.
type request struct {
	*http.Request
	tenant model.TenantID
	path   string // of the URL
	name   string // the last part of the path, where that is an argument
}

// route is an endpoint.
type route struct {
	*selectapi.Endpoint
	serve   func(w http.ResponseWriter, r *request) error
	timeout time.Duration // 0: a fixed answer, which takes no place among the running requests
	cors    bool
	post    bool
}

const functionsPath, tagsPath = "/functions", "/tags"

// New returns the Graphite API.
func New(o Options) *API {
	a := &API{o: o, engine: graphite.New(), refused: o.Metrics.Counter(`vm_http_request_errors_total{path="/select/*/graphite/*", reason="unsupported"}`)}
	c := o.Select
	labels, queries := c.MaxLabelsAPIDuration.D(), c.MaxQueryDuration.D()
	a.routes = map[string]*route{
		"/metrics/find":             {serve: a.find, timeout: labels, cors: true},
		"/metrics/expand":           {serve: a.expand, timeout: labels, cors: true},
		"/metrics/index.json":       {serve: a.index, timeout: queries, cors: true},
		"/render":                   {serve: a.render, timeout: queries},
		tagsPath:                    {serve: a.tags, timeout: labels},
		"/tags/<tag_name>":          {serve: a.tagValues, timeout: labels},
		"/tags/findSeries":          {serve: a.findSeries, timeout: labels},
		"/tags/autoComplete/tags":   {serve: a.completeTags, timeout: labels, cors: true},
		"/tags/autoComplete/values": {serve: a.completeValues, timeout: labels, cors: true},
		"/tags/tagSeries":           {serve: a.tagSeries},
		"/tags/tagMultiSeries":      {serve: a.tagSeries},
		"/tags/delSeries":           {serve: a.deleteSeries, timeout: c.MaxDeleteDuration.D(), post: true},
		functionsPath:               {serve: a.functions},
		"/functions/<func_name>":    {serve: a.function},
	}
	for path, r := range a.routes {
		label := path
		if !o.SingleNode {
			label = "/select/{}/graphite" + path
		}
		r.Endpoint = selectapi.NewEndpoint(o.Metrics, o.Now, label)
	}
	return a
}

// Handle serves a request, or returns false when the path is none of the Graphite API.
func (a *API) Handle(w http.ResponseWriter, r *http.Request) bool {
	path, tenant, below := r.URL.Path, model.TenantID{}, false
	if a.o.SingleNode {
		path, below = cutRoot(path)
	} else {
		rest, ok := strings.CutPrefix(path, "/select/")
		text, rest, _ := strings.Cut(rest, "/")
		path, below = cutRoot("/" + rest)
		if !ok || !below {
			return false
		}
		var err error
		if tenant, err = parseTenant(text, r.URL.Path); err != nil {
			a.refuse(w, r, err)
			return true
		}
	}
	route, name := a.route(strings.TrimSuffix(path, "/"))
	if route == nil {
		if below {
			a.refuse(w, r, errkind.New(errkind.NotFound, "unsupported path requested: %q", r.URL.Path))
		}
		return below
	}
	a.serve(w, &request{Request: r, tenant: tenant, path: r.URL.Path, name: name}, route)
	return true
}

// cutRoot cuts /graphite from the start of a path and reports whether it was there.
func cutRoot(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "/graphite")
	if !ok || rest != "" && rest[0] != '/' {
		return path, false
	}
	return rest, true
}

func parseTenant(text, path string) (model.TenantID, error) {
	if text == "multitenant" {
		return model.TenantID{}, errkind.New(errkind.BadRequest, "multi-tenant queries are not supported by Graphite endpoints; name one tenant: /select/<accountID>[:<projectID>]/graphite/...")
	}
	tenant, err := model.ParseTenantID(text)
	if err != nil {
		return tenant, errkind.New(errkind.BadRequest, "cannot serve %q: %w; Graphite reads go to /select/<accountID>[:<projectID>]/graphite/...", path, err)
	}
	return tenant, nil
}

// route returns the route of a path, and the argument in the path.
func (a *API) route(path string) (r *route, name string) {
	if r, ok := a.routes[path]; ok && !strings.HasSuffix(path, ">") {
		return r, ""
	}
	if name, ok := strings.CutPrefix(path, tagsPath+"/"); ok && !strings.Contains(name, "/") {
		return a.routes["/tags/<tag_name>"], name
	}
	if name, ok := strings.CutPrefix(path, functionsPath+"/"); ok && !strings.Contains(name, "/") {
		return a.routes["/functions/<func_name>"], name
	}
	return nil, ""
}

func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	a.refused.Inc()
	httpserver.Error(w, r, a.o.Logger, err)
}

func (a *API) serve(w http.ResponseWriter, r *request, route *route) {
	if a.o.Count != nil {
		defer a.o.Count(r.tenant, a.o.Now())
	}
	if route.cors {
		httpserver.SetCORS(w.Header())
	}
	err := route.Answer(func() error { return a.run(w, r, route) })
	if err == nil {
		return
	}
	if errkind.Of(err) == errkind.Unprocessable {
		err = errkind.New(errkind.BadRequest, "%w", err) // Graphite clients know 400 only
	}
	httpserver.Error(w, r.Request, a.o.Logger, err)
}

func (a *API) run(w http.ResponseWriter, r *request, route *route) error {
	if route.post && r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return errkind.New(errkind.MethodNotAllowed, "Only POST method is allowed. Got %s.", r.Method)
	}
	if err := r.ParseForm(); err != nil {
		return errkind.New(errkind.BadRequest, "cannot parse the request's arguments: %w", err)
	}
	if err := checkCallback(r.Form.Get("jsonp")); err != nil {
		return err
	}
	if route.timeout <= 0 {
		return route.serve(w, r)
	}
	leave, err := a.o.Limits.AdmitQuery(r.tenant)
	if err != nil {
		return err
	}
	defer leave()
	release, err := a.o.Acquire(r.Context())
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), route.timeout)
	defer cancel()
	r.Request = r.WithContext(ctx)
	err = route.serve(w, r)
	if errkind.Of(err) == errkind.Timeout || errors.Is(err, context.DeadlineExceeded) {
		return errkind.New(errkind.Timeout, "cannot answer within %s: %w; narrow the paths or the time range, or raise -search.maxQueryDuration or -search.maxLabelsAPIDuration", route.timeout, err)
	}
	return err
}

// covered refuses partial answers if that is wanted.
func (a *API) covered(r *request, c storageapi.Coverage) error {
	if !c.Partial || !a.o.Select.DenyPartialResponse && !boolArg(r, "deny_partial_response") {
		return nil
	}
	var b strings.Builder
	for _, f := range c.Failed {
		b.WriteString("; " + f.Node + ": " + f.Err.Error())
	}
	return errkind.New(errkind.Unavailable, "cannot answer completely, since some of the storage nodes are unavailable%s; bring the nodes back, or ask without deny_partial_response=1 at a vmselect without -search.denyPartialResponse", b.String())
}
