package graphite

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

func filterDataRows() []row {
	return []row{
		{"removeAbovePercentile(seriesList, n:float)", "Removes the values above the n-th percentile of their series.", removeByPercentile(func(v, limit float64) bool { return v > limit })},
		{"removeBelowPercentile(seriesList, n:float)", "Removes the values below the n-th percentile of their series.", removeByPercentile(func(v, limit float64) bool { return v < limit })},
		{"removeAboveValue(seriesList, n:float)", "Removes the values above a number.", removeByValue(func(v, limit float64) bool { return v > limit })},
		{"removeBelowValue(seriesList, n:float)", "Removes the values below a number.", removeByValue(func(v, limit float64) bool { return v < limit })},
	}
}

func filterRows() []row {
	const n = "(seriesList, n:float)"
	return []row{
		{"filterSeries(seriesList, func:aggFunc, operator, threshold:float)", "Leaves the series of which an aggregate is =, !=, >, >=, < or <= a number.", filterSeries},
		{"averageAbove" + n, "Leaves the series whose average is above a number.", filterBy("average", ">")},
		{"averageBelow" + n, "Leaves the series whose average is at most a number.", filterBy("average", "<=")},
		{"currentAbove" + n, "Leaves the series whose last value is above a number.", filterBy("last", ">")},
		{"currentBelow" + n, "Leaves the series whose last value is at most a number.", filterBy("last", "<=")},
		{"maximumAbove" + n, "Leaves the series whose highest value is above a number.", filterBy("max", ">")},
		{"maximumBelow" + n, "Leaves the series whose highest value is at most a number.", filterBy("max", "<=")},
		{"minimumAbove" + n, "Leaves the series whose lowest value is above a number.", filterBy("min", ">")},
		{"minimumBelow" + n, "Leaves the series whose lowest value is at most a number.", filterBy("min", "<=")},
		{"averageOutsidePercentile" + n, "Leaves the series whose average is not between the two percentiles n and 100-n of all averages.", averageOutsidePercentile},
		{"removeBetweenPercentile" + n, "Leaves the series which are, at some time, not between the percentiles n and 100-n of all series.", removeBetweenPercentile},
		{"removeEmptySeries(seriesList, xFilesFactor:float?)", "Removes the series without values, or of which less than the given share is known.", removeEmptySeries},
		{"grep(seriesList, pattern)", "Leaves the series whose names match a regular expression.", grep(true)},
		{"exclude(seriesList, pattern)", "Removes the series whose names match a regular expression.", grep(false)},
		{"limit(seriesList, n:integer)", "Leaves the first n series.", limit},
		{"fallbackSeries(seriesList, fallback:seriesList)", "The fallback when the list is empty.", fallbackSeries},
		{"highest(seriesList, n:integer=1, func:aggFunc=average)", "The n series of which an aggregate is highest.", ranked("", true)},
		{"highestAverage(seriesList, n:integer)", "The n series with the highest average.", ranked("average", true)},
		{"highestCurrent(seriesList, n:integer)", "The n series with the highest last value.", ranked("last", true)},
		{"highestMax(seriesList, n:integer)", "The n series with the highest value.", ranked("max", true)},
		{"lowest(seriesList, n:integer=1, func:aggFunc=average)", "The n series of which an aggregate is lowest.", ranked("", false)},
		{"lowestAverage(seriesList, n:integer)", "The n series with the lowest average.", ranked("average", false)},
		{"lowestCurrent(seriesList, n:integer)", "The n series with the lowest last value.", ranked("last", false)},
		{"mostDeviant(seriesList, n:integer)", "The n series with the highest standard deviation.", ranked("stddev", true)},
		{"useSeriesAbove(seriesList, value:float, search, replace)", "For each series that exceeds a value, the series whose name results from a replacement in its own.", useSeriesAbove},
	}
}

func sortRows() []row {
	return []row{
		{"sortBy(seriesList, func:aggFunc=average, reverse:boolean=false)", "Orders series by an aggregate.", sortBy},
		{"sortByName(seriesList, natural:boolean=false, reverse:boolean=false)", "Orders series by name; in natural order a2 comes before a10.", sortByName},
		{"sortByMaxima(seriesList)", "Orders series by their highest value, the highest first.", sortByAggregate("max", true)},
		{"sortByMinima(seriesList)", "Orders series by their lowest value, the lowest first.", sortByAggregate("min", false)},
		{"sortByTotal(seriesList)", "Orders series by their sum, the highest first.", sortByAggregate("sum", true)},
	}
}

func (c *call) filtered(keep func(s *Series) bool) ([]*Series, error) {
	list, err := c.list("seriesList")
	return slices.DeleteFunc(list, func(s *Series) bool { return !keep(s) }), err
}

func removeByPercentile(remove func(v, limit float64) bool) evalFunc {
	return func(c *call) ([]*Series, error) {
		n := c.num("n")
		return c.each(func(s *Series) *Series {
			limit := percentile(sorted(s.Values), n, false)
			return c.removed(s, func(v float64) bool { return remove(v, limit) })
		})
	}
}

func removeByValue(remove func(v, limit float64) bool) evalFunc {
	return func(c *call) ([]*Series, error) {
		n := c.num("n")
		return c.each(func(s *Series) *Series {
			return c.removed(s, func(v float64) bool { return remove(v, n) })
		})
	}
}

func (c *call) removed(s *Series, remove func(v float64) bool) *Series {
	return s.mapped(c.fn.Name+"("+s.Name+","+c.text("n")+")", func(v float64) float64 {
		if remove(v) {
			return math.NaN()
		}
		return v
	})
}

