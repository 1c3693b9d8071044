package insertapi

import (
	"flag"
	"runtime"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/datadog"
	"vmcluster/lib/protoparser/graphite"
	"vmcluster/lib/protoparser/influx"
	"vmcluster/lib/protoparser/newrelic"
	"vmcluster/lib/protoparser/opentsdb"
	"vmcluster/lib/protoparser/opentsdbhttp"
	"vmcluster/lib/protoparser/otlp"
	"vmcluster/lib/protoparser/zabbix"
)

// Config holds the flags of the write routes.
type Config struct {
	Limits               protoparser.Config
	MaxConcurrentInserts int
	MaxQueueDuration     flagvalue.Duration
	TenantHeaders        bool
	CSVTrimTimestamp     flagvalue.Duration
	EnableMetadata       bool
	EnableExemplars      bool
	Influx               influx.Config
	InfluxDatabases      flagvalue.Strings
	Graphite             graphite.Config
	OpenTSDB             opentsdb.Config
	OpenTSDBHTTP         opentsdbhttp.Config
	OTLP                 otlp.Config
	NewRelic             newrelic.Config
	Datadog              datadog.Config
	Zabbix               zabbix.Config
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.Limits.RegisterFlags(fs)
	fs.IntVar(&c.MaxConcurrentInserts, "maxConcurrentInserts", 2*runtime.GOMAXPROCS(0),
		"The largest number of write requests that are processed at a time; more of them wait up to -insert.maxQueueDuration")
	c.MaxQueueDuration = flagvalue.Duration(time.Minute)
	fs.Var(&c.MaxQueueDuration, "insert.maxQueueDuration", "How long a write request waits for its turn when -maxConcurrentInserts are being processed, before it is answered 503")
	fs.BoolVar(&c.EnableMetadata, "enableMetadata", true,
		"Keep type, unit and help of metrics, which senders tell with their samples, for /api/v1/metadata")
	fs.BoolVar(&c.EnableExemplars, "enableExemplars", true,
		"Keep exemplars, which senders tell with their samples, for /api/v1/query_exemplars")
	c.CSVTrimTimestamp = flagvalue.Duration(time.Millisecond)
	fs.Var(&c.CSVTrimTimestamp, "csvTrimTimestamp", "Lower timestamps of /api/v1/import/csv to multiples of this duration")
	c.Influx.RegisterFlags(fs)
	fs.Var(&c.InfluxDatabases, "influx.databaseNames", "Names of databases which influx/query answers to Influx clients that ask for them; may be given more than once or with commas")
	c.Graphite.RegisterFlags(fs)
	c.OpenTSDB.RegisterFlags(fs)
	c.OpenTSDBHTTP.RegisterFlags(fs)
	c.OTLP.RegisterFlags(fs)
	c.NewRelic.RegisterFlags(fs)
	c.Datadog.RegisterFlags(fs)
	c.Zabbix.RegisterFlags(fs)
	fs.BoolVar(&c.TenantHeaders, "enableMultitenancyViaHeaders", true,
		"Take the tenant of /insert/<suffix> paths, which name none, from the headers AccountID and ProjectID; cluster only")
}
