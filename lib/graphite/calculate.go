package graphite

import (
	"math"
	"strings"
)

func calculateRows() []row {
	const window = "(seriesList, windowSize:intOrInterval, xFilesFactor:float?)"
	return []row{
		{"movingWindow(seriesList, windowSize:intOrInterval, func:aggFunc=average, xFilesFactor:float?)", "An aggregate of the values before each time: of so many, or of an interval.", moving("")},
		{"movingAverage" + window, "The average of the values before each time.", moving("average")},
		{"movingMedian" + window, "The median of the values before each time.", moving("median")},
		{"movingMin" + window, "The lowest of the values before each time.", moving("min")},
		{"movingMax" + window, "The highest of the values before each time.", moving("max")},
		{"movingSum" + window, "The sum of the values before each time.", moving("sum")},
		{"exponentialMovingAverage(seriesList, windowSize:intOrInterval)", "A moving average to which newer values contribute more.", exponentialMovingAverage},
		{"stdev(seriesList, points:integer, windowTolerance:float=0.1)", "The standard deviation of the last points, where at least the given share of them is known.", stdev},
		{"nPercentile(seriesList, n:float)", "The n-th percentile of a series as a line.", nPercentile},
		{"linearRegression(seriesList, startSourceAt:date?, endSourceAt:date?)", "The line that fits a series best, by least squares.", linearRegression},
	}
}

// widened evaluates the series from a window earlier on.
func (c *call) widened(w window) ([]*Series, error) {
	sc := c.scope
	sc.withUntil = true
	step := c.run.req.Step
	for {
		sc.from = c.scope.from - w.length(step)
		list, err := c.listIn("seriesList", sc)
		if err != nil {
			return nil, err
		}
		longest := step
		for _, s := range list {
			longest = max(longest, s.Step)
		}
		if longest == step || w.points == 0 {
			return list, nil
		}
		step = longest // windows of points are longer than was thought
	}
}

// length returns the window in milliseconds.
func (w window) length(step int64) int64 {
	if w.points > 0 {
		return int64(w.points) * step
	}
	return w.ms
}

// pointsOf returns the window in points.
func (w window) pointsOf(step int64) int {
	if w.points > 0 {
		return w.points
	}
	return int(max(1, w.ms/step))
}

// visible returns the rank of the first value at or after the start of the range, and how many there are up to its end, the end included.
func (c *call) visible(s *Series) (start, n int) {
	from := floorTo(c.scope.from, s.Step)
	if from < s.Start {
		from = s.Start
	}
	start = min(int(ceilDiv(from-s.Start, s.Step)), len(s.Values))
	n = int(max(0, floorDiv(c.scope.until-s.At(start), s.Step)+1))
	return start, min(n, len(s.Values)-start)
}

// moving makes a function of windows; without an aggregate the parameter func names it.
func moving(aggregate string) evalFunc {
	return func(c *call) ([]*Series, error) {
		name := aggregate
		if name == "" {
			name = c.str("func")
		}
		w := c.window("windowSize")
		list, err := c.widened(w)
		if err != nil {
			return nil, err
		}
		agg := consolidator(name)
		slide := newSlider(agg)
		label := "moving" + strings.ToUpper(agg.name[:1]) + agg.name[1:]
		for i, s := range list {
			share := s.XFilesFactor
			if c.has("xFilesFactor") {
				share = c.num("xFilesFactor")
			}
			points := w.pointsOf(s.Step)
			start, n := c.visible(s)
			if slide != nil {
				slide.load(s.Values, points)
			}
			values := nulls(n)
			for k := range values {
				first, end := max(0, start+k-points), start+k
				if first == end {
					continue
				}
				if slide != nil {
					values[k] = slide.at(first, end, points, share)
					continue
				}
				if c.tired(end - first) {
					break // call notices
				}
				values[k] = agg.over(s.Values[first:end], share)
			}
			if c.tired(len(s.Values)) {
				break // call notices
			}
			list[i] = s.with(label+"("+s.Name+","+w.text+")", values).tagged(label, strings.Trim(w.text, "'"))
			list[i].Start = s.At(start)
		}
		return list, nil
	}
}

