package gather

import (
	"bytes"
	"context"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// Search implements storageapi.Searcher. It returns when all nodes have begun to answer.
func (g *Gather) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	act := actionSearch
	if q.KeysOnly {
		act = actionSearchKeys
	}
	set := g.acquire()
	iterCtx, cancel := context.WithCancel(ctx)
	answers := make([]answer, len(set.nodes))
	m := &merger{g: g, set: set, ctx: ctx, action: act, cancel: cancel, maxSeries: q.MaxSeries, answers: answers}
	if skip := g.skippable(set, act); skip != nil {
		m.race = startRace(iterCtx, set, skip, q)
		return m, nil
	}
	iters := make([]storageapi.SeriesIterator, len(set.nodes))
	set.begin(func(i int, s storageapi.Searcher) {
		it, err := s.Search(iterCtx, q)
		iters[i], answers[i] = it, answer{node: set.nodes[i].Name, err: err}
	})
	if _, err := g.policy(ctx, set, act).judge(answers, ctx.Err()); err != nil {
		for i, it := range iters {
			if answers[i].err == nil {
				_ = it.Close() // the answer is the error of another node
			}
		}
		cancel()
		g.release(set)
		return nil, err
	}
	for i, it := range iters {
		if answers[i].err == nil {
			m.current = append(m.current, &source{index: i, it: it})
		}
	}
	m.open = slices.Clone(m.current)
	return m, nil
}

// merger merges the sorted streams of the nodes. It implements storageapi.SeriesIterator.
type merger struct {
	g         *Gather
	set       *nodeSet        // nil when closed
	race      *race           // nil: all nodes are waited for
	ctx       context.Context // the caller's
	action    action
	cancel    context.CancelFunc
	answers   []answer // of nodes that failed at the start, and of streams at their end
	maxSeries int
	series    int

	open    []*source // all streams which have begun
	heap    []*source // streams with a current series, smallest key first
	current []*source // streams taken off the heap which hold the current series
	result  storageapi.Series
	blocks  []tsblock.Block

	done bool
	cov  storageapi.Coverage
	err  error
}

// Next implements storageapi.SeriesIterator.
func (m *merger) Next() bool {
	if m.done {
		return false
	}
	if m.race != nil {
		if !m.race.next(m) {
			return false
		}
	} else if !m.advance() {
		return false
	}
	m.current = m.current[:0]
	if len(m.heap) == 0 {
		m.finish()
		return false
	}
	m.series++
	if m.maxSeries > 0 && m.series > m.maxSeries {
		m.stop(errkind.New(errkind.Unprocessable, "cannot answer query: the number of matching series over all storage nodes exceeds %d; "+
			"narrow down the selector or the time range, or raise the limit (-search.max* flags)", m.maxSeries))
		return false
	}
	m.take()
	return true
}

// advance moves the streams which held the last series to their next ones; false when their failures end the iteration.
func (m *merger) advance() bool {
	for _, s := range m.current {
		if s.next() {
			m.push(s)
		} else if !m.ended(s, s.end(m.set.nodes[s.index].Name)) {
			return false
		}
	}
	return true
}

// ended takes note of the end of a stream; false when its failure ends the iteration.
func (m *merger) ended(s *source, a answer) bool {
	m.answers[s.index] = a
	return a.err == nil || m.tolerable()
}

// tolerable reports whether the failures so far leave an answer. If not, it ends the iteration.
func (m *merger) tolerable() bool {
	_, err := m.g.policy(m.ctx, m.set, m.action).judge(m.answers, m.ctx.Err())
	if err != nil {
		m.stop(err)
	}
	return err == nil
}

// finish ends the iteration when all streams have ended.
func (m *merger) finish() {
	cov, err := m.g.conclude(m.ctx, m.action, m.set, m.answers)
	m.cov = cov
	m.stop(err)
}

func (m *merger) stop(err error) {
	m.done, m.err = true, err
}

// take makes the series with the smallest key the current one, with the blocks of all
// streams that have it.
func (m *merger) take() {
	first := m.pop()
	m.current = append(m.current, first)
	m.result = *first.series
	for len(m.heap) > 0 && bytes.Equal(m.heap[0].series.Key, m.result.Key) {
		s := m.pop()
		if len(m.current) == 1 {
			m.blocks = append(m.blocks[:0], m.result.Blocks...)
		}
		m.current = append(m.current, s)
		m.blocks = append(m.blocks, s.series.Blocks...)
	}
	if len(m.current) > 1 {
		// Stable, so blocks that begin together keep the order of the nodes.
		tsblock.SortBlocks(m.blocks)
		m.result.Blocks = m.blocks
	}
}

// At implements storageapi.SeriesIterator.
func (m *merger) At() *storageapi.Series { return &m.result }

// Err implements storageapi.SeriesIterator.
func (m *merger) Err() error { return m.err }

// Coverage implements storageapi.SeriesIterator. Before the end it tells of the failures so far: a reader
// who has enough must know of the nodes that were missing from the start.
func (m *merger) Coverage() storageapi.Coverage {
	if m.done {
		return m.cov
	}
	cov := m.coverageSoFar()
	cov.Open = true
	return cov
}

// coverageSoFar judges the failures up to now.
func (m *merger) coverageSoFar() storageapi.Coverage {
	cov, _ := policy{copies: m.set.copiesOf(m.action)}.judge(m.answers, nil) // whether the failures can be tolerated is for Next to say
	return cov
}

// Close implements storageapi.SeriesIterator.
func (m *merger) Close() error {
	if !m.done {
		m.done, m.cov = true, m.coverageSoFar()
	}
	if m.set == nil {
		return nil
	}
	m.cancel()
	for _, s := range m.open {
		_ = s.close() // the answer is there already
	}
	if m.race != nil {
		m.race.streams.Wait()
	}
	m.g.release(m.set)
	m.set = nil
	return nil
}

// less orders streams by key, then by node.
func less(a, b *source) bool {
	if c := bytes.Compare(a.series.Key, b.series.Key); c != 0 {
		return c < 0
	}
	return a.index < b.index
}

// push adds a stream to the heap.
func (m *merger) push(s *source) {
	m.heap = append(m.heap, s)
	h := m.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !less(h[i], h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// pop takes the stream with the smallest key off the heap.
func (m *merger) pop() *source {
	h := m.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	m.heap = h[:last]
	h = m.heap
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && less(h[child+1], h[child]) {
			child++
		}
		if !less(h[child], h[i]) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	return top
}
