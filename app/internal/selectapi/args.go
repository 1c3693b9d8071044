package selectapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
)

// The allowed range of the step argument, in milliseconds: up to 100 years.
const (
	minStepMs = 1
	maxStepMs = 100 * 365 * 24 * 3600 * 1000
)

const defaultStepMs = 5 * 60 * 1000

// timeArg returns the time argument with the given name, or def when missing.
func timeArg(r *http.Request, name string, def int64, now time.Time) (int64, error) {
	s := r.Form.Get(name)
	if s == "" {
		return def, nil
	}
	ms, err := parseTime(s, now)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "cannot parse %s=%s: %w", name, s, err)
	}
	return ms, nil
}

// durationArg returns the duration argument with the given name in milliseconds, or nil when missing.
func durationArg(r *http.Request, name string) (*int64, error) {
	s := r.Form.Get(name)
	if s == "" {
		return nil, nil
	}
	f, err := parseDuration(s)
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot parse %q=%q: %w", name, s, err)
	}
	ms := int64(min(max(f, -maxTimeMs), maxTimeMs))
	return &ms, nil
}

// stepArg returns the step argument in milliseconds, or the default of 5 minutes.
func stepArg(r *http.Request) (int64, error) {
	s := r.Form.Get("step")
	if s == "" {
		return defaultStepMs, nil
	}
	ms, err := parseDuration(s)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "cannot parse %q=%q: %w", "step", s, err)
	}
	if ms < minStepMs || ms > maxStepMs {
		return 0, errkind.New(errkind.BadRequest, "step=%dms is out of allowed range [%dms ... %dms]", int64(ms), int64(minStepMs), int64(maxStepMs))
	}
	return int64(ms), nil
}

// intArg returns the integer argument with the given name, or def when missing.
func intArg(r *http.Request, name string, def int) (int, error) {
	s := r.Form.Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "cannot parse integer %q=%q: %w", name, s, err)
	}
	return n, nil
}

// boolArg reports whether the argument asks for something.
func boolArg(r *http.Request, name string) bool {
	switch strings.ToLower(r.Form.Get(name)) {
	case "", "0", "f", "false", "no":
		return false
	}
	return true
}

// timeoutArg returns how long the request may run: the limit, or less when the
// timeout argument says so.
func timeoutArg(r *http.Request, limit time.Duration) (time.Duration, error) {
	ms, err := durationArg(r, "timeout")
	if err != nil {
		return 0, err
	}
	if ms == nil || *ms <= 0 {
		return limit, nil
	}
	return min(limit, time.Duration(*ms)*time.Millisecond), nil
}

// parseSelector parses a series selector into filter sets.
func parseSelector(s string) ([][]model.TagFilter, error) {
	expr, err := metricsql.Parse(s)
	if err != nil {
		return nil, err
	}
	selector, ok := expr.(*metricsql.MetricExpr)
	if !ok {
		return nil, errkind.New(errkind.BadRequest, "expecting metricSelector; got %q", s)
	}
	return selector.FilterSets, nil
}

// matchArgs returns the filter sets of all match[] arguments together.
func matchArgs(r *http.Request) ([][]model.TagFilter, error) {
	var sets [][]model.TagFilter
	for _, s := range append(r.Form["match[]"], r.Form["match"]...) {
		filters, err := parseSelector(s)
		if err == nil && !hasFilter(filters) {
			err = errkind.New(errkind.BadRequest, "the selector has no filters; at least one is needed")
		}
		if err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot parse matches[]=%s: %w", s, err)
		}
		sets = append(sets, filters...)
	}
	return sets, nil
}

func hasFilter(sets [][]model.TagFilter) bool {
	for _, set := range sets {
		if len(set) == 0 {
			return false
		}
	}
	return len(sets) > 0
}

// enforcedFilters returns the filters which extra_label and extra_filters[]
// demand of every selector: any of the sets must hold, each with all extra labels.
func enforcedFilters(r *http.Request) ([][]model.TagFilter, error) {
	var labels []model.TagFilter
	for _, s := range r.Form["extra_label"] {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, errkind.New(errkind.BadRequest, "`extra_label` query arg must have the format `name=value`; got %q", s)
		}
		labels = append(labels, model.TagFilter{Name: name, Value: value, Op: model.Equal})
	}
	var sets [][]model.TagFilter
	for _, s := range append(r.Form["extra_filters"], r.Form["extra_filters[]"]...) {
		filters, err := parseSelector(s)
		if err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot parse extra_filters=%s: %w", s, err)
		}
		for _, set := range filters {
			sets = append(sets, join(set, labels))
		}
	}
	if len(sets) == 0 && len(labels) > 0 {
		sets = [][]model.TagFilter{labels}
	}
	return sets, nil
}

// searchFilters returns the filter sets of all match[] arguments, each with what extra_label and extra_filters[] demand.
func searchFilters(r *http.Request) ([][]model.TagFilter, error) {
	sets, err := matchArgs(r)
	if err != nil {
		return nil, err
	}
	enforced, err := enforcedFilters(r)
	return combine(sets, enforced), err
}

// selected is searchFilters for requests which must select something.
func selected(r *http.Request) ([][]model.TagFilter, error) {
	if len(r.Form["match[]"])+len(r.Form["match"]) == 0 {
		return nil, errkind.New(errkind.BadRequest, "missing `match[]` arg")
	}
	return searchFilters(r)
}

// join returns the filters of both lists in a new slice.
func join(a, b []model.TagFilter) []model.TagFilter {
	return append(append(make([]model.TagFilter, 0, len(a)+len(b)), a...), b...)
}

// combine returns the sets which demand one of a and one of b.
func combine(a, b [][]model.TagFilter) [][]model.TagFilter {
	if len(b) == 0 {
		return a
	}
	if len(a) == 0 {
		return b
	}
	var sets [][]model.TagFilter
	for _, x := range a {
		for _, y := range b {
			sets = append(sets, join(x, y))
		}
	}
	return sets
}

// parseMetadataQuery builds the search query of the series and labels APIs. Without
// start, it covers the current day (UTC).
func parseMetadataQuery(r *http.Request, t scope, now time.Time) (*model.SearchQuery, error) {
	const dayMs = 24 * 3600 * 1000
	nowMs := now.UnixMilli()
	end, err := timeArg(r, "end", nowMs, now)
	if err != nil {
		return nil, err
	}
	start, err := timeArg(r, "start", nowMs-nowMs%dayMs, now)
	if err != nil {
		return nil, err
	}
	filters, err := searchFilters(r)
	if err != nil {
		return nil, err
	}
	return &model.SearchQuery{
		Tenant:     t.tenant,
		AllTenants: t.all,
		Range:      model.TimeRange{Min: start, Max: max(start, end)},
		Filters:    filters,
		KeysOnly:   true,
	}, nil
}
