package metricsql

import (
	"math"
	"strings"
)

// parseSuffixes parses [window:step], offset and @ behind an expression. Behind
// offset or @ a subquery may follow, which has its own.
func (p *parser) parseSuffixes(e Expr) (Expr, error) {
	for layer := 0; ; layer++ {
		r, err := p.parseSuffix(e)
		if err != nil || r == nil {
			return e, err
		}
		if err := p.grow(1); err != nil {
			return nil, err
		}
		if layer > 0 && !r.IsSubquery() {
			return nil, p.errorAt(p.tok.pos, "a window must stand before offset and @; want a subquery such as [1h:5m]")
		}
		if layer > maxDepth {
			return nil, p.errorAt(p.tok.pos, "the query is nested deeper than %d levels; simplify it", maxDepth)
		}
		e = r
		if r.Offset == nil && r.At == nil || !p.isPunct("[") {
			return e, nil
		}
	}
}

// parseSuffix parses one window with offset and @. It returns nil if there is none of them.
func (p *parser) parseSuffix(e Expr) (*RollupExpr, error) {
	r := &RollupExpr{base: base{e.Pos()}, Expr: e}
	found := false
	if p.isPunct("[") {
		empty, err := p.parseWindow(r)
		if err != nil {
			return nil, err
		}
		found = !empty
	}
	for {
		var err error
		switch {
		case p.isPunct("@"):
			err = p.parseAt(r)
		case p.isKeyword("offset"):
			err = p.parseOffset(r)
		case !found:
			return nil, nil
		default:
			return r, nil
		}
		if err != nil {
			return nil, err
		}
		found = true
	}
}

// parseWindow parses [window], [window:step] and [window:]. It is empty if it
// names a variable of dashboards which was not replaced.
func (p *parser) parseWindow(r *RollupExpr) (empty bool, err error) {
	open := p.tok.pos
	p.lex.inWindow = true
	p.advance()
	if r.Window, err = p.parseDuration("a window such as 5m", false); err != nil {
		return false, err
	}
	if p.isPunct(":") {
		p.advance()
		switch {
		case p.isPunct("]"):
			r.InheritStep = true
		default:
			if r.Step, err = p.parseDuration("a step such as 30s", false); err != nil {
				return false, err
			}
			r.InheritStep = r.Step == nil
		}
	}
	if !p.isPunct("]") {
		if p.tok.kind == tokEOF {
			return false, p.unclosed(open, `"]"`)
		}
		return false, p.unexpected(`"]"; durations have no blanks: 1h30m`)
	}
	p.lex.inWindow = false
	p.advance()
	if r.Window == nil && r.IsSubquery() {
		r.Window = &DurationExpr{base: base{r.pos}, Steps: 1, Text: "1i"}
	}
	return r.Window == nil, nil
}

// parseDuration parses a length of time. It returns nil for a variable of dashboards.
func (p *parser) parseDuration(want string, signed bool) (*DurationExpr, error) {
	pos, negative := p.tok.pos, false
	for signed && (p.isPunct("-") || p.isPunct("+")) {
		p.mark(p.tok.pos, mark{role: roleSign})
		negative = negative != p.isPunct("-")
		p.advance()
	}
	d := &DurationExpr{base: base{pos}}
	switch p.tok.kind {
	case tokNumber:
		num := p.tok.num
		if !num.isDuration && !num.plain {
			return nil, p.unexpected(want + "; minutes are m, and there are no sizes or hexadecimal numbers here")
		}
		d.Millis, d.Steps, d.Text = num.millis, num.steps, p.tok.text
		if num.plain {
			d.Millis = num.value * 1000
		}
	case tokIdent:
		if p.tok.text == "$__interval" || p.tok.text == "$__rate_interval" {
			p.advance()
			return nil, nil
		}
		if !p.durationTemplate(d) {
			return nil, p.unexpected(want)
		}
	default:
		return nil, p.unexpected(want)
	}
	if negative {
		d.Millis, d.Steps, d.Text = -d.Millis, -d.Steps, negateText(d.Text)
	}
	if !signed && (d.Millis < 0 || d.Steps < 0) && (d.Millis <= 0 || d.Steps <= 0) {
		return nil, p.unexpected(want + ", which is not negative")
	}
	if math.Abs(d.Millis) > math.MaxInt64/4 || math.Abs(d.Steps) > 1e9 {
		return nil, p.unexpected(want + "; this one is too long")
	}
	p.advance()
	return d, nil
}

