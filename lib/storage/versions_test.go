package storage

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/vfs/memfs"
)

// versionOf asks for the version of the samples of a tenant in the hours before now.
func versionOf(t *testing.T, s *Storage, tenant model.TenantID, hours, until int64) storageapi.Version {
	t.Helper()
	now := s.o.Now().UnixMilli()
	list, err := s.Versions(context.Background(), tenant, model.TimeRange{Min: now - hours*hourMs, Max: now - until})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	return list[0]
}

func write(t *testing.T, s *Storage, tenant model.TenantID, times ...int64) {
	t.Helper()
	var b model.Batch
	if err := b.AddSeries(tenant, []model.Label{{Name: model.MetricNameLabel, Value: "m"}}); err != nil {
		t.Fatal(err)
	}
	for _, at := range times {
		b.AddSample(at, float64(at%7))
	}
	ingest(t, s, &b)
}

func writeHistogram(t *testing.T, s *Storage, tenant model.TenantID, at int64) {
	t.Helper()
	var b model.Batch
	if err := b.AddSeries(tenant, []model.Label{{Name: model.MetricNameLabel, Value: "h"}}); err != nil {
		t.Fatal(err)
	}
	b.AddHistogram(at, histogramtest.OfBits(uint64(at)))
	ingest(t, s, &b)
}

func TestVersions(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	now := testNow().UnixMilli()
	mine, other := model.TenantID{AccountID: 1}, model.TenantID{AccountID: 2}
	write(t, s, mine, now-10*hourMs) // nobody has asked yet
	first := versionOf(t, s, mine, 24, 300_000)
	if first.Sequence != 0 || first.Changed != 0 || first.Until != now-300_000 {
		t.Errorf("before any change: %+v", first)
	}
	for _, step := range []struct {
		what          string
		do            func()
		all, recent   bool // the day, the last two hours are changed
		othersChanged bool
	}{
		{"a fresh sample", func() { write(t, s, mine, now-299_000) }, false, false, false},
		{"a sample of another tenant", func() { write(t, s, other, now-hourMs) }, false, false, true},
		{"a fresh histogram", func() { writeHistogram(t, s, mine, now-299_000) }, false, false, false},
		{"an old histogram", func() { writeHistogram(t, s, mine, now-10*hourMs+1) }, true, false, false},
		{"an old sample", func() { write(t, s, mine, now-10*hourMs+1) }, true, false, false},
		{"samples of which one is late", func() { write(t, s, mine, now-1000, now-400_000, now-2000) }, true, true, false},
		{"a deletion", func() {
			if _, err := s.DeleteSeries(context.Background(), &model.SearchQuery{Tenant: mine, Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: "m"}}}}); err != nil {
				t.Fatal(err)
			}
		}, true, true, true},
	} {
		before := versionOf(t, s, mine, 24, 300_000).Sequence
		step.do()
		for _, c := range []struct {
			tenant model.TenantID
			hours  int64
			want   bool
		}{{mine, 24, step.all}, {mine, 2, step.recent}, {other, 24, step.othersChanged}} {
			v := versionOf(t, s, c.tenant, c.hours, 300_000)
			if got := v.Changed > before; got != c.want || v.Instance != first.Instance {
				t.Errorf("%s: tenant %s, %d hours: %+v, was %d; changed %v", step.what, c.tenant, c.hours, v, before, c.want)
			}
		}
	}
	if v := versionOf(t, s, mine, 24, -hourMs); v.Until != now {
		t.Errorf("changes after now are promised: %+v", v)
	}
	before := versionOf(t, s, mine, 2, 0).Sequence
	write(t, s, mine, now-1)
	if v := versionOf(t, s, mine, 2, 0); v.Changed <= before {
		t.Errorf("a sample which is older than what was promised: %+v", v)
	}
}

func TestVersionsAfterRestart(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	before := versionOf(t, s, model.TenantID{}, 2, 0)
	closeTest(t, s)
	s = openTest(t, testConfig(), testOptions(fsys))
	defer closeTest(t, s)
	if after := versionOf(t, s, model.TenantID{}, 2, 0); after.Instance == before.Instance {
		t.Error("the instance is the same after a restart")
	}
}

// Samples which grow too old go away without anybody writing or deleting.
func TestVersionsOfAgeingSamples(t *testing.T) {
	cfg := testConfig()
	cfg.RetentionRules = []RetentionRule{{Keep: 50 * time.Hour}}
	cfg.DownsamplingRules = []DownsamplingRule{{Offset: 20 * time.Hour, Interval: time.Minute}}
	cfg.DedupMinScrape = flagvalue.Duration(time.Second)
	s := openTest(t, cfg, testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	for hours, want := range map[int64]bool{19: false, 21: true, 51: true, 101 * 24: true} {
		v := versionOf(t, s, model.TenantID{}, hours, 0)
		if got := v.Changed > v.Sequence; got != want || v.DedupIntervalMs != 1000 {
			t.Errorf("%d hours: %+v; changes all the time: %v", hours, v, want)
		}
	}
}

// Changes of very many hours are joined to a change of all.
func TestVersionsAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.RetentionPeriod = flagvalue.NewRetention("30y")
	s := openTest(t, cfg, testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	now := testNow().UnixMilli()
	before := versionOf(t, s, model.TenantID{}, 24, 0).Sequence
	v := s.versions
	w := &writer{s: s, oldest: now - 2*maxLateHours*hourMs}
	var b model.Batch
	if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "m"}}); err != nil {
		t.Fatal(err)
	}
	for i := range int64(maxLateHours + 1) {
		b.AddSample(now-(i+100)*hourMs, 1)
	}
	w.runs, w.samples = []run{{end: maxLateHours + 1}}, 1
	w.noteLate(&b)
	if len(v.mu.hours) > maxLateHours {
		t.Errorf("%d hours are told apart", len(v.mu.hours))
	}
	if after := versionOf(t, s, model.TenantID{}, 24, 0); after.Changed <= before {
		t.Errorf("not all hours count as changed: %+v", after)
	}
}

func TestHourOf(t *testing.T) {
	for at, want := range map[int64]int64{0: 0, hourMs - 1: 0, hourMs: 1, -1: -1, -hourMs: -1, -hourMs - 1: -2, math.MinInt64: math.MinInt64/hourMs - 1} {
		if got := hourOf(at); got != want {
			t.Error(fmt.Sprint(at, got, want))
		}
	}
}
