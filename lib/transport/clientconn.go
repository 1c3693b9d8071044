package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

// Request encodes itself.
type Request interface {
	// AppendRequest appends the body of the request to dst. It is called under
	// the lock of the connection, in the order of sending, so it may
	// keep state per connection: conn differs between connections and is never 0.
	// On an error nothing is sent.
	AppendRequest(dst []byte, conn uint64) ([]byte, error)
}

// clientConn is one connection of a client.
type clientConn struct {
	*link
	client   *Client
	id       uint64
	slots    chan struct{} // one for each stream the server allows
	maxSend  int           // largest payload the server takes
	window   int
	done     chan struct{}
	draining atomic.Bool
	// capabilities are those both sides have.
	capabilities uint64
	untold       *ClientStream // has got frames and does not know yet, since the next one is here; of the reading goroutine

	mu struct {
		sync.Mutex
		err     error
		lastID  uint32
		streams map[uint32]*ClientStream
	}
}

func newClientConn(c *Client, conn net.Conn, reply helloReply) *clientConn {
	cfg := &c.opts.Config
	cc := &clientConn{
		link:    newLink(conn, cfg.MaxFrame, cfg.UserTimeout.D(), &c.buffers, linkCounters{c.opts.Metrics.ReadBytes.Add, c.opts.Metrics.WrittenBytes.Add}),
		client:  c,
		id:      c.nextID.Add(1),
		slots:   make(chan struct{}, reply.maxStreams),
		maxSend: int(min(reply.maxFrame, math.MaxInt32)),
		window:  cfg.WindowBytes,
		done:    make(chan struct{}),

		capabilities: reply.capabilities,
	}
	cc.mu.streams = map[uint32]*ClientStream{}
	return cc
}

// run serves the connection until it fails and returns why.
func (cc *clientConn) run(wg *sync.WaitGroup) error {
	cfg := &cc.client.opts.Config
	if cc.client.ctx.Err() != nil {
		cc.fail(errClosed) // Close has not seen this connection
	}
	wg.Go(func() {
		err := cc.writeLoop(cc.done, cfg.UserTimeout.D(), cfg.PingInterval.D())
		if err != nil {
			cc.fail(errkind.New(errkind.Unavailable, "cannot write: %w", err))
		}
	})
	err := cc.readLoop(cc.handle)
	cc.tellUntold()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errkind.New(errkind.Unavailable, "no answer for %s, see -vmstorageUserTimeout: %w", cfg.UserTimeout.D(), err)
	}
	cc.fail(err)
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.mu.err
}

// fail ends the connection and all its streams. The first cause stays.
func (cc *clientConn) fail(err error) {
	cc.mu.Lock()
	if cc.mu.err != nil {
		cc.mu.Unlock()
		return
	}
	cc.mu.err = err
	streams := cc.mu.streams
	cc.mu.streams = nil
	cc.mu.Unlock()

	close(cc.done)
	_ = cc.conn.Close() // the connection is given up in any case
	named := cc.client.unavailable(err)
	cc.out.fail(named)
	for _, s := range streams {
		s.finish(named)
	}
}

// Start sends a request and returns its stream of answers. It fails at once with kind
// Unavailable or Draining when the node takes no requests, and waits while too
// many calls or bytes are under way. The deadline of ctx travels with the request.
func (c *Client) Start(ctx context.Context, req Request) (*ClientStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cc, err := c.current(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case cc.slots <- struct{}{}:
	case <-cc.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, err := cc.register()
	if err != nil {
		return nil, err
	}
	if err = cc.out.waitRoom(ctx); err == nil {
		_, err = cc.out.add(func(dst []byte) ([]byte, error) { return cc.appendRequest(dst, s, ctx, req) })
	}
	if err != nil {
		cc.remove(s)
		if s.oversize {
			cc.fail(err)
		}
		return nil, err
	}
	cc.out.hurry()
	return s, nil
}

// register makes a stream, for which the caller has taken a slot unless the
// connection is dead.
func (cc *clientConn) register() (*ClientStream, error) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.mu.err != nil {
		return nil, cc.client.unavailable(cc.mu.err)
	}
	if cc.draining.Load() {
		<-cc.slots
		return nil, errkind.New(errkind.Draining, "cannot use storage node %q: it is shutting down", cc.client.opts.Addr)
	}
	for used := true; used || cc.mu.lastID == 0; {
		cc.mu.lastID++
		_, used = cc.mu.streams[cc.mu.lastID]
	}
	s := &ClientStream{conn: cc, id: cc.mu.lastID, notify: make(chan struct{}, 1)}
	cc.mu.streams[s.id] = s
	return s, nil
}

