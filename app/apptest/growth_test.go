package apptest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// balancer spreads requests over processes, as one in front of a cluster does. A process taken out of it gets no new requests.
type balancer struct {
	mu    sync.RWMutex // shared during a request
	roots []string     // as in http://addr
	next  atomic.Uint32
}

func (b *balancer) do(method, path string, body []byte) (answer, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return do(method, b.roots[int(b.next.Add(1))%len(b.roots)]+path, body)
}

// set replaces the processes, once the requests which are under way are answered.
func (b *balancer) set(roots ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roots = roots
}

// growing is a cluster of two vminserts and two vmselects behind balancers, which gets more storage nodes under load.
type growing struct {
	t                *testing.T
	storage          []*storageNode
	inserts, selects [2]*process
	addrs            [4]string // of inserts, then selects
	writes, reads    balancer

	pause sync.RWMutex // shared by writers while they write
	seed  uint64
	// Series are numbered; in a round a sample of each of a range of them is sent, a minority of which is new.
	sentSeries, sentSamples   atomic.Int64
	ackedSeries, ackedSamples atomic.Int64
	rounds, queries           atomic.Int64
	stop                      chan struct{}
	load                      sync.WaitGroup
}

const (
	growPath = "/insert/0/prometheus/api/v1/import/prometheus"
	growRows = 40 // of a write
)

func startGrowing(t *testing.T, nodes int, insertArgs, selectArgs func(n []*storageNode) []string) *growing {
	t.Helper()
	g := &growing{t: t, stop: make(chan struct{}), seed: uint64(time.Now().UnixNano())}
	t.Logf("seed %d", g.seed)
	for range nodes {
		g.addStorage()
	}
	for i := range g.inserts {
		g.addrs[i], g.addrs[2+i] = freeAddr(t), freeAddr(t)
		g.inserts[i] = start(t, spec{name: fmt.Sprintf("vminsert-%d", i+1), binary: "vminsert", args: append([]string{"-httpListenAddr=" + g.addrs[i]}, insertArgs(g.storage)...)})
		g.selects[i] = start(t, spec{name: fmt.Sprintf("vmselect-%d", i+1), binary: "vmselect", args: append([]string{"-httpListenAddr=" + g.addrs[2+i]}, selectArgs(g.storage)...)})
	}
	for i := range g.inserts {
		g.inserts[i].httpAddr()
		g.selects[i].httpAddr()
		for _, n := range g.storage {
			g.inserts[i].waitLog(dialed(n.insert))
			g.selects[i].waitLog(dialed(n.sel))
		}
	}
	g.writes.set("http://"+g.addrs[0], "http://"+g.addrs[1])
	g.reads.set("http://"+g.addrs[2], "http://"+g.addrs[3])
	return g
}

func (g *growing) addStorage() *storageNode {
	g.t.Helper()
	n := startStorage(g.t, fmt.Sprintf("vmstorage-%d", len(g.storage)+1))
	n.ready()
	g.storage = append(g.storage, n)
	return n
}

// run starts the load, until the function it returns is called: before the end of the test, which stops the processes.
func (g *growing) run() func() {
	for k := range uint64(2) {
		g.load.Go(func() { g.write(rand.New(rand.NewPCG(g.seed, k))) })
	}
	g.load.Go(g.query)
	return func() {
		close(g.stop)
		g.load.Wait()
	}
}

func (g *growing) ended() bool {
	select {
	case <-g.stop:
		return true
	default:
		return g.t.Failed()
	}
}

// write sends samples of old and new series. Every write has to succeed.
func (g *growing) write(rng *rand.Rand) {
	for !g.ended() {
		g.pause.RLock()
		fresh := int64(rng.IntN(growRows / 4))
		first := g.sentSeries.Add(fresh) - fresh
		var body strings.Builder
		at := fixed + g.rounds.Add(1)%(1<<20) // a millisecond each, so that no sample replaces another
		for i := range int64(growRows) {
			n := first + i
			if i >= fresh {
				if n = first - growRows + i; n < 0 {
					continue
				}
			}
			fmt.Fprintf(&body, "g{i=\"%d\"} 1 %d\n", n, at)
		}
		rows := int64(strings.Count(body.String(), "\n"))
		g.sentSamples.Add(rows)
		a, err := g.writes.do(http.MethodPost, growPath, []byte(body.String()))
		if err != nil || a.status != http.StatusNoContent {
			g.t.Errorf("a write failed: %v %s", err, a)
		}
		g.ackedSeries.Add(fresh)
		g.ackedSamples.Add(rows)
		g.pause.RUnlock()
	}
}

// query asks for the numbers of series and samples. Every answer has to be whole, and to have what was acknowledged before the question.
func (g *growing) query() {
	for !g.ended() {
		g.check(false)
		g.queries.Add(1)
	}
}

