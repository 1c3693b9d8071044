package query

import (
	"bytes"
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
	"vmcluster/lib/tsblock"
)

const (
	// A batch has as many series as are expected to have this many samples and points together: large against the
	// cost of handing it over, small against caches. The number depends on the request alone, since the order in which values are summed up follows from it.
	batchWork       = 64 << 10
	expectedScrapes = 15_000 // milliseconds between samples, when batches are planned
	minBatchSeries  = 16
	maxBatchSeries  = 2048
	// Batches beyond this many bytes of encoded samples take memory from the budget.
	freeBatchBytes = 1 << 20
	// Batches which have grown beyond this many bytes are not kept for reuse.
	maxPooledBatch = 4 << 20
	// Workers which hold more bytes are not kept for reuse.
	maxPooledWorker = 2 << 20
)

// batchSize returns the number of series of a batch.
func batchSize(r model.TimeRange, points int) int {
	samples := (r.Max-r.Min)/expectedScrapes + 1
	return int(min(max(batchWork/(samples+int64(points)), minBatchSeries), maxBatchSeries))
}

// batch is a run of series on its way to a worker: copies of encoded ones, or decoded ones which the query keeps. Its memory is used again.
type batch struct {
	number  int
	series  []batchSeries
	data    []byte          // keys and columns
	blocks  []tsblock.Block // their columns lie in data, at these offsets
	offsets []blockOffsets
	shared  [64]blockOffsets // where columns of timestamps are which other blocks may have too
	kept    []*RawSeries
	held    int64 // bytes reserved
}

type batchSeries struct{ keyStart, keyEnd, blocksEnd int }

type blockOffsets struct{ times, timesEnd, values, valuesEnd int }

func (b *batch) reset() {
	clear(b.blocks)
	b.series, b.data, b.blocks, b.offsets, b.kept = b.series[:0], b.data[:0], b.blocks[:0], b.offsets[:0], nil
	b.shared = [len(b.shared)]blockOffsets{}
}

func (b *batch) len() int { return len(b.series) + len(b.kept) }

// add copies an encoded series.
func (b *batch) add(s *EncodedSeries) {
	start := len(b.data)
	b.data = append(b.data, s.Key...)
	end := len(b.data)
	for i := range s.Blocks {
		block := &s.Blocks[i]
		var o blockOffsets
		o.times, o.timesEnd = b.addTimestamps(block)
		o.values = len(b.data)
		b.data = append(b.data, block.Values...)
		o.valuesEnd = len(b.data)
		b.offsets = append(b.offsets, o)
		b.blocks = append(b.blocks, tsblock.Block{MinTimestamp: block.MinTimestamp, MaxTimestamp: block.MaxTimestamp, Count: block.Count})
	}
	b.series = append(b.series, batchSeries{keyStart: start, keyEnd: end, blocksEnd: len(b.blocks)})
}

// addTimestamps copies a column, unless it is here already: series of one target share theirs.
func (b *batch) addTimestamps(block *tsblock.Block) (start, end int) {
	const mix = 0x9e3779b97f4a7c15
	slot := &b.shared[(uint64(block.MinTimestamp)*mix+uint64(block.MaxTimestamp))*mix>>58]
	if bytes.Equal(b.data[slot.times:slot.timesEnd], block.Timestamps) {
		return slot.times, slot.timesEnd
	}
	slot.times = len(b.data)
	b.data = append(b.data, block.Timestamps...)
	slot.timesEnd = len(b.data)
	return slot.times, slot.timesEnd
}

// at returns encoded series i, which aliases the batch.
func (b *batch) at(i int) (key []byte, blocks []tsblock.Block) {
	s := &b.series[i]
	first := 0
	if i > 0 {
		first = b.series[i-1].blocksEnd
	}
	blocks = b.blocks[first:s.blocksEnd]
	for j := range blocks {
		o := &b.offsets[first+j]
		blocks[j].Timestamps, blocks[j].Values = b.data[o.times:o.timesEnd], b.data[o.values:o.valuesEnd]
	}
	return b.data[s.keyStart:s.keyEnd], blocks
}

// rollupRun evaluates a rollup over the series of a selector. Few series are evaluated at the
// end by the caller; from the first full batch on, workers do it while the caller reads on.
type rollupRun struct {
	ev    *evaluation
	c     *rollupCall
	p     rollup.Params
	r     model.TimeRange
	size  int   // of a batch
	seam  *seam // nil: only results are wanted
	found atomic.Int64

	current *batch
	batches int
	free    chan *batch
	jobs    chan *batch
	workers sync.WaitGroup
	merging *sync.Cond // of mu: a batch is done

	mu struct {
		sync.Mutex
		results []batchResult // by number of the batch
		total   *vector.Fold  // of the first batches
		merged  int           // how many these are
		err     error
	}
}

