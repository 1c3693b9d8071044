package storageflags

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/storage"
)

// Register registers -retentionFilter and -downsampling.period, which add to the rules of c.
func Register(fs *flag.FlagSet, c *storage.Config) {
	fs.Var(&ruleValue{add: func(item string, filter storage.SeriesRule, rest string) error {
		rule, err := parseRetention(item, filter, rest)
		c.RetentionRules = append(c.RetentionRules, rule)
		return err
	}}, "retentionFilter", "Keep the samples of some series for a shorter time than -retentionPeriod: filter:duration, for example '{env=\"dev\"}:3d'. "+
		"The labels vm_account_id and vm_project_id stand for the tenant. Of several that match a series the shortest holds. May be given several times")
	fs.Var(&ruleValue{add: func(item string, filter storage.SeriesRule, rest string) error {
		rule, err := parseDownsampling(item, filter, rest)
		c.DownsamplingRules = append(c.DownsamplingRules, rule)
		return err
	}}, "downsampling.period", "Thin out old samples: [filter:]offset:interval, for example 30d:5m or '{__name__=~\"node_.*\"}:30d:1m'; comma-separated, or given several times. "+
		"Samples older than the offset become a few per interval, from which increase, rate, min, max, sum, count and average over time are still exact for whole intervals")
}

// ruleValue is a flag with a list of rules, each of which may begin with a filter of series.
type ruleValue struct {
	text []string
	add  func(item string, filter storage.SeriesRule, rest string) error
}

// String implements flag.Value.
func (v *ruleValue) String() string { return strings.Join(v.text, ",") }

// Set implements flag.Value.
func (v *ruleValue) Set(s string) error {
	items, err := split(s)
	if err != nil {
		return err
	}
	for _, item := range items {
		filter, rest, err := cutFilter(item)
		if err != nil {
			return err
		}
		if err := v.add(item, filter, rest); err != nil {
			return err
		}
		v.text = append(v.text, item)
	}
	return nil
}

func parseRetention(item string, filter storage.SeriesRule, rest string) (r storage.RetentionRule, err error) {
	if filter.Text == "" {
		return r, fmt.Errorf("cannot parse %q: the filter is missing; write {label=\"value\"}:duration, or use -retentionPeriod for all series", item)
	}
	keep, err := parseDuration(rest)
	if err != nil {
		return r, fmt.Errorf("cannot parse %q: %w", item, err)
	}
	return storage.RetentionRule{SeriesRule: filter, Keep: keep}, nil
}

func parseDownsampling(item string, filter storage.SeriesRule, rest string) (r storage.DownsamplingRule, err error) {
	offsetText, intervalText, ok := strings.Cut(rest, ":")
	if !ok {
		return r, fmt.Errorf("cannot parse %q: want [filter:]offset:interval, for example 30d:5m", item)
	}
	offset, err := parseDuration(offsetText)
	if err != nil {
		return r, fmt.Errorf("cannot parse offset of %q: %w", item, err)
	}
	interval, err := parseDuration(intervalText)
	if err != nil {
		return r, fmt.Errorf("cannot parse interval of %q: %w", item, err)
	}
	return storage.DownsamplingRule{SeriesRule: filter, Offset: offset, Interval: interval}, nil
}

func parseDuration(s string) (time.Duration, error) {
	var d flagvalue.Duration
	err := d.Set(s)
	return d.D(), err
}

// split cuts a list at its commas, but not inside of braces and quotes.
func split(s string) ([]string, error) {
	var items []string
	start := 0
	for i := 0; i < len(s); {
		switch s[i] {
		case ',':
			items = append(items, strings.TrimSpace(s[start:i]))
			i++
			start = i
		case '{':
			n, err := filterLen(s[i:])
			if err != nil {
				return nil, err
			}
			i += n
		default:
			i++
		}
	}
	return append(items, strings.TrimSpace(s[start:])), nil
}

// filterLen returns the length of the filter in braces that s begins with.
func filterLen(s string) (int, error) {
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == '\\' && quote != '`':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '}':
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("cannot parse %q: a brace or a quote is not closed", s)
}

// cutFilter splits an item into the filter, if it has one, and what follows its colon.
func cutFilter(item string) (r storage.SeriesRule, rest string, err error) {
	at := strings.IndexByte(item, '{')
	if at < 0 {
		return r, item, nil
	}
	n, err := filterLen(item[at:])
	if err != nil {
		return r, "", err
	}
	r.Text = item[:at+n]
	rest, ok := strings.CutPrefix(item[at+n:], ":")
	if !ok {
		return r, "", fmt.Errorf("cannot parse %q: a colon must follow the filter", item)
	}
	e, err := metricsql.Parse(r.Text)
	if err != nil {
		return r, "", fmt.Errorf("cannot parse filter of %q: %w", item, err)
	}
	m, ok := e.(*metricsql.MetricExpr)
	if !ok {
		return r, "", fmt.Errorf("cannot parse filter of %q: it is no series selector", item)
	}
	r.Filters = m.FilterSets
	return r, rest, nil
}
