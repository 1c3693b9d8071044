package main

import (
	"flag"
	"net/http"
	"strings"
	"time"

	"vmcluster/app/internal/flagcompat"
	"vmcluster/app/internal/insertapi"
	"vmcluster/app/internal/lineports"
	"vmcluster/app/internal/relabeling"
	"vmcluster/app/internal/rpclisten"
	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/certfiles"
	"vmcluster/lib/errkind"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/nodelist"
	"vmcluster/lib/router"
	"vmcluster/lib/service"
	"vmcluster/lib/transport"
)

// component wires an insert node.
type component struct {
	http      httpserver.Config
	insert    insertapi.Config
	lines     lineports.Config
	limits    tenantlimits.Config
	relabel   relabeling.Config
	transport transport.ClientConfig
	handshake transport.HandshakeConfig
	tls       certfiles.Config
	router    router.Config
	nodes     nodelist.Config

	native     insertrpc.ServerConfig
	nativeAddr string
	nativeTLS  certfiles.Config
	dryRun     bool
}

// RegisterFlags registers all flags of vminsert.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.http.RegisterFlags(fs, ":8480")
	c.insert.RegisterFlags(fs)
	c.lines.RegisterFlags(fs)
	c.limits.RegisterFlags(fs)
	c.relabel.RegisterFlags(fs)
	c.transport.RegisterFlags(fs)
	c.handshake.RegisterFlags(fs)
	c.tls.RegisterClientFlags(fs, "cluster", "-storageNode")
	c.router.RegisterFlags(fs)
	c.nodes.RegisterFlags(fs, "vminsertAddr")
	c.native.RegisterClusterNativeFlags(fs)
	fs.StringVar(&c.nativeAddr, "clusternativeListenAddr", "", "Address to listen at for vminserts of a higher level, which have this one as a -storageNode; for example :8400; empty: none")
	c.nativeTLS.RegisterServerFlags(fs, "clusternative", "vminserts of a higher level")
	service.RegisterDryRun(fs, &c.dryRun)
	flagcompat.Register(fs, flagcompat.Insert)
}

// Start connects to the storage nodes, then opens the port.
func (c *component) Start(env *service.Env) error {
	c.transport.HandshakeTimeout = c.handshake.Timeout
	files := certfiles.Options{Logger: env.Logger, Metrics: env.Metrics}
	var err error
	if c.transport.TLS, err = c.tls.Client(files); err != nil {
		return err
	}
	if c.nativeAddr != "" {
		if c.native.Transport.TLS, err = c.nativeTLS.Server(files); err != nil {
			return err
		}
	}
	spread, err := c.connect(env)
	if err != nil {
		return err
	}
	limits, err := tenantlimits.Start(env, &c.limits)
	if err != nil {
		return err
	}
	api := insertapi.New(insertapi.Options{Ingester: spread, Metadata: spread, Exemplars: spread, Starts: spread, Limits: limits, Logger: env.Logger, Metrics: env.Metrics, Config: &c.insert, PathStyle: insertapi.Cluster, Budget: env.Budget})
	rules, err := relabeling.Start(env, &c.relabel, api.Relabel)
	if err != nil {
		return err
	}
	if c.dryRun {
		if err := httpserver.Check(httpserver.Options{Config: &c.http, Logger: env.Logger, Metrics: env.Metrics}); err != nil {
			return err
		}
		return env.Checked()
	}
	if err := c.serveHigherLevel(env, api); err != nil {
		return err
	}
	if err := c.lines.Start(env, api); err != nil {
		return err
	}
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{
		Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags,
		Handler: func(w http.ResponseWriter, r *http.Request) bool {
			return httpserver.ServeIndex(w, r, env.Name, "takes writes at /insert/<accountID>[:<projectID>]/prometheus/api/v1/write", "/metrics", "/flags", "/debug/pprof/") ||
				api.Handle(w, r) || rules.Handle(w, r) || refuseRead(env, w, r)
		},
	})
	if err != nil {
		return err
	}
	env.OnStop("http server", server.Stop)
	return nil
}

// nativeStopTimeout is how long requests under way may take when the process stops, after the connections were told one by one.
const nativeStopTimeout = 5 * time.Second

// serveHigherLevel opens the port at which vminserts take this one for a storage node.
func (c *component) serveHigherLevel(env *service.Env, api *insertapi.API) error {
	if c.nativeAddr == "" {
		return nil
	}
	c.native.Transport.HandshakeTimeout, c.native.Transport.TLSOptional = c.handshake.Timeout, c.nativeTLS.Optional
	limiter := transport.NewLimiter(c.insert.MaxConcurrentInserts, c.insert.MaxQueueDuration.D(), "-maxConcurrentInserts and -insert.maxQueueDuration")
	limiter.Register(env.Metrics, "vm_clusternative_concurrent_insert", "")
	native := insertapi.NewNative(api, env.Metrics)
	server := insertrpc.NewServer(insertrpc.ServerOptions{
		Ingester: native, Metadata: native, Exemplars: native, Starts: native, Addr: c.nativeAddr, Config: c.native, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget, Limiter: limiter,
	})
	timeout := c.native.Transport.ShutdownSpread.D() + nativeStopTimeout
	err := rpclisten.Listen(env, rpclisten.Port{Peer: "vminsert", Flag: "clusternativeListenAddr", Addr: c.nativeAddr, Server: server, StopTimeout: timeout})
	if err == nil {
		env.Logger.Infof("started TCP clusternative server at %q", c.nativeAddr) // scripts wait for it
	}
	return err
}

// refuseRead tells people who mixed up the two halves of the cluster where to read.
func refuseRead(env *service.Env, w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/select/") {
		return false
	}
	httpserver.Error(w, r, env.Logger, errkind.New(errkind.NotFound, "cannot read at %q: this is vminsert; read at the same path of vmselect (port 8481 by default)", r.URL.Path))
	return true
}
