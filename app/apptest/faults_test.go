package apptest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fault is something that happens to a cluster.
type fault struct {
	name   string
	what   string // for the table
	nodes  int    // storage nodes; 0 means 3
	hold   time.Duration
	far    bool                      // the first storage node is in a network of its own, and there are no proxies
	needs  func(f *faulted) []string // prepares, and returns arguments of the first storage node
	strike func(f *faulted)
	heal   func(f *faulted) // nil when strike has healed it
	// What goes on all the time in spite of the fault: writes without a failure; queries without a failure, and whole when there are two copies.
	writes, queries bool
	reroutes        int  // up to so many copies, rows of the victim go elsewhere
	skips           bool // makes a difference to -search.skipSlowReplicas, with which it happens once more
}

// faulted is a cluster to which a fault happens, under load.
type faulted struct {
	*cluster
	victim *storageNode
	far    *netns // of the victim
	disk   string // of the victim, when the fault is about its disk
	path   string // of a file which fills it
	l      *load
	q      *questions
}

// faultHold is how long a fault lasts in the long form.
const faultHold = 10 * time.Second

func faults() []fault {
	storage := func(f *faulted) { f.victim.restart() }
	both := func(f *faulted) {
		f.victim.toInsert.heal()
		f.victim.toSel.heal()
	}
	return []fault{
		{name: "storage-killed", what: "kill -9 of a storage node, started again", writes: true, queries: true,
			strike: func(f *faulted) { f.victim.kill() }, heal: storage},
		{name: "storage-stopped", what: "a storage node is stopped in an orderly way, and started again", writes: true, queries: true,
			strike: func(f *faulted) { f.victim.stop(syscall.SIGTERM) }, heal: storage},
		{name: "storage-frozen", what: "a storage node stands still (SIGSTOP) for 30 s", hold: 30 * time.Second, writes: true, queries: true, reroutes: 2, skips: true,
			strike: func(f *faulted) { f.victim.freeze() }, heal: func(f *faulted) { f.victim.signal(syscall.SIGCONT) }},
		{name: "disk-hangs", what: "the disk of a storage node hangs (frozen file system), which answers pings, for 30 s", hold: 30 * time.Second, writes: true, queries: true, reroutes: 2,
			needs: func(f *faulted) []string {
				_, f.disk = mountDisk(f.t, f.t.(*testing.T).TempDir())
				return []string{"-storageDataPath=" + filepath.Join(f.disk, "data"), "-storage.minFreeDiskSpaceBytes=1MB"}
			},
			strike: func(f *faulted) { f.toDisk(fiFreeze) }, heal: func(f *faulted) { f.toDisk(fiThaw) }},
		{name: "disk-full", what: "the disk of a storage node is full, with the reserve of -storage.minFreeDiskSpaceBytes", writes: true, queries: true,
			needs: func(f *faulted) []string {
				f.disk = mountSmall(f.t, 48)
				return []string{"-storageDataPath=" + filepath.Join(f.disk, "data"), "-storage.minFreeDiskSpaceBytes=8MB"}
			},
			strike: func(f *faulted) { f.path = ballast(f.t, f.disk, 6<<20) },
			heal: func(f *faulted) {
				if err := os.Remove(f.path); err != nil {
					f.t.Error(err)
				}
			}},
		{name: "insert-partitioned", what: "no way between vminsert and a storage node", writes: true, queries: true, reroutes: 2,
			strike: func(f *faulted) { f.victim.toInsert.partition() }, heal: both},
		{name: "insert-requests-vanish", what: "half-open: what vminsert says to a storage node does not arrive", writes: true, queries: true, reroutes: 2,
			strike: func(f *faulted) { f.victim.toInsert.up.hold() }, heal: both},
		{name: "insert-answers-vanish", what: "half-open: what a storage node says to vminsert does not arrive", writes: true, queries: true, reroutes: 2,
			strike: func(f *faulted) { f.victim.toInsert.down.hold() }, heal: both},
		{name: "select-partitioned", what: "no way between vmselect and a storage node", writes: true, queries: true, skips: true,
			strike: func(f *faulted) { f.victim.toSel.partition() }, heal: both},
		{name: "select-partitioned-of-two", what: "no way between vmselect and one of two storage nodes", nodes: 2, writes: true, queries: true,
			strike: func(f *faulted) { f.victim.toSel.partition() }, heal: both},
		{name: "select-requests-vanish", what: "half-open: what vmselect says to a storage node does not arrive", writes: true, queries: true,
			strike: func(f *faulted) { f.victim.toSel.up.hold() }, heal: both},
		{name: "select-answers-vanish", what: "half-open: what a storage node says to vmselect does not arrive", writes: true, queries: true,
			strike: func(f *faulted) { f.victim.toSel.down.hold() }, heal: both},
		{name: "storage-slow", what: "a storage node at the end of a slow line: 200 ms each way, 1 MB/s", writes: true, queries: true,
			skips: true, strike: func(f *faulted) { f.slow(200 * time.Millisecond) }, heal: both},
		{name: "storage-very-slow", what: "a storage node at the end of a very slow line: 1.2 s each way", writes: true, queries: true,
			reroutes: 1, skips: true, strike: func(f *faulted) { f.slow(1200 * time.Millisecond) }, heal: both},
		{name: "connections-reset", what: "all connections of a storage node are reset, ten times a second", writes: true, queries: true,
			strike: func(f *faulted) { f.reset() }},
		{name: "packets-lost", what: "all packets of a storage node are lost", far: true, writes: true, queries: true, reroutes: 2,
			strike: func(f *faulted) { f.far.lose() }, heal: func(f *faulted) { f.far.find() }},
		{name: "packets-lost-at-times", what: "a bad line (netem: 50 ms, give or take 20, 2 % of the packets of a storage node lost)", far: true, writes: true, queries: true,
			strike: func(f *faulted) { f.far.bad() }, heal: func(f *faulted) { f.far.good() }},
		{name: "vminsert-killed", what: "kill -9 of the only vminsert, started again", queries: true,
			strike: func(f *faulted) { f.insert.kill() }, heal: func(f *faulted) { f.insert.run(); f.insert.httpAddr() }},
		{name: "vmselect-killed", what: "kill -9 of the only vmselect, started again", writes: true,
			strike: func(f *faulted) { f.sel.kill() }, heal: func(f *faulted) { f.sel.run(); f.sel.httpAddr() }},
		{name: "rolling-restart", what: "all storage nodes are restarted, one after the other", writes: true, queries: true,
			strike: func(f *faulted) {
				for _, n := range f.storage {
					n.stop(syscall.SIGTERM)
					n.restart()
					f.waitRecovered(n)
				}
			}},
	}
}

