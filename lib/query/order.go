package query

import (
	"cmp"
	"slices"
	"strings"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/vector"
)

// Answers are ordered by name, then label by label. Labels are compared in the order
// in which they came to be: those of the stored series first, by name without regard to
// case, then those which functions added. So series made of one input are answered next to each other.

// tracker notices labels that a node adds.
type tracker struct {
	ev     *evaluation
	before map[string]struct{}
}

// track is called with the inputs of a node before they are handed over. It returns nil for
// nodes that cannot add labels.
func (ev *evaluation) track(expr metricsql.Expr, inputs ...[]*vector.Series) *tracker {
	if !addsLabels(expr) {
		return nil
	}
	t := &tracker{ev: ev, before: map[string]struct{}{}}
	for _, series := range inputs {
		for _, s := range series {
			for _, l := range s.Labels {
				t.before[l.Name] = struct{}{}
			}
		}
	}
	if makesBuckets(expr) {
		delete(t.before, "le") // it is taken off and added anew
	}
	return t
}

// done is called with the result of the node.
func (t *tracker) done(series []*vector.Series) {
	if t == nil {
		return
	}
	for _, s := range series {
		for _, l := range s.Labels {
			if _, ok := t.before[l.Name]; !ok {
				t.before[l.Name] = struct{}{}
				t.ev.addedLabel(l.Name)
			}
		}
	}
}

func (ev *evaluation) addedLabel(name string) {
	if !slices.Contains(ev.added, name) {
		ev.added = append(ev.added, name)
	}
}

func addsLabels(expr metricsql.Expr) bool {
	switch x := expr.(type) {
	case *metricsql.FuncExpr:
		return strings.HasPrefix(x.Name, "label_") || strings.HasPrefix(x.Name, "histogram_") || makesBuckets(x)
	case *metricsql.AggrExpr:
		return x.Name == "count_values" || x.Name == "quantiles" || makesBuckets(x)
	case *metricsql.BinaryExpr:
		return x.Join != metricsql.JoinNone
	}
	return false
}

func makesBuckets(expr metricsql.Expr) bool {
	switch x := expr.(type) {
	case *metricsql.FuncExpr:
		return x.Name == "buckets_limit" || x.Name == "prometheus_buckets"
	case *metricsql.AggrExpr:
		return x.Name == "histogram"
	}
	return false
}

// sort puts series into the order of answers.
func (ev *evaluation) sort(series []*vector.Series) {
	if !slices.ContainsFunc(series, ev.hasSpecialLabel) {
		vector.Sort(series)
		return
	}
	type keyed struct {
		s      *vector.Series
		labels []model.Label
	}
	list := make([]keyed, len(series))
	for i, s := range series {
		labels := slices.Clone(s.Labels)
		slices.SortStableFunc(labels, ev.compareNames)
		list[i] = keyed{s: s, labels: labels}
	}
	slices.SortStableFunc(list, func(a, b keyed) int {
		return cmp.Or(cmp.Compare(a.s.Name, b.s.Name), slices.CompareFunc(a.labels, b.labels, func(x, y model.Label) int {
			return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Value, y.Value))
		}))
	})
	for i := range list {
		series[i] = list[i].s
	}
}

// hasSpecialLabel reports whether the order of labels is not simply that of their names.
func (ev *evaluation) hasSpecialLabel(s *vector.Series) bool {
	return slices.ContainsFunc(s.Labels, func(l model.Label) bool {
		return strings.ToLower(l.Name) != l.Name || slices.Contains(ev.added, l.Name)
	})
}

// compareNames orders stored labels before added ones.
func (ev *evaluation) compareNames(a, b model.Label) int {
	if a.Name == b.Name {
		return 0
	}
	return cmp.Or(cmp.Compare(slices.Index(ev.added, a.Name), slices.Index(ev.added, b.Name)),
		cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Name, b.Name))
}
