package graphite

import (
	"math"
	"slices"
	"strings"
)

func combineRows() []row {
	const lists, two = "(*seriesLists:seriesList)", "(seriesListFirst:seriesList, seriesListSecond:seriesList)"
	return []row{
		{"sumSeries" + lists, "Adds the values of all series at each time.", combine("sum")},
		{"sum" + lists, "Short for sumSeries.", combine("sum")},
		{"averageSeries" + lists, "The average of all series at each time.", combine("average")},
		{"avg" + lists, "Short for averageSeries.", combine("average")},
		{"minSeries" + lists, "The lowest value of all series at each time.", combine("min")},
		{"min" + lists, "Short for minSeries.", combine("min")},
		{"maxSeries" + lists, "The highest value of all series at each time.", combine("max")},
		{"max" + lists, "Short for maxSeries.", combine("max")},
		{"countSeries" + lists, "How many series have a value at each time.", combine("count")},
		{"diffSeries" + lists, "Takes the second and all further series from the first.", combine("diff")},
		{"multiplySeries" + lists, "Multiplies all series; missing where one is missing.", combine("multiply")},
		{"rangeOfSeries" + lists, "The highest value less the lowest one at each time.", combine("rangeOf")},
		{"stddevSeries" + lists, "The standard deviation of all series at each time.", combine("stddev")},
		{"powSeries" + lists, "The first series to the power of the second, and so on; missing where one is missing.", powSeries},
		{"percentileOfSeries(seriesList, n:float, interpolate:boolean=false)", "The n-th percentile of all series at each time.", percentileOfSeries},
		{"aggregate(seriesList, func:aggFunc, xFilesFactor:float?)", "Puts all series into one by an aggregate.", aggregateSeries},
		{"aggregateWithWildcards(seriesList, func:aggFunc, *positions:node)", "Aggregates the series whose paths are the same but for some components.", withWildcards("")},
		{"averageSeriesWithWildcards(seriesList, *position:node)", "Averages the series whose paths are the same but for some components.", withWildcards("average")},
		{"sumSeriesWithWildcards(seriesList, *position:node)", "Adds the series whose paths are the same but for some components.", withWildcards("sum")},
		{"multiplySeriesWithWildcards(seriesList, *position:node)", "Multiplies the series whose paths are the same but for some components.", withWildcards("multiply")},
		{"aggregateSeriesLists(seriesListFirst:seriesList, seriesListSecond:seriesList, func:aggFunc, xFilesFactor:float?)", "Aggregates each series of the first list with the one of the same rank in the second.", seriesLists("")},
		{"sumSeriesLists" + two, "Adds the series of two lists, rank by rank.", seriesLists("sum")},
		{"diffSeriesLists" + two, "Takes the series of the second list from those of the first, rank by rank.", seriesLists("diff")},
		{"multiplySeriesLists" + two, "Multiplies the series of two lists, rank by rank.", seriesLists("multiply")},
		{"divideSeriesLists(dividendSeriesList:seriesList, divisorSeriesList:seriesList)", "Divides the series of the first list by those of the second, rank by rank.", divideSeriesLists},
		{"divideSeries(dividendSeriesList:seriesList, divisorSeries:seriesList)", "Divides every series by one series.", divideSeries},
		{"asPercent(seriesList, total:seriesList?, *nodes:nodeOrTag?)", "Every series as a percentage of a total: a number, a series, as many series, or the sum of all. With nodes, the totals are per group.", asPercent},
		{"pct(seriesList, total:seriesList?, *nodes:nodeOrTag?)", "Short for asPercent.", asPercent},
		{"groupByNode(seriesList, nodeNum:nodeOrTag, callback:aggFunc=average)", "Aggregates the series which have a component of their path in common.", groupByNode},
		{"groupByNodes(seriesList, callback:aggFunc, *nodes:nodeOrTag)", "Aggregates the series which have some components of their paths in common.", groupByNode},
		{"groupByTags(seriesList, callback:aggFunc, *tags:tag)", "Aggregates the series which have some tags in common.", groupByTags},
		{"weightedAverage(seriesListAvg:seriesList, seriesListWeight:seriesList, *nodes:nodeOrTag)", "Averages series by weights which come from the series that are named alike.", weightedAverage},
		{"applyByNode(seriesList, nodeNum:node, templateFunction, newName?)", "Evaluates a target for each beginning of a path; % in it stands for the beginning.", applyByNode},
		{"reduceSeries(seriesLists:seriesList, reduceFunction, reduceNode:node, *reduceMatchers:string)", "Calls a function with the series whose paths are the same up to a component; the matchers say which component is which argument.", reduceSeries},
		{"reduce(seriesLists:seriesList, reduceFunction, reduceNode:node, *reduceMatchers:string)", "Short for reduceSeries.", reduceSeries},
		{"isNonNull(seriesList)", "1 where a series has a value and 0 where it has none.", isNonNull},
	}
}

