package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/invariants"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// Session serves the requests of one connection.
type Session interface {
	// Accept decodes one request. It is called in the order of arrival by the
	// goroutine that reads the connection, so it must not wait. The payload is valid
	// until it returns. An error of kind Corrupt ends the connection; any
	// other one is the answer to the request.
	Accept(payload []byte) (Call, error)
	// Close frees the session when the connection has ended and all its calls have.
	Close()
}

// Call is one accepted request.
type Call interface {
	// Serve works on the call and returns its outcome. Calls of a connection run
	// concurrently. The context ends when the caller gives up or is gone.
	Serve(ctx context.Context, out *Responder) error
	// Release frees the call, whether it was served or refused.
	Release()
}

// ServerConfig holds the settings of a server. Zero fields get their defaults.
type ServerConfig struct {
	HandshakeTimeout flagvalue.Duration // 5s
	IdleTimeout      flagvalue.Duration // longest silence of a peer, which pings every second; 10s
	WriteTimeout     flagvalue.Duration // longest wait for a peer to read; 10s
	ShutdownSpread   flagvalue.Duration // time over which Shutdown tells the peers one by one; 0: at once
	MaxStreams       int                // calls of one connection at once, 256
	MaxFrame         int                // largest payload taken, 32 MiB
	MaxWindow        int                // most bytes per stream under way, 4 MiB
	TLS              *tls.Config        // nil means plain TCP
	TLSOptional      bool               // peers may do without TLS although it is on
}

func (c *ServerConfig) setDefaults() {
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	setDefault(&c.IdleTimeout, 10*time.Second)
	setDefault(&c.WriteTimeout, 10*time.Second)
	if c.MaxStreams <= 0 {
		c.MaxStreams = 256
	}
	if c.MaxFrame <= 0 {
		c.MaxFrame = defaultMaxFrame
	}
	if c.MaxWindow <= 0 {
		c.MaxWindow = 4 << 20
	}
	invariants.Check(c.MaxStreams < 1<<16, "%d streams per connection", c.MaxStreams)
}

// ServerMetrics counts what happens to the connections of one server.
type ServerMetrics struct {
	Accepts         *metrics.Counter
	ConnErrors      *metrics.Counter // connections that failed, hellos included
	HandshakeErrors *metrics.Counter // those that failed before the hellos were exchanged, but for peers which left without a word
	ReadBytes       *metrics.Counter
	WrittenBytes    *metrics.Counter
}

// ServerOptions says what to serve and how.
type ServerOptions struct {
	Role         Role
	Capabilities uint64 // those this side can do
	NewSession   func(peer string) Session
	Config       ServerConfig
	Logger       *logger.Logger // nil means none
	Metrics      ServerMetrics  // nil counters are made up
}

func (o *ServerOptions) setDefaults() {
	o.Config.setDefaults()
	if o.Logger == nil {
		o.Logger = logger.Discard()
	}
	m := &o.Metrics
	for _, c := range []**metrics.Counter{&m.Accepts, &m.ConnErrors, &m.HandshakeErrors, &m.ReadBytes, &m.WrittenBytes} {
		if *c == nil {
			*c = &metrics.Counter{}
		}
	}
}

// Server answers calls on all connections of its listeners.
type Server struct {
	opts     ServerOptions
	buffers  bytesutil.Pool
	throttle *logger.Throttle // of complaints about strangers
	wg       sync.WaitGroup   // accept loops and connections
	draining atomic.Bool
	closed   chan struct{}

	jobs    chan job     // taken by workers which wait
	waiting atomic.Int64 // how many do
	workers sync.WaitGroup

	mu struct {
		sync.Mutex
		closed    bool
		listeners map[net.Listener]struct{}
		raw       map[net.Conn]struct{} // before the hello
		conns     map[*serverConn]struct{}
	}
}

// NewServer returns a server which does nothing until Serve is called.
func NewServer(o ServerOptions) *Server {
	o.setDefaults()
	s := &Server{opts: o, throttle: logger.NewThrottle(o.Logger, time.Second), closed: make(chan struct{}), jobs: make(chan job)}
	s.mu.listeners, s.mu.raw, s.mu.conns = map[net.Listener]struct{}{}, map[net.Conn]struct{}{}, map[*serverConn]struct{}{}
	return s
}

// Conns returns the number of connections which have said hello.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.conns)
}

// PlainConns returns how many of these are without TLS.
func (s *Server) PlainConns() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sc := range s.mu.conns {
		if !sc.secure {
			n++
		}
	}
	return n
}

// Serve accepts connections until the server is shut down, and then returns
// nil. It owns the listener.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.mu.closed || s.draining.Load() {
		s.mu.Unlock()
		return ln.Close()
	}
	s.mu.listeners[ln] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			s.accept(conn)
		case s.draining.Load() || errors.Is(err, net.ErrClosed):
			return nil
		default:
			// Out of file descriptors, say: it passes.
			s.throttle.Warnf("cannot accept connection from %s at %s: %s", s.opts.Role.Peer(), ln.Addr(), err)
			select {
			case <-s.closed:
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func (s *Server) accept(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		_ = conn.Close() // nobody has said anything on it
		return
	}
	s.mu.raw[conn] = struct{}{}
	s.opts.Metrics.Accepts.Inc()
	s.wg.Go(func() { s.serveConn(conn) })
}

