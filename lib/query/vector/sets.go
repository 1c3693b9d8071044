package vector

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// setFunction finds functions which choose among series, or which make one of many.
func (c *call) setFunction() (func() ([]*Series, error), bool) {
	switch c.name {
	case "union", "":
		return c.union, true
	case "vector":
		return func() ([]*Series, error) { return c.set(0, 1) }, true
	case "scalar":
		return c.toScalar, true
	case "absent":
		return c.absent, true
	case "drop_empty_series":
		return func() ([]*Series, error) {
			series, err := c.set(0, 1)
			return DropEmpty(series), err
		}, true
	case "limit_offset":
		return c.limitOffset, true
	}
	return nil, false
}

// union joins sets; of series with equal name and labels the first one wins. Scalars are all kept.
func (c *call) union() ([]*Series, error) {
	var all []*Series
	scalars := true
	for _, a := range c.args {
		series := a.set(c.points)
		scalars = scalars && !a.IsString && isScalar(series)
		all = append(all, series...)
	}
	if scalars || len(c.args) == 1 {
		return all, nil
	}
	seen := make(map[string]struct{}, len(all))
	var key []byte
	return slices.DeleteFunc(all, func(s *Series) bool {
		key = appendKey(key[:0], s)
		if _, ok := seen[string(key)]; ok {
			return true
		}
		seen[string(key)] = struct{}{}
		return false
	}), nil
}

func (c *call) toScalar() ([]*Series, error) {
	if err := checkCount(c.name, c.args, 1, 1); err != nil {
		return nil, err
	}
	if a := c.args[0]; a.IsString {
		v, err := strconv.ParseFloat(a.Str, 64)
		if err != nil {
			v = math.NaN()
		}
		return []*Series{Scalar(constant(v, c.points))}, nil
	}
	if series := c.args[0].Series; len(series) == 1 {
		return []*Series{Scalar(series[0].Values)}, nil
	}
	return []*Series{Scalar(nans(c.points))}, nil
}

// absent gives 1 where no series has a point.
func (c *call) absent() ([]*Series, error) {
	series, err := c.set(0, 1)
	if err != nil {
		return nil, err
	}
	values := constant(1, c.points)
	for _, s := range series {
		for i, v := range s.Values {
			if !math.IsNaN(v) {
				values[i] = math.NaN()
			}
		}
	}
	return []*Series{{Labels: c.opts.AbsentLabels, Values: values}}, nil
}

func (c *call) limitOffset() ([]*Series, error) {
	series, err := c.set(2, 3)
	if err != nil {
		return nil, err
	}
	limit, err := c.scalar(0)
	if err != nil {
		return nil, err
	}
	offset, err := c.scalar(1)
	if err != nil {
		return nil, err
	}
	series = DropEmpty(series)
	series = series[min(toInt(first(offset)), len(series)):]
	return series[:min(toInt(first(limit)), len(series))], nil
}

// sortFunction finds functions which order series.
func (c *call) sortFunction() (func() ([]*Series, error), bool) {
	switch c.name {
	case "sort":
		return c.sortByValue(1)
	case "sort_desc":
		return c.sortByValue(-1)
	case "sort_by_label":
		return c.sortByLabel(strings.Compare, 1)
	case "sort_by_label_desc":
		return c.sortByLabel(strings.Compare, -1)
	case "sort_by_label_numeric":
		return c.sortByLabel(compareNumeric, 1)
	case "sort_by_label_numeric_desc":
		return c.sortByLabel(compareNumeric, -1)
	}
	return nil, false
}

func (c *call) sortByValue(sign int) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, err := c.set(0, 1)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(series, func(a, b *Series) int { return compareFromEnd(a.Values, b.Values, sign) })
		return series, nil
	}, true
}

// compareFromEnd compares the last points, or the ones before if they are
// equal. A missing point goes first, whatever the sign.
func compareFromEnd(a, b []float64, sign int) int {
	for i := len(a) - 1; i >= 0; i-- {
		x, y := a[i], b[i]
		switch {
		case math.IsNaN(x) && math.IsNaN(y), x == y:
			continue
		case math.IsNaN(x):
			return -1
		case math.IsNaN(y):
			return 1
		}
		return sign * cmp.Compare(x, y)
	}
	return 0
}

func (c *call) sortByLabel(compare func(a, b string) int, sign int) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		if err := checkCount(c.name, c.args, 2, math.MaxInt); err != nil {
			return nil, err
		}
		names, err := strs(c.args[1:])
		if err != nil {
			return nil, err
		}
		series := c.args[0].set(c.points)
		slices.SortStableFunc(series, func(a, b *Series) int {
			for _, name := range names {
				if order := compare(labelValue(a, name), labelValue(b, name)); order != 0 {
					return sign * order
				}
			}
			return 0
		})
		return series, nil
	}, true
}

// compareNumeric compares two numbers by value. Other texts are cut into decimal
// numbers and text between them, which are compared in turn; numbers go before text.
func compareNumeric(a, b string) int {
	if order, ok := compareNumbers(a, b); ok {
		return order
	}
	for a != "" && b != "" {
		runA, numberA := cutRun(a)
		runB, numberB := cutRun(b)
		order := 0
		switch {
		case numberA && numberB:
			order, _ = compareNumbers(runA, runB)
		case numberA:
			order = -1
		case numberB:
			order = 1
		default:
			order = strings.Compare(runA, runB)
		}
		if order != 0 {
			return order
		}
		a, b = a[len(runA):], b[len(runB):]
	}
	return cmp.Compare(len(a), len(b))
}

func compareNumbers(a, b string) (order int, ok bool) {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return cmp.Compare(x, y), errX == nil && errY == nil
}

// cutRun returns the decimal number, or the text without digits, which s starts with.
func cutRun(s string) (run string, number bool) {
	n := digitsLen(s)
	if n == 0 {
		for n < len(s) && !isDigit(s[n]) {
			n++
		}
		return s[:n], false
	}
	if n < len(s) && s[n] == '.' {
		if k := digitsLen(s[n+1:]); k > 0 {
			n += 1 + k
		}
	}
	return s[:n], true
}

func digitsLen(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
