package vector

import (
	"math"
	"math/rand/v2"
	"time"

	"vmcluster/lib/model"
)

// Options are what transforms need beside their arguments.
type Options struct {
	KeepMetricNames bool
	Now             int64         // wall clock in Unix milliseconds, for now()
	AbsentLabels    []model.Label // labels of the answer of absent(), ascending by name
	Guard           Guard
}

// call is one evaluation of a function.
type call struct {
	name   string
	args   []Arg
	grid   Grid
	points int
	opts   Options
}

// Transform evaluates a transform or a label function. The name is in lower
// case; the empty name is union. The series may have lost all their points; they
// are kept, since what is around the call may need them. Errors are of kind Unprocessable.
func Transform(name string, args []Arg, g Grid, o Options) ([]*Series, error) {
	c := &call{name: name, args: args, grid: g, points: g.Points(), opts: o}
	for _, family := range []func() (func() ([]*Series, error), bool){
		c.elementwise, c.generator, c.gapFunction, c.rangeFunction, c.histogramFunction, c.setFunction, c.labelFunction, c.sortFunction,
	} {
		if run, ok := family(); ok {
			series, err := run()
			if err != nil {
				return nil, err
			}
			return c.dropNames(series), nil
		}
	}
	return nil, unprocessable("unsupported function %q", name)
}

// dropNames removes the metric names unless the function keeps the meaning of the values.
func (c *call) dropNames(series []*Series) []*Series {
	if c.keepsNames() {
		return series
	}
	for _, s := range series {
		s.Name = ""
	}
	return series
}

func (c *call) keepsNames() bool {
	switch c.name {
	case "ceil", "clamp", "clamp_max", "clamp_min", "floor", "interpolate", "keep_last_value", "keep_next_value", "round",
		"smooth_exponential", "remove_resets", "drop_empty_series", "limit_offset", "sort", "sort_desc", "union", "", "vector",
		"prometheus_buckets", "buckets_limit",
		"range_first", "range_last", "range_linear_regression", "range_mad", "range_median", "range_normalize", "range_quantile",
		"range_stddev", "range_stdvar", "range_trim_outliers", "range_trim_spikes", "range_trim_zscore", "range_zscore",
		"alias", "drop_common_labels", "label_copy", "label_del", "label_graphite_group", "label_join", "label_keep",
		"label_lowercase", "label_map", "label_match", "label_mismatch", "label_move", "label_replace", "label_set",
		"label_transform", "label_uppercase", "labels_equal", "sort_by_label", "sort_by_label_desc", "sort_by_label_numeric",
		"sort_by_label_numeric_desc":
		return true
	case "running_avg", "running_max", "running_min", "running_sum", "range_avg", "range_max", "range_min", "range_sum", "label_value":
		return false
	}
	return c.opts.KeepMetricNames
}

// set checks the number of arguments and returns the one at i as a set of series.
func (c *call) set(i, count int) ([]*Series, error) {
	if err := checkCount(c.name, c.args, count, count); err != nil {
		return nil, err
	}
	return c.args[i].set(c.points), nil
}

// scalar returns argument i, which must be a scalar.
func (c *call) scalar(i int) ([]float64, error) {
	values, err := c.args[i].scalar(c.points)
	if err != nil {
		return nil, unprocessable("cannot evaluate %s(): argument %d: %w", c.name, i+1, err)
	}
	return values, nil
}

// perValue returns a function which maps each point of the only argument on its own.
func (c *call) perValue(f func(v float64) float64) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, err := c.set(0, 1)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			for i, v := range s.Values {
				s.Values[i] = f(v)
			}
		}
		return series, nil
	}, true
}

// perSeries returns a function which changes each series of the only argument on its own.
func (c *call) perSeries(f func(values []float64)) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, err := c.set(0, 1)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			f(s.Values)
		}
		return series, nil
	}, true
}

