package graphite

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

func aliasRows() []row {
	return []row{
		{"alias(seriesList, newName)", "Gives series a name.", alias},
		{"aliasByMetric(seriesList)", "Names series by the last component of their paths.", aliasByMetric},
		{"aliasByNode(seriesList, *nodes:nodeOrTag)", "Names series by some components of their paths, or tags.", aliasByNode("nodes")},
		{"aliasByTags(seriesList, *tags:nodeOrTag)", "Names series by some tags, or components of their paths.", aliasByNode("tags")},
		{"aliasSub(seriesList, search, replace)", `Replaces in names what a regular expression matches; \1 stands for its first group.`, aliasSub},
		{"aliasQuery(seriesList, search, replace, newName)", "Names series by the last value of the series whose name results from a replacement in their own; newName has %d, %f, %g or %s for it.", aliasQuery},
		{"legendValue(seriesList, *valueTypes:string)", "Adds aggregates to names; with si or binary as the last type they have units such as k.", legendValue},
		{"cactiStyle(seriesList, system?, units?)", "Adds the last, the highest and the lowest value to names.", cactiStyle},
		{"substr(seriesList, start:integer=0, stop:integer=0)", "Names series by the components of their paths from start up to stop.", substr},
	}
}

func alias(c *call) ([]*Series, error) {
	return c.each(func(s *Series) *Series { return s.named(c.str("newName")) })
}

func aliasByMetric(c *call) ([]*Series, error) {
	return c.each(func(s *Series) *Series {
		parts := components(s)
		return s.named(parts[len(parts)-1])
	})
}

func aliasByNode(param string) evalFunc {
	return func(c *call) ([]*Series, error) {
		nodes := all[node](c, param)
		return c.each(func(s *Series) *Series { return s.named(keyOf(s, nodes)) })
	}
}

func aliasSub(c *call) ([]*Series, error) {
	rename, err := c.replacer("search", "replace")
	if err != nil {
		return nil, err
	}
	return c.each(func(s *Series) *Series { return s.named(rename(s.Name)) })
}

func aliasQuery(c *call) ([]*Series, error) {
	rename, err := c.replacer("search", "replace")
	if err != nil {
		return nil, err
	}
	list, err := c.list("seriesList")
	if err != nil {
		return nil, err
	}
	for i, s := range list {
		found, err := c.target(rename(s.Name))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, c.fail("no series found with %q", rename(s.Name))
		}
		v := lastOf(found[0].Values)
		if isNull(v) {
			return nil, c.fail("cannot get the last value of %q", rename(s.Name))
		}
		list[i] = s.named(sprintf(c.str("newName"), v))
	}
	return list, nil
}

// threeDigits reports whether s has three digits side by side: a width or precision that nobody reads.
func threeDigits(s string) bool {
	for i := range s {
		if digits(s[i:]) >= 3 {
			return true
		}
	}
	return false
}

// sprintf puts a number for each verb of a format.
func sprintf(format string, v float64) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		end := i + 1
		for format[i] == '%' && end < len(format) && strings.IndexByte("+-0123456789. #", format[end]) >= 0 {
			end++
		}
		if format[i] != '%' || end == len(format) || threeDigits(format[i:end]) {
			b.WriteByte(format[i])
			continue
		}
		switch spec := format[i:end]; format[end] {
		case 'd', 'i':
			fmt.Fprintf(&b, spec+"d", int64(v))
		case 'e', 'f', 'g', 'E', 'G':
			fmt.Fprintf(&b, spec+string(format[end]), v)
		case 's':
			fmt.Fprintf(&b, spec+"s", formatNumber(v))
		case '%':
			b.WriteByte('%')
		default:
			b.WriteString(format[i : end+1])
		}
		i = end
	}
	return b.String()
}

func legendValue(c *call) ([]*Series, error) {
	types := all[string](c, "valueTypes")
	system := ""
	if last := types[len(types)-1]; last == "si" || last == "binary" {
		system, types = last, types[:len(types)-1]
	}
	for _, t := range types {
		if _, ok := aggregatorOf(t); !ok {
			return nil, c.fail("argument valueTypes must be of %s, si and binary, got %q", strings.Join(aggregatorNames(), ", "), t)
		}
	}
	return c.each(func(s *Series) *Series {
		name := s.Name
		for _, t := range types {
			name += " (" + t + ": " + withUnit(consolidator(t).over(s.Values, 0), system) + ")"
		}
		return s.named(name)
	})
}

// withUnit renders a number for legends; system is si, binary or empty.
func withUnit(v float64, system string) string {
	if isNull(v) {
		return "None"
	}
	base, units := 1000.0, []string{"", "k", "M", "G", "T", "P"}
	switch system {
	case "":
		return formatNumber(v)
	case "binary":
		base, units = 1024, []string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	}
	i := 0
	for math.Abs(v) >= base && i < len(units)-1 {
		v /= base
		i++
	}
	text := strconv.FormatFloat(v, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + units[i]
}

func cactiStyle(c *call) ([]*Series, error) {
	system := c.str("system")
	if system != "" && system != "si" && system != "binary" {
		return nil, c.fail("argument system must be si or binary, got %q", system)
	}
	list, err := c.list("seriesList")
	longest := 0
	for _, s := range list {
		longest = max(longest, len(s.Name))
	}
	value := func(v float64) string {
		if isNull(v) {
			return "nan"
		}
		text := withUnit(v, system)
		if system == "" {
			text = strconv.FormatFloat(v, 'f', 2, 64)
		}
		if units := c.str("units"); units != "" {
			text += " " + units
		}
		return text
	}
	return mapEach(list, func(s *Series) *Series {
		return s.named(fmt.Sprintf("%-*s Current:%-10s Max:%-10s Min:%-10s", longest, s.Name, value(lastOf(s.Values)), value(maxOf(s.Values)), value(minOf(s.Values))))
	}), err
}

func substr(c *call) ([]*Series, error) {
	start, stop := c.integer("start"), c.integer("stop")
	return c.each(func(s *Series) *Series {
		parts := components(s)
		first, last := start, stop
		if first < 0 {
			first += len(parts)
		}
		if last <= 0 {
			last += len(parts)
		}
		first, last = min(max(first, 0), len(parts)), min(max(last, 0), len(parts))
		return s.named(strings.Join(parts[first:max(first, last)], "."))
	})
}
