package streamaggr

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Options are the arguments of New.
type Options struct {
	Next    storageapi.Ingester // takes what is stored as it came, and what rules make of it
	Logger  *logger.Logger
	Metrics *metrics.Set
	Budget  *memory.Budget // nil: without bounds
}

// Aggregator is an Ingester before another one. It is safe for concurrent use; Close ends it.
type Aggregator struct {
	next    storageapi.Ingester
	logger  *logger.Logger
	warn    *logger.Throttle
	budget  *memory.Budget
	held    atomic.Int64
	shards  int // of a rule
	workers chan struct{}
	pushes  sync.Pool
	ages    *metrics.Histogram
	flushes *metrics.Histogram
	running sync.WaitGroup

	// Batches under way hold the lock for reading. Who changes the rules holds it, so that no batch is under way with old ones.
	mu    sync.RWMutex
	rules atomic.Pointer[generation]
}

// generation is the rules between two changes of them.
type generation struct {
	number   uint64
	rules    []*rule
	defaults Defaults
	none     route
}

var _ storageapi.Ingester = (*Aggregator)(nil)

// New returns an Aggregator without rules.
func New(o Options) *Aggregator {
	procs := runtime.GOMAXPROCS(0)
	a := &Aggregator{
		next: o.Next, logger: o.Logger, warn: logger.NewThrottle(o.Logger, 5*time.Second), budget: o.Budget,
		shards: min(max(4*procs, 8), 64), workers: make(chan struct{}, procs),
		ages:    o.Metrics.Histogram("vm_streamaggr_samples_lag_seconds"),
		flushes: o.Metrics.Histogram("vm_streamaggr_flush_duration_seconds"),
	}
	a.pushes.New = func() any { return &push{a: a} }
	a.rules.Store(&generation{})
	a.register(o.Metrics)
	return a
}

// Use replaces the rules. Those which say the same as before go on as if nothing had happened.
func (a *Aggregator) Use(c *Config) {
	now := time.Now().UnixMilli()
	old := a.rules.Load()
	g := &generation{number: old.number + 1, defaults: c.defaults}
	kept := map[*rule]bool{}
	for i := range c.rules {
		r := old.find(&c.rules[i], kept)
		if r == nil {
			r = newRule(&c.rules[i], a.shards, now)
			r.ages = a.ages
			for j := range r.shards {
				r.shards[j].room = room{budget: a.budget, total: &a.held}
			}
			a.running.Go(func() { a.run(r) })
		}
		kept[r] = true
		r.position.Store(int64(i + 1))
		g.rules = append(g.rules, r)
	}
	a.mu.Lock()
	a.rules.Store(g)
	a.mu.Unlock()
	for _, r := range old.rules {
		if !kept[r] {
			close(r.stop)
			<-r.done
		}
	}
}

// find returns a rule which says the same, and is not kept already.
func (g *generation) find(c *ruleConfig, kept map[*rule]bool) *rule {
	for _, r := range g.rules {
		if r.id == c.id && !kept[r] {
			return r
		}
	}
	return nil
}

// Close ends all rules, after a last flush of those which want one.
func (a *Aggregator) Close() error {
	a.Use(&Config{})
	a.running.Wait()
	return nil
}

// Ingest stores what no rule matches, or what is kept besides, and has the rules take the rest. Samples which are taken by rules alone live in memory.
func (a *Aggregator) Ingest(ctx context.Context, b *model.Batch) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	g := a.rules.Load()
	if len(g.rules) == 0 {
		return a.next.Ingest(ctx, b)
	}
	p := a.pushes.Get().(*push)
	defer p.release()
	p.rules, p.batch, p.now = g, b, time.Now().UnixMilli()
	p.sort()
	if err := p.store(ctx); err != nil {
		return err // before anything is counted, for the sender will send it again
	}
	return p.aggregate(ctx)
}

// release gives the push back.
func (p *push) release() {
	const most = 16 << 20
	if p.out.Size() > most {
		p.out = model.Batch{}
	}
	p.out.Reset()
	p.clear()
	clear(p.routes)
	p.rules, p.batch = nil, nil
	p.rest, p.bare, p.unknown, p.routes, p.gone = p.rest[:0], p.bare[:0], p.unknown[:0], p.routes[:0], p.gone[:0]
	p.a.pushes.Put(p)
}

