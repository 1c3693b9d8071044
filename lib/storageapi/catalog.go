package storageapi

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// Catalog is about the series themselves: deleting them, counting them, and which of them are asked for.
type Catalog interface {
	// DeleteSeries deletes the series, with all their samples, that the tenant and the filters of q select; the
	// range of q is not looked at. It returns how many were deleted, in each store that held them, once the deletion
	// is durable and no search finds them any more. Samples that are ingested after the return make new series. More
	// than q.MaxSeries (0: no limit) is an error of kind Unprocessable, and nothing is deleted then. After another
	// error some may have been deleted; the same call may be made again.
	DeleteSeries(ctx context.Context, q *model.SearchQuery) (int, error)

	// SeriesCount returns the number of series of a tenant, over all time.
	SeriesCount(ctx context.Context, tenant model.TenantID) (Count, error)

	// Status counts the series that q selects by names and values of their labels.
	Status(ctx context.Context, q *StatusQuery) (Status, error)

	// NameStats tells how often metrics have been asked for, the least asked for first.
	NameStats(ctx context.Context, q *NameStatsQuery) (NameStats, error)

	// ResetNameStats starts counting anew, for all tenants.
	ResetNameStats(ctx context.Context) error
}

// Count is a number with its coverage.
type Count struct {
	Value    uint64
	Coverage Coverage
}

// StatusQuery asks for a Status.
type StatusQuery struct {
	// Search selects the series by the days of its range.
	Search model.SearchQuery
	// FocusLabel is the label whose values are counted in SeriesByFocusLabelValue; none when empty.
	FocusLabel string
	// TopN is the length of the lists, at least 1.
	TopN int
}

// Status tells what series are made of. The lists have the largest counts first, and names in order within a count.
type Status struct {
	TotalSeries     uint64
	TotalLabelPairs uint64 // the sum of the numbers of labels of all series

	SeriesByMetricName      []StatusEntry
	SeriesByLabelName       []StatusEntry
	SeriesByFocusLabelValue []StatusEntry
	SeriesByLabelPair       []StatusEntry // names are label=value
	ValuesByLabelName       []StatusEntry // distinct values

	Coverage Coverage
}

// StatusEntry is a name with a count.
type StatusEntry struct {
	Name  string
	Count uint64
	// Usage is set in SeriesByMetricName, when it is counted.
	Usage Usage
}

// Usage tells how often a metric was asked for.
type Usage struct {
	Requests        uint64
	LastRequestSecs int64 // Unix seconds; 0 for never
}

// Merge adds what another store counted.
func (u *Usage) Merge(other Usage) {
	// Every store is asked by every query, so the numbers tell of the same queries.
	u.Requests = max(u.Requests, other.Requests)
	u.LastRequestSecs = max(u.LastRequestSecs, other.LastRequestSecs)
}

// NameStatsQuery asks for NameStats.
type NameStatsQuery struct {
	Tenant model.TenantID
	// AllTenants asks for the sums over all tenants, whatever Tenant is. Only package multitenant answers it.
	AllTenants bool
	// Limit is the largest number of records; 0 means all.
	Limit int
	// MaxRequests leaves out metrics which were asked for more often; negative means no limit.
	MaxRequests int
	// Pattern is a regular expression (RE2) which a part of the name must match; empty for all.
	Pattern string
}

// NameStats tells how often metrics have been asked for.
type NameStats struct {
	SinceSecs    int64  // Unix seconds: when counting began
	Tracked      uint64 // number of metrics, of all tenants, which are known to have been asked for
	MaxBytes     uint64 // of memory the counters may take
	CurrentBytes uint64
	Records      []NameRecord // by Usage.Requests, then by name
	Coverage     Coverage
}

// NameRecord is the usage of a metric.
type NameRecord struct {
	Name  string
	Usage Usage
}

// Select returns the records of usage that q asks for, of a tenant's metrics, in their order. The error is of kind BadRequest
// when the pattern is none.
func (q *NameStatsQuery) Select(usage map[string]Usage) ([]NameRecord, error) {
	pattern, err := regexp.Compile(q.Pattern)
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "match_pattern=%q must be valid regex: %w", q.Pattern, err)
	}
	var out []NameRecord
	for name, u := range usage {
		if pattern.MatchString(name) && (q.MaxRequests < 0 || u.Requests <= uint64(q.MaxRequests)) {
			out = append(out, NameRecord{Name: name, Usage: u})
		}
	}
	slices.SortFunc(out, func(a, b NameRecord) int {
		return cmp.Or(cmp.Compare(a.Usage.Requests, b.Usage.Requests), strings.Compare(a.Name, b.Name))
	})
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out, nil
}

// CompareStatusEntries orders entries by falling count, then by name.
func CompareStatusEntries(a, b StatusEntry) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Name, b.Name))
}

// StatusMargin is how long the lists of the parts of a sum are to be at least, since a name may be on top of the sum and of no part.
const StatusMargin = 1000

// MergeStatus adds up what several stores or tenants counted. Values of a label which several of them have count as often. The lists are cut to topN.
func MergeStatus(list []Status, topN int) Status {
	var out Status
	for i := range list {
		out.TotalSeries += list[i].TotalSeries
		out.TotalLabelPairs += list[i].TotalLabelPairs
	}
	sum := func(pick func(s *Status) []StatusEntry) []StatusEntry {
		return sumEntries(list, topN, pick)
	}
	out.SeriesByMetricName = sum(func(s *Status) []StatusEntry { return s.SeriesByMetricName })
	out.SeriesByLabelName = sum(func(s *Status) []StatusEntry { return s.SeriesByLabelName })
	out.SeriesByFocusLabelValue = sum(func(s *Status) []StatusEntry { return s.SeriesByFocusLabelValue })
	out.SeriesByLabelPair = sum(func(s *Status) []StatusEntry { return s.SeriesByLabelPair })
	out.ValuesByLabelName = sum(func(s *Status) []StatusEntry { return s.ValuesByLabelName })
	return out
}

func sumEntries(list []Status, topN int, pick func(s *Status) []StatusEntry) []StatusEntry {
	sums := map[string]*StatusEntry{}
	for i := range list {
		for _, e := range pick(&list[i]) {
			known := sums[e.Name]
			if known == nil {
				known = &StatusEntry{Name: e.Name}
				sums[e.Name] = known
			}
			known.Count += e.Count
			known.Usage.Merge(e.Usage)
		}
	}
	out := make([]StatusEntry, 0, len(sums))
	for _, e := range sums {
		out = append(out, *e)
	}
	slices.SortFunc(out, CompareStatusEntries)
	return out[:min(topN, len(out))]
}
