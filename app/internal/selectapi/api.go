package selectapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"vmcluster/app/internal/relabeldebug"
	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
)

// Options are what the read API needs.
type Options struct {
	Config   *Config
	Searcher storageapi.Searcher
	// Parts is the Searcher with native histograms as series of their parts; nil stands for one without a budget.
	Parts     *querysource.Parts
	Catalog   storageapi.Catalog
	Metadata  storageapi.MetadataReader // nil: nothing is known
	Exemplars storageapi.ExemplarReader // nil: there are none
	Engine    *query.Engine
	Logger    *logger.Logger
	Metrics   *metrics.Set
	Now       func() time.Time
	// SingleNode serves the routes without tenants, at the root and under /prometheus.
	SingleNode bool
	// DedupIntervalMs is -dedup.minScrapeInterval, for export.
	DedupIntervalMs int64
	// DisableCORS leaves out the headers which let pages of other origins use the answers.
	DisableCORS bool
	// PromQL answers in Prometheus' own dialect, by path such as /api/v1/query; nil leaves it out.
	PromQL map[string]Handler
	// Limits are those of tenants; nil has none.
	Limits *tenantlimits.Limiter
	// SelectNodes are host:port of other select nodes, for requests that all of them have to serve.
	SelectNodes []string
	// RemoteRead serves /api/v1/read; nil leaves it out.
	RemoteRead Handler
}

// API serves the routes.
type API struct {
	o      Options
	slots  chan struct{}
	routes map[string]route
	admin  map[string]adminRoute
	promql map[string]route
	values *Endpoint

	vmalert *Endpoint
	rules   *httputil.ReverseProxy // to vmalert; nil without -vmalert.proxyURL

	queries        *queryLog
	tenantCounters *tenantCounters

	limitReached *metrics.Counter
	limitTimeout *metrics.Counter
	unsupported  *metrics.Counter
	slowQueries  *metrics.Counter
	heavyQueries *metrics.Counter
	waiting      atomic.Int64
	buffers      bytesutil.Pool // of answers
}

// request is one parsed read request.
type request struct {
	*http.Request
	scope
	started time.Time
	trace   *trace.Span // nil: not asked for
}

// serveFunc answers a request or returns an error to be answered.
type serveFunc func(w http.ResponseWriter, r *request) error

// route is an endpoint with how it is served.
type route struct {
	*Endpoint
	serve     serveFunc
	unlimited bool // a fixed answer, which takes no place among the concurrent requests
	plainText bool // errors are plain text instead of JSON
	timeout   time.Duration
}

// Endpoint counts the requests to a path, also for other read APIs.
type Endpoint struct {
	now      func() time.Time
	requests *metrics.Counter
	errors   *metrics.Counter
	duration *metrics.Summary
}

// NewEndpoint returns the counters of a path as it is called in metrics.
func NewEndpoint(set *metrics.Set, now func() time.Time, path string) *Endpoint {
	labels := "{path=" + strconv.Quote(path) + "}"
	return &Endpoint{
		now:      now,
		requests: set.Counter("vm_http_requests_total" + labels),
		errors:   set.Counter("vm_http_request_errors_total" + labels),
		duration: set.Summary("vm_request_duration_seconds" + labels),
	}
}

// Answer counts a request that answer answers, and returns the error which the client is still to be told.
func (e *Endpoint) Answer(answer func() error) error {
	started := e.now()
	e.requests.Inc()
	defer func() { e.duration.Update(e.now().Sub(started).Seconds()) }()
	err := answer()
	if err != nil {
		e.errors.Inc()
	}
	if IsSent(err) {
		return nil
	}
	return err
}

