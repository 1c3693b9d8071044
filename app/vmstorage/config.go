package main

import (
	"flag"
	"net/http"
	"time"

	"vmcluster/app/internal/adminapi"
	"vmcluster/app/internal/flagcompat"
	"vmcluster/app/internal/rpclisten"
	"vmcluster/app/internal/storageflags"
	"vmcluster/lib/certfiles"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/metadata"
	"vmcluster/lib/querysource"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/service"
	"vmcluster/lib/storage"
	"vmcluster/lib/transport"
)

// component wires a storage node.
type component struct {
	http       httpserver.Config
	storage    storage.Config
	insert     insertrpc.ServerConfig
	sel        selectrpc.ServerConfig
	admin      adminapi.Config
	handshake  transport.HandshakeConfig
	tls        certfiles.Config
	metadata   metadata.Config
	insertAddr string
	selectAddr string
	dryRun     bool
}

// RegisterFlags registers all flags of vmstorage.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.http.RegisterFlags(fs, ":8482")
	c.storage.RegisterFlags(fs, "vmstorage-data")
	storageflags.Register(fs, &c.storage)
	c.admin.RegisterFlags(fs)
	c.metadata.RegisterFlags(fs)
	service.RegisterShared(fs, c.insert.RegisterFlags)
	service.RegisterShared(fs, c.sel.RegisterFlags)
	c.handshake.RegisterFlags(fs)
	c.tls.RegisterServerFlags(fs, "cluster", "vminsert and vmselect")
	fs.StringVar(&c.insertAddr, "vminsertAddr", ":8400", "Address to listen at for connections from vminsert")
	fs.StringVar(&c.selectAddr, "vmselectAddr", ":8401", "Address to listen at for connections from vmselect")
	service.RegisterDryRun(fs, &c.dryRun)
	flagcompat.Register(fs, flagcompat.Storage)
}

// Start opens the storage, then the ports.
func (c *component) Start(env *service.Env) error {
	c.insert.Transport.HandshakeTimeout, c.sel.Transport.HandshakeTimeout = c.handshake.Timeout, c.handshake.Timeout
	secure, err := c.tls.Server(certfiles.Options{Logger: env.Logger, Metrics: env.Metrics})
	if err != nil {
		return err
	}
	c.insert.Transport.TLS, c.sel.Transport.TLS = secure, secure
	c.insert.Transport.TLSOptional, c.sel.Transport.TLSOptional = c.tls.Optional, c.tls.Optional
	if c.dryRun {
		return c.check(env)
	}
	env.Logger.Infof("opening storage at %q with -retentionPeriod=%s", c.storage.DataPath, c.storage.RetentionPeriod.String())
	db, err := storage.Open(c.storage, storage.Options{Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget, OnFailure: env.Abort})
	if err != nil {
		return err
	}
	env.OnStop("storage", db.Close)
	reduce := querysource.NewReducer(querysource.ReducerOptions{Searcher: db, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget})
	described := metadata.New(metadata.Options{Config: c.metadata, Budget: env.Budget, Metrics: env.Metrics})
	selects := selectrpc.NewServer(selectrpc.ServerOptions{
		Searcher: db, Admin: db, Catalog: db, Reducer: reduce, Metadata: described, Exemplars: db, Versioner: db, Addr: c.selectAddr, Config: c.sel, Logger: env.Logger, Metrics: env.Metrics,
	})
	if err := rpclisten.Listen(env, rpclisten.Port{Peer: "vmselect", Flag: "vmselectAddr", Addr: c.selectAddr, Server: selects, StopTimeout: searchStopTimeout}); err != nil {
		return err
	}
	inserts := insertrpc.NewServer(insertrpc.ServerOptions{
		Ingester: db, Metadata: described, Exemplars: db, Starts: db, Addr: c.insertAddr, Config: c.insert, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget,
	})
	spread := c.insert.Transport.ShutdownSpread.D()
	if err := rpclisten.Listen(env, rpclisten.Port{Peer: "vminsert", Flag: "vminsertAddr", Addr: c.insertAddr, Server: inserts, StopTimeout: spread + insertStopTimeout}); err != nil {
		return err
	}
	admin := adminapi.New(adminapi.Options{Config: &c.admin, Admin: db, Maintenance: db, Logger: env.Logger, Metrics: env.Metrics})
	env.OnStop("housekeeping", admin.Close)
	return c.startHTTP(env, admin)
}

// check looks at the configuration only.
func (c *component) check(env *service.Env) error {
	if err := c.storage.Check(); err != nil {
		return err
	}
	if err := httpserver.Check(httpserver.Options{Config: &c.http, Logger: env.Logger, Metrics: env.Metrics}); err != nil {
		return err
	}
	return env.Checked()
}

// How long requests under way may take when the node stops, together well below
// the 30 seconds which orchestrators give a process. Searches that run longer are
// cut off: their askers get partial answers and may ask again.
const (
	insertStopTimeout = 5 * time.Second
	searchStopTimeout = 5 * time.Second
)

func (c *component) startHTTP(env *service.Env, admin *adminapi.API) error {
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{
		Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags, HasKey: admin.HasKey,
		Handler: func(w http.ResponseWriter, r *http.Request) bool {
			return httpserver.ServeIndex(w, r, env.Name, "stores the data of the cluster", "/metrics", "/flags", "/debug/pprof/") || admin.Handle(w, r)
		},
	})
	if err != nil {
		return err
	}
	env.OnStop("http server", server.Stop)
	return nil
}
