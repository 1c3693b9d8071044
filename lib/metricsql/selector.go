package metricsql

import (
	"regexp/syntax"
	"strings"

	"vmcluster/lib/model"
)

// filterGroup is one alternative between the braces of a selector.
type filterGroup struct {
	filters []model.TagFilter
	name    string // the metric name, when it was given as {"name"}
	hasName bool
}

func nameFilters(name string) []model.TagFilter {
	return []model.TagFilter{{Name: model.MetricNameLabel, Value: name, Op: model.Equal}}
}

func newMetric(pos int, name string) *MetricExpr {
	return &MetricExpr{base{pos}, [][]model.TagFilter{nameFilters(name)}}
}

// isNameFilter reports whether f gives a metric name plainly.
func isNameFilter(f model.TagFilter) bool {
	return f.Name == model.MetricNameLabel && f.Op == model.Equal
}

// parseSelector parses {filters}. The prefix holds what stands before the
// braces: the filter on the name, or the filters of a template.
func (p *parser) parseSelector(pos int, prefix []model.TagFilter) (Expr, error) {
	open := p.tok.pos
	p.advance()
	var groups []filterGroup
	for {
		g, err := p.parseFilterGroup()
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
		if !p.isKeyword("or") {
			break
		}
		or := p.tok.pos
		p.advance()
		p.mark(or, mark{role: roleOperator, prec: precLowest, operand: p.tok.pos})
		if p.isPunct("}") {
			return nil, p.unexpected("a label filter")
		}
	}
	if !p.isPunct("}") {
		return nil, p.unclosed(open, wantFilter)
	}
	p.advance()
	sets, err := p.joinGroups(pos, prefix, groups)
	if err != nil {
		return nil, err
	}
	return &MetricExpr{base{pos}, sets}, nil
}

func (p *parser) parseFilterGroup() (filterGroup, error) {
	var g filterGroup
	for !p.isPunct("}") {
		if err := p.parseFilter(&g); err != nil {
			return g, err
		}
		if !p.isPunct(",") {
			break
		}
		p.advance()
	}
	return g, nil
}

// parseFilter parses label op value, "metric name", or the name of a template with filters.
func (p *parser) parseFilter(g *filterGroup) error {
	t := p.tok
	if t.kind != tokString && (t.kind != tokIdent || t.text[0] == '$') {
		return p.unexpected("a label filter")
	}
	p.advance()
	op, ok := filterOp(p.tok)
	if ok {
		p.advance()
		return p.parseFilterValue(g, t.text, op)
	}
	if t.kind == tokString {
		return p.setName(g, t.pos, t.text)
	}
	b := p.lookup(t.text)
	if b == nil || b.isFunc {
		return p.unexpected("=, !=, =~ or !~")
	}
	return p.mergeTemplate(g, t, b)
}

func filterOp(t token) (model.FilterOp, bool) {
	if t.kind != tokPunct {
		return 0, false
	}
	switch t.text {
	case "=":
		return model.Equal, true
	case "!=":
		return model.NotEqual, true
	case "=~":
		return model.Regexp, true
	case "!~":
		return model.NotRegexp, true
	}
	return 0, false
}

func (p *parser) parseFilterValue(g *filterGroup, label string, op model.FilterOp) error {
	pos := p.tok.pos
	value, err := p.parseStringConcat()
	if err != nil {
		return err
	}
	if op == model.Regexp || op == model.NotRegexp {
		if _, err = syntax.Parse(value, syntax.Perl); err != nil {
			return p.errorAt(pos, "cannot parse regular expression %q: %s; want RE2 syntax", value, err)
		}
	}
	g.filters = append(g.filters, model.TagFilter{Name: label, Value: value, Op: op})
	return p.grow(1)
}

func (p *parser) setName(g *filterGroup, pos int, name string) error {
	if g.hasName && g.name != name {
		return p.errorAt(pos, "the selector has two metric names, %q and %q; want one", g.name, name)
	}
	g.name, g.hasName = name, true
	return nil
}

// parseStringConcat parses strings, and templates which are strings, joined by +.
func (p *parser) parseStringConcat() (string, error) {
	var value strings.Builder
	for {
		s, err := p.parseStringPart()
		if err != nil {
			return "", err
		}
		value.WriteString(s)
		if err := p.growText(s); err != nil {
			return "", err
		}
		if !p.isPunct("+") {
			return value.String(), nil
		}
		p.advance()
	}
}

func (p *parser) parseStringPart() (string, error) {
	switch p.tok.kind {
	case tokString:
		s := p.tok.text
		p.advance()
		return s, nil
	case tokIdent:
		b := p.lookup(p.tok.text)
		if b == nil || b.isFunc {
			break
		}
		switch e := b.expr.(type) {
		case *StringExpr:
			p.advance()
			return e.Value, nil
		case *placeholder:
			p.advance()
			return "", nil
		}
	}
	return "", p.unexpected("a string in quotes")
}

// joinGroups adds the prefix to all groups and settles the metric name.
func (p *parser) joinGroups(pos int, prefix []model.TagFilter, groups []filterGroup) ([][]model.TagFilter, error) {
	if err := p.grow(len(prefix) * len(groups)); err != nil {
		return nil, err
	}
	name, hasName := plainName(prefix)
	sets := make([][]model.TagFilter, 0, len(groups))
	for _, g := range groups {
		if hasName {
			if err := p.setName(&g, pos, name); err != nil {
				return nil, err
			}
		}
		set, err := p.joinGroup(pos, prefix, g)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	if len(sets) == 1 && len(sets[0]) == 0 {
		return nil, nil
	}
	shareName(sets)
	return sets, nil
}

// joinGroup returns the filters of one set, the name first.
func (p *parser) joinGroup(pos int, prefix []model.TagFilter, g filterGroup) ([]model.TagFilter, error) {
	var set []model.TagFilter
	if g.hasName {
		set = nameFilters(g.name)
	}
	for _, filters := range [][]model.TagFilter{prefix, g.filters} {
		for _, f := range filters {
			if !g.hasName || !isNameFilter(f) {
				set = append(set, f)
				continue
			}
			if f.Value != g.name {
				return nil, p.errorAt(pos, "the selector has two metric names, %q and %q; want one", g.name, f.Value)
			}
		}
	}
	if !g.hasName {
		nameFirst(set)
	}
	return set, nil
}

// nameFirst moves the first plain filter on the name to the front.
func nameFirst(set []model.TagFilter) {
	for i, f := range set {
		if isNameFilter(f) {
			copy(set[1:i+1], set[:i])
			set[0] = f
			return
		}
	}
}

// shareName gives the metric name to sets without a filter on it, if the others agree on one.
func shareName(sets [][]model.TagFilter) {
	name, found := "", false
	for _, set := range sets {
		n, ok := plainName(set)
		if !ok {
			continue
		}
		if found && n != name {
			return
		}
		name, found = n, true
	}
	if !found {
		return
	}
	for i, set := range sets {
		if !filtersName(set) {
			sets[i] = append(nameFilters(name), set...)
		}
	}
}

func filtersName(set []model.TagFilter) bool {
	for _, f := range set {
		if f.Name == model.MetricNameLabel {
			return true
		}
	}
	return false
}

func plainName(set []model.TagFilter) (name string, ok bool) {
	for _, f := range set {
		if isNameFilter(f) {
			return f.Value, true
		}
	}
	return "", false
}