// New returns the read API.
func New(o Options) *API {
	if o.Parts == nil {
		o.Parts = querysource.NewParts(o.Searcher, nil)
	}
	a := &API{
		rules:        newRuleProxy(&o),
		o:            o,
		slots:        make(chan struct{}, max(1, o.Config.MaxConcurrentRequests)),
		limitReached: o.Metrics.Counter("vm_concurrent_select_limit_reached_total"),
		limitTimeout: o.Metrics.Counter("vm_concurrent_select_limit_timeout_total"),
		unsupported:  o.Metrics.Counter(`vm_http_request_errors_total{path="/select/*", reason="unsupported"}`),
		slowQueries:  o.Metrics.Counter("vm_slow_queries_total"),
		heavyQueries: o.Metrics.Counter("vm_memory_intensive_queries_total"),
	}
	o.Metrics.Gauge("vm_concurrent_select_capacity", func() float64 { return float64(cap(a.slots)) })
	o.Metrics.Gauge("vm_concurrent_select_current", func() float64 { return float64(len(a.slots)) })
	o.Metrics.Gauge("vm_concurrent_select_waiting", func() float64 { return float64(a.waiting.Load()) })
	a.queries = newQueryLog(o.Config, o.Now)
	a.tenantCounters = newTenantCounters(o.Metrics)
	a.register()
	a.admin = a.adminRoutes()
	return a
}

func (a *API) register() {
	c := a.o.Config
	text := func(body string) serveFunc {
		return func(w http.ResponseWriter, _ *request) error {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, err := w.Write([]byte(body))
			return clientGone(err)
		}
	}
	a.routes = map[string]route{
		"/api/v1/query":            {serve: a.query, timeout: c.MaxQueryDuration.D()},
		"/api/v1/query_range":      {serve: a.queryRange, timeout: c.MaxQueryDuration.D()},
		"/api/v1/series":           {serve: a.series, timeout: c.MaxLabelsAPIDuration.D()},
		"/api/v1/labels":           {serve: a.labels, timeout: c.MaxLabelsAPIDuration.D()},
		"/api/v1/export":           {serve: a.export, timeout: c.MaxExportDuration.D(), plainText: true},
		"/api/v1/export/csv":       {serve: a.exportCSV, timeout: c.MaxExportDuration.D(), plainText: true},
		"/api/v1/export/native":    {serve: a.exportNative, timeout: c.MaxExportDuration.D(), plainText: true},
		"/federate":                {serve: a.federate, timeout: c.MaxQueryDuration.D(), plainText: true},
		"/api/v1/status/buildinfo": {serve: fixedJSON(`{"status":"success","data":{"version":"2.24.0"}}`), unlimited: true},
		exemplarsPath:              {serve: a.exemplars, timeout: c.MaxQueryDuration.D()},
		"/api/v1/metadata":         {serve: a.metadata, timeout: c.MaxLabelsAPIDuration.D()},
		"/expand-with-exprs":       {serve: a.expandWith, unlimited: true},
		"/prettify-query":          {serve: a.prettifyQuery, unlimited: true},
		"/metric-relabel-debug":    {serve: relabelDebug(relabeldebug.Metrics), unlimited: true},
		"/target-relabel-debug":    {serve: relabelDebug(relabeldebug.Targets), unlimited: true},
		"/-/healthy":               {serve: text("VictoriaMetrics is Healthy.\n"), unlimited: true},
		"/-/ready":                 {serve: text("VictoriaMetrics is Ready.\n"), unlimited: true},
	}
	if a.o.SingleNode {
		a.routes["/api/v1/status/config"] = route{serve: fixedJSON(`{"status":"success","data":{"yaml":""}}`), unlimited: true}
	}
	maps.Copy(a.routes, a.ruleRoutes())
	maps.Copy(a.routes, a.statusRoutes())
	a.registerExtensions()
	for path, r := range a.routes {
		r.Endpoint = a.endpoint(path)
		a.routes[path] = r
	}
	a.values = a.endpoint("/api/v1/label/{}/values")
	a.vmalert = a.endpoint("/vmalert/")
	if !a.o.SingleNode {
		a.routes["/admin/tenants"] = route{Endpoint: a.endpoint("/admin/tenants"), serve: a.tenants, timeout: c.MaxLabelsAPIDuration.D(), plainText: true}
	}
}

func (a *API) endpoint(path string) *Endpoint {
	label := path
	if !a.o.SingleNode && path != "/admin/tenants" {
		label = "/select/{}/prometheus" + path
	}
	return a.namedEndpoint(label)
}

