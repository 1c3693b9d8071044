package apptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The shape of a load: so many writers send requests with one sample for each of their series.
const (
	loadWriters = 4
	loadSeries  = 50
	loadPause   = 2 * time.Millisecond // of a writer between requests, which leaves the machine some air
	loadStepMs  = 1000                 // between the samples of a series
)

// load writes without end. The value of each sample tells which one it is, so that a sample which is
// missing, doubled or mixed up with another is noticed; which requests were acknowledged is remembered.
type load struct {
	target  string
	pause   time.Duration
	repeats bool  // a request that fails is sent again until it is acknowledged, as agents do
	start   int64 // timestamp of the first sample
	quit    chan struct{}
	wg      sync.WaitGroup
	acked   atomic.Int64               // requests
	failed  atomic.Int64               // requests
	results [loadWriters]map[int]bool  // acknowledged or not, by number of the request; read after stop
	last    [loadWriters]error         // failure, for messages
	slowest [loadWriters]time.Duration // request that was acknowledged
	seen    timeline
	mu      struct {
		sync.Mutex
		acked [loadWriters][]int // numbers of acknowledged requests, for those who read meanwhile
	}
}

// startLoad starts the writers, which are stopped at the end of the test at the latest.
func startLoad(t testing.TB, target string) *load {
	l := &load{target: target, pause: loadPause}
	l.run(t)
	return l
}

func (l *load) run(t testing.TB) {
	l.start, l.quit = time.Now().Add(-12*time.Hour).Truncate(time.Hour).UnixMilli(), make(chan struct{})
	for w := range loadWriters {
		l.results[w] = map[int]bool{}
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			l.write(w)
		}()
	}
	t.Cleanup(l.stop)
}

func (l *load) stop() {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.wg.Wait()
}

// write is the life of a writer. A request that fails may be stored or not.
func (l *load) write(w int) {
	for r := 0; ; {
		list := make([]ts, loadSeries)
		for s := range list {
			list[s] = series("__name__", "load", "writer", strconv.Itoa(w), "series", strconv.Itoa(s)).at(l.start+int64(r)*loadStepMs, loadValue(w, r, s))
		}
		began := time.Now()
		a, err := remoteWrite(l.target, list...)
		l.seen.note(began, a.status, false)
		if err == nil && a.status != http.StatusNoContent {
			err = fmt.Errorf("%s", a)
		}
		l.results[w][r] = err == nil
		if err == nil {
			l.mu.Lock()
			l.mu.acked[w] = append(l.mu.acked[w], r)
			l.mu.Unlock()
			l.acked.Add(1)
			l.slowest[w] = max(l.slowest[w], time.Since(began))
		} else {
			l.failed.Add(1)
			l.last[w] = err
		}
		if err == nil || !l.repeats {
			r++
		}
		select {
		case <-l.quit:
			return
		case <-time.After(l.pause):
		}
	}
}

func loadValue(w, r, s int) float64 { return float64((w*1_000_000+r)*loadSeries + s) }

// waitAcked waits until n more requests are acknowledged.
func (l *load) waitAcked(t testing.TB, n int64) {
	t.Helper()
	want := l.acked.Load() + n
	eventually(t, patience, fmt.Sprintf("%d more acknowledged writes", n), func() error {
		if got := l.acked.Load(); got < want {
			return fmt.Errorf("%d are missing; %d requests failed so far", want-got, l.failed.Load())
		}
		return nil
	})
}

// check compares what is stored with what was acknowledged. The load must be stopped.
func (l *load) check(t testing.TB, base string) {
	t.Helper()
	for w := range loadWriters {
		stored := export(t, base, fmt.Sprintf(`load{writer="%d"}`, w), "reduce_mem_usage", "1")
		seen := map[[2]int]bool{} // request, series
		wrong := 0
		for key, points := range stored {
			wrong += l.checkSeries(t, w, key, points, seen)
		}
		acked, missing := 0, 0
		for r, ok := range l.results[w] {
			for s := range loadSeries {
				if !ok {
					continue
				}
				acked++
				if !seen[[2]int{r, s}] {
					missing++
				}
			}
		}
		if missing > 0 || wrong > 0 || acked == 0 {
			t.Errorf("writer %d: of %d acknowledged samples %d are missing; %d stored ones are wrong", w, acked, missing, wrong)
		}
		t.Logf("writer %d: %d samples acknowledged, %d stored, slowest acknowledged request %s, last failure: %v", w, acked, len(seen), l.slowest[w], l.last[w])
	}
	t.Logf("%d requests acknowledged, %d failed", l.acked.Load(), l.failed.Load())
}

// checkSeries marks the samples of a series as seen and returns how many are wrong.
func (l *load) checkSeries(t testing.TB, w int, key string, points []point, seen map[[2]int]bool) (wrong int) {
	t.Helper()
	var labels map[string]string
	if err := json.Unmarshal([]byte(key), &labels); err != nil {
		t.Fatal(err)
	}
	s, err := strconv.Atoi(labels["series"])
	if err != nil || s >= loadSeries || len(labels) != 3 {
		t.Errorf("series %s was never written", key)
		return len(points)
	}
	previous := int64(-1)
	for _, p := range points {
		r := int(p.ms-l.start) / loadStepMs
		_, sent := l.results[w][r]
		if !sent || p.ms != l.start+int64(r)*loadStepMs || number(p.value) != loadValue(w, r, s) || p.ms <= previous {
			wrong++
			t.Logf("series %s: wrong sample %s@%d after %d", key, p.value, p.ms, previous)
		}
		previous = p.ms
		seen[[2]int{r, s}] = true
	}
	return wrong
}

