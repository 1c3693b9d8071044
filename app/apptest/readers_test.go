package apptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// readers read all the time what a load writes. An answer may fail, when a node is not there; but one that is given has everything
// which was acknowledged before the question.
type readers struct {
	l       *load
	base    string
	quit    chan struct{}
	wg      sync.WaitGroup
	good    atomic.Int64 // answers that were right
	refused atomic.Int64 // answers that were refused, or not given at all
	mu      sync.Mutex
	wrong   []error
}

// startReaders starts the readers, which are stopped at the end of the test at the latest.
func startReaders(t testing.TB, l *load, base string) *readers {
	r := &readers{l: l, base: base, quit: make(chan struct{})}
	for i := range 2 {
		r.wg.Go(func() { r.read(i) })
	}
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends the readers and fails the test when an answer was wrong.
func (r *readers) stop(t testing.TB) {
	t.Helper()
	select {
	case <-r.quit:
		return
	default:
		close(r.quit)
	}
	r.wg.Wait()
	t.Logf("%d right answers to readers, %d refused", r.good.Load(), r.refused.Load())
	for _, err := range r.wrong {
		t.Error(err)
	}
	if r.good.Load() == 0 {
		t.Error("no reader got an answer")
	}
}

func (r *readers) read(i int) {
	for n := i; ; n++ {
		select {
		case <-r.quit:
			return
		case <-time.After(20 * time.Millisecond):
		}
		w := n % loadWriters
		err := r.check(w)
		switch {
		case err == nil:
			r.good.Add(1)
		case errors.Is(err, errRefused):
			r.refused.Add(1)
		default:
			r.mu.Lock()
			if len(r.wrong) < 10 {
				r.wrong = append(r.wrong, err)
			}
			r.mu.Unlock()
		}
	}
}

var errRefused = errors.New("the answer is refused")

// check asks for the last minutes of what a writer has written.
func (r *readers) check(w int) error {
	r.l.mu.Lock()
	acked := slices.Clone(r.l.mu.acked[w])
	r.l.mu.Unlock()
	acked = acked[max(0, len(acked)-100):]
	if len(acked) == 0 {
		return nil
	}
	from := r.l.start + int64(acked[0])*loadStepMs
	q := url.Values{"match[]": {fmt.Sprintf(`load{writer="%d"}`, w)}, "start": {seconds(from)}, "reduce_mem_usage": {"1"}}
	a, err := do(http.MethodGet, r.base+"/api/v1/export?"+q.Encode(), nil)
	if err != nil || a.status != http.StatusOK {
		return errRefused
	}
	stored, err := parseExport(a.body)
	if err != nil { // the node went away in the middle of the answer
		return errRefused
	}
	if len(stored) < loadSeries {
		return fmt.Errorf("writer %d: the answer has %d series; want %d", w, len(stored), loadSeries)
	}
	for key, points := range stored {
		if err := r.checkSeries(w, key, points, acked); err != nil {
			return err
		}
	}
	return nil
}

func (r *readers) checkSeries(w int, key string, points []point, acked []int) error {
	var labels map[string]string
	if err := json.Unmarshal([]byte(key), &labels); err != nil {
		return err
	}
	s, err := strconv.Atoi(labels["series"])
	if err != nil {
		return err
	}
	values := map[int64]float64{}
	for _, p := range points {
		values[p.ms] = number(p.value)
		if request := int(p.ms-r.l.start) / loadStepMs; number(p.value) != loadValue(w, request, s) {
			return fmt.Errorf("series %s has the value %s at %d; want %v", key, p.value, p.ms, loadValue(w, request, s))
		}
	}
	for _, request := range acked {
		if _, ok := values[r.l.start+int64(request)*loadStepMs]; !ok {
			return fmt.Errorf("series %s lacks the sample of request %d, which was acknowledged before the question", key, request)
		}
	}
	return nil
}

// TestReadersWhileNodesAreKilled: kill -9 of storage nodes under load, again and again. No answer that is given lacks anything
// acknowledged, and no value is wrong, neither meanwhile nor in the end.
func TestReadersWhileNodesAreKilled(t *testing.T) {
	t.Parallel()
	t.Run("single node", func(t *testing.T) {
		t.Parallel()
		s := startSingle(t)
		l := startLoad(t, s.url("/api/v1/write"))
		r := startReaders(t, l, s.url(""))
		for i := range rounds(5) {
			l.waitAcked(t, 100)
			if i%2 == 1 {
				go func() { _, _ = do(http.MethodGet, s.url("/internal/force_flush"), nil) }() // fails when the node dies
				l.waitAcked(t, int64(i))
			}
			s.kill()
			s.restart()
		}
		l.waitAcked(t, 50)
		l.stop()
		r.stop(t)
		l.check(t, s.url(""))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := startCluster(t, clusterOptions{})
		l := startLoad(t, c.writeURL("0")+"/api/v1/write")
		r := startReaders(t, l, c.readURL("0"))
		for i := range rounds(4) {
			n := c.storage[i%2]
			l.waitAcked(t, 100)
			n.kill()
			l.waitAcked(t, 50)
			n.restart()
			waitMetric(t, 1, c.insertAddr, "vm_rpc_vmstorage_is_reachable", fmt.Sprintf("addr=%q", n.insert))
			n.freeze() // and, as the next fault, stands still for a while
			l.waitAcked(t, 10)
			n.signal(syscall.SIGCONT)
		}
		l.waitAcked(t, 50)
		l.stop()
		c.waitWhole()
		r.stop(t)
		l.check(t, c.readURL("0"))
	})
}
