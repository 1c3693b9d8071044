package graphite

import (
	"math"
	"strings"
	"time"
)

// shift parses a time shift; without a sign it goes back.
func (c *call) shift(text string) (int64, error) {
	ms, err := ParseInterval(text)
	if err != nil {
		return 0, c.fail("%w", err)
	}
	if text != "" && text[0] != '-' && text[0] != '+' {
		ms = -ms
	}
	return ms, nil
}

func timeShift(c *call) ([]*Series, error) {
	text := c.str("timeShift")
	if text == "" {
		return nil, c.fail("argument timeShift is empty; give an interval such as '1d'")
	}
	ms, err := c.shift(text)
	if err != nil {
		return nil, err
	}
	if text[0] != '-' && text[0] != '+' {
		text = "-" + text
	}
	return c.shifted(ms, func(name string) string { return "timeShift(" + name + "," + quote(text) + ")" }, text)
}

// shifted evaluates the series some time earlier or later, and puts the values where they are asked for.
func (c *call) shifted(ms int64, name func(name string) string, tag string) ([]*Series, error) {
	sc := c.scope
	if at[bool](c, "alignDST") {
		// A day which is an hour longer or shorter than 24 hours keeps its times of day.
		zone := c.run.req.Now.Location()
		_, here := time.UnixMilli(sc.from).In(zone).Zone()
		_, there := time.UnixMilli(sc.from + ms).In(zone).Zone()
		ms += int64(here-there) * 1000
	}
	sc.from, sc.until = sc.from+ms, sc.until+ms
	if c.has("resetEnd") && !c.flag("resetEnd") {
		sc.until = max(sc.until, c.scope.until)
	}
	list, err := c.listIn("seriesList", sc)
	return mapEach(list, func(s *Series) *Series {
		s = s.named(name(s.Name)).tagged("timeShift", tag)
		s.Start -= ms
		return s
	}), err
}

// maxStack is the largest number of shifts of timeStack.
const maxStack = 1000

func timeStack(c *call) ([]*Series, error) {
	unit := c.str("timeShiftUnit")
	ms, err := c.shift(unit)
	if err != nil {
		return nil, err
	}
	first, last := c.integer("timeShiftStart"), c.integer("timeShiftEnd")
	if last-first > maxStack {
		return nil, c.fail("it makes %d shifts; at most %d are allowed", last-first, maxStack)
	}
	if unit != "" && unit[0] != '-' && unit[0] != '+' {
		unit = "-" + unit
	}
	var out []*Series
	for i := first; i < last; i++ {
		suffix := "," + unit + "," + formatNumber(float64(i)) + ")"
		list, err := c.shifted(ms*int64(i), func(name string) string { return "timeShift(" + name + suffix }, unit)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			out = append(out, s.tagged("timeShiftUnit", unit, "timeShift", formatNumber(float64(i))))
		}
	}
	return out, nil
}

// time returns the time in a parameter.
func (c *call) time(name string) (int64, error) {
	ms, err := ParseTime(c.str(name), c.run.req.Now)
	if err != nil {
		return 0, c.fail("argument %s: %w", name, err)
	}
	return ms, nil
}

func timeSlice(c *call) ([]*Series, error) {
	start, err := c.time("startSliceAt")
	if err != nil {
		return nil, err
	}
	end, err := c.time("endSliceAt")
	if err != nil {
		return nil, err
	}
	return c.each(func(s *Series) *Series {
		values := nulls(len(s.Values))
		for i, v := range s.Values {
			if t := s.At(i); t >= start && t <= end {
				values[i] = v
			}
		}
		return s.with("timeSlice("+s.Name+","+seconds(start)+","+seconds(end)+")", values).tagged("timeSliceStart", seconds(start), "timeSliceEnd", seconds(end))
	})
}

// buckets puts the values of each interval from start on into one.
func (s *Series) buckets(start, interval int64, n int, agg aggregator) []float64 {
	out := make([]float64, n)
	for k := range out {
		from := start + int64(k)*interval
		first := max(0, ceilDiv(from-s.Start, s.Step))
		last := min(int64(len(s.Values)), ceilDiv(from+interval-s.Start, s.Step))
		out[k] = math.NaN()
		if first < last {
			out[k] = agg.over(s.Values[first:last], s.XFilesFactor)
		}
	}
	return out
}

// summarized aggregates series by intervals from start on, the last of which holds until.
func (c *call) summarized(start, interval int64, name func(s *Series) *Series) ([]*Series, error) {
	n := floorDiv(c.scope.until-start, interval) + 1
	if err := c.run.checkPoints(n); err != nil {
		return nil, err
	}
	sc := c.scope
	sc.from, sc.until, sc.withUntil = start, start+n*interval, false
	list, err := c.listIn("seriesList", sc)
	agg := c.agg("func")
	return mapEach(list, func(s *Series) *Series {
		out := name(s)
		out.Values, out.Start, out.Step = s.buckets(start, interval, int(n), agg), start, interval
		return out
	}), err
}

