package vector

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/model"
)

// labelFunction finds functions which change labels, or choose series by them.
func (c *call) labelFunction() (func() ([]*Series, error), bool) {
	switch c.name {
	case "alias":
		return c.relabel(1, 1, func(s *Series, a []string) { s.Name = a[0] })
	case "label_set":
		return c.relabelPairs(0, func(s *Series, from, to string) { setLabel(s, from, to) })
	case "label_copy":
		return c.relabelPairs(0, func(s *Series, from, to string) { copyLabel(s, from, to) })
	case "label_move":
		return c.relabelPairs(0, func(s *Series, from, to string) {
			if copyLabel(s, from, to) && from != to {
				setLabel(s, from, "")
			}
		})
	case "label_del":
		return c.relabel(0, math.MaxInt, func(s *Series, a []string) {
			for _, name := range a {
				setLabel(s, name, "")
			}
		})
	case "label_keep":
		return c.relabel(0, math.MaxInt, keepLabels)
	case "label_join":
		return c.labelJoin, true
	case "label_map":
		return c.labelMap, true
	case "label_lowercase":
		return c.relabel(1, math.MaxInt, func(s *Series, a []string) { mapValues(s, a, strings.ToLower) })
	case "label_uppercase":
		return c.relabel(1, math.MaxInt, func(s *Series, a []string) { mapValues(s, a, strings.ToUpper) })
	case "label_replace":
		return c.labelReplace, true
	case "label_transform":
		return c.labelTransform, true
	case "label_match":
		return c.labelMatch(true)
	case "label_mismatch":
		return c.labelMatch(false)
	case "labels_equal":
		return c.labelsEqual, true
	case "label_value":
		return c.labelNumber, true
	case "label_graphite_group":
		return c.graphiteGroup, true
	case "drop_common_labels":
		return c.dropCommonLabels, true
	}
	return nil, false
}

// strings returns the arguments behind the first, of which there must be from lo to hi.
func (c *call) strings(lo, hi int) ([]*Series, []string, error) {
	if hi < math.MaxInt {
		hi++
	}
	if err := checkCount(c.name, c.args, lo+1, hi); err != nil {
		return nil, nil, err
	}
	list, err := strs(c.args[1:])
	if err != nil {
		return nil, nil, unprocessable("cannot evaluate %s(): %w", c.name, err)
	}
	return c.args[0].set(c.points), list, nil
}

// relabel returns a function which changes each series, given from lo to hi strings.
func (c *call) relabel(lo, hi int, f func(s *Series, args []string)) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, list, err := c.strings(lo, hi)
		if err != nil {
			return nil, err
		}
		return series, c.eachSeries(series, func(s *Series) error {
			f(s, list)
			return nil
		})
	}, true
}

// relabelPairs returns a function which changes each series once per pair of strings, behind skip others.
func (c *call) relabelPairs(skip int, f func(s *Series, a, b string)) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, list, err := c.strings(skip, math.MaxInt)
		if err != nil {
			return nil, err
		}
		if (len(list)-skip)%2 != 0 {
			return nil, unprocessable("cannot evaluate %s(): unexpected number of args; got %d; want pairs behind the first %d", c.name, len(c.args), skip+1)
		}
		return series, c.eachSeries(series, func(s *Series) error {
			for i := skip; i < len(list); i += 2 {
				f(s, list[i], list[i+1])
			}
			return nil
		})
	}, true
}

// copyLabel copies a label unless it is missing.
func copyLabel(s *Series, from, to string) bool {
	v := labelValue(s, from)
	if v == "" {
		return false
	}
	setLabel(s, to, v)
	return true
}

func keepLabels(s *Series, names []string) {
	if !slices.Contains(names, model.MetricNameLabel) {
		s.Name = ""
	}
	s.Labels = filterLabels(s.Labels, func(name string) bool { return slices.Contains(names, name) })
}

// labelJoin is label_join(q, dst, separator, src...).
func (c *call) labelJoin() ([]*Series, error) {
	series, args, err := c.strings(2, math.MaxInt)
	if err != nil {
		return nil, err
	}
	values := make([]string, len(args)-2)
	return series, c.eachSeries(series, func(s *Series) error {
		longest := 0
		for i, name := range args[2:] {
			values[i] = labelValue(s, name)
			longest = max(longest, len(values[i]))
		}
		if err := c.checkWork(len(values), longest+len(args[1])); err != nil {
			return err
		}
		return c.setMade(s, args[0], strings.Join(values, args[1]))
	})
}

func mapValues(s *Series, names []string, f func(string) string) {
	for _, name := range names {
		setLabel(s, name, f(labelValue(s, name)))
	}
}

func (c *call) labelMap() ([]*Series, error) {
	series, list, err := c.strings(1, math.MaxInt)
	if err != nil {
		return nil, err
	}
	if len(list)%2 == 0 {
		return nil, unprocessable("cannot evaluate label_map(): unexpected number of args; got %d; want pairs of old and new value behind the label", len(c.args))
	}
	mapping := make(map[string]string, len(list)/2)
	for i := 1; i < len(list); i += 2 {
		mapping[list[i]] = list[i+1]
	}
	for _, s := range series {
		if to, ok := mapping[labelValue(s, list[0])]; ok {
			setLabel(s, list[0], to)
		}
	}
	return series, nil
}

