package main

import (
	"flag"
	"net/http"
	"time"

	"vmcluster/app/internal/flagcompat"
	"vmcluster/app/internal/readside"
	"vmcluster/app/internal/rpclisten"
	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/certfiles"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/gather"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/multitenant"
	"vmcluster/lib/nodelist"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/service"
	"vmcluster/lib/transport"
)

// component wires a select node.
type component struct {
	http      httpserver.Config
	reads     readside.Config
	tenants   multitenant.Config
	limits    tenantlimits.Config
	transport transport.ClientConfig
	handshake transport.HandshakeConfig
	tls       certfiles.Config
	nodes     nodelist.Config
	selects   flagvalue.Strings
	gather    gather.Config
	dedup     flagvalue.Duration
	cachePath string

	native     selectrpc.ServerConfig
	nativeAddr string
	nativeTLS  certfiles.Config
	dryRun     bool
}

// RegisterFlags registers all flags of vmselect.
func (c *component) RegisterFlags(fs *flag.FlagSet) {
	c.http.RegisterFlags(fs, ":8481")
	c.reads.RegisterFlags(fs)
	c.tenants.RegisterFlags(fs)
	c.limits.RegisterFlags(fs)
	c.transport.RegisterFlags(fs)
	c.handshake.RegisterFlags(fs)
	c.tls.RegisterClientFlags(fs, "cluster", "-storageNode")
	c.nodes.RegisterFlags(fs, "vmselectAddr")
	fs.Var(&c.selects, "selectNode", "Address of another vmselect, host:port of its -httpListenAddr, with https:// before it if that has -tls, whose result cache /internal/resetRollupResultCache?propagate=1 resets, too; may be repeated")
	c.gather.RegisterFlags(fs)
	fs.Var(&c.dedup, "dedup.minScrapeInterval", "Leave the newest sample only in every interval of this length, per series; set it as at vmstorage; 0 keeps all samples of different timestamps")
	fs.StringVar(&c.cachePath, "cacheDataPath", "", "Directory in which the result cache is left when the process stops and found when it starts again; empty: it is lost. What samples have come or gone meanwhile is noticed")
	c.native.RegisterClusterNativeFlags(fs)
	fs.StringVar(&c.nativeAddr, "clusternativeListenAddr", "", "Address to listen at for vmselects of a higher level, which have this one as a -storageNode; for example :8401; empty: none")
	c.nativeTLS.RegisterServerFlags(fs, "clusternative", "vmselects of a higher level")
	service.RegisterDryRun(fs, &c.dryRun)
	flagcompat.Register(fs, flagcompat.Select)
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
	searcher, err := c.connect(env)
	if err != nil {
		return err
	}
	limits, err := tenantlimits.Start(env, &c.limits)
	if err != nil {
		return err
	}
	if c.dryRun {
		if err := httpserver.Check(httpserver.Options{Config: &c.http, Logger: env.Logger, Metrics: env.Metrics}); err != nil {
			return err
		}
		return env.Checked()
	}
	everyone := multitenant.New(multitenant.Options{Stores: searcher, Config: &c.tenants, Metrics: env.Metrics, Now: time.Now})
	reads := c.reads.Start(env, readside.Options{
		Searcher: everyone, Catalog: everyone, Reducer: everyone, Metadata: everyone, Exemplars: everyone, Versions: searcher, Limits: limits, SelectNodes: c.selects,
		CacheDir: c.cachePath, Stores: searcher.Stores, DedupIntervalMs: c.dedup.D().Milliseconds(), DisableCORS: c.http.DisableCORS,
	})
	if err := c.serveHigherLevel(env, searcher); err != nil {
		return err
	}
	httpserver.RegisterFlagMetrics(env.Metrics, env.Flags)
	server, err := httpserver.Start(httpserver.Options{
		Config: &c.http, Logger: env.Logger, Metrics: env.Metrics, Flags: env.Flags,
		Handler: func(w http.ResponseWriter, r *http.Request) bool {
			return httpserver.ServeIndex(w, r, env.Name, "answers queries at /select/<accountID>[:<projectID>]/prometheus/api/v1/query", "/admin/tenants", "/metrics", "/flags", "/debug/pprof/") ||
				reads(w, r)
		},
	})
	if err != nil {
		return err
	}
	env.OnStop("http server", server.Stop)
	return nil
}

// nativeStopTimeout is how long searches under way may take when the process stops, as at a storage node.
const nativeStopTimeout = 5 * time.Second

// serveHigherLevel opens the port at which vmselects take this one for a storage node. They are served by the nodes themselves: tenants
// are chosen and samples deduplicated at the highest level only.
func (c *component) serveHigherLevel(env *service.Env, nodes *gather.Gather) error {
	if c.nativeAddr == "" {
		return nil
	}
	c.native.Transport.HandshakeTimeout, c.native.Transport.TLSOptional = c.handshake.Timeout, c.nativeTLS.Optional
	c.native.DenyQueryTracing = c.reads.DenyQueryTracing()
	server := selectrpc.NewServer(selectrpc.ServerOptions{
		Searcher: nodes, Catalog: nodes, Reducer: nodes, Metadata: nodes, Exemplars: nodes, Versioner: nodes, Addr: c.nativeAddr, Name: env.Name, Level: true,
		Config: c.native, Logger: env.Logger, Metrics: env.Metrics,
	})
	return rpclisten.Listen(env, rpclisten.Port{Peer: "vmselect", Flag: "clusternativeListenAddr", Addr: c.nativeAddr, Server: server, StopTimeout: nativeStopTimeout})
}
