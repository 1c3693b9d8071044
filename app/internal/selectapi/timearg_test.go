package selectapi

import (
	"testing"
	"time"

	"vmcluster/lib/errkind"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 30, 0, 500e6, time.UTC)
	for in, want := range map[string]string{
		"1717201800":                          "2024-06-01T00:30:00Z",
		"1717201800.5":                        "2024-06-01T00:30:00.5Z",
		"1.7172018e9":                         "2024-06-01T00:30:00Z",
		"1717201800000":                       "2024-06-01T00:30:00Z",
		"1717201800000000":                    "2024-06-01T00:30:00Z",
		"1717201800000000000":                 "2024-06-01T00:30:00Z",
		"2024-06-01T00:30:00Z":                "2024-06-01T00:30:00Z",
		"2024-06-01T02:30:00+02:00":           "2024-06-01T00:30:00Z",
		"2024-06-01T00:30:00":                 "2024-06-01T00:30:00Z",
		"2024-06-01T00:30":                    "2024-06-01T00:30:00Z",
		"2024-06-01T00:30Z":                   "2024-06-01T00:30:00Z",
		"2024-06-01T00":                       "2024-06-01T00:00:00Z",
		"2024-06-01":                          "2024-06-01T00:00:00Z",
		"2024-06-01Z":                         "2024-06-01T00:00:00Z",
		"2024-06":                             "2024-06-01T00:00:00Z",
		"2024":                                "2024-01-01T00:00:00Z",
		"2024Z":                               "2024-01-01T00:00:00Z",
		"2024-06-01T00:30:00.123Z":            "2024-06-01T00:30:00.123Z",
		"now":                                 "2026-11-22T08:30:00.5Z",
		"-1h5m":                               "2026-11-22T07:25:00.5Z",
		"now-1h5m":                            "2026-11-22T07:25:00.5Z",
		"1h5m":                                "2026-11-22T07:25:00.5Z",
		"now+1h":                              "2026-11-22T09:30:00.5Z",
		"now-1d":                              "2026-11-21T08:30:00.5Z",
		"0":                                   "1970-01-01T00:00:00Z",
		"-5":                                  "1970-01-01T00:00:00Z",
		"-292273086-05-16T16:47:06Z":          "1970-01-01T00:00:00Z",
		"292277025-08-18T07:12:54.999999999Z": "2262-04-11T23:47:16.854Z",
		"9223372036854775807":                 "2262-04-11T23:47:16.854Z",
	} {
		got, err := parseTime(in, now)
		if s := time.UnixMilli(got).UTC().Format(time.RFC3339Nano); err != nil || s != want {
			t.Errorf("parseTime(%q) = %s, %v; want %s", in, s, err, want)
		}
	}
	for _, in := range []string{"foo", "Inf", "1e40", "2024-13-01", "NaN", "1x", "now-", "2024-06-01T25", "--1h", "5m5"} {
		if got, err := parseTime(in, now); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("parseTime(%q) = %d, %v; want a bad request", in, got, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]float64{
		"5": 5000, "1.5": 1500, "5e1": 50e3, "10ms": 10, "1h30m": 5400e3, "1d": 86400e3, "1w": 7 * 86400e3, "1y": 365 * 86400e3, "-5m": -300e3, "1.5h": 5400e3, "1i": 0,
	} {
		if got, err := parseDuration(in); err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "5x", "m", "--5", "1h30", "Inf", "NaN", "+-5"} {
		if got, err := parseDuration(in); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("parseDuration(%q) = %v, %v; want a bad request", in, got, err)
		}
	}
}
