package vector

import (
	"math"
	"slices"

	"vmcluster/lib/model"
)

// GroupOp is by or without.
type GroupOp uint8

// The groupings of aggregates.
const (
	GroupNone GroupOp = iota
	GroupBy
	GroupWithout
)

// AggregateOptions describe an aggregate. Name is in lower case. Only the
// first Limit groups are kept; 0 is no limit.
type AggregateOptions struct {
	Name     string
	Grouping GroupOp
	Labels   []string
	Limit    int
	Guard    Guard
}

// aggregation is one evaluation of an aggregate.
type aggregation struct {
	AggregateOptions
	args   []Arg
	points int
	work   int   // values since the guard was asked last
	err    error // of the guard, within a group
}

// goOn counts n values of work, asks the guard now and then, and reports whether to go on.
func (a *aggregation) goOn(n int) bool {
	const workPerGuard = 1 << 20
	if a.work += n; a.work > workPerGuard {
		a.work, a.err = 0, a.Guard.goOn()
	}
	return a.err == nil
}

// Aggregate evaluates an aggregate. Errors are of kind Unprocessable.
func Aggregate(o AggregateOptions, args []Arg) ([]*Series, error) {
	a := &aggregation{AggregateOptions: o, args: args}
	for _, arg := range args {
		if len(arg.Series) > 0 {
			a.points = max(a.points, len(arg.Series[0].Values))
		}
	}
	if f := columnFunction(o.Name); f != nil {
		return a.plain(func(g *group) []*Series { return []*Series{a.fold(g, f)} })
	}
	if f := sampleFunction(o.Name); f != nil {
		return a.plain(func(g *group) []*Series { return []*Series{a.gather(g, f)} })
	}
	switch o.Name {
	case "any":
		return a.plain(func(g *group) []*Series { return g.series[:1] })
	case "share":
		return a.plain(share)
	case "zscore":
		return a.plain(zscore)
	case "histogram":
		return a.plain(a.histogram)
	case "outliers_iqr":
		if err := checkCount(o.Name, args, 1, 1); err != nil {
			return nil, err
		}
		return a.plain(outliersIQR)
	case "quantile":
		return a.quantile()
	case "quantiles":
		return a.quantiles()
	case "count_values":
		return a.countValues()
	}
	return a.ranked()
}

// groups groups the series which have points, at most as many groups as the limit says. If there is no memory for them, a.err says so.
func (a *aggregation) groups(series []*Series) []*group {
	groups := groupBy(DropEmpty(series), a.key, a.describe)
	if a.Guard != nil && a.err == nil {
		a.err = a.Guard(int64(len(groups)) * (groupBytes + seriesBytes/2 + int64(a.points)*8)) // most make a series per group
	}
	if a.Limit > 0 && len(groups) > a.Limit {
		groups = groups[:a.Limit]
	}
	return groups
}

func (a *aggregation) key(dst []byte, s *Series) []byte {
	switch a.Grouping {
	case GroupBy:
		for _, name := range a.Labels {
			dst = appendString(dst, labelValue(s, name))
		}
	case GroupWithout:
		for i := range s.Labels {
			l := &s.Labels[i]
			if !slices.Contains(a.Labels, l.Name) {
				dst = appendString(dst, l.Name)
				dst = appendString(dst, l.Value)
			}
		}
	}
	return dst
}

// describe returns name and labels of the group of s.
func (a *aggregation) describe(s *Series) (name string, labels []model.Label) {
	switch a.Grouping {
	case GroupBy:
		if slices.Contains(a.Labels, model.MetricNameLabel) {
			name = s.Name
		}
		labels = filterLabels(s.Labels, func(name string) bool { return slices.Contains(a.Labels, name) })
	case GroupWithout:
		labels = filterLabels(s.Labels, func(name string) bool { return !slices.Contains(a.Labels, name) })
	}
	return name, labels
}

// plain evaluates f for each group of all arguments joined.
func (a *aggregation) plain(f func(g *group) []*Series) ([]*Series, error) {
	if err := checkCount(a.Name, a.args, 1, math.MaxInt); err != nil {
		return nil, err
	}
	var series []*Series
	for _, arg := range a.args {
		series = append(series, arg.Series...) // a string has no points
	}
	var result []*Series
	for _, g := range a.groups(series) {
		if err := a.Guard.goOn(); err != nil {
			return nil, err
		}
		result = append(result, f(g)...)
		if a.err != nil {
			return nil, a.err
		}
	}
	return result, nil
}

// column gathers one value per point over the series of a group. add sees
// only points; counts holds how many of them there are before. Without points the
// result is a gap.
type column struct {
	add    func(acc []float64, values, counts []float64)
	finish func(acc, counts []float64)
}