// durationTemplate fills d from the template whose name is in hand.
func (p *parser) durationTemplate(d *DurationExpr) bool {
	b := p.lookup(p.tok.text)
	if b == nil || b.isFunc {
		return false
	}
	switch e := b.expr.(type) {
	case *NumberExpr:
		d.Millis, d.Text = e.Value*1000, e.Text
		if !isDurationText(e.Text) {
			d.Text = formatSeconds(d.Millis)
		}
		return !math.IsNaN(e.Value) && !math.IsInf(e.Value, 0)
	case *DurationExpr:
		d.Millis, d.Steps, d.Text = e.Millis, e.Steps, e.Text
		return true
	case *placeholder:
		d.Millis, d.Text = 1, "1ms"
		return true
	}
	return false
}

func negateText(text string) string {
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		return rest
	}
	return "-" + text
}

// isDurationText reports whether the literal reads the same inside brackets.
func isDurationText(text string) bool {
	l := lexer{src: text, inWindow: true}
	t := l.next()
	return t.kind == tokNumber && t.end == len(text) && (t.num.plain || t.num.isDuration)
}

func (p *parser) parseOffset(r *RollupExpr) error {
	if r.Offset != nil {
		return p.errorAt(p.tok.pos, "an expression can have one offset only; want an operator")
	}
	p.advance()
	d, err := p.parseDuration("an offset such as 1h", true)
	if err != nil {
		return err
	}
	if d == nil {
		d = &DurationExpr{base: base{r.pos}, Text: "0s"}
	}
	r.Offset = d
	return nil
}

func (p *parser) parseAt(r *RollupExpr) error {
	if r.At != nil {
		return p.errorAt(p.tok.pos, `an expression can have one "@" only; want an operator`)
	}
	p.advance()
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	pos, negative := p.tok.pos, false
	for p.isPunct("-") || p.isPunct("+") {
		p.mark(p.tok.pos, mark{role: roleSign})
		negative = negative != p.isPunct("-")
		p.advance()
	}
	if p.tok.kind == tokEOF {
		return p.unexpected("a time such as 1767225600 or end()")
	}
	e, err := p.parsePrimary()
	if err != nil {
		return err
	}
	if negative {
		e = negate(pos, e)
	}
	r.At = e
	return nil
}

// parseAggregate parses what follows the name t of an aggregate.
func (p *parser) parseAggregate(t token) (Expr, error) {
	a := &AggrExpr{base: base{t.pos}, Name: strings.ToLower(t.text)}
	err := p.parseGrouping(a)
	if err != nil {
		return nil, err
	}
	if a.Args, err = p.parseArgs(); err != nil {
		return nil, err
	}
	if a.Grouping == GroupNone {
		if err = p.parseGrouping(a); err != nil {
			return nil, err
		}
	}
	if !p.isKeyword("limit") {
		return a, nil
	}
	p.advance()
	num := p.tok.num
	if p.tok.kind != tokNumber || num.isDuration || num.value != math.Trunc(num.value) || num.value > math.MaxInt32 {
		return nil, p.unexpected("the number of groups")
	}
	a.Limit = int(num.value)
	p.advance()
	return a, nil
}

// parseGrouping parses by (labels) or without (labels), if it is there.
func (p *parser) parseGrouping(a *AggrExpr) (err error) {
	switch {
	case p.isKeyword("by"):
		a.Grouping = GroupBy
	case p.isKeyword("without"):
		a.Grouping = GroupWithout
	default:
		return nil
	}
	p.advance()
	a.Labels, err = p.parseLabelList()
	return err
}

