package metricsql

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokBad              // text holds the message
	tokIdent            // text holds the name without escapes
	tokString           // text holds the value
	tokNumber           // num holds the value
	tokPunct            // text holds the operator
)

// token is one word of a query. The bytes src[pos:end] are the word as written.
type token struct {
	kind    tokenKind
	pos     int
	end     int
	text    string
	num     number
	escaped bool // an identifier with escapes is never a keyword
}

// lexer cuts a query into tokens. It is a small value, so looking ahead is done on a copy.
type lexer struct {
	src string
	pos int
	// inWindow makes the colon an operator instead of a letter of identifiers.
	inWindow bool
}

func (l *lexer) next() token {
	l.skipBlanks()
	if l.pos >= len(l.src) {
		return token{kind: tokEOF, pos: l.pos, end: l.pos}
	}
	c := l.src[l.pos]
	switch {
	case c == '"' || c == '\'' || c == '`':
		return l.lexString(c)
	case isDigit(c), c == '.' && l.pos+1 < len(l.src) && isDigit(l.src[l.pos+1]):
		return l.lexNumber()
	case c == '$':
		return l.lexVariable()
	}
	if n := l.identRuneLen(l.pos, true); n > 0 {
		return l.lexIdent()
	}
	return l.lexPunct()
}

// skipBlanks passes over white space and comments.
func (l *lexer) skipBlanks() {
	for l.pos < len(l.src) {
		switch l.src[l.pos] {
		case ' ', '\t', '\n', '\r', '\v', '\f':
			l.pos++
		case '#':
			end := strings.IndexByte(l.src[l.pos:], '\n')
			if end < 0 {
				l.pos = len(l.src)
				return
			}
			l.pos += end
		default:
			return
		}
	}
}

func (l *lexer) bad(start int, format string, args ...any) token {
	l.pos = len(l.src)
	return token{kind: tokBad, pos: start, end: l.pos, text: fmt.Sprintf(format, args...)}
}

func (l *lexer) lexPunct() token {
	start := l.pos
	n := 1
	if start+1 < len(l.src) {
		switch l.src[start : start+2] {
		case "==", "!=", "=~", "!~", ">=", "<=":
			n = 2
		}
	}
	text := l.src[start : start+n]
	if n == 1 && !strings.Contains("(){}[],+-*/%^=><@:", text) {
		r, _ := utf8.DecodeRuneInString(l.src[start:])
		return l.bad(start, "unexpected character %q%s", r, lookalike(r))
	}
	l.pos += n
	return token{kind: tokPunct, pos: start, end: l.pos, text: text}
}

// lexVariable reads the placeholders of dashboards, which are known as windows only.
func (l *lexer) lexVariable() token {
	start := l.pos
	end := start + 1
	for end < len(l.src) && (isDigit(l.src[end]) || isLetter(l.src[end])) {
		end++
	}
	l.pos = end
	return token{kind: tokIdent, pos: start, end: end, text: l.src[start:end], escaped: true}
}

func (l *lexer) lexString(quote byte) token {
	start := l.pos
	if quote == '`' {
		n := strings.IndexByte(l.src[start+1:], '`')
		if n < 0 {
			return l.bad(start, "string is not closed: there is no second %c", quote)
		}
		l.pos = start + n + 2
		return token{kind: tokString, pos: start, end: l.pos, text: l.src[start+1 : l.pos-1]}
	}
	var dst []byte
	rest := l.src[start+1:]
	for {
		if rest == "" {
			return l.bad(start, "string is not closed: there is no second %c", quote)
		}
		if rest[0] == quote {
			l.pos = len(l.src) - len(rest) + 1
			return token{kind: tokString, pos: start, end: l.pos, text: string(dst)}
		}
		r, multibyte, tail, err := strconv.UnquoteChar(rest, quote)
		if err != nil {
			return l.bad(len(l.src)-len(rest), "unknown escape in string: %s; a backslash is written \\\\, or as it is between backticks", strconv.Quote(rest[:min(len(rest), 2)]))
		}
		if r < utf8.RuneSelf || !multibyte {
			dst = append(dst, byte(r))
		} else if r == utf8.RuneError && rest[0] != '\\' {
			dst = append(dst, rest[:len(rest)-len(tail)]...) // keeps bytes which are not UTF-8
		} else {
			dst = utf8.AppendRune(dst, r)
		}
		rest = tail
	}
}

func (l *lexer) lexIdent() token {
	start := l.pos
	escaped := false
	for first := true; ; first = false {
		n := l.identRuneLen(l.pos, first)
		if n == 0 {
			break
		}
		escaped = escaped || l.src[l.pos] == '\\'
		l.pos += n
	}
	t := token{kind: tokIdent, pos: start, end: l.pos, text: l.src[start:l.pos], escaped: escaped}
	if escaped {
		t.text = unescapeIdent(t.text)
	}
	return t
}

// identRuneLen returns how many bytes at pos form one letter of an identifier; 0 if none do.
func (l *lexer) identRuneLen(pos int, first bool) int {
	if pos >= len(l.src) {
		return 0
	}
	switch c := l.src[pos]; {
	case isLetter(c):
		return 1
	case c == ':':
		if l.inWindow {
			return 0
		}
		return 1
	case isDigit(c) || c == '.':
		if first {
			return 0
		}
		return 1
	case c == '\\':
		return escapeLen(l.src[pos:])
	case c < utf8.RuneSelf:
		return 0
	}
	r, n := utf8.DecodeRuneInString(l.src[pos:])
	if unicode.IsLetter(r) || !first && (unicode.IsMark(r) || unicode.IsDigit(r)) {
		return n
	}
	return 0
}

// escapeLen returns the length of the escape which s starts with; 0 if it is none.
func escapeLen(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case 'x', 'X':
		return hexEscapeLen(s, 4)
	case 'u', 'U':
		return hexEscapeLen(s, 6)
	}
	r, n := utf8.DecodeRuneInString(s[1:])
	if r == utf8.RuneError || unicode.IsSpace(r) || unicode.IsControl(r) {
		return 0
	}
	return 1 + n
}

func hexEscapeLen(s string, n int) int {
	if len(s) < n {
		return 0
	}
	if _, err := strconv.ParseUint(s[2:n], 16, 32); err != nil {
		return 0
	}
	return n
}

func unescapeIdent(s string) string {
	var dst []byte
	for len(s) > 0 {
		if s[0] != '\\' {
			dst = append(dst, s[0])
			s = s[1:]
			continue
		}
		n := escapeLen(s)
		if n == 4 || n == 6 {
			if code, err := strconv.ParseUint(s[2:n], 16, 32); err == nil && strings.ContainsRune("xXuU", rune(s[1])) {
				dst = utf8.AppendRune(dst, rune(code))
				s = s[n:]
				continue
			}
		}
		dst = append(dst, s[1:n]...)
		s = s[n:]
	}
	return string(dst)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
