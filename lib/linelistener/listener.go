package linelistener

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// Config holds the flags that all listeners share.
type Config struct {
	IdleTimeout flagvalue.Duration
	MaxConns    int
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.IdleTimeout = flagvalue.Duration(10 * time.Minute)
	fs.Var(&c.IdleTimeout, "ingestserver.idleTimeout", "Close a connection of -graphiteListenAddr, -influxListenAddr and -opentsdbListenAddr which has sent nothing for so long")
	fs.IntVar(&c.MaxConns, "ingestserver.maxConns", 10_000, "The largest number of connections at -graphiteListenAddr, and as many at each of the ports of other line protocols; more are closed at once")
}

// Options are the arguments of Start.
type Options struct {
	Config  *Config
	Name    string // of the protocol in metrics
	Flag    string // that holds the address, without dash
	Addr    string
	MaxLine int // bytes; longer ones are handed on cut, so that they are counted where lines are parsed
	// Store stores whole lines, keeps nothing of them, and returns when that is done. Nil: there is HTTP only.
	Store func(ctx context.Context, lines []byte) error
	// HTTP answers requests at the same port, of connections which begin with a capital letter; nil: none.
	HTTP    http.Handler
	Logger  *logger.Logger
	Metrics *metrics.Set
}

const (
	// drainTime is how long a connection may be silent for all that it brought to be there, when the process stops.
	drainTime = 50 * time.Millisecond
	// stopTimeout is how long storing may take when the process stops.
	stopTimeout = 10 * time.Second
	// acceptPause is how long to wait when there are no more sockets.
	acceptPause = 100 * time.Millisecond
	// requestTimeout is how long an HTTP request may take to come.
	requestTimeout = time.Minute
)

// Server listens at one port.
type Server struct {
	o        Options
	tcp      *net.TCPListener
	accepted chan struct{} // closed when no more connections are accepted
	udp      *net.UDPConn  // nil: HTTP only
	http     *http.Server  // nil: none
	handoff  *handoff      // the connections of http
	warn     *logger.Throttle
	ctx      context.Context // of storing
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	count    counters
	open     atomic.Int64 // connections

	mu struct {
		sync.Mutex
		conns    map[net.Conn]bool // whose lines are being read
		stopping bool
	}
}

type counters struct {
	accepts, read, written, acceptErrors, readErrors *metrics.Counter
	requests, errors                                 *metrics.Counter // over TCP
	datagrams, datagramErrors, datagramBytes, drops  *metrics.Counter
}