// rounds is how often a node is killed.
func rounds(full int) int {
	if testing.Short() {
		return min(full, 2)
	}
	return full
}

// TestKilledStorageNodes: what was acknowledged survives kill -9 of a storage node under load, again and again, also in the
// middle of a flush or a merge.
func TestKilledStorageNodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	l := startLoad(t, c.writeURL("0")+"/api/v1/write")
	l.waitAcked(t, 100)
	for round := range rounds(10) {
		n := c.storage[round%2]
		switch round % 4 {
		case 1, 2:
			go func() { _, _ = do(http.MethodGet, "http://"+n.http+"/internal/force_flush", nil) }() // fails when the node dies
			l.waitAcked(t, int64(1+round))
		case 3:
			n.flush()
			go func() { _, _ = do(http.MethodGet, "http://"+n.http+"/internal/force_merge", nil) }() // fails when the node dies
			l.waitAcked(t, int64(1+round))
		default:
			l.waitAcked(t, 300)
		}
		n.kill()
		l.waitAcked(t, 100) // rows go to the other node
		n.restart()
		waitMetric(t, 1, c.insertAddr, "vm_rpc_vmstorage_is_reachable", fmt.Sprintf("addr=%q", n.insert))
	}
	l.waitAcked(t, 50)
	l.stop()
	c.waitWhole()
	l.check(t, c.readURL("0"))
	c.flush()
	l.check(t, c.readURL("0"))
	checkCount(t, c.readURL("0"), l)
}

// checkCount: a query sees as many samples as an export.
func checkCount(t *testing.T, base string, l *load) {
	t.Helper()
	end := l.start + 24*3600*1000 - 1 // the window does not hold its start
	got := instant(t, base, `sum(count_over_time(load[1d]))`, end)
	if want := fmt.Sprintf("[{} %d]", export(t, base, "load").samples()); fmt.Sprint(got) != want {
		t.Errorf("a query counts %v samples; want %s", got, want)
	}
}

// TestKilledSingleNode does the same to a single node, whose writers have nowhere else to go.
func TestKilledSingleNode(t *testing.T) {
	t.Parallel()
	s := startSingle(t)
	l := startLoad(t, s.url("/api/v1/write"))
	for range rounds(3) {
		l.waitAcked(t, 150)
		s.kill()
		s.restart()
	}
	l.waitAcked(t, 50)
	l.stop()
	l.check(t, s.url(""))
	s.stop(syscall.SIGINT)
	s.restart()
	l.check(t, s.url(""))
	checkCount(t, s.url("/prometheus"), l)
}

// TestStoppedUnderLoad: a graceful stop under load loses nothing, and writers get through all the time.
func TestStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	l := startLoad(t, c.writeURL("0")+"/api/v1/write")
	for _, n := range c.storage {
		l.waitAcked(t, 100)
		n.stop(syscall.SIGTERM)
		l.waitAcked(t, 50)
		n.restart()
		waitMetric(t, 1, n.http, "vm_vminsert_metrics_read_total")
	}
	l.stop()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d writes failed, although one of the nodes was always there: %v", n, l.last)
	}
	c.waitWhole()
	l.check(t, c.readURL("0"))
}

// TestFrozenStorageNode: a node that does not answer for a while, but is not gone either, holds up nobody for
// long, and nothing that was acknowledged is lost.
func TestFrozenStorageNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	l := startLoad(t, c.writeURL("0")+"/api/v1/write")
	l.waitAcked(t, 100)
	frozen := c.storage[0]
	frozen.freeze()
	defer frozen.signal(syscall.SIGCONT) // so that it can be stopped when the test fails here
	began := time.Now()
	// All writers have requests under way to the frozen node; they go on when those are sent elsewhere.
	l.waitAcked(t, 10*loadWriters)
	t.Logf("writes went on after %s", time.Since(began))
	a := get(t, c.readURL("0")+"/api/v1/labels", "start", "-1d")
	a.want(t, http.StatusOK, `"isPartial":true`)
	l.waitAcked(t, 100)
	frozen.signal(syscall.SIGCONT)
	l.waitAcked(t, 100)
	l.stop()
	c.waitWhole()
	l.check(t, c.readURL("0"))
}

// TestKilledInsertNode: vminsert keeps nothing, so when it is killed under load nothing that it acknowledged is lost.
func TestKilledInsertNode(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	l := startLoad(t, c.writeURL("0")+"/api/v1/write")
	for range rounds(4) {
		l.waitAcked(t, 100)
		c.insert.kill()
		c.insert.run()
		c.insert.httpAddr()
	}
	l.waitAcked(t, 50)
	l.stop()
	l.check(t, c.readURL("0"))
	c.sel.kill()
	c.sel.run()
	c.sel.httpAddr()
	c.waitWhole()
	l.check(t, c.readURL("0"))
}
