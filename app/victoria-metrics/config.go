package main

import (
	"flag"
	"net/http"
	"slices"
	"time"

	"vmcluster/app/internal/adminapi"
	"vmcluster/app/internal/flagcompat"
	"vmcluster/app/internal/insertapi"
	"vmcluster/app/internal/lineports"
	"vmcluster/app/internal/readside"
	"vmcluster/app/internal/relabeling"
	"vmcluster/app/internal/rpclisten"
	"vmcluster/app/internal/storageflags"
	"vmcluster/app/internal/streamaggregation"
	"vmcluster/lib/certfiles"
	"vmcluster/lib/gather"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/metadata"
	"vmcluster/lib/querysource"
	"vmcluster/lib/router"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/service"
	"vmcluster/lib/storage"
	"vmcluster/lib/transport"
)

// component wires the single node.
type component struct {
	http     httpserver.Config
	storage  storage.Config
	insert   insertapi.Config
	lines    lineports.Config
	relabel  relabeling.Config
	aggr     streamaggregation.Config
	reads    readside.Config
	admin    adminapi.Config
	metadata metadata.Config
	self     selfScrape

	handshake  transport.HandshakeConfig
	sel        selectrpc.ServerConfig
	selectAddr string
	tls        certfiles.Config
	dryRun     bool
}

// RegisterFlags registers all flags of the single node.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.http.RegisterFlags(fs, ":8428")
	c.storage.RegisterFlags(fs, "victoria-metrics-data")
	storageflags.Register(fs, &c.storage)
	c.insert.RegisterFlags(fs)
	c.lines.RegisterFlags(fs)
	c.relabel.RegisterFlags(fs)
	c.aggr.RegisterFlags(fs)
	c.reads.RegisterFlags(fs)
	c.admin.RegisterFlags(fs)
	c.metadata.RegisterFlags(fs)
	c.self.RegisterFlags(fs)
	service.RegisterShared(fs, c.sel.RegisterFlags)
	c.handshake.RegisterFlags(fs)
	c.tls.RegisterServerFlags(fs, "cluster", "vmselect")
	fs.StringVar(&c.selectAddr, "vmselectAddr", "", "Address to listen at for vmselects of a cluster, which have this node as a -storageNode with the data of tenant 0:0; for example :8401; empty: none")
	service.RegisterDryRun(fs, &c.dryRun)
	flagcompat.Register(fs, flagcompat.SingleNode)
}

// Start opens the storage, then the port.
func (c *component) Start(env *service.Env) error {
	if c.dryRun {
		return c.check(env)
	}
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
	searcher, err := gather.New(gather.Options{Nodes: []gather.Node{{Name: local, Searcher: db, Catalog: db, Versioner: db}}, Logger: env.Logger, Metrics: env.Metrics})
	if err != nil {
		return err
	}
	aggregation, err := streamaggregation.Start(env, &c.aggr, ingester)
	if err != nil {
		return err
	}
	writes := insertapi.New(insertapi.Options{Ingester: aggregation, Metadata: described, Exemplars: db, Starts: db, Logger: env.Logger, Metrics: env.Metrics, Config: &c.insert, PathStyle: insertapi.SingleNode, Budget: env.Budget})
	rules, err := relabeling.Start(env, &c.relabel, writes.Relabel)
	if err != nil {
		return err
	}
	rules.Also(aggregation.Reload)
	if err := c.lines.Start(env, writes); err != nil {
		return err
	}
	reads := c.reads.Start(env, readside.Options{
		Searcher: searcher, Catalog: searcher, Metadata: described, Exemplars: db, Versions: searcher, DedupIntervalMs: c.storage.DedupMinScrape.D().Milliseconds(), SingleNode: true, DisableCORS: c.http.DisableCORS,
	})
	if err := c.serveCluster(env, db, described); err != nil {
		return err
	}
	admin := adminapi.New(adminapi.Options{Config: &c.admin, Admin: db, Maintenance: db, Logger: env.Logger, Metrics: env.Metrics})
	env.OnStop("housekeeping", admin.Close)
	c.self.start(env, writes)
	return c.startHTTP(env, admin.HasKey, writes.Handle, reads, admin.Handle, rules.Handle)
}

// check looks at the configuration only.
func (c *component) check(env *service.Env) error {
	if err := c.storage.Check(); err != nil {
		return err
	}
	if err := httpserver.Check(httpserver.Options{Config: &c.http, Logger: env.Logger, Metrics: env.Metrics}); err != nil {
		return err
	}
	if c.selectAddr != "" {
		if _, err := c.tls.Server(certfiles.Options{Logger: env.Logger, Metrics: env.Metrics}); err != nil {
			return err
		}
	}
	if err := relabeling.Check(env, &c.relabel); err != nil {
		return err
	}
	if err := streamaggregation.Check(env, &c.aggr); err != nil {
		return err
	}
	return env.Checked()
}

// serveCluster opens the port at which vmselects take this node for a storage node.
func (c *component) serveCluster(env *service.Env, db *storage.Storage, described *metadata.Store) error {
	if c.selectAddr == "" {
		return nil
	}
	c.sel.Transport.HandshakeTimeout, c.sel.Transport.TLSOptional = c.handshake.Timeout, c.tls.Optional
	var err error
	if c.sel.Transport.TLS, err = c.tls.Server(certfiles.Options{Logger: env.Logger, Metrics: env.Metrics}); err != nil {
		return err
	}
	reduce := querysource.NewReducer(querysource.ReducerOptions{Searcher: db, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget})
	server := selectrpc.NewServer(selectrpc.ServerOptions{
		Searcher: db, Catalog: db, Reducer: reduce, Metadata: described, Exemplars: db, Versioner: db, Addr: c.selectAddr, Name: env.Name,
		Config: c.sel, Logger: env.Logger, Metrics: env.Metrics,
	})
	const stopTimeout = 5 * time.Second // as at vmstorage
	return rpclisten.Listen(env, rpclisten.Port{Peer: "vmselect", Flag: "vmselectAddr", Addr: c.selectAddr, Server: server, StopTimeout: stopTimeout})
}

// startHTTP opens the port, behind which the first of the handlers that knows a path serves it. HasKey is for the last of them.
func (c *component) startHTTP(env *service.Env, hasKey func(path string) bool, handlers ...func(w http.ResponseWriter, r *http.Request) bool) error {
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{
		Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags, HasKey: hasKey,
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
