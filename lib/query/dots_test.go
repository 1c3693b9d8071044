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
