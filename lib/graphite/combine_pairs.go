package graphite

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// pairs evaluates two lists of the same length.
func (c *call) pairs(first, second string) (a, b []*Series, err error) {
	if a, err = c.list(first); err != nil {
		return nil, nil, err
	}
	if b, err = c.list(second); err != nil {
		return nil, nil, err
	}
	if len(a) != len(b) {
		return nil, nil, c.fail("%s has %d series and %s has %d; give lists of the same length", first, len(a), second, len(b))
	}
	return a, b, nil
}

// seriesLists makes a function that aggregates two lists rank by rank; without an aggregate the parameter func names it.
func seriesLists(aggregate string) evalFunc {
	return func(c *call) ([]*Series, error) {
		name := aggregate
		if name == "" {
			name = strings.TrimSuffix(c.str("func"), "Series")
		}
		a, b, err := c.pairs("seriesListFirst", "seriesListSecond")
		if err != nil {
			return nil, err
		}
		for i := range a {
			pair := []*Series{a[i], b[i]}
			if a[i], err = c.aggregated(pair, consolidator(name), name+"Series("+a[i].Name+","+b[i].Name+")"); err != nil {
				return nil, err
			}
		}
		return a, nil
	}
}

// quotient divides the first value by the second, unless that is zero.
func quotient(column []float64) float64 {
	if column[1] == 0 {
		return math.NaN()
	}
	return column[0] / column[1]
}

