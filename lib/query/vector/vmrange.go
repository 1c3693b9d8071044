package vector

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/model"
)

const (
	vmrangeLabel     = "vmrange"
	bucketsPerDecade = 18
	minDecade        = -9
	maxDecade        = 18
)

// rangeBucket is a bucket of the form lower...upper with the observations in it alone.
type rangeBucket struct {
	startText, endText string
	start, end         float64
	series             *Series
}

// rangesToLe turns buckets labelled vmrange into cumulative ones labelled le.
// Series with le pass; series with neither label vanish.
func rangesToLe(series []*Series) []*Series {
	var result, ranges []*Series
	for _, s := range series {
		switch {
		case labelValue(s, vmrangeLabel) != "":
			ranges = append(ranges, s)
		case labelValue(s, leLabel) != "":
			result = append(result, s)
		}
	}
	if len(ranges) == 0 {
		return result
	}
	other := func(name string) bool { return name != leLabel && name != vmrangeLabel }
	groups := groupBy(ranges, func(dst []byte, s *Series) []byte {
		return appendLabelsExcept(appendString(dst, s.Name), s.Labels, leLabel, vmrangeLabel)
	}, func(s *Series) (string, []model.Label) { return s.Name, filterLabels(s.Labels, other) })
	for _, g := range groups {
		result = append(result, g.cumulate(parseRanges(g.series))...)
	}
	return result
}

// parseRanges returns the series with a readable vmrange, ascending by its end.
func parseRanges(series []*Series) []rangeBucket {
	buckets := make([]rangeBucket, 0, len(series))
	for _, s := range series {
		b := rangeBucket{series: s}
		var ok bool
		if b.startText, b.endText, ok = strings.Cut(labelValue(s, vmrangeLabel), "..."); !ok {
			continue
		}
		var errStart, errEnd error
		b.start, errStart = strconv.ParseFloat(b.startText, 64)
		b.end, errEnd = strconv.ParseFloat(b.endText, 64)
		if errStart != nil || errEnd != nil {
			continue
		}
		buckets = append(buckets, b)
	}
	slices.SortStableFunc(buckets, func(a, b rangeBucket) int { return cmp.Compare(a.end, b.end) })
	return buckets
}

// cumulate turns the ranges of a group into cumulative buckets.
func (g *group) cumulate(ranges []rangeBucket) []*Series {
	var buckets []*Series
	byLe := make(map[string]*Series)
	add := func(le string, values []float64) {
		s := &Series{Name: g.name, Labels: withLabel(g.labels, leLabel, le), Values: values}
		buckets = append(buckets, s)
		byLe[le] = s
	}
	end := 0.0
	for _, b := range ranges {
		if !hasPositive(b.series.Values) {
			continue
		}
		if same := byLe[b.endText]; same != nil {
			mergePoints(same, b.series)
			continue
		}
		if b.start != end && byLe[b.startText] == nil {
			add(b.startText, make([]float64, len(b.series.Values)))
		}
		add(b.endText, b.series.Values)
		end = b.end
	}
	if len(buckets) == 0 {
		return nil
	}
	if !math.IsInf(end, 1) {
		add("+Inf", make([]float64, len(buckets[0].Values)))
	}
	sums := make([]float64, len(buckets[0].Values))
	for _, s := range buckets {
		for i, v := range s.Values {
			if v > 0 {
				sums[i] += v
			}
			s.Values[i] = sums[i]
		}
	}
	return buckets
}

func hasPositive(values []float64) bool {
	for _, v := range values {
		if v > 0 {
			return true
		}
	}
	return false
}

// vmrangeOf returns the range which an observation falls into; an empty string for
// negative ones. Upper bounds belong to the range.
func vmrangeOf(v float64) string {
	switch {
	case math.IsNaN(v) || v < 0:
		return ""
	case v <= 1e-9:
		return "0..." + formatBound(0)
	case v > 1e18:
		return formatBound(bucketsPerDecade*(maxDecade-minDecade)) + "...+Inf"
	}
	k := int(math.Ceil((math.Log10(v)-minDecade)*bucketsPerDecade)) - 1
	k = min(max(k, 0), bucketsPerDecade*(maxDecade-minDecade)-1)
	return formatBound(k) + "..." + formatBound(k+1)
}

// formatBound returns the text of bound k, which is 10^(minDecade + k/bucketsPerDecade).
func formatBound(k int) string {
	return strconv.FormatFloat(math.Pow(10, minDecade+float64(k)/bucketsPerDecade), 'e', 3, 64)
}
