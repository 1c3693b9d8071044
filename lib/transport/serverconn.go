package transport

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

// serverConn is one connection of a server.
type serverConn struct {
	*link
	server  *Server
	secure  bool // it is under TLS
	session Session
	window  int64
	maxSend int // largest payload the client takes
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup // the writer and the calls
	told    atomic.Bool    // the client was asked to send no more requests

	mu struct {
		sync.Mutex
		streams map[uint32]*Responder
		err     error
	}
}

func newServerConn(s *Server, conn net.Conn, h hello) *serverConn {
	cfg := &s.opts.Config
	sc := &serverConn{
		link:    newLink(conn, cfg.MaxFrame, cfg.IdleTimeout.D(), &s.buffers, linkCounters{s.opts.Metrics.ReadBytes.Add, s.opts.Metrics.WrittenBytes.Add}),
		server:  s,
		window:  min(int64(h.window), int64(cfg.MaxWindow)),
		maxSend: int(min(h.maxFrame, 1<<30)),
	}
	sc.ctx, sc.cancel = context.WithCancelCause(context.Background())
	sc.mu.streams = map[uint32]*Responder{}
	return sc
}

// run serves the connection until it ends and returns why.
func (sc *serverConn) run(session Session) error {
	sc.session = session
	sc.wg.Go(func() {
		err := sc.writeLoop(sc.ctx.Done(), sc.server.opts.Config.WriteTimeout.D(), 0)
		if err != nil {
			sc.fail(errkind.New(errkind.Unavailable, "cannot write: %w", err))
		}
	})
	sc.fail(sc.readLoop(sc.handle))
	sc.wg.Wait()
	session.Close()
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.mu.err
}

// fail ends the connection and all its calls. The first cause stays.
func (sc *serverConn) fail(err error) {
	sc.mu.Lock()
	if sc.mu.err == nil {
		sc.mu.err = err
	}
	sc.mu.Unlock()
	sc.cancel(errkind.New(errkind.Canceled, "the caller is gone: %w", err))
	sc.out.fail(err)
	_ = sc.conn.Close() // the connection is given up in any case
}

// goAway asks the client to send no more requests, and refuses those that come nevertheless. A
// connection that is lost needs no asking.
func (sc *serverConn) goAway() {
	sc.told.Store(true)
	_ = sc.send(frameGoAway, 0, nil)
}

func (sc *serverConn) busy() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return len(sc.mu.streams) > 0
}

func (sc *serverConn) handle(f frame, _ *bytesutil.Buffer) (kept bool, err error) {
	switch f.kind {
	case frameRequest:
		return false, sc.accept(f)
	case framePing:
		return false, sc.send(framePong, 0, f.payload)
	case framePong:
		return false, nil
	case frameCancel:
		if r := sc.stream(f.stream); r != nil {
			r.cancel()
		}
		return false, nil
	case frameCredit:
		if len(f.payload) != 4 {
			return false, errkind.New(errkind.Corrupt, "got credit of %d bytes; want 4", len(f.payload))
		}
		if r := sc.stream(f.stream); r != nil {
			r.grant(int64(binary.BigEndian.Uint32(f.payload)))
		}
		return false, nil
	}
	return false, errkind.New(errkind.Corrupt, "got frame of unknown kind %d", f.kind)
}

func (sc *serverConn) stream(id uint32) *Responder {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.mu.streams[id]
}

// accept lets the session decode a request, also one which will be refused,
// since the session may keep state; then it starts the call.
func (sc *serverConn) accept(f frame) error {
	if len(f.payload) < 4 {
		return errkind.New(errkind.Corrupt, "got request of %d bytes; want at least 4", len(f.payload))
	}
	timeoutMs := binary.BigEndian.Uint32(f.payload)
	call, err := sc.session.Accept(f.payload[4:])
	if err != nil {
		if errkind.Of(err) == errkind.Corrupt {
			return errkind.New(errkind.Corrupt, "cannot decode request: %w", err)
		}
		return sc.refuse(f.stream, err)
	}
	r := &Responder{conn: sc, id: f.stream, notify: make(chan struct{}, 1)}
	r.mu.credit = sc.window
	if err := sc.enter(r); err != nil {
		call.Release()
		if errkind.Of(err) == errkind.Corrupt {
			return err
		}
		return sc.refuse(f.stream, err)
	}
	if timeoutMs > 0 {
		r.ctx, r.cancel = context.WithTimeout(sc.ctx, time.Duration(timeoutMs)*time.Millisecond)
	} else {
		r.ctx, r.cancel = context.WithCancel(sc.ctx)
	}
	sc.wg.Add(1)
	sc.server.start(job{r, call})
	return nil
}