// check compares answers with what was written, exactly when nobody writes.
func (g *growing) check(exact bool) {
	for _, c := range []struct {
		query       string
		acked, sent *atomic.Int64
	}{{"count(last_over_time(g[1h]))", &g.ackedSeries, &g.sentSeries}, {"sum(count_over_time(g[1h]))", &g.ackedSamples, &g.sentSamples}} {
		least := c.acked.Load()
		a, err := g.reads.do(http.MethodGet, "/select/0/prometheus/api/v1/query?nocache=1&time="+seconds(fixed+1<<20)+"&query="+c.query, nil)
		most := c.sent.Load()
		if err != nil || a.status != http.StatusOK {
			g.t.Errorf("%s failed: %v %s", c.query, err, a)
			return
		}
		var q queried
		got := int64(0)
		if err := json.Unmarshal([]byte(a.body), &q); err != nil || q.IsPartial {
			g.t.Errorf("%s: partial answer, or none: %v %s", c.query, err, a)
			return
		}
		for _, r := range q.Data.Result {
			var text string
			if err := json.Unmarshal(r.Value[1], &text); err == nil {
				got, _ = strconv.ParseInt(text, 10, 64)
			}
		}
		if got < least || got > most || exact && got != most {
			g.t.Errorf("%s is %d; want %d to %d", c.query, got, least, most)
		}
	}
}

// progress waits until more has been written and read.
func (g *growing) progress() {
	g.t.Helper()
	rounds, queries := g.rounds.Load()+40, g.queries.Load()+10
	eventually(g.t, patience, "writes and queries", func() error {
		if r, q := g.rounds.Load(), g.queries.Load(); !g.t.Failed() && (r < rounds || q < queries) {
			return fmt.Errorf("%d of %d writes, %d of %d queries", r, rounds, q, queries)
		}
		return nil
	})
}

// still compares exactly while nobody writes.
func (g *growing) still() {
	g.t.Helper()
	g.pause.Lock()
	defer g.pause.Unlock()
	g.check(true)
	if g.t.Failed() {
		g.t.FailNow()
	}
}

// grown checks that the newest node takes its part of the load.
func (g *growing) grown() {
	g.t.Helper()
	g.progress()
	waitMetric(g.t, 1, g.storage[len(g.storage)-1].http, "vm_rows_added_to_storage_total")
	g.still()
}

// restart starts a process again with one more argument, while the other one of its kind takes the requests.
func (g *growing) restart(b *balancer, p *process, own, other, arg, dialing string) {
	g.t.Helper()
	b.set("http://" + other)
	p.stop(syscall.SIGTERM)
	p.spec.args = append(p.spec.args, arg)
	p.run()
	p.httpAddr()
	p.waitLog(dialed(dialing))
	b.set("http://"+own, "http://"+other)
}

// TestGrowthByRestarts adds a storage node, then restarts the vmselects with it one by one, then the vminserts.
func TestGrowthByRestarts(t *testing.T) {
	t.Parallel()
	g := startGrowing(t, 2, func(n []*storageNode) []string {
		return []string{"-storageNode=" + n[0].insert, "-storageNode=" + n[1].insert}
	},
		func(n []*storageNode) []string {
			return []string{"-storageNode=" + n[0].sel, "-storageNode=" + n[1].sel}
		})
	defer g.run()()
	g.progress()
	n := g.addStorage()
	g.progress()
	for i := range 2 {
		g.restart(&g.reads, g.selects[i], g.addrs[2+i], g.addrs[3-i], "-storageNode="+n.sel, n.sel)
		g.progress()
	}
	g.still()
	for i := range 2 {
		g.restart(&g.writes, g.inserts[i], g.addrs[i], g.addrs[1-i], "-storageNode="+n.insert, n.insert)
		g.progress()
	}
	g.grown()
}

// TestGrowthByDiscovery adds two storage nodes, one after the other, to lists which the vmselects and then the vminserts follow, with two copies of all samples.
func TestGrowthByDiscovery(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inserts, selects := filepath.Join(dir, "inserts"), filepath.Join(dir, "selects")
	list := func(path string, nodes []*storageNode, addr func(n *storageNode) string) {
		var text strings.Builder
		for _, n := range nodes {
			text.WriteString(addr(n) + "\n")
		}
		writeWhole(t, path, text.String())
	}
	insertOf, selOf := func(n *storageNode) string { return n.insert }, func(n *storageNode) string { return n.sel }
	args := func(path string, addr func(n *storageNode) string) func(n []*storageNode) []string {
		return func(n []*storageNode) []string {
			list(path, n, addr)
			return []string{"-storageNode=file:" + path, "-storageNode.discoveryInterval=50ms", "-replicationFactor=2"}
		}
	}
	g := startGrowing(t, 2, args(inserts, insertOf), args(selects, selOf))
	defer g.run()()
	g.progress()
	for range 2 {
		g.addStorage()
		g.progress()
		list(selects, g.storage, selOf)
		for i := range 2 {
			waitMetric(t, float64(len(g.storage)), g.addrs[2+i], "vm_storage_nodes")
		}
		g.progress()
		list(inserts, g.storage, insertOf)
		for i := range 2 {
			waitMetric(t, float64(len(g.storage)), g.addrs[i], "vm_storage_nodes")
		}
		g.grown()
	}
	for i := range 2 {
		if n := mustMetric(t, g.addrs[i], "vm_rpc_rows_incompletely_replicated_total"); n != 0 {
			t.Errorf("%v rows have one copy only", n)
		}
	}
}
