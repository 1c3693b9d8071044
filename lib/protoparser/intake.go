package protoparser

import (
	"fmt"
	"io"
	"sync"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// Request is one write request as a parser sees it.
type Request struct {
	Body     io.Reader
	Encoding string // value of Content-Encoding
	Tenant   model.TenantID
	// TenantFromLabels takes the tenant of each series from its labels
	// vm_account_id and vm_project_id, which are removed. Missing and invalid ones count as 0.
	TenantFromLabels bool
	ExtraLabels      []model.Label // added to each series, in place of its own labels of the same name
	// Format is the format argument of CSV imports, which says what the columns are; for OTLP, what the body is.
	Format string
	// Database is the db argument of Influx writes, a label of series that have no such tag.
	Database string
	// Unit is that of timestamps of Influx lines; 0: it shows by their size.
	Unit time.Duration
	// Stream stores the lines of Influx writes as they come, without those that cannot be parsed.
	Stream bool
	// ValueBits says that values of JSON lines are the 16 hex digits of their float64, as exports with values=bits have them.
	ValueBits bool
	// Metadata stores what senders say of metrics, and keeps nothing of the list; nil when nobody wants it.
	Metadata func([]model.Metadata) error
	// Exemplars stores exemplars, and keeps nothing of the list; nil when nobody wants them.
	Exemplars func([]model.Exemplar) error
	// Starts stores when series began to count, before their samples, and keeps nothing of the list; nil when nobody wants to know.
	Starts func([]model.Start) error
	// SymbolTable says that a remote write body is the message of remote write 2.0.
	SymbolTable bool
	// DefaultTimestamp, in Unix milliseconds, is for samples which bring none.
	DefaultTimestamp int64
	// Sink stores a batch, returns when that is done, and keeps nothing of the batch.
	Sink func(*model.Batch) error
}

// Result tells what became of a request.
type Result struct {
	Rows       int // samples stored, native histograms among them
	Histograms int // native histograms stored as they are
	Converted  int // native histograms collected as samples
	Exemplars  int // stored
	Dropped    int // samples left out for their labels or values
	Invalid    int // lines, series or native histograms which could not be parsed
	// Reason tells why the first of Dropped and Invalid was left out; empty when none was.
	Reason string
}

// Options are the arguments of New.
type Options struct {
	Config  *Config
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget // the table of known series is part of it; nil means none
}

// Intake is what all parsers of a process share. It is safe for concurrent use.
type Intake struct {
	Bodies *Bodies

	config  Config
	metrics *metrics.Set
	warn    *logger.Throttle
	ignored [reasonCount]*metrics.Counter
	numbers *numbers

	relabelDropped *metrics.Counter
	collectors     sync.Pool
	lines          bytesutil.Pool

	seen            *metadataSeen
	metadataDropped *metrics.Counter

	exemplarsDropped *metrics.Counter

	starts        startsSeen
	startsDropped *metrics.Counter
	maxStartAgeMs int64
}

// New returns an intake with its counters registered.
func New(o Options) *Intake {
	in := &Intake{
		Bodies:  newBodies(int64(o.Config.MaxInsertRequestSize)),
		config:  *o.Config,
		metrics: o.Metrics,
		numbers: newNumbers(o.Budget, o.Metrics),
		warn:    logger.NewThrottle(o.Logger, 5*time.Second),
		seen:    newMetadataSeen(),

		relabelDropped:  o.Metrics.Counter("vm_relabel_metrics_dropped_total"),
		metadataDropped: o.Metrics.Counter("vm_metadata_rows_dropped_total"),

		exemplarsDropped: o.Metrics.Counter("vm_exemplars_dropped_total"),

		startsDropped: o.Metrics.Counter("vm_start_timestamps_dropped_total"),
		maxStartAgeMs: o.Config.MaxStartAge.D().Milliseconds(),
	}
	for r := range reasonCount {
		in.ignored[r] = o.Metrics.Counter(fmt.Sprintf("vm_rows_ignored_total{reason=%q}", r.String()))
	}
	return in
}

// Relabeling returns what becomes of the labels of a series, or false when the series is dropped. It may use and grow the slice, is safe for
// concurrent use, and gives the same for the same labels each time.
type Relabeling func(labels []model.Label) ([]model.Label, bool)

// SetRelabeling sets what becomes of labels in all batches begun from now on; nil leaves them alone. What is known of series is forgotten.
func (in *Intake) SetRelabeling(f Relabeling) { in.numbers.setRelabeling(f) }

// MaxImportLineLen returns the limit on lines of JSON in bytes.
func (in *Intake) MaxImportLineLen() int { return int(in.config.MaxImportLineLen) }

// NativeHistograms returns what becomes of native histograms.
func (in *Intake) NativeHistograms() HistogramMode { return in.config.NativeHistograms }

// Warnf logs a fault of the input; the log is throttled.
func (in *Intake) Warnf(format string, args ...any) { in.warn.Warnf(format, args...) }

// Ignore counts n rows which were left out.
func (in *Intake) Ignore(r Reason, n int) { in.ignored[r].Add(n) }

// Counters are the metrics of one wire format.
type Counters struct {
	ReadCalls       *metrics.Counter
	ReadErrors      *metrics.Counter
	UnmarshalErrors *metrics.Counter
	RowsRead        *metrics.Counter
	RowsInvalid     *metrics.Counter
	Metadata        *metrics.Counter
	Exemplars       *ExemplarCounters
}

// NewCounters registers the metrics of the format with the given value of the type label.
func (in *Intake) NewCounters(format string) *Counters {
	counter := func(family string) *metrics.Counter {
		return in.metrics.Counter(fmt.Sprintf("%s{type=%q}", family, format))
	}
	return &Counters{
		ReadCalls:       counter("vm_protoparser_read_calls_total"),
		ReadErrors:      counter("vm_protoparser_read_errors_total"),
		UnmarshalErrors: counter("vm_protoparser_unmarshal_errors_total"),
		RowsRead:        counter("vm_protoparser_rows_read_total"),
		RowsInvalid:     counter("vm_rows_invalid_total"),
		Metadata:        counter("vm_protoparser_metadata_read_total"),
		Exemplars:       in.NewExemplarCounters(format),
	}
}

// Reason is why rows were left out.
type Reason uint8

// The reasons. Each is a value of the reason label of vm_rows_ignored_total.
const (
	TooManyLabels Reason = iota
	TooLongLabelName
	TooLongLabelValue
	DuplicateLabelName
	EmptyLabelName
	EmptyMetricName
	NullValue
	NativeHistogram
	TooLongMetadata

	reasonCount
)

// String returns the value of the reason label.
func (r Reason) String() string {
	return [reasonCount]string{
		TooManyLabels:      "too_many_labels",
		TooLongLabelName:   "too_long_label_name",
		TooLongLabelValue:  "too_long_label_value",
		DuplicateLabelName: "duplicate_label_name",
		EmptyLabelName:     "empty_label_name",
		EmptyMetricName:    "empty_metric_name",
		NullValue:          "null_value",
		NativeHistogram:    "native_histogram",
		TooLongMetadata:    "too_long_metric_metadata_value",
	}[r]
}

// Rewrites reports whether collected series may have other labels than those which were given, besides extra labels, or be dropped.
func (in *Intake) Rewrites() bool { return in.config.PromNaming || in.numbers.relabeling() != nil }