func groupRows() []row {
	return []row{
		{"group(*seriesLists:seriesList)", "All series of several lists as one list.", func(c *call) ([]*Series, error) { return c.list("seriesLists") }},
		{"mapSeries(seriesList, *mapNodes:nodeOrTag)", "Orders series by components of their paths, for reduceSeries.", mapSeries},
		{"map(seriesList, *mapNodes:nodeOrTag)", "Short for mapSeries.", mapSeries},
		{"unique(*seriesLists:seriesList)", "Leaves one series of each name.", unique},
	}
}

// columns calls f with the values of all series, which have one grid, at each time.
func (c *call) columns(list []*Series, f func(k int, column []float64)) {
	column := make([]float64, len(list))
	for k := range list[0].Values {
		if c.tired(len(list)) {
			return // call notices
		}
		for i, s := range list {
			column[i] = s.Values[k]
		}
		f(k, column)
	}
}

// combined puts series into one by any function of the values at one time. The list is not empty.
func (c *call) combined(list []*Series, name string, f func(column []float64) float64) (*Series, error) {
	list = normalize(list)
	first := list[0]
	if err := c.run.hold(len(first.Values)); err != nil {
		return nil, err
	}
	s := &Series{
		Name: name, Path: name, Tags: commonTags(list), Start: first.Start, Step: first.Step, Values: make([]float64, len(first.Values)),
		Consolidation: first.Consolidation, XFilesFactor: first.XFilesFactor,
	}
	if _, ok := s.Tags["name"]; !ok {
		s.Tags["name"] = name
	}
	c.columns(list, func(k int, column []float64) { s.Values[k] = finite(f(column)) })
	return s, c.ctx.Err()
}

// aggregated puts series into one by an aggregate.
func (c *call) aggregated(list []*Series, agg aggregator, name string) (*Series, error) {
	share := c.run.req.XFilesFactor
	if c.has("xFilesFactor") {
		share = c.num("xFilesFactor")
	} else if len(list) > 0 {
		share = list[0].XFilesFactor
	}
	s, err := c.combined(list, name, func(column []float64) float64 { return agg.over(column, share) })
	if err != nil {
		return nil, err
	}
	s.Tags["aggregatedBy"] = agg.name
	return s, nil
}

// combine makes a function that puts all series into one.
func combine(aggregate string) evalFunc {
	return func(c *call) ([]*Series, error) {
		list, err := c.list("seriesLists")
		if err != nil || len(list) == 0 {
			return nil, err
		}
		agg := consolidator(aggregate)
		s, err := c.aggregated(list, agg, aggregate+"Series("+c.pathsOf(list)+")")
		return []*Series{s}, err
	}
}

func aggregateSeries(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	s, err := c.aggregated(list, c.agg("func"), strings.TrimSuffix(c.str("func"), "Series")+"Series("+c.pathsOf(list)+")")
	return []*Series{s}, err
}

