package insertapi

import (
	"context"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
)

// limiter bounds the number of writes under way.
type limiter struct {
	slots    chan struct{}
	maxWait  time.Duration
	reached  *metrics.Counter
	timeouts *metrics.Counter
}

func newLimiter(capacity int, maxWait time.Duration, set *metrics.Set) *limiter {
	l := &limiter{
		slots:    make(chan struct{}, max(capacity, 1)),
		maxWait:  maxWait,
		reached:  set.Counter("vm_concurrent_insert_limit_reached_total"),
		timeouts: set.Counter("vm_concurrent_insert_limit_timeout_total"),
	}
	set.Gauge("vm_concurrent_insert_capacity", func() float64 { return float64(cap(l.slots)) })
	set.Gauge("vm_concurrent_insert_current", func() float64 { return float64(len(l.slots)) })
	return l
}

// acquire takes a slot, which release gives back. It waits for one no longer than allowed and
// returns an error of kind Overloaded or, when ctx ends, of the kind of its error.
func (l *limiter) acquire(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	l.reached.Inc()
	timer := time.NewTimer(l.maxWait)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errkind.New(errkind.Of(ctx.Err()), "cannot wait for a turn to write: %w", ctx.Err())
	case <-timer.C:
		l.timeouts.Inc()
		return errkind.New(errkind.Overloaded, "cannot process write within -insert.maxQueueDuration=%s, since %d others are being processed (-maxConcurrentInserts); "+
			"add CPU or vminsert nodes, or look for slow storage nodes", l.maxWait, cap(l.slots)).WithRetryAfter(10 * time.Second)
	}
}

func (l *limiter) release() { <-l.slots }