// namedEndpoint returns the counters of a path as it is called in metrics.
func (a *API) namedEndpoint(label string) *Endpoint {
	return NewEndpoint(a.o.Metrics, a.o.Now, label)
}

// Handle serves a read request, or returns false when the path is none of its
// routes.
func (a *API) Handle(w http.ResponseWriter, r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	if a.handleAdmin(w, r, path) {
		return true
	}
	if a.o.SingleNode {
		if a.handlePromQL(w, r, scope{}, path) {
			return true
		}
		return a.dispatch(w, r, scope{}, strings.TrimPrefix(path, "/prometheus"))
	}
	if path == "/admin/tenants" {
		a.serve(w, &request{Request: r, scope: scope{all: true}, started: a.o.Now()}, a.routes[path])
		return true
	}
	if strings.HasPrefix(path, "/insert/") {
		a.refuse(w, r, errkind.New(errkind.NotFound, "cannot write at %q: this is vmselect; send writes to the same path of vminsert (port 8480 by default)", r.URL.Path))
		return true
	}
	rest, ok := strings.CutPrefix(path, "/select/")
	if !ok {
		return false
	}
	tenantText, suffix := a.cutTenant(r, rest)
	tenant, err := parseScope(tenantText)
	if err != nil {
		a.refuse(w, r, errkind.New(errkind.BadRequest, "cannot serve %q: %w; reads go to /select/<accountID>[:<projectID>]/prometheus/api/v1/...", r.URL.Path, err))
		return true
	}
	if a.handlePromQL(w, r, tenant, "/"+suffix) {
		return true
	}
	route, ok := strings.CutPrefix("/"+suffix, "/prometheus")
	if ok && a.dispatch(w, r, tenant, route) {
		return true
	}
	if isWritePath(suffix) {
		a.refuse(w, r, errkind.New(errkind.BadRequest, "cannot write at %q: this is the read URL of vmselect; send writes to vminsert at /insert/%s/%s", r.URL.Path, tenantText, suffix))
		return true
	}
	a.refuse(w, r, errkind.New(errkind.NotFound, "unsupported path requested: %q; reads go to /select/<accountID>[:<projectID>]/prometheus/api/v1/...", r.URL.Path))
	return true
}

// isWritePath reports whether people who mixed up the two halves of the cluster would write here.
func isWritePath(suffix string) bool {
	return strings.Contains(suffix, "api/v1/write") || strings.Contains(suffix, "api/v1/push") || strings.Contains(suffix, "api/v1/import")
}

// refuse answers a request whose path leads nowhere.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	a.unsupported.Inc()
	httpserver.Error(w, r, a.o.Logger, err)
}

func (a *API) dispatch(w http.ResponseWriter, r *http.Request, t scope, path string) bool {
	req := &request{Request: r, scope: t, started: a.o.Now()}
	if a.handleVMAlert(w, req, path) {
		return true
	}
	if route, ok := a.routes[path]; ok && path != "/admin/tenants" {
		a.serve(w, req, route)
		return true
	}
	name, ok := strings.CutPrefix(path, "/api/v1/label/")
	name, isValues := strings.CutSuffix(name, "/values")
	if !ok || !isValues || name == "" || strings.Contains(name, "/") {
		return false
	}
	a.serve(w, req, route{
		Endpoint: a.values,
		timeout:  a.o.Config.MaxLabelsAPIDuration.D(),
		serve: func(w http.ResponseWriter, r *request) error {
			return a.labelValues(w, r, unescapeLabelName(name))
		},
	})
	return true
}

// serve counts, queues and answers one request.
func (a *API) serve(w http.ResponseWriter, r *request, route route) {
	if !a.o.DisableCORS {
		httpserver.SetCORS(w.Header())
	}
	if !a.o.SingleNode {
		defer func() { a.tenantCounters.count(r.scope, a.o.Now().Sub(r.started)) }()
	}
	if err := route.Answer(func() error { return a.run(w, r, route) }); err != nil {
		a.fail(w, r, route, err)
	}
}

