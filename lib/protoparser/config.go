package protoparser

import (
	"flag"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
)

// Config holds the limits on what is written.
type Config struct {
	MaxLabelsPerSeries   int
	MaxLabelNameLen      int             // bytes
	MaxLabelValueLen     int             // bytes
	MaxInsertRequestSize flagvalue.Bytes // of a remote write body, before and after decompression
	MaxImportLineLen     flagvalue.Bytes
	PromNaming           bool
	NativeHistograms     HistogramMode
	MaxStartAge          flagvalue.Duration
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.IntVar(&c.MaxLabelsPerSeries, "maxLabelsPerTimeseries", 40,
		"The largest number of labels a series may have, its name included; a series with more is dropped and counted in vm_rows_ignored_total{reason=\"too_many_labels\"}; 0 means no limit")
	fs.IntVar(&c.MaxLabelNameLen, "maxLabelNameLen", 256,
		"The largest length of a label name in bytes; a series with a longer one is dropped and counted in vm_rows_ignored_total{reason=\"too_long_label_name\"}; 0 means no limit")
	fs.IntVar(&c.MaxLabelValueLen, "maxLabelValueLen", 4096,
		"The largest length of a label value in bytes; a series with a longer one is dropped and counted in vm_rows_ignored_total{reason=\"too_long_label_value\"}; 0 means no limit")
	c.MaxInsertRequestSize = 32 << 20
	fs.Var(&c.MaxInsertRequestSize, "maxInsertRequestSize", "The largest size of a remote write request in bytes, before and after decompression")
	fs.BoolVar(&c.PromNaming, "usePromCompatibleNaming", false,
		"Replace characters which Prometheus does not allow in names of metrics and labels by underscores, so that foo.bar{a.b=\"c\"} becomes foo_bar{a_b=\"c\"}")
	fs.Var(&c.NativeHistograms, "nativeHistograms",
		"What becomes of native histograms which come by Prometheus remote write: store keeps them as they are; vmrange stores their buckets as samples of "+
			"<name>_bucket with the label vmrange, and <name>_count and <name>_sum; drop leaves them out and counts them in vm_rows_ignored_total{reason=\"native_histogram\"}")
	c.MaxStartAge = flagvalue.Duration(time.Hour)
	fs.Var(&c.MaxStartAge, "startTimestamps.maxAge",
		"Store the value 0 at the time when a counter began, which remote write 2.0 tells, and OTLP with -opentelemetry.startTimestamps, if that is no longer before its first sample; 0 turns it off")
	c.MaxImportLineLen = 10 << 20
	fs.Var(&c.MaxImportLineLen, "import.maxLineLen", "The largest length of a line in bytes at /api/v1/import; longer lines are skipped and counted in vm_rows_invalid_total")
}

// HistogramMode says what becomes of native histograms.
type HistogramMode uint8

// The modes.
const (
	StoreHistograms HistogramMode = iota
	RangeHistograms               // as samples of buckets with vmrange
	DropHistograms

	histogramModes = 3
)

// String returns the mode as a flag has it.
func (m *HistogramMode) String() string {
	return [histogramModes]string{"store", "vmrange", "drop"}[*m]
}

// Set implements flag.Value.
func (m *HistogramMode) Set(s string) error {
	for *m = range histogramModes {
		if m.String() == s {
			return nil
		}
	}
	*m = StoreHistograms
	return errkind.New(errkind.BadRequest, "cannot parse %q: want store, vmrange or drop", s)
}
