package flagvalue

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes, written as a number with an optional suffix:
// KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024).
type Bytes int64

// String returns the size as a plain number of bytes.
func (b *Bytes) String() string { return strconv.FormatInt(int64(*b), 10) }

// Set parses a size.
func (b *Bytes) Set(s string) error {
	n, err := ParseBytes(s)
	if err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}

// ParseBytes parses a size as described at Bytes.
func ParseBytes(s string) (int64, error) {
	number, factor := s, 1.0
	for _, unit := range []struct {
		suffix string
		factor float64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	} {
		if rest, ok := strings.CutSuffix(s, unit.suffix); ok {
			number, factor = rest, unit.factor
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f != f || f*factor > 1<<62 || f*factor < -(1<<62) {
		return 0, fmt.Errorf("cannot parse size %q: want a number with an optional suffix KB, MB, GB, TB, KiB, MiB, GiB or TiB", s)
	}
	return int64(f * factor), nil
}

const day = 24 * time.Hour

// Retention is a duration written with the suffixes s, m, h, d, w, M (31 days) or y
// (365 days). A plain number counts months. It is kept in milliseconds, since
// a hundred years do not fit nanoseconds comfortably.
type Retention struct {
	Millis int64
	text   string
}

// NewRetention returns the retention for a text which must be valid.
func NewRetention(s string) Retention {
	var r Retention
	if err := r.Set(s); err != nil {
		panic(err)
	}
	return r
}

// String returns the text as given.
func (r *Retention) String() string { return r.text }

// Set parses a retention.
func (r *Retention) Set(s string) error {
	unit := 31 * day
	number := s
	if s != "" {
		if u, ok := retentionUnit(s[len(s)-1]); ok {
			unit, number = u, s[:len(s)-1]
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n != n || n < 0 || n > 1e6 {
		return fmt.Errorf("cannot parse duration %q: want a number of months, or a number with suffix s, m, h, d, w, M or y", s)
	}
	*r = Retention{Millis: int64(n * float64(unit.Milliseconds())), text: s}
	return nil
}

func retentionUnit(suffix byte) (time.Duration, bool) {
	switch suffix {
	case 's':
		return time.Second, true
	case 'm':
		return time.Minute, true
	case 'h':
		return time.Hour, true
	case 'd':
		return day, true
	case 'w':
		return 7 * day, true
	case 'M':
		return 31 * day, true
	case 'y':
		return 365 * day, true
	}
	return 0, false
}

// Duration is a time.Duration which also accepts the suffixes d, w and y and a
// plain number of seconds.
type Duration time.Duration

// D returns the value as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String returns the duration in Go's form.
func (d *Duration) String() string { return time.Duration(*d).String() }

// Set parses a duration.
func (d *Duration) Set(s string) error {
	if v, err := time.ParseDuration(s); err == nil {
		*d = Duration(v)
		return nil
	}
	unit, number := time.Second, s
	if s != "" {
		switch s[len(s)-1] {
		case 'd', 'w', 'y':
			unit, _ = retentionUnit(s[len(s)-1])
			number = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n != n || n*float64(unit) > 1<<62 || n*float64(unit) < -(1<<62) {
		return fmt.Errorf("cannot parse duration %q: want for example 500ms, 10s, 5m, 1h, 2d or a number of seconds", s)
	}
	*d = Duration(n * float64(unit))
	return nil
}

// Strings is a list: the flag may be repeated, and every value may hold several
// items separated by commas. Commas inside quotes, {}, [] and () do not
// separate.
type Strings []string

// String returns the items joined by commas.
func (a *Strings) String() string { return strings.Join(*a, ",") }

// Set appends the items of one flag value.
func (a *Strings) Set(s string) error {
	items, err := SplitList(s)
	if err != nil {
		return err
	}
	*a = append(*a, items...)
	return nil
}

// At returns the item for the ith of several things: a single item is for all of them, one that is missing is empty.
func (a Strings) At(i int) string {
	if len(a) == 1 {
		i = 0
	}
	if i >= len(a) {
		return ""
	}
	return a[i]
}

// Bools is a list of booleans, written like Strings. The flag without a value means true, an empty item false.
type Bools []bool

// String returns the items joined by commas.
func (a *Bools) String() string {
	items := make([]string, len(*a))
	for i, b := range *a {
		items[i] = strconv.FormatBool(b)
	}
	return strings.Join(items, ",")
}

// IsBoolFlag lets the flag stand without a value.
func (a *Bools) IsBoolFlag() bool { return true }

// Set appends the items of one flag value.
func (a *Bools) Set(s string) error {
	for item := range strings.SplitSeq(s, ",") {
		b := false
		if item != "" {
			var err error
			if b, err = strconv.ParseBool(item); err != nil {
				return fmt.Errorf("cannot parse boolean %q: want true or false", item)
			}
		}
		*a = append(*a, b)
	}
	return nil
}

// At returns the item for the ith of several things: a single item is for all of them, one that is missing is false.
func (a Bools) At(i int) bool {
	if len(a) == 1 {
		i = 0
	}
	return i < len(a) && a[i]
}

// SplitList splits a flag value at its top-level commas and removes the quotes
// of quoted items.
func SplitList(s string) ([]string, error) {
	var items []string
	var nesting []byte
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case len(nesting) > 0 && c == nesting[len(nesting)-1]:
			nesting = nesting[:len(nesting)-1]
		case len(nesting) > 0 && (nesting[len(nesting)-1] == '"' || nesting[len(nesting)-1] == '\''):
			if c == '\\' {
				i++
			}
		case c == '"' || c == '\'':
			nesting = append(nesting, c)
		case c == '{':
			nesting = append(nesting, '}')
		case c == '[':
			nesting = append(nesting, ']')
		case c == '(':
			nesting = append(nesting, ')')
		case c == ',' && len(nesting) == 0:
			items = append(items, unquote(s[start:i]))
			start = i + 1
		}
	}
	if len(nesting) > 0 {
		return nil, fmt.Errorf("cannot parse list %q: missing closing %q", s, nesting[len(nesting)-1])
	}
	return append(items, unquote(s[start:])), nil
}

func unquote(s string) string {
	if len(s) < 2 || s[0] != s[len(s)-1] || (s[0] != '"' && s[0] != '\'') {
		return s
	}
	if s[0] == '"' {
		if u, err := strconv.Unquote(s); err == nil {
			return u
		}
	}
	return s[1 : len(s)-1]
}

// IsSecret reports whether the value of the flag with the given name must not be shown.
func IsSecret(name string) bool {
	lower := strings.ToLower(name)
	for _, suffix := range []string{"password", "authkey", "secret", "token", "passphrase", "pushmetrics.url", "pushmetrics.header"} {
		if strings.HasSuffix(lower, suffix) {
			return true
		}
	}
	return false
}
