package graphite

import (
	"math"
	"strings"
)

func transformRows() []row {
	return []row{
		{"absolute(seriesList)", "The absolute value of every value.", pointwise(func(*call) func(float64) float64 { return math.Abs })},
		{"add(seriesList, constant:float)", "Adds a number to every value.", pointwise(func(c *call) func(float64) float64 {
			n := c.num("constant")
			return func(v float64) float64 { return v + n }
		}, "constant")},
		{"offset(seriesList, factor:float)", "Adds a number to every value.", pointwise(func(c *call) func(float64) float64 {
			n := c.num("factor")
			return func(v float64) float64 { return v + n }
		}, "factor")},
		{"scale(seriesList, factor:float)", "Multiplies every value.", pointwise(func(c *call) func(float64) float64 {
			n := c.num("factor")
			return func(v float64) float64 { return v * n }
		}, "factor")},
		{"pow(seriesList, factor:float)", "Every value to the power of a number.", pointwise(func(c *call) func(float64) float64 {
			n := c.num("factor")
			return func(v float64) float64 { return math.Pow(v, n) }
		}, "factor")},
		{"squareRoot(seriesList)", "The square root of every value; missing where the value is negative.", pointwise(func(*call) func(float64) float64 { return math.Sqrt })},
		{"exp(seriesList)", "e to the power of every value.", pointwise(func(*call) func(float64) float64 { return math.Exp })},
		{"invert(seriesList)", "One divided by every value; missing where that is zero.", pointwise(func(*call) func(float64) float64 {
			return func(v float64) float64 { return 1 / v }
		})},
		{"logarithm(seriesList, base:float=10)", "The logarithm of every value; missing where the value is not positive.", logarithm},
		{"log(seriesList, base:float=10)", "Short for logarithm.", logarithm},
		{"logit(seriesList)", "The logarithm of v/(1-v); missing where the value is not between 0 and 1.", pointwise(func(*call) func(float64) float64 {
			return func(v float64) float64 { return math.Log(v / (1 - v)) }
		})},
		{"sigmoid(seriesList)", "1/(1+exp(-v)) of every value.", pointwise(func(*call) func(float64) float64 {
			return func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
		})},
		{"round(seriesList, precision:integer?)", "Rounds every value to some digits after the point.", rounded},
		{"roundFunction(seriesList, precision:integer?)", "Long for round.", rounded},
		{"derivative(seriesList)", "The difference to the value before; missing where either is.", derivative},
		{"nonNegativeDerivative(seriesList, maxValue:float?, minValue:float?)", "The growth of a counter since the value before; missing where it fell, unless maxValue says at what it wraps.", counterRate(false)},
		{"perSecond(seriesList, maxValue:float?, minValue:float?)", "The growth of a counter per second; missing where it fell, unless maxValue says at what it wraps.", counterRate(true)},
		{"integral(seriesList)", "The sum of all values so far.", integral},
		{"integralByInterval(seriesList, intervalUnit:interval)", "The sum of all values so far, starting anew at each interval.", integralByInterval},
		{"delay(seriesList, steps:integer)", "Moves values to later times by some steps.", delay},
		{"minMax(seriesList)", "Scales values so that the lowest becomes 0 and the highest 1.", extremes(func(v, low, high float64) float64 {
			if high == low {
				return 0
			}
			return (v - low) / (high - low)
		})},
		{"offsetToZero(seriesList)", "Takes the lowest value of a series from all of its values.", extremes(func(v, low, _ float64) float64 { return v - low })},
		{"scaleToSeconds(seriesList, seconds:float)", "Turns values per step into values per so many seconds.", scaleToSeconds},
		{"timeShift(seriesList, timeShift, resetEnd:boolean=true, alignDST:boolean=false)", "Values of another time: 1d is a day earlier, +1d a day later.", timeShift},
		{"timeSlice(seriesList, startSliceAt:date, endSliceAt:date=now)", "Leaves the values between two times.", timeSlice},
		{"timeStack(seriesList, timeShiftUnit=1d, timeShiftStart:integer=0, timeShiftEnd:integer=7)", "The same series shifted in time by each of several multiples of a unit.", timeStack},
		{"transformNull(seriesList, default:float=0, referenceSeries:seriesList?)", "Puts a number where values are missing; with referenceSeries, only where one of these has a value.", transformNull},
		{"keepLastValue(seriesList, limit:intOrInf=inf)", "Fills gaps of at most so many steps with the value before.", keepLastValue},
		{"interpolate(seriesList, limit:intOrInf=inf)", "Fills gaps of at most so many steps with values on the line between their ends.", interpolate},
		{"changed(seriesList)", "1 where a value differs from the one before, else 0.", changed},
		{"hitcount(seriesList, intervalString:interval, alignToInterval:boolean=false)", "Counts hits per interval from values that are hits per second.", hitcount},
		{"summarize(seriesList, intervalString, func:aggFunc=sum, alignToFrom:boolean=false)", "Aggregates the values of each interval; intervals are aligned to their length, or to the start of the range.", summarize},
		{"smartSummarize(seriesList, intervalString, func:aggFunc=sum, alignTo?)", "Aggregates the values of each interval, counted from the start of the range, which alignTo rounds down to a unit such as hour.", smartSummarize},
		{"cumulative(seriesList)", "Short for consolidateBy with sum.", consolidateBy("sum")},
		{"consolidateBy(seriesList, consolidationFunc:aggFunc)", "Says which aggregate puts values into one when there are more than can be shown.", consolidateBy("")},
		{"setXFilesFactor(seriesList, xFilesFactor:float)", "Says what share of values must be known where several are put into one.", setXFilesFactor},
		{"xFilesFactor(seriesList, xFilesFactor:float)", "Short for setXFilesFactor.", setXFilesFactor},
	}
}

