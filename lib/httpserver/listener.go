package httpserver

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"vmcluster/lib/metrics"
	"vmcluster/lib/rawsocket"
)

// countListener wraps a listener so that its connections and bytes are counted
// under vm_tcplistener_*{name,addr}.
func countListener(ln net.Listener, set *metrics.Set, name, addr string) net.Listener {
	labels := fmt.Sprintf("{name=%q, addr=%q}", name, addr)
	l := &countedListener{
		Listener: ln,
		accepts:  set.Counter("vm_tcplistener_accepts_total" + labels),
		read:     set.Counter("vm_tcplistener_read_bytes_total" + labels),
		written:  set.Counter("vm_tcplistener_written_bytes_total" + labels),
	}
	set.Gauge("vm_tcplistener_conns"+labels, func() float64 { return float64(l.conns.Load()) })
	return l
}

type countedListener struct {
	net.Listener
	accepts, read, written *metrics.Counter
	conns                  atomic.Int64
}

// Accept waits for the next connection.
func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.accepts.Inc()
	l.conns.Add(1)
	return &countedConn{Conn: c, l: l, read: rawsocket.Reader(c), write: rawsocket.Writer(c)}, nil
}

type countedConn struct {
	net.Conn
	l           *countedListener
	once        sync.Once
	read, write func(p []byte) (int, error) // the server never reads, nor writes, in two goroutines at a time
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	c.l.read.Add(n)
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.write(p)
	c.l.written.Add(n)
	return n, err
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.l.conns.Add(-1) })
	return c.Conn.Close()
}

// silentConns are the connections that have not sent anything yet.
type silentConns struct {
	mu struct {
		sync.Mutex
		conns map[net.Conn]bool
	}
}

// track follows the state of a connection; it is an http.Server's ConnState.
func (s *silentConns) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		delete(s.mu.conns, c)
		return
	}
	if s.mu.conns == nil {
		s.mu.conns = map[net.Conn]bool{}
	}
	s.mu.conns[c] = true
}

// close closes them all.
func (s *silentConns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		_ = c.Close() // nothing was promised to its other end
	}
}
