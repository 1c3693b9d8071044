package otlp

import (
	"flag"
	"slices"
	"strings"

	"github.com/prometheus/otlptranslator"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
)

// Config holds the flags of the format.
type Config struct {
	MaxRequestSize    flagvalue.Bytes
	PrometheusNaming  bool // of metrics and labels
	PrometheusMetrics bool // of metrics only
	UnderscoreKeys    bool
	PromoteAll        bool
	Promote           flagvalue.Strings
	Ignore            flagvalue.Strings
	PromoteScope      bool
	StartTimestamps   bool
	NativeHistograms  bool
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.MaxRequestSize = 64 << 20
	fs.Var(&c.MaxRequestSize, "opentelemetry.maxRequestSize", "The largest size of an OTLP request in bytes, after decompression")
	fs.BoolVar(&c.PrometheusNaming, "opentelemetry.usePrometheusNaming", false,
		"Turn names of OTLP metrics and labels into those which Prometheus gives them, with units and _total: http.server.duration in s becomes http_server_duration_seconds")
	fs.BoolVar(&c.PrometheusMetrics, "opentelemetry.convertMetricNamesToPrometheus", false, "The same for names of metrics only")
	fs.BoolVar(&c.UnderscoreKeys, "opentelemetry.labelNameUnderscoreSanitization", true,
		"With -opentelemetry.usePrometheusNaming, put key before names of labels that begin with one underscore")
	fs.BoolVar(&c.PromoteAll, "opentelemetry.promoteAllResourceAttributes", true, "Make labels of all attributes of OTLP resources but those in -opentelemetry.ignoreResourceAttributes")
	fs.Var(&c.Promote, "opentelemetry.promoteResourceAttributes",
		"Attributes of OTLP resources to make labels of without -opentelemetry.promoteAllResourceAttributes; may be given more than once or with commas")
	fs.Var(&c.Ignore, "opentelemetry.ignoreResourceAttributes", "Attributes of OTLP resources to make no labels of; may be given more than once or with commas")
	fs.BoolVar(&c.StartTimestamps, "opentelemetry.startTimestamps", false, "Store the value 0 at the time when a cumulative sum or histogram began, see -startTimestamps.maxAge")
	fs.BoolVar(&c.NativeHistograms, "opentelemetry.nativeHistograms", false,
		"Store exponential histograms of OTLP as native histograms, and not as samples of <name>_bucket with the label vmrange, <name>_count and <name>_sum")
	fs.BoolVar(&c.PromoteScope, "opentelemetry.promoteScopeMetadata", true, "Make the labels scope.name, scope.version and scope.attributes.* of OTLP scopes")
}

// promotes reports whether an attribute of a resource becomes a label.
func (c *Config) promotes(name string) bool {
	if c.PromoteAll {
		return !slices.Contains(c.Ignore, name)
	}
	return slices.Contains(c.Promote, name)
}

// metricName returns the name which a metric is stored under; empty when there is none, so that its series are left out as nameless.
func (c *Config) metricName(m *metric) string {
	if !c.PrometheusNaming && !c.PrometheusMetrics {
		return m.name
	}
	namer := otlptranslator.MetricNamer{WithMetricSuffixes: true}
	name, err := namer.Build(otlptranslator.Metric{Name: strings.Clone(m.name), Unit: strings.Clone(m.unit), Type: m.translated()})
	if err != nil {
		return ""
	}
	return name
}

func (m *metric) translated() otlptranslator.MetricType {
	switch m.kind {
	case sum:
		if m.monotonic {
			return otlptranslator.MetricTypeMonotonicCounter
		}
		return otlptranslator.MetricTypeNonMonotonicCounter
	case gauge:
		return otlptranslator.MetricTypeGauge
	case histogram:
		return otlptranslator.MetricTypeHistogram
	case exponential:
		return otlptranslator.MetricTypeExponentialHistogram
	case summary:
		return otlptranslator.MetricTypeSummary
	}
	return otlptranslator.MetricTypeUnknown
}

// labelNames gives labels the names which they are stored under; those that can have none lose theirs.
func (c *Config) labelNames(labels []model.Label) {
	if !c.PrometheusNaming {
		return
	}
	namer := otlptranslator.LabelNamer{UnderscoreLabelSanitization: c.UnderscoreKeys, PreserveMultipleUnderscores: true}
	for i := range labels {
		name, err := namer.Build(labels[i].Name)
		if err != nil {
			name = ""
		}
		labels[i].Name = name
	}
}