// compare returns what an operator does; nil if there is none of this name.
func compare(operator string) func(a, b float64) bool {
	switch operator {
	case "=":
		return func(a, b float64) bool { return a == b }
	case "!=":
		return func(a, b float64) bool { return a != b && !isNull(a) }
	case ">":
		return func(a, b float64) bool { return a > b }
	case ">=":
		return func(a, b float64) bool { return a >= b }
	case "<":
		return func(a, b float64) bool { return a < b }
	case "<=":
		return func(a, b float64) bool { return a <= b }
	}
	return nil
}

func filterSeries(c *call) ([]*Series, error) {
	holds := compare(c.str("operator"))
	if holds == nil {
		return nil, c.fail("argument operator must be one of =, !=, >, >=, < and <=, got %q", c.str("operator"))
	}
	agg, n := c.agg("func"), c.num("threshold")
	return c.filtered(func(s *Series) bool { return holds(agg.over(s.Values, 0), n) })
}

func filterBy(aggregate, operator string) evalFunc {
	return func(c *call) ([]*Series, error) {
		agg, holds, n := consolidator(aggregate), compare(operator), c.num("n")
		return c.filtered(func(s *Series) bool { return holds(agg.over(s.Values, 0), n) })
	}
}

func averageOutsidePercentile(c *call) ([]*Series, error) {
	n := max(c.num("n"), 100-c.num("n"))
	list, err := c.list("seriesList")
	averages := make([]float64, len(list))
	for i, s := range list {
		averages[i] = meanOf(s.Values)
	}
	known := sorted(averages)
	low, high := percentile(known, 100-n, false), percentile(known, n, false)
	return slices.DeleteFunc(list, func(s *Series) bool {
		v := meanOf(s.Values)
		return v > low && v < high
	}), err
}

func removeBetweenPercentile(c *call) ([]*Series, error) {
	n := max(c.num("n"), 100-c.num("n"))
	list, err := c.list("seriesList")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	outside := map[int]bool{}
	c.columns(normalize(list), func(_ int, column []float64) {
		known := sorted(column)
		low, high := percentile(known, 100-n, false), percentile(known, n, false)
		for i, v := range column {
			if v <= low || v >= high {
				outside[i] = true
			}
		}
	})
	out := make([]*Series, 0, len(outside))
	for i, s := range list {
		if outside[i] {
			out = append(out, s)
		}
	}
	return out, nil
}

func removeEmptySeries(c *call) ([]*Series, error) {
	return c.filtered(func(s *Series) bool {
		share := s.XFilesFactor
		if c.has("xFilesFactor") {
			share = c.num("xFilesFactor")
		}
		known := countOf(s.Values)
		return known > 0 && known >= share*float64(len(s.Values))
	})
}

func grep(keep bool) evalFunc {
	return func(c *call) ([]*Series, error) {
		re, err := c.pattern("pattern")
		if err != nil {
			return nil, err
		}
		return c.filtered(func(s *Series) bool { return re.MatchString(s.Name) == keep })
	}
}

func limit(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	return list[:min(len(list), max(0, c.integer("n")))], err
}

func fallbackSeries(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil || len(list) > 0 {
		return list, err
	}
	return c.list("fallback")
}

// order sorts series by an aggregate; those without one come last.
func order(list []*Series, agg aggregator, descending bool) {
	by := make(map[*Series]float64, len(list))
	for _, s := range list {
		by[s] = agg.over(s.Values, 0)
	}
	slices.SortStableFunc(list, func(a, b *Series) int {
		x, y := by[a], by[b]
		switch {
		case isNull(x) || isNull(y):
			return cmp.Compare(countOf([]float64{y}), countOf([]float64{x}))
		case descending:
			return cmp.Compare(y, x)
		}
		return cmp.Compare(x, y)
	})
}

func ranked(aggregate string, descending bool) evalFunc {
	return func(c *call) ([]*Series, error) {
		name := aggregate
		if name == "" {
			name = c.str("func")
		}
		list, err := c.list("seriesList")
		order(list, consolidator(name), descending)
		return list[:min(len(list), max(0, c.integer("n")))], err
	}
}

func sortBy(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	order(list, c.agg("func"), c.flag("reverse"))
	return list, err
}

func sortByAggregate(aggregate string, descending bool) evalFunc {
	return func(c *call) ([]*Series, error) {
		list, err := c.list("seriesList")
		order(list, consolidator(aggregate), descending)
		return list, err
	}
}

func sortByName(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	less := strings.Compare
	if c.flag("natural") {
		less = naturalCompare
	}
	slices.SortStableFunc(list, func(a, b *Series) int {
		if c.flag("reverse") {
			a, b = b, a
		}
		return less(a.Name, b.Name)
	})
	return list, err
}

// naturalCompare compares texts with the numbers in them by value.
func naturalCompare(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x == 0 || y == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
		if r := cmp.Or(cmp.Compare(len(m), len(n)), strings.Compare(m, n)); r != 0 {
			return r
		}
		a, b = a[x:], b[y:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits returns the number of digits s starts with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func useSeriesAbove(c *call) ([]*Series, error) {
	rename, err := c.replacer("search", "replace")
	if err != nil {
		return nil, err
	}
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	var out []*Series
	for _, s := range list {
		if !(maxOf(s.Values) > c.num("value")) {
			continue
		}
		found, err := c.target(rename(s.Name))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
