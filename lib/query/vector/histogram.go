package vector

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"vmcluster/lib/model"
)

const leLabel = "le"

// bucket is one cumulative bucket: how many observations are at most le.
type bucket struct {
	le     float64
	counts []float64
	series *Series
}

// histogram is the buckets of one group of series, ascending by le.
type histogram struct {
	labels  []model.Label
	buckets []bucket
}

// histogramFunction finds functions on buckets.
func (c *call) histogramFunction() (func() ([]*Series, error), bool) {
	switch c.name {
	case "prometheus_buckets":
		return func() ([]*Series, error) {
			series, err := c.set(0, 1)
			return rangesToLe(series), err
		}, true
	case "buckets_limit":
		return c.bucketsLimit, true
	case "histogram_quantile":
		return c.histogramQuantile, true
	case "histogram_quantiles":
		return c.histogramQuantiles, true
	case "histogram_share":
		return c.histogramShare, true
	case "histogram_fraction":
		return c.histogramFraction, true
	case "histogram_avg":
		return c.histogramMoment(func(avg, _ float64) float64 { return avg })
	case "histogram_stdvar":
		return c.histogramMoment(func(_, variance float64) float64 { return variance })
	case "histogram_stddev":
		return c.histogramMoment(func(_, variance float64) float64 { return math.Sqrt(variance) })
	}
	return nil, false
}

// rawHistograms groups buckets by the labels but le.
func rawHistograms(series []*Series) []*histogram {
	var result []*histogram
	for _, g := range groupWithoutLe(rangesToLe(series), false) {
		if buckets := parseBuckets(g.series); len(buckets) > 0 {
			result = append(result, &histogram{g.labels, buckets})
		}
	}
	return result
}

// histograms groups buckets by the labels but le, with broken counts repaired.
func histograms(series []*Series) []*histogram {
	result := rawHistograms(series)
	for _, h := range result {
		h.buckets = mergeEqualLe(h.buckets)
		repair(h.buckets)
	}
	return result
}

// groupWithoutLe groups by all labels but le, and by the name too if withName is set.
func groupWithoutLe(series []*Series, withName bool) []*group {
	notLe := func(name string) bool { return name != leLabel }
	return groupBy(series, func(dst []byte, s *Series) []byte {
		if withName {
			dst = appendString(dst, s.Name)
		}
		return appendLabelsExcept(dst, s.Labels, leLabel, leLabel)
	}, func(s *Series) (string, []model.Label) {
		name := ""
		if withName {
			name = s.Name
		}
		return name, filterLabels(s.Labels, notLe)
	})
}

// parseBuckets returns the series with a readable le, ascending by it.
func parseBuckets(series []*Series) []bucket {
	buckets := make([]bucket, 0, len(series))
	for _, s := range series {
		le, err := strconv.ParseFloat(labelValue(s, leLabel), 64)
		if err != nil || math.IsNaN(le) {
			continue
		}
		buckets = append(buckets, bucket{le: le, counts: s.Values, series: s})
	}
	slices.SortStableFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.le, b.le) })
	return buckets
}

// mergeEqualLe sums buckets with equal le, such as "1" and "1.0".
func mergeEqualLe(buckets []bucket) []bucket {
	dst := buckets[:1]
	for _, b := range buckets[1:] {
		last := &dst[len(dst)-1]
		if b.le != last.le {
			dst = append(dst, b)
			continue
		}
		for i, v := range b.counts {
			last.counts[i] += v
		}
	}
	return dst
}

// repair raises counts which are missing, or below the count of the bucket before.
func repair(buckets []bucket) {
	for i, below := range buckets[0].counts {
		if math.IsNaN(below) {
			below = 0
			buckets[0].counts[i] = 0
		}
		for _, b := range buckets[1:] {
			if v := b.counts[i]; math.IsNaN(v) || v < below {
				b.counts[i] = below
			}
			below = b.counts[i]
		}
	}
}

// estimate is a value with the bounds of the bucket it was found in.
type estimate struct{ value, lower, upper float64 }

func sameEstimate(v float64) estimate { return estimate{v, v, v} }

