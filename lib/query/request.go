package query

import (
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

// Request is a query to evaluate. All times are in milliseconds.
type Request struct {
	Tenant model.TenantID
	// AllTenants reads the series of all tenants, whatever Tenant is; see model.SearchQuery.
	AllTenants bool
	Query      string
	// Start and End are the range. An instant query is evaluated at Start and ignores End.
	Start int64
	End   int64
	// Step is the distance of evaluation times; 0 means 5 minutes, or the
	// lookback for instant queries with one.
	Step int64
	// NoCache turns off everything that makes an answer depend on more than the data and the
	// range as given: alignment of range queries and the latency offset of instant queries.
	NoCache bool
	// NoPushDown has all series read as they are stored, even where storage could aggregate them.
	NoPushDown bool
	// RoundDigits is the number of decimals to round answers to; nil means no rounding.
	RoundDigits *int
	// LatencyOffset overrides -search.latencyOffset.
	LatencyOffset *int64
	// MaxLookback overrides -search.maxLookback; 0 means that the lookback is unlimited.
	MaxLookback *int64
	// EnforcedFilters are sets of filters of which every selected series passes at least one; none means no enforcement.
	EnforcedFilters [][]model.TagFilter
	// HoldMemory keeps the memory of the result reserved until its Release is called.
	HoldMemory bool
}

// ResultType is the shape of a result.
type ResultType uint8

// The shapes of results.
const (
	// Vector has one point per series.
	Vector ResultType = iota
	// Matrix has any number of points per series.
	Matrix
)

// String returns the name of the shape in answers.
func (t ResultType) String() string {
	if t == Matrix {
		return "matrix"
	}
	return "vector"
}

// Result is the answer to a query.
type Result struct {
	Type ResultType
	// Series are in their final order. None is without points.
	Series []ResultSeries
	// Raw is set when the answer is stored samples as they are, not an evaluation.
	Raw bool
	// Partial is set when stored data may be missing from the answer.
	Partial bool
	// SeriesFetched is the number of series read from the source.
	SeriesFetched int
	// SamplesRead is the number of samples read from the source.
	SamplesRead int
	// MemoryBytes is the most memory for samples and results that the query had reserved at a time.
	MemoryBytes int64
	// Grid is the evaluated range after alignment.
	Grid vector.Grid

	budget *memory.Budget
	held   int64 // bytes
}

// Release gives back the memory of the result, which is not used any more. It may be called on nil, and again.
func (r *Result) Release() {
	if r != nil && r.held > 0 {
		r.budget.Release(r.held)
		r.held = 0
	}
}

// ResultSeries is a series of an answer.
type ResultSeries struct {
	// Labels are the metric name as __name__, if there is one, then the others by ascending name. Series may share them.
	Labels     []model.Label
	Timestamps []int64
	Values     []float64 // never NaN
}
