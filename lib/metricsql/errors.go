package metricsql

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"vmcluster/lib/errkind"
)

// excerptLen is how many bytes of the query an error shows before and behind the place of the error.
const excerptLen = 30

// What is wanted in the places where words are most often misplaced.
const (
	wantOperator = "an operator or the end of the query"
	wantComma    = `"," or ")"`
	wantFilter   = `",", "or" or "}"`
	wantExpr     = "an expression"
)

// errorAt returns an error of kind BadRequest with line, column and the text around pos.
func (p *parser) errorAt(pos int, format string, args ...any) error {
	pos = min(pos, len(p.src))
	line, column := p.place(pos)
	return errkind.New(errkind.BadRequest, "cannot parse query at line %d, column %d: %s; near %q",
		line, column, fmt.Sprintf(format, args...), p.excerpt(pos))
}

// place returns line and column of an offset, counted from 1.
func (p *parser) place(pos int) (line, column int) {
	before := p.src[:pos]
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}

func (p *parser) excerpt(pos int) string {
	start, end := max(0, pos-excerptLen), min(len(p.src), pos+excerptLen)
	for start > 0 && !utf8.RuneStart(p.src[start]) {
		start--
	}
	for end < len(p.src) && !utf8.RuneStart(p.src[end]) {
		end++
	}
	return p.src[start:end]
}

// unexpected returns the error for a token which fits nowhere.
func (p *parser) unexpected(want string) error {
	switch p.tok.kind {
	case tokBad:
		return p.errorAt(p.tok.pos, "%s; want %s", p.tok.text, want)
	case tokEOF:
		return p.errorAt(p.tok.pos, "unexpected end of query; want %s", want)
	}
	return p.errorAt(p.tok.pos, "unexpected %q; want %s%s", p.src[p.tok.pos:p.tok.end], want, p.hint(want))
}

// unclosed returns the error for a token where a bracket should close; open is where it stands.
func (p *parser) unclosed(open int, want string) error {
	if p.tok.kind != tokEOF || open >= len(p.src) {
		return p.unexpected(want)
	}
	line, column := p.place(open)
	return p.unexpected(fmt.Sprintf("%s for the %q at line %d, column %d", want, p.src[open:open+1], line, column))
}

// hint says where the word in hand belongs, if it is one that is often misplaced.
func (p *parser) hint(want string) string {
	if strings.HasPrefix(p.tok.text, "$") {
		return "; it looks like a variable of a dashboard which was not replaced"
	}
	if p.tok.kind != tokPunct && (p.tok.kind != tokIdent || p.tok.escaped) {
		return ""
	}
	if text := hintForWord(strings.ToLower(p.tok.text)); text != "" {
		return "; " + text
	}
	text := ""
	switch {
	case want == wantOperator || want == wantComma:
		text = hintBehind(p.tok.text)
	case want == wantFilter && p.isKeyword("and"):
		text = "filters are joined by commas"
	case want == wantExpr && p.tok.pos > 0:
		text = hintForPair(p.src[p.tok.pos-1 : p.tok.end])
	}
	if text == "" {
		return ""
	}
	return "; " + text
}

// hintBehind is about what stands behind an expression.
func hintBehind(token string) string {
	switch token {
	case "=":
		return "equality is =="
	case "[":
		return "a query has one window, a subquery a colon: q[1h:5m]"
	case "{":
		return "filters in braces stand directly behind a metric name, once"
	case ")", "]", "}":
		return "there is nothing for it to close"
	}
	return ""
}

// hintForPair is about operators of other languages.
func hintForPair(pair string) string {
	switch pair {
	case "<>":
		return "not equal is !="
	case "**":
		return "powers are ^"
	}
	return ""
}