// noRoom warns that there is no memory for a series.
func (a *Aggregator) noRoom(key []byte) {
	a.warn.Warnf("cannot aggregate series %s: there is no memory for it left; its samples are treated as if no rule matched them, and counted in "+
		"vm_streamaggr_ignored_samples_total{reason=\"memory\"}; use fewer labels or more specific matches in the rules, or raise -memory.allowedPercent", model.SeriesKeyString(key))
}

// run flushes a rule when it is due, until it is stopped.
func (a *Aggregator) run(r *rule) {
	defer close(r.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(r.wake()))
		select {
		case <-r.stop:
			a.finish(r)
			return
		case <-timer.C:
			a.tick(r, time.Now())
		}
	}
}

// tick does what is due.
func (a *Aggregator) tick(r *rule, at time.Time) {
	now := at.UnixMilli()
	if r.dedupMs > 0 && !r.windows && !r.passThrough && now >= r.nextDedup {
		for r.nextDedup <= now {
			r.nextDedup += r.dedupMs
		}
		r.settle()
		if time.Since(at) > r.dedup {
			r.slowDedups.Inc()
			a.warn.Warnf("deduplication of stream aggregation rule %d takes %s, longer than its dedup_interval %s; make that longer", r.position.Load(), time.Since(at), r.dedup)
		}
	}
	for now >= r.due() {
		a.flush(r, r.turn(now), r.interval)
	}
	if took := time.Since(at); took > r.interval {
		r.slowFlushes.Inc()
		a.warn.Warnf("flushing stream aggregation rule %d takes %s, longer than its interval %s; make that longer, or aggregate fewer series", r.position.Load(), took, r.intervalText)
	}
}

// settle has the samples counted which are no duplicates.
func (r *rule) settle() {
	for i := range r.shards {
		sh := &r.shards[i]
		var t tally
		sh.mu.Lock()
		sh.settle(maxTime, &t)
		sh.mu.Unlock()
		r.note(&t, 0)
	}
}

// finish flushes what is there, if that is wanted, and gives the rule up.
func (a *Aggregator) finish(r *rule) {
	const timeout = 10 * time.Second
	now := time.Now().UnixMilli()
	windows := 1
	if r.windows {
		windows = 2
	}
	at := r.end - r.intervalMs // of the window before
	for left := windows; left > 0 && r.flushAtEnds; left-- {
		f := r.turn(now)
		f.at = max(min(f.end, now), at+1) // no two samples of a series have one time
		at = f.at
		if left == 1 {
			f.end = maxTime
		}
		a.flush(r, f, timeout)
	}
	for i := range r.shards {
		r.shards[i].close()
	}
}

// flush ends a window in all shards and stores the outputs, trying again within the time.
func (a *Aggregator) flush(r *rule, f flushed, timeout time.Duration) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(cap(a.workers), len(r.shards)) {
		workers.Go(func() {
			var out model.Batch
			for i := next.Add(1) - 1; i < int64(len(r.shards)); i = next.Add(1) - 1 {
				a.workers <- struct{}{}
				a.flushShard(ctx, &r.shards[i], f, &out)
				<-a.workers
			}
		})
	}
	workers.Wait()
	a.flushes.UpdateDuration(start)
}

func (a *Aggregator) flushShard(ctx context.Context, sh *shard, f flushed, out *model.Batch) {
	r := sh.rule
	var counts [kinds]int
	var t tally
	out.Reset()
	sh.flush(f, out, &counts, &t)
	r.note(&t, 0)
	if out.Len() == 0 {
		return
	}
	if err := a.deliver(ctx, r, out); err != nil {
		r.lost.Add(out.Rows())
		a.warn.Warnf("cannot store %d samples of stream aggregation rule %d: they are lost: %s", out.Rows(), r.position.Load(), err)
		return
	}
	for k, n := range counts {
		r.written[k].Add(n)
	}
}

// deliver stores a batch, trying again while it may help. A rule which is stopped tries once more.
func (a *Aggregator) deliver(ctx context.Context, r *rule, b *model.Batch) error {
	const firstWait, mostWait = 100 * time.Millisecond, 2 * time.Second
	stopped := false
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		err := a.next.Ingest(ctx, b)
		if err == nil || !errkind.Of(err).TryElsewhere() || ctx.Err() != nil || stopped {
			return err
		}
		a.warn.Warnf("cannot store samples of stream aggregation, trying again: %s", err)
		select {
		case <-ctx.Done():
			return err
		case <-r.stop:
			stopped = true
		case <-time.After(wait):
		}
	}
}
