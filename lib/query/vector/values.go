package vector

import (
	"math"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

func unprocessable(format string, args ...any) error {
	return errkind.New(errkind.Unprocessable, format, args...)
}

func nans(n int) []float64 { return constant(math.NaN(), n) }

func constant(v float64, n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = v
	}
	return values
}

// Scalar returns a series without name and labels.
func Scalar(values []float64) *Series { return &Series{Values: values} }

// StringSeries returns the series which stands for a string: named like it, without points.
func StringSeries(s string, points int) *Series { return &Series{Name: s, Values: nans(points)} }

// isScalar reports whether the set is one series without name and labels.
func isScalar(series []*Series) bool {
	return len(series) == 1 && series[0].Name == "" && len(series[0].Labels) == 0
}

// isEmpty reports whether the series has no points.
func isEmpty(s *Series) bool {
	for _, v := range s.Values {
		if !math.IsNaN(v) {
			return false
		}
	}
	return true
}

// DropEmpty removes the series without points. It reuses the slice.
func DropEmpty(series []*Series) []*Series { return slices.DeleteFunc(series, isEmpty) }

// Sort puts series in the order of answers: by name, then label by label.
func Sort(series []*Series) { slices.SortStableFunc(series, compareKeys) }

// Compare is the order of Sort.
func Compare(a, b *Series) int { return compareKeys(a, b) }

// CheckDuplicates fails with kind Unprocessable if two series have the same name and labels.
func CheckDuplicates(series []*Series) error {
	seen := make(map[string]struct{}, len(series))
	var key []byte
	for _, s := range series {
		key = appendKey(key[:0], s)
		if _, ok := seen[string(key)]; ok {
			return unprocessable("duplicate output timeseries: %s; keep the labels which tell the series apart", seriesString(s))
		}
		seen[string(key)] = struct{}{}
	}
	return nil
}

// Arg is an argument of a function or an aggregate: a set of series, or a constant string.
type Arg struct {
	Series   []*Series
	Str      string
	IsString bool
}

// set returns the argument as a set of series.
func (a Arg) set(points int) []*Series {
	if a.IsString {
		return []*Series{StringSeries(a.Str, points)}
	}
	return a.Series
}

// scalar returns the points of an argument which must be exactly one series. A string has none.
func (a Arg) scalar(points int) ([]float64, error) {
	if a.IsString {
		return nans(points), nil
	}
	if len(a.Series) != 1 {
		return nil, unprocessable("cannot use an argument of %d series as a scalar: want 1; wrap it in scalar() or an aggregate", len(a.Series))
	}
	return a.Series[0].Values, nil
}

// str returns the value of an argument which must be a constant string.
func (a Arg) str() (string, error) {
	if !a.IsString {
		return "", unprocessable("cannot use an argument as a string: want a string constant in quotes")
	}
	return a.Str, nil
}

func strs(args []Arg) ([]string, error) {
	list := make([]string, len(args))
	for i, a := range args {
		var err error
		if list[i], err = a.str(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// checkCount fails unless there are from lo to hi arguments.
func checkCount(name string, args []Arg, lo, hi int) error {
	switch n := len(args); {
	case n >= lo && n <= hi:
		return nil
	case lo == hi:
		return unprocessable("cannot evaluate %s(): unexpected number of args; got %d; want %d", name, n, lo)
	case hi == math.MaxInt:
		return unprocessable("cannot evaluate %s(): unexpected number of args; got %d; want at least %d", name, n, lo)
	default:
		return unprocessable("cannot evaluate %s(): unexpected number of args; got %d; want from %d to %d", name, n, lo, hi)
	}
}

// toInt cuts a number to an integer. NaN and negative numbers give 0.
func toInt(v float64) int {
	switch {
	case !(v > 0):
		return 0
	case v > math.MaxInt32:
		return math.MaxInt32
	}
	return int(v)
}

// first returns the first point of a scalar.
func first(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[0]
}

// group collects series with equal keys, in the order in which the keys are met.
type group struct {
	name   string
	labels []model.Label
	series []*Series
}

// groupBy groups series by the bytes which key appends. describe returns name and labels of a new group.
func groupBy(series []*Series, key func(dst []byte, s *Series) []byte, describe func(s *Series) (string, []model.Label)) []*group {
	var groups []*group
	byKey := make(map[string]*group)
	var buf []byte
	for _, s := range series {
		buf = key(buf[:0], s)
		g := byKey[string(buf)]
		if g == nil {
			g = &group{}
			g.name, g.labels = describe(s)
			byKey[string(buf)] = g
			groups = append(groups, g)
		}
		g.series = append(g.series, s)
	}
	return groups
}
