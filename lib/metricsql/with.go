package metricsql

import (
	"strings"

	"vmcluster/lib/model"
)

// binding gives a meaning to a name. The bindings in scope form a list from the innermost to the outermost.
type binding struct {
	next *binding
	name string
	// expr is the value of a template without parameters, or of an argument.
	expr  Expr
	nodes int
	isArg bool
	// A template with parameters is parsed again for each call, from bodyPos in the scope env.
	isFunc  bool
	params  []string
	bodyPos int
	env     *binding
}

// placeholder stands for an argument while the body of a template is checked at its definition.
type placeholder struct{ base }

// AppendString appends a text which no query can hold.
func (e *placeholder) AppendString(dst []byte) []byte { return append(dst, '?') }

func (p *parser) lookup(name string) *binding {
	for b := p.env; b != nil; b = b.next {
		if b.name == name {
			return b
		}
	}
	return nil
}

// parseWith parses (name = expr, f(x) = expr, ...) expr.
func (p *parser) parseWith() (Expr, error) {
	p.mark(p.tok.pos, mark{role: roleTemplates})
	outer := p.env
	defer func() { p.env = outer }()
	open := p.tok.pos
	if err := p.expect("("); err != nil {
		return nil, err
	}
	for !p.isPunct(")") {
		if err := p.parseDefinition(outer); err != nil {
			return nil, err
		}
		if !p.isPunct(",") {
			break
		}
		p.advance()
	}
	if !p.isPunct(")") {
		return nil, p.unclosed(open, wantComma)
	}
	p.advance()
	return p.parseExpr()
}

// parseDefinition parses one template and puts it in scope. The names up to outer belong to other lists.
func (p *parser) parseDefinition(outer *binding) error {
	t := p.tok
	if t.kind != tokIdent || t.text[0] == '$' {
		return p.unexpected("the name of a template")
	}
	for b := p.env; b != outer; b = b.next {
		if b.name == t.text {
			return p.errorAt(t.pos, "template %q is defined twice; rename one", t.text)
		}
	}
	p.advance()
	b := &binding{next: p.env, name: t.text, env: p.env}
	if p.isPunct("(") {
		params, err := p.parseParams()
		if err != nil {
			return err
		}
		b.isFunc, b.params = true, params
	}
	if !p.isPunct("=") {
		return p.unexpected(`"="`)
	}
	p.mark(p.tok.pos, mark{role: roleDefinition})
	b.bodyPos = p.tok.end
	p.advance()
	for _, name := range b.params {
		p.env = &binding{next: p.env, name: name, expr: &placeholder{base{t.pos}}, isArg: true}
	}
	before := p.nodes
	e, err := p.parseExpr()
	if err != nil {
		return err
	}
	b.nodes = p.nodes - before
	if !b.isFunc {
		b.expr = e
	}
	p.env = b
	return nil
}