// TestClusterFaults lets things happen to a cluster while every sample written has a number and queries ask for them. Nothing acknowledged is lost, an
// answer which does not count as partial is exact, and what does not need the broken part goes on. With VMCLUSTER_FAULTS_TABLE, the name of a file, faults
// last longer and what clients saw is added to the file, as lines of the table in docs/reliability.md.
func TestClusterFaults(t *testing.T) {
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			if os.Getenv("VMCLUSTER_FAULTS_TABLE") == "" {
				t.Parallel()
			}
			for copies := 1; copies <= 2; copies++ {
				t.Run(fmt.Sprint(copies, " copies"), func(t *testing.T) { f.run(t, copies) })
			}
			if f.skips {
				t.Run("2 copies, skipSlowReplicas", func(t *testing.T) { f.run(t, 2, "-search.skipSlowReplicas") })
			}
		})
	}
}

// run lets the fault happen.
func (f *fault) run(t *testing.T, copies int, selectArgs ...string) {
	long := os.Getenv("VMCLUSTER_FAULTS_TABLE")
	e := f.prepare(t, copies, selectArgs)
	if long != "" {
		time.Sleep(6 * time.Second) // connections of some age are given more credit than young ones
	}
	struck := time.Now()
	f.strike(e)
	if f.writes {
		e.l.waitAcked(t, 2*loadWriters)
	}
	if f.reroutes >= copies {
		waitMetric(t, 1, e.insertAddr, "vm_rpc_rows_rerouted_from_here_total", fmt.Sprintf("addr=%q", e.victim.insert))
	}
	e.q.waitAsked(t, 4)
	if len(selectArgs) > 0 {
		waitMetric(t, 1, e.selectAddr, "vm_slow_replicas_skipped_total")
	}
	if long != "" && f.heal != nil {
		time.Sleep(time.Until(struck.Add(cmp.Or(f.hold, faultHold)))) // how long the fault lasts, nobody waits for anything
	}
	healed := time.Now()
	if f.heal != nil {
		f.heal(e)
	}
	e.waitRecovered(e.victim)
	recovered := time.Now()
	e.l.waitAcked(t, 2*loadWriters)
	e.l.stop()
	e.q.stop(t)
	e.waitWhole()
	e.l.check(t, e.readURL("0"))
	w, q := e.l.seen.between(struck, recovered), e.q.seen.between(struck, recovered)
	starved := e.starved()
	if f.writes && w.failed > 0 && !starved {
		t.Errorf("%d of %d writes failed: %v", w.failed, w.requests, e.l.last)
	}
	if !starved && f.queries && (q.failed > 0 || copies > 1 && q.partial > 0) {
		t.Errorf("of %d queries %d failed and %d were partial", q.requests, q.failed, q.partial)
	}
	lost := "nothing"
	if t.Failed() {
		lost = "see the test, which failed"
	}
	line := fmt.Sprintf("| %s | %d%s | %d | %d | %d | %s | %d | %d | %d | %d | %s | %s | %.1f s | `%s` |", f.what, copies, strings.Join(append([]string{""}, selectArgs...), " "), w.requests, w.failed, w.refused, w.times(),
		q.requests, q.partial, q.failed, q.refused, q.times(), lost, recovered.Sub(healed).Seconds(), f.name)
	t.Log(line)
	if long != "" {
		addLine(t, long, line)
	}
}

