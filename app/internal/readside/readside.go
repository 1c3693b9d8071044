package readside

import (
	"flag"
	"fmt"
	"net/http"
	"time"

	"vmcluster/app/internal/graphiteapi"
	"vmcluster/app/internal/promqlapi"
	"vmcluster/app/internal/remoteread"
	"vmcluster/app/internal/selectapi"
	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/service"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs"
)

// Config holds the flags of all reads.
type Config struct {
	sel        selectapi.Config
	query      query.Config
	graphite   graphiteapi.Config
	remoteRead remoteread.Config
	promql     promqlapi.Config
}

// RegisterFlags registers the flags. Some of them may be flags of the storage in the same process, too.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	service.RegisterShared(fs, c.sel.RegisterFlags)
	service.RegisterShared(fs, c.query.RegisterFlags)
	c.graphite.RegisterFlags(fs)
	c.remoteRead.RegisterFlags(fs)
	c.promql.RegisterFlags(fs)
}

// DenyQueryTracing returns -denyQueryTracing.
func (c *Config) DenyQueryTracing() bool { return c.sel.DenyQueryTracing }

// Options say what is read.
type Options struct {
	Searcher  storageapi.Searcher
	Catalog   storageapi.Catalog
	Reducer   storageapi.Reducer // over the same stores; nil reads all series
	Metadata  storageapi.MetadataReader
	Exemplars storageapi.ExemplarReader
	Versions  storageapi.Versioner // of the stores, for the result cache
	// CacheDir is where the result cache is left when the process stops, and Stores tells what is in the instances of all Versions, and the
	// names of the stores; without a directory it is lost.
	CacheDir string
	Stores   func() (number uint64, names []string)
	// SelectNodes are host:port of other select nodes, whose caches are reset with this one's.
	SelectNodes []string
	// DedupIntervalMs is -dedup.minScrapeInterval.
	DedupIntervalMs int64
	// Limits are those of tenants; nil has none.
	Limits *tenantlimits.Limiter
	// SingleNode serves the routes without tenants.
	SingleNode bool
	// DisableCORS is -http.disableCORS.
	DisableCORS bool
}

// Start starts the APIs and returns what serves a read, or returns false when the path is none of theirs.
func (c *Config) Start(env *service.Env, o Options) func(w http.ResponseWriter, r *http.Request) bool {
	parts := querysource.NewParts(o.Searcher, env.Budget)
	source := selectapi.NewSource(parts, o.Reducer, o.DedupIntervalMs, env.Metrics)
	cache := query.NewCache(query.CacheOptions{Versions: querysource.Versioner(o.Versions), Budget: env.Budget, Metrics: env.Metrics})
	engine := query.New(&c.query, query.Options{
		Source: source, Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget, Now: time.Now, Cache: cache,
	})
	reading := source.Reading()
	c.keepCache(env, &o, cache, fmt.Sprintf("%+v, dedup %d, NaN %t", c.query, reading.DedupIntervalMs, reading.KeepNaN))
	dialect := promqlapi.New(promqlapi.Options{
		Config: &c.promql, Limits: &c.query, Reading: source.Reading(), Budget: env.Budget, Logger: env.Logger, MaxDuration: c.sel.MaxQueryDuration.D(),
	})
	env.OnStop("PromQL engine", dialect.Close)
	remoteRead := remoteread.New(remoteread.Options{
		Config: &c.remoteRead, Budget: env.Budget, Logger: env.Logger, Reading: source.Reading(), MaxSeries: c.query.MaxUniqueSeries, MaxBytes: int64(c.query.MaxMemoryPerQuery),
	})
	api := selectapi.New(selectapi.Options{
		Config: &c.sel, Searcher: o.Searcher, Parts: parts, Catalog: o.Catalog, Metadata: o.Metadata, Exemplars: o.Exemplars, Engine: engine, Logger: env.Logger, Metrics: env.Metrics, Now: time.Now,
		SingleNode: o.SingleNode, DedupIntervalMs: o.DedupIntervalMs, DisableCORS: o.DisableCORS,
		Limits: o.Limits, PromQL: dialect.Routes(), RemoteRead: remoteRead.Serve, SelectNodes: o.SelectNodes,
	})
	graphite := graphiteapi.New(graphiteapi.Options{
		Config: &c.graphite, Select: &c.sel, Searcher: parts, Catalog: o.Catalog, Acquire: api.Acquire, Count: api.CountTenant, Limits: o.Limits, Logger: env.Logger, Metrics: env.Metrics,
		Budget: env.Budget, Now: time.Now, MaxQueryLen: int(c.query.MaxQueryLen), MaxBytes: int64(c.query.MaxMemoryPerQuery), SingleNode: o.SingleNode, DedupIntervalMs: o.DedupIntervalMs,
	})
	return func(w http.ResponseWriter, r *http.Request) bool { return graphite.Handle(w, r) || api.Handle(w, r) }
}

// keepCache has the result cache survive a restart. With -search.disableAutoCacheReset nobody would notice what has changed meanwhile.
func (c *Config) keepCache(env *service.Env, o *Options, cache *query.Cache, settings string) {
	if o.CacheDir == "" || c.query.DisableCache || c.query.DisableAutoCacheReset {
		return
	}
	f := &cacheFile{fs: vfs.OS(), dir: o.CacheDir, settings: settings, stores: o.Stores, logger: env.Logger}
	f.load(cache, !c.query.ResetCacheOnStartup)
	env.OnStop("result cache", func() error {
		f.save(cache)
		return nil
	})
}
