package transport

import (
	"context"
	"sync"
)

// outbox collects frames. Who adds some in a hurry writes what is pending in its own goroutine, as far as the network takes it
// at once; one at a time does, and takes along what others add meanwhile. The rest, and what those add who must never
// wait, is left to the goroutine of writeLoop. So a small call costs no switch between goroutines, and nobody waits for a slow peer
// but that one.
type outbox struct {
	limit int // bytes beyond which waitRoom waits
	wake  chan struct{}
	// try writes what fits without waiting and returns how much of b that is; unless that is all there is to write, drain must follow,
	// also when nothing is left of b. It is nil when the connection cannot.
	try func(b []byte) (n int, all bool)
	mu  struct {
		sync.Mutex
		pending []byte
		spare   []byte // memory for the next pending
		err     error
		room    chan struct{} // closed when pending has been taken; nil when nobody waits
		writing bool          // somebody writes what was taken
		stuck   bool          // the network takes no more for now: writeLoop alone writes
	}
}

const (
	outboxLimit = 1 << 20
	// keepOutbox is the largest buffer kept for the next frames.
	keepOutbox = 8 << 20
	// lazyBytes is how much may be left pending by who will add more soon.
	lazyBytes = 16 << 10
)

// add lets f append frames under the lock and returns how much is pending. When f fails, nothing is sent. Flush or
// hurry must follow.
func (o *outbox) add(f func(dst []byte) ([]byte, error)) (pending int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.err != nil {
		return 0, o.mu.err
	}
	n := len(o.mu.pending)
	dst, err := f(o.mu.pending)
	if err != nil {
		o.mu.pending = o.mu.pending[:n]
		return n, err
	}
	o.mu.pending = dst
	return len(dst), nil
}

// flush lets writeLoop write what is pending.
func (o *outbox) flush() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// hurry writes what is pending in this goroutine, without waiting for the network.
func (o *outbox) hurry() {
	if o.try == nil || !o.tryAll() {
		o.flush()
	}
}

// tryAll is false when something is left to writeLoop.
func (o *outbox) tryAll() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.mu.stuck && o.takesLocked() {
		b := o.takeLocked()
		o.mu.Unlock()
		n, all := o.try(b)
		o.mu.Lock()
		o.mu.writing = false
		if all {
			o.keepLocked(b)
			continue
		}
		o.mu.stuck = true
		if o.mu.err == nil {
			rest := append(b[:copy(b, b[n:])], o.mu.pending...)
			o.keepLocked(o.mu.pending)
			o.mu.pending = rest
		}
	}
	return !o.mu.stuck
}

// takesLocked reports whether there is something to write and nobody does.
func (o *outbox) takesLocked() bool {
	return !o.mu.writing && len(o.mu.pending) > 0 && o.mu.err == nil
}

// takeLocked returns what is pending to the only one who writes.
func (o *outbox) takeLocked() []byte {
	o.mu.writing = true
	b := o.mu.pending
	o.mu.pending, o.mu.spare = o.mu.spare[:0], nil
	o.freeLocked()
	return b
}

// keepLocked keeps the memory of frames which have been written.
func (o *outbox) keepLocked(b []byte) {
	if cap(b) <= keepOutbox && cap(b) > cap(o.mu.spare) {
		o.mu.spare = b[:0]
	}
}

// drain writes all that is pending with write, which may wait.
func (o *outbox) drain(write func(b []byte) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.takesLocked() || o.mu.stuck && !o.mu.writing && o.mu.err == nil {
		b := o.takeLocked()
		o.mu.Unlock()
		err := write(b)
		o.mu.Lock()
		o.mu.writing = false
		if err != nil {
			return err
		}
		o.keepLocked(b)
		o.mu.stuck = false
	}
	return nil
}

// waitRoom waits until less than the limit is pending.
func (o *outbox) waitRoom(ctx context.Context) error {
	for {
		o.mu.Lock()
		if err := o.mu.err; err != nil || len(o.mu.pending) < o.limit {
			o.mu.Unlock()
			return err
		}
		if o.mu.room == nil {
			o.mu.room = make(chan struct{})
		}
		room := o.mu.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (o *outbox) pendingBytes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.mu.pending)
}

func (o *outbox) freeLocked() {
	if o.mu.room != nil {
		close(o.mu.room)
		o.mu.room = nil
	}
}

// fail makes everything that follows return err.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.err == nil {
		o.mu.err = err
	}
	o.mu.pending = nil
	o.freeLocked()
}
