package relabel

import (
	"regexp"
	"strings"

	"vmcluster/lib/model"
)

// rule is one compiled rule.
type rule struct {
	text       string      // as YAML
	conditions []condition // any of them; none: always
	dropUnmet  bool        // a series which meets no condition is dropped, and not left alone
	run        func(r *rule, s *state) (keep bool)

	source      []string
	separator   string
	target      template
	pattern     pattern
	replacement template
	modulus     uint64
	sum         func(string) uint64
	graphite    graphiteRule
}

// condition is one set of filters of a selector, all of which must match.
type condition []*model.Matcher

func (c condition) met(s *state) bool {
	for _, m := range c {
		if !m.Match(s.get(m.Filter().Name)) {
			return false
		}
	}
	return true
}

// apply applies the rule and reports whether the series is kept.
func (r *rule) apply(s *state) (keep bool) {
	if len(r.conditions) == 0 {
		return r.run(r, s)
	}
	for _, c := range r.conditions {
		if c.met(s) {
			return r.run(r, s)
		}
	}
	return !r.dropUnmet
}

// peek returns the values of the source labels, joined. It is valid until a template is expanded.
func (r *rule) peek(s *state) string { return s.joined(r.source, r.separator) }

// input returns the values of the source labels, joined.
func (r *rule) input(s *state) string {
	value := r.peek(s)
	if len(r.source) > 1 {
		value = strings.Clone(value)
	}
	return value
}

// pattern is a regular expression over a whole value.
type pattern struct {
	matcher *model.Matcher // decides whether it matches
	any     bool           // it is (.*), the default
	whole   *regexp.Regexp // names and finds the groups; nil when nobody asks for them
	parts   *regexp.Regexp // finds all places in a value; only for actions which replace all of them
}

func (p *pattern) matches(value string) bool { return p.any || p.matcher.Match(value) }

// groups returns the places of the groups in a value which matches, as regexp has them. They are those of the whole value when nobody asks for
// them.
func (p *pattern) groups(value string) []int {
	switch {
	case p.any:
		return []int{0, len(value), 0, len(value)}
	case p.whole == nil:
		return []int{0, len(value)}
	}
	return p.whole.FindStringSubmatchIndex(value)
}
