package transport

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
)

// Limiter bounds how many calls are worked on at once. The rest waits, up to a time.
type Limiter struct {
	slots    chan struct{}
	maxWait  time.Duration
	hint     string
	reached  atomic.Uint64
	timeouts atomic.Uint64
}

// NewLimiter returns a limiter of n calls (0: twice the CPUs). Hint names the
// flags to change, for error messages.
func NewLimiter(n int, maxWait time.Duration, hint string) *Limiter {
	if n <= 0 {
		n = 2 * runtime.GOMAXPROCS(0)
	}
	return &Limiter{slots: make(chan struct{}, n), maxWait: maxWait, hint: hint}
}

// Acquire waits for a turn. An error of kind Overloaded says that there was
// none in time.
func (l *Limiter) Acquire(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	l.reached.Add(1)
	timer := time.NewTimer(l.maxWait)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		l.timeouts.Add(1)
		return errkind.New(errkind.Overloaded, "cannot start request: %d others are running and none ended within %s; see %s",
			cap(l.slots), l.maxWait, l.hint).WithRetryAfter(max(time.Second, l.maxWait/2))
	}
}

// Release ends a turn.
func (l *Limiter) Release() { <-l.slots }

// Current returns how many calls are worked on.
func (l *Limiter) Current() int { return len(l.slots) }

// Capacity returns how many calls may be worked on at once.
func (l *Limiter) Capacity() int { return cap(l.slots) }

// LimitReached returns how many calls had to wait.
func (l *Limiter) LimitReached() uint64 { return l.reached.Load() }

// LimitTimeouts returns how many calls waited in vain.
func (l *Limiter) LimitTimeouts() uint64 { return l.timeouts.Load() }

// Register adds the metrics <prefix>_current, _capacity, _limit_reached_total and
// _limit_timeout_total to the set. Labels, such as {addr="x"}, go to the counters.
func (l *Limiter) Register(set *metrics.Set, prefix, labels string) {
	set.Gauge(prefix+"_current", func() float64 { return float64(l.Current()) })
	set.Gauge(prefix+"_capacity", func() float64 { return float64(l.Capacity()) })
	set.CounterFunc(prefix+"_limit_reached_total"+labels, func() float64 { return float64(l.LimitReached()) })
	set.CounterFunc(prefix+"_limit_timeout_total"+labels, func() float64 { return float64(l.LimitTimeouts()) })
}
