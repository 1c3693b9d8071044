package graphite

import (
	"math"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/errkind"
)

// ParseTime parses a time as Graphite's from and until take it: Unix seconds (or milli-, micro- or nanoseconds, told apart
// by size), YYYYMMDD, HH:MM_YYYYMMDD, RFC 3339, MM/DD/YY, a word such as now, midnight or monday, each with an optional
// time of day before it and an optional offset such as -1h after it, or an offset alone. The result is in Unix milliseconds.
func ParseTime(s string, now time.Time) (int64, error) {
	t := strings.TrimSpace(s)
	if isDate(t) {
		return dateIn(t, now)
	}
	if f, err := strconv.ParseFloat(t, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) && !strings.HasPrefix(t, "+") {
		return clamp(unixMs(f)), nil
	}
	if len(t) > 4 && t[4] == '-' && allDigits(t[:4]) {
		return rfcTime(t, now.Location())
	}
	ref, offset := t, ""
	if i := strings.IndexAny(t, "+-"); i >= 0 {
		ref, offset = t[:i], t[i:]
	}
	at, err := reference(ref, now)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "unsupported time %q: %w", s, err)
	}
	if offset == "" {
		return clamp(float64(at.UnixMilli())), nil
	}
	ms, err := ParseInterval(offset)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "unsupported time %q: %w", s, err)
	}
	return clamp(float64(at.UnixMilli()) + float64(ms)), nil
}

// clamp cuts times to what can be stored.
func clamp(ms float64) int64 { return int64(min(max(ms, 0), math.MaxInt64/1e6)) }

func unixMs(f float64) float64 {
	const maxSeconds = 1 << 32
	switch {
	case f < maxSeconds:
		return math.Round(f * 1e3)
	case f < maxSeconds*1e3:
		return f
	case f < maxSeconds*1e6:
		return f / 1e3
	}
	return f / 1e6
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isDate reports whether s is YYYYMMDD rather than a number of seconds.
func isDate(s string) bool {
	return len(s) == 8 && allDigits(s) && s[:4] > "1900" && s[4:6] >= "01" && s[4:6] <= "12" && s[6:] >= "01" && s[6:] <= "31"
}

func dateIn(s string, now time.Time) (int64, error) {
	t, err := time.ParseInLocation("20060102", s, now.Location())
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "unsupported time %q: %w", s, err)
	}
	return clamp(float64(t.UnixMilli())), nil
}

func rfcTime(s string, loc *time.Location) (int64, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02", "2006-01"} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return clamp(float64(t.UnixMilli())), nil
		}
	}
	return 0, errkind.New(errkind.BadRequest, "unsupported time %q: want the form 2006-01-02T15:04:05Z or the beginning of it", s)
}

// reference parses a time of day and a day, either of which may be missing.
func reference(ref string, now time.Time) (time.Time, error) {
	ref = strings.ToLower(strings.NewReplacer("_", "", ",", "", " ", "").Replace(ref))
	if ref == "" || ref == "now" {
		return now, nil
	}
	minutes, day := timeOfDay(ref)
	date, err := dayOf(day, now)
	if err != nil {
		return time.Time{}, err
	}
	return time.Date(date.Year(), date.Month(), date.Day(), minutes/60, minutes%60, 0, 0, now.Location()), nil
}

// timeOfDay cuts a time of day from the start of ref and returns it in minutes: HH:MM, HH:MMam, HHpm, midnight, noon or teatime.
func timeOfDay(ref string) (minutes int, rest string) {
	for word, at := range map[string]int{"midnight": 0, "noon": 12 * 60, "teatime": 16 * 60} {
		if rest, ok := strings.CutPrefix(ref, word); ok {
			return at, rest
		}
	}
	n := 0
	for n < len(ref) && n < 2 && ref[n] >= '0' && ref[n] <= '9' {
		n++
	}
	hour, err := strconv.Atoi(ref[:n])
	if err != nil || hour > 23 {
		return 0, ref
	}
	rest = ref[n:]
	minute, clock := 0, false
	if len(rest) >= 3 && rest[0] == ':' && allDigits(rest[1:3]) && rest[1] < '6' {
		minute, _ = strconv.Atoi(rest[1:3]) // two digits
		rest, clock = rest[3:], true
	}
	if after, ok := strings.CutPrefix(rest, "am"); ok && hour <= 12 {
		return hour%12*60 + minute, after
	}
	if after, ok := strings.CutPrefix(rest, "pm"); ok && hour <= 12 {
		return (hour%12+12)*60 + minute, after
	}
	if clock {
		return hour*60 + minute, rest
	}
	return 0, ref
}