func exponentialMovingAverage(c *call) ([]*Series, error) {
	w := c.window("windowSize")
	list, err := c.widened(w)
	return mapEach(list, func(s *Series) *Series {
		points := w.pointsOf(s.Step)
		weight := 2 / (float64(points) + 1)
		start, n := c.visible(s)
		average := math.NaN()
		if before := s.Values[max(0, start-points):start]; countOf(before) > 0 {
			average = meanOf(before)
		}
		values := nulls(n)
		for k, v := range s.Values[start : start+n] {
			switch {
			case isNull(v):
				continue
			case isNull(average):
				average = v
			default:
				average = weight*v + (1-weight)*average
			}
			values[k] = average
		}
		out := s.with("exponentialMovingAverage("+s.Name+","+w.text+")", values).tagged("exponentialMovingAverage", strings.Trim(w.text, "'"))
		out.Start = s.At(start)
		return out
	}), err
}

func stdev(c *call) ([]*Series, error) {
	points, share := c.integer("points"), c.num("windowTolerance")
	if points < 1 {
		return nil, c.fail("argument points must be at least 1, got %d", points)
	}
	return c.each(func(s *Series) *Series {
		values := make([]float64, len(s.Values))
		for i := range values {
			last := s.Values[max(0, i+1-points) : i+1]
			values[i] = math.NaN()
			if c.tired(len(last)) {
				break // call notices
			}
			if known := countOf(last); known > 0 && known/float64(points) >= share {
				values[i] = math.Sqrt(varianceOf(last))
			}
		}
		return s.with("stdev("+s.Name+","+c.text("points")+")", values).tagged("stdev", c.text("points"))
	})
}

func nPercentile(c *call) ([]*Series, error) {
	n := c.num("n")
	if n <= 0 || n > 100 {
		return nil, c.fail("argument n must be above 0 and at most 100, got %g", n)
	}
	list, err := c.list("seriesList")
	var out []*Series
	for _, s := range list {
		known := sorted(s.Values)
		if len(known) == 0 {
			continue
		}
		out = append(out, s.with("nPercentile("+s.Name+","+formatNumber(n)+")", constant(percentile(known, n, false), len(s.Values))).tagged("nPercentile", formatNumber(n)))
	}
	return out, err
}

func constant(v float64, n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = v
	}
	return values
}

func linearRegression(c *call) ([]*Series, error) {
	source := c.scope
	var err error
	if c.has("startSourceAt") {
		if source.from, err = c.time("startSourceAt"); err != nil {
			return nil, err
		}
	}
	if c.has("endSourceAt") {
		if source.until, err = c.time("endSourceAt"); err != nil {
			return nil, err
		}
	}
	targets, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	sources := targets
	if source != c.scope {
		if sources, err = c.listIn("seriesList", source); err != nil {
			return nil, err
		}
	}
	byName := map[string]*Series{}
	for _, s := range sources {
		byName[s.Name] = s
	}
	var out []*Series
	for _, s := range targets {
		from := byName[s.Name]
		if from == nil {
			continue
		}
		base, slope, ok := fitLine(from)
		if !ok {
			continue
		}
		values := make([]float64, len(s.Values))
		for i := range values {
			values[i] = base + slope*float64(s.At(i))/1000
		}
		name := "linearRegression(" + s.Name + "," + seconds(source.from) + "," + seconds(source.until) + ")"
		out = append(out, s.with(name, values).tagged("linearRegressions", seconds(source.from)+","+seconds(source.until)))
	}
	return out, nil
}

// fitLine returns the value at the Unix time 0 and the growth per second of the line which fits a series best.
func fitLine(s *Series) (base, slope float64, ok bool) {
	var n, sumX, sumY, sumXX, sumXY float64
	origin := float64(s.Start) / 1000 // keeps the sums small
	for i, v := range s.Values {
		if isNull(v) {
			continue
		}
		x := float64(s.At(i))/1000 - origin
		n++
		sumX, sumY, sumXX, sumXY = sumX+x, sumY+v, sumXX+x*x, sumXY+x*v
	}
	d := n*sumXX - sumX*sumX
	if d == 0 {
		return 0, 0, false
	}
	slope = (n*sumXY - sumX*sumY) / d
	return (sumY-slope*sumX)/n - slope*origin, slope, true
}
