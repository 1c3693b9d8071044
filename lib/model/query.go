package model

import (
	"fmt"
	"time"
)

// TimeRange is a range of Unix times in milliseconds, both ends included.
type TimeRange struct {
	Min int64
	Max int64
}

// Contains reports whether t lies in the range.
func (r TimeRange) Contains(t int64) bool { return r.Min <= t && t <= r.Max }

// Overlaps reports whether the ranges share at least one millisecond.
func (r TimeRange) Overlaps(o TimeRange) bool { return r.Min <= o.Max && o.Min <= r.Max }

// String renders the range for messages.
func (r TimeRange) String() string {
	const form = "2006-01-02T15:04:05.000Z"
	return "[" + time.UnixMilli(r.Min).UTC().Format(form) + ".." + time.UnixMilli(r.Max).UTC().Format(form) + "]"
}

// FilterOp is the comparison of a tag filter.
type FilterOp uint8

// The comparisons. Their numbers are part of the select protocol.
const (
	Equal     FilterOp = 0
	NotEqual  FilterOp = 1
	Regexp    FilterOp = 2
	NotRegexp FilterOp = 3
)

// String returns the operator as written in queries.
func (op FilterOp) String() string {
	switch op {
	case Equal:
		return "="
	case NotEqual:
		return "!="
	case Regexp:
		return "=~"
	case NotRegexp:
		return "!~"
	}
	return fmt.Sprintf("op(%d)", uint8(op))
}

// TagFilter selects series by one label. A missing label counts as the empty
// value. Regular expressions are RE2 and match the whole value. The
// metric name is the label MetricNameLabel.
type TagFilter struct {
	Name  string
	Value string
	Op    FilterOp
}

// String renders the filter as written in queries.
func (f TagFilter) String() string { return f.Name + f.Op.String() + quote(f.Value) }

// Aspect is what a search wants of samples which have been downsampled: the ones that were kept, or what is known of
// all that there were. Ranges which are not downsampled have the same samples under every aspect.
type Aspect uint8

// The aspects. Their numbers are part of the select protocol.
const (
	AspectSamples Aspect = 0 // real samples
	AspectMin     Aspect = 1 // the lowest number of each interval
	AspectMax     Aspect = 2
	AspectSum     Aspect = 3
	AspectCount   Aspect = 4 // how many numbers each interval had
	AspectMean    Aspect = 5 // sums and counts, as blocks of their own
)

// Detail is how much of the samples of a series a reader looks at. It is a hint: storage may always answer with more.
type Detail uint8

// The details. Their numbers are part of the select protocol.
const (
	// AllSamples is every sample in the range.
	AllSamples Detail = 0
	// NewestSample is the newest sample in the range. Older ones may be left out, unless the newest is a NaN other than a staleness marker.
	NewestSample Detail = 1
	// NewestKind is NewestSample, but the reader does not look at the value beyond whether it is NaN: a number may stand for another.
	NewestKind Detail = 2
)

// Histograms is whether a search wants native histograms besides samples.
type Histograms uint8

// The choices. Their numbers are part of the select protocol.
const (
	NoHistograms   Histograms = 0 // samples only
	WithHistograms Histograms = 1 // the native histograms of the series which the filters select
	// HistogramParts is WithHistograms, and besides the native histograms which the filters select by the name of one of their parts: as if the metric x
	// were called x_bucket, x_count and x_sum as well, and had any value of the label vmrange.
	HistogramParts Histograms = 2
)

// SearchQuery selects series, and their samples, of one tenant. A series is
// selected when it has a sample within Range and passes all filters of at
// least one set in Filters. Storage decides by block headers, so series whose
// blocks span the range without a sample in it may be among the answers; the
// reader drops them. No sets, or an empty set, select every series.
type SearchQuery struct {
	Tenant  TenantID
	Range   TimeRange
	Filters [][]TagFilter
	// MaxSeries is the largest number of series the answer may have; more is an
	// error of kind Unprocessable. 0 leaves it to the storage's own limit.
	MaxSeries int
	// Detail tells what the reader looks at.
	Detail Detail
	// KeysOnly asks for keys without samples. Storage may then answer by the
	// days in which series were active instead of by the millisecond.
	KeysOnly bool
	// Aspect is what is wanted of downsampled samples.
	Aspect Aspect
	// Histograms is whether blocks of native histograms are part of the answer.
	Histograms Histograms
	// AllTenants asks for the series of all tenants, whatever Tenant is. They have the labels AccountLabel and ProjectLabel besides
	// their own, which filters may name, and come tenant by tenant. Only package multitenant answers it.
	AllTenants bool
}