func (cc *clientConn) appendRequest(dst []byte, s *ClientStream, ctx context.Context, req Request) ([]byte, error) {
	start := len(dst)
	timeoutMs := int64(0)
	if deadline, ok := ctx.Deadline(); ok {
		timeoutMs = min(max(time.Until(deadline).Milliseconds(), 1), math.MaxUint32)
	}
	dst = binary.BigEndian.AppendUint32(beginFrame(dst), uint32(timeoutMs))
	dst, err := req.AppendRequest(dst, cc.id)
	if err != nil {
		return dst, err
	}
	if n := len(dst) - start - frameHeaderSize; n > cc.maxSend {
		s.oversize = true
		err := errkind.New(errkind.TooLarge, "cannot send request of %d bytes to storage node %q: it takes at most %d", n, cc.client.opts.Addr, cc.maxSend)
		// State of the session is in the bytes which are not sent, so nothing may follow them. Start
		// ends the connection once it no longer holds the lock of out, as this call does.
		cc.out.mu.err = cc.client.unavailable(err)
		return dst, err
	}
	endFrame(dst, start, frameRequest, s.id)
	return dst, nil
}

// remove forgets a stream which got its terminal frame or was never sent.
func (cc *clientConn) remove(s *ClientStream) {
	cc.mu.Lock()
	_, ok := cc.mu.streams[s.id]
	delete(cc.mu.streams, s.id)
	left := len(cc.mu.streams)
	cc.mu.Unlock()
	if ok {
		<-cc.slots
	}
	if left == 0 && cc.draining.Load() {
		cc.fail(errkind.New(errkind.Draining, "the node is shutting down"))
	}
}

func (cc *clientConn) stream(id uint32) *ClientStream {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.mu.streams[id]
}

// handle takes a frame. Who waits for it is woken when no whole frame is left to be read: a short answer and its end come together, and
// to wake a goroutine takes longer than to read both.
func (cc *clientConn) handle(f frame, buf *bytesutil.Buffer) (kept bool, err error) {
	kept, err = cc.take(f, buf)
	if !cc.hasFrame() {
		cc.tellUntold()
	}
	return kept, err
}

func (cc *clientConn) tellUntold() {
	if cc.untold != nil {
		cc.untold.tell()
		cc.untold = nil
	}
}

func (cc *clientConn) take(f frame, buf *bytesutil.Buffer) (kept bool, err error) {
	switch f.kind {
	case framePing:
		return false, cc.send(framePong, 0, f.payload)
	case framePong:
		return false, nil
	case frameGoAway:
		cc.goAway()
		return false, nil
	}
	s := cc.stream(f.stream)
	if s == nil {
		return false, errkind.New(errkind.Corrupt, "got frame of kind %d for unknown stream %d", f.kind, f.stream)
	}
	switch f.kind {
	case frameData, frameEnd:
		if f.kind == frameEnd {
			cc.remove(s)
		}
		if cc.untold != s {
			cc.tellUntold()
			cc.untold = s
		}
		return s.push(buf, f.kind == frameEnd)
	case frameError:
		cc.remove(s)
		cause := ParseError(f.payload)
		s.finish(errkind.New(errkind.Of(cause), "storage node %q: %w", cc.client.opts.Addr, cause).WithRetryAfter(errkind.RetryAfterOf(cause)))
		return false, nil
	}
	return false, errkind.New(errkind.Corrupt, "got frame of unknown kind %d", f.kind)
}