// quantileAt estimates the quantile phi at point i.
func (h *histogram) quantileAt(phi float64, i int) estimate {
	last := h.buckets[len(h.buckets)-1]
	total := last.counts[i]
	switch {
	case !(total > 0) || math.IsNaN(phi):
		return sameEstimate(math.NaN())
	case phi < 0:
		return estimate{math.Inf(-1), math.Inf(-1), h.buckets[0].counts[i]}
	case phi > 1:
		return estimate{math.Inf(1), total, math.Inf(1)}
	}
	need := phi * total
	below, edge, found := 0.0, 0.0, math.NaN()
	for _, b := range h.buckets {
		v := b.counts[i]
		if v <= 0 || v < need {
			if v > 0 {
				below = v
			}
			edge = b.le
			if !math.IsInf(edge, 0) {
				found = edge
			}
			continue
		}
		if math.IsInf(b.le, 1) {
			break
		}
		return estimate{edge + (b.le-edge)*(need-below)/(v-below), edge, b.le}
	}
	return estimate{found, found, math.Inf(1)}
}

// shareAt estimates the share of observations up to limit at point i.
func (h *histogram) shareAt(limit float64, i int) estimate {
	total := h.buckets[len(h.buckets)-1].counts[i]
	switch {
	case !(total > 0) || math.IsNaN(limit):
		return sameEstimate(math.NaN())
	case limit < 0:
		return sameEstimate(0)
	case math.IsInf(limit, 1):
		return sameEstimate(1)
	}
	below, edge := 0.0, 0.0
	for _, b := range h.buckets {
		v := b.counts[i]
		if limit >= b.le {
			below, edge = v, b.le
			continue
		}
		lower := below / total
		switch {
		case math.IsInf(b.le, 1):
			return estimate{lower, lower, 1}
		case edge == limit:
			return sameEstimate(lower)
		}
		return estimate{lower + (v-below)/total*(limit-edge)/(b.le-edge), lower, v / total}
	}
	return sameEstimate(1)
}

// estimates evaluates f at each point of each histogram. With a boundsLabel there are
// series for the bounds, marked lower and upper in that label.
func (c *call) estimates(hs []*histogram, boundsLabel string, f func(h *histogram, i int) estimate) []*Series {
	var result []*Series
	for _, h := range hs {
		value, lower, upper := make([]float64, c.points), make([]float64, c.points), make([]float64, c.points)
		for i := range value {
			e := f(h, i)
			value[i], lower[i], upper[i] = e.value, e.lower, e.upper
		}
		result = append(result, &Series{Labels: h.labels, Values: value})
		if boundsLabel != "" {
			result = append(result,
				&Series{Labels: withLabel(h.labels, boundsLabel, "lower"), Values: lower},
				&Series{Labels: withLabel(h.labels, boundsLabel, "upper"), Values: upper})
		}
	}
	return result
}

// boundsArgs reads (scalar, buckets) and (scalar, buckets, label).
func (c *call) boundsArgs() (arg []float64, hs []*histogram, label string, err error) {
	if err = checkCount(c.name, c.args, 2, 3); err != nil {
		return nil, nil, "", err
	}
	if arg, err = c.scalar(0); err != nil {
		return nil, nil, "", err
	}
	if len(c.args) == 3 {
		if label, err = c.args[2].str(); err != nil {
			return nil, nil, "", err
		}
	}
	return arg, histograms(c.args[1].set(c.points)), label, nil
}

func (c *call) histogramQuantile() ([]*Series, error) {
	phis, hs, label, err := c.boundsArgs()
	if err != nil {
		return nil, err
	}
	return c.estimates(hs, label, func(h *histogram, i int) estimate { return h.quantileAt(phis[i], i) }), nil
}

func (c *call) histogramShare() ([]*Series, error) {
	limits, hs, label, err := c.boundsArgs()
	if err != nil {
		return nil, err
	}
	return c.estimates(hs, label, func(h *histogram, i int) estimate { return h.shareAt(limits[i], i) }), nil
}