// batchResult is what a batch has come to: series, or a fold.
type batchResult struct {
	series []*vector.Series
	fold   *vector.Fold
	noted  []keptSeries
	done   bool
}

func newRollupRun(ev *evaluation, c *rollupCall, p rollup.Params, r model.TimeRange) *rollupRun {
	points := int((p.End-p.Start)/p.Step) + 1
	run := &rollupRun{ev: ev, c: c, p: p, r: r, size: batchSize(r, points), current: ev.e.getBatch()}
	run.merging = sync.NewCond(&run.mu)
	return run
}

// getBatch returns an empty batch, with memory of earlier ones if there is any.
func (e *Engine) getBatch() *batch {
	if b, ok := e.batches.Get().(*batch); ok {
		return b
	}
	return &batch{}
}

func (e *Engine) putBatch(b *batch) {
	if cap(b.data) > maxPooledBatch {
		return
	}
	b.reset()
	e.batches.Put(b)
}

// read takes all series of the selection.
func (r *rollupRun) read(s *selection) error {
	if r.ev.uses[s.text] < 2 || byContent(s.aspect) {
		return r.ev.stream(s, r.add)
	}
	kept, err := r.ev.kept(s)
	for len(kept) > 0 && err == nil {
		n := min(len(kept), r.size)
		r.current.kept = kept[:n]
		kept = kept[n:]
		if n == r.size {
			err = r.handOver()
		}
	}
	return err
}

// add takes a copy of a series.
func (r *rollupRun) add(s *EncodedSeries) error {
	if s.Derived {
		if err := r.spoil("samples depend on the range"); err != nil {
			return err
		}
	}
	b := r.current
	b.add(s)
	if n := int64(len(b.data)); n > freeBatchBytes && n > b.held {
		if err := r.ev.reserve(n - b.held); err != nil {
			return err
		}
		b.held = n
	}
	if len(b.series) < r.size {
		return nil
	}
	return r.handOver()
}

// handOver gives the current batch to the workers, which it starts if it has to.
func (r *rollupRun) handOver() error {
	if r.jobs == nil {
		n := runtime.GOMAXPROCS(0)
		if most := r.ev.e.cfg.MaxWorkersPerQuery; most > 0 {
			n = min(n, most)
		}
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
	return r.catchUp()
}

// maxAhead is how many batches may be evaluated before the first of them is. The folds of all of them are in memory.
const maxAhead = 16

// catchUp waits until the slowest worker is not far behind, and returns the error of any.
func (r *rollupRun) catchUp() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.c.fold != nil && r.mu.err == nil && r.batches-r.mu.merged > maxAhead {
		r.merging.Wait()
	}
	return r.mu.err
}

func (r *rollupRun) number(b *batch) {
	b.number = r.batches
	r.batches++
}

// work evaluates batches until there are no more.
func (r *rollupRun) work() {
	w := r.newWorker()
	for b := range r.jobs {
		w.evaluate(b)
		r.free <- b
	}
	r.ev.e.putWorker(w)
}

// rollupWorker is what evaluates batches on one goroutine.
type rollupWorker struct {
	run       *rollupRun
	evaluator *rollup.Evaluator
	decoder   *Decoder
	out       *rollupOutput
	tally     tally

	downsampled *counted
}

func (r *rollupRun) newWorker() *rollupWorker {
	w, ok := r.ev.e.workers.Get().(*rollupWorker)
	if !ok {
		w = &rollupWorker{evaluator: &rollup.Evaluator{}, decoder: &Decoder{}}
	}
	w.run, w.out, w.tally = r, newRollupOutput(r.ev, r.c, &r.p), tally{ev: r.ev, found: &r.found}
	w.evaluator.Reset(r.c.f, r.p)
	w.decoder.reset(r.r, r.ev.reading)
	if r.c.fold != nil {
		w.evaluator.ReuseResults()
	}
	if r.seam != nil {
		w.evaluator.Watch(r.seam.watch)
	}
	return w
}

// putWorker keeps the memory of a worker for another one, most of what a query of few series takes.
func (e *Engine) putWorker(w *rollupWorker) {
	if w.evaluator.HeapBytes()+w.decoder.heapBytes() > maxPooledWorker {
		return
	}
	w.evaluator.Release()
	w.decoder.reset(model.TimeRange{}, Reading{})
	*w = rollupWorker{evaluator: w.evaluator, decoder: w.decoder}
	e.workers.Put(w)
}

