package selectapi

import (
	"flag"
	"runtime"
	"time"

	"vmcluster/lib/flagvalue"
)

// Config holds the limits of the read API.
type Config struct {
	MaxQueryDuration      flagvalue.Duration
	MaxConcurrentRequests int
	MaxQueueDuration      flagvalue.Duration
	MaxSeries             int
	MaxLabelsAPISeries    int
	MaxLabelsAPIDuration  flagvalue.Duration
	MaxExportSeries       int
	MaxExportDuration     flagvalue.Duration
	MaxFederateSeries     int
	MaxExemplars          int
	VMAlertProxyURL       ProxyURL
	DenyQueryTracing      bool
	EnableMetadata        bool
	IgnoreExtraFilters    bool // by the labels API
	DenyPartialResponse   bool
	LogSlowQueryDuration  flagvalue.Duration
	LogSlowQueryStats     flagvalue.Duration
	LogQueryHeaders       flagvalue.Strings
	LogQueryMemoryUsage   flagvalue.Bytes
	TenantHeaders         bool

	DeleteAuthKey            flagvalue.Secret
	MaxDeleteSeries          int
	MaxDeleteDuration        flagvalue.Duration
	NameStatsResetAuthKey    flagvalue.Secret
	CacheResetAuthKey        flagvalue.Secret
	MaxStatusRequestDuration flagvalue.Duration
	MaxTSDBStatusSeries      int
	MaxTSDBStatusTopN        int
	LastQueriesCount         int
	MinQueryDuration         flagvalue.Duration
	MinQueryMemory           flagvalue.Bytes
}

// RegisterFlags registers the flags of the read API.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.MaxQueryDuration = flagvalue.Duration(30 * time.Second)
	c.MaxQueueDuration = flagvalue.Duration(10 * time.Second)
	c.MaxLabelsAPIDuration = flagvalue.Duration(5 * time.Second)
	c.MaxExportDuration = flagvalue.Duration(720 * time.Hour)
	c.LogSlowQueryDuration = flagvalue.Duration(5 * time.Second)
	c.LogSlowQueryStats = flagvalue.Duration(5 * time.Second)
	c.registerStatusFlags(fs)
	fs.Var(&c.MaxQueryDuration, "search.maxQueryDuration", "Longest run of a query; the timeout argument of a request can only lower it")
	fs.IntVar(&c.MaxConcurrentRequests, "search.maxConcurrentRequests", 2*runtime.GOMAXPROCS(-1), "Read requests that are served at once; more wait in a queue")
	fs.Var(&c.MaxQueueDuration, "search.maxQueueDuration", "Longest wait of a read request in the queue; then it is answered 429")
	fs.IntVar(&c.MaxSeries, "search.maxSeries", 30000, "Most series an answer of /api/v1/series may have")
	fs.IntVar(&c.MaxLabelsAPISeries, "search.maxLabelsAPISeries", 1000000, "Most names or values that /api/v1/labels and /api/v1/label/.../values answer; 0 means no limit")
	fs.Var(&c.MaxLabelsAPIDuration, "search.maxLabelsAPIDuration", "Longest run of requests to /api/v1/labels, /api/v1/label/.../values and /api/v1/series")
	fs.IntVar(&c.MaxExportSeries, "search.maxExportSeries", 10000000, "Most series an answer of /api/v1/export, /api/v1/export/csv and /api/v1/export/native may have")
	fs.Var(&c.MaxExportDuration, "search.maxExportDuration", "Longest run of /api/v1/export, /api/v1/export/csv and /api/v1/export/native")
	fs.IntVar(&c.MaxFederateSeries, "search.maxFederateSeries", 1_000_000, "Most series an answer of /federate may have")
	fs.IntVar(&c.MaxExemplars, "search.maxExemplars", 100_000, "Most exemplars an answer of /api/v1/query_exemplars may have; 0 means no limit")
	fs.Var(&c.VMAlertProxyURL, "vmalert.proxyURL", "Address of vmalert, such as http://vmalert:8880, which /api/v1/rules, /api/v1/alerts, /api/v1/notifiers and /vmalert/ are passed to")
	fs.BoolVar(&c.EnableMetadata, "enableMetadata", true, "Answer at /api/v1/metadata what senders have told of type, unit and help of metrics")
	fs.BoolVar(&c.DenyQueryTracing, "denyQueryTracing", false, "Take no notice of trace=1")
	fs.BoolVar(&c.IgnoreExtraFilters, "search.ignoreExtraFiltersAtLabelsAPI", false, "Take no notice of extra_label and extra_filters[] at /api/v1/labels and /api/v1/label/.../values, which makes them faster and shows names and values of series outside of the filters")
	fs.BoolVar(&c.DenyPartialResponse, "search.denyPartialResponse", false, "Answer 503 instead of a partial response when some of the storage nodes do not answer")
	fs.BoolVar(&c.TenantHeaders, "enableMultitenancyViaHeaders", true, "Take the tenant of /select/prometheus/... paths, which name none, from the headers AccountID and ProjectID; cluster only")
	fs.Var(&c.LogQueryMemoryUsage, "search.logQueryMemoryUsage", "Queries that reserve more memory for samples and results are logged and counted by vm_memory_intensive_queries_total; 0 turns it off. See also -search.maxMemoryPerQuery")
	fs.Var(&c.LogSlowQueryDuration, "search.logSlowQueryDuration", "Queries that run longer are logged; 0 turns it off")
	fs.Var(&c.LogSlowQueryStats, "search.logSlowQueryStats", "Queries that run longer are logged as a line vm_slow_query_stats of name=value pairs: what was asked, how long it took, and how much was read; 0 turns it off")
	fs.Var(&c.LogQueryHeaders, "search.logSlowQueryStatsHeaders", "Headers of requests which are part of the lines of -search.logSlowQueryStats, such as X-Grafana-User; may be repeated")
}

