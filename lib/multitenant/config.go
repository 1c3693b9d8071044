package multitenant

import (
	"flag"
	"time"

	"vmcluster/lib/flagvalue"
)

// Config holds the flags of queries of all tenants.
type Config struct {
	TenantCacheExpire flagvalue.Duration
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.TenantCacheExpire = flagvalue.Duration(5 * time.Minute)
	fs.Var(&c.TenantCacheExpire, "search.tenantCacheExpireDuration",
		"How long /select/multitenant/... uses a list of tenants before the storage nodes are asked again; a tenant whose first sample is younger may be missing; 0 asks for each query")
}