// elementwise finds functions which map single points.
func (c *call) elementwise() (func() ([]*Series, error), bool) {
	if f := mathFunction(c.name); f != nil {
		return c.perValue(f)
	}
	if f := dateFunction(c.name); f != nil {
		return c.date(f)
	}
	switch c.name {
	case "sgn":
		return c.perValue(sign)
	case "clamp":
		return c.clamp, true
	case "clamp_max":
		return c.withScalar(func(v, limit float64) float64 {
			if v > limit {
				return limit
			}
			return v
		})
	case "clamp_min":
		return c.withScalar(func(v, limit float64) float64 {
			if v < limit {
				return limit
			}
			return v
		})
	case "round":
		return c.round, true
	case "bitmap_and":
		return c.withScalar(bitwise(func(a, b uint64) uint64 { return a & b }))
	case "bitmap_or":
		return c.withScalar(bitwise(func(a, b uint64) uint64 { return a | b }))
	case "bitmap_xor":
		return c.withScalar(bitwise(func(a, b uint64) uint64 { return a ^ b }))
	}
	return nil, false
}

func mathFunction(name string) func(float64) float64 {
	switch name {
	case "abs":
		return math.Abs
	case "acos":
		return math.Acos
	case "acosh":
		return math.Acosh
	case "asin":
		return math.Asin
	case "asinh":
		return math.Asinh
	case "atan":
		return math.Atan
	case "atanh":
		return math.Atanh
	case "ceil":
		return math.Ceil
	case "cos":
		return math.Cos
	case "cosh":
		return math.Cosh
	case "deg":
		return func(v float64) float64 { return v * 180 / math.Pi }
	case "exp":
		return math.Exp
	case "floor":
		return math.Floor
	case "ln":
		return math.Log
	case "log10":
		return math.Log10
	case "log2":
		return math.Log2
	case "rad":
		return func(v float64) float64 { return v * math.Pi / 180 }
	case "sin":
		return math.Sin
	case "sinh":
		return math.Sinh
	case "sqrt":
		return math.Sqrt
	case "tan":
		return math.Tan
	case "tanh":
		return math.Tanh
	}
	return nil
}

// sign is 0 for a gap too.
func sign(v float64) float64 {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}

// bitwise combines two numbers cut to 64 bits. A gap stays one.
func bitwise(f func(a, b uint64) uint64) func(a, b float64) float64 {
	return func(a, b float64) float64 {
		if math.IsNaN(a) || math.IsNaN(b) {
			return math.NaN()
		}
		return float64(f(uint64(a), uint64(b)))
	}
}

// withScalar returns a function which combines each point with the scalar in the second argument.
func (c *call) withScalar(f func(v, arg float64) float64) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, err := c.set(0, 2)
		if err != nil {
			return nil, err
		}
		arg, err := c.scalar(1)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			for i, v := range s.Values {
				s.Values[i] = f(v, arg[i])
			}
		}
		return series, nil
	}, true
}

func (c *call) clamp() ([]*Series, error) {
	series, err := c.set(0, 3)
	if err != nil {
		return nil, err
	}
	lo, err := c.scalar(1)
	if err != nil {
		return nil, err
	}
	hi, err := c.scalar(2)
	if err != nil {
		return nil, err
	}
	for _, s := range series {
		for i, v := range s.Values {
			if v > hi[i] {
				s.Values[i] = hi[i]
			} else if v < lo[i] {
				s.Values[i] = lo[i]
			}
		}
	}
	return series, nil
}

func (c *call) round() ([]*Series, error) {
	if err := checkCount(c.name, c.args, 1, 2); err != nil {
		return nil, err
	}
	nearest := constant(1, c.points)
	if len(c.args) > 1 {
		var err error
		if nearest, err = c.scalar(1); err != nil {
			return nil, err
		}
	}
	series := c.args[0].set(c.points)
	lastNearest, decimals := math.NaN(), 0
	for i, n := range nearest {
		if n != lastNearest {
			lastNearest, decimals = n, decimalsOf(n)
		}
		for _, s := range series {
			s.Values[i] = roundTo(s.Values[i], n, decimals)
		}
	}
	return series, nil
}

