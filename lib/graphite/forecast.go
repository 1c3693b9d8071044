package graphite

import "math"

func forecastRows() []row {
	const params = "bootstrapInterval:interval=7d, seasonality:interval=1d)"
	return []row{
		{"holtWintersForecast(seriesList, " + params, "What Holt-Winters, trained with the values of the bootstrap interval before, expects at each time.", forecastOnly},
		{"holtWintersConfidenceBands(seriesList, delta:float=3, " + params, "The lowest and the highest value that Holt-Winters has no reason to wonder about: delta deviations from its forecast.", confidenceBands},
		{"holtWintersConfidenceArea(seriesList, delta:float=3, " + params, "The confidence bands, to be drawn as an area.", confidenceBands},
		{"holtWintersAberration(seriesList, delta:float=3, " + params, "By how much values are outside of the confidence bands; 0 inside.", aberration},
	}
}

// smoothing factors of Holt-Winters, as in Graphite.
const (
	smoothLevel  = 0.1
	smoothTrend  = 0.0035
	smoothSeason = 0.1
)

// forecast is what Holt-Winters expects of a series.
type forecast struct {
	series    *Series // of the range asked for
	expected  []float64
	deviation []float64
}

// forecasts evaluates the series with a bootstrap interval before and returns what is expected in the range.
func (c *call) forecasts() ([]forecast, error) {
	bootstrap, season := c.interval("bootstrapInterval"), c.interval("seasonality")
	if bootstrap <= 0 || season <= 0 {
		return nil, c.fail("bootstrapInterval and seasonality must be positive")
	}
	sc := c.scope
	sc.from -= bootstrap
	list, err := c.listIn("seriesList", sc)
	if err != nil {
		return nil, err
	}
	out := make([]forecast, len(list))
	for i, s := range list {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		expected, deviation := holtWinters(s.Values, int(max(1, season/s.Step)))
		first := min(len(s.Values), int(max(0, ceilDiv(floorTo(c.scope.from, s.Step)-s.Start, s.Step))))
		visible := s.with(s.Name, s.Values[first:])
		visible.Start = s.At(first)
		out[i] = forecast{visible, expected[first:], deviation[first:]}
	}
	return out, nil
}

// holtWinters is triple exponential smoothing with an additive season of so many values, and Brutlag's deviation of the
// season. Expectations of a value come from the values before it only.
func holtWinters(values []float64, season int) (expected, deviation []float64) {
	n := len(values)
	expected, deviation = make([]float64, n), make([]float64, n)
	seasonal := make([]float64, n)
	ago := func(list []float64, i int) float64 {
		if i < season {
			return 0
		}
		return list[i-season]
	}
	level, trend, next := math.NaN(), 0.0, math.NaN()
	for i, v := range values {
		if isNull(v) {
			// A gap starts anew, with the season that is known.
			level, trend = math.NaN(), 0
			expected[i], next = next, math.NaN()
			continue
		}
		lastLevel, prediction := level, next
		if isNull(level) {
			lastLevel, prediction = v, v
		}
		if i == 0 {
			prediction = v
		}
		lastSeason := ago(seasonal, i)
		level = smoothLevel*(v-lastSeason) + (1-smoothLevel)*(lastLevel+trend)
		trend = smoothTrend*(level-lastLevel) + (1-smoothTrend)*trend
		seasonal[i] = smoothSeason*(v-level) + (1-smoothSeason)*lastSeason
		if isNull(prediction) {
			prediction = v
		}
		deviation[i] = smoothSeason*math.Abs(v-prediction) + (1-smoothSeason)*ago(deviation, i)
		expected[i] = prediction
		next = level + trend + ago(seasonal, i+1)
	}
	return expected, deviation
}

func forecastOnly(c *call) ([]*Series, error) {
	list, err := c.forecasts()
	out := make([]*Series, len(list))
	for i, f := range list {
		out[i] = f.series.with("holtWintersForecast("+f.series.Name+")", f.expected).tagged("holtWintersForecast", "1")
	}
	return out, err
}

// band returns the forecast moved by some deviations.
func (f *forecast) band(delta float64) []float64 {
	values := make([]float64, len(f.expected))
	for i := range values {
		values[i] = f.expected[i] + delta*f.deviation[i]
	}
	return values
}

func confidenceBands(c *call) ([]*Series, error) {
	delta := c.num("delta")
	list, err := c.forecasts()
	if err != nil {
		return nil, err
	}
	var out []*Series
	for _, f := range list {
		lower := f.series.with("holtWintersConfidenceLower("+f.series.Name+")", f.band(-delta)).tagged("holtWintersConfidenceLower", "1")
		upper := f.series.with("holtWintersConfidenceUpper("+f.series.Name+")", f.band(delta)).tagged("holtWintersConfidenceUpper", "1")
		if c.fn.Name == "holtWintersConfidenceArea" {
			lower.Name, upper.Name = "areaBetween("+lower.Name+","+upper.Name+")", "areaBetween("+lower.Name+","+upper.Name+")"
		}
		out = append(out, lower, upper)
	}
	return out, nil
}

func aberration(c *call) ([]*Series, error) {
	delta := c.num("delta")
	list, err := c.forecasts()
	out := make([]*Series, len(list))
	for i, f := range list {
		lower, upper := f.band(-delta), f.band(delta)
		values := make([]float64, len(lower))
		for k, v := range f.series.Values {
			switch {
			case v > upper[k]:
				values[k] = v - upper[k]
			case v < lower[k]:
				values[k] = v - lower[k]
			}
		}
		out[i] = f.series.with("holtWintersAberration("+f.series.Name+")", values).tagged("holtWintersAberration", "1")
	}
	return out, err
}