func hintForWord(word string) string {
	switch word {
	case "by", "without":
		return fmt.Sprintf("%s stands once, next to the parentheses of an aggregate: sum(q) %[1]s (label)", word)
	case "group":
		return "groups are made by by: sum(q) by (label)"
	case "limit":
		return "limit stands last behind an aggregate: sum(q) by (label) limit 5"
	case "bool":
		return "bool stands behind a comparison: a > bool b"
	case "on", "ignoring":
		return fmt.Sprintf("%s stands behind an operator: a + %[1]s (label) b", word)
	case "group_left", "group_right":
		return fmt.Sprintf("%s stands behind on or ignoring: a + on (label) %[1]s () b", word)
	case "fill", "fill_left", "fill_right":
		return fmt.Sprintf("%s stands behind an operator: a + %[1]s(0) b", word)
	case "offset":
		return "offset stands behind an expression and its window: m[5m] offset 1h"
	case "keep_metric_names":
		return "keep_metric_names stands behind a call of a function that is not an aggregate, or behind an operation"
	}
	return ""
}

// lookalike says what a character that is none of the language is to be written as.
func lookalike(r rune) string {
	switch r {
	case '\u201c', '\u201d', '\u201e', '\u2018', '\u2019', '\u00ab', '\u00bb':
		return `; strings stand in ", ' or backticks`
	case '\u2212', '\u2013', '\u2014':
		return "; minus is -"
	case '\u00d7':
		return "; multiplication is *"
	case '\u00f7':
		return "; division is /"
	case '\u2260', '!':
		return "; not equal is !=, and series without a partner are found by unless"
	case '\u2264', '\u2265':
		return "; comparisons are <= and >="
	case '&':
		return "; write and"
	case '|':
		return "; write or"
	case '~':
		return "; regular expressions are matched by =~ and !~, in braces"
	case '\u00a0', '\u200b', '\ufeff':
		return "; it looks like a blank, but is none"
	case ';':
		return "; a query is one expression"
	}
	return ""
}

func (p *parser) unknownFunction(t token) error {
	want := "a function of MetricsQL or the name of a template"
	if hint := hintForWord(strings.ToLower(t.text)); hint != "" {
		return p.errorAt(t.pos, "unsupported function %q; want %s; %s", t.text, want, hint)
	}
	if name := p.suggestion(t.text); name != "" {
		want += fmt.Sprintf(", such as %q", name)
	}
	return p.errorAt(t.pos, "unsupported function %q; want %s", t.text, want)
}

// suggestion names what a misspelled function may mean: something known one letter away, with the usual ending or without.
func (p *parser) suggestion(name string) string {
	const longest = 40
	name = strings.ToLower(name)
	if len(name) > longest {
		return ""
	}
	trimmed, _ := strings.CutSuffix(name, "_over_time")
	for _, candidate := range []string{trimmed, name + "_over_time", foreignFunction(name)} {
		if p.isCallable(candidate) {
			return candidate
		}
	}
	found := ""
	eachNeighbour(name, func(candidate string) bool {
		if p.isCallable(candidate) {
			found = candidate
		}
		return found == ""
	})
	return found
}

func (p *parser) isCallable(name string) bool {
	b := p.lookup(name)
	return b != nil && b.isFunc || name != "" && (FunctionKind(name) != KindUnknown || isBuiltinTemplate(name))
}

// foreignFunction returns what a function of another language is called here.
func foreignFunction(name string) string {
	switch name {
	case "double_exponential_smoothing":
		return "holt_winters"
	case "average", "mean":
		return "avg"
	case "log":
		return "ln"
	case "stdvar_samp", "variance":
		return "stdvar"
	case "percentile":
		return "quantile"
	}
	return ""
}

// eachNeighbour calls visit with all names which a slip of one letter may have turned into s, until it returns false: a letter was
// left out, two changed places, one was added, or one is another.
func eachNeighbour(s string, visit func(string) bool) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
	try := func(start, end int, middle string) bool { return visit(s[:start] + middle + s[end:]) }
	for i := 0; i <= len(s); i++ {
		for k := range letters {
			if !try(i, i, letters[k:k+1]) {
				return
			}
		}
	}
	for i := range len(s) {
		if i+1 < len(s) && !try(i, i+2, s[i+1:i+2]+s[i:i+1]) || !try(i, i+1, "") {
			return
		}
	}
	for i := range len(s) {
		for k := range letters {
			if !try(i, i+1, letters[k:k+1]) {
				return
			}
		}
	}
}
