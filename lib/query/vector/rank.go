package vector

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// ranked evaluates the aggregates which choose series, given a scalar first.
func (a *aggregation) ranked() ([]*Series, error) {
	choose, most := a.chooser()
	if choose == nil {
		return nil, unprocessable("unsupported aggregate %q", a.Name)
	}
	if err := checkCount(a.Name, a.args, 2, most); err != nil {
		return nil, err
	}
	k, err := a.scalar(0)
	if err != nil {
		return nil, err
	}
	rest := ""
	if len(a.args) > 2 {
		if rest, err = a.str(2); err != nil {
			return nil, err
		}
	}
	var result []*Series
	for _, g := range a.groups(a.args[1].Series) {
		if result = append(result, choose(g, k, rest)...); a.err != nil {
			return nil, a.err
		}
	}
	return DropEmpty(result), nil
}

// chooser returns the function behind the name, and how many arguments there may be.
func (a *aggregation) chooser() (choose func(g *group, k []float64, rest string) []*Series, most int) {
	switch a.Name {
	case "topk":
		return func(g *group, k []float64, _ string) []*Series { return a.keepPerPoint(g, k, 1) }, 2
	case "bottomk":
		return func(g *group, k []float64, _ string) []*Series { return a.keepPerPoint(g, k, -1) }, 2
	case "limitk":
		return func(g *group, k []float64, _ string) []*Series { return limitByHash(g, k) }, 2
	case "outliersk":
		return func(g *group, k []float64, _ string) []*Series { return outliersK(g, k) }, 2
	case "outliers_mad":
		return func(g *group, k []float64, _ string) []*Series { return outliersMAD(g, k) }, 2
	}
	direction, what, ok := strings.Cut(a.Name, "k_")
	sign := 1
	if direction == "bottom" {
		sign = -1
	}
	rank := rankFunction(what)
	if !ok || rank == nil || direction != "top" && direction != "bottom" {
		return nil, 0
	}
	return func(g *group, k []float64, rest string) []*Series {
		return keepWhole(g, k, ranking(g.series, rank, sign), rest)
	}, 3
}

func rankFunction(name string) func(values []float64) float64 {
	switch name {
	case "avg":
		return func(values []float64) float64 { m := momentsOf(values); return m.mean }
	case "last":
		return lastPoint
	case "max":
		return func(values []float64) float64 { return slices.Max(appendPresent(nil, values)) }
	case "min":
		return func(values []float64) float64 { return slices.Min(appendPresent(nil, values)) }
	case "median":
		return func(values []float64) float64 { return median(appendPresent(nil, values)) }
	}
	return nil
}

// better compares two values: the better first, NaN last. A sign of 1 means large is better.
func better(a, b float64, sign int) int {
	switch {
	case math.IsNaN(a) && math.IsNaN(b):
		return 0
	case math.IsNaN(a):
		return 1
	case math.IsNaN(b):
		return -1
	}
	return -sign * cmp.Compare(a, b)
}

// ranked is a value at one point, and the place of its series by name and labels.
type ranked struct {
	v     float64
	place int
}

// compare orders the better value first, and of equal ones the first by place, so that it does not depend on the order of the input.
func (a ranked) compare(b ranked, sign int) int {
	if c := better(a.v, b.v, sign); c != 0 {
		return c
	}
	return cmp.Compare(a.place, b.place)
}

// keepPerPoint keeps at each point the k best values. The best of the last point come first.
func (a *aggregation) keepPerPoint(g *group, k []float64, sign int) []*Series {
	Sort(g.series)
	last := len(k) - 1
	order := make([]ranked, 0, len(g.series))
	for i := range k {
		if !a.goOn(len(g.series)) {
			return nil
		}
		most := min(toInt(k[i]), len(g.series))
		order = order[:0]
		if i == last || most > fewBest {
			for place, s := range g.series {
				order = append(order, ranked{s.Values[i], place})
			}
			slices.SortFunc(order, func(a, b ranked) int { return a.compare(b, sign) })
		} else {
			order = appendBest(order, g.series, i, most, sign)
		}
		for _, s := range g.series {
			s.Values[i] = math.NaN()
		}
		for _, e := range order[:most] {
			g.series[e.place].Values[i] = e.v
		}
	}
	best := make([]*Series, len(order))
	for n, e := range order {
		best[n] = g.series[e.place]
	}
	return best
}

// fewBest is up to how many best values are kept in order while looking at the others; for more, all are sorted.
const fewBest = 32