// columnFunction returns the aggregates which need one pass over the series.
func columnFunction(name string) *column {
	switch name {
	case "sum":
		return &column{add: eachPoint(func(acc, v, _ float64) float64 { return acc + v })}
	case "sum2":
		return &column{add: eachPoint(func(acc, v, _ float64) float64 { return acc + v*v })}
	case "count":
		return &column{add: eachPoint(func(acc, _, _ float64) float64 { return acc + 1 })}
	case "group":
		return &column{add: eachPoint(func(float64, float64, float64) float64 { return 1 })}
	case "min":
		return &column{add: eachPoint(func(acc, v, count float64) float64 {
			if count == 0 || v < acc {
				return v
			}
			return acc
		})}
	case "max":
		return &column{add: eachPoint(func(acc, v, count float64) float64 {
			if count == 0 || v > acc {
				return v
			}
			return acc
		})}
	case "avg":
		return &column{
			add: eachPoint(func(acc, v, _ float64) float64 { return acc + v }),
			finish: func(acc, counts []float64) {
				for i, n := range counts {
					acc[i] /= n
				}
			},
		}
	case "geomean":
		return &column{
			add: eachPoint(func(acc, v, count float64) float64 {
				if count == 0 {
					return v
				}
				return acc * v
			}),
			finish: func(acc, counts []float64) {
				for i, n := range counts {
					acc[i] = math.Pow(acc[i], 1/n)
				}
			},
		}
	}
	return nil
}

func eachPoint(f func(acc, v, count float64) float64) func(acc, values, counts []float64) {
	return func(acc, values, counts []float64) {
		for i, v := range values {
			if !math.IsNaN(v) {
				acc[i] = f(acc[i], v, counts[i])
				counts[i]++
			}
		}
	}
}

func (a *aggregation) fold(g *group, c *column) *Series {
	acc, counts := make([]float64, a.points), make([]float64, a.points)
	for _, s := range g.series {
		c.add(acc, s.Values, counts)
	}
	if c.finish != nil {
		c.finish(acc, counts)
	}
	for i, n := range counts {
		if n == 0 {
			acc[i] = math.NaN()
		}
	}
	return &Series{Name: g.name, Labels: g.labels, Values: acc}
}

// sampleFunction returns the aggregates which need all values of a point at once. They may change the values.
func sampleFunction(name string) func(values []float64) float64 {
	switch name {
	case "stddev":
		return func(values []float64) float64 { m := momentsOf(values); return math.Sqrt(m.variance()) }
	case "stdvar":
		return func(values []float64) float64 { m := momentsOf(values); return m.variance() }
	case "distinct":
		return distinct
	case "median":
		return median
	case "mad":
		return mad
	case "mode":
		return mode
	}
	return nil
}

// gather evaluates f for the values of each point.
func (a *aggregation) gather(g *group, f func(values []float64) float64) *Series {
	return a.gatherAt(g, func(values []float64, _ int) float64 { return f(values) })
}

func (a *aggregation) gatherAt(g *group, f func(values []float64, i int) float64) *Series {
	result := nans(a.points)
	values := make([]float64, 0, len(g.series))
	for i := range result {
		if !a.goOn(len(g.series)) {
			break
		}
		values = appendColumn(values[:0], g.series, i)
		if len(values) > 0 {
			result[i] = f(values, i)
		}
	}
	return &Series{Name: g.name, Labels: g.labels, Values: result}
}

// appendColumn appends the points of all series at position i.
func appendColumn(dst []float64, series []*Series, i int) []float64 {
	for _, s := range series {
		if v := s.Values[i]; !math.IsNaN(v) {
			dst = append(dst, v)
		}
	}
	return dst
}

// share divides each value by the sum of the non-negative ones.
func share(g *group) []*Series {
	for i := range g.series[0].Values {
		sum := 0.0
		for _, s := range g.series {
			if v := s.Values[i]; v >= 0 {
				sum += v
			}
		}
		for _, s := range g.series {
			if v := s.Values[i]; v >= 0 {
				s.Values[i] = v / sum
			} else {
				s.Values[i] = math.NaN()
			}
		}
	}
	return g.series
}

func zscore(g *group) []*Series {
	for i := range g.series[0].Values {
		var m moments
		for _, s := range g.series {
			if v := s.Values[i]; !math.IsNaN(v) {
				m.add(v)
			}
		}
		stddev := math.Sqrt(m.variance())
		for _, s := range g.series {
			s.Values[i] = (s.Values[i] - m.mean) / stddev
		}
	}
	return g.series
}

// histogram counts the values of each point in buckets, cumulative by le.
func (a *aggregation) histogram(g *group) []*Series {
	c := &rangeCounter{group: g, points: a.points, guard: a.Guard, byRange: make(map[string]*Series)}
	for _, s := range g.series {
		if a.err = c.count(s.Values); a.err != nil {
			return nil
		}
	}
	return rangesToLe(c.result)
}

