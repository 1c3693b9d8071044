package relabel

import (
	"regexp"
	"strings"
)

// template is a text with $1, ${1} and ${name} for groups of a regular expression, and {{label}} for values of labels. A value is put
// in as it is, whatever dollars it has.
type template struct {
	literal string // the text, when that is all there is
	parts   []part // else
	groups  bool   // a part has groups
}

// part is one piece of a template: a label, or a text.
type part struct {
	label  string
	text   string
	groups bool // the text may have groups in it
}

// parseTemplate never fails: braces and dollars which mean nothing stand for themselves. Labels are recognised when withLabels is set.
func parseTemplate(text string, withLabels bool) template {
	var t template
	rest := text
	for withLabels {
		before, after, ok := strings.Cut(rest, "{{")
		label, behind, closed := strings.Cut(after, "}}")
		if !ok || !closed {
			break
		}
		if label == "" {
			before += "{{}}"
		}
		t.addText(before)
		if label != "" {
			t.parts = append(t.parts, part{label: label})
		}
		rest = behind
	}
	t.addText(rest)
	if len(t.parts) == 0 || len(t.parts) == 1 && t.parts[0].label == "" && !t.parts[0].groups {
		return template{literal: text}
	}
	return t
}

func (t *template) addText(text string) {
	if text == "" {
		return
	}
	groups := strings.Contains(text, "$")
	t.groups = t.groups || groups
	t.parts = append(t.parts, part{text: text, groups: groups})
}

// isLiteral reports whether the text is the same for all series.
func (t *template) isLiteral() bool { return len(t.parts) == 0 }

// appendTo appends the text for a match of an expression in value. Re may be nil when the text has no groups.
func (t *template) appendTo(dst []byte, s *state, re *regexp.Regexp, value string, groups []int) []byte {
	if t.isLiteral() {
		return append(dst, t.literal...)
	}
	for i := range t.parts {
		switch p := &t.parts[i]; {
		case p.label != "":
			dst = append(dst, s.get(p.label)...)
		case p.groups:
			dst = re.ExpandString(dst, p.text, value, groups)
		default:
			dst = append(dst, p.text...)
		}
	}
	return dst
}

// expand returns the text for a match, without a copy when it is a literal or the whole value.
func (t *template) expand(s *state, re *regexp.Regexp, value string, groups []int) string {
	if t.isLiteral() {
		return t.literal
	}
	if len(t.parts) == 1 && t.parts[0].text == "$1" && len(groups) == 4 && groups[2] >= 0 {
		return value[groups[2]:groups[3]]
	}
	s.buf = t.appendTo(s.buf[:0], s, re, value, groups)
	return string(s.buf)
}
