package fragment

import (
	"slices"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// Fragment is an aggregate over a rollup over the series of a search. Times are in milliseconds.
type Fragment struct {
	Search model.SearchQuery

	// Function is the rollup, with its string arguments and its numbers: one value per evaluation time for each argument.
	Function string
	Texts    []string
	Args     [][]float64
	// KeepName keeps metric names in the results of the rollup.
	KeepName bool

	Start, End, Step int64
	Window           int64
	Lookback         int64
	MinStaleness     int64
	KeepStaleMarkers bool
	// DedupIntervalMs is the width of the buckets of which only the newest sample counts; 0 means that all do.
	DedupIntervalMs int64

	Aggregate string
	Grouping  Grouping
	Labels    []string // of the grouping

	// MaxSamples and MaxSamplesPerSeries bound what is read; 0 means no limit.
	MaxSamples          int
	MaxSamplesPerSeries int

	// Exclude are the fingerprints, ascending, of series that are not to be aggregated
	// but handed over as they are stored.
	Exclude []uint32
}

// Grouping says by which labels an aggregate groups.
type Grouping uint8

// The groupings.
const (
	GroupNone Grouping = iota
	GroupBy
	GroupWithout
)

// Points returns the number of evaluation times.
func (f *Fragment) Points() int { return int((f.End-f.Start)/f.Step) + 1 }

// Group is what the aggregate has come to for one group, with one value per evaluation time in
// each column. Where Counts is 0 there is no value.
type Group struct {
	First  []byte // key of the first series with a value: groups are put in the order of these
	Name   string
	Labels []model.Label
	Counts []float64 // how many values there were
	Values []float64
	// Rests are what is missing in Values to the exact sums; empty for aggregates that are no sums.
	Rests []float64
}

// Series is a series as it is stored.
type Series struct {
	Key    []byte // canonical series key
	Blocks []tsblock.Block
}

// Result is what a fragment has come to in one store.
type Result struct {
	Groups []Group
	// Fingerprints are those of the series that were aggregated, ascending.
	Fingerprints []uint32
	// Excluded are the series of Fragment.Exclude, by ascending key.
	Excluded []Series
	// SeriesRead and SamplesRead are what was aggregated.
	SeriesRead  int
	SamplesRead int
}

// Fingerprint returns the fingerprint of a series by its canonical key.
func Fingerprint(key []byte) uint32 { return uint32(xxhash.Sum64(key)) }

// Shared returns what two or more of the ascending lists have in common, ascending.
func Shared(lists [][]uint32) []uint32 {
	var shared []uint32
	var union []uint32
	for _, list := range lists {
		next := make([]uint32, 0, len(union)+len(list))
		i, j := 0, 0
		for i < len(union) || j < len(list) {
			switch {
			case j == len(list) || i < len(union) && union[i] < list[j]:
				next = append(next, union[i])
				i++
			case i == len(union) || list[j] < union[i]:
				next = append(next, list[j])
				j++
			default:
				shared = append(shared, list[j])
				i++ // the other one stays, for a store may have a fingerprint twice
			}
		}
		union = next
	}
	slices.Sort(shared)
	return slices.Compact(shared)
}

// Excludes reports whether the series is one of those handed over as they are.
func (f *Fragment) Excludes(fingerprint uint32) bool {
	if len(f.Exclude) == 0 {
		return false
	}
	_, found := slices.BinarySearch(f.Exclude, fingerprint)
	return found
}
