package apptest

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// TestPrometheusComparison: the comparisons of TestPrometheus notice differences.
func TestPrometheusComparison(t *testing.T) {
	t.Parallel()
	raw := map[string][]promSample{"a": {{1, staleMarkerBits}, {2, 0}}}
	for what, other := range map[string]map[string][]promSample{
		"no series":     {},
		"more series":   {"a": raw["a"], "b": nil},
		"lost sample":   {"a": raw["a"][:1]},
		"doubled":       {"a": {raw["a"][0], raw["a"][1], raw["a"][1]}},
		"other NaN":     {"a": {{1, math.Float64bits(math.NaN())}, {2, 0}}},
		"negative zero": {"a": {{1, staleMarkerBits}, {2, 1 << 63}}},
		"moved":         {"a": {{1, staleMarkerBits}, {3, 0}}},
	} {
		if len(diffSamples(raw, other)) != 1 {
			t.Errorf("samples, %s: not noticed once", what)
		}
	}
	if d := diffSamples(raw, map[string][]promSample{"a": raw["a"]}); len(d) > 0 {
		t.Errorf("equal samples differ: %v", d)
	}
	const body = `{"data":{"resultType":"vector","result":[{"metric":{"__name__":"a","l":"x"},"value":[5.5,"1"]},{"metric":{"__name__":"a"},"value":[5.5,"NaN"]}]}}`
	for _, tc := range []struct {
		tag, from, to string
		same          bool
	}{
		{"", "", "", true},
		{"", `"1"`, `"1.0000000001"`, true},
		{"", `"1"`, `"1.00000001"`, false},
		{"", `"1"`, `"+Inf"`, false},
		{"", `[5.5,"1"]`, `[5.501,"1"]`, false},
		{"", `"l":"x"`, `"l":"y"`, false},
		{"", `"NaN"`, `"0"`, false},
		{"", "vector", "matrix", false},
		{"", `{"metric":{"__name__":"a","l":"x"},"value":[5.5,"1"]},`, ``, false},
		{"", `{"metric":{"__name__":"a"},"value":[5.5,"NaN"]}`, `{"metric":{},"value":[5.5,"NaN"]}`, false},
		{"nan", `,{"metric":{"__name__":"a"},"value":[5.5,"NaN"]}`, ``, true},
		{"order", `{"metric":{"__name__":"a","l":"x"},"value":[5.5,"1"]},{"metric":{"__name__":"a"},"value":[5.5,"NaN"]}`,
			`{"metric":{"__name__":"a"},"value":[5.5,"NaN"]},{"metric":{"__name__":"a","l":"x"},"value":[5.5,"1"]}`, false},
	} {
		e := &promExpression{tags: map[string]bool{tc.tag: true}, tagSeen: map[string]bool{}}
		theirs, err := parsePromAnswer(t, answer{body: body})
		if err != nil {
			t.Fatal(err)
		}
		ours, err := parsePromAnswer(t, answer{body: strings.Replace(body, tc.from, tc.to, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.compare(theirs, ours); (err == nil) != tc.same {
			t.Errorf("tag %q, %s instead of %s: %v", tc.tag, tc.to, tc.from, err)
		}
	}
}

// TestPrometheusExpressions: the table can be read, and no expression comes twice.
func TestPrometheusExpressions(t *testing.T) {
	t.Parallel()
	list, err := parseExpressions(filepath.Join("testdata", "prometheus", "expressions.txt"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, e := range list {
		key := e.text + strings.Join(questionTags(e.tags), " ")
		if other := seen[key]; other > 0 {
			t.Errorf("expressions.txt:%d: %s is in line %d already", e.line, e.text, other)
		}
		seen[key] = e.line
	}
}

// questionTags returns the tags which make a question a different one.
func questionTags(tags map[string]bool) []string {
	var list []string
	for _, tag := range []string{"instant", "range"} {
		if tags[tag] {
			list = append(list, tag)
		}
	}
	return list
}
