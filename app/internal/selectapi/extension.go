package selectapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
)

// Handler answers a read request in a way which this package does not know, such as a dialect whose engine only some
// binaries link. It writes the answer, or returns an error and has written nothing.
type Handler func(w http.ResponseWriter, c *Call) error

// Call is a request with all that it shares with the routes of this package: it has a place among the running
// ones, a tenant, parsed arguments, and a context which ends with its deadline. It belongs to the handler until that returns.
type Call struct {
	*http.Request

	api     *API
	request *request
	now     time.Time
	missing querysource.Failures
	partial bool
}

// promqlPrefix is where the handlers of Options.PromQL are, beside /prometheus.
const promqlPrefix = "/promql"

// registerExtensions adds the routes of handlers which were passed as options.
func (a *API) registerExtensions() {
	c := a.o.Config
	if a.o.RemoteRead != nil {
		a.routes["/api/v1/read"] = route{serve: a.extension(a.o.RemoteRead), timeout: c.MaxQueryDuration.D(), plainText: true}
	}
	a.promql = map[string]route{}
	for path, h := range a.o.PromQL {
		label := promqlPrefix + path
		if !a.o.SingleNode {
			label = "/select/{}" + label
		}
		a.promql[path] = route{Endpoint: a.namedEndpoint(label), serve: a.extension(h), timeout: c.MaxQueryDuration.D()}
	}
}

// extension makes a route of a handler.
func (a *API) extension(h Handler) serveFunc {
	return func(w http.ResponseWriter, r *request) error {
		return h(w, &Call{Request: r.Request, api: a, request: r, now: a.o.Now()})
	}
}

// handlePromQL serves what is under /promql: the routes of the dialect, and all others as under /prometheus.
func (a *API) handlePromQL(w http.ResponseWriter, r *http.Request, t scope, path string) bool {
	path, ok := strings.CutPrefix(path, promqlPrefix)
	if !ok || len(a.promql) == 0 || !strings.HasPrefix(path, "/") {
		return false
	}
	r = r.WithContext(context.WithValue(r.Context(), strictKey{}, true))
	if route, ok := a.promql[path]; ok {
		a.serve(w, &request{Request: r, scope: t, started: a.o.Now()}, route)
		return true
	}
	if a.dispatch(w, r, t, path) {
		return true
	}
	a.unsupported.Inc()
	a.fail(w, &request{Request: r}, route{}, errkind.New(errkind.NotFound, "unsupported path requested: %q; the PromQL dialect answers %s, and what is under /prometheus",
		r.URL.Path, strings.Join(slices.Sorted(maps.Keys(a.promql)), ", ")))
	return true
}

// strictKey marks the context of requests whose errors have the shape and status of Prometheus.
type strictKey struct{}

// strict reports whether the request wants PromQL as Prometheus has it.
func (r *request) strict() bool {
	return r.Context().Value(strictKey{}) != nil || r.Form.Get("dialect") == "promql"
}

// otherDialect serves a query whose dialect argument asks for another language than MetricsQL; false when it does not.
func (a *API) otherDialect(w http.ResponseWriter, r *request, path string) (done bool, err error) {
	switch d := r.Form.Get("dialect"); d {
	case "", "metricsql":
		return false, nil
	case "promql":
		if route, ok := a.promql[path]; ok {
			return true, route.serve(w, r)
		}
		return true, errkind.New(errkind.Unsupported, "cannot evaluate PromQL at this node: it has no engine for it")
	default:
		return true, errkind.New(errkind.BadRequest, "cannot evaluate dialect=%q: known are metricsql, the default, and promql", d)
	}
}

// failStrict answers an error as Prometheus does.
func (a *API) failStrict(w http.ResponseWriter, r *request, err error) {
	status, name := promError(err)
	a.o.Logger.Warnf("remoteAddr: %q; requestURI: %s; %s", r.RemoteAddr, httpserver.LoggedURI(r.Request), err)
	httpserver.SetRetryAfter(w.Header(), err)
	body := append([]byte(`{"status":"error","errorType":"`), name...)
	body = append(body, `","error":`...)
	body = appendJSONString(body, err.Error())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '}')) // a client that went away cannot be told
}

// promError returns the status and the errorType by which clients of Prometheus know an error.
func promError(err error) (status int, name string) {
	const clientClosed = 499 // what proxies log for a client which went away
	switch errkind.Of(err) {
	case errkind.BadRequest, errkind.TooLarge:
		return http.StatusBadRequest, "bad_data"
	case errkind.NotFound:
		return http.StatusNotFound, "not_found"
	case errkind.Timeout, errkind.Overloaded:
		return http.StatusServiceUnavailable, "timeout"
	case errkind.Canceled:
		return clientClosed, "canceled"
	case errkind.Unavailable, errkind.Draining:
		return http.StatusServiceUnavailable, "unavailable"
	case errkind.Corrupt, errkind.Internal:
		return http.StatusInternalServerError, "internal"
	}
	return http.StatusUnprocessableEntity, "execution"
}

