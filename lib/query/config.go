package query

import (
	"flag"
	"runtime"
	"time"

	"vmcluster/lib/flagvalue"
)

// Config holds the -search.* flags which concern evaluation.
type Config struct {
	MaxPointsPerSeries         int
	MaxPointsPerSubquerySeries int
	MaxSamplesPerQuery         int
	MaxSamplesPerSeries        int
	MaxUniqueSeries            int
	MaxResponseSeries          int
	MaxSeriesPerAggrFunc       int
	MaxQueryLen                flagvalue.Bytes
	MaxMemoryPerQuery          flagvalue.Bytes
	MaxWorkersPerQuery         int
	MaxPushedLabelValues       int
	MaxLookback                flagvalue.Duration
	MaxStalenessInterval       flagvalue.Duration
	MinStalenessInterval       flagvalue.Duration
	SetLookbackToStep          bool
	LatencyOffset              flagvalue.Duration
	MaxStepForPointsAdjustment flagvalue.Duration
	NoStaleMarkers             bool
	DisableCache               bool
	CacheTimestampOffset       flagvalue.Duration
	DisableAutoCacheReset      bool
	ResetCacheOnStartup        bool
	DisablePushDown            bool
	DisableImplicitConversion  bool
	LogImplicitConversion      bool
	TreatDotsAsIs              bool
}

// RegisterFlags registers the flags with their defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.IntVar(&c.MaxPointsPerSeries, "search.maxPointsPerTimeseries", 30000, "Most points per series a range query may ask for; the number is (end-start)/step+1")
	fs.IntVar(&c.MaxPointsPerSubquerySeries, "search.maxPointsSubqueryPerTimeseries", 100000, "Most points per series a subquery may produce")
	fs.IntVar(&c.MaxSamplesPerQuery, "search.maxSamplesPerQuery", 1e9, "Most samples one query may read; 0 means no limit")
	fs.IntVar(&c.MaxSamplesPerSeries, "search.maxSamplesPerSeries", 3e7, "Most samples of one series one selector may read; 0 means no limit")
	fs.IntVar(&c.MaxUniqueSeries, "search.maxUniqueTimeseries", 0, "Most series one selector may find; 0 leaves it to the limit of the storage")
	fs.IntVar(&c.MaxResponseSeries, "search.maxResponseSeries", 0, "Most series a query may answer; 0 means no limit")
	fs.IntVar(&c.MaxSeriesPerAggrFunc, "search.maxSeriesPerAggrFunc", 1e6, "Most series an aggregate may produce; 0 means no limit")
	c.MaxQueryLen = 16 << 10
	fs.Var(&c.MaxQueryLen, "search.maxQueryLen", "Longest query text in bytes; 0 means no limit")
	fs.Var(&c.MaxMemoryPerQuery, "search.maxMemoryPerQuery", "Most memory one query may use for samples and results; 0 means half of what -memory.allowedPercent and -memory.allowedBytes allow the process")
	fs.IntVar(&c.MaxPushedLabelValues, "search.maxBinaryOpPushdownLabelValues", 100, "Most values of a label in on() which one side of an operator may have for its values to filter the series of the other; 0 turns it off. The number does not change answers")
	fs.IntVar(&c.MaxWorkersPerQuery, "search.maxWorkersPerQuery", runtime.GOMAXPROCS(-1), "Most goroutines which decode and evaluate series for one query; fewer leave more CPU to other queries. The number does not change answers")
	fs.Var(&c.MaxLookback, "search.maxLookback", "How long the last sample of a series is carried forward; 0 derives it from the interval between samples. The argument max_lookback overrides it")
	fs.Var(&c.MaxStalenessInterval, "search.maxStalenessInterval", "Longest gap between samples which is treated as continuous; used when -search.maxLookback is 0")
	fs.Var(&c.MinStalenessInterval, "search.minStalenessInterval", "Gaps between samples up to this length are always treated as continuous")
	fs.BoolVar(&c.SetLookbackToStep, "search.setLookbackToStep", false, "Carry samples forward by the step of the query, as InfluxDB and TimescaleDB do")
	c.LatencyOffset = flagvalue.Duration(30 * time.Second)
	fs.Var(&c.LatencyOffset, "search.latencyOffset", "Time it takes until samples are certain to be searchable; later points are replaced by earlier ones. The argument latency_offset overrides it")
	c.MaxStepForPointsAdjustment = flagvalue.Duration(time.Minute)
	fs.Var(&c.MaxStepForPointsAdjustment, "search.maxStepForPointsAdjustment", "Range queries with this or a larger step are not adjusted by -search.latencyOffset")
	fs.BoolVar(&c.NoStaleMarkers, "search.noStaleMarkers", false, "Save the search for staleness markers when the database holds none")
	fs.BoolVar(&c.DisableCache, "search.disableCache", false, "Do not align range queries to their step and do not cache results; the argument nocache=1 does it for one query")
	c.CacheTimestampOffset = flagvalue.Duration(5 * time.Minute)
	fs.Var(&c.CacheTimestampOffset, "search.cacheTimestampOffset", "Results for times that are younger than this are not cached, since samples of them may still be on their way. Samples which come later are noticed as well, but everything cached for their hour is evaluated anew then")
	fs.BoolVar(&c.DisableAutoCacheReset, "search.disableAutoCacheReset", false, "Go on using cached results when older samples have been written or series have been deleted since. Answers may lack them then, until the cache is reset")
	fs.BoolVar(&c.ResetCacheOnStartup, "search.resetRollupResultCacheOnStartup", false, "Start with an empty result cache, whatever was left in -cacheDataPath")
	fs.BoolVar(&c.DisablePushDown, "search.disablePushDown", false, "Read all series from the storage nodes as they are stored, instead of having the nodes aggregate them where that gives the same answer; the argument pushdown=0 does it for one query")
	fs.BoolVar(&c.DisableImplicitConversion, "search.disableImplicitConversion", false, "Refuse rollup functions over expressions which are not selectors and have no brackets, such as rate(sum(m))")
	fs.BoolVar(&c.TreatDotsAsIs, "search.treatDotsAsIsInRegexps", false, "Let dots in regular expressions of filters match dots only, as in {host=~\"a.b.c\"}; those in .+ .* and .{n} match any character still")
	fs.BoolVar(&c.LogImplicitConversion, "search.logImplicitConversion", false, "Log queries with rollup functions over expressions which are not selectors and have no brackets")
}

func millis(d flagvalue.Duration) int64 { return d.D().Milliseconds() }
