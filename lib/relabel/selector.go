package relabel

import (
	"errors"
	"fmt"

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
