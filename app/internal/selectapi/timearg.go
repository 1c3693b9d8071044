package selectapi

import (
	"math"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/errkind"
)

// The range of times that can be asked for, in Unix milliseconds.
const (
	minTimeMs = 0
	maxTimeMs = math.MaxInt64 / 1_000_000
)

// parseTime parses a time argument: Unix seconds with fraction, or milli-,
// micro- or nanoseconds told apart by magnitude; RFC 3339 or a prefix of it;
// now, or a duration relative to now such as -1h5m, now-1h5m or 1h5m. The
// result is in Unix milliseconds, cut to the range of times that can be stored.
func parseTime(s string, now time.Time) (int64, error) {
	if s == "now" {
		return now.UnixMilli(), nil
	}
	if isYear(s) {
		return parseDate(s)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || math.Abs(f) > math.MaxInt64 {
			return 0, errkind.New(errkind.BadRequest, "want a time, got %q", s)
		}
		return clampTime(unixToMillis(f)), nil
	}
	if looksLikeDate(s) {
		return parseDate(s)
	}
	return parseRelative(s, now)
}

// unixToMillis converts a number of seconds, milli-, micro- or nanoseconds.
func unixToMillis(f float64) float64 {
	const maxSeconds = 1 << 32 // the year 2106
	switch a := math.Abs(f); {
	case a < maxSeconds:
		return math.Round(f * 1e3)
	case a < maxSeconds*1e3:
		return f
	case a < maxSeconds*1e6:
		return f / 1e3
	}
	return f / 1e6
}

func clampTime(ms float64) int64 {
	return int64(min(max(ms, minTimeMs), maxTimeMs))
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isYear reports whether s is a year alone, which would also parse as Unix seconds.
func isYear(s string) bool { return len(s) == 4 && isDigits(s) }

// looksLikeDate reports whether s starts as a date does: year and dash, or year and Z.
func looksLikeDate(s string) bool {
	s = strings.TrimPrefix(s, "-")
	digits, rest, _ := strings.Cut(s, "-")
	return (len(digits) >= 4 && isDigits(digits) && rest != "") || (len(s) == 5 && isDigits(s[:4]) && s[4] == 'Z')
}

// parseDate parses RFC 3339 and its prefixes, in UTC unless an offset is given.
func parseDate(s string) (int64, error) {
	if year := strings.IndexByte(s[1:], '-') + 1; year > 5 || s[0] == '-' {
		// Some clients send the smallest and the largest time their language
		// knows to ask for everything.
		if s[0] == '-' {
			return minTimeMs, nil
		}
		return maxTimeMs, nil
	}
	layouts := []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02T15Z07:00", "2006-01-02T15",
		"2006-01-02Z07:00", "2006-01-02", "2006-01Z07:00", "2006-01", "2006Z07:00", "2006",
	}
	var failed error
	for _, layout := range layouts {
		t, err := time.ParseInLocation(layout, s, time.UTC)
		if err == nil {
			return clampTime(float64(t.UnixMilli())), nil
		}
		if failed == nil || strings.Contains(err.Error(), "out of range") {
			failed = err
		}
	}
	return 0, errkind.New(errkind.BadRequest, "%w", failed)
}

func parseRelative(s string, now time.Time) (int64, error) {
	text := strings.TrimPrefix(s, "now")
	d, err := parseDuration(text)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "cannot parse duration %q", s)
	}
	if d > 0 && !strings.HasPrefix(text, "+") {
		d = -d
	}
	return clampTime(float64(now.UnixMilli()) + d), nil
}

// parseDuration parses a duration argument: a number of seconds, or numbers
// with the units ms, s, m, h, d, w, y joined together, with an optional sign.
// The result is in whole milliseconds, the nearest, since 256.227*1000 is a little less than 256227. Steps ("i") count as zero, since a request
// argument has no step to refer to.
func parseDuration(s string) (float64, error) {
	bad := errkind.New(errkind.BadRequest, "cannot parse duration %q", s)
	rest, sign := s, 1.0
	if strings.HasPrefix(rest, "-") {
		rest, sign = rest[1:], -1
	} else {
		rest = strings.TrimPrefix(rest, "+")
	}
	if f, err := strconv.ParseFloat(rest, 64); err == nil {
		if math.IsNaN(f) || math.IsInf(f, 0) || strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") {
			return 0, bad
		}
		return math.Round(sign * f * 1e3), nil
	}
	if rest == "" {
		return 0, bad
	}
	total := 0.0
	for rest != "" {
		n := 0
		for n < len(rest) && (rest[n] == '.' || (rest[n] >= '0' && rest[n] <= '9')) {
			n++
		}
		f, err := strconv.ParseFloat(rest[:n], 64)
		unit, size := cutUnit(rest[n:])
		if err != nil || unit < 0 {
			return 0, bad
		}
		total += f * unit
		rest = rest[n+size:]
	}
	return math.Round(sign * total), nil
}

// cutUnit returns the milliseconds of the unit s starts with and its length; -1 when there is none.
func cutUnit(s string) (ms float64, size int) {
	if strings.HasPrefix(s, "ms") {
		return 1, 2
	}
	if s == "" {
		return -1, 0
	}
	switch s[0] {
	case 's':
		return 1e3, 1
	case 'm':
		return 60e3, 1
	case 'h':
		return 3600e3, 1
	case 'd':
		return 24 * 3600e3, 1
	case 'w':
		return 7 * 24 * 3600e3, 1
	case 'y':
		return 365 * 24 * 3600e3, 1
	case 'i':
		return 0, 1
	}
	return -1, 0
}
