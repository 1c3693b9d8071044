package graphite

import (
	"regexp"
	"strings"

	"vmcluster/lib/errkind"
)

// TagExpr is a condition on a tag, as seriesByTag takes it: tag=value, tag!=value, tag=~regexp or tag!=~regexp. The tag "name" is the
// metric name. Regular expressions match at the start of the value.
type TagExpr struct {
	Tag     string
	Value   string
	Negated bool
	Regexp  bool
}

// ParseTagExpr parses a condition.
func ParseTagExpr(s string) (TagExpr, error) {
	i := strings.IndexByte(s, '=')
	if i < 0 {
		return TagExpr{}, errkind.New(errkind.BadRequest, "missing tag value in filter expression %q; want tag=value, tag!=value, tag=~regexp or tag!=~regexp", s)
	}
	e := TagExpr{Tag: s[:i], Value: s[i+1:]}
	if tag, ok := strings.CutSuffix(e.Tag, "!"); ok {
		e.Tag, e.Negated = tag, true
	}
	if value, ok := strings.CutPrefix(e.Value, "~"); ok {
		e.Value, e.Regexp = value, true
	}
	if e.Tag == "" {
		return TagExpr{}, errkind.New(errkind.BadRequest, "missing tag name in filter expression %q", s)
	}
	if e.Regexp {
		if _, err := regexp.Compile(e.Value); err != nil {
			return TagExpr{}, errkind.New(errkind.BadRequest, "cannot parse filter expression %q: %w", s, err)
		}
	}
	return e, nil
}

// Pattern returns the regular expression of a condition so that it matches whole values.
func (e TagExpr) Pattern() string { return "(?:" + e.Value + ")(?s:.*)" }

// String renders the condition.
func (e TagExpr) String() string {
	op := "="
	if e.Negated {
		op = "!="
	}
	if e.Regexp {
		op += "~"
	}
	return e.Tag + op + e.Value
}