// generator finds functions which make points out of nothing but time.
func (c *call) generator() (func() ([]*Series, error), bool) {
	switch c.name {
	case "time":
		return c.generate(func(i int) float64 { return float64(c.grid.At(i)) / 1000 })
	case "start":
		return c.generate(func(int) float64 { return float64(c.grid.Start) / 1000 })
	case "end":
		return c.generate(func(int) float64 { return float64(c.grid.End) / 1000 })
	case "step":
		return c.generate(func(int) float64 { return float64(c.grid.Step) / 1000 })
	case "now":
		return c.generate(func(int) float64 { return float64(c.opts.Now) / 1000 })
	case "pi":
		return c.generate(func(int) float64 { return math.Pi })
	case "rand":
		return c.random(func(r *rand.Rand) float64 { return r.Float64() })
	case "rand_normal":
		return c.random(func(r *rand.Rand) float64 { return r.NormFloat64() })
	case "rand_exponential":
		return c.random(func(r *rand.Rand) float64 { return r.ExpFloat64() })
	case "timezone_offset":
		return c.timezoneOffset, true
	}
	return nil, false
}

func (c *call) generate(f func(i int) float64) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		if err := checkCount(c.name, c.args, 0, 0); err != nil {
			return nil, err
		}
		values := make([]float64, c.points)
		for i := range values {
			values[i] = f(i)
		}
		return []*Series{Scalar(values)}, nil
	}, true
}

// random returns a function which is reproducible if it is given a seed.
func (c *call) random(next func(r *rand.Rand) float64) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		if err := checkCount(c.name, c.args, 0, 1); err != nil {
			return nil, err
		}
		seed := rand.Uint64()
		if len(c.args) == 1 {
			v, err := c.scalar(0)
			if err != nil {
				return nil, err
			}
			seed = math.Float64bits(first(v))
		}
		r := rand.New(rand.NewPCG(seed, 0))
		values := make([]float64, c.points)
		for i := range values {
			values[i] = next(r)
		}
		return []*Series{Scalar(values)}, nil
	}, true
}

func (c *call) timezoneOffset() ([]*Series, error) {
	if err := checkCount(c.name, c.args, 1, 1); err != nil {
		return nil, err
	}
	name, err := c.args[0].str()
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, unprocessable("cannot load timezone %q: %w; want a name such as Europe/Berlin", name, err)
	}
	values := make([]float64, c.points)
	for i := range values {
		_, offset := time.UnixMilli(c.grid.At(i)).In(zone).Zone()
		values[i] = float64(offset)
	}
	return []*Series{Scalar(values)}, nil
}

func dateFunction(name string) func(t time.Time) int {
	switch name {
	case "day_of_month":
		return time.Time.Day
	case "day_of_week":
		return func(t time.Time) int { return int(t.Weekday()) }
	case "day_of_year":
		return time.Time.YearDay
	case "days_in_month":
		return func(t time.Time) int { return time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day() }
	case "hour":
		return time.Time.Hour
	case "minute":
		return time.Time.Minute
	case "month":
		return func(t time.Time) int { return int(t.Month()) }
	case "year":
		return time.Time.Year
	}
	return nil
}

// date returns a function which reads points as Unix seconds; without argument, as the time.
func (c *call) date(f func(t time.Time) int) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		if err := checkCount(c.name, c.args, 0, 1); err != nil {
			return nil, err
		}
		var series []*Series
		if len(c.args) == 1 {
			series = c.args[0].set(c.points)
		} else {
			now := make([]float64, c.points)
			for i := range now {
				now[i] = float64(c.grid.At(i)) / 1000
			}
			series = []*Series{Scalar(now)}
		}
		for _, s := range series {
			for i, v := range s.Values {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					s.Values[i] = math.NaN()
					continue
				}
				s.Values[i] = float64(f(time.Unix(int64(v), 0).UTC()))
			}
		}
		return series, nil
	}, true
}
