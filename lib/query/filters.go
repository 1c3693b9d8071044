package query

import (
	"regexp"
	"slices"
	"strings"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
)

const graphiteLabel = "__graphite__"

// filters returns the filter sets to search by. None means that nothing is selected: a set
// without filters is most often a mistake, and would read the whole database.
func (ev *evaluation) filters(m *metricsql.MetricExpr) [][]model.TagFilter {
	var sets [][]model.TagFilter
	for _, set := range m.FilterSets {
		if len(set) == 0 {
			continue
		}
		set = expandGraphite(withoutVoid(set))
		if len(ev.req.EnforcedFilters) == 0 {
			sets = append(sets, set)
		}
		for _, enforced := range ev.req.EnforcedFilters {
			sets = append(sets, slices.Concat(set, enforced))
		}
	}
	return sets
}

// withoutVoid replaces l!~".*", which nothing can match, by what is meant most likely: the
// series without the label.
func withoutVoid(set []model.TagFilter) []model.TagFilter {
	isVoid := func(f model.TagFilter) bool { return f.Op == model.NotRegexp && f.Value == ".*" }
	if !slices.ContainsFunc(set, isVoid) {
		return set
	}
	set = slices.Clone(set)
	for i, f := range set {
		if isVoid(f) {
			set[i] = model.TagFilter{Name: f.Name, Op: model.Equal}
		}
	}
	return set
}

// expandGraphite turns filters on the pseudo label __graphite__ into filters on the metric name.
func expandGraphite(set []model.TagFilter) []model.TagFilter {
	isGraphite := func(f model.TagFilter) bool { return f.Name == graphiteLabel }
	if !slices.ContainsFunc(set, isGraphite) {
		return set
	}
	set = slices.Clone(set)
	for i, f := range set {
		if !isGraphite(f) {
			continue
		}
		op := model.Regexp
		if f.Op == model.NotEqual || f.Op == model.NotRegexp {
			op = model.NotRegexp
		}
		set[i] = model.TagFilter{Name: model.MetricNameLabel, Value: graphiteRegexp(f.Value), Op: op}
	}
	return set
}

// graphiteRegexp translates a path with *, ?, [abc] and {a,b}. Wildcards do not match dots. A
// path which is not well-formed stands for itself.
func graphiteRegexp(path string) string {
	re := translateGraphite(path)
	if _, err := regexp.Compile(re); err != nil {
		return regexp.QuoteMeta(strings.ToValidUTF8(path, "\uFFFD"))
	}
	return re
}

func translateGraphite(path string) string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '*':
			b.WriteString("[^.]*")
		case '?':
			b.WriteString("[^.]")
		case '{':
			depth++
			b.WriteString("(?:")
		case '}':
			depth--
			b.WriteByte(')')
		case ',':
			b.WriteByte(",|"[btoi(depth > 0)])
		case '[':
			end := strings.IndexByte(path[i:], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString(path[i : i+end+1])
			i += end
		default:
			if strings.IndexByte(`\.+()|^$}]`, c) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
