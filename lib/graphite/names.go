package graphite

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// formatNumber renders a number for names.
func formatNumber(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// seconds renders a time for names.
func seconds(ms int64) string { return strconv.FormatInt(ms/1000, 10) }

// quote renders a string for names.
func quote(s string) string { return Print(String(s)) }

// text renders the value of a parameter for names.
func (c *call) text(name string) string {
	values := c.args[name].values
	if len(values) == 0 {
		return "None"
	}
	switch v := values[0].(type) {
	case float64:
		return formatNumber(v)
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return seconds(v)
	case window:
		return v.text
	case string:
		return quote(v)
	}
	return ""
}

// plain renders the value of a parameter for tags.
func (c *call) plain(name string) string {
	if s := c.str(name); s != "" {
		return s
	}
	return strings.Trim(c.text(name), "'")
}

// pathsOf joins the paths of series, each once.
func (c *call) pathsOf(list []*Series) string {
	var paths []string
	seen := map[string]bool{}
	for _, s := range list {
		if !seen[s.Path] {
			seen[s.Path] = true
			paths = append(paths, s.Path)
		}
	}
	return c.run.cut(strings.Join(paths, ","))
}

// metricPath returns the path inside the name of a series: the first one in its calls, or else the name itself.
func metricPath(s *Series) string {
	e, err := Parse(s.Name)
	if err != nil {
		return s.Name
	}
	if path, ok := firstPath(e); ok {
		return path
	}
	return s.Name
}

func firstPath(e Expr) (string, bool) {
	switch e := e.(type) {
	case Path:
		return string(e), true
	case *Call:
		for _, a := range e.Args {
			if path, ok := firstPath(a); ok {
				return path, true
			}
		}
	}
	return "", false
}

// components splits the path of a series. Tags in the path are left out.
func components(s *Series) []string {
	path, _, _ := strings.Cut(metricPath(s), ";")
	return strings.Split(path, ".")
}

// keyOf joins components and tags of a series.
func keyOf(s *Series, nodes []node) string {
	var parts, list []string
	for _, n := range nodes {
		if n.tag != "" {
			list = append(list, s.Tags[n.tag])
			continue
		}
		if parts == nil {
			parts = components(s)
		}
		i := n.index
		if i < 0 {
			i += len(parts)
		}
		if i >= 0 && i < len(parts) {
			list = append(list, parts[i])
		}
	}
	return strings.Join(list, ".")
}

// grouped puts series with the same key together, in the order the keys are first met.
func groupBy(list []*Series, key func(s *Series) string) (keys []string, groups map[string][]*Series) {
	groups = map[string][]*Series{}
	for _, s := range list {
		k := key(s)
		if _, ok := groups[k]; !ok {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], s)
	}
	return keys, groups
}

// commonTags returns the tags that all series have with the same value.
func commonTags(list []*Series) map[string]string {
	common := map[string]string{}
	if len(list) == 0 {
		return common
	}
	for tag, value := range list[0].Tags {
		if !slices.ContainsFunc(list[1:], func(s *Series) bool { v, ok := s.Tags[tag]; return !ok || v != value }) {
			common[tag] = value
		}
	}
	return common
}

// maxReplacement is the longest replacement in bytes: each of its references may stand for a whole name.
const maxReplacement = 1024

// replacer compiles a regular expression and a replacement with references such as \1.
func (c *call) replacer(search, replace string) (func(s string) string, error) {
	re, err := c.pattern(search)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	text := c.str(replace)
	if len(text) > maxReplacement {
		return nil, c.fail("argument %s has %d bytes; at most %d are allowed", replace, len(text), maxReplacement)
	}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '$':
			b.WriteString("$$")
		case text[i] == '\\' && i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9':
			i++
			b.WriteString("${" + string(text[i]) + "}")
		default:
			b.WriteByte(text[i])
		}
	}
	with := b.String()
	return func(s string) string { return re.ReplaceAllString(s, with) }, nil
}

// pattern compiles the regular expression in a parameter.
func (c *call) pattern(name string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(c.str(name))
	if err != nil {
		return nil, c.fail("argument %s: %w", name, err)
	}
	return re, nil
}
