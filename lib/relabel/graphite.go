package relabel

import (
	"regexp"
	"strings"
)

// graphiteRule takes metric names with dots apart: each * of the pattern is a group of anything without a dot.
type graphiteRule struct {
	prefix string // of all names which match
	name   *regexp.Regexp
	labels []graphiteLabel
}

// graphiteLabel is a label which a graphite rule sets.
type graphiteLabel struct {
	name  string
	parts []graphitePart
}

// graphitePart is a text, or a group when that is not negative.
type graphitePart struct {
	text  string
	group int
}

func compileGraphite(match string, labels map[string]string, order []string) graphiteRule {
	pieces := strings.Split(match, "*")
	g := graphiteRule{prefix: pieces[0]}
	for i := range pieces {
		pieces[i] = regexp.QuoteMeta(pieces[i])
	}
	g.name = regexp.MustCompile("^(?s:" + strings.Join(pieces, "([^.]*)") + ")$")
	for _, name := range order {
		g.labels = append(g.labels, graphiteLabel{name, parseGraphite(labels[name], len(pieces)-1)})
	}
	return g
}

// parseGraphite takes a text with $1 and ${1} apart. Dollars before anything else, and before numbers which are no group, stand for themselves.
func parseGraphite(text string, groups int) []graphitePart {
	var parts []graphitePart
	done, i := 0, 0
	for i < len(text) {
		group, size := graphiteGroup(text[i:])
		if size == 0 || group > groups {
			i++
			continue
		}
		parts = append(parts, graphitePart{text[done:i], -1}, graphitePart{"", group})
		i += size
		done = i
	}
	return append(parts, graphitePart{text[done:], -1})
}

// graphiteGroup returns the group which text begins with and how long its name is; the length is 0 when there is none.
func graphiteGroup(text string) (group, size int) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return 0, 0
	}
	rest, braced := strings.CutPrefix(rest, "{")
	const most = 4 // digits; there are fewer groups than that
	n := 0
	for n < len(rest) && n <= most && '0' <= rest[n] && rest[n] <= '9' {
		group = group*10 + int(rest[n]-'0')
		n++
	}
	if n == 0 || n > most || braced && !strings.HasPrefix(rest[n:], "}") {
		return 0, 0
	}
	size = len(text) - len(rest) + n
	if braced {
		size++
	}
	return group, size
}

// apply sets the labels if the name matches.
func (g *graphiteRule) apply(s *state, name string) {
	if !strings.HasPrefix(name, g.prefix) {
		return
	}
	groups := g.name.FindStringSubmatchIndex(name)
	if groups == nil {
		return
	}
	for i := range g.labels {
		l := &g.labels[i]
		s.buf = s.buf[:0]
		for _, p := range l.parts {
			if p.group < 0 {
				s.buf = append(s.buf, p.text...)
			} else {
				s.buf = append(s.buf, name[groups[2*p.group]:groups[2*p.group+1]]...)
			}
		}
		s.setBytes(l.name, s.buf)
	}
}
