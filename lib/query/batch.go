package query

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
)

const (
	batchSamples = 32 << 10 // samples of a batch: large against the cost of handing it over, small against caches
	batchSeries  = 4096     // the same in series, for those with few samples
)

// batch is a run of series on its way to a worker. Samples lie in two flat arrays, which are used again.
type batch struct {
	number int
	labels [][]model.Label // owned by the results
	ends   []int
	times  []int64
	values []float64
	held   int64 // bytes reserved for samples of very long series
}

func (b *batch) reset() {
	clear(b.labels)
	b.labels, b.ends, b.times, b.values = b.labels[:0], b.ends[:0], b.times[:0], b.values[:0]
}

// rollupRun evaluates a rollup over the series of a selector. Few series are evaluated at the
// end by the caller; from the first full batch on, workers do it while the caller reads on.
type rollupRun struct {
	ev *evaluation
	c  *rollupCall
	p  rollup.Params

	current *batch
	batches int
	free    chan *batch
	jobs    chan *batch
	workers sync.WaitGroup

	mu struct {
		sync.Mutex
		results [][]*vector.Series // by number of the batch
		err     error
	}
}

func newRollupRun(ev *evaluation, c *rollupCall, p rollup.Params) *rollupRun {
	return &rollupRun{ev: ev, c: c, p: p, current: ev.e.getBatch()}
}

// getBatch returns an empty batch, with memory of earlier ones if there is any.
func (e *Engine) getBatch() *batch {
	if b, ok := e.batches.Get().(*batch); ok {
		return b
	}
	return &batch{times: make([]int64, 0, batchSamples), values: make([]float64, 0, batchSamples)}
}

func (e *Engine) putBatch(b *batch) {
	if cap(b.times) > 4*batchSamples {
		return // grown by a very long series
	}
	b.reset()
	e.batches.Put(b)
}

// add takes a copy of a series.
func (r *rollupRun) add(s *RawSeries) error {
	b := r.current
	if n := int64(len(s.Timestamps)) * sampleBytes; n > batchSamples*sampleBytes {
		if err := r.ev.reserve(n); err != nil {
			return err
		}
		b.held += n
	}
	b.labels = append(b.labels, copyLabels(s.Labels))
	b.times = append(b.times, s.Timestamps...)
	b.values = append(b.values, s.Values...)
	b.ends = append(b.ends, len(b.times))
	if len(b.times) < batchSamples && len(b.ends) < batchSeries {
		return nil
	}
	return r.handOver()
}

// handOver gives the current batch to the workers, which it starts if it has to.
func (r *rollupRun) handOver() error {
	n := runtime.GOMAXPROCS(0)
	if r.jobs == nil {
		r.jobs = make(chan *batch)
		r.free = make(chan *batch, n+1)
		for range n {
			r.free <- r.ev.e.getBatch()
			r.workers.Go(r.work)
		}
	}
	r.number(r.current)
	r.jobs <- r.current
	r.current = <-r.free
	r.current.reset()
	return r.failure()
}

func (r *rollupRun) number(b *batch) {
	b.number = r.batches
	r.batches++
}

func (r *rollupRun) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.err
}

// work evaluates batches until there are no more.
func (r *rollupRun) work() {
	evaluator := rollup.NewEvaluator(r.c.f, r.p)
	for b := range r.jobs {
		r.evaluate(evaluator, b)
		r.free <- b
	}
}

// evaluate evaluates one batch. After an error the rest is left out.
func (r *rollupRun) evaluate(evaluator *rollup.Evaluator, b *batch) {
	out := newRollupOutput(r.ev, r.c, &r.p)
	start := 0
	for i, end := range b.ends {
		if out.err == nil {
			out.err = r.ev.interrupted()
		}
		if out.err != nil {
			break
		}
		out.setLabels(b.labels[i])
		evaluator.Eval(b.times[start:end], b.values[start:end], out.add)
		out.err = cmp.Or(out.err, evaluator.Err())
		start = end
	}
	out.fold()
	r.settle(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.mu.results) <= b.number {
		r.mu.results = append(r.mu.results, nil)
	}
	r.mu.results[b.number] = out.series
	if r.mu.err == nil {
		r.mu.err = out.err
	}
}

// settle gives back what very long series took.
func (r *rollupRun) settle(b *batch) {
	if b.held == 0 {
		return
	}
	b.times, b.values = nil, nil
	r.ev.giveBack(b.held)
	b.held = 0
}

// finish waits for the workers and returns all results in the order of the series.
func (r *rollupRun) finish() ([]*vector.Series, error) {
	if r.jobs != nil {
		close(r.jobs)
		r.workers.Wait()
		close(r.free)
		for b := range r.free {
			r.ev.e.putBatch(b)
		}
	}
	r.number(r.current)
	r.evaluate(rollup.NewEvaluator(r.c.f, r.p), r.current)
	r.ev.e.putBatch(r.current)
	if r.mu.err != nil || len(r.mu.results) == 1 {
		return r.mu.results[0], r.mu.err
	}
	return slices.Concat(r.mu.results...), nil
}
