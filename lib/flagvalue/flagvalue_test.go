package flagvalue

import (
	"slices"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "123": 123, "1KB": 1000, "1KiB": 1024, "1.5MiB": 3 << 19, "2GB": 2e9, "1TiB": 1 << 40, "100MB": 1e8,
	} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "1XB", "KB", "NaN", "1e30"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("ParseBytes(%q) = %d; want an error", in, got)
		}
	}
}

func TestRetention(t *testing.T) {
	dayMs := int64(24 * 3600 * 1000)
	for in, want := range map[string]int64{
		"1": 31 * dayMs, "3": 93 * dayMs, "1d": dayMs, "100y": 36500 * dayMs, "2w": 14 * dayMs, "1M": 31 * dayMs, "1.5d": dayMs * 3 / 2, "30m": 1800_000,
	} {
		var r Retention
		if err := r.Set(in); err != nil || r.Millis != want || r.String() != in {
			t.Errorf("Set(%q) = %d %q, %v; want %d", in, r.Millis, r.String(), err, want)
		}
	}
	for _, in := range []string{"", "d", "-1d", "1q", "NaN"} {
		if err := new(Retention).Set(in); err == nil {
			t.Errorf("Set(%q) succeeded; want an error", in)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"5m": 5 * time.Minute, "1.5": 1500 * time.Millisecond, "2d": 48 * time.Hour, "0": 0, "1h30m": 90 * time.Minute} {
		var d Duration
		if err := d.Set(in); err != nil || d.D() != want {
			t.Errorf("Set(%q) = %v, %v; want %v", in, d.D(), err, want)
		}
	}
	for _, in := range []string{"", "x", "5parsecs", "NaN"} {
		if err := new(Duration).Set(in); err == nil {
			t.Errorf("Set(%q) succeeded; want an error", in)
		}
	}
}

func TestSplitList(t *testing.T) {
	for in, want := range map[string][]string{
		"":                           {""},
		"a":                          {"a"},
		"a,b":                        {"a", "b"},
		",20s,":                      {"", "20s", ""},
		`"a,b",c`:                    {"a,b", "c"},
		`{env="a,b"}:1d,[x,y],(1,2)`: {`{env="a,b"}:1d`, "[x,y]", "(1,2)"},
		`'x,"y'`:                     {`x,"y`},
		`"q\"r"`:                     {`q"r`},
	} {
		if got, err := SplitList(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("SplitList(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`"a`, "{x", "a,[b"} {
		if got, err := SplitList(in); err == nil {
			t.Errorf("SplitList(%q) = %q; want an error", in, got)
		}
	}
}

func TestListsForAddresses(t *testing.T) {
	var b Bools
	var s Strings
	if b.At(0) || s.At(0) != "" {
		t.Error("an empty list has items")
	}
	for _, text := range []string{"true", ",1"} {
		if err := b.Set(text); err != nil {
			t.Fatal(err)
		}
		if want := b[0]; len(b) == 1 && b.At(7) != want {
			t.Error("one item is not for all")
		}
	}
	if b.String() != "true,false,true" || b.At(1) || !b.At(2) || b.At(3) {
		t.Errorf("got %s", b.String())
	}
	if err := b.Set("maybe"); err == nil {
		t.Error("maybe is taken")
	}
	if err := s.Set("a"); err != nil || s.At(5) != "a" {
		t.Errorf("got %q, %v", s.At(5), err)
	}
	if err := s.Set(",c"); err != nil || s.At(0) != "a" || s.At(1) != "" || s.At(2) != "c" || s.At(3) != "" {
		t.Errorf("got %q, %v", s, err)
	}
}
