package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"vmcluster/app/internal/adminapi"
	"vmcluster/app/internal/flagcompat"
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
	flagcompat.Register(fs, flagcompat.Storage)
}

// rpcServer is what insert and select server have in common.
type rpcServer interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
}

// Start opens the storage, then the ports.
func (c *component) Start(env *service.Env) error {
	c.insert.Transport.HandshakeTimeout, c.sel.Transport.HandshakeTimeout = c.handshake.Timeout, c.handshake.Timeout
	secure, err := c.tls.Server(certfiles.Options{Logger: env.Logger, Metrics: env.Metrics})
	if err != nil {
		return err
	}
	c.insert.Transport.TLS, c.sel.Transport.TLS = secure, secure
	env.Logger.Infof("opening storage at %q with -retentionPeriod=%s", c.storage.DataPath, c.storage.RetentionPeriod.String())
	db, err := storage.Open(c.storage, storage.Options{Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget, OnFailure: env.Abort})
	if err != nil {
		return err
	}
	env.OnStop("storage", db.Close)
	reduce := querysource.NewReducer(querysource.ReducerOptions{Searcher: db, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget})
	described := metadata.New(metadata.Options{Config: c.metadata, Budget: env.Budget, Metrics: env.Metrics})
	selects := selectrpc.NewServer(selectrpc.ServerOptions{
		Searcher: db, Admin: db, Catalog: db, Reducer: reduce, Metadata: described, Versioner: db, Config: c.sel, Logger: env.Logger, Metrics: env.Metrics,
	})
	if err := listen(env, peer{"vmselect", c.selectAddr, selects, searchStopTimeout}); err != nil {
		return err
	}
	inserts := insertrpc.NewServer(insertrpc.ServerOptions{
		Ingester: db, Metadata: described, Addr: c.insertAddr, Config: c.insert, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget,
	})
	spread := c.insert.Transport.ShutdownSpread.D()
	if err := listen(env, peer{"vminsert", c.insertAddr, inserts, spread + insertStopTimeout}); err != nil {
		return err
	}
	admin := adminapi.New(adminapi.Options{Config: &c.admin, Admin: db, Maintenance: db, Logger: env.Logger, Metrics: env.Metrics})
	env.OnStop("housekeeping", admin.Close)
	return c.startHTTP(env, admin)
}

// How long requests under way may take when the node stops, together well below
// the 30 seconds which orchestrators give a process. Searches that run longer are
// cut off: their askers get partial answers and may ask again.
const (
	insertStopTimeout = 5 * time.Second
	searchStopTimeout = 5 * time.Second
)

// peer is a kind of node that connects to this one.
type peer struct {
	name, addr  string
	server      rpcServer
	stopTimeout time.Duration
}

// listen opens a port for peers and serves it in the background.
func listen(env *service.Env, p peer) error {
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		if strings.Contains(err.Error(), "address already in use") {
			err = fmt.Errorf("the port is taken by another process; stop that process or choose another address: %w", err)
		}
		return fmt.Errorf("cannot listen at -%sAddr=%q: %w", p.name, p.addr, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.server.Serve(ln); err != nil {
			env.Logger.Errorf("cannot serve %s at %s: %s", p.name, ln.Addr(), err)
		}
	}()
	env.Logger.Infof("accepting %s conns at %s", p.name, ln.Addr())
	env.OnStop(p.name+" server", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), p.stopTimeout)
		defer cancel()
		if err := p.server.Shutdown(ctx); err != nil {
			env.Logger.Warnf("cut off requests of %s that did not end within %s: %s", p.name, p.stopTimeout, err)
		}
		<-done
		return nil
	})
	return nil
}

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
