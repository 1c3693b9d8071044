package apptest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"syscall"
	"testing"

	"vmcluster/app/internal/bench"
)

const newSeries = "vm_new_timeseries_created_total"

// TestRollingRestart: all storage nodes are restarted one by one under load, twice. No write fails, nothing is lost, and the neighbours of a node register no
// more series than it has, the second time none.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	for copies := 1; copies <= 2; copies++ {
		t.Run(fmt.Sprint(copies, " copies"), func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, clusterOptions{nodes: 3, insertArgs: []string{fmt.Sprintf("-replicationFactor=%d", copies)}, selectArgs: []string{"-dedup.minScrapeInterval=1ms"}})
			l := startLoad(t, c.writeURL("0")+"/api/v1/write")
			l.waitAcked(t, 50)
			shares, total := map[*storageNode]float64{}, 0.0
			for _, n := range c.storage {
				shares[n] = mustMetric(t, n.http, newSeries)
				total += shares[n]
			}
			if want := float64(copies * loadWriters * loadSeries); total != want {
				t.Errorf("the nodes have %v series; want %v", total, want)
			}
			for pass := range rounds(2) {
				for _, n := range c.storage {
					grown := c.restartUnderLoad(l, n)
					t.Logf("pass %d, %s has %v series, the others have registered %v", pass+1, n.spec.name, shares[n], grown)
					if grown > shares[n] || pass == 1 && grown > 0 {
						t.Errorf("pass %d: while %s with its %v series was restarted, the others registered %v series", pass+1, n.spec.name, shares[n], grown)
					}
				}
			}
			l.stop()
			if n := l.failed.Load(); n > 0 {
				t.Errorf("%d writes failed: %v", n, l.last)
			}
			c.checkCopies(l, copies)
		})
	}
}

// TestRollingRestartAtFullSpeed does it while a dataset is sent again and again, as fast as it is taken.
func TestRollingRestartAtFullSpeed(t *testing.T) {
	t.Parallel()
	d := modestDataset(t)
	c := startCluster(t, clusterOptions{nodes: 3, insertArgs: []string{"-replicationFactor=2"}, selectArgs: []string{"-dedup.minScrapeInterval=1ms"}})
	d.send(t, c.writeURL("0"))
	shares := map[*storageNode]float64{}
	for _, n := range c.storage {
		shares[n] = mustMetric(t, n.http, newSeries)
	}
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() { sent <- d.sendOn(ctx, c.writeURL("0")) }()
	for pass := range rounds(2) {
		for _, n := range c.storage {
			others := c.registered(n)
			n.stop(syscall.SIGTERM)
			c.waitSent(20_000)
			n.restart()
			c.waitRows(n)
			c.waitSent(20_000)
			grown := c.registered(n) - others
			t.Logf("pass %d, %s has %v series, the others have registered %v", pass+1, n.spec.name, shares[n], grown)
			if grown > shares[n] || pass == 1 && grown > 0 {
				t.Errorf("pass %d: while %s with its %v series was restarted, the others registered %v series", pass+1, n.spec.name, shares[n], grown)
			}
		}
	}
	stop()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	c.waitWhole()
	d.check(t, c.readURL("0"))
}

// sendOn sends the dataset again and again until ctx ends.
func (d *modest) sendOn(ctx context.Context, root string) error {
	for {
		res, err := bench.Ingest(ctx, bench.IngestOptions{Dataset: d.dir, URL: root + "/api/v1/write", Conns: 4, ToScrape: math.MaxInt})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case res.Retries != 0:
			return fmt.Errorf("%d requests were refused at first", res.Retries)
		}
	}
}

// waitSent waits until so many more rows are acknowledged by storage nodes.
func (c *cluster) waitSent(rows float64) {
	c.t.Helper()
	waitMetric(c.t, mustMetric(c.t, c.insertAddr, "vm_rpc_rows_sent_total")+rows, c.insertAddr, "vm_rpc_rows_sent_total")
}

// restartUnderLoad restarts a node in an orderly way and returns how many series the other nodes have registered meanwhile.
func (c *cluster) restartUnderLoad(l *load, n *storageNode) float64 {
	c.t.Helper()
	before := c.registered(n)
	n.stop(syscall.SIGTERM)
	l.waitAcked(c.t, 50)
	n.restart()
	c.waitRows(n)
	l.waitAcked(c.t, 50)
	if own := mustMetric(c.t, n.http, newSeries); own > 0 {
		c.t.Errorf("%s has registered %v series after its restart, which it must have known", n.spec.name, own)
	}
	return c.registered(n) - before
}

