package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs/memfs"
)

// clock is a clock for tests.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// contents reads what a search for an aspect gives of every series, by key and content.
func contents(t *testing.T, s *Storage, tenant model.TenantID, a model.Aspect) map[string]map[tsblock.Content]*tsblock.Samples {
	t.Helper()
	it, err := s.Search(context.Background(), &model.SearchQuery{Tenant: tenant, Range: allTime(), Aspect: a})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[tsblock.Content]*tsblock.Samples{}
	for it.Next() {
		byContent := map[tsblock.Content]*tsblock.Samples{}
		for c := tsblock.Raw; c <= tsblock.Count; c++ {
			var blocks []tsblock.Block
			for _, b := range it.At().Blocks {
				if b.Content() == c {
					blocks = append(blocks, b)
				}
			}
			if len(blocks) == 0 {
				continue
			}
			byContent[c] = &tsblock.Samples{}
			if err := tsblock.ReadRange(byContent[c], blocks, allTime(), 0, &tsblock.Scratch{}); err != nil {
				t.Fatal(err)
			}
		}
		out[string(it.At().Key)] = byContent
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func keyOf(t *testing.T, tenant model.TenantID, name, env string) string {
	t.Helper()
	key, err := model.AppendSeriesKey(nil, tenant, []model.Label{{Name: model.MetricNameLabel, Value: name}, {Name: "env", Value: env}})
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

func filter(name, value string) [][]model.TagFilter {
	return [][]model.TagFilter{{{Name: name, Value: value, Op: model.Equal}}}
}

// TestDownsampling sends four days of samples and looks at what is left of them after two, day by day.
func TestDownsampling(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := &clock{now: testNow()}
	cfg := testConfig()
	cfg.DownsamplingRules = []DownsamplingRule{
		{Offset: 24 * time.Hour, Interval: 5 * time.Minute}, {Offset: 48 * time.Hour, Interval: time.Hour},
		{SeriesRule: SeriesRule{Text: `{env="test"}`, Filters: filter("env", "test")}, Offset: 24 * time.Hour, Interval: 30 * time.Minute},
		{SeriesRule: SeriesRule{Text: `{vm_account_id="7"}`, Filters: filter(accountLabel, "7")}, Offset: 300 * 24 * time.Hour, Interval: 30 * time.Minute},
	}
	o := testOptions(memfs.New(memfs.Options{}))
	o.Now = c.Now
	s := openTest(t, cfg, o)
	defer func() { closeTest(t, s) }()
	seven := model.TenantID{AccountID: 7}
	start := testNow().UnixMilli()
	all := map[string]*tsblock.Samples{}
	for at := start; at < start+4*dayMs; at += 60_000 {
		c.set(time.UnixMilli(at))
		b := &model.Batch{}
		for _, x := range []struct {
			tenant    model.TenantID
			name, env string
		}{{model.TenantID{}, "requests", "prod"}, {model.TenantID{}, "requests", "test"}, {seven, "requests", "prod"}} {
			key := keyOf(t, x.tenant, x.name, x.env)
			if all[key] == nil {
				all[key] = &tsblock.Samples{}
			}
			v := 0.0
			if n := all[key].Len(); n > 0 && rng.IntN(300) > 0 {
				v = all[key].Values[n-1] + float64(rng.IntN(10))
			}
			all[key].Append(at, v)
			b.AddKey([]byte(key), model.HashSeriesKey([]byte(key)))
			b.AddSample(at, v)
		}
		ingest(t, s, b)
		if rng.IntN(500) == 0 {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.set(time.UnixMilli(start + 4*dayMs))
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	forced := rng.IntN(2) == 0
	if forced {
		if err := s.Merge(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range s.table.Load().sorted {
		s.mergeWhileDue(p)
	}
	for _, x := range []struct {
		tenant    model.TenantID
		env       string
		intervals map[int64]time.Duration // by age in days
	}{
		{model.TenantID{}, "prod", map[int64]time.Duration{0: 0, 1: 5 * time.Minute, 2: time.Hour, 3: time.Hour}},
		{model.TenantID{}, "test", map[int64]time.Duration{0: 0, 1: 30 * time.Minute, 2: 30 * time.Minute, 3: 30 * time.Minute}},
		{seven, "prod", map[int64]time.Duration{}},
	} {
		key := keyOf(t, x.tenant, "requests", x.env)
		if !forced {
			delete(x.intervals, 1) // rewriting waits until it is worthwhile
		}
		wantAspects(t, s, key, x.tenant, all[key], x.intervals, start+4*dayMs)
	}
}

// wantAspects compares sums, counts and extremes of days, and how many samples are left of them.
func wantAspects(t *testing.T, s *Storage, key string, tenant model.TenantID, all *tsblock.Samples, intervals map[int64]time.Duration, now int64) {
	t.Helper()
	for aspect := model.AspectSamples; aspect <= model.AspectMean; aspect++ {
		got := contents(t, s, tenant, aspect)[key]
		for age := range int64(4) {
			if _, ok := intervals[age]; !ok && len(intervals) > 0 {
				continue
			}
			// An hour at each end belongs to a neighbour or not, as intervals have it.
			from, to := now-(age+1)*dayMs+3600_000, now-age*dayMs-3600_000
			from, to = from-from%3600_000, to-to%3600_000
			raw := newDay(all, from, to)
			switch interval := intervals[age]; {
			case interval == 0:
				if d := newDay(got[tsblock.Raw], from, to); d != raw {
					t.Errorf("%s %q, age %d, aspect %d: raw samples %+v; want %+v", tenant, key, age, aspect, d, raw)
				}
				continue
			case newDay(got[tsblock.Raw], from, to).count > 0:
				t.Errorf("%q, age %d, aspect %d: raw samples are left", key, age, aspect)
			case aspect == model.AspectSamples:
				d := newDay(got[tsblock.Kept], from, to)
				n := float64(22 * time.Hour / interval)
				if d.count < 2*n-2 || d.count > 2*n+40 || d.last != raw.last || math.Abs(d.increase-raw.increase) > 0 {
					t.Errorf("%q, age %d: kept %+v of %+v; want about %v samples", key, age, d, raw, 2*n)
				}
			}
			compareAspect(t, got, aspect, from, to, raw)
		}
	}
}

func compareAspect(t *testing.T, got map[tsblock.Content]*tsblock.Samples, aspect model.Aspect, from, to int64, raw day) {
	t.Helper()
	sum, count := newDay(got[tsblock.Sum], from, to), newDay(got[tsblock.Count], from, to)
	low, high := newDay(got[tsblock.Min], from, to), newDay(got[tsblock.Max], from, to)
	ok := true
	switch aspect {
	case model.AspectMin:
		ok = low.low == raw.low && len(got) <= 2
	case model.AspectMax:
		ok = high.high == raw.high && len(got) <= 2
	case model.AspectSum:
		ok = sum.sum == raw.sum && len(got) <= 2
	case model.AspectCount:
		ok = count.sum == raw.count && len(got) <= 2
	case model.AspectMean:
		ok = sum.sum == raw.sum && count.sum == raw.count && len(got) <= 3
	}
	if !ok {
		t.Errorf("aspect %d from %d to %d: sums %+v, counts %+v, low %+v, high %+v; all samples are %+v", aspect, from, to, sum, count, low, high, raw)
	}
}

// day is what a test knows of samples in (from, to].
type day struct {
	sum, count, low, high, last, increase float64
}

func newDay(s *tsblock.Samples, from, to int64) day {
	d := day{low: math.Inf(1), high: math.Inf(-1)}
	if s == nil {
		return d
	}
	previous := math.NaN()
	for i, t := range s.Timestamps {
		v := s.Values[i]
		if t > from && t <= to {
			d.sum, d.count, d.low, d.high, d.last = d.sum+v, d.count+1, min(d.low, v), max(d.high, v), v
			if v >= previous {
				d.increase += v - previous
			} else if v < previous {
				d.increase += v
			}
		}
		previous = v
	}
	return d
}

func TestRetentionRules(t *testing.T) {
	c := &clock{now: testNow()}
	cfg := testConfig()
	cfg.RetentionRules = []RetentionRule{
		{SeriesRule: SeriesRule{Text: `{env="dev"}`, Filters: filter("env", "dev")}, Keep: 48 * time.Hour},
		{SeriesRule: SeriesRule{Text: `{env=~"d.*"}`, Filters: [][]model.TagFilter{{{Name: "env", Value: "d.*", Op: model.Regexp}}}}, Keep: 72 * time.Hour},
	}
	o := testOptions(memfs.New(memfs.Options{}))
	o.Now = c.Now
	s := openTest(t, cfg, o)
	defer func() { closeTest(t, s) }()
	start := testNow().UnixMilli()
	for at := start - 6*dayMs; at <= start; at += 3600_000 {
		b := &model.Batch{}
		for _, env := range []string{"dev", "demo", "prod"} {
			key := keyOf(t, model.TenantID{}, "m", env)
			b.AddKey([]byte(key), model.HashSeriesKey([]byte(key)))
			b.AddSample(at, 1)
		}
		ingest(t, s, b)
	}
	wantKept(t, s, "in the head")
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	rows := s.table.Load().sorted[0].Stats().Small.Rows
	wantKept(t, s, "in a part")
	if got := s.table.Load().sorted[0].Stats().Small.Rows; got != rows || rows != 3*(6*24+1) {
		t.Fatalf("%d samples are in parts, %d before; want all to be there before the merge", got, rows)
	}
	for _, p := range s.table.Load().sorted {
		s.mergeWhileDue(p)
	}
	wantKept(t, s, "merged")
	parts := s.table.Load().sorted[0].Stats().Small.Rows
	for range 3 { // an hour later nothing is rewritten for the little that became old
		c.set(c.Now().Add(time.Hour))
		for _, p := range s.table.Load().sorted {
			s.mergeWhileDue(p)
		}
	}
	if rows := s.table.Load().sorted[0].Stats().Small.Rows; rows != parts {
		t.Errorf("parts of %d samples were rewritten to %d for a few hours", parts, rows)
	}
}

// wantKept looks at what searches find of six days of hourly samples with retentions of two and three days, whatever range they ask for.
func wantKept(t *testing.T, s *Storage, what string) {
	t.Helper()
	all := contents(t, s, model.TenantID{}, model.AspectSamples)
	for env, want := range map[string]int{"dev": 49, "demo": 73, "prod": 6*24 + 1} {
		samples := all[keyOf(t, model.TenantID{}, "m", env)][tsblock.Raw]
		if samples == nil || samples.Len() != want {
			t.Errorf("%s: env %s has samples %v; want %d", what, env, samples, want)
		}
	}
	now := s.o.Now().UnixMilli()
	for days, want := range map[int64]int{1: 3, 2: 3, 3: 2, 4: 1} {
		r := model.TimeRange{Min: now - days*dayMs, Max: now - days*dayMs + 3600_000}
		for _, detail := range []model.Detail{model.AllSamples, model.NewestSample, model.NewestKind} {
			it, err := s.Search(context.Background(), &model.SearchQuery{Range: r, Detail: detail})
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for it.Next() {
				got++
			}
			if err := errors.Join(it.Err(), it.Close()); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%s: %d series have samples of an hour %d days ago (detail %d); want %d", what, got, days, detail, want)
			}
		}
	}
}

func TestRulesAreChecked(t *testing.T) {
	rule := func(offset, interval time.Duration) DownsamplingRule {
		return DownsamplingRule{Offset: offset, Interval: interval}
	}
	const hour, minute = time.Hour, time.Minute
	for want, change := range map[string]func(c *Config){
		"too short a time":       func(c *Config) { c.RetentionRules = []RetentionRule{{Keep: minute}} },
		"an interval between 1s": func(c *Config) { c.DownsamplingRules = []DownsamplingRule{rule(hour, time.Millisecond)} },
		"offset which is not":    func(c *Config) { c.DownsamplingRules = []DownsamplingRule{rule(minute, hour)} },
		"does not go with": func(c *Config) {
			c.DownsamplingRules = []DownsamplingRule{rule(hour, 2*minute), rule(2*hour, 3*minute)}
		},
		"at most 64": func(c *Config) { c.RetentionRules = make([]RetentionRule, 65) },
		"bad -retentionFilter=x:1h": func(c *Config) {
			c.RetentionRules = []RetentionRule{{SeriesRule{"x", [][]model.TagFilter{{{Name: "a", Value: "(", Op: model.Regexp}}}}, hour}}
		},
	} {
		cfg := testConfig()
		change(&cfg)
		_, err := Open(cfg, testOptions(memfs.New(memfs.Options{})))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want an error with %q", err, want)
		}
	}
	cfg := testConfig()
	cfg.DownsamplingRules = []DownsamplingRule{rule(2*hour, 4*minute), rule(hour, 2*minute)}
	closeTest(t, openTest(t, cfg, testOptions(memfs.New(memfs.Options{}))))
	if got := fmt.Sprint(&cfg.DownsamplingRules[0]); got != "2h0m0s:4m0s" {
		t.Errorf("the rule is printed as %s", got)
	}
}