// parseLabelList parses a list of label names in parentheses.
func (p *parser) parseLabelList() ([]string, error) {
	p.mark(p.tok.pos, mark{role: roleLabelList})
	open := p.tok.pos
	if !p.isPunct("(") {
		return nil, p.unexpected("label names in parentheses")
	}
	p.advance()
	var labels []string
	for !p.isPunct(")") {
		switch {
		case p.tok.kind == tokString:
			labels = append(labels, p.tok.text)
		case p.tok.kind == tokIdent && p.tok.text[0] != '$':
			names, err := p.expandLabel(p.tok)
			if err != nil {
				return nil, err
			}
			labels = append(labels, names...)
		default:
			return nil, p.unexpected("a label name")
		}
		p.advance()
		if !p.isPunct(",") {
			break
		}
		p.advance()
	}
	if !p.isPunct(")") {
		return nil, p.unclosed(open, wantComma)
	}
	p.advance()
	return labels, nil
}

// parseBinaryModifiers parses bool, on, ignoring, group_left, group_right, prefix and fill.
func (p *parser) parseBinaryModifiers(be *BinaryExpr) (err error) {
	if isComparison(be.Op) && p.isKeyword("bool") {
		be.Bool = true
		p.advance()
	}
	if p.isModifier("on") || p.isModifier("ignoring") {
		be.Match = MatchOn
		if p.isKeyword("ignoring") {
			be.Match = MatchIgnoring
		}
		p.advance()
		if be.MatchLabels, err = p.parseLabelList(); err != nil {
			return err
		}
		if err = p.parseJoin(be); err != nil {
			return err
		}
	}
	if p.lacksLabels() {
		p.advance()
		return p.unexpected("label names in parentheses")
	}
	return p.parseFills(be)
}

// isModifier reports whether the word is in hand with a list behind it; alone it is a metric name.
func (p *parser) isModifier(word string) bool {
	if !p.isKeyword(word) {
		return false
	}
	ahead := p.peek()
	return ahead.kind == tokPunct && ahead.text == "("
}

// lacksLabels reports whether on or ignoring is in hand with an operand behind it, so that it is no metric name.
func (p *parser) lacksLabels() bool {
	if !p.isKeyword("on") && !p.isKeyword("ignoring") {
		return false
	}
	switch ahead := p.peek(); ahead.kind {
	case tokString, tokNumber:
		return true
	case tokIdent:
		return precedence(strings.ToLower(ahead.text)) == 0 && !isKeyword(ahead, "offset") && !isKeyword(ahead, "keep_metric_names") && !isKeyword(ahead, "limit")
	}
	return false
}

func (p *parser) parseJoin(be *BinaryExpr) (err error) {
	switch {
	case p.isKeyword("group_left"):
		be.Join = JoinLeft
	case p.isKeyword("group_right"):
		be.Join = JoinRight
	default:
		return nil
	}
	switch be.Op {
	case "and", "or", "unless":
		return p.errorAt(p.tok.pos, "%s is not allowed with %q; remove it", p.tok.text, be.Op)
	}
	p.advance()
	if p.isPunct("(") {
		if ahead := p.peek(); ahead.kind == tokPunct && ahead.text == "*" {
			p.advance()
			p.advance()
			be.JoinLabels = []string{"*"}
			err = p.expect(")")
		} else {
			be.JoinLabels, err = p.parseLabelList()
		}
	}
	if err != nil || !p.isKeyword("prefix") || p.peek().kind != tokString {
		return err
	}
	p.advance()
	be.JoinPrefix, err = p.parseStringConcat()
	return err
}

func (p *parser) parseFills(be *BinaryExpr) error {
	for {
		left, right := true, true
		switch {
		case p.isModifier("fill"):
		case p.isModifier("fill_left"):
			right = false
		case p.isModifier("fill_right"):
			left = false
		default:
			return nil
		}
		if isSetOp(be.Op) {
			return p.errorAt(p.tok.pos, "%s is not allowed with %q; remove it", p.tok.text, be.Op)
		}
		p.advance()
		v, err := p.parseFillValue()
		if err != nil {
			return err
		}
		if left {
			be.FillLeft = &v
		}
		if right {
			be.FillRight = &v
		}
	}
}

func (p *parser) parseFillValue() (float64, error) {
	if err := p.expect("("); err != nil {
		return 0, err
	}
	pos := p.tok.pos
	e, err := p.parseExpr()
	if err != nil {
		return 0, err
	}
	n, ok := e.(*NumberExpr)
	if !ok {
		return 0, p.errorAt(pos, "unexpected expression; want a number")
	}
	return n.Value, p.expect(")")
}
