package model

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

func mustCompile(t testing.TB, f TagFilter) *Matcher {
	t.Helper()
	m, err := f.Compile()
	if err != nil {
		t.Fatalf("Compile(%s): %v", f, err)
	}
	return m
}

func TestMatcherShortcuts(t *testing.T) {
	for _, tc := range []struct {
		expr     string
		literals []string // nil: not finite
		prefix   string
		kind     matchKind
	}{
		{"foo", []string{"foo"}, "foo", matchLiterals},
		{"^foo$", []string{"foo"}, "foo", matchLiterals},
		{"^(foo|bar)$", []string{"bar", "foo"}, "", matchLiterals},
		{"^foo$|^bar$", []string{"bar", "foo"}, "", matchLiterals},
		{"", []string{""}, "", matchLiterals},
		{"foo|far|", []string{"", "far", "foo"}, "", matchLiterals},
		{"node-[0-2]x?", []string{"node-0", "node-0x", "node-1", "node-1x", "node-2", "node-2x"}, "node-", matchLiterals},
		{`\Qa.b`, []string{"a.b"}, "a.b", matchLiterals},
		{"foo.*", nil, "foo", matchAround},
		{"foo.+", nil, "foo", matchAround},
		{".*foo", nil, "", matchAround},
		{".+foo.+", nil, "", matchAround},
		{"(.*)", nil, "", matchAround},
		{".+", nil, "", matchAround},
		{"^foo.*$", nil, "foo", matchAround},
		{"foo[0-9]+", nil, "foo", matchRegexp},
		{"(foo1|foo2)x.*", nil, "foo", matchRegexp},
		{"(?i)foo", nil, "", matchRegexp},
		{"(?-s).*", nil, "", matchRegexp},
		{`\Qa.b\E+`, nil, "a.b", matchRegexp},
		{"\ufffd", nil, "", matchRegexp},
		{".*.*", nil, "", matchAround},
	} {
		m := mustCompile(t, TagFilter{Name: "l", Value: tc.expr, Op: Regexp})
		literals, ok := m.Literals()
		if m.kind != tc.kind || ok != (tc.literals != nil) || !slices.Equal(literals, tc.literals) || m.Prefix() != tc.prefix {
			t.Errorf("%q: kind %d literals %q prefix %q; want %d %q %q", tc.expr, m.kind, literals, m.Prefix(), tc.kind, tc.literals, tc.prefix)
		}
	}
}

func TestMatcherMatchesEmpty(t *testing.T) {
	for _, tc := range []struct {
		f    TagFilter
		want bool
	}{
		{TagFilter{Value: "", Op: Equal}, true},
		{TagFilter{Value: "x", Op: Equal}, false},
		{TagFilter{Value: "", Op: NotEqual}, false},
		{TagFilter{Value: "x", Op: NotEqual}, true},
		{TagFilter{Value: "x?", Op: Regexp}, true},
		{TagFilter{Value: ".*", Op: Regexp}, true},
		{TagFilter{Value: ".+", Op: Regexp}, false},
		{TagFilter{Value: ".+", Op: NotRegexp}, true},
		{TagFilter{Value: "x*", Op: NotRegexp}, false},
	} {
		if got := mustCompile(t, tc.f).MatchesEmpty(); got != tc.want {
			t.Errorf("%s: %v; want %v", tc.f, got, tc.want)
		}
	}
}

func TestMatcherErrors(t *testing.T) {
	for _, f := range []TagFilter{
		{Name: "job", Value: "a(", Op: Regexp},
		{Name: "job", Value: "a)(b", Op: NotRegexp},
		{Name: "job", Value: "(?=a)", Op: Regexp},
		{Name: "job", Value: "a", Op: 9},
	} {
		_, err := f.Compile()
		if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), f.String()) {
			t.Errorf("Compile(%s) = %v; want a bad request that names the filter", f, err)
		}
	}
}

// checkAgainstRegexp compares every shortcut with the plain automaton.
func checkAgainstRegexp(t *testing.T, expr string, values []string) {
	t.Helper()
	if _, err := regexp.Compile(expr); err != nil {
		return // brackets that close before they open would become valid inside others
	}
	plain, err := regexp.Compile("^(?s:" + expr + ")$")
	if err != nil {
		return
	}
	pos := mustCompile(t, TagFilter{Name: "l", Value: expr, Op: Regexp})
	neg := mustCompile(t, TagFilter{Name: "l", Value: expr, Op: NotRegexp})
	literals, finite := pos.Literals()
	for _, v := range append(values, "") {
		want := plain.MatchString(v)
		if pos.Match(v) != want || neg.Match(v) == want || pos.MatchPattern(v) != want {
			t.Fatalf("pattern %q, value %q: got %v; want %v", expr, v, pos.Match(v), want)
		}
		if want && !strings.HasPrefix(v, pos.Prefix()) {
			t.Fatalf("pattern %q matches %q, which has not the prefix %q", expr, v, pos.Prefix())
		}
		if finite && want != slices.Contains(literals, v) {
			t.Fatalf("pattern %q, value %q: literals %q do not tell that the match is %v", expr, v, literals, want)
		}
		if pos.MatchesAnyNonEmpty() && v != "" && !want {
			t.Fatalf("pattern %q should match all but does not match %q", expr, v)
		}
		if pos.PrefixOnly() && strings.HasPrefix(v, pos.Prefix()) && !want {
			t.Fatalf("pattern %q should match all with prefix %q but does not match %q", expr, pos.Prefix(), v)
		}
	}
}

func TestMatcherAgainstRegexp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	atoms := strings.Split(`a b ab . .* .+ .? | ( ) ^ $ [ab] [^a] a* (?:ab) (a|b) x? é \. \n (?i) (?-s) \w [a-c]{2} \xff (?m) \z \b`, " ")
	letters := []string{"a", "b", "ab", "x", "é", "A", ".", "\n", "\xff", "\xc3", "\xa9", "\ufffd"}
	pick := func(from []string, n int) string {
		var b strings.Builder
		for range rng.IntN(n + 1) {
			b.WriteString(from[rng.IntN(len(from))])
		}
		return b.String()
	}
	for range 20000 {
		expr := pick(atoms, 6)
		var values []string
		for range 8 {
			values = append(values, pick(letters, 5))
		}
		checkAgainstRegexp(t, expr, values)
	}
}

func FuzzMatcher(f *testing.F) {
	f.Add("a.*|b", "abc")
	f.Add(`(?i)x\Q.`, "X.")
	f.Add("^$", "")
	f.Fuzz(func(t *testing.T, expr, value string) {
		if len(expr) > 100 {
			return
		}
		checkAgainstRegexp(t, expr, []string{value, strings.ToUpper(value), value + "\n", expr})
		if _, err := (TagFilter{Value: expr, Op: Regexp}).Compile(); err != nil && errkind.Of(err) != errkind.BadRequest {
			t.Fatalf("error %v of kind %v", err, errkind.Of(err))
		}
	})
}