// Now returns when the call began, for arguments which are relative to it.
func (c *Call) Now() time.Time { return c.now }

// Time returns a time argument in Unix milliseconds, or def when it is missing.
func (c *Call) Time(name string, def int64) (int64, error) {
	return timeArg(c.Request, name, def, c.now)
}

// Duration returns a duration argument in milliseconds, or nil when it is missing.
func (c *Call) Duration(name string) (*int64, error) { return durationArg(c.Request, name) }

// Int returns an integer argument, or def when it is missing.
func (c *Call) Int(name string, def int) (int, error) { return intArg(c.Request, name, def) }

// Filters returns the sets of filters for a selector, with what extra_label and extra_filters[] demand: a series passes if it passes one of them.
func (c *Call) Filters(selector []model.TagFilter) ([][]model.TagFilter, error) {
	enforced, err := enforcedFilters(c.Request)
	if err != nil {
		return nil, err
	}
	return combine([][]model.TagFilter{selector}, enforced), nil
}

// Search searches as the tenant of the call, and takes note of what is missing from the answer once it is closed.
func (c *Call) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	q.Tenant, q.AllTenants = c.request.tenant, c.request.all
	q.Range.Min = max(q.Range.Min, minTimeMs) // nothing is stored before
	search := traceSearch(trace.From(ctx), q)
	it, err := c.api.o.Searcher.Search(search.within(ctx), q)
	if err != nil {
		search.fail(err)
		return nil, err
	}
	return &noted{SeriesIterator: it, call: c, search: search}, nil
}

// noted tells its call how whole the answer is.
type noted struct {
	storageapi.SeriesIterator
	call   *Call
	search *searchTrace // nil: nobody traces
}

// At returns the current series, valid until the next call of Next.
func (n *noted) At() *storageapi.Series {
	s := n.SeriesIterator.At()
	n.search.count(s.Blocks)
	return s
}

// Close ends the search.
func (n *noted) Close() error {
	coverage := n.Coverage()
	if coverage.Partial {
		n.call.partial = true
		n.call.missing.Add(coverage.Failed)
	}
	err := n.SeriesIterator.Close()
	n.search.end(failedText(coverage.Failed))
	return err
}

// Running lists a query among those which run, until the result is called, with what the query has read, if that is known, and why it
// failed; then it counts among the last ones, and is logged if it was slow. Times are in milliseconds.
func (c *Call) Running(text string, start, end, step int64) (done func(read *query.Result, err error)) {
	q := &query.Request{Tenant: c.request.tenant, AllTenants: c.request.all, Query: text, Start: start, End: end, Step: step}
	ended := c.api.queries.begin(c.request, q)
	return func(read *query.Result, err error) {
		memory := int64(0)
		if read != nil {
			memory = read.MemoryBytes
		}
		ended(memory)
		elapsed := c.api.o.Now().Sub(c.request.started)
		c.api.logSlow(c.request, q, elapsed)
		c.api.logStats(c.request, q, &queryStats{elapsed, read, err})
	}
}

// RefusePartial returns an error when data may be missing and the answer must be whole: because the
// caller says so, the request or the configuration.
func (c *Call) RefusePartial(whole bool) error {
	if c.partial && (whole || c.api.denyPartial(c.request)) {
		return partialError(c.missing.Coverage())
	}
	return nil
}

// Partial reports whether data may be missing from the searches which have been closed.
func (c *Call) Partial() bool { return c.partial }

// PartialField returns the member of JSON answers which says whether they are partial; the single node has none.
func (c *Call) PartialField() string { return c.api.partialField(c.partial) }

// Trace returns the step of the call, whose context passes it on; nil when nobody asks for a trace.
func (c *Call) Trace() *trace.Span { return c.request.trace }

// AppendTrace appends the trace as the last member of a JSON answer, if one was asked for.
func (c *Call) AppendTrace(dst []byte) []byte { return c.request.appendTrace(dst) }

// Sent turns the error of a write to the client into one which nobody needs to be told.
func Sent(err error) error { return clientGone(err) }

// AppendJSONString appends s as a JSON string; what is not UTF-8 becomes U+FFFD.
func AppendJSONString(dst []byte, s string) []byte { return appendJSONString(dst, s) }

// IsSent reports whether an error comes from Sent.
func IsSent(err error) bool { return errors.Is(err, errClientGone) }