func mapEach(list []*Series, f func(s *Series) *Series) []*Series {
	for i, s := range list {
		list[i] = f(s)
	}
	return list
}

// mapped returns a copy with f of each known value.
func (s *Series) mapped(name string, f func(v float64) float64) *Series {
	values := make([]float64, len(s.Values))
	for i, v := range s.Values {
		if isNull(v) {
			values[i] = v
			continue
		}
		values[i] = finite(f(v))
	}
	return s.with(name, values)
}

// pointwise makes a function of each known value. The parameters, if given, are part of the names, and the first of them the value of the tag.
func pointwise(prepare func(c *call) func(v float64) float64, params ...string) evalFunc {
	return func(c *call) ([]*Series, error) {
		f := prepare(c)
		suffix, tag := "", "1"
		for i, p := range params {
			if i == 0 {
				tag = c.text(p)
			}
			suffix += "," + c.text(p)
		}
		return c.each(func(s *Series) *Series {
			return s.mapped(c.fn.Name+"("+s.Name+suffix+")", f).tagged(c.fn.Name, tag)
		})
	}
}

func logarithm(c *call) ([]*Series, error) {
	base := c.num("base")
	if base <= 0 || base == 1 {
		return nil, c.fail("argument base must be positive and not 1, got %g", base)
	}
	return c.each(func(s *Series) *Series {
		return s.mapped("log("+s.Name+","+formatNumber(base)+")", func(v float64) float64 { return math.Log(v) / math.Log(base) }).tagged("log", formatNumber(base))
	})
}

func rounded(c *call) ([]*Series, error) {
	suffix, tag := "", "0"
	if c.has("precision") {
		tag = c.text("precision")
		suffix = "," + tag
	}
	factor := math.Pow10(c.integer("precision"))
	return c.each(func(s *Series) *Series {
		return s.mapped("round("+s.Name+suffix+")", func(v float64) float64 {
			if r := math.RoundToEven(v*factor) / factor; !math.IsNaN(r) && !math.IsInf(r, 0) {
				return r
			}
			return v
		}).tagged("round", tag)
	})
}

func derivative(c *call) ([]*Series, error) {
	return c.each(func(s *Series) *Series {
		values, before := make([]float64, len(s.Values)), math.NaN()
		for i, v := range s.Values {
			values[i], before = v-before, v
		}
		return s.with("derivative("+s.Name+")", values).tagged("derivative", "1")
	})
}

