package influx

import (
	"flag"
	"time"

	"vmcluster/lib/flagvalue"
)

// Config holds the flags of the format.
type Config struct {
	Separator       string
	SkipMeasurement bool
	SkipSingleField bool
	DatabaseLabel   string
	TrimTimestamp   flagvalue.Duration
	MaxLineSize     flagvalue.Bytes
	MaxRequestSize  flagvalue.Bytes
	ForceStream     bool
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.Separator, "influxMeasurementFieldSeparator", "_", "What stands between measurement and field in names of metrics written by the Influx line protocol")
	fs.BoolVar(&c.SkipMeasurement, "influxSkipMeasurement", false, "Use the field alone as the name of metrics written by the Influx line protocol")
	fs.BoolVar(&c.SkipSingleField, "influxSkipSingleField", false, "Use the measurement alone as the name of metrics when an Influx line has a single field")
	fs.StringVar(&c.DatabaseLabel, "influxDBLabel", "db", "Label for the db argument of Influx writes; series with such a tag keep theirs; empty: none")
	c.TrimTimestamp = flagvalue.Duration(time.Millisecond)
	fs.Var(&c.TrimTimestamp, "influxTrimTimestamp", "Lower timestamps of Influx lines to multiples of this duration")
	c.MaxLineSize = 256 << 10
	fs.Var(&c.MaxLineSize, "influx.maxLineSize", "The largest length of an Influx line in bytes, in stream mode and at -influxListenAddr; longer lines are skipped and counted in vm_rows_invalid_total")
	c.MaxRequestSize = 64 << 20
	fs.Var(&c.MaxRequestSize, "influx.maxRequestSize", "The largest size of an Influx write in bytes, after decompression; stream mode has none")
	fs.BoolVar(&c.ForceStream, "influx.forceStreamMode", false,
		"Store the lines of Influx writes as they come, without those that cannot be parsed, instead of refusing a request which has one; a request asks for it with the header Stream-Mode: 1")
}
