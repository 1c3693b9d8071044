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
	DenyPartialResponse   bool
	LogSlowQueryDuration  flagvalue.Duration
	TenantHeaders         bool
}

// RegisterFlags registers the flags of the read API.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.MaxQueryDuration = flagvalue.Duration(30 * time.Second)
	c.MaxQueueDuration = flagvalue.Duration(10 * time.Second)
	c.MaxLabelsAPIDuration = flagvalue.Duration(5 * time.Second)
	c.MaxExportDuration = flagvalue.Duration(720 * time.Hour)
	c.LogSlowQueryDuration = flagvalue.Duration(5 * time.Second)
	fs.Var(&c.MaxQueryDuration, "search.maxQueryDuration", "Longest run of a query; the timeout argument of a request can only lower it")
	fs.IntVar(&c.MaxConcurrentRequests, "search.maxConcurrentRequests", 2*runtime.GOMAXPROCS(-1), "Read requests that are served at once; more wait in a queue")
	fs.Var(&c.MaxQueueDuration, "search.maxQueueDuration", "Longest wait of a read request in the queue; then it is answered 429")
	fs.IntVar(&c.MaxSeries, "search.maxSeries", 30000, "Most series an answer of /api/v1/series may have")
	fs.IntVar(&c.MaxLabelsAPISeries, "search.maxLabelsAPISeries", 1000000, "Most series that may be looked at for /api/v1/labels and /api/v1/label/.../values")
	fs.Var(&c.MaxLabelsAPIDuration, "search.maxLabelsAPIDuration", "Longest run of requests to /api/v1/labels, /api/v1/label/.../values and /api/v1/series")
	fs.IntVar(&c.MaxExportSeries, "search.maxExportSeries", 10000000, "Most series an answer of /api/v1/export may have")
	fs.Var(&c.MaxExportDuration, "search.maxExportDuration", "Longest run of /api/v1/export")
	fs.BoolVar(&c.DenyPartialResponse, "search.denyPartialResponse", false, "Answer 503 instead of a partial response when some of the storage nodes do not answer")
	fs.BoolVar(&c.TenantHeaders, "enableMultitenancyViaHeaders", true, "Take the tenant of /select/prometheus/... paths, which name none, from the headers AccountID and ProjectID; cluster only")
	fs.Var(&c.LogSlowQueryDuration, "search.logSlowQueryDuration", "Queries that run longer are logged; 0 turns it off")
}
