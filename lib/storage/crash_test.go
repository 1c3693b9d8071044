package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// crashRun drives a storage on a file system until the Nth operation on files, at which everything
// that is not durable may be lost, and counts as acknowledged what was so before.
type crashRun struct {
	t       *testing.T
	rng     *rand.Rand
	g       *generator
	n       *naive
	crashes atomic.Bool                         // the crash has begun, maybe in the background: what ends from now on is not acknowledged
	crashed atomic.Pointer[memfs.FS]            // what is left after the crash
	more    func(c *crashRun, s *Storage) error // another kind of step; nil for none
}

// round runs random operations on fsys and returns what a crash leaves.
func (c *crashRun) round(fsys *memfs.FS, crashAt int64) *memfs.FS {
	c.crashed.Store(nil)
	c.crashes.Store(false)
	faulty := faultfs.New(fsys)
	crashRNG := rand.New(rand.NewPCG(c.rng.Uint64(), 0))
	faulty.SetHook(func(op faultfs.Op) {
		if op.N == crashAt {
			c.crashes.Store(true)
			c.crashed.Store(fsys.Crash(crashRNG))
		}
	})
	cfg := testConfig()
	if c.rng.IntN(3) == 0 {
		cfg.HeadMaxBytes = 20_000 // recovery flushes while it replays
	}
	s := openTest(c.t, cfg, testOptions(faulty))
	for step := 0; c.crashed.Load() == nil && step < 400; step++ {
		c.step(s)
	}
	if c.crashed.Load() == nil && c.rng.IntN(2) == 0 {
		closeTest(c.t, s)
	}
	left := c.crashed.Load()
	if left == nil {
		left = fsys.Crash(crashRNG)
	}
	faulty.SetHook(nil)
	if err := s.Close(); err != nil {
		c.t.Fatal(err)
	}
	return left
}

func (c *crashRun) step(s *Storage) {
	ctx := context.Background()
	var err error
	if c.more != nil && c.rng.IntN(12) == 0 {
		if err = c.more(c, s); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	switch r := c.rng.IntN(40); {
	case r < 34:
		b := c.g.batch(c.t)
		c.n.send(c.t, b)
		err = s.Ingest(ctx, b)
		for errkind.Of(err) == errkind.Overloaded {
			if err = s.Flush(ctx); err == nil {
				err = s.Ingest(ctx, b)
			}
		}
		if err == nil && !c.crashes.Load() {
			c.n.acknowledge(c.t, b)
		}
	case r < 37:
		err = s.Flush(ctx)
	case r < 38:
		err = s.Merge(ctx, "")
	default:
		for _, p := range s.table.Load().sorted {
			s.mergeWhileDue(p)
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestCrashes crashes again and again at random operations: every acknowledged sample
// is readable afterwards, and nothing is that was not sent.
func TestCrashes(t *testing.T) {
	crashAgainAndAgain(t, nil)
}

// crashAgainAndAgain runs histories of eight crashes. Among their steps are those that more makes; nil for none.
func crashAgainAndAgain(t *testing.T, more func(c *crashRun, s *Storage) error) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	runs := 12
	if testing.Short() {
		runs = 3
	}
	for i := range runs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		c := &crashRun{t: t, rng: rng, g: newGenerator(rng, 40), n: newNaive(), more: more}
		fsys := memfs.New(memfs.Options{})
		for range 8 {
			fsys = c.round(fsys, 1+rng.Int64N(400))
			s := openTest(t, testConfig(), testOptions(fsys))
			c.n.check(t, s, allTime())
			if rng.IntN(2) == 0 {
				closeTest(t, s)
				continue
			}
			fsys = fsys.Crash(rng) // right after recovery
			closeTest(t, s)
		}
	}
}

// TestCrashEverywhere crashes at every operation of one short history.
func TestCrashEverywhere(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stride := int64(1)
	if testing.Short() {
		stride = 15
	}
	for at := int64(1); at < 200; at += stride {
		rng := rand.New(rand.NewPCG(seed, 0)) // the same history
		c := &crashRun{t: t, rng: rng, g: newGenerator(rng, 10), n: newNaive()}
		fsys := c.round(memfs.New(memfs.Options{}), at)
		s := openTest(t, testConfig(), testOptions(fsys))
		c.n.check(t, s, allTime())
		closeTest(t, s)
	}
}

// TestFailingDisk lets operations fail, for a while or for good: reads go on, and
// after a restart everything acknowledged is there.
func TestFailingDisk(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	runs := 40
	if testing.Short() {
		runs = 10
	}
	for i := range runs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		fsys := memfs.New(memfs.Options{})
		faulty := faultfs.New(fsys)
		g, n := newGenerator(rng, 20), newNaive()
		s := openTest(t, testConfig(), testOptions(faulty))
		faulty.SetFault(faultfs.Fault{
			At: 1 + rng.Int64N(150), Sticky: rng.IntN(2) == 0, Short: rng.IntN(2) == 0,
			Err: []error{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)],
		})
		for range 60 {
			failingStep(t, rng, s, g, n)
		}
		n.check(t, s, allTime())
		faulty.SetFault(faultfs.Fault{})
		_ = s.Close() // a log which has failed cannot be closed cleanly
		s = openTest(t, testConfig(), testOptions(fsys))
		n.check(t, s, allTime())
		closeTest(t, s)
	}
}

func failingStep(t *testing.T, rng *rand.Rand, s *Storage, g *generator, n *naive) {
	ctx := context.Background()
	switch r := rng.IntN(20); {
	case r < 17:
		b := g.batch(t)
		n.send(t, b)
		err := s.Ingest(ctx, b)
		if err == nil {
			n.acknowledge(t, b)
		} else if !errkind.Of(err).TryElsewhere() && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("unexpected error of kind %s: %s", errkind.Of(err), err)
		}
	case r < 19:
		_ = s.Flush(ctx) // may fail
	default:
		_ = s.Merge(ctx, "") // may fail
	}
}
