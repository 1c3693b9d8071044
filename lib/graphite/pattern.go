package graphite

import (
	"regexp"
	"strings"

	"vmcluster/lib/errkind"
)

// Pattern is a path expression: components joined by a delimiter. In a component * stands for any text, ? for any
// character, [ab-d] for one of some characters, [!ab] for any but some, and {x,y} for one of several texts; a backslash takes the meaning from
// the character after it.
type Pattern struct {
	// Components are regular expressions of the components; none of them matches the delimiter.
	Components []string
	// Literals are the components which are no patterns, as text; wildcards have none.
	Literals  []string
	wild      []bool
	anyText   []bool // the component is *
	delimiter byte
}

// ParsePattern splits a path expression.
func ParsePattern(text string, delimiter byte) (*Pattern, error) {
	p := &Pattern{delimiter: delimiter}
	for rest := text; ; {
		n := componentEnd(rest, delimiter)
		if err := p.add(rest[:n]); err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot parse path %q: %w", text, err)
		}
		if n == len(rest) {
			return p, nil
		}
		rest = rest[n+1:]
	}
}

// componentEnd returns where the first component of text ends. Delimiters inside braces do not end it.
func componentEnd(text string, delimiter byte) int {
	braces := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '{':
			braces++
		case c == '}':
			braces--
		case c == delimiter && braces <= 0:
			return i
		}
	}
	return len(text)
}

func (p *Pattern) add(text string) error {
	t := translator{text: text, other: "[^" + regexp.QuoteMeta(string(p.delimiter)) + "]"}
	if p.delimiter == '^' || p.delimiter == '-' || p.delimiter == '\\' || p.delimiter == ']' {
		t.other = `[^\` + string(p.delimiter) + "]"
	}
	if err := t.translate(); err != nil {
		return err
	}
	p.Components = append(p.Components, t.re.String())
	p.Literals = append(p.Literals, t.literal.String())
	p.wild = append(p.wild, t.wild)
	p.anyText = append(p.anyText, text == "*")
	return nil
}

// translator turns a component into a regular expression.
type translator struct {
	text    string
	other   string // matches a character that is not the delimiter
	re      strings.Builder
	literal strings.Builder
	wild    bool
	braces  int
}

func (t *translator) translate() error {
	for i := 0; i < len(t.text); i++ {
		c := t.text[i]
		switch {
		case c == '\\' && i+1 < len(t.text):
			i++
			t.char(t.text[i])
		case c == '[':
			end := strings.IndexByte(t.text[i+1:], ']')
			if end <= 0 {
				return errkind.New(errkind.BadRequest, "component %q has a [ without a list and a ]", t.text)
			}
			t.class(t.text[i+1 : i+1+end])
			i += 1 + end
		default:
			t.meta(c)
		}
	}
	if t.braces != 0 {
		return errkind.New(errkind.BadRequest, "component %q has not as many } as {", t.text)
	}
	if _, err := regexp.Compile(t.re.String()); err != nil {
		return errkind.New(errkind.BadRequest, "component %q: %w", t.text, err)
	}
	return nil
}

// meta translates a character which may mean something.
func (t *translator) meta(c byte) {
	switch {
	case c == '*':
		t.wildcard(t.other + "*")
	case c == '?':
		t.wildcard(t.other)
	case c == '{':
		t.braces++
		t.wildcard("(?:")
	case c == '}' && t.braces > 0:
		t.braces--
		t.wildcard(")")
	case c == ',' && t.braces > 0:
		t.wildcard("|")
	default:
		t.char(c)
	}
}

func (t *translator) wildcard(re string) {
	t.wild = true
	t.re.WriteString(re)
}

func (t *translator) char(c byte) {
	if c < 0x80 {
		t.re.WriteString(regexp.QuoteMeta(string(rune(c))))
	} else {
		t.re.WriteByte(c)
	}
	t.literal.WriteByte(c)
}

// class translates what stands in brackets.
func (t *translator) class(set string) {
	negated := strings.HasPrefix(set, "!") || strings.HasPrefix(set, "^")
	if negated {
		set = set[1:]
	}
	var b strings.Builder
	for i := range len(set) {
		if strings.IndexByte(`\[]^`, set[i]) >= 0 || set[i] == '-' && (i == 0 || i == len(set)-1) {
			b.WriteByte('\\')
		}
		b.WriteByte(set[i])
	}
	if negated {
		// The delimiter is no member either.
		t.wildcard("[^" + b.String() + strings.TrimSuffix(strings.TrimPrefix(t.other, "[^"), "]") + "]")
		return
	}
	t.wildcard("[" + b.String() + "]")
}

// IsLiteral reports whether the pattern matches one path only, and which.
func (p *Pattern) IsLiteral() (string, bool) {
	for _, wild := range p.wild {
		if wild {
			return "", false
		}
	}
	return strings.Join(p.Literals, string(p.delimiter)), true
}

// Regexp returns a regular expression that matches the whole of the paths which match.
func (p *Pattern) Regexp() string {
	return strings.Join(p.Components, regexp.QuoteMeta(string(p.delimiter)))
}

// Below returns a regular expression that matches the whole of the paths which match, and of all paths below them.
func (p *Pattern) Below() string {
	d := regexp.QuoteMeta(string(p.delimiter))
	last := len(p.Components) - 1
	if p.anyText[last] {
		return strings.Join(append(p.Components[:last:last], "(?s:.*)"), d)
	}
	return p.Regexp() + "(?:" + d + "(?s:.*))?"
}