func (c *call) histogramQuantiles() ([]*Series, error) {
	if err := checkCount(c.name, c.args, 3, math.MaxInt); err != nil {
		return nil, err
	}
	label, err := c.args[0].str()
	if err != nil {
		return nil, err
	}
	last := len(c.args) - 1
	hs := histograms(c.args[last].set(c.points))
	var result []*Series
	for k := 1; k < last; k++ {
		phis, err := c.scalar(k)
		if err != nil {
			return nil, err
		}
		if err := c.opts.Guard.series(3*len(hs), c.points); err != nil {
			return nil, err
		}
		series := c.estimates(hs, "", func(h *histogram, i int) estimate { return h.quantileAt(phis[i], i) })
		for _, s := range series {
			setLabel(s, label, formatShort(first(phis)))
		}
		result = append(result, series...)
	}
	return result, nil
}

// formatShort renders a number as labels show it.
func formatShort(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func (c *call) histogramFraction() ([]*Series, error) {
	series, err := c.set(2, 3)
	if err != nil {
		return nil, err
	}
	lo, err := c.scalar(0)
	if err != nil {
		return nil, err
	}
	hi, err := c.scalar(1)
	if err != nil {
		return nil, err
	}
	for i := range lo {
		if lo[i] >= hi[i] {
			return nil, unprocessable("cannot evaluate histogram_fraction(): the lower limit %g is not below the upper limit %g", lo[i], hi[i])
		}
	}
	return c.estimates(histograms(series), "", func(h *histogram, i int) estimate {
		return sameEstimate(h.shareAt(hi[i], i).value - h.shareAt(lo[i], i).value)
	}), nil
}

// histogramMoment returns a function of average and variance, taken over the middles of the buckets.
func (c *call) histogramMoment(f func(avg, variance float64) float64) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, err := c.set(0, 1)
		if err != nil {
			return nil, err
		}
		return c.estimates(rawHistograms(series), "", func(h *histogram, i int) estimate {
			return sameEstimate(f(h.momentsAt(i)))
		}), nil
	}, true
}

// momentsAt weights the middles of the buckets with the observations in them,
// which are negative where the counts fall.
func (h *histogram) momentsAt(i int) (avg, variance float64) {
	var weight, sum, sum2, below, edge float64
	for _, b := range h.buckets {
		if math.IsInf(b.le, 0) || math.IsNaN(b.counts[i]) {
			continue
		}
		middle, w := (b.le+edge)/2, b.counts[i]-below
		weight += w
		sum += w * middle
		sum2 += w * middle * middle
		below, edge = b.counts[i], b.le
	}
	if weight == 0 {
		return math.NaN(), math.NaN()
	}
	avg = sum / weight
	return avg, max(0, sum2/weight-avg*avg)
}

func (c *call) bucketsLimit() ([]*Series, error) {
	series, err := c.set(1, 2)
	if err != nil {
		return nil, err
	}
	limits, err := c.scalar(0)
	if err != nil {
		return nil, err
	}
	limit := toInt(first(limits))
	if limit == 0 {
		return nil, unprocessable("cannot evaluate buckets_limit(): the limit must be at least 1, got %g", first(limits))
	}
	var result []*Series
	for _, g := range groupWithoutLe(rangesToLe(series), true) {
		for _, b := range thinOut(parseBuckets(g.series), max(limit, 3)) {
			result = append(result, b.series)
		}
	}
	return result, nil
}

// thinOut removes buckets until limit remain: empty ones at the edges first, then
// inner ones which hold the fewest observations together with their right neighbour.
func thinOut(buckets []bucket, limit int) []bucket {
	if len(buckets) <= limit {
		return buckets
	}
	hits := make([]float64, len(buckets))
	for i := range buckets[0].counts {
		below := 0.0
		for k, b := range buckets {
			if v := b.counts[i]; !math.IsNaN(v) {
				hits[k] += v - below
				below = v
			}
		}
	}
	for len(buckets) > limit && hits[len(buckets)-1] <= 0 {
		buckets = buckets[:len(buckets)-1]
	}
	for len(buckets) > limit && hits[0] <= 0 {
		buckets, hits = buckets[1:], hits[1:]
	}
	for len(buckets) > limit {
		best := 1
		for k := 2; k+2 < len(buckets); k++ {
			if hits[k]+hits[k+1] < hits[best]+hits[best+1] {
				best = k
			}
		}
		hits[best+1] += hits[best]
		buckets = slices.Delete(buckets, best, best+1)
		hits = slices.Delete(hits, best, best+1)
	}
	return buckets
}

// formatPlain renders a number without exponent.
func formatPlain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
