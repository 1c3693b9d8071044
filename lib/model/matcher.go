package model

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"vmcluster/lib/errkind"
)

// matchKind is the cheapest way to decide whether a value has the pattern of a filter.
type matchKind uint8

const (
	matchLiterals matchKind = iota // the value is one of a finite set
	matchAround                    // text before, a literal, text after: prefix, suffix, contains, any
	matchRegexp                    // only the automaton can tell
)

// Matcher is a compiled tag filter. It is immutable and safe for concurrent use.
//
// The pattern of a filter is what stands behind its operator; a negative filter
// (!=, !~) selects the values that do not have the pattern.
type Matcher struct {
	filter   TagFilter
	negative bool
	kind     matchKind
	literals []string // sorted, unique; matchLiterals only
	around   around   // matchAround only
	prefix   string
	re       *regexp.Regexp // matchRegexp only
}

// around is the pattern of a literal with free text around it. A side that is
// not open ends at the literal.
type around struct {
	literal             string
	before, after       bool // any text may stand there
	minBefore, minAfter int  // 1 where that text must not be empty
	minLen              int
	lengthOnly          bool // the literal is empty
}

// Compile prepares the filter for matching. Regular expressions are RE2, match the
// whole value, and their dot matches line breaks too. An error is of kind
// BadRequest and names the filter and the fault.
func (f TagFilter) Compile() (*Matcher, error) {
	m := &Matcher{filter: f}
	switch f.Op {
	case Equal, NotEqual:
		m.negative = f.Op == NotEqual
		m.setLiterals([]string{f.Value})
		return m, nil
	case Regexp, NotRegexp:
		m.negative = f.Op == NotRegexp
	default:
		return nil, errkind.New(errkind.BadRequest, "cannot use filter %s: unknown operator %d", f, f.Op)
	}
	tree, err := syntax.Parse(f.Value, syntax.Perl|syntax.DotNL)
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot compile filter %s: fix its regular expression: %w", f, err)
	}
	tree = stripAnchors(tree, true, true)
	if literals, ok := finiteLiterals(tree); ok {
		m.setLiterals(literals)
		return m, nil
	}
	m.prefix, _ = literalPrefix(tree)
	if a, ok := literalAround(tree); ok {
		m.kind, m.around = matchAround, a
		return m, nil
	}
	m.kind = matchRegexp
	m.re, err = compileAnchored(f.Value)
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot compile filter %s: fix its regular expression: %w", f, err)
	}
	return m, nil
}

// compileAnchored compiles a valid expression to match whole values.
func compileAnchored(expr string) (*regexp.Regexp, error) {
	re, err := regexp.Compile("^(?s:" + expr + ")$")
	if err == nil {
		return re, nil
	}
	// An open \Q swallows the closing parenthesis.
	return regexp.Compile("^(?s:" + expr + `\E)$`)
}

func (m *Matcher) setLiterals(literals []string) {
	slices.Sort(literals)
	m.kind, m.literals = matchLiterals, slices.Compact(literals)
	if len(m.literals) == 0 {
		return
	}
	// The list is sorted: what its ends share, all share.
	m.prefix = commonPrefix(m.literals[0], m.literals[len(m.literals)-1])
}

// Filter returns the filter the matcher was made from.
func (m *Matcher) Filter() TagFilter { return m.filter }

// Match reports whether the filter selects a series whose label has the given
// value; a missing label has the empty value.
func (m *Matcher) Match(value string) bool { return m.MatchPattern(value) != m.negative }

// MatchesEmpty reports whether the filter selects series without the label.
func (m *Matcher) MatchesEmpty() bool { return m.Match("") }

// Negative reports whether the filter selects the values that do not have its pattern.
func (m *Matcher) Negative() bool { return m.negative }

// MatchPattern reports whether value has the pattern, whatever the sign of the filter.
func (m *Matcher) MatchPattern(value string) bool {
	switch m.kind {
	case matchLiterals:
		return m.matchLiterals(value)
	case matchAround:
		return m.around.match(value)
	}
	return strings.HasPrefix(value, m.prefix) && m.re.MatchString(value)
}

func (m *Matcher) matchLiterals(value string) bool {
	if len(m.literals) == 1 {
		return m.literals[0] == value
	}
	_, ok := slices.BinarySearch(m.literals, value)
	return ok
}

// Literals returns the sorted values that have the pattern when there are few of
// them, and whether that is so. The caller must not change them.
func (m *Matcher) Literals() ([]string, bool) { return m.literals, m.kind == matchLiterals }

// Prefix returns a text every value with the pattern starts with; it may be empty.
func (m *Matcher) Prefix() string { return m.prefix }

// MatchesAnyNonEmpty reports whether every value except perhaps the empty one has the pattern.
func (m *Matcher) MatchesAnyNonEmpty() bool {
	return m.kind == matchAround && m.around.literal == "" && m.around.minLen <= 1
}

// PrefixOnly reports whether every value that starts with Prefix, except perhaps
// the prefix itself, has the pattern, so that a sorted dictionary needs no further test.
func (m *Matcher) PrefixOnly() bool {
	return m.kind == matchAround && !m.around.before && m.around.after && m.around.minAfter == 0
}

func (a *around) match(value string) bool {
	if len(value) < a.minLen {
		return false
	}
	switch {
	case a.lengthOnly:
		return true
	case a.before && a.after:
		return strings.Contains(value[a.minBefore:len(value)-a.minAfter], a.literal)
	case a.before:
		return strings.HasSuffix(value, a.literal)
	default:
		return strings.HasPrefix(value, a.literal)
	}
}