// rangeCounter counts how many values of each point of a group lie in each range.
type rangeCounter struct {
	group   *group
	points  int
	guard   Guard
	byRange map[string]*Series
	result  []*Series // in the order in which the ranges are met
}

func (c *rangeCounter) count(values []float64) error {
	for i, v := range values {
		name := vmrangeOf(v)
		if name == "" {
			continue
		}
		b := c.byRange[name]
		if b == nil {
			// The cumulative buckets made of these take as much again.
			if err := c.guard.series(2, c.points); err != nil {
				return err
			}
			b = &Series{Name: c.group.name, Labels: withLabel(c.group.labels, vmrangeLabel, name), Values: make([]float64, c.points)}
			c.byRange[name] = b
			c.result = append(c.result, b)
		}
		b.Values[i]++
	}
	return nil
}

// quantile is quantile(phi, q); phi may vary.
func (a *aggregation) quantile() ([]*Series, error) {
	if err := checkCount(a.Name, a.args, 2, 2); err != nil {
		return nil, err
	}
	phis, err := a.scalar(0)
	if err != nil {
		return nil, err
	}
	var result []*Series
	for _, g := range a.groups(a.args[1].Series) {
		if result = append(result, a.quantileOf(g, phis)); a.err != nil {
			return nil, a.err
		}
	}
	return result, nil
}

func (a *aggregation) quantileOf(g *group, phis []float64) *Series {
	return a.gatherAt(g, func(values []float64, i int) float64 {
		slices.Sort(values)
		return quantile(phis[i], values)
	})
}

// quantiles is quantiles("label", phi, ..., q).
func (a *aggregation) quantiles() ([]*Series, error) {
	if err := checkCount(a.Name, a.args, 3, math.MaxInt); err != nil {
		return nil, err
	}
	label, err := a.str(0)
	if err != nil {
		return nil, err
	}
	last := len(a.args) - 1
	phis := make([][]float64, last-1)
	for k := range phis {
		if phis[k], err = a.scalar(k + 1); err != nil {
			return nil, err
		}
	}
	var result []*Series
	for _, g := range a.groups(a.args[last].Series) {
		for _, phi := range phis {
			if err := a.Guard.series(1, a.points); err != nil {
				return nil, err
			}
			s := a.quantileOf(g, phi)
			if a.err != nil {
				return nil, a.err
			}
			setLabel(s, label, formatShort(first(phi)))
			result = append(result, s)
		}
	}
	return result, nil
}

// countValues is count_values("label", q): a series per value.
func (a *aggregation) countValues() ([]*Series, error) {
	if err := checkCount(a.Name, a.args, 2, 2); err != nil {
		return nil, err
	}
	label, err := a.str(0)
	if err != nil {
		return nil, err
	}
	switch a.Grouping {
	case GroupBy:
		a.Labels = slices.DeleteFunc(slices.Clone(a.Labels), func(name string) bool { return name == label })
	case GroupWithout:
		a.Labels = append(slices.Clip(a.Labels), label)
	}
	var result []*Series
	groups := a.groups(a.args[1].Series)
	if a.err != nil {
		return nil, a.err
	}
	for _, g := range groups {
		c := &valueCounter{group: g, label: label, points: a.points, guard: a.Guard, byValue: make(map[float64]*Series)}
		for _, s := range g.series {
			if err := c.count(s.Values); err != nil {
				return nil, err
			}
		}
		result = append(result, c.result...)
	}
	return result, nil
}

// valueCounter counts how often each value occurs at each point of a group.
type valueCounter struct {
	group   *group
	label   string
	points  int
	guard   Guard
	byValue map[float64]*Series
	result  []*Series // in the order in which the values are met
}

func (c *valueCounter) count(values []float64) error {
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		s := c.byValue[v]
		if s == nil {
			if err := c.guard.series(1, c.points); err != nil {
				return err
			}
			s = &Series{Name: c.group.name, Labels: c.group.labels, Values: nans(c.points)}
			setLabel(s, c.label, formatPlain(v))
			c.byValue[v] = s
			c.result = append(c.result, s)
		}
		if math.IsNaN(s.Values[i]) {
			s.Values[i] = 0
		}
		s.Values[i]++
	}
	return nil
}

func (a *aggregation) scalar(i int) ([]float64, error) {
	values, err := a.args[i].scalar(a.points)
	if err != nil {
		return nil, unprocessable("cannot evaluate %s(): argument %d: %w", a.Name, i+1, err)
	}
	return values, nil
}

func (a *aggregation) str(i int) (string, error) {
	s, err := a.args[i].str()
	if err != nil {
		return "", unprocessable("cannot evaluate %s(): argument %d: %w", a.Name, i+1, err)
	}
	return s, nil
}
