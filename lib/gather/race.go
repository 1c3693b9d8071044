package gather

import (
	"bytes"
	"context"
	"sync"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// race reads the streams of nodes which hold copies of each other's series. The merge goes on without a stream that is late, as long as
// the other streams have whatever it would bring. A late stream is not given up: as soon as it has come to where the others
// are it takes part again, for another one may be late then.
type race struct {
	copies   *copies
	runners  []*runner
	arrivals chan *lap // with room for all laps there are, so that nobody waits to send
	streams  sync.WaitGroup
	last     []byte              // key of the series before
	pending  int                 // runners whose next series is not known
	skipped  map[string]struct{} // the sets of nodes without which the merge has gone on at some time: a byte for each node, 1 if it was late or had failed
	late     []byte              // scratch: such a set
}

// runner is the stream of one node. Its goroutine fills laps, the merge empties them.
type runner struct {
	source
	laps    []*lap // have arrived; the first is being read
	pos     int    // in the first lap
	pending bool   // the merge has read all that has arrived, and the stream has not ended
	open    bool   // it cannot tell before its end whether its answer is whole
	free    chan *lap
}

// lap is a run of series of one node, in memory of its own.
type lap struct {
	runner *runner
	series []storageapi.Series
	blocks []tsblock.Block
	buf    []byte
	open   bool // see runner
	last   bool // the stream ends after this
	end    answer
}

const (
	lapsPerRunner = 2
	lapSeries     = 64
	lapBytes      = 64 << 10
)

// startRace begins a search at all nodes.
func startRace(ctx context.Context, set *nodeSet, c *copies, q *model.SearchQuery) *race {
	n := len(set.nodes)
	r := &race{copies: c, arrivals: make(chan *lap, n*lapsPerRunner), pending: n, skipped: map[string]struct{}{}, late: make([]byte, n)}
	for i := range set.nodes {
		rn := &runner{source: source{index: i}, pending: true, free: make(chan *lap, lapsPerRunner)}
		for range lapsPerRunner {
			rn.free <- &lap{runner: rn}
		}
		r.runners = append(r.runners, rn)
		r.streams.Go(func() { rn.run(ctx, &set.nodes[i], q, r.arrivals) })
	}
	return r
}

// run reads the stream of a node to its end, or until ctx is done.
func (rn *runner) run(ctx context.Context, n *Node, q *model.SearchQuery, arrivals chan<- *lap) {
	it, err := n.Searcher.Search(ctx, q)
	if err == nil {
		rn.it = it
		defer func() { _ = rn.close() }() // a second time does nothing
	}
	for most := 1; ; most = min(2*most, lapSeries) { // the first one comes soon
		var l *lap
		select {
		case l = <-rn.free:
		case <-ctx.Done():
			return
		}
		l.reset()
		if err != nil {
			l.last, l.end = true, answer{node: n.Name, err: err}
		} else if !l.fill(it, most) {
			l.last, l.end = true, rn.end(n.Name)
		} else {
			l.open = it.Coverage().Open
		}
		last := l.last
		arrivals <- l
		if last {
			return
		}
	}
}

func (l *lap) reset() {
	clear(l.series)
	clear(l.blocks)
	l.series, l.blocks, l.buf = l.series[:0], l.blocks[:0], l.buf[:0]
}

// fill copies series; false at the end of the stream.
func (l *lap) fill(it storageapi.SeriesIterator, most int) bool {
	for len(l.series) < most && len(l.buf) < lapBytes {
		if !it.Next() {
			return false
		}
		s := it.At()
		start := len(l.blocks)
		for i := range s.Blocks {
			b := s.Blocks[i]
			b.Timestamps, b.Values = l.copy(b.Timestamps), l.copy(b.Values)
			l.blocks = append(l.blocks, b)
		}
		l.series = append(l.series, storageapi.Series{Key: l.copy(s.Key), Blocks: l.blocks[start:len(l.blocks):len(l.blocks)]})
	}
	return true
}

// copy keeps a copy. When the buffer grows, what was copied before stays where it is.
func (l *lap) copy(b []byte) []byte {
	start := len(l.buf)
	l.buf = append(l.buf, b...)
	return l.buf[start:len(l.buf):len(l.buf)]
}

// next puts the streams on the heap of the merge whose next series is known. It returns when these are all that are needed, and
// false when the iteration has ended.
func (r *race) next(m *merger) bool {
	if m.series > 0 {
		r.last = append(r.last[:0], m.result.Key...)
	}
	for _, s := range m.current {
		if !r.advance(m, r.runners[s.index]) {
			return false
		}
	}
	for {
		l, err := r.arrival(m)
		if err != nil {
			m.stop(err)
			return false
		}
		if l == nil {
			break
		}
		rn := l.runner
		rn.laps = append(rn.laps, l)
		rn.open = l.open || l.last && l.end.lacks()
		if !rn.pending {
			continue
		}
		rn.pending = false
		r.pending--
		if !r.advance(m, rn) {
			return false
		}
	}
	r.skip(m)
	return true
}

// arrival returns a lap: one that is there, or one to wait for; nil when the merge can go on without.
func (r *race) arrival(m *merger) (*lap, error) {
	select {
	case l := <-r.arrivals:
		return l, nil
	default:
	}
	if r.pending == 0 || !r.copies.hides(func(node int) bool { return r.runners[node].unsure() || m.answers[node].lacks() }) {
		return nil, nil
	}
	select {
	case l := <-r.arrivals:
		return l, nil
	case <-m.ctx.Done():
		err := m.ctx.Err()
		return nil, errkind.New(errkind.Of(err), "cannot finish query: %w", err)
	}
}

// unsure reports whether what has come of the stream may lack data, as far as is known.
func (rn *runner) unsure() bool { return rn.pending || rn.open }

// advance moves a runner to its next series, past those which the merge has gone on without; false when its failure ends the iteration.
func (r *race) advance(m *merger, rn *runner) bool {
	for len(rn.laps) > 0 {
		l := rn.laps[0]
		for rn.pos < len(l.series) {
			s := &l.series[rn.pos]
			rn.pos++
			if bytes.Compare(s.Key, r.last) > 0 {
				rn.series = s
				m.push(&rn.source)
				return true
			}
		}
		if l.last {
			return m.ended(&rn.source, l.end)
		}
		rn.laps, rn.pos = rn.laps[1:], 0
		rn.free <- l
	}
	rn.pending = true
	r.pending++
	return true
}

// skip takes note of the streams without which the merge goes on. At its end those are given up which have not come.
func (r *race) skip(m *merger) {
	if r.pending > 0 {
		for i, rn := range r.runners {
			r.late[i] = 0
			if rn.pending || m.answers[i].err != nil {
				r.late[i] = 1
			}
		}
		if _, known := r.skipped[string(r.late)]; !known {
			r.skipped[string(r.late)] = struct{}{}
		}
	}
	if len(m.heap) > 0 {
		return
	}
	for i, rn := range r.runners {
		if rn.pending {
			a := &m.answers[i]
			a.node, a.err = m.set.nodes[i].Name, errSkipped
		}
	}
	r.admit(m)
}

// admit makes the answer partial if nodes which say at their end that their own answers lack data, without saying which, and those that were late or had
// failed at some time would hide a sample together. That happens with damaged storage nodes: others are not relied on before their end.
func (r *race) admit(m *merger) {
	lacking := func(node int) bool { return m.answers[node].err == nil && m.answers[node].coverage.Partial }
	for late := range r.skipped {
		if !r.copies.hides(func(node int) bool { return late[node] == 1 || lacking(node) }) {
			continue
		}
		for i := range late {
			a := &m.answers[i]
			a.coverage.Partial = a.coverage.Partial || late[i] == 1
		}
		return
	}
}
