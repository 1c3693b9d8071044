package protoparser

import (
	"strings"

	"vmcluster/lib/model"
)

// promNames makes the names of metric and labels what Prometheus allows.
func promNames(labels []model.Label) {
	for i := range labels {
		if l := &labels[i]; l.Name == model.MetricNameLabel {
			l.Value = promName(l.Value, true)
		} else {
			l.Name = promName(l.Name, false)
		}
	}
}

// promName puts an underscore in place of each character which Prometheus does not allow in names of metrics, or in those of labels, which
// have no colon, and before a digit at the start.
func promName(s string, metric bool) string {
	bad := func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || metric && c == ':'
		return !letter && !('0' <= c && c <= '9')
	}
	if strings.IndexFunc(s, bad) >= 0 {
		s = strings.Map(func(c rune) rune {
			if bad(c) {
				return '_'
			}
			return c
		}, s)
	}
	if s != "" && '0' <= s[0] && s[0] <= '9' {
		s = "_" + s
	}
	return s
}
