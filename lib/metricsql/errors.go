package metricsql

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"vmcluster/lib/errkind"
)

// excerptLen is how many bytes of the query an error shows before and behind the place of the error.
const excerptLen = 30

// errorAt returns an error of kind BadRequest with line, column and the text around pos.
func (p *parser) errorAt(pos int, format string, args ...any) error {
	pos = min(pos, len(p.src))
	before := p.src[:pos]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return errkind.New(errkind.BadRequest, "cannot parse query at line %d, column %d: %s; near %q",
		line, column, fmt.Sprintf(format, args...), p.excerpt(pos))
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
	return p.errorAt(p.tok.pos, "unexpected %q; want %s", p.src[p.tok.pos:p.tok.end], want)
}