func (s *Server) serveConn(conn net.Conn) {
	peer, remote := s.opts.Role.Peer(), conn.RemoteAddr()
	defer func() {
		_ = conn.Close() // all that could be said has been
		s.mu.Lock()
		delete(s.mu.raw, conn)
		s.mu.Unlock()
	}()
	s.opts.Logger.Infof("accepted %s conn from %s", peer, remote)
	h, secured, err := s.shakeHands(conn)
	if err != nil {
		s.opts.Metrics.ConnErrors.Inc()
		// Port checks connect and close without a word.
		if !errors.Is(err, io.EOF) {
			s.opts.Metrics.HandshakeErrors.Inc()
			s.throttle.Warnf("cannot take %s conn from %s: %s", peer, remote, err)
			linger(conn)
		}
		return
	}
	sc := newServerConn(s, secured, h)
	_, sc.secure = secured.(*secureConn)
	if !s.enter(sc, conn) {
		return
	}
	s.opts.Logger.Infof("processing %s conn from %s", peer, remote)
	err = sc.run(s.opts.NewSession(remote.String()))
	s.mu.Lock()
	delete(s.mu.conns, sc)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errClosed) {
		s.opts.Metrics.ConnErrors.Inc()
		s.opts.Logger.Warnf("cannot go on with %s conn from %s: %s", peer, remote, err)
	}
	s.opts.Logger.Infof("closing %s conn from %s", peer, remote)
}

// enter moves a connection from those without hello to the others.
func (s *Server) enter(sc *serverConn, raw net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.raw, raw)
	if s.mu.closed {
		return false
	}
	s.mu.conns[sc] = struct{}{}
	if s.draining.Load() {
		sc.goAway() // Shutdown may not see it
	}
	return true
}

// shakeHands agrees on TLS, if it is on, and exchanges hellos. It returns the connection to use from then on.
func (s *Server) shakeHands(conn net.Conn) (hello, net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(s.opts.Config.HandshakeTimeout.D())); err != nil {
		return hello{}, nil, err
	}
	if s.opts.Config.TLS == nil {
		h, err := s.greet(conn, conn)
		return h, conn, err
	}
	var first []byte
	if s.opts.Config.TLSOptional {
		first = make([]byte, 1)
		if _, err := io.ReadFull(conn, first); err != nil {
			return hello{}, nil, err
		}
		if first[0] != recordHandshake {
			h, err := s.greet(io.MultiReader(bytes.NewReader(first), conn), conn)
			return h, conn, err
		}
	}
	conn, err := s.secure(conn, first)
	if err != nil {
		return hello{}, nil, err
	}
	h, err := s.greet(conn, conn)
	return h, conn, err
}

// greet exchanges hellos. What the peer says is read from in.
func (s *Server) greet(in io.Reader, conn net.Conn) (hello, error) {
	h, err := readHello(in)
	if err != nil {
		if errkind.Of(err) == errkind.BadRequest && errors.Unwrap(err) == nil {
			sayGoodbye(conn, err)
		}
		return h, err
	}
	reply := s.opts.answer(h, s.draining.Load())
	if _, err := conn.Write(reply.appendTo(nil)); err != nil {
		return h, errkind.New(errkind.Unavailable, "cannot answer hello: %w", err)
	}
	if reply.status != errkind.OK {
		return h, errkind.New(reply.status, "%s", reply.text)
	}
	return h, conn.SetDeadline(time.Time{})
}

// Shutdown stops gracefully: no new connections; one connection after the other is told, from
// when on its requests are answered Draining; those under way end, connections close.
// When ctx ends first, the rest is cut off and the error of ctx is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.closeListeners()
	conns := s.snapshot()
	for i, sc := range conns {
		if i > 0 {
			s.sleep(ctx, s.opts.Config.ShutdownSpread.D()/time.Duration(len(conns)))
		}
		sc.goAway()
	}
	err := s.waitIdle(ctx)
	s.Close()
	return err
}

func (s *Server) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// waitIdle waits until all peers have closed their connections. They do once
// they have their answers; those who don't are not waited for once they are idle for a while.
func (s *Server) waitIdle(ctx context.Context) error {
	const patience = 500 * time.Millisecond
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	idleSince := time.Now()
	for {
		conns := s.snapshot()
		for _, sc := range conns {
			if sc.busy() {
				idleSince = time.Now()
			}
		}
		if len(conns) == 0 || time.Since(idleSince) > patience {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) snapshot() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*serverConn, 0, len(s.mu.conns))
	for sc := range s.mu.conns {
		conns = append(conns, sc)
	}
	return conns
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ln := range s.mu.listeners {
		_ = ln.Close() // Serve returns either way
		delete(s.mu.listeners, ln)
	}
}

// Close cuts all connections and waits for the goroutines of the server.
func (s *Server) Close() {
	s.draining.Store(true)
	s.closeListeners()
	s.mu.Lock()
	if !s.mu.closed {
		s.mu.closed = true
		close(s.closed)
	}
	for conn := range s.mu.raw {
		_ = conn.Close() // nothing has been promised on it
	}
	s.mu.Unlock()
	for _, sc := range s.snapshot() {
		sc.fail(errClosed)
	}
	s.wg.Wait()
	s.workers.Wait()
}

// job is a call to be served.
type job struct {
	r    *Responder
	call Call
}

// maxWaiting is how many workers wait for calls while there are none.
const maxWaiting = 16

// start serves a call in a goroutine which has served others, if one waits: its stack has grown to what calls need.
func (s *Server) start(j job) {
	select {
	case s.jobs <- j:
	default:
		s.workers.Go(func() { s.work(j) })
	}
}

// work serves a call, and then others.
func (s *Server) work(j job) {
	for {
		j.r.serve(j.call)
		j.r.conn.wg.Done()
		j = job{}
		if s.waiting.Add(1) > maxWaiting {
			s.waiting.Add(-1)
			return
		}
		select {
		case j = <-s.jobs:
			s.waiting.Add(-1)
		case <-s.closed:
			return
		}
	}
}
