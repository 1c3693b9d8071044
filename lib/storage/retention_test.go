package storage

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs/memfs"
)

// readRaw returns all samples of all blocks of an answer, also those outside of what was asked for.
func readRaw(t *testing.T, s *Storage, q *model.SearchQuery) map[string][]int64 {
	t.Helper()
	it, err := s.Search(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	got := map[string][]int64{}
	for it.Next() {
		for i := range it.At().Blocks {
			var samples tsblock.Samples
			if err := it.At().Blocks[i].Decode(&samples); err != nil {
				t.Fatal(err)
			}
			got[string(it.At().Key)] = append(got[string(it.At().Key)], samples.Timestamps...)
		}
	}
	if it.Err() != nil || it.Coverage().Partial {
		t.Fatal(it.Err(), it.Coverage())
	}
	return got
}

// TestRetentionInsideMonth: samples beyond retention are in no answer although they are on the disk, and merges remove
// them without being asked once half of a part is beyond.
func TestRetentionInsideMonth(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	month := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	var clock atomic.Int64
	clock.Store(month.Add(20 * 24 * time.Hour).UnixMilli())
	o := testOptions(memfs.New(memfs.Options{}))
	o.Now = func() time.Time { return time.UnixMilli(clock.Load()) }
	cfg := testConfig()
	cfg.RetentionPeriod = flagvalue.NewRetention("20d")
	s := openTest(t, cfg, o)
	defer closeTest(t, s)
	ctx := context.Background()
	const hours = 20 * 24
	for h := range int64(hours) {
		ingest(t, s, batchOf(t, 3, month.UnixMilli()+h*3600_000+1, float64(h)))
		if h%50 == 0 {
			if err := s.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Merge(ctx, ""); err != nil { // one part of 20 days
		t.Fatal(err)
	}
	ingest(t, s, batchOf(t, 3, month.UnixMilli()+2, 7)) // in the head
	rewritten := int64(0)
	for day := 1; day < 21; day++ {
		clock.Store(month.Add(time.Duration(20+day)*24*time.Hour + time.Duration(rng.IntN(3600))*time.Second).UnixMilli())
		oldest := clock.Load() - 20*dayMs
		for key, timestamps := range readRaw(t, s, &model.SearchQuery{Range: allTime()}) {
			for _, ts := range timestamps {
				if ts < oldest {
					t.Fatalf("day %d: the sample at %d of %s is beyond retention and in an answer", day, ts, model.SeriesKeyString([]byte(key)))
				}
			}
			want := (month.UnixMilli() + hours*3600_000 - oldest) / 3600_000
			if n := int64(len(timestamps)); n < want || n > want+1 {
				t.Fatalf("day %d: %d samples; want about %d", day, n, want)
			}
		}
		before := s.sum().Small.Rows
		for _, p := range s.table.Load().sorted {
			s.mergeWhileDue(p)
		}
		after := s.sum().Small.Rows
		if after < before {
			rewritten += after
		}
		// At most half of what is on the disk is beyond.
		if inside := 3 * (month.UnixMilli() + hours*3600_000 - oldest) / 3600_000; after > 2*inside+6 {
			t.Fatalf("day %d: %d rows are on the disk, %d of them inside of retention", day, after, inside)
		}
	}
	if rewritten == 0 || rewritten > 3*hours {
		t.Errorf("%d rows were written by rewrites; want some, and no more than there were", rewritten)
	}
	if rows := s.sum().Small.Rows; rows != 0 {
		t.Errorf("%d rows are left after retention", rows)
	}
	if got := readAll(t, s, allTime()); len(got) != 0 {
		t.Errorf("%d series are left in answers", len(got))
	}
}

func TestSearchesBeyondRetention(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli()-50*dayMs, 1))
	closeTest(t, s)
	cfg := testConfig()
	cfg.RetentionPeriod = flagvalue.NewRetention("25d") // the month stays, since it ends inside
	s = openTest(t, cfg, testOptions(fsys))
	old := &model.SearchQuery{Range: model.TimeRange{Min: 0, Max: testNow().UnixMilli() - 40*dayMs}}
	if got := readRaw(t, s, old); len(got) != 0 {
		t.Errorf("%d series beyond retention", len(got))
	}
	names, err := s.LabelNames(context.Background(), old, 0)
	if err != nil || len(names.Values) != 0 {
		t.Errorf("label names %q, %v beyond retention", names.Values, err)
	}
	closeTest(t, s)
	cfg.DenyOutsideRetention = true
	s = openTest(t, cfg, testOptions(fsys))
	defer closeTest(t, s)
	if _, err := s.Search(context.Background(), old); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("with -denyQueriesOutsideRetention: %v", err)
	}
	if _, err := s.Search(context.Background(), &model.SearchQuery{Range: model.TimeRange{Min: testNow().UnixMilli() - dayMs, Max: testNow().UnixMilli()}}); err != nil {
		t.Error(err)
	}
}

