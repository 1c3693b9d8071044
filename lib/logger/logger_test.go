package logger

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/metrics"
)

func newTest(t *testing.T, c Config) (*Logger, *bytes.Buffer, *metrics.Set) {
	t.Helper()
	var b bytes.Buffer
	set := metrics.NewSet()
	l, err := New(&c, &b, set)
	if err != nil {
		t.Fatal(err)
	}
	l.now = func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC) }
	return l, &b, set
}

func TestText(t *testing.T) {
	l, b, _ := newTest(t, Config{})
	l.Warnf("cannot open %q: %s", "x", errors.New("line\nbreak"))
	got := b.String()
	if !strings.HasPrefix(got, "2026-03-04T05:06:07.008Z\twarn\tlogger/logger_test.go:") || !strings.HasSuffix(got, "\tcannot open \"x\": line\\nbreak\n") {
		t.Errorf("got %q", got)
	}
}

func TestJSONFieldsCanBeRenamed(t *testing.T) {
	l, b, _ := newTest(t, Config{Format: "json", JSONFields: "ts:timestamp,msg:message"})
	l.Infof("a %q", "b")
	var record map[string]string
	if err := json.Unmarshal(b.Bytes(), &record); err != nil {
		t.Fatal(err)
	}
	if record["timestamp"] != "2026-03-04T05:06:07.008Z" || record["message"] != `a "b"` || record["level"] != "info" || !strings.HasPrefix(record["caller"], "logger/logger_test.go:") {
		t.Errorf("got %v", record)
	}
}

func TestLimitsAndLevels(t *testing.T) {
	l, b, set := newTest(t, Config{ErrorsPerSecond: 2, MinLevel: "WARN"})
	l.Infof("not printed")
	for range 5 {
		l.Errorf("again")
	}
	if got := strings.Count(b.String(), "\n"); got != 2 {
		t.Errorf("%d lines; want 2:\n%s", got, b)
	}
	var m bytes.Buffer
	if err := set.Write(&m, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.String(), `is_printed="false"} 3`) {
		t.Errorf("suppressed records are not counted:\n%s", m.String())
	}
}

func TestLongArgumentIsCut(t *testing.T) {
	l, b, _ := newTest(t, Config{MaxArgLen: 10})
	l.Infof("x %s", strings.Repeat("a", 50)+strings.Repeat("b", 50))
	if !strings.HasSuffix(b.String(), "x aaaaa..bbbbb\n") {
		t.Errorf("got %q", b)
	}
}

func TestThrottle(t *testing.T) {
	l, b, _ := newTest(t, Config{})
	now := time.Unix(100, 0)
	l.now = func() time.Time { return now }
	th := NewThrottle(l, time.Second)
	for range 4 {
		th.Warnf("bad row")
	}
	now = now.Add(2 * time.Second)
	th.Warnf("bad row")
	if got := b.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "bad row (3 similar messages were left out before this one)") {
		t.Errorf("got %q", got)
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []Config{{Format: "xml"}, {MinLevel: "LOUD"}, {Timezone: "Mars/Base"}, {JSONFields: "nosuch:x"}} {
		if _, err := New(&c, nil, metrics.NewSet()); err == nil {
			t.Errorf("New(%+v) succeeded; want an error", c)
		}
	}
}
