package model

import (
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

const (
	// maxLiterals bounds the finite set a regular expression is expanded to.
	maxLiterals = 1000
	// maxLiteralsBytes bounds their total size.
	maxLiteralsBytes = 1 << 18
)

// stripAnchors drops ^ and $ where they stand at the ends of the whole
// expression, since the match is anchored anyway. It does not change re.
func stripAnchors(re *syntax.Regexp, atStart, atEnd bool) *syntax.Regexp {
	if !atStart && !atEnd {
		return re
	}
	switch re.Op {
	case syntax.OpBeginText:
		if atStart {
			return &syntax.Regexp{Op: syntax.OpEmptyMatch}
		}
	case syntax.OpEndText:
		if atEnd {
			return &syntax.Regexp{Op: syntax.OpEmptyMatch}
		}
	case syntax.OpCapture, syntax.OpAlternate:
		c := *re
		c.Sub = make([]*syntax.Regexp, len(re.Sub))
		for i, sub := range re.Sub {
			c.Sub[i] = stripAnchors(sub, atStart, atEnd)
		}
		return &c
	case syntax.OpConcat:
		return stripConcat(re, atStart, atEnd)
	}
	return re
}

func stripConcat(re *syntax.Regexp, atStart, atEnd bool) *syntax.Regexp {
	c := *re
	c.Sub = append([]*syntax.Regexp(nil), re.Sub...)
	for i := 0; i < len(c.Sub) && atStart; i++ {
		isAnchor := c.Sub[i].Op == syntax.OpBeginText
		c.Sub[i] = stripAnchors(c.Sub[i], true, atEnd && i == len(c.Sub)-1)
		atStart = isAnchor // the next one stands at the start only behind an anchor
	}
	for i := len(c.Sub) - 1; i >= 0 && atEnd; i-- {
		isAnchor := c.Sub[i].Op == syntax.OpEndText
		c.Sub[i] = stripAnchors(c.Sub[i], false, true)
		atEnd = isAnchor
	}
	return &c
}

// finiteLiterals returns all texts re matches, if they are few.
func finiteLiterals(re *syntax.Regexp) ([]string, bool) {
	switch re.Op {
	case syntax.OpNoMatch:
		return nil, true
	case syntax.OpEmptyMatch:
		return []string{""}, true
	case syntax.OpLiteral:
		if s, ok := plainLiteral(re); ok {
			return []string{s}, true
		}
	case syntax.OpCharClass:
		return classLiterals(re.Rune)
	case syntax.OpCapture:
		return finiteLiterals(re.Sub[0])
	case syntax.OpQuest:
		if literals, ok := finiteLiterals(re.Sub[0]); ok && len(literals) < maxLiterals {
			return append(literals, ""), true
		}
	case syntax.OpAlternate:
		return alternateLiterals(re.Sub)
	case syntax.OpConcat:
		return concatLiterals(re.Sub)
	}
	return nil, false
}

// plainLiteral returns the text of a literal. The replacement rune is refused, since
// it matches any broken byte, and so is case folding.
func plainLiteral(re *syntax.Regexp) (string, bool) {
	if re.Op != syntax.OpLiteral || re.Flags&syntax.FoldCase != 0 {
		return "", false
	}
	for _, r := range re.Rune {
		if r == utf8.RuneError || !utf8.ValidRune(r) {
			return "", false
		}
	}
	return string(re.Rune), true
}

func classLiterals(ranges []rune) ([]string, bool) {
	var literals []string
	for i := 0; i+1 < len(ranges); i += 2 {
		if len(literals)+int(ranges[i+1]-ranges[i])+1 > maxLiterals {
			return nil, false
		}
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if r == utf8.RuneError || !utf8.ValidRune(r) {
				return nil, false
			}
			literals = append(literals, string(r))
		}
	}
	return literals, true
}