// registered returns how many series the nodes but one have registered since they were started.
func (c *cluster) registered(but *storageNode) float64 {
	c.t.Helper()
	sum := 0.0
	for _, n := range c.storage {
		if n != but {
			sum += mustMetric(c.t, n.http, newSeries)
		}
	}
	return sum
}

// waitRows waits until a node which was started again gets rows.
func (c *cluster) waitRows(n *storageNode) {
	c.t.Helper()
	waitMetric(c.t, 1, n.http, "vm_vminsert_metrics_read_total")
}

// checkCopies checks what is stored with any nodes missing which the copies make up for.
func (c *cluster) checkCopies(l *load, copies int) {
	c.t.Helper()
	c.waitWhole()
	l.check(c.t, c.readURL("0"))
	if got := mustMetric(c.t, c.insertAddr, "vm_rpc_rows_incompletely_replicated_total"); got > 0 {
		c.t.Errorf("%v rows were not replicated as often as they should be", got)
	}
	if copies != 2 {
		return
	}
	for _, missing := range c.storage {
		addr := freeAddr(c.t)
		args := []string{"-httpListenAddr=" + addr, "-dedup.minScrapeInterval=1ms"}
		for _, n := range c.storage {
			if n != missing {
				args = append(args, "-storageNode="+n.sel)
			}
		}
		p := start(c.t, spec{name: "vmselect without " + missing.spec.name, binary: "vmselect", args: args})
		p.httpAddr()
		other := &cluster{t: c.t, selectAddr: addr}
		other.waitWhole()
		l.check(c.t, other.readURL("0"))
		p.stop(syscall.SIGTERM)
	}
}

// TestKilledReplicas: with two copies and one node down at a time, what was acknowledged is readable without any one of the nodes.
func TestKilledReplicas(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{nodes: 3, insertArgs: []string{"-replicationFactor=2"}, selectArgs: []string{"-dedup.minScrapeInterval=1ms"}})
	l := startLoad(t, c.writeURL("0")+"/api/v1/write")
	for round := range rounds(6) {
		n := c.storage[round%3]
		l.waitAcked(t, 50)
		n.kill()
		l.waitAcked(t, 50)
		n.restart()
		c.waitRows(n)
	}
	l.waitAcked(t, 50)
	l.stop()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d writes failed, although two nodes were always there: %v", n, l.last)
	}
	c.checkCopies(l, 2)
}

// TestDrain: a node that stops tells its insert nodes one after the other, takes no rows of those it has told, and answers reads until the end.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	addr := freeAddr(t)
	args := []string{"-httpListenAddr=" + addr}
	for _, n := range c.storage {
		args = append(args, "-storageNode="+n.insert)
	}
	second := start(t, spec{name: "vminsert-2", binary: "vminsert", args: args})
	second.httpAddr()
	leaving := c.storage[0]
	second.waitLog(dialed(leaving.insert))
	loads := []*load{startLoad(t, c.writeURL("0")+"/api/v1/write"), startLoad(t, "http://"+addr+"/insert/1/prometheus/api/v1/write")}
	for _, l := range loads {
		l.waitAcked(t, 50)
	}
	leaving.signal(syscall.SIGTERM)
	const told = `^storage node ".*" is shutting down, its rows go to other nodes until it is back`
	compiled := regexp.MustCompile(told)
	eventually(t, patience, "one insert node is told", func() error {
		if c.insert.stderr.find(compiled) == nil && second.stderr.find(compiled) == nil {
			return fmt.Errorf("neither log says %q", told)
		}
		return nil
	})
	// The other one is told seconds later.
	if !leaving.running() {
		t.Error("the node has ended before it told both")
	}
	get(t, c.readURL("0")+"/api/v1/labels", "start", "-1d").want(t, http.StatusOK, `"isPartial":false`)
	c.insert.waitLog(told)
	second.waitLog(told)
	if status := leaving.wait(startTimeout); status != 0 {
		t.Errorf("the node ended with status %d", status)
	}
	for _, l := range loads {
		l.waitAcked(t, 50)
		l.stop()
		if n := l.failed.Load(); n > 0 {
			t.Errorf("%d writes failed: %v", n, l.last)
		}
	}
	leaving.restart()
	c.waitWhole()
	loads[0].check(t, c.readURL("0"))
	loads[1].check(t, c.readURL("1"))
}
