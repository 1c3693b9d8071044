package query

import (
	"regexp"
	"slices"
	"strings"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

// maxPushedBytes bounds the text of a filter made of values.
const maxPushedBytes = 16 << 10

// narrow returns the side of an operator which is evaluated second, with filters for the values that the labels in on() have in the
// first: series without a partner would be dropped anyway. Selectors that occur twice in the query stay as they are, since they
// are read once for all.
func (ev *evaluation) narrow(x *metricsql.BinaryExpr, second metricsql.Expr, first []*vector.Series) metricsql.Expr {
	if x.Op == "default" || x.Op == "ifnot" {
		return second // it may be a series without labels, which counts for all
	}
	toLeft, toRight := sharing(x)
	if x.Match != metricsql.MatchOn || second == x.Left && !toLeft || second == x.Right && !toRight || ev.readsShared(second) {
		return second
	}
	var filters []model.TagFilter
	for _, name := range x.MatchLabels {
		if f, ok := ev.valuesFilter(name, first); ok {
			filters = append(filters, f)
		}
	}
	return push(second, filters)
}

// readsShared reports whether an expression has a selector that stands elsewhere as well.
func (ev *evaluation) readsShared(e metricsql.Expr) bool {
	found := false
	metricsql.Visit(e, func(e metricsql.Expr) bool {
		if m, ok := e.(*metricsql.MetricExpr); ok && !found {
			found = ev.uses[metricsql.String(m)] > 1
		}
		return !found
	})
	return found
}

// valuesFilter returns the filter that lets the values of a label pass; false if there are too many, or if a series lacks the label.
func (ev *evaluation) valuesFilter(name string, series []*vector.Series) (model.TagFilter, bool) {
	f := model.TagFilter{Name: name}
	if name == model.MetricNameLabel || len(series) == 0 {
		return f, false
	}
	most, bytes := ev.e.cfg.MaxPushedLabelValues, 0
	seen := map[string]struct{}{}
	for _, s := range series {
		i, found := slices.BinarySearchFunc(s.Labels, name, func(l model.Label, name string) int { return strings.Compare(l.Name, name) })
		if !found || s.Labels[i].Value == "" {
			return f, false
		}
		v := s.Labels[i].Value
		if _, known := seen[v]; known {
			continue
		}
		seen[v] = struct{}{}
		if bytes += len(v); len(seen) > most || bytes > maxPushedBytes {
			return f, false
		}
	}
	values := make([]string, 0, len(seen))
	for v := range seen {
		values = append(values, v)
	}
	if len(values) == 1 {
		f.Value = values[0]
		return f, true
	}
	slices.Sort(values)
	for i, v := range values {
		values[i] = regexp.QuoteMeta(v)
	}
	f.Op, f.Value = model.Regexp, strings.Join(values, "|")
	return f, true
}
