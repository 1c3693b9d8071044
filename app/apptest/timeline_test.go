package apptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// seen is what a client saw of one request.
type seen struct {
	began   time.Time
	took    time.Duration
	status  int // 0: there was no answer
	partial bool
}

// timeline is what clients saw, request by request. It is safe for concurrent use.
type timeline struct {
	mu   sync.Mutex
	list []seen
}

func (l *timeline) note(began time.Time, status int, partial bool) {
	s := seen{began, time.Since(began), status, partial}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, s)
}

// summary is what was seen of the requests that ended after one point in time and began before another.
type summary struct {
	requests, failed, refused, partial int // failed: of any status but success; refused: of those, answered 503
	p50, p99, max                      time.Duration
}

func (l *timeline) between(from, to time.Time) summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s summary
	var times []time.Duration
	for _, x := range l.list {
		if x.began.Add(x.took).Before(from) || x.began.After(to) {
			continue
		}
		s.requests++
		times = append(times, x.took)
		if x.partial {
			s.partial++
		}
		if x.status == http.StatusServiceUnavailable {
			s.refused++
		}
		if x.status != http.StatusOK && x.status != http.StatusNoContent {
			s.failed++
		}
	}
	if slices.Sort(times); len(times) > 0 {
		s.p50, s.p99, s.max = times[len(times)/2], times[(len(times)*99)/100], times[len(times)-1]
	}
	return s
}

// times writes the times as a table does.
func (s summary) times() string {
	text := ""
	for _, d := range []time.Duration{s.p50, s.p99, s.max} {
		if text += " / "; d < time.Second {
			text += fmt.Sprintf("%d ms", d.Milliseconds())
		} else {
			text += fmt.Sprintf("%.1f s", d.Seconds())
		}
	}
	return text[len(" / "):]
}

// questions ask all the time for what a load has written. An answer that is not partial must be exact.
type questions struct {
	l     *load
	base  string
	quit  chan struct{}
	wg    sync.WaitGroup
	seen  timeline
	asked atomic.Int64
	mu    sync.Mutex
	wrong []error
}

// startQuestions starts the clients, which are stopped at the end of the test at the latest.
func startQuestions(t testing.TB, l *load, base string) *questions {
	q := &questions{l: l, base: base, quit: make(chan struct{})}
	for i := range 2 {
		q.wg.Go(func() {
			for n := i; ; n++ {
				if err := q.ask(n % loadWriters); err != nil {
					q.mu.Lock()
					q.wrong = append(q.wrong, err)
					q.mu.Unlock()
				}
				q.asked.Add(1)
				select {
				case <-q.quit:
					return
				case <-time.After(l.pause):
				}
			}
		})
	}
	t.Cleanup(func() { q.stop(t) })
	return q
}

// stop ends the clients and fails the test when an answer was wrong.
func (q *questions) stop(t testing.TB) {
	t.Helper()
	select {
	case <-q.quit:
		return
	default:
		close(q.quit)
	}
	q.wg.Wait()
	for _, err := range q.wrong[:min(len(q.wrong), 5)] {
		t.Error(err)
	}
	if n := len(q.wrong); n > 0 {
		t.Errorf("%d answers were wrong", n)
	}
}

// ask asks for the sum of what a writer has written last and was acknowledged.
func (q *questions) ask(w int) error {
	q.l.mu.Lock()
	n, r := len(q.l.mu.acked[w]), 0
	if n > 0 {
		r = q.l.mu.acked[w][n-1]
	}
	q.l.mu.Unlock()
	if n == 0 {
		return nil
	}
	want := 0.0
	for s := range loadSeries {
		want += loadValue(w, r, s)
	}
	args := url.Values{"query": {fmt.Sprintf(`sum(load{writer="%d"})`, w)}, "time": {seconds(q.l.start + int64(r)*loadStepMs)}, "latency_offset": {"0s"}, "nocache": {"1"}}
	began := time.Now()
	a, err := do(http.MethodGet, q.base+"/api/v1/query?"+args.Encode(), nil)
	var answer queried
	if err != nil || a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &answer) != nil {
		if err != nil {
			a.status = 0
		}
		q.seen.note(began, a.status, false)
		return nil
	}
	q.seen.note(began, a.status, answer.IsPartial)
	got := "nothing"
	if list := answer.Data.Result; len(list) == 1 {
		if got, err = strconv.Unquote(string(list[0].Value[1])); err != nil {
			return err
		}
	}
	if answer.IsPartial || number(got) == want {
		return nil
	}
	return fmt.Errorf("the sum of request %d of writer %d is %s, which does not count as partial; want %v", r, w, got, want)
}

// waitAsked waits until n more questions have been answered in some way.
func (q *questions) waitAsked(t testing.TB, n int64) {
	t.Helper()
	want := q.asked.Load() + n
	eventually(t, patience, fmt.Sprintf("%d more questions", n), func() error {
		if got := q.asked.Load(); got < want {
			return fmt.Errorf("%d are missing", want-got)
		}
		return nil
	})
}