// TestDedupReadsAsMerged: with an interval, reads give the same whether they merge or merges did, in any order.
func TestDedupReadsAsMerged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, round))
		interval := 1 + rng.Int64N(5000)
		raw := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{}))) // without dedup on the disk
		cfg := testConfig()
		cfg.DedupMinScrape = flagvalue.Duration(time.Duration(interval) * time.Millisecond)
		o := testOptions(memfs.New(memfs.Options{}))
		merged := openTest(t, cfg, o)
		sent := 0
		for range 60 {
			b := &model.Batch{}
			for i := range 3 {
				tenant, labels := newGenerator(rng, 0).labels(i)
				if err := b.AddSeries(tenant, labels); err != nil {
					t.Fatal(err)
				}
				for range rng.IntN(30) {
					b.AddSample(testNow().UnixMilli()-rng.Int64N(100_000), float64(rng.IntN(5)))
					sent++
				}
			}
			ingest(t, raw, b)
			ingest(t, merged, b)
			if rng.IntN(5) == 0 {
				if err := merged.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := dedupedRead(t, raw, interval)
		compare := func(when string) {
			t.Helper()
			got := dedupedRead(t, merged, interval)
			if len(got) != len(want) {
				t.Fatalf("%s: %d series; want %d", when, len(got), len(want))
			}
			for key, samples := range want {
				if !equalSamples(got[key], samples) {
					t.Fatalf("%s, interval %d: series %s differs", when, interval, model.SeriesKeyString([]byte(key)))
				}
			}
		}
		compare("before merges")
		if err := merged.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := merged.Merge(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
		compare("after merges")
		rows := 0
		for _, samples := range want {
			rows += samples.Len()
		}
		if got := merged.sum().Small.Rows; got != int64(rows) {
			t.Errorf("interval %d: %d rows on the disk; want %d", interval, got, rows)
		}
		// What is neither there nor was at an equal timestamp has been counted.
		if n := int(merged.m.partitions.Deduplicated.Get()); n > sent-rows || interval > 1000 && n == 0 {
			t.Errorf("interval %d: %d samples counted as deduplicated, of %d which went", interval, n, sent-rows)
		}
		closeTest(t, raw)
		closeTest(t, merged)
	}
}

func dedupedRead(t *testing.T, s *Storage, intervalMs int64) map[string]*tsblock.Samples {
	t.Helper()
	got := map[string]*tsblock.Samples{}
	var scratch tsblock.Scratch
	for account := range uint32(tenants) {
		it, err := s.Search(context.Background(), &model.SearchQuery{Tenant: model.TenantID{AccountID: account}, Range: allTime()})
		if err != nil {
			t.Fatal(err)
		}
		for it.Next() {
			var samples tsblock.Samples
			if err := tsblock.ReadRange(&samples, it.At().Blocks, allTime(), intervalMs, &scratch); err != nil {
				t.Fatal(err)
			}
			got[string(it.At().Key)] = &samples
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func equalSamples(a, b *tsblock.Samples) bool {
	if a == nil || a.Len() != b.Len() {
		return false
	}
	for i := range a.Timestamps {
		if a.Timestamps[i] != b.Timestamps[i] || a.Values[i] != b.Values[i] {
			return false
		}
	}
	return true
}

// TestRetentionLimitIsExact has samples at the limit and a millisecond after it: both are inside, also of the retention of a filter.
func TestRetentionLimitIsExact(t *testing.T) {
	c := &clock{now: testNow()}
	cfg := testConfig()
	cfg.RetentionRules = []RetentionRule{{SeriesRule: SeriesRule{Text: `{env="dev"}`, Filters: filter("env", "dev")}, Keep: 48 * time.Hour}}
	o := testOptions(memfs.New(memfs.Options{}))
	o.Now = c.Now
	s := openTest(t, cfg, o)
	defer closeTest(t, s)
	now := c.Now().UnixMilli()
	b := &model.Batch{}
	for env, age := range map[string]int64{"dev": 2 * dayMs, "prod": 100 * dayMs} {
		key := keyOf(t, model.TenantID{}, "m", env)
		b.AddKey([]byte(key), model.HashSeriesKey([]byte(key)))
		b.AddSample(now-age, 1)
		b.AddSample(now-age+1, 2)
	}
	ingest(t, s, b)
	for want := range 3 {
		c.set(time.UnixMilli(now + int64(want)))
		got := readAll(t, s, allTime())
		for _, env := range []string{"dev", "prod"} {
			if n := len(got[keyOf(t, model.TenantID{}, "m", env)]); n != 2-want {
				t.Errorf("%d ms later env %s has %d samples; want %d", want, env, n, 2-want)
			}
		}
	}
}