func (sc *serverConn) refuse(stream uint32, err error) error {
	return sc.send(frameError, stream, AppendError(nil, err))
}

func (sc *serverConn) enter(r *Responder) error {
	if sc.told.Load() {
		return errkind.New(errkind.Draining, "the node is shutting down")
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.mu.streams[r.id] != nil {
		return errkind.New(errkind.Corrupt, "stream %d is opened twice", r.id)
	}
	if limit := sc.server.opts.Config.MaxStreams; len(sc.mu.streams) >= limit {
		return errkind.New(errkind.Overloaded, "cannot take more than %d requests at once on a connection", limit)
	}
	sc.mu.streams[r.id] = r
	return nil
}

// Responder sends the answer of one call. It is used by one goroutine at a time.
type Responder struct {
	conn   *serverConn
	id     uint32
	ctx    context.Context
	cancel context.CancelFunc
	notify chan struct{}
	final  []byte

	mu struct {
		sync.Mutex
		credit int64 // bytes which may be sent
	}
}

func (r *Responder) serve(call Call) {
	err := call.Serve(r.ctx, r)
	call.Release()
	r.cancel()
	sc := r.conn
	// The stream ends here before the client hears of it, so that it is free
	// by the time the client uses the slot again.
	sc.mu.Lock()
	delete(sc.mu.streams, r.id)
	sc.mu.Unlock()
	// When the connection is lost nobody is left to answer.
	if err != nil {
		_ = sc.sendNow(frameError, r.id, AppendError(nil, err))
		return
	}
	_ = sc.sendNow(frameEnd, r.id, r.final)
}

// MaxPayload returns the size of the largest payload the client takes.
func (r *Responder) MaxPayload() int { return r.conn.maxSend }

// Send sends one part of the answer. It waits while the client is behind, and fails
// when the context of the call ends. The payload is copied. A small part may wait for the next one, or for the end of
// the call, so that a short answer is one packet.
func (r *Responder) Send(payload []byte) error {
	if len(payload) > r.conn.maxSend {
		return errkind.New(errkind.TooLarge, "cannot send %d bytes: the peer takes at most %d", len(payload), r.conn.maxSend)
	}
	if err := r.waitCredit(int64(len(payload))); err != nil {
		return err
	}
	if err := r.conn.out.waitRoom(r.ctx); err != nil {
		return err
	}
	pending, err := r.conn.append(frameData, r.id, payload)
	if pending >= lazyBytes {
		r.conn.out.hurry()
	}
	return err
}

// Finish sets the payload of the last frame. It is sent when Serve returns nil and is
// not copied.
func (r *Responder) Finish(payload []byte) { r.final = payload }

func (r *Responder) waitCredit(n int64) error {
	for {
		if err := r.ctx.Err(); err != nil {
			return context.Cause(r.ctx)
		}
		if r.takeCredit(n) {
			return nil
		}
		r.conn.out.hurry() // there will be no credit for what the client has not got
		select {
		case <-r.notify:
		case <-r.ctx.Done():
		}
	}
}

// takeCredit takes n bytes when there is any credit at all: a frame may be
// larger than what is left of the window.
func (r *Responder) takeCredit(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.credit <= 0 {
		return false
	}
	r.mu.credit -= n
	return true
}

func (r *Responder) grant(n int64) {
	r.mu.Lock()
	r.mu.credit += n
	r.mu.Unlock()
	select {
	case r.notify <- struct{}{}:
	default:
	}
}