func powSeries(c *call) ([]*Series, error) {
	list, err := c.list("seriesLists")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	s, err := c.combined(list, "powSeries("+c.pathsOf(list)+")", func(column []float64) float64 {
		v := column[0]
		for _, exponent := range column[1:] {
			v = power(v, exponent)
		}
		return v
	})
	return []*Series{s}, err
}

// power is math.Pow with missing values.
func power(v, exponent float64) float64 {
	if isNull(v) || isNull(exponent) {
		return math.NaN()
	}
	return math.Pow(v, exponent)
}

func percentileOfSeries(c *call) ([]*Series, error) {
	n := c.num("n")
	if n <= 0 || n > 100 {
		return nil, c.fail("argument n must be above 0 and at most 100, got %g", n)
	}
	list, err := c.list("seriesList")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	interpolate := c.flag("interpolate")
	s, err := c.combined(list, "percentileOfSeries("+c.pathsOf(list)+","+formatNumber(n)+")", func(column []float64) float64 {
		return percentile(sorted(column), n, interpolate)
	})
	return []*Series{s}, err
}

// aggregateGroups aggregates each group under its key.
func (c *call) aggregateGroups(list []*Series, agg aggregator, key func(s *Series) string) ([]*Series, error) {
	keys, groups := groupBy(list, key)
	out := make([]*Series, 0, len(keys))
	for _, k := range keys {
		s, err := c.aggregated(groups[k], agg, k)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// withWildcards makes a function that leaves components out of paths; without an aggregate the parameter func names it.
func withWildcards(aggregate string) evalFunc {
	return func(c *call) ([]*Series, error) {
		list, err := c.list("seriesList")
		if err != nil {
			return nil, err
		}
		name, positions := aggregate, "position"
		if aggregate == "" {
			name, positions = c.str("func"), "positions"
		}
		drop := all[node](c, positions)
		return c.aggregateGroups(list, consolidator(name), func(s *Series) string {
			parts := components(s)
			kept := make([]string, 0, len(parts))
			for i, part := range parts {
				if !slices.ContainsFunc(drop, func(n node) bool { return n.index == i || n.index+len(parts) == i }) {
					kept = append(kept, part)
				}
			}
			return strings.Join(kept, ".")
		})
	}
}

func groupByNode(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	nodes := append(all[node](c, "nodeNum"), all[node](c, "nodes")...)
	return c.aggregateGroups(list, c.agg("callback"), func(s *Series) string { return keyOf(s, nodes) })
}

func groupByTags(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	tags := all[string](c, "tags")
	slices.Sort(tags)
	tags = slices.Compact(tags)
	keys, groups := groupBy(list, func(s *Series) string {
		name, rest := c.str("callback"), ""
		for _, tag := range tags {
			if tag == "name" {
				name = s.Tags[tag]
				continue
			}
			rest += ";" + tag + "=" + s.Tags[tag]
		}
		return name + rest
	})
	out := make([]*Series, 0, len(keys))
	for _, k := range keys {
		s, err := c.aggregated(groups[k], c.agg("callback"), k)
		if err != nil {
			return nil, err
		}
		for tag := range s.Tags {
			if tag != "aggregatedBy" && !slices.Contains(tags, tag) {
				delete(s.Tags, tag)
			}
		}
		s.Tags["name"], _, _ = strings.Cut(k, ";")
		out = append(out, s)
	}
	return out, nil
}

func mapSeries(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	nodes := all[node](c, "mapNodes")
	keys, groups := groupBy(list, func(s *Series) string { return keyOf(s, nodes) })
	out := make([]*Series, 0, len(list))
	for _, k := range keys {
		out = append(out, groups[k]...)
	}
	return out, nil
}

func unique(c *call) ([]*Series, error) {
	list, err := c.list("seriesLists")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(s *Series) bool {
		known := seen[s.Name]
		seen[s.Name] = true
		return known
	}), nil
}
