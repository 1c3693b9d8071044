package adminapi

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"time"

	"vmcluster/lib/httpserver"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/storageapi"
)

// Config holds the keys which protect the routes.
type Config struct {
	ForceFlushAuthKey string
	ForceMergeAuthKey string
}

// RegisterFlags registers the flags.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.ForceFlushAuthKey, "forceFlushAuthKey", "", "Value which the authKey argument of /internal/force_flush must have")
	fs.StringVar(&c.ForceMergeAuthKey, "forceMergeAuthKey", "", "Value which the authKey argument of /internal/force_merge must have")
}

// Options are the arguments of New.
type Options struct {
	Config  *Config
	Admin   storageapi.Admin
	Logger  *logger.Logger
	Metrics *metrics.Set
}

// API answers housekeeping requests. Close waits for merges it has started.
type API struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	flushes, flushErrors, merges *metrics.Counter
}

// New returns an API.
func New(o Options) *API {
	a := &API{
		o:           o,
		flushes:     o.Metrics.Counter(`vm_http_requests_total{path="/internal/force_flush"}`),
		flushErrors: o.Metrics.Counter(`vm_http_request_errors_total{path="/internal/force_flush"}`),
		merges:      o.Metrics.Counter(`vm_http_requests_total{path="/internal/force_merge"}`),
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

// Handle answers the request and returns true, or returns false when the path
// is none of its routes.
func (a *API) Handle(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/internal/force_flush":
		a.flushes.Inc()
		if httpserver.CheckAuthKey(w, r, "forceFlushAuthKey", a.o.Config.ForceFlushAuthKey) {
			a.flush(w, r)
		}
		return true
	case "/internal/force_merge":
		a.merges.Inc()
		if httpserver.CheckAuthKey(w, r, "forceMergeAuthKey", a.o.Config.ForceMergeAuthKey) {
			a.merge(r.FormValue("partition_prefix"))
		}
		return true
	}
	return false
}

func (a *API) flush(w http.ResponseWriter, r *http.Request) {
	a.o.Logger.Infof("flushing storage to make pending data available for reading")
	if err := a.o.Admin.Flush(r.Context()); err != nil {
		a.flushErrors.Inc()
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
