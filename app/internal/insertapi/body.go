package insertapi

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"vmcluster/lib/memory"
)

// body is a request's. A request whose sender is awaited for long gives its turn to others, so that senders over slow networks, however many, keep nobody
// out. What they have sent before is in memory, and part of the budget until they go on; where that has no room they keep their turns.
type body struct {
	buffered *bufio.Reader // reads from the connection through Read
	conn     io.Reader
	ctx      context.Context
	limiter  *limiter
	budget   *memory.Budget // nil: none
	held     bool           // the request had its turn when it read last
	whole    bool           // there is nothing to wait for
	awaited  *time.Timer    // calls giveUp

	mu struct {
		sync.Mutex
		reading  bool  // the request waits in Read
		gaveUp   bool  // and has no turn
		reserved int64 // of the budget
		read     int64 // bytes
	}
}

// maxTurnWait is how long a request keeps its turn while its sender sends nothing.
const maxTurnWait = 100 * time.Millisecond

// Read reads from the connection.
func (b *body) Read(p []byte) (int, error) {
	if b.whole || !b.held {
		return b.conn.Read(p)
	}
	b.mu.Lock()
	b.mu.reading = true
	b.mu.Unlock()
	b.awaited.Reset(maxTurnWait)
	n, err := b.conn.Read(p)
	b.awaited.Stop()
	if b.proceed(n) {
		if b.held = false; b.budget != nil {
			b.budget.Release(b.mu.reserved)
		}
		if waitErr := b.limiter.acquire(b.ctx); waitErr != nil {
			return n, waitErr
		}
		b.held = true
	}
	return n, err
}

// proceed notes that n bytes were read and reports whether the turn was given up meanwhile.
func (b *body) proceed(n int) (gaveUp bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	gaveUp = b.mu.gaveUp
	b.mu.reading, b.mu.gaveUp = false, false
	b.mu.read += int64(n)
	return gaveUp
}

// giveUp gives up the turn of a request which waits in Read. The timer may call it late, for a Read or a request which came after; it is as well then.
func (b *body) giveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mu.reading || b.mu.gaveUp {
		return
	}
	if b.budget != nil && b.budget.ReserveMore(b.mu.read, 0, "bodies of slow senders") != nil {
		return
	}
	b.mu.gaveUp, b.mu.reserved = true, b.mu.read
	b.limiter.release()
}

// begin waits for the turn of the request.
func (b *body) begin(r *http.Request) error {
	got := b.buffered.Buffered()
	b.whole = r.ContentLength == int64(got)
	b.proceed(got)
	err := b.limiter.acquire(b.ctx)
	b.held = err == nil
	return err
}

func (a *API) getBody(r *http.Request) *body {
	b, ok := a.bodies.Get().(*body)
	if !ok {
		b = &body{limiter: a.limiter, budget: a.budget}
		b.buffered = bufio.NewReader(b)
		b.awaited = time.AfterFunc(time.Hour, b.giveUp)
		b.awaited.Stop()
	}
	b.buffered.Reset(b)
	b.conn, b.ctx, b.whole = r.Body, r.Context(), false
	return b
}

// putBody ends the turn of the request, if it has one.
func (a *API) putBody(b *body) {
	if b.held {
		b.limiter.release()
	}
	b.conn, b.ctx, b.held, b.mu.read = nil, nil, false, 0
	a.bodies.Put(b)
}