func compileRegexp(text string, anchored bool) (*regexp.Regexp, error) {
	pattern := text
	if anchored {
		pattern = "^(?s:" + text + ")$"
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, unprocessable("cannot compile regular expression %q: %w; want RE2 syntax", text, err)
	}
	return re, nil
}

// labelReplace is label_replace(q, dst, replacement, src, regex).
func (c *call) labelReplace() ([]*Series, error) {
	series, list, err := c.strings(4, 4)
	if err != nil {
		return nil, err
	}
	dst, replacement, src := list[0], list[1], list[2]
	re, err := compileRegexp(list[3], true)
	if err != nil {
		return nil, err
	}
	var buf []byte
	return series, c.eachSeries(series, func(s *Series) error {
		value := labelValue(s, src)
		if err := c.checkWork(len(replacement), len(value)); err != nil {
			return err
		}
		match := re.FindStringSubmatchIndex(value)
		if match == nil {
			return nil
		}
		buf = re.ExpandString(buf[:0], replacement, value, match)
		return c.setMade(s, dst, string(buf))
	})
}

// labelTransform is label_transform(q, label, regex, replacement).
func (c *call) labelTransform() ([]*Series, error) {
	series, list, err := c.strings(3, 3)
	if err != nil {
		return nil, err
	}
	re, err := compileRegexp(list[1], false)
	if err != nil {
		return nil, err
	}
	return series, c.eachSeries(series, func(s *Series) error {
		value := labelValue(s, list[0])
		if err := c.checkWork(len(list[2]), len(value)); err != nil {
			return err
		}
		return c.setMade(s, list[0], re.ReplaceAllString(value, list[2]))
	})
}

func (c *call) labelMatch(want bool) (func() ([]*Series, error), bool) {
	return func() ([]*Series, error) {
		series, list, err := c.strings(2, 2)
		if err != nil {
			return nil, err
		}
		re, err := compileRegexp(list[1], true)
		if err != nil {
			return nil, err
		}
		return slices.DeleteFunc(series, func(s *Series) bool { return re.MatchString(labelValue(s, list[0])) != want }), nil
	}, true
}

func (c *call) labelsEqual() ([]*Series, error) {
	series, list, err := c.strings(2, math.MaxInt)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(series, func(s *Series) bool {
		v := labelValue(s, list[0])
		return slices.ContainsFunc(list[1:], func(name string) bool { return labelValue(s, name) != v })
	}), nil
}

// labelNumber is label_value(q, label): the number in the label, where the series has points.
func (c *call) labelNumber() ([]*Series, error) {
	series, list, err := c.strings(1, 1)
	if err != nil {
		return nil, err
	}
	for _, s := range series {
		number, err := strconv.ParseFloat(labelValue(s, list[0]), 64)
		if err != nil {
			number = math.NaN()
		}
		for i, v := range s.Values {
			if !math.IsNaN(v) {
				s.Values[i] = number
			}
		}
	}
	return series, nil
}

// graphiteGroup joins parts of the metric name between dots.
func (c *call) graphiteGroup() ([]*Series, error) {
	if err := checkCount(c.name, c.args, 2, math.MaxInt); err != nil {
		return nil, err
	}
	indexes := make([]int, len(c.args)-1)
	for i := range indexes {
		v, err := c.scalar(i + 1)
		if err != nil {
			return nil, err
		}
		indexes[i] = -1
		if f := first(v); f >= 0 {
			indexes[i] = toInt(f)
		}
	}
	series := c.args[0].set(c.points)
	return series, c.eachSeries(series, func(s *Series) error {
		if err := c.checkWork(len(indexes), len(s.Name)); err != nil {
			return err
		}
		return c.setMade(s, model.MetricNameLabel, joinGroups(s.Name, indexes))
	})
}

// joinGroups writes the result over the name while it reads the parts from
// it, as the original does: a part behind which something was written
// already is seen overwritten. Users see that with indexes which do not ascend.
func joinGroups(name string, indexes []int) string {
	var parts [][]byte
	buf := []byte(name)
	rest := buf
	for {
		dot := slices.Index(rest, '.')
		if dot < 0 {
			parts = append(parts, rest)
			break
		}
		parts = append(parts, rest[:dot])
		rest = rest[dot+1:]
	}
	dst := buf[:0]
	for i, index := range indexes {
		if i > 0 {
			dst = append(dst, '.')
		}
		if index >= 0 && index < len(parts) {
			dst = append(dst, parts[index]...)
		}
	}
	return string(dst)
}

// dropCommonLabels removes the labels, and the name, which are equal in all series of all arguments.
func (c *call) dropCommonLabels() ([]*Series, error) {
	if err := checkCount(c.name, c.args, 1, math.MaxInt); err != nil {
		return nil, err
	}
	var all []*Series
	for _, a := range c.args {
		all = append(all, a.set(c.points)...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	common := map[string]string{model.MetricNameLabel: all[0].Name}
	for _, l := range all[0].Labels {
		common[l.Name] = l.Value
	}
	for _, s := range all[1:] {
		for name, value := range common {
			if labelValue(s, name) != value {
				delete(common, name)
			}
		}
	}
	for _, s := range all {
		if _, ok := common[model.MetricNameLabel]; ok {
			s.Name = ""
		}
		s.Labels = filterLabels(s.Labels, func(name string) bool { _, ok := common[name]; return !ok })
	}
	return all, nil
}
