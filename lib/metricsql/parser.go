package metricsql

import (
	"strings"
)

const (
	// maxQueryBytes bounds what Parse looks at; servers set lower limits of their own.
	maxQueryBytes = 1 << 20
	// maxDepth bounds the nesting of brackets, of unary operators, of ^ and of templates.
	maxDepth = 500
	// maxNodes bounds the tree after the expansion of templates, which may be exponential.
	maxNodes = 200_000
	// nodeBytes is how many bytes of text count as a node, since templates multiply texts as well.
	nodeBytes = 64
)

// Parse returns the tree of a query. Templates are expanded, constants are
// folded, and parentheses are gone: the shape of the tree says the order.
// Errors are of kind BadRequest.
func Parse(q string) (Expr, error) { return newParser(q).parse() }

func newParser(q string) *parser { return &parser{src: q, lex: lexer{src: q}} }

func (p *parser) parse() (Expr, error) {
	if n := len(p.src); n > maxQueryBytes {
		p.src = p.src[:maxQueryBytes]
		return nil, p.errorAt(0, "the query has %d bytes; want at most %d", n, maxQueryBytes)
	}
	p.advance()
	e, err := p.parseExpr()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokEOF {
		return nil, p.unexpected(wantOperator)
	}
	return e, nil
}

// ExpandWith returns the canonical text of a query, with its templates expanded.
func ExpandWith(q string) (string, error) {
	e, err := Parse(q)
	if err != nil {
		return "", err
	}
	return String(e), nil
}

// parser is a recursive descent over tokens with one token in hand. Templates
// are expanded on the way: a call of a template parses its body again, with
// the arguments bound to names.
type parser struct {
	src   string
	lex   lexer
	tok   token
	env   *binding // names in scope; nil: none
	depth int
	nodes int
	marks marks // what tokens stand for, by their place; nil: nobody asks
}

func (p *parser) advance() { p.tok = p.lex.next() }

// peek returns the token behind the one in hand.
func (p *parser) peek() token {
	ahead := p.lex
	return ahead.next()
}

func (p *parser) isPunct(text string) bool { return p.tok.kind == tokPunct && p.tok.text == text }

func (p *parser) isKeyword(word string) bool { return isKeyword(p.tok, word) }

func isKeyword(t token, word string) bool {
	return t.kind == tokIdent && !t.escaped && strings.EqualFold(t.text, word)
}

// expect passes over the given operator.
func (p *parser) expect(text string) error {
	if !p.isPunct(text) {
		return p.unexpected(`"` + text + `"`)
	}
	p.advance()
	return nil
}