// Start listens and serves until Stop is called.
func Start(o Options) (*Server, error) {
	s := &Server{o: o, warn: logger.NewThrottle(o.Logger, 5*time.Second)}
	s.mu.conns = map[net.Conn]bool{}
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, s.listenError(err)
	}
	s.tcp, s.accepted = ln.(*net.TCPListener), make(chan struct{})
	if o.Store != nil {
		if s.udp, err = listenUDP(s.tcp.Addr()); err != nil {
			_ = s.tcp.Close() // nobody has connected
			return nil, s.listenError(err)
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.register()
	if o.HTTP != nil {
		s.handoff = &handoff{addr: s.tcp.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
		s.http = &http.Server{
			Handler: o.HTTP, ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, IdleTimeout: o.Config.IdleTimeout.D(),
			ErrorLog: log.New(io.Discard, "", 0), // of senders that go away
		}
		s.wg.Go(func() { _ = s.http.Serve(s.handoff) }) // it ends with Stop
	}
	if s.udp != nil {
		s.startDatagrams()
	}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *Server) listenError(err error) error {
	if strings.Contains(err.Error(), "address already in use") {
		err = fmt.Errorf("the port is taken by another process; stop that process or choose another address: %w", err)
	}
	return fmt.Errorf("cannot listen at -%s=%q: %w", s.o.Flag, s.o.Addr, err)
}

func listenUDP(addr net.Addr) (*net.UDPConn, error) {
	const receiveBuffer = 4 << 20 // bytes; the kernel may give less
	at, err := net.ResolveUDPAddr("udp", addr.String())
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", at)
	if err == nil {
		_ = conn.SetReadBuffer(receiveBuffer) // without it more is dropped under load
	}
	return conn, err
}

func (s *Server) register() {
	counter := func(format string, args ...any) *metrics.Counter {
		return s.o.Metrics.Counter(fmt.Sprintf(format, args...))
	}
	at := fmt.Sprintf("name=%q, addr=%q", s.o.Name, s.tcp.Addr())
	c := &s.count
	c.accepts = counter("vm_tcplistener_accepts_total{%s}", at)
	c.read = counter("vm_tcplistener_read_bytes_total{%s}", at)
	c.written = counter("vm_tcplistener_written_bytes_total{%s}", at)
	c.acceptErrors = counter(`vm_tcplistener_errors_total{%s, type="accept"}`, at)
	c.readErrors = counter(`vm_tcplistener_errors_total{%s, type="read"}`, at)
	s.o.Metrics.Gauge("vm_tcplistener_conns{"+at+"}", func() float64 { return float64(s.open.Load()) })
	if s.o.Store == nil {
		return
	}
	requests := func(family, network string) *metrics.Counter {
		return counter(`%s{type=%q, name="write", net=%q}`, family, s.o.Name, network)
	}
	const total, failed = "vm_ingestserver_requests_total", "vm_ingestserver_request_errors_total"
	c.requests, c.errors = requests(total, "tcp"), requests(failed, "tcp")
	c.datagrams, c.datagramErrors = requests(total, "udp"), requests(failed, "udp")
	c.datagramBytes = counter("vm_udplistener_read_bytes_total{%s}", at)
	c.drops = counter("vm_udplistener_dropped_datagrams_total{%s}", at)
}

// Addr returns the address, which TCP and UDP have in common.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Stop takes no more connections, stores what the others have brought, and closes them.
func (s *Server) Stop() error {
	s.mu.Lock()
	s.mu.stopping = true
	_ = s.tcp.SetDeadline(time.Now().Add(drainTime)) // what has connected is accepted; a broken listener needs no deadline
	for conn := range s.mu.conns {
		_ = conn.SetReadDeadline(time.Now().Add(drainTime)) // a broken connection needs none
	}
	if s.udp != nil {
		_ = s.udp.SetReadDeadline(time.Now().Add(drainTime))
	}
	s.mu.Unlock()
	late := time.AfterFunc(stopTimeout, s.cutOff)
	defer late.Stop()
	<-s.accepted
	_ = s.tcp.Close() // nobody uses it any more
	if s.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			_ = s.http.Close() // its time is over
		}
	}
	s.wg.Wait()
	s.cancel()
	return nil
}

// cutOff ends what takes too long.
func (s *Server) cutOff() {
	s.o.Logger.Warnf("cannot store all that came at -%s within %s; the rest is lost", s.o.Flag, stopTimeout)
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.mu.conns {
		_ = conn.Close()
	}
}

// accept serves connections until the process stops.
func (s *Server) accept() {
	defer close(s.accepted)
	for last := false; ; {
		conn, err := s.tcp.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if last {
				return
			}
			last = true // once more: behind a deadline nobody looks for connections
			_ = s.tcp.SetDeadline(time.Now().Add(drainTime))
			continue
		}
		if err != nil {
			s.count.acceptErrors.Inc()
			s.warn.Warnf("cannot accept connections at -%s: %s", s.o.Flag, err)
			time.Sleep(acceptPause)
			continue
		}
		s.count.accepts.Inc()
		if s.open.Load() >= int64(s.o.Config.MaxConns) {
			s.count.acceptErrors.Inc()
			s.warn.Warnf("cannot serve connection from %s at -%s: there are -ingestserver.maxConns=%d others", conn.RemoteAddr(), s.o.Flag, s.o.Config.MaxConns)
			_ = conn.Close() // nothing was promised to it
			continue
		}
		s.open.Add(1)
		counted := &countedConn{Conn: conn, s: s}
		if s.o.Store == nil {
			s.handoff.give(counted)
			continue
		}
		s.wg.Go(func() { s.serve(counted) })
	}
}

