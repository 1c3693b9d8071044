package graphite

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

func graphRows() []row {
	same := func(c *call) ([]*Series, error) { return c.list("seriesList") }
	decorated := func(args ...string) evalFunc {
		return func(c *call) ([]*Series, error) {
			return c.each(func(s *Series) *Series {
				name := c.fn.Name + "(" + s.Name
				for _, a := range args {
					name += "," + c.text(a)
				}
				return s.named(name + ")")
			})
		}
	}
	return []row{
		{"alpha(seriesList, alpha:float)", "The transparency of a line. Values stay as they are.", same},
		{"color(seriesList, theColor)", "The colour of a line. Values stay as they are.", same},
		{"lineWidth(seriesList, width:float)", "The width of a line. Values stay as they are.", same},
		{"dashed(seriesList, dashLength:float=5)", "A dashed line. Values stay as they are.", decorated("dashLength")},
		{"drawAsInfinite(seriesList)", "Vertical lines where values are not zero. Values stay as they are.", decorated()},
		{"secondYAxis(seriesList)", "A second axis. Values stay as they are.", decorated()},
		{"areaBetween(seriesList)", "The area between two lines. Values stay as they are.", areaBetween},
		{"stacked(seriesLists:seriesList, stackName=__DEFAULT__)", "Series upon each other: the values of each are added to those before it.", stacked},
	}
}

func specialRows() []row {
	return []row{
		{"constantLine(value:float)", "A line at a value.", constantLine},
		{"threshold(value:float, label?, color?)", "A line at a value, with a name.", threshold},
		{"verticalLine(ts:date, label?, color?)", "A line at a time.", verticalLine},
		{"aggregateLine(seriesList, func:aggFunc=average, keepStep:boolean=false)", "A line at an aggregate of each series.", aggregateLine},
		{"identity(name)", "The Unix time as value, once a minute.", generated(func(t float64, _ *call) float64 { return t })},
		{"time(name, step:integer=60)", "The Unix time as value.", generated(func(t float64, _ *call) float64 { return t })},
		{"timeFunction(name, step:integer=60)", "Long for time.", generated(func(t float64, _ *call) float64 { return t })},
		{"sin(name, amplitude:float=1, step:integer=60)", "The sine of the Unix time.", generated(func(t float64, c *call) float64 { return math.Sin(t) * c.num("amplitude") })},
		{"sinFunction(name, amplitude:float=1, step:integer=60)", "Long for sin.", generated(func(t float64, c *call) float64 { return math.Sin(t) * c.num("amplitude") })},
		{"randomWalk(name, step:integer=60)", "A random walk; the same name and range give the same one.", randomWalk},
		{"randomWalkFunction(name, step:integer=60)", "Long for randomWalk.", randomWalk},
		{"events(*tags:tag)", "Not supported: no events are stored.", func(c *call) ([]*Series, error) {
			return nil, c.fail("this database stores no events; use annotations of the dashboard, or a metric that counts them")
		}},
	}
}

func tagRows() []row {
	return []row{
		{"seriesByTag(*tagExpressions:string)", "The series whose tags fulfil all conditions: tag=value, tag!=value, tag=~regexp, tag!=~regexp; the tag name is the metric.", seriesByTag},
	}
}

func seriesByTag(c *call) ([]*Series, error) {
	q := &Query{Text: "seriesByTag("}
	selective := false
	for i, s := range all[string](c, "tagExpressions") {
		e, err := ParseTagExpr(s)
		if err != nil {
			return nil, c.fail("%w", err)
		}
		if i > 0 {
			q.Text += ","
		}
		q.Text += quote(s)
		q.Tags = append(q.Tags, e)
		selective = selective || !e.Negated && e.Value != ""
	}
	if !selective {
		return nil, c.fail("at least one condition must be tag=value or tag=~regexp, with a value")
	}
	q.Text += ")"
	return c.run.fetch(c.ctx, q, c.scope)
}

func areaBetween(c *call) ([]*Series, error) {
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	if len(list) != 2 {
		return nil, c.fail("it takes exactly 2 series, got %d", len(list))
	}
	name := "areaBetween(" + c.pathsOf(list) + ")"
	return mapEach(list, func(s *Series) *Series { return s.named(name) }), nil
}

func stacked(c *call) ([]*Series, error) {
	list, err := c.list("seriesLists")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	list = normalize(list)
	total := make([]float64, len(list[0].Values))
	return mapEach(list, func(s *Series) *Series {
		values := make([]float64, len(s.Values))
		for i, v := range s.Values {
			values[i] = v + total[i]
			if !isNull(v) {
				total[i] = values[i]
			}
		}
		name := s.Name
		if c.str("stackName") == "__DEFAULT__" {
			name = "stacked(" + s.Name + ")"
		}
		return s.with(name, values).tagged("stacked", c.str("stackName"))
	}), nil
}

// line is a constant over the range: at its start, in its middle and at its end.
func (c *call) line(name string, v float64) *Series {
	step := max(1, (c.scope.until-c.scope.from)/2)
	return &Series{Name: name, Path: name, Tags: map[string]string{"name": name}, Start: c.scope.from, Step: step, Values: constant(v, 3), Consolidation: "average"}
}

func constantLine(c *call) ([]*Series, error) {
	return []*Series{c.line(c.text("value"), c.num("value"))}, nil
}

func threshold(c *call) ([]*Series, error) {
	name := c.text("value")
	if c.has("label") {
		name = c.str("label")
	}
	return []*Series{c.line(name, c.num("value"))}, nil
}

func verticalLine(c *call) ([]*Series, error) {
	ts, err := c.time("ts")
	if err != nil {
		return nil, err
	}
	if ts < c.scope.from || ts > c.scope.until {
		return nil, c.fail("argument ts is outside of the range %s to %s (Unix seconds)", seconds(c.scope.from), seconds(c.scope.until))
	}
	name := c.plain("ts")
	if c.has("label") {
		name = c.str("label")
	}
	return []*Series{{Name: name, Tags: map[string]string{"name": name}, Start: ts, Step: 1000, Values: []float64{1, 1}}}, nil
}

func aggregateLine(c *call) ([]*Series, error) {
	agg := c.agg("func")
	return c.each(func(s *Series) *Series {
		v := agg.over(s.Values, 0)
		name := "aggregateLine(" + s.Name + "," + withUnit(v, "") + ")"
		if c.flag("keepStep") {
			return s.with(name, constant(v, len(s.Values)))
		}
		line := c.line(name, v)
		line.Tags = s.Tags
		return line
	})
}

// generated makes a function of the time, in seconds.
func generated(f func(t float64, c *call) float64) evalFunc {
	return func(c *call) ([]*Series, error) {
		step := int64(60_000)
		if c.has("step") {
			step = int64(c.integer("step")) * 1000
		}
		if step <= 0 {
			return nil, c.fail("argument step must be positive")
		}
		n := ceilDiv(c.scope.until-c.scope.from, step)
		if err := c.run.checkPoints(n); err != nil {
			return nil, err
		}
		name := c.str("name")
		s := &Series{Name: name, Tags: map[string]string{"name": name}, Start: c.scope.from, Step: step, Values: make([]float64, max(0, n))}
		for i := range s.Values {
			s.Values[i] = f(float64(s.At(i))/1000, c)
		}
		return []*Series{s}, nil
	}
}

func randomWalk(c *call) ([]*Series, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.str("name"))) // never fails
	rng := rand.New(rand.NewPCG(h.Sum64(), uint64(c.scope.from)))
	at := 0.0
	return generated(func(float64, *call) float64 {
		at += rng.Float64() - 0.5
		return at
	})(c)
}
