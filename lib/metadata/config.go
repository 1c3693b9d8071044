package metadata

import (
	"flag"

	"vmcluster/lib/flagvalue"
)

// Config holds the flags of the store.
type Config struct {
	MaxBytes flagvalue.Bytes // 0: one percent of the budget
}

// RegisterFlags registers the flags.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.Var(&c.MaxBytes, "storage.maxMetadataStorageSize", "Memory for type, unit and help of metrics; those told least recently leave first; 0 means 1% of the memory budget")
}
