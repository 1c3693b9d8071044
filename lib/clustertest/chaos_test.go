package clustertest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// chaosSeedVariable replays one history, chaosMinutesVariable sets how long `make chaos-long` runs.
const (
	chaosSeedVariable    = "VMCLUSTER_CHAOS_SEED"
	chaosMinutesVariable = "VMCLUSTER_CHAOS_MINUTES"
)

// liveChaos runs the history of a seed. It returns what has happened in it, and all of it with its times.
func liveChaos(t *testing.T, seed uint64) (done chaosTally, history string) {
	watchdog := time.AfterFunc(2*time.Minute, func() {
		buf := make([]byte, 1<<20)
		fmt.Printf("seed %d hangs\n%s\n", seed, buf[:runtime.Stack(buf, true)])
		os.Exit(1)
	})
	defer watchdog.Stop()
	synctest.Test(t, func(t *testing.T) {
		w := newChaos(t, seed)
		w.run()
		w.close()
		history = strings.Join(w.mu.history, "\n")
		if why := w.failed(); why != "" {
			tail := w.mu.history[max(0, len(w.mu.history)-150):]
			t.Errorf("%s\n\nto see it again: %s=%d go test -v -run 'TestChaos$' ./lib/clustertest\n\nhistory (the last of %d lines):\n%s", why, chaosSeedVariable, seed, len(w.mu.history), strings.Join(tail, "\n"))
		}
		done = w.tally
	})
	return done, history
}

// run lives through a whole history.
func (w *chaos) run() {
	w.recover()
	for range 2 {
		w.write(w.inserts[0], w.feed.history(), "history")
	}
	w.ops.Wait()
	for range 1 + w.rng.IntN(2) {
		for range 30 {
			if w.failed() != "" {
				return
			}
			w.step()
		}
		w.liftAll()
		if w.failed() == "" {
			w.standStill()
		}
	}
}

// oneProcessor makes the order in which goroutines run the same each time, as far as it can be. Short runs are for the race detector, which
// needs them to run at once.
func oneProcessor(t *testing.T) {
	if testing.Short() {
		return
	}
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// TestChaos lives through random histories of whole clusters.
func TestChaos(t *testing.T) {
	oneProcessor(t)
	if text := os.Getenv(chaosSeedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("bad %s: %s", chaosSeedVariable, err)
		}
		done, history := liveChaos(t, seed)
		t.Logf("%v\n%s", done, history)
		return
	}
	seeds := 200
	if testing.Short() {
		seeds = 20
	}
	total := chaosTally{}
	defer total.log()
	rng := rand.New(rand.NewPCG(1, 0)) // the same histories each time; new ones are for make chaos-long
	manyChaos(t, total, rng, seeds, time.Time{})
	// Faults are chosen with at least one chance in 17 of 12 in a hundred steps; 200 histories have 6000 steps or more, a sixth of them with levels.
	for !testing.Short() && !t.Failed() {
		missing := slices.DeleteFunc(chaosKinds(), func(what string) bool { return total[what] > 0 })
		if len(missing) == 0 {
			return
		}
		if seeds += 20; seeds > 400 {
			t.Fatalf("never seen: %q", missing)
		}
		manyChaos(t, total, rng, seeds, time.Time{})
	}
}

// manyChaos lives through histories of new seeds, so many or until a time, and adds up what has happened in them.
func manyChaos(t *testing.T, total chaosTally, rng *rand.Rand, seeds int, until time.Time) {
	last := time.Now()
	for total["histories"] < seeds && !t.Failed() && (until.IsZero() || time.Now().Before(until)) {
		total["histories"]++
		done, _ := liveChaos(t, rng.Uint64())
		total.add(done)
		if time.Since(last) > time.Minute {
			last = time.Now()
			fmt.Printf("%d histories\n", total["histories"])
		}
	}
}

// chaosKinds are what 200 histories have for certain.
func chaosKinds() []string {
	return []string{
		"connections reset", "connections torn", "partition", "half-open", "slow", "doubled connections", "killed, power failure: true", "killed, power failure: false", "killed at work", "stopped",
		"full disk", "disk error", "clock jumps", "lost for good", "node added", "other lists", "a group lost", "a level lost", "mute nodes", "deletions acknowledged", "searches of all tenants",
		"answers, partial: true", "answers, partial: false", "readers compared: true", "rows with too few copies", "rerouted rows", "fragments of storage nodes", "cache hits",
	}
}

// TestChaosSeeds lives through histories which once failed, or which are interesting for what happens in them.
func TestChaosSeeds(t *testing.T) {
	oneProcessor(t)
	for _, seed := range []uint64{
		7550411672738879332,  // rows with two copies of three, which readers who do without slow nodes do not find
		14960843556038913404, // a list of nodes that is replaced between two calls of a query
		661176573310506635,   // two calls at once meet a node that is back: one copy was stored where there were nodes for two
	} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { liveChaos(t, seed) })
	}
}

// TestChaosIsReplayed lives through histories twice. Goroutines may run in another order, so it does not fail when they differ; it
// tells how often they do.
func TestChaosIsReplayed(t *testing.T) {
	if testing.Short() {
		t.Skip("it tells about seeds, not about the cluster")
	}
	oneProcessor(t)
	same := 0
	const seeds = 10
	for range seeds {
		seed := rand.Uint64()
		_, first := liveChaos(t, seed)
		_, again := liveChaos(t, seed)
		if first == again {
			same++
		}
	}
	t.Logf("%d of %d histories were the same once more, to the nanosecond", same, seeds)
}

// TestChaosLong goes on for as many minutes as the environment says: make chaos-long.
func TestChaosLong(t *testing.T) {
	text := os.Getenv(chaosMinutesVariable)
	if text == "" {
		t.Skipf("run it with `make chaos-long MINUTES=60`, which sets %s", chaosMinutesVariable)
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("bad %s: %s", chaosMinutesVariable, err)
	}
	oneProcessor(t)
	total := chaosTally{}
	defer total.log()
	manyChaos(t, total, rand.New(rand.NewPCG(rand.Uint64(), 0)), math.MaxInt, time.Now().Add(time.Duration(minutes*float64(time.Minute))))
}
