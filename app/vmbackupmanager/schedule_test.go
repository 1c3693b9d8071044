package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/backup"
)

func TestNames(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	p := policy{zone: paris}
	at := time.Date(2026, 12, 31, 23, 30, 0, 0, time.UTC) // next year in Paris, in the last week of the ISO year
	for kind, want := range map[string]string{hourly: "hourly/2026-12-31:23", daily: "daily/2027-01-01", weekly: "weekly/2026-53", monthly: "monthly/2027-01", latest: "latest"} {
		name := p.name(kind, at)
		if got, ok := kindOf(name); name != want || got != kind || !ok {
			t.Errorf("got %s of kind %s, %v; want %s", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "latest/", "latest/x", "daily", "daily/", "daily/2026-13-01", "daily/2026-1-01", "daily/2026-01-01/x", "hourly/2026-01-01", "hourly/2026-01-01:24",
		"weekly/2026-00", "weekly/2026-54", "weekly/2026-5", "weekly/2026-05x", "weekly/+026-05", "monthly/2026", "yearly/2026", "Daily/2026-01-01"} {
		if kind, ok := kindOf(name); ok {
			t.Errorf("%q is of kind %q", name, kind)
		}
	}
}

// TestSlots: runs are due once an hour, a day or an interval, whatever the zone does.
func TestSlots(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy policy
		zone   string
		from   string
		hours  int
		want   int // slots
	}{
		{"hours", policy{}, "Europe/Paris", "2026-10-24T22:00:00Z", 48, 48},
		{"days", policy{byDay: true}, "Europe/Paris", "2026-10-24T22:00:00Z", 49, 2},   // the first has 25 hours
		{"spring", policy{byDay: true}, "Europe/Paris", "2026-03-28T23:00:00Z", 47, 2}, // the first has 23
		{"no midnight", policy{byDay: true}, "America/Sao_Paulo", "2017-10-14T03:00:00Z", 47, 2},
		{"skipped day", policy{byDay: true}, "Pacific/Apia", "2011-12-29T10:00:00Z", 48, 2},
		{"interval", policy{interval: 8 * time.Hour}, "Asia/Tokyo", "2026-10-24T00:00:00Z", 48, 6},
		{"before 1970", policy{interval: 8 * time.Hour}, "UTC", "1969-12-31T16:00:00Z", 16, 2},
	} {
		zone, err := time.LoadLocation(tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		from, err := time.Parse(time.RFC3339, tc.from)
		if err != nil {
			t.Fatal(err)
		}
		tc.policy.zone = zone
		var slots []string
		for minute := range tc.hours * 60 {
			if s := tc.policy.slot(from.Add(time.Duration(minute) * time.Minute)); len(slots) == 0 || slots[len(slots)-1] != s {
				slots = append(slots, s)
			}
		}
		if len(slots) != tc.want {
			t.Errorf("%s: %d slots, want %d: %q", tc.name, len(slots), tc.want, slots)
		}
	}
}

// TestPlan: a copy that was not made is made up for from latest, which is not sent again for it.
func TestPlan(t *testing.T) {
	p := policy{makes: []string{hourly, daily}, keep: map[string]int{}, zone: time.UTC, scheduled: true}
	at := time.Date(2026, 11, 1, 12, 5, 0, 0, time.UTC)
	c := catalog{latest: {Name: latest, Complete: true, CreatedAt: at}, "daily/2026-11-01": {Complete: true}, "hourly/2026-11-01:12": {}}
	p.interval = 8 * time.Hour
	d := p.plan(at.Add(2*time.Hour), c, false)
	if d.send || !d.at.Equal(at) || !slices.Equal(d.copies, []string{"hourly/2026-11-01:12"}) {
		t.Errorf("got %+v", d)
	}
	p.interval = 0
	later := at.Add(time.Hour)
	if d := p.plan(later, c, false); !d.send || !d.at.Equal(later) || !slices.Equal(d.copies, []string{"hourly/2026-11-01:13"}) {
		t.Errorf("got %+v", d)
	}
	if d := p.plan(at.Add(-time.Hour), c, false); !d.send {
		t.Error("a clock that was in the future stops the schedule")
	}
	p.scheduled = false
	if d := p.plan(later, catalog{}, false); d.send || len(d.copies) > 0 {
		t.Errorf("got %+v", d)
	}
	if d := p.plan(later, catalog{}, true); !d.send || len(d.copies) != 2 {
		t.Errorf("got %+v", d)
	}
}

func TestPause(t *testing.T) {
	if pause(0) != 0 || pause(1) != firstPause || pause(2) != 2*firstPause || pause(1000) != maxPause {
		t.Errorf("got %s, %s, %s, %s", pause(0), pause(1), pause(2), pause(1000))
	}
}

func FuzzNameOf(f *testing.F) {
	for _, key := range []string{"latest/data/x", "weekly/2026-48/backup_complete.ignore", "hourly/2026-11-01:12/data/y", "daily/../x", "verified.ignore"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		name, rest, ok := nameOf(key)
		if !ok {
			return
		}
		if kind, known := kindOf(name); !known || name+"/"+rest != key || strings.Contains(name, "..") || kind != strings.Split(name, "/")[0] {
			t.Errorf("%q is %q of kind %q, %q", key, name, kind, rest)
		}
	})
}

func FuzzParseMark(f *testing.F) {
	f.Add([]byte(`{"version":1,"backup":"daily/2026-11-01"}`))
	f.Add([]byte(`{"version":1,"backup":"s3://bucket/x"}`))
	f.Add([]byte(`{"version":2,"backup":"latest"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMark(data)
		if err != nil {
			return
		}
		if _, ok := kindOf(m.Backup); !ok && !strings.Contains(m.Backup, "://") || m.Version != markVersion {
			t.Errorf("got %+v", m)
		}
	})
}

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 466996: "456.1ki", 5 << 30: "5.0Gi", 1 << 62: "4096.0Pi"} {
		if got := rowOf(&backup.Found{SizeBytes: n}).Size; got != want {
			t.Errorf("%d is %q; want %q", n, got, want)
		}
	}
}