// counterRate makes a function of the growth of counters.
func counterRate(perSecond bool) evalFunc {
	return func(c *call) ([]*Series, error) {
		highest, lowest := math.NaN(), math.NaN()
		if c.has("maxValue") {
			highest = c.num("maxValue")
		}
		if c.has("minValue") {
			lowest = c.num("minValue")
		}
		return c.each(func(s *Series) *Series {
			values, before := make([]float64, len(s.Values)), math.NaN()
			for i, v := range s.Values {
				if v > highest || v < lowest {
					v = math.NaN()
				}
				values[i], before = growth(before, v, highest, lowest), v
				if perSecond {
					values[i] /= float64(s.Step) / 1000
				}
			}
			return s.with(c.fn.Name+"("+s.Name+")", values).tagged(c.fn.Name, "1")
		})
	}
}

// growth returns how much a counter grew from a to b. It begins at lowest again after highest, of which either may be missing.
func growth(a, b, highest, lowest float64) float64 {
	if b >= a || isNull(a) || isNull(b) {
		return b - a
	}
	if !isNull(highest) {
		if isNull(lowest) {
			lowest = 0
		}
		return highest - a + b - lowest + 1
	}
	if !isNull(lowest) {
		return b - lowest
	}
	return math.NaN()
}

func integral(c *call) ([]*Series, error) {
	return c.each(func(s *Series) *Series {
		sum := 0.0
		return s.mapped("integral("+s.Name+")", func(v float64) float64 { sum += v; return sum }).tagged("integral", "1")
	})
}

func integralByInterval(c *call) ([]*Series, error) {
	interval := c.interval("intervalUnit")
	if interval <= 0 {
		return nil, c.fail("argument intervalUnit must be positive")
	}
	return c.each(func(s *Series) *Series {
		values, sum, current := make([]float64, len(s.Values)), 0.0, int64(math.MinInt64)
		for i, v := range s.Values {
			if k := floorDiv(s.At(i)-c.scope.from, interval); k != current {
				sum, current = 0, k
			}
			if !isNull(v) {
				sum += v
			}
			values[i] = sum
		}
		return s.with("integralByInterval("+s.Name+","+quote(c.exprText("intervalUnit"))+")", values).tagged("integralByInterval", c.exprText("intervalUnit"))
	})
}

// exprText returns an argument as it was written, without quotes.
func (c *call) exprText(param string) string {
	i := 0
	for ; c.fn.Params[i].Name != param; i++ {
	}
	var e Expr
	if i < len(c.expr.Args) {
		e = c.expr.Args[i]
	}
	for _, a := range c.expr.Named {
		if a.Name == param {
			e = a.Value
		}
	}
	if e == nil {
		return c.fn.Params[i].Default
	}
	text, _, _ := literal(e)
	return text
}

func delay(c *call) ([]*Series, error) {
	steps := c.integer("steps")
	return c.each(func(s *Series) *Series {
		values := nulls(len(s.Values))
		for i, v := range s.Values {
			if k := i + steps; k >= 0 && k < len(values) {
				values[k] = v
			}
		}
		return s.with("delay("+s.Name+","+c.text("steps")+")", values).tagged("delay", c.text("steps"))
	})
}

// extremes makes a function of values and the lowest and the highest of their series.
func extremes(f func(v, low, high float64) float64) evalFunc {
	return func(c *call) ([]*Series, error) {
		return c.each(func(s *Series) *Series {
			low, high := minOf(s.Values), maxOf(s.Values)
			return s.mapped(c.fn.Name+"("+s.Name+")", func(v float64) float64 { return f(v, low, high) }).tagged(c.fn.Name, "1")
		})
	}
}

func scaleToSeconds(c *call) ([]*Series, error) {
	secs := c.num("seconds")
	return c.each(func(s *Series) *Series {
		factor := secs * 1000 / float64(s.Step)
		return s.mapped("scaleToSeconds("+s.Name+","+formatNumber(secs)+")", func(v float64) float64 { return v * factor }).tagged("scaleToSeconds", formatNumber(secs))
	})
}

