package metricsql

import (
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	prettyWidth  = 80
	prettyIndent = "  "
	// prettyGroup is the width from which on all brackets of an operand which does not fit are broken, not only the widest.
	prettyGroup = 40
)

// Prettify returns the text of a query broken into lines: what does not fit into a line has its operands and arguments on
// lines of their own. Only blanks between words change: templates, literals, brackets and comments stay as they were written.
// Errors are those of Parse.
func Prettify(q string) (string, error) {
	p := newParser(q)
	p.marks = marks{}
	if _, err := p.parse(); err != nil {
		return "", err
	}
	s := wordScanner{src: q, lex: lexer{src: q}, marks: p.marks}
	l := layout{}
	l.render(s.list(nil), 0)
	l.comments(s.trailing, 0)
	return strings.TrimSuffix(string(l.dst), "\n"), nil
}

// role is what a token stands for, where its text alone does not say so.
type role uint8

const (
	roleNone       role = iota
	roleOperator        // a binary operator; the tokens up to the operand are its modifiers
	roleSign            // + or - before its operand
	roleLabelList       // ( before names of labels
	roleTemplates       // ( before the definitions of WITH
	roleDefinition      // = between a template and its meaning
)

type mark struct {
	role    role
	prec    int
	operand int // where the right side of an operator starts
}

// marks are kept by the place of the token in the text.
type marks map[int]mark

func (p *parser) mark(pos int, m mark) {
	if p.marks != nil {
		p.marks[pos] = m
	}
}

// word is a token, or brackets with what they hold.
type word struct {
	mark
	pos      int
	text     string
	comments []string
	adjacent bool // no blank goes before it
	ident    bool
	// Brackets hold items, which commas separate; text is the opening bracket.
	items [][]word
	close string
	comma string // between items in one line
}

// wordScanner cuts a text that is known to parse into words.
type wordScanner struct {
	src      string
	lex      lexer
	marks    marks
	last     int // where the token before ends
	trailing []string
}

// next returns the next token with the comments before it; those which stand in the line of the word before go to that.
func (s *wordScanner) next(before *word) (token, []string) {
	t := s.lex.next()
	var own []string
	for i, line := range strings.Split(s.src[s.last:t.pos], "\n") {
		_, comment, ok := strings.Cut(line, "#")
		if !ok {
			continue
		}
		comment = strings.TrimRight("#"+comment, " \t\r\v\f")
		if i == 0 && before != nil {
			before.comments = append(before.comments, comment)
		} else {
			own = append(own, comment)
		}
	}
	s.last = t.end
	return t, own
}

// list returns the words up to the end of the text or, in brackets, up to a comma or the closing bracket, which is noted there.
func (s *wordScanner) list(brackets *word) []word {
	var words []word
	before := brackets
	for {
		if n := len(words); n > 0 {
			before = &words[n-1]
		}
		t, comments := s.next(before)
		switch {
		case t.kind == tokEOF:
			s.trailing = comments
			return words
		case brackets != nil && t.kind == tokPunct && strings.Contains(",)}]", t.text):
			brackets.close = t.text
			brackets.comments = append(brackets.comments, comments...)
			return words
		}
		w := word{mark: s.marks[t.pos], pos: t.pos, text: s.src[t.pos:t.end], comments: comments, ident: t.kind == tokIdent}
		if t.kind == tokPunct && strings.Contains("({[", t.text) {
			s.brackets(&w)
		}
		w.adjacent = len(words) == 0 || adjacent(words, &w, brackets)
		words = append(words, w)
	}
}

// brackets reads the items of w.
func (s *wordScanner) brackets(w *word) {
	w.comma = ", "
	switch {
	case w.text == "[":
		s.lex.inWindow = true
		defer func() { s.lex.inWindow = false }()
	case w.text == "{", w.role == roleLabelList:
		w.comma = ","
	}
	for w.close = ","; w.close == ","; {
		if item := s.list(w); len(item) > 0 || w.close == "," {
			w.items = append(w.items, item)
		}
		if w.close == "]" {
			s.lex.inWindow = false
		}
	}
}

// adjacent reports whether no blank goes between the words so far and w.
func adjacent(words []word, w, brackets *word) bool {
	before := &words[len(words)-1]
	switch {
	case before.role == roleSign, w.text == "[":
		return true
	case brackets != nil && brackets.text == "[":
		return true
	case brackets != nil && brackets.text == "{" && (isFilterOp(before.text) || isFilterOp(w.text)):
		return true
	case w.text == "(", w.text == "{":
		return before.ident && before.role == roleNone && w.role != roleTemplates && !startsOperand(words, w.pos)
	}
	return false
}

func isFilterOp(text string) bool {
	_, ok := filterOp(token{kind: tokPunct, text: text})
	return ok
}

