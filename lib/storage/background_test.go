package storage

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not happen", what)
		}
	}
}

func TestBackgroundFlush(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"head too large": func(c *Config) { c.HeadMaxBytes = 100 },
		"head too old":   func(c *Config) { c.HeadMaxAge = 1 },
		"log too large":  func(c *Config) { c.LogMaxBytes = 10 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			change(&cfg)
			o := testOptions(memfs.New(memfs.Options{}))
			o.Now = time.Now
			s := openTest(t, cfg, o)
			defer closeTest(t, s)
			ingest(t, s, batchOf(t, 5, time.Now().UnixMilli(), 1))
			eventually(t, "a flush", func() bool {
				s.watch()
				return s.sum().Small.Rows == 5
			})
			if got := readAll(t, s, allTime()); len(got) != 5 {
				t.Errorf("%d series; want 5", len(got))
			}
		})
	}
}

// TestBackgroundMerge makes many small parts, which are merged without being asked.
func TestBackgroundMerge(t *testing.T) {
	o := testOptions(memfs.New(memfs.Options{}))
	s := openTest(t, testConfig(), o)
	defer closeTest(t, s)
	const flushes = 25
	for i := range int64(flushes) {
		ingest(t, s, batchOf(t, 3, testNow().UnixMilli()+i*1000, float64(i)))
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		s.askMerge()
	}
	eventually(t, "a merge", func() bool { return s.sum().Small.Parts < 10 })
	if metric(t, o.Metrics, `vm_merges_total{type="storage/small"}`) == "0" {
		t.Error("no merge is counted")
	}
	for key, samples := range readAll(t, s, allTime()) {
		if len(samples) != flushes {
			t.Errorf("%s has %d samples; want %d", model.SeriesKeyString([]byte(key)), len(samples), flushes)
		}
	}
}

func TestDedupInParts(t *testing.T) {
	cfg := testConfig()
	cfg.DedupMinScrape = flagvalue.Duration(time.Minute)
	s := openTest(t, cfg, testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	start := testNow().UnixMilli() // a full minute
	for i := range int64(16) {
		ingest(t, s, batchOf(t, 1, start+(i+1)*15_000, float64(i)))
		if i%3 == 0 {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	for _, samples := range readAll(t, s, allTime()) {
		if len(samples) != 4 {
			t.Errorf("%d samples; want 4", len(samples))
		}
		for ts := range samples {
			if (ts-start)%60_000 != 0 {
				t.Errorf("sample at %d is not the newest of its minute", ts)
			}
		}
	}
}

// TestOpenOnFailingDisk lets one operation after the other fail during Open: it gives up
// everything it holds, and nothing is lost.
func TestOpenOnFailingDisk(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	g, n := newGenerator(rng, 20), newNaive()
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	for i := range 30 {
		b := g.batch(t)
		n.send(t, b)
		ingest(t, s, b)
		n.acknowledge(t, b)
		if i%12 == 2 {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	crashed := fsys.Crash(rng) // leaves a log to replay
	closeTest(t, s)
	cfg := testConfig()
	cfg.HeadMaxBytes = 1000 // and writes during the replay
	for _, kinds := range [][]faultfs.Kind{{faultfs.Read}, nil} {
		failures := 0
		for at := int64(1); at < 60; at++ {
			left := crashed.Crash(rng) // everything is durable: a copy
			faulty := faultfs.New(left)
			faulty.SetFault(faultfs.Fault{At: at, Kinds: kinds})
			o := testOptions(faulty)
			s, err := Open(cfg, o)
			if err == nil {
				closeTest(t, s)
				continue
			}
			if used := o.Budget.Used(); used != 0 {
				t.Fatalf("%d bytes of the budget are still in use after %q", used, err)
			}
			failures++
			s = openTest(t, cfg, testOptions(left))
			n.check(t, s, allTime())
			closeTest(t, s)
		}
		if failures < 10 {
			t.Errorf("kinds %v: only %d operations can fail", kinds, failures)
		}
	}
}