func (p *parser) parseParams() ([]string, error) {
	open := p.tok.pos
	p.advance()
	params := []string{}
	for !p.isPunct(")") {
		if p.tok.kind != tokIdent || p.tok.text[0] == '$' {
			return nil, p.unexpected("the name of a parameter")
		}
		for _, name := range params {
			if name == p.tok.text {
				return nil, p.errorAt(p.tok.pos, "parameter %q is named twice; rename one", name)
			}
		}
		params = append(params, p.tok.text)
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
	return params, nil
}

// callTemplate parses the arguments, and the body of the template with them in scope.
func (p *parser) callTemplate(t token, b *binding) (Expr, error) {
	if !b.isFunc {
		return nil, p.errorAt(t.pos, "template %q takes no arguments; remove the parentheses", t.text)
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	scope := b.env
	args, err := p.parseTemplateArgs(t, b)
	if err != nil {
		return nil, err
	}
	for i := range args {
		args[i].next = scope
		scope = &args[i]
	}
	lex, tok, env := p.lex, p.tok, p.env
	p.lex.pos, p.env = b.bodyPos, scope
	p.advance()
	e, err := p.parseExpr()
	p.lex, p.tok, p.env = lex, tok, env
	if err != nil {
		return nil, err
	}
	return p.parseTemplateTail(e)
}

// parseTemplateTail parses keep_metric_names behind a call of a template.
func (p *parser) parseTemplateTail(e Expr) (Expr, error) {
	if !p.isKeyword("keep_metric_names") {
		return e, nil
	}
	switch e := e.(type) {
	case *FuncExpr:
		kept := *e
		kept.KeepMetricNames = true
		p.advance()
		return &kept, nil
	case *BinaryExpr:
		kept := *e
		kept.KeepMetricNames = true
		p.advance()
		return &kept, nil
	}
	return e, nil
}

func (p *parser) parseTemplateArgs(t token, b *binding) ([]binding, error) {
	open := p.tok.pos
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var args []binding
	for !p.isPunct(")") {
		before := p.nodes
		e, err := p.parseExpr()
		if err != nil {
			return nil, err
		}
		if len(args) == len(b.params) {
			return nil, p.errorAt(t.pos, "template %q is called with too many arguments; want %d", t.text, len(b.params))
		}
		args = append(args, binding{name: b.params[len(args)], expr: e, nodes: p.nodes - before, isArg: true})
		if !p.isPunct(",") {
			break
		}
		p.advance()
	}
	if !p.isPunct(")") {
		return nil, p.unclosed(open, wantComma)
	}
	p.advance()
	if len(args) != len(b.params) {
		return nil, p.errorAt(t.pos, "template %q is called with %d arguments; want %d", t.text, len(args), len(b.params))
	}
	return args, nil
}

// useTemplate returns the value of a template or argument, with filters merged if braces follow.
func (p *parser) useTemplate(t token, b *binding) (Expr, error) {
	if err := p.grow(b.nodes); err != nil {
		return nil, err
	}
	if !p.isPunct("{") {
		return b.expr, nil
	}
	switch e := b.expr.(type) {
	case *MetricExpr:
		return p.addFilters(t, e)
	case *placeholder:
		if _, err := p.parseSelector(t.pos, nil); err != nil {
			return nil, err
		}
		return e, nil
	case *RollupExpr:
		m, ok := e.Expr.(*MetricExpr)
		if !ok {
			break
		}
		merged, err := p.addFilters(t, m)
		if err != nil {
			return nil, err
		}
		r := *e
		r.Expr = merged
		return &r, nil
	}
	return nil, p.errorAt(t.pos, "cannot add filters to template %q: it is not a selector", t.text)
}

// addFilters parses filters in braces and adds them to a selector.
func (p *parser) addFilters(t token, m *MetricExpr) (Expr, error) {
	if ahead := p.peek(); ahead.kind == tokPunct && ahead.text == "}" {
		p.advance()
		p.advance()
		return m, nil
	}
	prefix, err := p.singleSet(t, m)
	if err != nil {
		return nil, err
	}
	return p.parseSelector(t.pos, prefix)
}

func (p *parser) singleSet(t token, m *MetricExpr) ([]model.TagFilter, error) {
	switch len(m.FilterSets) {
	case 0:
		return nil, nil
	case 1:
		return m.FilterSets[0], nil
	}
	return nil, p.errorAt(t.pos, `cannot merge the filters of template %q: it has alternatives joined by "or"`, t.text)
}

// mergeTemplate adds the filters of a template to a group of filters.
func (p *parser) mergeTemplate(g *filterGroup, t token, b *binding) error {
	if _, ok := b.expr.(*placeholder); ok {
		return nil
	}
	m, ok := b.expr.(*MetricExpr)
	if !ok {
		return p.errorAt(t.pos, "cannot use template %q as filters: it is not a selector", t.text)
	}
	set, err := p.singleSet(t, m)
	if err != nil {
		return err
	}
	for _, f := range set {
		if !isNameFilter(f) {
			g.filters = append(g.filters, f)
			continue
		}
		if err := p.setName(g, t.pos, f.Value); err != nil {
			return err
		}
	}
	return p.grow(len(set))
}

// expandLabel returns the labels which a name in a list of labels stands for:
// itself, or the names which were passed as an argument of that name.
func (p *parser) expandLabel(t token) ([]string, error) {
	b := p.lookup(t.text)
	if b == nil || b.isFunc {
		return []string{t.text}, p.grow(1)
	}
	if !b.isArg {
		return nil, p.errorAt(t.pos, "template %q cannot be used as a label name; write the label, or pass it as an argument", t.text)
	}
	if _, ok := b.expr.(*placeholder); ok {
		return []string{t.text}, nil
	}
	names, ok := labelNames(b.expr)
	if !ok {
		return nil, p.errorAt(t.pos, "argument %q cannot be used as a label name: it is not a name or a list of names", t.text)
	}
	return names, p.grow(len(names))
}

func labelNames(e Expr) ([]string, bool) {
	switch e := e.(type) {
	case *StringExpr:
		return []string{e.Value}, true
	case *MetricExpr:
		if len(e.FilterSets) != 1 || len(e.FilterSets[0]) != 1 || !isNameFilter(e.FilterSets[0][0]) {
			return nil, false
		}
		return []string{e.FilterSets[0][0].Value}, true
	case *FuncExpr:
		if e.Name != "" {
			return nil, false
		}
		var names []string
		for _, arg := range e.Args {
			more, ok := labelNames(arg)
			if !ok {
				return nil, false
			}
			names = append(names, more...)
		}
		return names, true
	}
	return nil, false
}

func isBuiltinTemplate(name string) bool { return name == "ru" || name == "ttf" }

// callBuiltinTemplate expands ru(free, max), the used share in percent, and
// ttf(free), the seconds until a resource is used up.
func (p *parser) callBuiltinTemplate(t token) (Expr, error) {
	body := `clamp_min(max - clamp_min(free, 0), 0) / clamp_min(max, 0) * 100`
	params := []string{"free", "max"}
	if strings.EqualFold(t.text, "ttf") {
		body = `smooth_exponential(clamp_max(clamp_max(-free, 0) / clamp_max(deriv_fast(free), 0), 1y), clamp_max(step() / 300, 1))`
		params = params[:1]
	}
	args, err := p.parseTemplateArgs(t, &binding{name: t.text, params: params})
	if err != nil {
		return nil, err
	}
	sub := &parser{src: body, lex: lexer{src: body}, depth: p.depth, nodes: p.nodes}
	for i := range args {
		args[i].next = sub.env
		sub.env = &args[i]
	}
	sub.advance()
	e, err := sub.parseExpr()
	p.nodes = sub.nodes
	if err != nil {
		return nil, p.errorAt(t.pos, "cannot expand %s: %s", t.text, err)
	}
	return p.parseTemplateTail(e)
}