// registerStatusFlags registers the flags of the routes about series and queries.
func (c *Config) registerStatusFlags(fs *flag.FlagSet) {
	c.MaxDeleteDuration = flagvalue.Duration(5 * time.Minute)
	c.MaxStatusRequestDuration = flagvalue.Duration(5 * time.Minute)
	c.MinQueryDuration = flagvalue.Duration(time.Millisecond)
	c.MinQueryMemory = 1024
	fs.Var(&c.DeleteAuthKey, "deleteAuthKey", "Value which the authKey argument of /api/v1/admin/tsdb/delete_series must have")
	fs.IntVar(&c.MaxDeleteSeries, "search.maxDeleteSeries", 1_000_000, "Most series that one request may delete")
	fs.Var(&c.MaxDeleteDuration, "search.maxDeleteDuration", "Longest run of a request which deletes series")
	fs.Var(&c.NameStatsResetAuthKey, "metricNamesStatsResetAuthKey", "Value which the authKey argument of /api/v1/admin/status/metric_names_stats/reset must have")
	fs.Var(&c.CacheResetAuthKey, "search.resetCacheAuthKey", "Value which the authKey argument of /internal/resetRollupResultCache must have")
	fs.Var(&c.MaxStatusRequestDuration, "search.maxStatusRequestDuration", "Longest run of requests to /api/v1/status/tsdb, /api/v1/status/metric_names_stats and /api/v1/series/count")
	fs.IntVar(&c.MaxTSDBStatusSeries, "search.maxTSDBStatusSeries", 10_000_000, "Most series that /api/v1/status/tsdb may count")
	fs.IntVar(&c.MaxTSDBStatusTopN, "search.maxTSDBStatusTopNSeries", 1000, "Largest topN argument of /api/v1/status/tsdb; a larger one is lowered")
	fs.IntVar(&c.LastQueriesCount, "search.queryStats.lastQueriesCount", 20_000, "Queries which /api/v1/status/top_queries looks back at; 0 turns it off")
	fs.Var(&c.MinQueryDuration, "search.queryStats.minQueryDuration", "Queries which ran shorter are left out of /api/v1/status/top_queries")
	fs.Var(&c.MinQueryMemory, "search.queryStats.minQueryMemoryUsage", "Queries which took less memory on average are left out of the list by memory in /api/v1/status/top_queries")
}