// startsOperand reports whether the right side of the last operator starts at pos.
func startsOperand(words []word, pos int) bool {
	for i := len(words) - 1; i >= 0; i-- {
		if words[i].role == roleOperator {
			return words[i].operand == pos
		}
	}
	return false
}

// appendFlat appends words in one line.
func appendFlat(dst []byte, words []word) []byte {
	for i := range words {
		w := &words[i]
		if i > 0 && !w.adjacent {
			dst = append(dst, ' ')
		}
		dst = append(dst, w.text...)
		if w.close == "" {
			continue
		}
		for k, item := range w.items {
			if k > 0 {
				dst = append(dst, w.comma...)
			}
			dst = appendFlat(dst, item)
		}
		dst = append(dst, w.close...)
	}
	return dst
}

// layout breaks words into lines.
type layout struct{ dst []byte }

func (l *layout) line(depth int, text []byte) {
	for range depth {
		l.dst = append(l.dst, prettyIndent...)
	}
	l.dst = append(append(l.dst, text...), '\n')
}

func (l *layout) comments(list []string, depth int) {
	for _, c := range list {
		l.line(depth, []byte(c))
	}
}

// allComments puts the comments of words and of what their brackets hold on lines of their own.
func (l *layout) allComments(words []word, depth int) {
	for i := range words {
		l.comments(words[i].comments, depth)
		for _, item := range words[i].items {
			l.allComments(item, depth)
		}
	}
}

// render appends lines for the words of one expression.
func (l *layout) render(words []word, depth int) {
	flat := appendFlat(nil, words)
	if depth*len(prettyIndent)+utf8.RuneCount(flat) <= prettyWidth {
		l.allComments(words, depth)
		if len(flat) > 0 {
			l.line(depth, flat)
		}
		return
	}
	if i := slices.IndexFunc(words, func(w word) bool { return w.role == roleDefinition }); i >= 0 && i+1 < len(words) {
		l.flat(words[:i+1], depth)
		l.render(words[i+1:], depth+1)
		return
	}
	if i := slices.IndexFunc(words, func(w word) bool { return w.role == roleTemplates }); i == 1 {
		l.operand(words[:2], depth)
		l.render(words[2:], depth)
		return
	}
	prec := loosest(words)
	if prec == 0 {
		l.operand(words, depth)
		return
	}
	l.operands(words, prec, depth)
}

func (l *layout) flat(words []word, depth int) {
	l.allComments(words, depth)
	l.line(depth, appendFlat(nil, words))
}

// loosest returns the lowest precedence of the operators; 0 if there is none.
func loosest(words []word) int {
	prec := 0
	for i := range words {
		if w := &words[i]; w.role == roleOperator && (prec == 0 || w.prec < prec) {
			prec = w.prec
		}
	}
	return prec
}

// operands gives operators of the precedence lines of their own.
func (l *layout) operands(words []word, prec, depth int) {
	start := 0
	for i := 0; i < len(words); i++ {
		if words[i].role != roleOperator || words[i].prec != prec {
			continue
		}
		end := i + 1
		for end < len(words) && words[end].pos < words[i].operand {
			end++
		}
		l.render(words[start:i], depth)
		l.flat(words[i:end], depth)
		start, i = end, end-1
	}
	l.render(words[start:], depth)
}

// operand breaks the brackets of an operand, at least the widest.
func (l *layout) operand(words []word, depth int) {
	widest := 0
	for i := range words {
		widest = max(widest, width(&words[i]))
	}
	broken := func(w *word) bool { n := width(w); return n > 0 && (n == widest || n > prettyGroup) }
	for i := range words {
		if broken(&words[i]) {
			l.comments(words[i].comments, depth)
		} else {
			l.allComments(words[i:i+1], depth)
		}
	}
	var text []byte
	for i := range words {
		w := &words[i]
		if i > 0 && !w.adjacent {
			text = append(text, ' ')
		}
		if !broken(w) {
			text = appendFlat(text, words[i:i+1])
			continue
		}
		l.line(depth, append(text, w.text...))
		l.items(w, depth+1)
		text = []byte(w.close)
	}
	l.line(depth, text)
}

// width returns how wide the brackets are in one line; 0 if there is nothing to break.
func width(w *word) int {
	if len(w.items) == 0 || w.text == "[" {
		return 0
	}
	return utf8.RuneCount(appendFlat(nil, []word{*w}))
}

// items gives each item its lines, with a comma behind all but the last.
func (l *layout) items(w *word, depth int) {
	for i, item := range w.items {
		l.render(item, depth)
		if i < len(w.items)-1 {
			l.dst = append(l.dst[:len(l.dst)-1], ",\n"...)
		}
	}
}
