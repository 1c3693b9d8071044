package query

import (
	"strings"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
)

// literalDots makes the dots in regular expressions of all filters match dots only.
func literalDots(expr metricsql.Expr) {
	metricsql.Visit(expr, func(e metricsql.Expr) bool {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return true
		}
		for _, set := range m.FilterSets {
			for i := range set {
				if set[i].Op == model.Regexp || set[i].Op == model.NotRegexp {
					set[i].Value = escapeDots(set[i].Value)
				}
			}
		}
		return false
	})
}

// escapeDots escapes the dots of a regular expression which stand for one character each. In brackets and behind a backslash they mean themselves
// already; before *, + and { people mean any characters.
func escapeDots(re string) string {
	if !strings.Contains(re, ".") {
		return re
	}
	var b strings.Builder
	class := false
	for i := 0; i < len(re); i++ {
		c := re[i]
		switch {
		case c == '\\' && strings.HasPrefix(re[i:], `\Q`) && !class:
			quoted, _, _ := strings.Cut(re[i:], `\E`)
			b.WriteString(quoted)
			i += len(quoted) - 1
			continue
		case c == '\\' && i+1 < len(re):
			b.WriteByte(c)
			i++
			c = re[i]
		case class:
			class = c != ']'
		case c == '[':
			class = true
			start := classStart(re[i:])
			b.WriteString(start)
			i += len(start) - 1
			continue
		case c == '.' && (i+1 == len(re) || !strings.ContainsRune("*+{", rune(re[i+1]))):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// classStart returns what opens a class of characters: the bracket, a ^, and a closing bracket, which is one of the characters when it comes first.
func classStart(re string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(re[1:], "^"), "]")
	return re[:len(re)-len(rest)]
}
