package storage

import (
	"flag"
	"fmt"
	"runtime"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/vfs"
)

const dayMs = 24 * 3600 * 1000

// Config holds the flags of the storage. Make one with RegisterFlags or DefaultConfig.
type Config struct {
	DataPath              string
	RetentionPeriod       flagvalue.Retention
	FutureRetention       flagvalue.Retention
	MaxBackfillAge        flagvalue.Retention
	DedupMinScrape        flagvalue.Duration
	MinFreeDiskSpaceBytes flagvalue.Bytes
	MaxUniqueTimeseries   int
	MaxTagKeys            int
	MaxTagValues          int
	HeadMaxAge            flagvalue.Duration
	HeadMaxBytes          flagvalue.Bytes
	LogMaxBytes           flagvalue.Bytes
	RetentionRules        []RetentionRule    // -retentionFilter
	DownsamplingRules     []DownsamplingRule // -downsampling.period
	SnapshotsMaxAge       flagvalue.Retention
	MaxHourlySeries       int
	MaxDailySeries        int
	LogNewSeries          bool
	TrackNames            bool
	NameStatsBytes        flagvalue.Bytes
	DenyOutsideRetention  bool
	ExemplarBytes         flagvalue.Bytes
}

// DefaultConfig returns the configuration that the flags have when none is given.
func DefaultConfig(dataPath string) Config {
	var c Config
	c.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError), dataPath)
	return c
}

// RegisterFlags registers the flags of the storage and sets c to their defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet, defaultDataPath string) {
	c.RetentionPeriod = flagvalue.NewRetention("1")
	c.FutureRetention = flagvalue.NewRetention("2d")
	c.MaxBackfillAge = flagvalue.NewRetention("0")
	c.MinFreeDiskSpaceBytes = 100e6
	c.HeadMaxAge = flagvalue.Duration(time.Hour)
	c.LogMaxBytes = 256 << 20
	c.registerFeatureFlags(fs)
	fs.StringVar(&c.DataPath, "storageDataPath", defaultDataPath, "Directory of the data; one process at a time may use it")
	fs.Var(&c.RetentionPeriod, "retentionPeriod", "How long samples are kept, at least 1d: a number with one of the suffixes h, d, w, M (31 days), y; a plain number counts months. "+
		"Months of which every sample is older are deleted")
	fs.Var(&c.FutureRetention, "futureRetention", "How far in the future timestamps may be, at least 2d; samples beyond are dropped")
	fs.Var(&c.MaxBackfillAge, "maxBackfillAge", "How old the timestamps of new samples may be; older samples are dropped; 0 means -retentionPeriod")
	fs.Var(&c.DedupMinScrape, "dedup.minScrapeInterval", "Leave the newest sample only in every interval of this length, per series; 0 keeps all samples of different timestamps")
	fs.Var(&c.MinFreeDiskSpaceBytes, "storage.minFreeDiskSpaceBytes", "The storage takes no samples while less than this many bytes are free at -storageDataPath")
	fs.IntVar(&c.MaxUniqueTimeseries, "search.maxUniqueTimeseries", 0, "Largest number of series one search may find; 0 means a number computed from the memory of the process and its CPUs")
	fs.IntVar(&c.MaxTagKeys, "search.maxTagKeys", 100_000, "Largest number of label names a search for them returns")
	fs.IntVar(&c.MaxTagValues, "search.maxTagValues", 100_000, "Largest number of label values a search for them returns")
	fs.Var(&c.HeadMaxAge, "storage.headMaxAge", "Recent samples are moved from memory to data files once the oldest have been there for this long; they are safe in the log from the start")
	fs.Var(&c.HeadMaxBytes, "storage.headMaxBytes", "Recent samples are moved from memory to data files earlier when they take more than this; 0 means a quarter of the memory the process may use")
	fs.Var(&c.LogMaxBytes, "storage.logMaxBytes", "Recent samples are moved from memory to data files earlier when the log is larger than this, since replaying it after a crash takes time")
}

