package relabel

import (
	"errors"
	"fmt"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
)

// parseSelector returns the alternatives of a series selector.
func parseSelector(text string) ([][]model.TagFilter, error) {
	e, err := metricsql.Parse(text)
	if err != nil {
		return nil, err
	}
	selector, ok := e.(*metricsql.MetricExpr)
	if !ok {
		return nil, errors.New("it is an expression")
	}
	return selector.FilterSets, nil
}

// Selectors are series selectors any of which is to match. Without any, all series match.
type Selectors struct{ list []condition }

// ParseSelectors compiles the selectors of a field, which errors name.
func ParseSelectors(field string, texts []string) (Selectors, error) {
	list, err := compileConditions(field, texts)
	return Selectors{list}, err
}

// Match reports whether the labels of a series are selected.
func (s Selectors) Match(labels []model.Label) bool {
	of := state{labels: labels}
	return len(s.list) == 0 || slices.ContainsFunc(s.list, func(c condition) bool { return c.met(&of) })
}

// ParseLabels reads the labels of one series, written as foo{bar="baz"}. Errors are of kind BadRequest.
func ParseLabels(text string) ([]model.Label, error) {
	sets, err := parseSelector(text)
	if err == nil && len(sets) != 1 {
		err = errors.New("it has alternatives")
	}
	var labels []model.Label
	for i := 0; err == nil && i < len(sets[0]); i++ {
		f := sets[0][i]
		if f.Op != model.Equal {
			err = fmt.Errorf("%s is no label", f)
		}
		labels = append(labels, model.Label{Name: f.Name, Value: f.Value})
	}
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot parse series %q: want labels such as foo{bar=\"baz\"}: %w", text, err)
	}
	return labels, nil
}
