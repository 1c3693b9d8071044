package graphite

import (
	"strconv"
	"strings"
)

// Expr is a parsed target or argument: *Call, Path, String, Number, Bool or None.
type Expr interface {
	appendTo(dst []byte) []byte
}

// Call is a function with its arguments.
type Call struct {
	Name  string
	Args  []Expr
	Named []NamedArg
}

// NamedArg is an argument given as name=value.
type NamedArg struct {
	Name  string
	Value Expr
}

// Path is a path expression with wildcards, such as servers.*.cpu.
type Path string

// String is a quoted string.
type String string

// Number is a number, with the text it was written as.
type Number struct {
	Value float64
	Text  string
}

// Bool is true or false.
type Bool bool

// None is the missing value.
type None struct{}

// Print renders an expression so that it can be parsed again.
func Print(e Expr) string { return string(e.appendTo(nil)) }

func (c *Call) appendTo(dst []byte) []byte {
	dst = append(append(dst, c.Name...), '(')
	for i, a := range c.Args {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = a.appendTo(dst)
	}
	for i, a := range c.Named {
		if i > 0 || len(c.Args) > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, a.Name...), '=')
		dst = a.Value.appendTo(dst)
	}
	return append(dst, ')')
}

func (p Path) appendTo(dst []byte) []byte { return append(dst, p...) }

func (s String) appendTo(dst []byte) []byte {
	quote := byte('\'')
	if strings.IndexByte(string(s), '\'') >= 0 && strings.IndexByte(string(s), '"') < 0 {
		quote = '"'
	}
	dst = append(dst, quote)
	for i := range len(s) {
		if s[i] == quote || s[i] == '\\' && (i+1 == len(s) || s[i+1] == '\'' || s[i+1] == '"' || s[i+1] == '\\') {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, quote)
}

func (n Number) appendTo(dst []byte) []byte { return append(dst, n.Text...) }

func (b Bool) appendTo(dst []byte) []byte { return strconv.AppendBool(dst, bool(b)) }

func (None) appendTo(dst []byte) []byte { return append(dst, "None"...) }