// goAway stops new requests and closes the connection when it is idle.
func (cc *clientConn) goAway() {
	cc.mu.Lock()
	cc.draining.Store(true)
	left := len(cc.mu.streams)
	cc.mu.Unlock()
	if left == 0 {
		cc.fail(errkind.New(errkind.Draining, "the node is shutting down"))
	}
}

// ClientStream is one call. It is used by one goroutine at a time.
type ClientStream struct {
	conn     *clientConn
	id       uint32
	notify   chan struct{}
	oversize bool              // the request was too large to be sent
	consumed int               // bytes taken since the last credit
	last     *bytesutil.Buffer // returned by the last Recv

	mu struct {
		sync.Mutex
		queue  []*bytesutil.Buffer
		queued int  // bytes in queue
		ended  bool // the last buffer in queue is the last of the stream
		closed bool
		err    error
	}
}

// Capabilities returns what both sides of the stream's connection can do.
func (s *ClientStream) Capabilities() uint64 { return s.conn.capabilities }

// push takes a part of the answer from the reading goroutine, which tells the reader of the stream.
func (s *ClientStream) push(buf *bytesutil.Buffer, last bool) (kept bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || s.mu.err != nil {
		return false, nil
	}
	if s.mu.queued > s.conn.window && !last {
		return false, errkind.New(errkind.Corrupt, "the node sent more on stream %d than the window of %d bytes", s.id, s.conn.window)
	}
	s.mu.queue = append(s.mu.queue, buf)
	s.mu.queued += len(buf.B)
	s.mu.ended = last
	return true, nil
}

func (s *ClientStream) tell() {
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

func (s *ClientStream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err == nil && !s.mu.ended {
		s.mu.err = err
	}
	s.tell()
}

// Recv returns the next part of the answer, and whether it is the last. The
// payload is valid until the next call of Recv or Close. Errors which the
// node returned keep their kind; a lost connection is Unavailable.
func (s *ClientStream) Recv(ctx context.Context) (payload []byte, last bool, err error) {
	s.release()
	for {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		buf, last, err := s.pop()
		if err != nil {
			return nil, false, err
		}
		if buf != nil {
			s.last = buf
			if !last {
				s.credit(len(buf.B))
			}
			return buf.B, last, nil
		}
		select {
		case <-s.notify:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

func (s *ClientStream) pop() (buf *bytesutil.Buffer, last bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.queue) == 0 {
		if s.mu.ended && s.mu.err == nil {
			return nil, false, io.EOF
		}
		return nil, false, s.mu.err
	}
	buf = s.mu.queue[0]
	s.mu.queue[0] = nil
	s.mu.queue = s.mu.queue[1:]
	s.mu.queued -= len(buf.B)
	return buf, s.mu.ended && len(s.mu.queue) == 0, nil
}

// credit lets the server send on once half of the window has been consumed.
func (s *ClientStream) credit(n int) {
	s.consumed += n
	if s.consumed < s.conn.window/2 {
		return
	}
	var payload [4]byte
	binary.BigEndian.PutUint32(payload[:], uint32(s.consumed))
	s.consumed = 0
	// A connection that is lost fails the next Recv.
	_ = s.conn.sendNow(frameCredit, s.id, payload[:])
}

func (s *ClientStream) release() {
	if s.last != nil {
		s.conn.buffers.Put(s.last)
		s.last = nil
	}
}

// Keep takes the buffer of the payload that Recv returned last out of the
// hands of the stream, which will not reuse it.
func (s *ClientStream) Keep() { s.last = nil }

// Close ends the call. An unfinished one is cancelled at the server.
func (s *ClientStream) Close() {
	s.release()
	s.mu.Lock()
	unfinished := !s.mu.closed && !s.mu.ended && s.mu.err == nil
	s.mu.closed = true
	for _, buf := range s.mu.queue {
		s.conn.buffers.Put(buf)
	}
	s.mu.queue, s.mu.queued = nil, 0
	if s.mu.err == nil {
		s.mu.err = errkind.New(errkind.Canceled, "the call to storage node %q was closed", s.conn.client.opts.Addr)
	}
	s.mu.Unlock()
	if unfinished {
		// On a lost connection there is nothing left to cancel.
		_ = s.conn.sendNow(frameCancel, s.id, nil)
	}
}