func alternateLiterals(subs []*syntax.Regexp) ([]string, bool) {
	var all []string
	for _, sub := range subs {
		literals, ok := finiteLiterals(sub)
		if !ok || !fewLiterals(len(all)+len(literals), all, literals) {
			return nil, false
		}
		all = append(all, literals...)
	}
	return all, true
}

func fewLiterals(n int, lists ...[]string) bool {
	size := 0
	for _, list := range lists {
		for _, s := range list {
			size += len(s)
		}
	}
	return n <= maxLiterals && size <= maxLiteralsBytes
}

func concatLiterals(subs []*syntax.Regexp) ([]string, bool) {
	product := []string{""}
	for _, sub := range subs {
		literals, ok := finiteLiterals(sub)
		if !ok || len(product)*len(literals) > maxLiterals {
			return nil, false
		}
		next := make([]string, 0, len(product)*len(literals))
		for _, head := range product {
			for _, tail := range literals {
				next = append(next, head+tail)
			}
		}
		if !fewLiterals(len(next), next) {
			return nil, false
		}
		product = next
	}
	return product, true
}

// literalPrefix returns a text every match of re starts with, and whether re
// matches that text and nothing else.
func literalPrefix(re *syntax.Regexp) (prefix string, exact bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return "", true
	case syntax.OpLiteral:
		return plainLiteral(re)
	case syntax.OpCapture:
		return literalPrefix(re.Sub[0])
	case syntax.OpPlus:
		prefix, _ = literalPrefix(re.Sub[0])
		return prefix, false
	case syntax.OpRepeat:
		if re.Min > 0 {
			prefix, _ = literalPrefix(re.Sub[0])
		}
		return prefix, false
	case syntax.OpConcat:
		var b strings.Builder
		for _, sub := range re.Sub {
			p, ok := literalPrefix(sub)
			b.WriteString(p)
			if !ok {
				return b.String(), false
			}
		}
		return b.String(), true
	case syntax.OpAlternate:
		prefix, _ = literalPrefix(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			p, _ := literalPrefix(sub)
			prefix = commonPrefix(prefix, p)
		}
		return prefix, false
	}
	return "", false
}

// commonPrefix returns the longest text both strings start with. It may end within a rune.
func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// literalAround recognises [.*|.+] literal [.*|.+], and .* and .+ alone.
func literalAround(re *syntax.Regexp) (around, bool) {
	subs := flatten(nil, re)
	var a around
	if len(subs) > 0 {
		if min, ok := anyText(subs[0]); ok {
			a.before, a.minBefore = true, min
			subs = subs[1:]
		}
	}
	if n := len(subs); n > 0 {
		if min, ok := anyText(subs[n-1]); ok {
			a.after, a.minAfter = true, min
			subs = subs[:n-1]
		}
	}
	for _, sub := range subs {
		s, ok := plainLiteral(sub)
		if !ok {
			return around{}, false
		}
		a.literal += s
	}
	a.minLen = a.minBefore + len(a.literal) + a.minAfter
	a.lengthOnly = a.literal == ""
	if a.lengthOnly && a.minLen > 1 {
		return around{}, false // two runes, which no number of bytes can stand for
	}
	return a, a.before || a.after
}

// flatten appends the parts of nested concatenations.
func flatten(dst []*syntax.Regexp, re *syntax.Regexp) []*syntax.Regexp {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return dst
	case syntax.OpCapture:
		return flatten(dst, re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			dst = flatten(dst, sub)
		}
		return dst
	}
	return append(dst, re)
}

// anyText recognises .* and .+ with a dot that matches line breaks too.
func anyText(re *syntax.Regexp) (min int, ok bool) {
	if re.Op != syntax.OpStar && re.Op != syntax.OpPlus {
		return 0, false
	}
	if re.Sub[0].Op != syntax.OpAnyChar {
		return 0, false
	}
	if re.Op == syntax.OpPlus {
		min = 1
	}
	return min, true
}
