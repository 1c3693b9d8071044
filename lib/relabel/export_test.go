package relabel

import (
	"regexp"
	"strings"
	"testing"

	"vmcluster/lib/model"
)

// CheckTemplate compares what a template makes of a value with what package regexp makes of it, after its labels have been put in one by one.
func CheckTemplate(t *testing.T, text, value string) {
	re := regexp.MustCompile("^(?s:(?P<w>.)(.*))$")
	groups := re.FindStringSubmatchIndex(value)
	if groups == nil {
		return
	}
	s := newState([]model.Label{{Name: "a", Value: value}, {Name: "b", Value: "$1{{a}}"}})
	var want []byte
	rest := text
	for {
		before, after, ok := strings.Cut(rest, "{{")
		label, behind, closed := strings.Cut(after, "}}")
		if !ok || !closed {
			break
		}
		if label == "" {
			before += "{{}}"
		}
		want = re.ExpandString(want, before, value, groups)
		want = append(want, s.get(label)...)
		rest = behind
	}
	want = re.ExpandString(want, rest, value, groups)
	template := parseTemplate(text, true)
	if got := template.expand(&s, re, value, groups); got != string(want) {
		t.Errorf("template %q of %q is %q; want %q", text, value, got, want)
	}
	if got := string(template.appendTo(nil, &s, re, value, groups)); got != string(want) {
		t.Errorf("template %q of %q is %q when appended; want %q", text, value, got, want)
	}
}

// ActionNames are all actions.
func ActionNames() []string { return actionNames() }
