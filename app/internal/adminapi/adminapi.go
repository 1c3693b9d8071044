package adminapi

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storageapi"
)

// Config holds the keys which protect the routes.
type Config struct {
	ForceFlushAuthKey   flagvalue.Secret
	ForceMergeAuthKey   flagvalue.Secret
	SnapshotAuthKey     flagvalue.Secret
	LogNewSeriesAuthKey flagvalue.Secret
}

// RegisterFlags registers the flags.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.Var(&c.ForceFlushAuthKey, "forceFlushAuthKey", "Value which the authKey argument of /internal/force_flush must have; it stands for the password of -httpAuth.*")
	fs.Var(&c.ForceMergeAuthKey, "forceMergeAuthKey", "Value which the authKey argument of /internal/force_merge must have; it stands for the password of -httpAuth.*")
	fs.Var(&c.SnapshotAuthKey, "snapshotAuthKey", "Value which the authKey argument of /snapshot/* must have; it stands for the password of -httpAuth.*")
	fs.Var(&c.LogNewSeriesAuthKey, "logNewSeriesAuthKey", "Value which the authKey argument of /internal/log_new_series must have; it stands for the password of -httpAuth.*")
}

// Options are the arguments of New.
type Options struct {
	Config      *Config
	Admin       storageapi.Admin
	Maintenance storageapi.Maintenance
	Logger      *logger.Logger
	Metrics     *metrics.Set
}

// API answers housekeeping requests. Close waits for merges it has started.
type API struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	routes   map[string]route
	requests map[string]*metrics.Counter
	errors   map[string]*metrics.Counter
}

// route is how a path is served, and the key which it takes.
type route struct {
	serve   func(w http.ResponseWriter, r *http.Request)
	keyFlag string
	authKey flagvalue.Secret
}

// New returns an API.
func New(o Options) *API {
	a := &API{o: o, requests: map[string]*metrics.Counter{}, errors: map[string]*metrics.Counter{}}
	c := o.Config
	a.routes = map[string]route{
		"/internal/force_flush": {a.flush, "forceFlushAuthKey", c.ForceFlushAuthKey},
		"/internal/force_merge": {func(_ http.ResponseWriter, r *http.Request) { a.merge(r.FormValue("partition_prefix")) }, "forceMergeAuthKey", c.ForceMergeAuthKey},
		"/internal/log_new_series": {func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, a.logNewSeries) },
			"logNewSeriesAuthKey", c.LogNewSeriesAuthKey},
	}
	for path, serve := range a.snapshotPaths() {
		a.routes[path] = route{func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, serve) }, "snapshotAuthKey", c.SnapshotAuthKey}
	}
	for path := range a.routes {
		a.requests[path] = o.Metrics.Counter(fmt.Sprintf("vm_http_requests_total{path=%q}", path))
		a.errors[path] = o.Metrics.Counter(fmt.Sprintf("vm_http_request_errors_total{path=%q}", path))
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// Close cancels running merges and waits for their end.
func (a *API) Close() error {
	a.cancel()
	a.wg.Wait()
	return nil
}

// HasKey reports whether a path is protected by a key which is set.
func (a *API) HasKey(path string) bool { return a.routes[path].authKey.Get() != "" }

// Handle answers the request and returns true, or returns false when the path
// is none of its routes.
func (a *API) Handle(w http.ResponseWriter, r *http.Request) bool {
	path := r.URL.Path
	route, ok := a.routes[path]
	if !ok {
		return false
	}
	a.requests[path].Inc()
	if httpserver.CheckAuthKey(w, r, route.keyFlag, route.authKey) {
		route.serve(w, r)
	}
	return true
}

func (a *API) flush(w http.ResponseWriter, r *http.Request) {
	a.o.Logger.Infof("flushing storage to make pending data available for reading")
	if err := a.o.Admin.Flush(r.Context()); err != nil {
		a.errors[r.URL.Path].Inc()
		httpserver.Error(w, r, a.o.Logger, fmt.Errorf("cannot flush: %w", err))
	}
}

// merge runs in the background; the request is answered at once.
func (a *API) merge(prefix string) {
	a.wg.Go(func() {
		start := time.Now()
		a.o.Logger.Infof("forced merge for partition_prefix=%q has been started", prefix)
		if err := a.o.Admin.Merge(a.ctx, prefix); err != nil {
			a.o.Logger.Errorf("cannot finish forced merge for partition_prefix=%q: %s", prefix, err)
			return
		}
		a.o.Logger.Infof("forced merge for partition_prefix=%q has been successfully finished in %.3f seconds", prefix, time.Since(start).Seconds())
	})
}
