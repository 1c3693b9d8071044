package query

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

func TestEscapeDots(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "abc": "abc", "a.b.c": `a\.b\.c`, "a.*b.+c.{2}d": "a.*b.+c.{2}d", `a\.b.c`: `a\.b\.c`, "[.]x.y": `[.]x\.y`, "[^].]x.y": `[^].]x\.y`, "[].]x.y": `[].]x\.y`,
		`[\].]x.`: `[\].]x\.`, "a.?": `a\.?`, "(a.b|c.d).*": `(a\.b|c\.d).*`, ".": `\.`, `a\`: `a\`, `\\.`: `\\\.`, "é.ü": `é\.ü`, "..*": `\..*`, "[^^]a.b": `[^^]a\.b`, `\Qa.b\E.c`: `\Qa.b\E\.c`, `\Qa.`: `\Qa.`,
	} {
		got := escapeDots(in)
		if got != want {
			t.Errorf("escapeDots(%q) = %q; want %q", in, got, want)
		}
		if again := escapeDots(got); again != got {
			t.Errorf("escapeDots(%q) = %q; want it unchanged", got, again)
		}
	}
}

// TestEscapeDotsNarrows: what matches with dots as they are matches without, and expressions that compile still do.
func TestEscapeDotsNarrows(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	random := func(alphabet string, most int) string {
		var b strings.Builder
		for range 1 + r.IntN(most) {
			b.WriteByte(alphabet[r.IntN(len(alphabet))])
		}
		return b.String()
	}
	compiled := 0
	for range 20_000 {
		text := random(`ab..|*+?()[]^\\`, 8)
		wide, err := regexp.Compile("^(?:" + text + ")$")
		if err != nil {
			continue
		}
		compiled++
		narrow, err := regexp.Compile("^(?:" + escapeDots(text) + ")$")
		if err != nil {
			t.Fatalf("seed %d: %q becomes %q: %s", seed, text, escapeDots(text), err)
		}
		for range 5 {
			if s := random("ab.", 4); narrow.MatchString(s) && !wide.MatchString(s) {
				t.Fatalf("seed %d: %q matches %q and %q does not", seed, escapeDots(text), s, text)
			}
		}
	}
	if compiled < 1000 {
		t.Errorf("seed %d: only %d expressions were compared", seed, compiled)
	}
}

// TestTreatDotsAsIs: the flag holds for both kinds of expressions, wherever the filter stands, and for them only.
func TestTreatDotsAsIs(t *testing.T) {
	source := newMemSource()
	for _, host := range []string{"a.b", "axb"} {
		source.add(map[string]string{"__name__": "m", "host": host}, []int64{oracleStart}, []float64{1})
	}
	for query, want := range map[string][2]float64{ // without and with the flag
		`count(m{host=~"a.b"})`: {2, 1}, `count(m{host!~"a.b"}) or vector(0)`: {0, 1}, `count(m{host="a.b"})`: {1, 1}, `count(m{host=~"a.+"})`: {2, 2},
		`sum(count_over_time(m{host=~"a.b"}[5m]) + on(host) m{host=~"a.b" or host=~"z"})`: {4, 2},
	} {
		for i, flag := range []string{"-search.treatDotsAsIsInRegexps=false", "-search.treatDotsAsIsInRegexps"} {
			res, err := testEngine(t, source, flag).Query(t.Context(), &Request{Query: query, Start: oracleStart, NoCache: true})
			if err != nil || len(res.Series) != 1 || res.Series[0].Values[0] != want[i] {
				t.Errorf("%s with %s: %+v, %v; want %v", query, flag, res, err, want[i])
			}
		}
	}
}