// registerFeatureFlags registers the flags of what is not needed to store and find samples.
func (c *Config) registerFeatureFlags(fs *flag.FlagSet) {
	c.SnapshotsMaxAge = flagvalue.NewRetention("3d")
	fs.Var(&c.SnapshotsMaxAge, "snapshotsMaxAge", "Snapshots are deleted once they are older than this; 0 keeps them until somebody deletes them")
	fs.IntVar(&c.MaxHourlySeries, "storage.maxHourlySeries", 0, "Largest number of series with samples received in an hour; samples of others are dropped and counted; "+
		"-1 counts the series and drops nothing; 0 turns it off")
	fs.IntVar(&c.MaxDailySeries, "storage.maxDailySeries", 0, "Largest number of series with samples received in a day (UTC); samples of others are dropped and counted; "+
		"-1 counts the series and drops nothing; 0 turns it off")
	fs.BoolVar(&c.LogNewSeries, "logNewSeries", false, "Log every new series; /internal/log_new_series does it for a while")
	fs.BoolVar(&c.TrackNames, "storage.trackMetricNamesStats", true, "Count how often metrics are asked for, see /api/v1/status/metric_names_stats")
	fs.Var(&c.NameStatsBytes, "storage.cacheSizeMetricNamesStats", "Memory for counting how often metrics are asked for; 0 means a hundredth of the memory the process may use")
	fs.Var(&c.ExemplarBytes, "storage.maxExemplarsSize", "Disk space, and memory as well, for exemplars; the oldest received leave first; 0 means a hundredth of the memory the process may use")
	fs.BoolVar(&c.DenyOutsideRetention, "denyQueriesOutsideRetention", false, "Answer an error to searches which begin before -retentionPeriod, instead of leaving out what is older")
}

// Check returns what is wrong with the settings. Open does so, too.
func (c *Config) Check() error {
	switch {
	case c.DataPath == "":
		return fmt.Errorf("cannot open storage: -storageDataPath is empty; set it to a directory")
	case c.RetentionPeriod.Millis < dayMs:
		return fmt.Errorf("cannot open storage: -retentionPeriod=%s is too short; set it to at least 1d", c.RetentionPeriod.String())
	case c.FutureRetention.Millis < 2*dayMs:
		return fmt.Errorf("cannot open storage: -futureRetention=%s is too short; set it to at least 2d", c.FutureRetention.String())
	case c.DedupMinScrape < 0:
		return fmt.Errorf("cannot open storage: -dedup.minScrapeInterval=%s is negative", c.DedupMinScrape.String())
	case c.MaxHourlySeries < -1:
		return fmt.Errorf("cannot open storage: -storage.maxHourlySeries=%d is negative; -1 counts series without a limit", c.MaxHourlySeries)
	case c.MaxDailySeries < -1:
		return fmt.Errorf("cannot open storage: -storage.maxDailySeries=%d is negative; -1 counts series without a limit", c.MaxDailySeries)
	case c.HeadMaxAge.D() <= 0:
		return fmt.Errorf("cannot open storage: -storage.headMaxAge=%s is too short; the default is 1h", c.HeadMaxAge.String())
	case c.LogMaxBytes <= 0:
		return fmt.Errorf("cannot open storage: -storage.logMaxBytes=%d is too small; the default is 256MiB", c.LogMaxBytes)
	}
	return c.checkRules()
}

// Options are what the storage needs from its owner.
type Options struct {
	FS      vfs.FS // nil means that of the operating system
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget
	Now     func() time.Time // nil means time.Now
	// OnFailure, which may be nil, is called once when no samples can be taken any more until the process has been restarted,
	// since nobody knows what the disk has kept of the log. It must not wait for the storage.
	OnFailure func(reason error)
}

// bytesPerFoundSeries is what a found series is taken to need in memory while a search is going on.
const bytesPerFoundSeries = 200

// defaultMaxSeries lets the searches which run at a time share the memory.
func defaultMaxSeries(limitBytes int64) int {
	return int(max(10_000, limitBytes/int64(2*runtime.GOMAXPROCS(0))/bytesPerFoundSeries))
}
