package graphiteapi

import (
	"flag"
	"time"

	"vmcluster/lib/flagvalue"
)

// Config holds the limits of the Graphite API.
type Config struct {
	StorageStep        flagvalue.Duration
	MaxPointsPerSeries int
	MaxSeries          int
	MaxNodes           int
	MaxTagKeys         int
	MaxTagValues       int
	MaxPathLen         int
}

// RegisterFlags registers the flags of the Graphite API.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.StorageStep = flagvalue.Duration(10 * time.Second)
	fs.Var(&c.StorageStep, "search.graphiteStorageStep", "Distance of the points which the Graphite render API works with; the storage_step argument and the Storage-Step header override it")
	fs.IntVar(&c.MaxPointsPerSeries, "search.graphiteMaxPointsPerSeries", 1_000_000, "Most points per series the Graphite render API may work with; 0 means no limit")
	fs.IntVar(&c.MaxSeries, "search.maxGraphiteSeries", 300_000, "Most series a path or a seriesByTag() of the Graphite API may select")
	fs.IntVar(&c.MaxNodes, "search.maxTagValueSuffixesPerSearch", 100_000, "Most nodes that /metrics/find and /metrics/expand of the Graphite API may answer; 0 means no limit")
	fs.IntVar(&c.MaxTagKeys, "search.maxGraphiteTagKeys", 100_000, "Most tag names the Graphite API answers; more are cut")
	fs.IntVar(&c.MaxTagValues, "search.maxGraphiteTagValues", 100_000, "Most tag values the Graphite API answers; more are cut")
	fs.IntVar(&c.MaxPathLen, "search.maxGraphitePathExpressionLen", 1024, "Longest text of paths, in bytes, which names of Graphite aggregates such as sumSeries(...) are made of; longer ones are cut. 0 means no limit")
}