func divideSeriesLists(c *call) ([]*Series, error) {
	a, b, err := c.pairs("dividendSeriesList", "divisorSeriesList")
	if err != nil {
		return nil, err
	}
	for i := range a {
		if a[i], err = c.combined([]*Series{a[i], b[i]}, "divideSeries("+a[i].Name+","+b[i].Name+")", quotient); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func divideSeries(c *call) ([]*Series, error) {
	list, err := c.list("dividendSeriesList")
	if err != nil {
		return nil, err
	}
	divisor, err := c.list("divisorSeries")
	if err != nil {
		return nil, err
	}
	if len(divisor) > 1 {
		return nil, c.fail("divisorSeries has %d series; give exactly one, or use divideSeriesLists()", len(divisor))
	}
	for i, s := range list {
		if len(divisor) == 0 {
			list[i] = s.with("divideSeries("+s.Name+",MISSING)", nulls(len(s.Values)))
			continue
		}
		if list[i], err = c.combined([]*Series{s, divisor[0]}, "divideSeries("+s.Name+","+divisor[0].Name+")", quotient); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func nulls(n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = math.NaN()
	}
	return values
}

// share is the first value as a percentage of the second.
func share(column []float64) float64 { return 100 * quotient(column) }

func asPercent(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	total := c.args["total"].exprs
	if len(total) == 1 {
		if n, ok := total[0].(Number); ok {
			return mapEach(list, func(s *Series) *Series {
				return s.mapped("asPercent("+s.Name+","+n.Text+")", func(v float64) float64 { return share([]float64{v, n.Value}) })
			}), nil
		}
	}
	var totals []*Series
	if len(total) > 0 {
		if totals, err = c.list("total"); err != nil {
			return nil, err
		}
	}
	if c.has("nodes") {
		return c.percentByNode(list, totals, len(total) > 0)
	}
	if len(total) == 0 && len(list) > 0 {
		sum, err := c.aggregated(list, consolidator("sum"), "sumSeries("+c.pathsOf(list)+")")
		if err != nil {
			return nil, err
		}
		totals = []*Series{sum}
	}
	return c.percentOf(list, totals)
}

// percentOf divides all series by one total, or each by its own, in the order of their names.
func (c *call) percentOf(list, totals []*Series) ([]*Series, error) {
	if len(totals) != 1 && len(totals) != len(list) {
		return nil, c.fail("total has %d series; give a number, one series, or as many as the %d of seriesList", len(totals), len(list))
	}
	if len(totals) > 1 {
		byName := func(a, b *Series) int { return cmp.Compare(a.Name, b.Name) }
		slices.SortStableFunc(list, byName)
		slices.SortStableFunc(totals, byName)
	}
	var err error
	for i, s := range list {
		t := totals[min(i, len(totals)-1)]
		if list[i], err = c.combined([]*Series{s, t}, "asPercent("+s.Name+","+t.Name+")", share); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// percentByNode divides series by the total of their group.
func (c *call) percentByNode(list, totals []*Series, given bool) ([]*Series, error) {
	nodes := all[node](c, "nodes")
	key := func(s *Series) string { return keyOf(s, nodes) }
	keys, groups := groupBy(list, key)
	totalKeys, totalGroups := keys, groups
	if given {
		totalKeys, totalGroups = groupBy(totals, key)
	}
	var out []*Series
	for _, k := range keys {
		total := totalGroups[k]
		for _, s := range groups[k] {
			if len(total) == 0 {
				out = append(out, s.with("asPercent("+s.Name+",MISSING)", nulls(len(s.Values))))
				continue
			}
			t, err := c.totalOf(total)
			if err != nil {
				return nil, err
			}
			p, err := c.combined([]*Series{s, t}, "asPercent("+s.Name+","+t.Name+")", share)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
			total = []*Series{t}
		}
	}
	for _, k := range totalKeys {
		if _, ok := groups[k]; ok {
			continue
		}
		for _, t := range totalGroups[k] {
			out = append(out, t.with("asPercent(MISSING,"+t.Name+")", nulls(len(t.Values))))
		}
	}
	return out, nil
}

// totalOf adds series; one stays as it is.
func (c *call) totalOf(list []*Series) (*Series, error) {
	if len(list) == 1 {
		return list[0], nil
	}
	return c.aggregated(list, consolidator("sum"), "sumSeries("+c.pathsOf(list)+")")
}

func weightedAverage(c *call) ([]*Series, error) {
	values, err := c.list("seriesListAvg")
	if err != nil {
		return nil, err
	}
	weights, err := c.list("seriesListWeight")
	if err != nil {
		return nil, err
	}
	nodes := all[node](c, "nodes")
	var pairs []*Series
	keys, groups := groupBy(values, func(s *Series) string { return keyOf(s, nodes) })
	_, weightGroups := groupBy(weights, func(s *Series) string { return keyOf(s, nodes) })
	for _, k := range keys {
		if w := weightGroups[k]; len(w) > 0 {
			last := groups[k]
			pairs = append(pairs, last[len(last)-1], w[len(w)-1])
		}
	}
	if len(pairs) == 0 {
		return nil, nil
	}
	name := "weightedAverage(" + c.pathsOf(values) + "," + c.pathsOf(weights)
	for _, n := range nodes {
		name += "," + n.String()
	}
	s, err := c.combined(pairs, name+")", func(column []float64) float64 {
		sum, weight := 0.0, 0.0
		for i := 0; i < len(column); i += 2 {
			if !isNull(column[i]) && !isNull(column[i+1]) {
				sum += column[i] * column[i+1]
				weight += column[i+1]
			}
		}
		return quotient([]float64{sum, weight})
	})
	return []*Series{s}, err
}

func applyByNode(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	last := at[node](c, "nodeNum").index
	keys, _ := groupBy(list, func(s *Series) string {
		parts := components(s)
		n := last
		if n < 0 {
			n += len(parts)
		}
		return strings.Join(parts[:min(max(0, n+1), len(parts))], ".")
	})
	var out []*Series
	for _, prefix := range keys {
		found, err := c.target(strings.ReplaceAll(c.str("templateFunction"), "%", prefix))
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			if c.has("newName") {
				s = s.named(strings.ReplaceAll(c.str("newName"), "%", prefix))
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// target evaluates a target that was made at run time.
func (c *call) target(text string) ([]*Series, error) {
	e, err := Parse(text)
	if err != nil {
		return nil, c.fail("%w", err)
	}
	list, err := c.run.eval(c.ctx, e, c.scope)
	return slices.Clone(list), err
}

// evaluated is series in the place of an expression.
type evaluated struct {
	list []*Series
}

func (evaluated) appendTo(dst []byte) []byte { return append(dst, "series"...) }

func reduceSeries(c *call) ([]*Series, error) {
	list, err := c.list("seriesLists")
	if err != nil {
		return nil, err
	}
	name, matchers := c.str("reduceFunction"), all[string](c, "reduceMatchers")
	index := at[node](c, "reduceNode").index
	found := map[string][]*Series{}
	var keys []string
	for _, s := range list {
		parts := components(s)
		i := index
		if i < 0 {
			i += len(parts)
		}
		if i < 0 || i >= len(parts) {
			continue
		}
		k := strings.Join(parts[:i], ".") + ".reduce." + name
		rank := slices.Index(matchers, parts[i])
		if rank < 0 {
			continue
		}
		if found[k] == nil {
			keys = append(keys, k)
			found[k] = make([]*Series, len(matchers))
		}
		found[k][rank] = s
	}
	var out []*Series
	for _, k := range keys {
		if slices.Contains(found[k], nil) {
			continue // an argument is missing
		}
		e := &Call{Name: name}
		for _, s := range found[k] {
			e.Args = append(e.Args, evaluated{[]*Series{s}})
		}
		reduced, err := c.run.call(c.ctx, e, c.scope)
		if err != nil {
			return nil, c.fail("%w", err)
		}
		for _, s := range reduced {
			out = append(out, s.named(k))
		}
	}
	return out, nil
}
