package selectapi_test

import (
	"context"
	"flag"
	"io"
	"net/http"
	"testing"
	"time"

	"vmcluster/app/internal/flagcompat"
	"vmcluster/app/internal/graphiteapi"
	"vmcluster/app/internal/insertapi"
	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/gather"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metadata"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/multitenant"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/relabel"
	"vmcluster/lib/router"
	"vmcluster/lib/storage"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs/memfs"
)

// servers are the storages and HTTP servers which the recorded requests were made to, in one process.
type servers struct {
	t         *testing.T
	bases     map[string]string // by name
	described map[string]*metadata.Store
}

// replayServer is one server of the recording.
type replayServer struct {
	name   string
	insert bool
	single bool
	nodes  []string // storages; dead ones start with "dead"
	flags  []string
	rules  string // of -relabelConfig
}

func replayServers() []replayServer {
	both := []string{"1", "2"}
	return []replayServer{
		{name: "vminsert", insert: true, nodes: both},
		{name: "vminsert@s1", insert: true, nodes: []string{"1"}},
		{name: "vminsert@s2", insert: true, nodes: []string{"2"}},
		{name: "vminsert@lim", insert: true, nodes: []string{"lim"}, flags: []string{
			"-maxLabelsPerTimeseries=4", "-maxLabelNameLen=20", "-maxLabelValueLen=30", "-maxInsertRequestSize=300", "-import.maxLineLen=300", "-usePromCompatibleNaming"},
			rules: "- action: drop\n  if: '{drop_me=\"yes\"}'\n- target_label: relabeled\n  replacement: \"1\"\n  if: '{relabel_me=\"yes\"}'\n"},
		{name: "vmselect", nodes: both},
		{name: "vmselect@lim", nodes: []string{"lim"}, flags: []string{
			"-search.maxQueryLen=150", "-search.maxPointsPerTimeseries=50", "-search.maxPointsSubqueryPerTimeseries=60", "-search.maxSamplesPerQuery=150",
			"-search.maxSamplesPerSeries=90", "-search.maxResponseSeries=5", "-search.maxSeriesPerAggrFunc=3", "-search.maxSeries=4", "-search.maxLabelsAPISeries=4",
			"-search.maxExportSeries=4", "-search.maxFederateSeries=4", "-search.maxTSDBStatusSeries=4", "-search.maxDeleteSeries=4", "-search.maxGraphiteSeries=4",
			"-search.maxGraphitePathExpressionLen=60", "-search.maxMemoryPerQuery=10KB", "-search.maxStepForPointsAdjustment=1m", "-deleteAuthKey=k1",
			"-search.resetCacheAuthKey=k2", "-metricNamesStatsResetAuthKey=k8"}},
		{name: "vmselect@uniq", nodes: []string{"lim"}, flags: []string{
			"-search.maxUniqueTimeseries=6", "-denyQueryTracing", "-search.maxLookback=1m", "-search.noStaleMarkers", "-search.setLookbackToStep"}},
		{name: "vmselect@slow", nodes: both, flags: []string{
			"-search.maxQueryDuration=1us", "-search.maxExportDuration=1us", "-search.maxStatusRequestDuration=1us", "-search.maxLabelsAPIDuration=1us"}},
		{name: "vmselect@partial", nodes: []string{"1", "dead1"}},
		{name: "vmselect@deny", nodes: []string{"1", "dead1"}, flags: []string{"-search.denyPartialResponse"}},
		{name: "vmselect@down", nodes: []string{"dead1", "dead2"}},
		{name: "vmselect@auth", nodes: both, flags: []string{"-httpAuth.username=u", "-httpAuth.password=p", "-http.disableCORS", "-http.header.disableServerHostname"}},
		{name: "vmselect@prefix", nodes: both, flags: []string{"-http.pathPrefix=/pre/fix"}},
		{name: "single", single: true, nodes: []string{"single"}},
		{name: "single@lim", single: true, nodes: []string{"single@lim"}, flags: []string{
			"-search.maxQueryLen=50", "-search.maxPointsPerTimeseries=50", "-search.maxUniqueTimeseries=3", "-deleteAuthKey=k1", "-maxInsertRequestSize=300",
			"-httpAuth.username=u", "-httpAuth.password=p"}},
	}
}

func startServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{t: t, bases: map[string]string{}, described: map[string]*metadata.Store{}}
	stores := map[string]*storage.Storage{}
	for name, extra := range map[string][]string{
		"1": nil, "2": nil, "single": nil, "lim": {"-search.maxUniqueTimeseries=15"}, "single@lim": {"-retentionPeriod=1d", "-denyQueriesOutsideRetention"},
	} {
		s.described[name] = metadata.New(metadata.Options{Metrics: metrics.NewSet()})
		stores[name] = openStore(t, append([]string{"-retentionPeriod=100y"}, extra...))
	}
	for _, spec := range replayServers() {
		s.start(&spec, stores)
	}
	return s
}

func openStore(t testing.TB, args []string) *storage.Storage {
	t.Helper()
	var c storage.Config
	parseFlags(t, args, func(fs *flag.FlagSet) { c.RegisterFlags(fs, "/data") })
	db, err := storage.Open(c, storage.Options{FS: memfs.New(memfs.Options{}), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 28)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func parseFlags(t testing.TB, args []string, register func(*flag.FlagSet)) {
	t.Helper()
	fs := flag.NewFlagSet("replay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
}

// start serves on a free port until the test ends.
func (s *servers) start(spec *replayServer, stores map[string]*storage.Storage) {
	t := s.t
	t.Helper()
	var hc httpserver.Config
	var ic insertapi.Config
	var sc selectapi.Config
	var qc query.Config
	var gc graphiteapi.Config
	args := append([]string{"-httpListenAddr=127.0.0.1:0"}, spec.flags...)
	parseFlags(t, args, func(fs *flag.FlagSet) {
		hc.RegisterFlags(fs, ":0")
		kind := flagcompat.Select
		if spec.insert {
			ic.RegisterFlags(fs)
			kind = flagcompat.Insert
		} else {
			sc.RegisterFlags(fs)
			qc.RegisterFlags(fs)
			gc.RegisterFlags(fs)
		}
		if spec.single {
			var all insertapi.Config
			rest := flag.NewFlagSet("", flag.ContinueOnError)
			all.RegisterFlags(rest)
			rest.VisitAll(func(f *flag.Flag) {
				if fs.Lookup(f.Name) == nil {
					fs.Var(f.Value, f.Name, f.Usage)
				}
			})
			ic = all
			kind = flagcompat.SingleNode
		}
		flagcompat.Register(fs, kind)
	})
	var handlers []httpserver.Handler
	if spec.insert || spec.single {
		handlers = append(handlers, s.writer(spec, &ic, stores))
	}
	if !spec.insert {
		handlers = append(handlers, s.readers(spec, &readConfig{&sc, &qc, &gc}, stores)...)
	}
	server, err := httpserver.Start(httpserver.Options{
		Config: &hc, Logger: logger.Discard(), Metrics: metrics.NewSet(), Flags: flag.NewFlagSet("", flag.ContinueOnError),
		Handler: func(w http.ResponseWriter, r *http.Request) bool {
			for _, handle := range handlers {
				if handle(w, r) {
					return true
				}
			}
			return false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	s.bases[spec.name] = "http://" + server.Addrs()[0].String()
}

func (s *servers) writer(spec *replayServer, c *insertapi.Config, stores map[string]*storage.Storage) httpserver.Handler {
	var nodes []router.Node
	for _, n := range spec.nodes {
		nodes = append(nodes, router.Node{Name: n, Ingester: stores[n], Metadata: s.described[n]})
	}
	ingester, err := router.New(router.Options{Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		s.t.Fatal(err)
	}
	style := insertapi.Cluster
	if spec.single {
		style = insertapi.SingleNode
	}
	rules, err := relabel.Parse("the recording", []byte(spec.rules))
	if err != nil {
		s.t.Fatal(err)
	}
	api := insertapi.New(insertapi.Options{Ingester: ingester, Metadata: ingester, Logger: logger.Discard(), Metrics: metrics.NewSet(), Config: c, PathStyle: style})
	api.Relabel(rules)
	return api.Handle
}

// readConfig is the configuration of a select node.
type readConfig struct {
	reads    *selectapi.Config
	query    *query.Config
	graphite *graphiteapi.Config
}

func (s *servers) readers(spec *replayServer, c *readConfig, stores map[string]*storage.Storage) []httpserver.Handler {
	var nodes []gather.Node
	for _, n := range spec.nodes {
		if db := stores[n]; db != nil {
			reducer := querysource.NewReducer(querysource.ReducerOptions{Searcher: db, Logger: logger.Discard(), Metrics: metrics.NewSet()})
			nodes = append(nodes, gather.Node{Name: n, Searcher: db, Catalog: db, Reducer: reducer, Metadata: s.described[n]})
		} else {
			nodes = append(nodes, gather.Node{Name: n, Searcher: deadNode{}, Catalog: deadNode{}, Reducer: deadNode{}, Metadata: deadNode{}})
		}
	}
	set := metrics.NewSet()
	searcher, err := gather.New(gather.Options{Nodes: nodes, Logger: logger.Discard(), Metrics: set})
	if err != nil {
		s.t.Fatal(err)
	}
	everyone := multitenant.New(multitenant.Options{Stores: searcher, Config: &multitenant.Config{}, Metrics: set, Now: time.Now})
	budget := memory.NewBudget(1 << 28)
	engine := query.New(c.query, query.Options{Source: selectapi.NewSource(everyone, everyone, 0, set), Logger: logger.Discard(), Metrics: set, Budget: budget, Now: time.Now})
	reads := selectapi.New(selectapi.Options{
		Config: c.reads, Searcher: everyone, Catalog: everyone, Metadata: everyone, Engine: engine, Logger: logger.Discard(), Metrics: set, Now: time.Now, SingleNode: spec.single,
	})
	graphite := graphiteapi.New(graphiteapi.Options{
		Config: c.graphite, Select: c.reads, Searcher: searcher, Catalog: searcher, Acquire: reads.Acquire, Logger: logger.Discard(), Metrics: set,
		Budget: budget, Now: time.Now, MaxQueryLen: int(c.query.MaxQueryLen), SingleNode: spec.single,
	})
	return []httpserver.Handler{graphite.Handle, reads.Handle}
}

// deadNode is a storage node that nobody listens for.
type deadNode struct {
	storageapi.Catalog
}

var errDead = errkind.New(errkind.Unavailable, "connection refused")

func (deadNode) Search(context.Context, *model.SearchQuery) (storageapi.SeriesIterator, error) {
	return nil, errDead
}

func (deadNode) LabelNames(context.Context, *model.SearchQuery, int) (storageapi.Strings, error) {
	return storageapi.Strings{}, errDead
}

func (deadNode) LabelValues(context.Context, *model.SearchQuery, string, int) (storageapi.Strings, error) {
	return storageapi.Strings{}, errDead
}

func (deadNode) Tenants(context.Context, model.TimeRange) (storageapi.Tenants, error) {
	return storageapi.Tenants{}, errDead
}

func (deadNode) DeleteSeries(context.Context, *model.SearchQuery) (int, error) { return 0, errDead }

func (deadNode) SeriesCount(context.Context, model.TenantID) (storageapi.Count, error) {
	return storageapi.Count{}, errDead
}

func (deadNode) Status(context.Context, *storageapi.StatusQuery) (storageapi.Status, error) {
	return storageapi.Status{}, errDead
}

func (deadNode) NameStats(context.Context, *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	return storageapi.NameStats{}, errDead
}

func (deadNode) Metadata(context.Context, *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	return storageapi.MetadataList{}, errDead
}

func (deadNode) Reduce(context.Context, *fragment.Fragment) (storageapi.Reduction, error) {
	return storageapi.Reduction{}, errDead
}

func (deadNode) ResetNameStats(context.Context) error { return errDead }