func (a *API) run(w http.ResponseWriter, r *request, route route) error {
	if err := r.ParseForm(); err != nil {
		return errkind.New(errkind.BadRequest, "cannot parse the request's arguments: %w", err)
	}
	if route.unlimited {
		return route.serve(w, r)
	}
	r.trace = a.startTrace(r)
	timeout, err := timeoutArg(r.Request, route.timeout)
	if err != nil {
		return err
	}
	if !r.all {
		release, err := a.o.Limits.AdmitQuery(r.tenant)
		if err != nil {
			return err
		}
		defer release()
	}
	if err := a.acquire(r.Context()); err != nil {
		return err
	}
	defer func() { <-a.slots }()
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	r.Request = r.WithContext(ctx)
	err = route.serve(w, r)
	if errkind.Of(err) == errkind.Timeout || errors.Is(err, context.DeadlineExceeded) {
		return errkind.New(errkind.Timeout, "cannot answer within %s: %w; narrow the selectors or the time range, or raise -search.maxQueryDuration", timeout, err)
	}
	return err
}

// Acquire waits for a place among the concurrent requests, for other read APIs of the process; release gives it back.
func (a *API) Acquire(ctx context.Context) (release func(), err error) {
	if err := a.acquire(ctx); err != nil {
		return nil, err
	}
	return func() { <-a.slots }, nil
}

// acquire waits for a place among the concurrent requests.
func (a *API) acquire(ctx context.Context) error {
	select {
	case a.slots <- struct{}{}:
		return nil
	default:
	}
	a.limitReached.Inc()
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	wait := a.o.Config.MaxQueueDuration.D()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errkind.New(errkind.Canceled, "cannot wait for a free place among the running queries: %w", ctx.Err())
	case <-timer.C:
		a.limitTimeout.Inc()
		return errkind.New(errkind.Overloaded, "cannot start the query within -search.maxQueueDuration=%s, since -search.maxConcurrentRequests=%d queries are running; send fewer or lighter queries, or raise the limits",
			wait, cap(a.slots)).WithRetryAfter(10 * time.Second)
	}
}

// fail answers an error.
func (a *API) fail(w http.ResponseWriter, r *request, route route, err error) {
	if route.plainText {
		httpserver.Error(w, r.Request, a.o.Logger, err)
		return
	}
	if r.strict() {
		a.failStrict(w, r, err)
		return
	}
	status := errkind.Of(err).HTTPStatus()
	if errkind.Of(err) == errkind.Internal {
		status = http.StatusUnprocessableEntity // the field's default for failed queries
		a.o.Logger.Errorf("remoteAddr: %q; requestURI: %s; %s", r.RemoteAddr, httpserver.LoggedURI(r.Request), err)
	} else {
		a.o.Logger.Warnf("remoteAddr: %q; requestURI: %s; %s", r.RemoteAddr, httpserver.LoggedURI(r.Request), err)
	}
	httpserver.SetRetryAfter(w.Header(), err)
	code := strconv.Itoa(status)
	body := append([]byte(`{"status":"error","errorType":"`), code...)
	body = append(body, `","error":`...)
	body = appendJSONString(body, err.Error())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '}')) // a client that went away cannot be told
}

// errClientGone marks a failed write to the client, who cannot be answered any more.
var errClientGone = errors.New("the client went away")

func clientGone(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errClientGone, err)
}

func writeJSON(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(body)
	return clientGone(err)
}

// unescapeLabelName undoes the U__ escaping of Prometheus 3, which lets names
// of any characters stand in a path: _xx_ is the code point in hex and __ an underscore.
func unescapeLabelName(name string) string {
	escaped, ok := strings.CutPrefix(name, "U__")
	if !ok {
		return name
	}
	var b strings.Builder
	for len(escaped) > 0 {
		if escaped[0] != '_' {
			b.WriteByte(escaped[0])
			escaped = escaped[1:]
			continue
		}
		if strings.HasPrefix(escaped, "__") {
			b.WriteByte('_')
			escaped = escaped[2:]
			continue
		}
		hex, rest, found := strings.Cut(escaped[1:], "_")
		code, err := strconv.ParseUint(hex, 16, 32)
		if !found || err != nil || code > 0x10ffff {
			return name
		}
		b.WriteRune(rune(code))
		escaped = rest
	}
	return b.String()
}
