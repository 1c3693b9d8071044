package selectapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
		"1717201800000.9":                     "2024-06-01T00:30:00Z",
		"1717201800.0009":                     "2024-06-01T00:30:00.001Z",
		"1717201800123999":                    "2024-06-01T00:30:00.123Z",
		"1717201800123900000":                 "2024-06-01T00:30:00.123Z",
		"1717201800000000":                    "2024-06-01T00:30:00Z",
		"1717201800000000000":                 "2024-06-01T00:30:00Z",
		"2024-06-01T00:30:00Z":                "2024-06-01T00:30:00Z",
		"2024-06-01T02:30:00+02:00":           "2024-06-01T00:30:00Z",
		"2024-06-01T00:30:00":                 "2024-06-01T00:30:00Z",
		"2024-06-01T00:30":                    "2024-06-01T00:30:00Z",
		"2024-06-01T00:30Z":                   "2024-06-01T00:30:00Z",
		"2024-06-01T00":                       "2024-06-01T00:00:00Z",
		"2024-06-01T00Z":                      "2024-06-01T00:00:00Z",
		"2024-06-01T00+02:00":                 "2024-05-31T22:00:00Z",
		"2024-06-01T00:30+02:00":              "2024-05-31T22:30:00Z",
		"2024-06-01+02:00":                    "2024-05-31T22:00:00Z",
		"2024-06Z":                            "2024-06-01T00:00:00Z",
		"2024-06-01T00:30:00.1239":            "2024-06-01T00:30:00.123Z",
		"2024-06-01":                          "2024-06-01T00:00:00Z",
		"2024-06-01Z":                         "2024-06-01T00:00:00Z",
		"2024-06":                             "2024-06-01T00:00:00Z",
		"2024":                                "2024-01-01T00:00:00Z",
		"2024Z":                               "2024-01-01T00:00:00Z",
		"2024-06-01T00:30:00.123Z":            "2024-06-01T00:30:00.123Z",
		"-1h5m":                               "2026-11-22T07:25:00.5Z",
		"now-1h5m":                            "2026-11-22T07:25:00.5Z",
		"1h5m":                                "2026-11-22T07:25:00.5Z",
		"+1h":                                 "2026-11-22T09:30:00.5Z",
		"now":                                 "2026-11-22T08:30:00.5Z",
		"now-256.227":                         "2026-11-22T08:25:44.273Z",
		"-256.227s":                           "2026-11-22T08:25:44.273Z",
		"now-1w1d":                            "2026-11-14T08:30:00.5Z",
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
		"256.227": 256227, "-256.227": -256227, "256.227s": 256227, "2m16.227s": 136227, "0.0006": 1, "0.0004": 0, "+5m": 300e3, "1.5ms": 2,
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

// TestStepArg holds the step argument against what the system we replace was recorded to answer, and against fractions whose product with 1000 is
// not whole.
func TestStepArg(t *testing.T) {
	request := func(step string) *http.Request {
		return &http.Request{Form: url.Values{"step": {step}}}
	}
	for in, want := range map[string]int64{
		"": 300e3, "15": 15e3, "15s": 15e3, "1m": 60e3, "1.5": 1500, "1h30m": 5400e3, "1d": 86400e3, "1w": 7 * 86400e3, "1y": 365 * 86400e3, "10ms": 10, "5e1": 50e3,
		"256.227": 256227, "0.001": 1, "100y": 100 * 365 * 86400e3,
	} {
		if got, err := stepArg(request(in)); err != nil || got != want {
			t.Errorf("step=%q is %d ms, %v; want %d", in, got, err, want)
		}
	}
	for ms := int64(1); ms < 400_000; ms += 7 {
		in := strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64)
		if got, err := stepArg(request(in)); err != nil || got != ms {
			t.Fatalf("step=%s is %d ms, %v; want %d", in, got, err, ms)
		}
	}
	for in, want := range map[string]string{
		"0": "step=0ms is out of allowed range [1ms ... 3153600000000ms]", "1i": "step=0ms is out of allowed range [1ms ... 3153600000000ms]", "0.0004": "step=0ms is out of",
		"-5": "step=-5000ms is out of allowed range [1ms ... 3153600000000ms]", "foo": `cannot parse "step"="foo": cannot parse duration "foo"`, "101y": "step=3185136000000ms is out of",
	} {
		if got, err := stepArg(request(in)); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), want) {
			t.Errorf("step=%q is %d ms, %v; want %q", in, got, err, want)
		}
	}
}

// TestDurationArg: durations beyond all times neither wrap round nor become negative.
func TestDurationArg(t *testing.T) {
	for in, want := range map[string]int64{"256.227": 256227, "1e300": maxTimeMs, "-1e300": -maxTimeMs, "90s": 90e3} {
		if got, err := durationArg(&http.Request{Form: url.Values{"d": {in}}}, "d"); err != nil || got == nil || *got != want {
			t.Errorf("%q is %v, %v; want %d", in, got, err, want)
		}
	}
}
