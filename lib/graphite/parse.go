package graphite

import (
	"math"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
)

// maxDepth bounds how deep calls may be nested.
const maxDepth = 200

// Parse parses a target.
func Parse(target string) (Expr, error) {
	p := &parser{text: target}
	e, err := p.expression(0)
	if err == nil {
		p.space()
		if p.pos < len(p.text) {
			err = p.unexpected("the end of the target")
		}
	}
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot parse %q: %w", target, err)
	}
	return e, nil
}

type parser struct {
	text string
	pos  int
}

// unexpected says what stands where something else was wanted.
func (p *parser) unexpected(want string) error {
	rest := p.text[p.pos:]
	if rest == "" {
		return errkind.New(errkind.BadRequest, "want %s at the end of the text", want)
	}
	return errkind.New(errkind.BadRequest, "want %s at byte %d, got %q", want, p.pos, rest[:min(20, len(rest))])
}

func (p *parser) space() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
}

// take skips the byte if it comes next.
func (p *parser) take(c byte) bool {
	p.space()
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// expression parses an expression with the functions it is piped through.
func (p *parser) expression(depth int) (Expr, error) {
	if depth > maxDepth {
		return nil, errkind.New(errkind.BadRequest, "more than %d nested calls; split the target", maxDepth)
	}
	e, err := p.single(depth)
	for pipes := 0; err == nil && p.take('|'); pipes++ {
		if pipes > maxDepth {
			return nil, errkind.New(errkind.BadRequest, "more than %d piped calls; split the target", maxDepth)
		}
		var next Expr
		if next, err = p.single(depth + pipes + 1); err != nil {
			return nil, err
		}
		call, ok := next.(*Call)
		if !ok {
			return nil, errkind.New(errkind.BadRequest, "want a function call after |, got %s", Print(next))
		}
		call.Args = append([]Expr{e}, call.Args...)
		e = call
	}
	return e, err
}

// single parses an expression without pipes.
func (p *parser) single(depth int) (Expr, error) {
	p.space()
	if p.pos == len(p.text) {
		return nil, p.unexpected("a path, a function call or a value")
	}
	if c := p.text[p.pos]; c == '"' || c == '\'' {
		return p.quoted(c)
	}
	word, err := p.word()
	if err != nil {
		return nil, err
	}
	if p.pos < len(p.text) && p.text[p.pos] == '(' {
		if !isName(word) {
			return nil, errkind.New(errkind.BadRequest, "want a function name before (, got %q", word)
		}
		p.pos++
		return p.call(word, depth)
	}
	return value(word), nil
}

// value tells a word that is no call.
func value(word string) Expr {
	switch strings.ToLower(word) {
	case "true":
		return Bool(true)
	case "false":
		return Bool(false)
	case "none":
		return None{}
	}
	if f, err := strconv.ParseFloat(word, 64); err == nil && !math.IsNaN(f) && !strings.ContainsAny(word, "xX_") {
		return Number{Value: f, Text: word}
	}
	return Path(word)
}

// isName reports whether s can be the name of a function or an argument.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// quoted parses a string. A backslash keeps a quote or a backslash after it from its meaning and stands for itself otherwise.
func (p *parser) quoted(quote byte) (Expr, error) {
	start := p.pos
	var text []byte
	for p.pos++; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		if c == quote {
			p.pos++
			return String(text), nil
		}
		if c == '\\' && p.pos+1 < len(p.text) && strings.IndexByte(`'"\`, p.text[p.pos+1]) >= 0 {
			p.pos++
			c = p.text[p.pos]
		}
		text = append(text, c)
	}
	p.pos = start
	return nil, p.unexpected("a string with a quote at its end")
}

// word reads a path, a name or a number. Commas belong to it inside braces only.
func (p *parser) word() (string, error) {
	start, braces := p.pos, 0
	for ; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		if c == '\\' && p.pos+1 < len(p.text) {
			p.pos++
			continue
		}
		if c == '{' {
			braces++
		}
		if c == '}' && braces > 0 {
			braces--
		}
		if strings.IndexByte("()|'\" \t\r\n", c) >= 0 || c == ',' && braces == 0 {
			break
		}
	}
	if braces > 0 {
		p.pos = start
		return "", p.unexpected("a path with as many } as {")
	}
	if p.pos == start {
		return "", p.unexpected("a path, a function call or a value")
	}
	return p.text[start:p.pos], nil
}

// call parses the arguments of a function after the opening parenthesis.
func (p *parser) call(name string, depth int) (Expr, error) {
	c := &Call{Name: name}
	if p.take(')') {
		return c, nil
	}
	for {
		if err := p.argument(c, depth); err != nil {
			return nil, err
		}
		if p.take(')') {
			return c, nil
		}
		if !p.take(',') {
			return nil, p.unexpected("a comma or ) after an argument of " + name + "()")
		}
	}
}

func (p *parser) argument(c *Call, depth int) error {
	name := p.argumentName()
	e, err := p.expression(depth + 1)
	if err != nil {
		return err
	}
	if name != "" {
		c.Named = append(c.Named, NamedArg{name, e})
		return nil
	}
	if len(c.Named) > 0 {
		return errkind.New(errkind.BadRequest, "cannot take %s as an argument of %s(): arguments without a name come before those with one", Print(e), c.Name)
	}
	c.Args = append(c.Args, e)
	return nil
}

// argumentName reads name= if it comes next.
func (p *parser) argumentName() string {
	p.space()
	end := p.pos
	for end < len(p.text) && isName(p.text[p.pos:end+1]) {
		end++
	}
	name, after := p.text[p.pos:end], end
	for after < len(p.text) && p.text[after] == ' ' {
		after++
	}
	if name == "" || after == len(p.text) || p.text[after] != '=' {
		return ""
	}
	p.pos = after + 1
	return name
}