func transformNull(c *call) ([]*Series, error) {
	n := c.num("default")
	var known func(t int64) bool
	suffix := "," + formatNumber(n)
	if c.has("referenceSeries") {
		reference, err := c.list("referenceSeries")
		if err != nil {
			return nil, err
		}
		suffix += ",referenceSeries"
		known = func(t int64) bool { return anyKnown(reference, t) }
	}
	return c.each(func(s *Series) *Series {
		values := make([]float64, len(s.Values))
		for i, v := range s.Values {
			if isNull(v) && (known == nil || known(s.At(i))) {
				v = n
			}
			values[i] = v
		}
		t := s.with("transformNull("+s.Name+suffix+")", values).tagged("transformNull", formatNumber(n))
		if known != nil {
			t.Tags["referenceSeries"] = "1"
		}
		return t
	})
}

// anyKnown reports whether one of the series has a value at a time.
func anyKnown(list []*Series, t int64) bool {
	for _, s := range list {
		if i := floorDiv(t-s.Start, s.Step); i >= 0 && i < int64(len(s.Values)) && !isNull(s.Values[i]) {
			return true
		}
	}
	return false
}

// gaps calls f with the bounds of each run of missing values.
func gaps(values []float64, f func(start, end int)) {
	for i := 0; i < len(values); i++ {
		if !isNull(values[i]) {
			continue
		}
		start := i
		for i < len(values) && isNull(values[i]) {
			i++
		}
		f(start, i)
	}
}

func keepLastValue(c *call) ([]*Series, error) {
	limit := c.integer("limit")
	return c.each(func(s *Series) *Series {
		values := append([]float64(nil), s.Values...)
		gaps(s.Values, func(start, end int) {
			for i := start; start > 0 && end-start <= limit && i < end; i++ {
				values[i] = s.Values[start-1]
			}
		})
		return s.with("keepLastValue("+s.Name+")", values).tagged("keepLastValue", strings.Replace(c.text("limit"), "2147483647", "inf", 1))
	})
}

func interpolate(c *call) ([]*Series, error) {
	limit := c.integer("limit")
	return c.each(func(s *Series) *Series {
		values := append([]float64(nil), s.Values...)
		gaps(s.Values, func(start, end int) {
			if start == 0 || end == len(values) || end-start > limit {
				return
			}
			before, after := s.Values[start-1], s.Values[end]
			for i := start; i < end; i++ {
				values[i] = before + (after-before)*float64(i-start+1)/float64(end-start+1)
			}
		})
		return s.with("interpolate("+s.Name+")", values).tagged("interpolate", strings.Replace(c.text("limit"), "2147483647", "inf", 1))
	})
}

func changed(c *call) ([]*Series, error) {
	return c.each(func(s *Series) *Series {
		values, before := make([]float64, len(s.Values)), math.NaN()
		for i, v := range s.Values {
			if isNull(v) {
				continue
			}
			if !isNull(before) && v != before {
				values[i] = 1
			}
			before = v
		}
		return s.with("changed("+s.Name+")", values).tagged("changed", "1")
	})
}

func isNonNull(c *call) ([]*Series, error) {
	return c.each(func(s *Series) *Series {
		values := make([]float64, len(s.Values))
		for i, v := range s.Values {
			if !isNull(v) {
				values[i] = 1
			}
		}
		return s.with("isNonNull("+s.Name+")", values).tagged("isNonNull", "1")
	})
}

// consolidateBy makes a function that names the aggregate of a series, by the parameter when it is empty here.
func consolidateBy(aggregate string) evalFunc {
	return func(c *call) ([]*Series, error) {
		name := aggregate
		if name == "" {
			name = c.str("consolidationFunc")
		}
		sc := c.scope
		sc.aggregate = name
		list, err := c.listIn("seriesList", sc)
		return mapEach(list, func(s *Series) *Series {
			s = s.named("consolidateBy("+s.Name+","+quote(name)+")").tagged("consolidateBy", name)
			s.Consolidation = name
			return s
		}), err
	}
}

func setXFilesFactor(c *call) ([]*Series, error) {
	share := c.num("xFilesFactor")
	if share < 0 || share > 1 {
		return nil, c.fail("argument xFilesFactor must be between 0 and 1, got %g", share)
	}
	return c.each(func(s *Series) *Series {
		s = s.copyOf().tagged("xFilesFactor", formatNumber(share))
		s.XFilesFactor = share
		return s
	})
}
