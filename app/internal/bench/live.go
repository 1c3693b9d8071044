package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// loadOptions say what a load is like that is generated while it is sent.
type loadOptions struct {
	url        string // of remote write
	writers    int
	hosts      int // over all writers, which have every so-manyth of them
	firstHost  int
	scrapes    int // how many are planned, which places the first one in time: the last is now
	perBody    int // samples in a request; 0 is 5000
	churn      float64
	churnEvery int
	rate       float64 // samples per second of all writers; 0 is as fast as the answers come
	seed       uint64
}

// load sends the scrapes of simulated hosts. Every writer is a client of its own, which makes a request,
// sends it and waits for the answer before it makes the next; a request never mixes scrapes.
type load struct {
	client  *http.Client
	writers []*liveWriter
	startMs int64
	perScan int // series
	acked   tally
}

// tally counts what was answered 2xx.
type tally struct{ samples, numbers atomic.Int64 }

// liveWriter belongs to one goroutine at a time.
type liveWriter struct {
	fleet  *fleet
	client *http.Client
	url    string
	rate   float64
	acked  *tally // of all writers

	ctx       context.Context // of the current phase, as are the following
	until     time.Time
	start     time.Time
	samples   int64
	bodies    int64
	retries   int64
	latencies []float64 // milliseconds, from when the request was due
}

func newLoad(o loadOptions) (*load, error) {
	g := DefaultGenerateOptions()
	targets, err := loadTargets(g.CPUs)
	if err != nil {
		return nil, err
	}
	g.Churn, g.ChurnEvery, g.Seed, g.Scrapes, g.Shards = o.churn, o.churnEvery, o.seed, o.scrapes, 1
	g.End, g.hostStep = time.Now().Unix(), o.writers
	if o.perBody > 0 {
		g.SamplesPerBody = o.perBody
	}
	l := &load{client: newWriteClient(o.writers), perScan: seriesPerHost(targets) * o.hosts}
	for i := range o.writers {
		opts := g
		opts.firstHost, opts.Hosts = o.firstHost+i, (o.hosts-i+o.writers-1)/o.writers
		w := &liveWriter{client: l.client, url: o.url, rate: o.rate / float64(o.writers), acked: &l.acked}
		w.fleet = newFleet(&opts, targets, w.send)
		l.writers = append(l.writers, w)
		l.startMs = w.fleet.m.StartMs
	}
	return l, nil
}

func newWriteClient(conns int) *http.Client {
	return &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: conns}}
}

func (l *load) close() { l.client.CloseIdleConnections() }

// nowMs returns the moment up to which everything has been sent, more or less.
func (l *load) nowMs() int64 {
	return l.startMs + l.acked.samples.Load()/int64(l.perScan)*scrapeSeconds*1000
}

// created returns how many series there have been so far.
func (l *load) created() int64 {
	n := int64(0)
	for _, w := range l.writers {
		n += w.fleet.m.Series
	}
	return n
}

// send sends a request of the fleet. It returns errStop when the time is over.
func (w *liveWriter) send(b Body) error {
	due := time.Now()
	if !w.until.IsZero() && due.After(w.until) {
		return errStop
	}
	if w.rate > 0 {
		due = w.start.Add(time.Duration(float64(w.samples) / w.rate * float64(time.Second)))
		if err := pause(w.ctx, time.Until(due)); err != nil {
			return err
		}
	}
	retries, err := post(w.ctx, w.client, w.url, b.Data)
	w.retries += retries
	if err != nil {
		return err
	}
	w.latencies = append(w.latencies, milliseconds(time.Since(due)))
	w.samples += int64(b.Samples)
	w.bodies++
	w.acked.samples.Add(int64(b.Samples))
	w.acked.numbers.Add(int64(b.Numbers))
	return nil
}

// scan sends so many scrapes.
func (w *liveWriter) scan(scrapes int) error {
	for range scrapes {
		if err := w.fleet.scrapeAll(); err != nil {
			return err
		}
		if err := w.fleet.flushAll(); err != nil {
			return err
		}
	}
	return nil
}

// phase is a part of a load.
type phase struct {
	scrapes int
	forTime time.Duration // to end after, even within a scrape; 0 is without limit. Nothing can follow.
	settle  time.Duration
}

// run sends a part of the load and measures what it costs the processes.
func (l *load) run(ctx context.Context, pids []int, p phase) (*IngestResult, error) {
	meter, err := startMeter(pids)
	if err != nil {
		return nil, err
	}
	defer meter.cancel()
	res, latencies, err := l.send(ctx, p)
	if err != nil {
		return nil, err
	}
	return res, meter.finish(ctx, p.settle, res, latencies)
}

// send sends a part of the load.
func (l *load) send(ctx context.Context, p phase) (*IngestResult, []float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, w := range l.writers {
		w.ctx, w.start, w.until = ctx, time.Now(), time.Time{}
		w.samples, w.bodies, w.retries, w.latencies = 0, 0, 0, nil
		if p.forTime > 0 {
			w.until = w.start.Add(p.forTime)
		}
		wg.Go(func() {
			if err := w.scan(p.scrapes); err != nil && !errors.Is(err, errStop) {
				cancel(err) // the first one counts
			}
		})
	}
	wg.Wait()
	res := &IngestResult{}
	var latencies []float64
	for _, w := range l.writers {
		res.Samples, res.Bodies, res.Retries = res.Samples+w.samples, res.Bodies+w.bodies, res.Retries+w.retries
		latencies = append(latencies, w.latencies...)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, nil, fmt.Errorf("cannot write to %s: %w", l.writers[0].url, err)
	}
	return res, latencies, nil
}

// expected returns how many samples a server should have by its own count, and the time they are in.
func (l *load) expected(peer string) (samples int64, window Manifest) {
	window = Manifest{StartMs: l.startMs, EndMs: l.writers[0].fleet.m.EndMs + scrapeSeconds*1000} // hosts are scraped at different moments of an interval
	if peer == "prometheus" {
		return l.acked.samples.Load(), window // it counts NaNs and stale markers as well
	}
	return l.acked.numbers.Load(), window
}
