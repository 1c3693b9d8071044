package transport

import (
	"bufio"
	"context"
	"net"
	"sync"
	"time"

	"vmcluster/lib/bytesutil"
)

// link is one connection after the hello: frames in, frames out. Client and
// server build on it.
type link struct {
	conn     net.Conn
	reader   *bufio.Reader
	maxFrame int // largest payload taken
	out      outbox
	buffers  *bytesutil.Pool
}

// outbox collects frames; one goroutine writes them.
type outbox struct {
	limit int // bytes beyond which waitRoom waits
	wake  chan struct{}
	mu    struct {
		sync.Mutex
		pending []byte
		err     error
		room    chan struct{} // closed when pending has been taken; nil when nobody waits
	}
}

const (
	outboxLimit = 1 << 20
	// writeChunk bounds what one deadline covers, so that a slow but living
	// network is not taken for a dead one.
	writeChunk = 64 << 10
	// keepOutbox is the largest buffer kept for the next frames.
	keepOutbox = 8 << 20
)

// progressReader gives each read of the network its own deadline.
type progressReader struct {
	conn    net.Conn
	timeout time.Duration
	count   func(n int)
}

func (r *progressReader) Read(p []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.timeout)); err != nil {
		return 0, err
	}
	n, err := r.conn.Read(p)
	r.count(n)
	return n, err
}

func newLink(conn net.Conn, maxFrame int, readTimeout time.Duration, buffers *bytesutil.Pool, countRead func(int)) *link {
	l := &link{conn: conn, maxFrame: maxFrame, buffers: buffers}
	l.reader = bufio.NewReaderSize(&progressReader{conn: conn, timeout: readTimeout, count: countRead}, 64<<10)
	l.out.limit = outboxLimit
	l.out.wake = make(chan struct{}, 1)
	return l
}

// readLoop hands frames to handle until reading or handle fails. Handle
// returns true when it keeps the buffer of the payload.
func (l *link) readLoop(handle func(f frame, buf *bytesutil.Buffer) (kept bool, err error)) error {
	buf := l.buffers.Get()
	for {
		f, err := readFrame(l.reader, buf, l.maxFrame)
		if err != nil {
			return err
		}
		kept, err := handle(f, buf)
		if err != nil {
			return err
		}
		if kept || cap(buf.B) > 1<<20 {
			buf = l.buffers.Get()
		}
	}
}

// send appends one frame, whatever is pending already.
func (l *link) send(kind frameKind, stream uint32, payload []byte) error {
	return l.out.add(func(dst []byte) ([]byte, error) { return appendFrame(dst, kind, stream, payload), nil })
}

// add lets f append frames under the lock. When f fails, nothing is sent.
func (o *outbox) add(f func(dst []byte) ([]byte, error)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.err != nil {
		return o.mu.err
	}
	n := len(o.mu.pending)
	dst, err := f(o.mu.pending)
	if err != nil {
		o.mu.pending = o.mu.pending[:n]
		return err
	}
	o.mu.pending = dst
	select {
	case o.wake <- struct{}{}:
	default:
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

// take returns what is pending and leaves spare in its place.
func (o *outbox) take(spare []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.mu.pending
	o.mu.pending = spare[:0]
	o.freeLocked()
	return b
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

// writeLoop writes until done is closed or the network fails. With a ping
// interval above 0 it pings the peer at that interval.
func (l *link) writeLoop(done <-chan struct{}, timeout, pingInterval time.Duration, count func(n int)) error {
	var ticks <-chan time.Time
	if pingInterval > 0 {
		ticker := time.NewTicker(pingInterval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	var spare []byte
	for {
		select {
		case <-done:
			return nil
		case <-ticks:
			if err := l.send(framePing, 0, nil); err != nil {
				return err
			}
		case <-l.out.wake:
		}
		b := l.out.take(spare)
		if err := l.write(b, timeout, count); err != nil {
			return err
		}
		if spare = b; cap(spare) > keepOutbox {
			spare = nil
		}
	}
}

func (l *link) write(b []byte, timeout time.Duration, count func(n int)) error {
	for len(b) > 0 {
		if err := l.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		n, err := l.conn.Write(b[:min(len(b), writeChunk)])
		count(n)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
