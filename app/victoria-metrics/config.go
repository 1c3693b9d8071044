package main

import (
	"flag"
	"net/http"
	"slices"
	"time"

	"vmcluster/app/internal/adminapi"
	"vmcluster/app/internal/flagcompat"
	"vmcluster/app/internal/graphiteapi"
	"vmcluster/app/internal/insertapi"
	"vmcluster/app/internal/promqlapi"
	"vmcluster/app/internal/remoteread"
	"vmcluster/app/internal/selectapi"
	"vmcluster/app/internal/storageflags"
	"vmcluster/lib/gather"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/metadata"
	"vmcluster/lib/query"
	"vmcluster/lib/router"
	"vmcluster/lib/service"
	"vmcluster/lib/storage"
)

// component wires the single node.
type component struct {
	http     httpserver.Config
	storage  storage.Config
	insert   insertapi.Config
	sel      selectapi.Config
	query    query.Config
	read     remoteread.Config
	promql   promqlapi.Config
	graphite graphiteapi.Config
	admin    adminapi.Config
	metadata metadata.Config
}

// RegisterFlags registers all flags of the single node.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.http.RegisterFlags(fs, ":8428")
	c.storage.RegisterFlags(fs, "victoria-metrics-data")
	storageflags.Register(fs, &c.storage)
	c.insert.RegisterFlags(fs)
	service.RegisterShared(fs, c.sel.RegisterFlags)
	service.RegisterShared(fs, c.query.RegisterFlags)
	c.graphite.RegisterFlags(fs)
	c.read.RegisterFlags(fs)
	c.promql.RegisterFlags(fs)
	c.admin.RegisterFlags(fs)
	c.metadata.RegisterFlags(fs)
	flagcompat.Register(fs, flagcompat.SingleNode)
}

// Start opens the storage, then the port.
func (c *component) Start(env *service.Env) error {
	env.Logger.Infof("opening storage at %q with -retentionPeriod=%s", c.storage.DataPath, c.storage.RetentionPeriod.String())
	db, err := storage.Open(c.storage, storage.Options{Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget, OnFailure: env.Abort})
	if err != nil {
		return err
	}
	env.OnStop("storage", db.Close)
	const local = "local"
	described := metadata.New(metadata.Options{Config: c.metadata, Budget: env.Budget, Metrics: env.Metrics})
	ingester, err := router.New(router.Options{Nodes: []router.Node{{Name: local, Ingester: db}}, Logger: env.Logger, Metrics: env.Metrics})
	if err != nil {
		return err
	}
	searcher, err := gather.New(gather.Options{Nodes: []gather.Node{{Name: local, Searcher: db, Catalog: db}}, Logger: env.Logger, Metrics: env.Metrics})
	if err != nil {
		return err
	}
	dedupMs := c.storage.DedupMinScrape.D().Milliseconds()
	source := selectapi.NewSource(searcher, nil, dedupMs, env.Metrics)
	engine := query.New(&c.query, query.Options{
		Source: source, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget, Now: time.Now,
	})
	dialect := promqlapi.New(promqlapi.Options{
		Config: &c.promql, Limits: &c.query, Reading: source.Reading(), Budget: env.Budget, Logger: env.Logger, MaxDuration: c.sel.MaxQueryDuration.D(),
	})
	env.OnStop("PromQL engine", dialect.Close)
	remoteRead := remoteread.New(remoteread.Options{
		Config: &c.read, Budget: env.Budget, Logger: env.Logger, Reading: source.Reading(), MaxSeries: c.query.MaxUniqueSeries, MaxBytes: int64(c.query.MaxMemoryPerQuery),
	})
	writes := insertapi.New(insertapi.Options{Ingester: ingester, Metadata: described, Logger: env.Logger, Metrics: env.Metrics, Config: &c.insert, PathStyle: insertapi.SingleNode, Budget: env.Budget})
	reads := selectapi.New(selectapi.Options{
		Config: &c.sel, Searcher: searcher, Catalog: searcher, Metadata: described, Engine: engine, Logger: env.Logger, Metrics: env.Metrics, Now: time.Now, SingleNode: true, DedupIntervalMs: dedupMs, DisableCORS: c.http.DisableCORS,
		PromQL: dialect.Routes(), RemoteRead: remoteRead.Serve,
	})
	graphite := graphiteapi.New(graphiteapi.Options{
		Config: &c.graphite, Select: &c.sel, Searcher: searcher, Catalog: searcher, Acquire: reads.Acquire, Logger: env.Logger, Metrics: env.Metrics,
		Budget: env.Budget, Now: time.Now, MaxQueryLen: int(c.query.MaxQueryLen), SingleNode: true, DedupIntervalMs: dedupMs,
	})
	admin := adminapi.New(adminapi.Options{Config: &c.admin, Admin: db, Maintenance: db, Logger: env.Logger, Metrics: env.Metrics})
	env.OnStop("housekeeping", admin.Close)
	return c.startHTTP(env, writes.Handle, graphite.Handle, reads.Handle, admin.Handle)
}

// startHTTP opens the port, behind which the first of the handlers that knows a path serves it.
func (c *component) startHTTP(env *service.Env, handlers ...func(w http.ResponseWriter, r *http.Request) bool) error {
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{
		Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags,
		Handler: func(w http.ResponseWriter, r *http.Request) bool {
			return httpserver.ServeIndex(w, r, env.Name, "takes writes at /api/v1/write and answers queries at /api/v1/query", "/metrics", "/flags", "/debug/pprof/") ||
				slices.ContainsFunc(handlers, func(handle func(w http.ResponseWriter, r *http.Request) bool) bool { return handle(w, r) })
		},
	})
	if err != nil {
		return err
	}
	env.OnStop("http server", server.Stop)
	return nil
}