// appendBest appends the most best values at a point, in their order.
func appendBest(top []ranked, series []*Series, point, most, sign int) []ranked {
	for place, s := range series {
		e := ranked{s.Values[point], place}
		if len(top) == most {
			if most == 0 || e.compare(top[most-1], sign) > 0 {
				continue
			}
			top = top[:most-1]
		}
		n, _ := slices.BinarySearchFunc(top, e, func(a, b ranked) int { return a.compare(b, sign) })
		top = slices.Insert(top, n, e)
	}
	return top
}

// ranking returns the series ordered by f of their points, the best first.
func ranking(series []*Series, f func(values []float64) float64, sign int) []*Series {
	type entry struct {
		s    *Series
		rank float64
	}
	entries := make([]entry, len(series))
	for i, s := range series {
		entries[i] = entry{s, f(s.Values)}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return better(a.rank, b.rank, sign) })
	order := make([]*Series, len(entries))
	for i, e := range entries {
		order[i] = e.s
	}
	return order
}

// keepWhole keeps the first k series of the order. If rest is given, the others
// are summed up in a series of their own, in front.
func keepWhole(g *group, k []float64, order []*Series, rest string) []*Series {
	var result []*Series
	if rest != "" {
		label, value, ok := strings.Cut(rest, "=")
		if !ok {
			value = label
		}
		s := &Series{Name: g.name, Labels: g.labels, Values: sumRest(k, order)}
		setLabel(s, label, value)
		result = append(result, s)
	}
	for n, s := range order {
		for i := range s.Values {
			if n >= toInt(k[i]) {
				s.Values[i] = math.NaN()
			}
		}
	}
	return append(result, order...)
}

// sumRest sums the points of the series behind the first k.
func sumRest(k []float64, order []*Series) []float64 {
	sums := nans(len(order[0].Values))
	for i := range sums {
		for _, s := range order[min(toInt(k[i]), len(order)):] {
			switch v := s.Values[i]; {
			case math.IsNaN(v):
			case math.IsNaN(sums[i]):
				sums[i] = v
			default:
				sums[i] += v
			}
		}
	}
	return sums
}

// limitByHash keeps the k series with the smallest hashes, so the same ones each time.
func limitByHash(g *group, k []float64) []*Series {
	type entry struct {
		s    *Series
		hash uint64
	}
	entries := make([]entry, len(g.series))
	var buf []byte
	for i, s := range g.series {
		buf = append(buf[:0], s.Name...)
		for _, l := range s.Labels {
			buf = append(buf, l.Name...)
			buf = append(buf, l.Value...)
		}
		entries[i] = entry{s, xxhash.Sum64(buf)}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.hash, b.hash) })
	entries = entries[:min(toInt(first(k)), len(entries))]
	result := make([]*Series, len(entries))
	for i, e := range entries {
		result[i] = e.s
	}
	return result
}

// outliersK keeps the k series which are farthest from the median of all.
func outliersK(g *group, k []float64) []*Series {
	medians := columns(g, median)
	order := ranking(g.series, func(values []float64) float64 {
		sum := 0.0
		for i, v := range values {
			if d := v - medians[i]; !math.IsNaN(d) {
				sum += d * d
			}
		}
		return sum
	}, 1)
	return keepWhole(g, k, order, "")
}

// columns evaluates f for the values of each point. f may change them.
func columns(g *group, f func(values []float64) float64) []float64 {
	result := make([]float64, len(g.series[0].Values))
	var buf []float64
	for i := range result {
		buf = appendColumn(buf[:0], g.series, i)
		result[i] = f(buf)
	}
	return result
}

// outliersMAD keeps the series with a point farther from the median than tolerance times the median distance.
func outliersMAD(g *group, tolerance []float64) []*Series {
	medians, mads := columns(g, median), columns(g, mad)
	return keepIf(g, func(v float64, i int) bool { return math.Abs(v-medians[i]) > tolerance[i]*mads[i] })
}

// outliersIQR keeps the series with a point beyond 1.5 times the distance of the quartiles.
func outliersIQR(g *group) []*Series {
	quartile := func(phi float64) []float64 {
		return columns(g, func(values []float64) float64 {
			slices.Sort(values)
			return quantile(phi, values)
		})
	}
	q25, q75 := quartile(0.25), quartile(0.75)
	return keepIf(g, func(v float64, i int) bool {
		margin := 1.5 * (q75[i] - q25[i])
		return v > q75[i]+margin || v < q25[i]-margin
	})
}

// keepIf keeps the series with a point which is an outlier.
func keepIf(g *group, outlier func(v float64, i int) bool) []*Series {
	return slices.DeleteFunc(g.series, func(s *Series) bool {
		for i, v := range s.Values {
			if outlier(v, i) {
				return false
			}
		}
		return true
	})
}