// prepare starts a cluster, the load, and those who ask.
func (f *fault) prepare(t *testing.T, copies int, selectArgs []string) *faulted {
	t.Helper()
	e := &faulted{cluster: &cluster{t: t}} // for what comes before there is one
	factor := fmt.Sprintf("-replicationFactor=%d", copies)
	o := clusterOptions{nodes: cmp.Or(f.nodes, 3), proxies: true, insertArgs: []string{factor}, selectArgs: append(selectArgs, factor)}
	o.insertEnv = []string{"GOMAXPROCS=2"} // how many writes may wait for a node depends on it
	if f.far {
		e.far = startNetns(t)
		o.firstIn, o.proxies = e.far, false
	}
	if f.needs != nil {
		o.firstArgs = f.needs(e)
	}
	e.cluster = startCluster(t, o)
	e.victim = e.storage[0]
	e.l = &load{target: e.writeURL("0") + "/api/v1/write", pause: 20 * time.Millisecond, repeats: true}
	e.l.run(t)
	e.l.waitAcked(t, 20)
	e.q = startQuestions(t, e.l, e.readURL("0"))
	e.q.waitAsked(t, 10)
	return e
}

// addLine adds a line to a file.
func addLine(t *testing.T, path, line string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

// waitRecovered waits until a storage node gets rows again and answers to queries are whole.
func (f *faulted) waitRecovered(n *storageNode) {
	f.t.Helper()
	waitMetric(f.t, 1, f.insertAddr, "vm_rpc_vmstorage_is_reachable", fmt.Sprintf("addr=%q", n.insert))
	addr := fmt.Sprintf("addr=%q", n.insert)
	waitMetric(f.t, mustMetric(f.t, f.insertAddr, "vm_rpc_rows_sent_total", addr)+1, f.insertAddr, "vm_rpc_rows_sent_total", addr)
	f.waitAllReached()
}

// starved reports whether the connection to a node was lost to which nothing had happened: it did not get any time for seconds, since the machine is busy
// with other things. Then answers may be partial; they must still be right.
func (f *faulted) starved() bool {
	f.t.Helper()
	for _, n := range f.storage[1:] {
		addr := func(a string) string { return fmt.Sprintf("addr=%q", a) }
		lost := mustMetric(f.t, f.insertAddr, "vm_rpc_connection_errors_total", addr(n.insert)) + mustMetric(f.t, f.selectAddr, "vm_rpc_connection_errors_total", addr(n.sel))
		if lost > 0 {
			f.t.Logf("%v connections to %s were lost, to which nothing had happened: the machine is too busy to tell who goes on", lost, n.spec.name)
			return true
		}
	}
	return false
}

// waitAllReached waits until vmselect is connected with all storage nodes, since with copies answers are whole without one of them.
func (f *faulted) waitAllReached() {
	f.t.Helper()
	waitMetric(f.t, float64(len(f.storage)), f.selectAddr, "vm_tcpdialer_addr_available")
	f.waitWhole()
}

// slow puts the victim at the end of a slow line.
func (f *faulted) slow(latency time.Duration) {
	f.victim.toInsert.slow(latency, 1e6)
	f.victim.toSel.slow(latency, 1e6)
}

// reset breaks the connections of the victim again and again.
func (f *faulted) reset() {
	for range 20 {
		f.victim.toInsert.reset()
		f.victim.toSel.reset()
		f.l.waitAcked(f.t, 1)
		time.Sleep(100 * time.Millisecond) // the distance of the faults
	}
}

// Requests to a file system: everything that writes to it waits from the first one to the second.
const fiFreeze, fiThaw = 0xc0045877, 0xc0045878

func (f *faulted) toDisk(request uint) {
	f.t.Helper()
	if err := askDisk(f.disk, request); err != nil {
		cannotMount(f.t, fmt.Errorf("cannot freeze or thaw the file system: %w", err))
	}
	if request == fiFreeze {
		// A process which waits for a frozen file system cannot be killed, not even at the end of a test that failed.
		f.t.Cleanup(func() { _ = askDisk(f.disk, fiThaw) }) // which is an error when it has been done
	}
}

func askDisk(dir string, request uint) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.IoctlSetInt(int(d.Fd()), request, 0)
}