// enter counts one level of nesting; leave takes it back.
func (p *parser) enter() error {
	p.depth++
	if p.depth > maxDepth {
		return p.errorAt(p.tok.pos, "the query is nested deeper than %d levels; simplify it", maxDepth)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// grow counts n nodes of the tree.
func (p *parser) grow(n int) error {
	p.nodes += n
	if p.nodes > maxNodes {
		return p.errorAt(p.tok.pos, "the query has more than %d parts after the expansion of templates; simplify it", maxNodes)
	}
	return nil
}

// growText counts a text.
func (p *parser) growText(s string) error { return p.grow(len(s) / nodeBytes) }

func (p *parser) parseExpr() (Expr, error) { return p.parseBinary(precLowest) }

// parseBinary parses operands joined by operators of at least the given precedence.
func (p *parser) parseBinary(minPrec int) (Expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	left, err := p.parseUnary(minPrec)
	if err != nil {
		return nil, err
	}
	for {
		op := p.binaryOp()
		if op == "" || precedence(op) < minPrec {
			return left, nil
		}
		if left, err = p.parseBinaryTail(left, op); err != nil {
			return nil, err
		}
	}
}

// binaryOp returns the operator in hand, in lower case, or an empty string.
func (p *parser) binaryOp() string {
	if p.tok.kind != tokPunct && (p.tok.kind != tokIdent || p.tok.escaped) {
		return ""
	}
	op := strings.ToLower(p.tok.text)
	if precedence(op) == 0 {
		return ""
	}
	return op
}

// parseUnary parses an operand with signs before it. Minus is 0 - x. At the
// start of an expression it has the precedence of the binary minus; behind an
// operator which binds tighter, it takes powers only.
func (p *parser) parseUnary(minPrec int) (Expr, error) {
	if !p.isPunct("-") && !p.isPunct("+") {
		return p.parseOperand()
	}
	minus, pos := p.isPunct("-"), p.tok.pos
	p.mark(pos, mark{role: roleSign})
	p.advance()
	prec := precMul
	if minPrec > precAdd {
		prec = precPow
	}
	e, err := p.parseBinary(prec)
	if err != nil || !minus {
		return e, err
	}
	return negate(pos, e), nil
}

func negate(pos int, e Expr) Expr {
	return fold(&BinaryExpr{base: base{pos}, Op: "-", Left: &NumberExpr{base: base{pos}}, Right: e})
}

// parseBinaryTail parses operator, modifiers and right side.
func (p *parser) parseBinaryTail(left Expr, op string) (Expr, error) {
	if err := p.grow(1); err != nil {
		return nil, err
	}
	be := &BinaryExpr{base: base{p.tok.pos}, Op: op, Left: left}
	p.advance()
	if err := p.parseBinaryModifiers(be); err != nil {
		return nil, err
	}
	p.mark(be.pos, mark{role: roleOperator, prec: precedence(op), operand: p.tok.pos})
	prec := precedence(op) + 1
	if op == "^" {
		prec = precPow // right-associative
	}
	var err error
	if be.Right, err = p.parseBinary(prec); err != nil {
		return nil, err
	}
	if p.isKeyword("keep_metric_names") {
		be.KeepMetricNames = true
		p.advance()
	}
	e := fold(be)
	if text, ok := e.(*StringExpr); ok {
		return e, p.growText(text.Value)
	}
	return e, nil
}

// parseOperand parses one operand with window, offset and @ behind it.
func (p *parser) parseOperand() (Expr, error) {
	e, err := p.parsePrimary()
	if err != nil {
		return nil, err
	}
	return p.parseSuffixes(e)
}

func (p *parser) parsePrimary() (Expr, error) {
	if err := p.grow(1); err != nil {
		return nil, err
	}
	pos := p.tok.pos
	switch p.tok.kind {
	case tokString:
		s := p.tok.text
		p.advance()
		return &StringExpr{base{pos}, s}, p.growText(s)
	case tokNumber:
		return p.parseNumber(), nil
	case tokIdent:
		return p.parseIdent()
	case tokPunct:
		switch p.tok.text {
		case "(":
			return p.parseParens()
		case "{":
			return p.parseSelector(pos, nil)
		}
	}
	return nil, p.unexpected(wantExpr)
}

func (p *parser) parseNumber() Expr {
	t := p.tok
	p.advance()
	if t.num.isDuration && t.num.steps != 0 {
		return &DurationExpr{base: base{t.pos}, Millis: t.num.millis, Steps: t.num.steps, Text: t.text}
	}
	return &NumberExpr{base{t.pos}, t.num.value, t.text}
}

// parseParens parses (a), which is a, and (a, b), which is a union.
func (p *parser) parseParens() (Expr, error) {
	pos := p.tok.pos
	args, err := p.parseArgs()
	if err != nil {
		return nil, err
	}
	if len(args) != 1 {
		return &FuncExpr{base: base{pos}, Args: args}, nil
	}
	if !p.isKeyword("keep_metric_names") {
		return args[0], nil
	}
	switch e := args[0].(type) {
	case *BinaryExpr:
		kept := *e
		kept.KeepMetricNames = true
		p.advance()
		return &kept, nil
	case *FuncExpr:
		kept := *e
		kept.KeepMetricNames = true
		p.advance()
		return &kept, nil
	case *NumberExpr:
		if e.Text == "" { // the value of a folded operation, which has no name to keep
			p.advance()
		}
	}
	return args[0], nil
}

// parseArgs parses a list of expressions in parentheses.
func (p *parser) parseArgs() ([]Expr, error) {
	open := p.tok.pos
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var args []Expr
	for !p.isPunct(")") {
		e, err := p.parseExpr()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
		if !p.isPunct(",") {
			break
		}
		p.advance()
	}
	if !p.isPunct(")") {
		return nil, p.unclosed(open, wantComma)
	}
	p.advance()
	return args, nil
}

// parseIdent parses what starts with a name: a selector, a call, an aggregate, a template or a named number.
func (p *parser) parseIdent() (Expr, error) {
	t := p.tok
	if strings.HasPrefix(t.text, "$") {
		return nil, p.unexpected(wantExpr)
	}
	ahead := p.peek()
	if ahead.kind == tokPunct && ahead.text == "(" {
		return p.parseCall()
	}
	if !t.escaped && IsAggregate(t.text) && p.lookup(t.text) == nil && (isKeyword(ahead, "by") || isKeyword(ahead, "without")) {
		p.advance()
		return p.parseAggregate(t)
	}
	p.advance()
	if v, ok := namedNumber(t); ok {
		return &NumberExpr{base{t.pos}, v, t.text}, nil
	}
	if b := p.lookup(t.text); b != nil && !b.isFunc {
		return p.useTemplate(t, b)
	}
	if p.isPunct("{") {
		return p.parseSelector(t.pos, nameFilters(t.text))
	}
	return newMetric(t.pos, t.text), nil
}

// parseCall parses name(args).
func (p *parser) parseCall() (Expr, error) {
	t := p.tok
	b := p.lookup(t.text)
	p.advance()
	if b != nil {
		return p.callTemplate(t, b)
	}
	if isKeyword(t, "with") {
		return p.parseWith()
	}
	name := strings.ToLower(t.text)
	if IsAggregate(name) {
		return p.parseAggregate(t)
	}
	if isBuiltinTemplate(name) {
		return p.callBuiltinTemplate(t)
	}
	if FunctionKind(name) == KindUnknown {
		return nil, p.unknownFunction(t)
	}
	args, err := p.parseArgs()
	if err != nil {
		return nil, err
	}
	f := &FuncExpr{base: base{t.pos}, Name: name, Args: args}
	if p.isKeyword("keep_metric_names") {
		f.KeepMetricNames = true
		p.advance()
	}
	return f, nil
}