// dayOf parses a day; an empty one is today.
func dayOf(s string, now time.Time) (time.Time, error) {
	switch s {
	case "", "today":
		return now, nil
	case "yesterday":
		return now.AddDate(0, 0, -1), nil
	case "tomorrow":
		return now.AddDate(0, 0, 1), nil
	}
	for _, layout := range []string{"20060102", "01/02/06", "1/2/06", "01/02/2006", "1/2/2006"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	for d := time.Sunday; d <= time.Saturday; d++ {
		if name := strings.ToLower(d.String()); s == name || s == name[:3] {
			return now.AddDate(0, 0, -(int(now.Weekday())-int(d)+7)%7), nil
		}
	}
	for m := time.January; m <= time.December; m++ {
		name := strings.ToLower(m.String())
		rest, ok := strings.CutPrefix(s, name)
		if !ok {
			rest, ok = strings.CutPrefix(s, name[:3])
		}
		if day, err := strconv.Atoi(rest); ok && err == nil && day >= 1 && day <= 31 {
			return time.Date(now.Year(), m, day, 0, 0, 0, 0, now.Location()), nil
		}
	}
	return time.Time{}, errkind.New(errkind.BadRequest, "want Unix seconds, an offset such as -1h, HH:MM_YYYYMMDD, a date, a day of the week, now, today, yesterday, tomorrow, midnight, noon or teatime")
}

// maxIntervalMs is 200 years.
const maxIntervalMs = 200 * 365 * 24 * 3600 * 1000

// ParseInterval parses an interval such as 10s, 5min, 1h30min or -1d into milliseconds. A number without unit is in seconds.
func ParseInterval(s string) (int64, error) {
	rest, sign := strings.TrimSpace(s), 1.0
	if after, ok := strings.CutPrefix(rest, "-"); ok {
		rest, sign = after, -1
	} else {
		rest = strings.TrimPrefix(rest, "+")
	}
	total := 0.0
	for first := true; first || rest != ""; first = false {
		n := 0
		for n < len(rest) && (rest[n] == '.' || rest[n] >= '0' && rest[n] <= '9') {
			n++
		}
		f, err := strconv.ParseFloat(rest[:n], 64)
		letters := n
		for letters < len(rest) && (rest[letters]|0x20 >= 'a' && rest[letters]|0x20 <= 'z') {
			letters++
		}
		unit := unitMs(strings.ToLower(rest[n:letters]))
		if err != nil || unit == 0 {
			return 0, errkind.New(errkind.BadRequest, "cannot parse interval %q: want numbers with the units s, min, h, d, w, mon or y, such as 1h30min", s)
		}
		total += f * unit
		rest = rest[letters:]
	}
	if total > maxIntervalMs {
		return 0, errkind.New(errkind.BadRequest, "cannot use interval %q: at most 200 years are allowed", s)
	}
	return int64(math.Round(sign * total)), nil
}

// unitMs returns the milliseconds of a unit, or 0.
func unitMs(unit string) float64 {
	const day = 24 * 3600e3
	switch unit {
	case "ms":
		return 1
	case "", "s", "sec", "secs", "second", "seconds":
		return 1e3
	case "m", "min", "mins", "minute", "minutes":
		return 60e3
	case "h", "hour", "hours":
		return 3600e3
	case "d", "day", "days":
		return day
	case "w", "week", "weeks":
		return 7 * day
	case "mon", "month", "months":
		return 30 * day
	case "y", "year", "years":
		return 365 * day
	}
	return 0
}