// serve reads lines from a connection, unless it turns out to be of HTTP.
func (s *Server) serve(conn *countedConn) {
	s.follow(conn, true)
	defer s.follow(conn, false)
	p := piece{max: s.o.MaxLine}
	var err error
	for isFirst := true; err == nil; isFirst = false {
		if err = s.setDeadline(conn); err != nil {
			break
		}
		room := p.room()
		var n int
		n, err = conn.Read(room)
		p.used += n
		if isFirst && n > 0 {
			if s.http != nil && 'A' <= p.b[0] && p.b[0] <= 'Z' {
				_ = conn.SetReadDeadline(time.Time{}) // a broken connection shows there
				s.handoff.give(&resumedConn{Conn: conn, read: p.b[:p.used]})
				return
			}
			s.count.requests.Inc()
		}
		if stopped := s.store(p.lines()); stopped != nil {
			err = stopped
		}
		p.next(n, n == len(room))
	}
	if errors.Is(err, io.EOF) {
		err = s.store(p.rest())
	}
	s.noteEnd(conn, err)
	_ = conn.Close() // all that was read is stored
}

// store stores lines, if there are any. What cannot be stored is lost, and no reason to lose the connection as well, unless the process stops.
func (s *Server) store(lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	err := s.o.Store(s.ctx, lines)
	if err != nil {
		s.count.errors.Inc()
		s.warn.Warnf("cannot store all lines which came at -%s, the others are lost: %s", s.o.Flag, err)
	}
	return s.ctx.Err()
}

// noteEnd counts and logs why a connection ends, when it does not end as it should.
func (s *Server) noteEnd(conn net.Conn, err error) {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || s.ctx.Err() != nil {
		return // the sender is done, or silent, or the process stops
	}
	s.count.readErrors.Inc()
	s.warn.Warnf("cannot read from %s at -%s: %s", conn.RemoteAddr(), s.o.Flag, err)
}

// follow notes that lines of a connection are read, or no longer.
func (s *Server) follow(conn net.Conn, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.mu.conns[conn] = true
	} else {
		delete(s.mu.conns, conn)
	}
}

// setDeadline gives the next read its time.
func (s *Server) setDeadline(conn interface{ SetReadDeadline(time.Time) error }) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.o.Config.IdleTimeout.D()
	if s.mu.stopping {
		wait = drainTime
	}
	return conn.SetReadDeadline(time.Now().Add(wait))
}

const (
	leastBuffer = 4 << 10
	usualBuffer = 64 << 10
)

// piece is what was read from a connection and not stored yet.
type piece struct {
	max    int // of a line in bytes
	b      []byte
	used   int
	stored int  // of used
	skip   bool // inside a line that is too long
}

// room returns where to read to.
func (p *piece) room() []byte {
	if p.used == len(p.b) {
		b := make([]byte, max(2*len(p.b), leastBuffer))
		copy(b, p.b)
		p.b = b
	}
	return p.b[p.used:]
}

// lines returns the lines which are there as a whole, and of one which is too long its beginning, once.
func (p *piece) lines() []byte {
	b := p.b[:p.used]
	start := 0
	if p.skip {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			p.stored = p.used
			return nil
		}
		start, p.skip = end+1, false
	}
	end := bytes.LastIndexByte(b[start:], '\n') + 1
	p.stored = start + end
	if end == 0 && len(b)-start > p.max+len("\r\n") {
		p.skip, p.stored = true, p.used
	}
	return b[start:p.stored]
}

// next keeps what is not a whole line, in a buffer that fits how much comes at a time. Full says that the buffer was too small for it.
func (p *piece) next(read int, full bool) {
	rest := p.b[p.stored:p.used]
	size := len(p.b)
	switch {
	case full && size < usualBuffer:
		size *= 2
	case size > usualBuffer && len(rest) < usualBuffer/2:
		size = usualBuffer
	case size > leastBuffer && read < size/8 && len(rest) < size/4:
		size /= 2
	}
	if size != len(p.b) {
		p.b = append(make([]byte, 0, size), rest...)[:size]
	} else {
		copy(p.b, rest)
	}
	p.used, p.stored = len(rest), 0
}

// rest returns what follows the last line end.
func (p *piece) rest() []byte {
	if p.skip {
		return nil
	}
	return p.b[:p.used]
}
