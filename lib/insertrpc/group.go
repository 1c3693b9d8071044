package insertrpc

import (
	"context"
	"slices"
	"sync"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

const (
	// enoughRows is the size from which a group does not wait for more: what a request costs whatever its size
	// is small beside its rows.
	enoughRows = 16 << 10
	// defaultJoinDelay is the longest wait of a batch for others.
	defaultJoinDelay = 5 * time.Millisecond
	// sceptical is how many groups do not wait for batches to come after one has waited in vain.
	sceptical = 4
)

// part is one batch on its way.
type part struct {
	batch *model.Batch
	space *clientSpace // nil when the batch has none
}

// group is the batches of several calls, which travel together and get one answer.
type group struct {
	parts   []*part
	rows    int
	ctx     context.Context // of the requests; ends when no caller waits any more
	cancel  context.CancelFunc
	timer   *time.Timer
	sealed  bool          // takes no more parts
	waiting int           // callers, once it is sealed
	read    chan struct{} // closed when nothing of the batches is read any more
	done    chan struct{} // closed when err is the outcome
	err     error
}

// groups collects concurrent calls. A node has the same work for each request, whatever its size: it wakes up,
// takes locks and syncs its log. So batches which come while a request is under way wait for its answer and travel
// together; and after that, since those who were answered usually send their next batch soon, for as many as there
// were callers. No batch waits longer than the delay, and one that comes alone does not wait.
type groups struct {
	delay  time.Duration
	launch func(g *group) // sends a sealed group and calls land

	mu struct {
		sync.Mutex
		open     *group // takes parts; nil when none waits
		flying   int    // groups under way
		callers  int    // calls under way
		expected int    // parts worth waiting for
		doubts   int    // groups which do not wait for more than there is
	}
}

// join adds a part to the open group. The result is due when the caller has to launch it.
func (q *groups) join(p *part) (g *group, due bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.callers++
	g = q.mu.open
	if g == nil {
		g = &group{read: make(chan struct{}), done: make(chan struct{})}
		q.mu.open = g
	}
	g.parts = append(g.parts, p)
	g.rows += p.batch.Rows()
	if q.dueLocked(g) {
		q.sealLocked(g)
		return g, true
	}
	if g.timer == nil {
		g.timer = time.AfterFunc(q.delay, func() { q.expire(g) })
	}
	return g, false
}

// dueLocked reports whether a group should wait no longer.
func (q *groups) dueLocked(g *group) bool {
	return g.rows >= enoughRows || q.mu.flying == 0 && (q.mu.doubts > 0 || len(g.parts) >= q.mu.expected)
}

func (q *groups) sealLocked(g *group) {
	g.sealed, g.waiting = true, len(g.parts)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if g.timer != nil {
		g.timer.Stop()
	}
	q.mu.open = nil
	q.mu.flying++
	q.mu.doubts = max(q.mu.doubts-1, 0)
}

// expire launches a group which has waited long enough.
func (q *groups) expire(g *group) {
	q.mu.Lock()
	if g.sealed || len(g.parts) == 0 {
		q.mu.Unlock()
		return
	}
	vain := q.mu.flying == 0 && len(g.parts) == 1
	q.sealLocked(g)
	if vain {
		q.mu.doubts = sceptical
	}
	q.mu.Unlock()
	q.launch(g)
}

// land notes the outcome of a group, and launches the next one when it is due.
func (q *groups) land(g *group, err error) {
	g.cancel()
	g.err = err
	q.mu.Lock()
	q.mu.flying--
	q.mu.expected = q.mu.callers
	next := q.mu.open
	if next != nil {
		if q.dueLocked(next) {
			q.sealLocked(next)
		} else {
			next = nil
		}
	}
	q.mu.Unlock()
	close(g.done)
	if next != nil {
		go q.launch(next)
	}
}

// leave notes the end of a call.
func (q *groups) leave() {
	q.mu.Lock()
	q.mu.callers--
	q.mu.Unlock()
}

// abandon takes a part out of its group, or, when it is being sent, waits until its batch is not read any more.
func (q *groups) abandon(g *group, p *part) {
	q.mu.Lock()
	if !g.sealed {
		g.parts = slices.DeleteFunc(g.parts, func(other *part) bool { return other == p })
		g.rows -= p.batch.Rows()
		if len(g.parts) == 0 {
			g.timer.Stop()
			q.mu.open = nil
		}
		q.mu.Unlock()
		return
	}
	if g.waiting--; g.waiting == 0 {
		g.cancel()
	}
	q.mu.Unlock()
	<-g.read
}

// Ingest sends the batch and returns when the node has acknowledged all of it. Batches of concurrent calls travel together. After
// an end of ctx it returns once the batch is not read any more.
func (c *Client) Ingest(ctx context.Context, batch *model.Batch) error {
	if err := ctx.Err(); err != nil || batch.Rows() == 0 {
		return err
	}
	if batch.HistogramRows() > 0 {
		return c.ingestHistograms(ctx, batch)
	}
	return c.ingest(ctx, batch)
}

func (c *Client) ingest(ctx context.Context, batch *model.Batch) error {
	p := &part{batch: batch, space: c.spaceOf(batch)}
	rows := batch.Rows()
	c.metrics.rowsPushed.Add(rows)
	c.pending.Add(int64(rows))
	defer c.pending.Add(-int64(rows))
	g, due := c.groups.join(p)
	defer c.groups.leave()
	switch {
	case due && len(g.parts) == 1:
		// The caller's own goroutine and context will do.
		err := c.exchange(ctx, g.parts, func() {})
		c.groups.land(g, err)
		return err
	case due:
		go c.launch(g)
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		c.groups.abandon(g, p)
		return ctx.Err()
	}
	if g.err != nil && len(g.parts) > 1 && !errkind.Of(g.err).TryElsewhere() {
		// One of the batches may be at fault, and the others must not suffer for it.
		return c.exchange(ctx, []*part{p}, func() {})
	}
	return g.err
}

// launch sends a group.
func (c *Client) launch(g *group) {
	c.groups.land(g, c.exchange(g.ctx, g.parts, func() { close(g.read) }))
}

// maxPipelined bounds the requests which one call of exchange has under way.
const maxPipelined = 4

// exchange sends parts and returns when the node has acknowledged all of them. Sent is called once, when the
// batches are not read any more.
func (c *Client) exchange(ctx context.Context, parts []*part, sent func()) error {
	var calls []*request
	defer func() {
		for _, r := range calls {
			r.stream.Close()
		}
	}()
	for at, more := (place{}).next(parts); more; {
		if len(calls) == maxPipelined {
			if err := c.wait(ctx, calls[0]); err != nil {
				sent()
				return err
			}
			calls = calls[1:]
		}
		r := &request{client: c, parts: parts, start: at}
		if err := c.send(ctx, r); err != nil {
			sent()
			return err
		}
		calls = append(calls, r)
		at, more = r.end.next(parts)
	}
	sent()
	for len(calls) > 0 {
		if err := c.wait(ctx, calls[0]); err != nil {
			return err
		}
		calls = calls[1:]
	}
	return nil
}

// place is a place in a list of parts, of which first the samples are sent, then the native histograms.
type place struct {
	part int
	position
	histograms bool // the position has the number of one of them
}

func (p place) nextPart() place { return place{part: p.part + 1, histograms: p.histograms} }

// next returns the place of what is to be sent from p on; false when there is nothing.
func (p place) next(parts []*part) (place, bool) {
	for p.part < len(parts) && p.passed(parts[p.part].batch) {
		p = p.nextPart()
	}
	if p.part >= len(parts) && !p.histograms {
		return place{histograms: true}.next(parts)
	}
	return p, p.part < len(parts)
}

// passed reports whether nothing more of its part is to be sent.
func (p place) passed(b *model.Batch) bool {
	if p.histograms {
		return p.sample >= b.HistogramRows()
	}
	return atEnd(b, p.position)
}