// length returns the interval in the parameter intervalString.
func (c *call) length() (int64, error) {
	ms, err := ParseInterval(c.str("intervalString"))
	if err != nil {
		return 0, c.fail("%w", err)
	}
	if ms = max(ms, -ms); ms == 0 {
		return 0, c.fail("argument intervalString is zero")
	}
	return ms, nil
}

func summarize(c *call) ([]*Series, error) {
	interval, err := c.length()
	if err != nil {
		return nil, err
	}
	start, suffix := floorTo(c.scope.from, interval), ""
	if c.flag("alignToFrom") {
		start, suffix = c.scope.from, ",true"
	}
	return c.summarized(start, interval, func(s *Series) *Series {
		return s.named("summarize("+s.Name+","+c.text("intervalString")+","+c.text("func")+suffix+")").tagged("summarize", c.str("intervalString"), "summarizeFunction", c.str("func"))
	})
}

func smartSummarize(c *call) ([]*Series, error) {
	interval, err := c.length()
	if err != nil {
		return nil, err
	}
	start, suffix := c.scope.from, ""
	if unit := c.str("alignTo"); unit != "" {
		if start, err = c.alignTo(start, unit); err != nil {
			return nil, err
		}
		suffix = "," + quote(unit)
	}
	return c.summarized(start, interval, func(s *Series) *Series {
		return s.named("smartSummarize("+s.Name+","+c.text("intervalString")+","+c.text("func")+suffix+")").tagged("smartSummarize", c.str("intervalString"), "smartSummarizeFunction", c.str("func"))
	})
}

// alignTo rounds a time down to the start of a unit of time in the zone of the request. Weeks begin on Monday, or on the given ISO day: weeks7 is Sunday.
func (c *call) alignTo(ms int64, unit string) (int64, error) {
	t := time.UnixMilli(ms).In(c.run.req.Now.Location())
	name := strings.TrimRight(strings.ToLower(unit), "1234567")
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
	switch unitMs(name) {
	case 1e3:
		return floorTo(ms, 1000), nil
	case 60e3:
		return floorTo(ms, 60_000), nil
	case 3600e3:
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, t.Location()).UnixMilli(), nil
	case 24 * 3600e3:
		return day.UnixMilli(), nil
	case 7 * 24 * 3600e3:
		first := 1
		if digits := unit[len(name):]; len(digits) == 1 {
			first = int(digits[0] - '0')
		}
		return day.AddDate(0, 0, -(int(day.Weekday())-first+7)%7).UnixMilli(), nil
	case 30 * 24 * 3600e3:
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, t.Location()).UnixMilli(), nil
	case 365 * 24 * 3600e3:
		return time.Date(t.Year(), 1, 1, 0, 0, 0, 0, t.Location()).UnixMilli(), nil
	}
	return 0, c.fail("argument alignTo must be a unit such as minutes, hours, days, weeks, months or years, got %q", unit)
}

func hitcount(c *call) ([]*Series, error) {
	interval := c.interval("intervalString")
	if interval <= 0 {
		return nil, c.fail("argument intervalString must be positive")
	}
	sc, suffix := c.scope, ""
	if c.flag("alignToInterval") {
		sc.from, suffix = floorTo(sc.from, interval), ",true"
	}
	n := ceilDiv(sc.until-sc.from, interval)
	if err := c.run.checkPoints(n); err != nil {
		return nil, err
	}
	list, err := c.listIn("seriesList", sc)
	text := quote(c.exprText("intervalString"))
	return mapEach(list, func(s *Series) *Series {
		out := s.with("hitcount("+s.Name+","+text+suffix+")", s.hits(sc.from, interval, int(n))).tagged("hitcount", c.exprText("intervalString"))
		out.Start, out.Step = sc.from, interval
		return out
	}), err
}

// hits spreads values, which are per second, over intervals.
func (s *Series) hits(start, interval int64, n int) []float64 {
	out := nulls(n)
	for i, v := range s.Values {
		if isNull(v) {
			continue
		}
		from, end := max(s.At(i), start), s.At(i+1)
		for k := floorDiv(from-start, interval); from < end && k < int64(n); k++ {
			next := min(end, start+(k+1)*interval)
			out[k] = zeroIfNull(out[k]) + v*float64(next-from)/1000
			from = next
		}
	}
	return out
}

// zeroIfNull returns 0 for a missing value.
func zeroIfNull(v float64) float64 {
	if isNull(v) {
		return 0
	}
	return v
}