// evaluate evaluates one batch. After an error the rest is left out.
func (w *rollupWorker) evaluate(b *batch) {
	r, out := w.run, w.out
	out.begin()
	if out.fold != nil {
		out.fold.Reuse(r.freeMemory())
	}
	for i := 0; i < b.len() && out.err == nil; i++ {
		if i%checkEvery == 0 {
			if out.err = r.ev.interrupted(); out.err != nil {
				break
			}
		}
		if b.kept != nil {
			w.series(b.kept[i])
			continue
		}
		if err := w.encoded(b.at(i)); out.err == nil {
			out.err = err
		}
	}
	if err := w.tally.settle(); out.err == nil {
		out.err = err
	}
	if b.held > 0 {
		r.ev.giveBack(b.held)
		b.held = 0
	}
	r.done(b.number, out)
}

// encoded decodes and evaluates one series.
func (w *rollupWorker) encoded(key []byte, blocks []tsblock.Block) error {
	w.out.key = key
	if err := w.run.encodedSeam(blocks); err != nil {
		return err
	}
	held, err := w.run.ev.holdFor(blocks)
	if err != nil {
		return err
	}
	if byContent(w.run.c.aspect()) && isDownsampled(blocks) {
		err = w.counted(key, blocks)
	} else {
		err = w.plain(key, blocks)
	}
	if held > 0 {
		w.decoder.forget()
		w.run.ev.giveBack(held)
	}
	return err
}

// plain decodes and evaluates a series whose blocks are all of one kind.
func (w *rollupWorker) plain(key []byte, blocks []tsblock.Block) error {
	s, err := w.decoder.Decode(key, blocks)
	if err != nil || s == nil {
		return err
	}
	if err := w.tally.count(s); err != nil {
		return err
	}
	w.series(s)
	return nil
}

// checkEvery is the number of series after which a worker looks whether the query has been given up.
const checkEvery = 16

// series evaluates one series.
func (w *rollupWorker) series(s *RawSeries) {
	known := rollup.Known{NoStale: s.Facts.Has(tsblock.NoNaN), NoResets: s.Facts.Has(tsblock.NeverDecreases | tsblock.NoNaN)}
	w.out.setLabels(s.Labels)
	if w.run.seam != nil {
		err := w.seamSeries(s, known)
		w.out.err = cmp.Or(w.out.err, err, w.evaluator.Err())
		return
	}
	w.evaluator.EvalKnown(s.Timestamps, s.Values, known, w.out.add)
	w.out.err = cmp.Or(w.out.err, w.evaluator.Err())
}

// done stores the results of a batch.
func (r *rollupRun) done(number int, out *rollupOutput) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.mu.results) <= number {
		r.mu.results = append(r.mu.results, batchResult{})
	}
	r.mu.results[number] = batchResult{series: out.series, fold: out.fold, noted: out.noted, done: true}
	if r.mu.err == nil {
		r.mu.err = out.err
	}
	if out.fold != nil {
		r.foldLocked()
		r.merging.Broadcast()
	}
}

// foldLocked adds up the aggregates of batches whose predecessors are all there, and gives back the memory of their parts.
func (r *rollupRun) foldLocked() {
	for ; r.mu.merged < len(r.mu.results) && r.mu.results[r.mu.merged].done; r.mu.merged++ {
		part := &r.mu.results[r.mu.merged].fold
		if r.mu.total == nil {
			r.mu.total = *part
		} else {
			held := r.mu.total.Bytes() + (*part).Bytes()
			r.mu.total.Merge(*part)
			r.ev.giveBack(held - r.mu.total.Bytes())
		}
		*part = nil
	}
}

// freeMemory returns the memory of folds which have been added up. Of long ranges with many groups, that is most of what a batch takes.
func (r *rollupRun) freeMemory() [][]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.total == nil {
		return nil
	}
	return r.mu.total.TakeFree()
}

// groups returns the number of groups so far.
func (r *rollupRun) groups() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.total == nil {
		return 0
	}
	return r.mu.total.Len()
}

// finish waits for the workers and returns all results in the order of the series.
func (r *rollupRun) finish() ([]*vector.Series, error) {
	if err := r.wait(); err != nil {
		return nil, err
	}
	if r.c.fold != nil {
		return r.mu.total.Series(), nil
	}
	if len(r.mu.results) == 1 {
		return r.mu.results[0].series, nil
	}
	lists := make([][]*vector.Series, len(r.mu.results))
	for i := range lists {
		lists[i] = r.mu.results[i].series
	}
	return slices.Concat(lists...), nil
}

// wait evaluates what is left and waits for the workers.
func (r *rollupRun) wait() error {
	if r.jobs != nil {
		close(r.jobs)
		r.workers.Wait()
		close(r.free)
		for b := range r.free {
			r.ev.e.putBatch(b)
		}
	}
	r.number(r.current)
	w := r.newWorker()
	w.evaluate(r.current)
	r.ev.e.putWorker(w)
	r.ev.e.putBatch(r.current)
	return r.mu.err
}
