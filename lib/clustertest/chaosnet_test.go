package clustertest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/transport"
)

// sendBuffer is how much one side of a connection may write before the other one reads.
const sendBuffer = 256 << 10

// way is a direction between two hosts.
type way struct{ from, to string }

// condition is how a direction is.
type condition struct {
	blocked bool // nothing arrives; what is sent is held
	latency time.Duration
	rate    int64 // bytes a second; 0: any
	doubled bool  // attempts to connect arrive twice, or the answer to them does not
}

// fabric is a network of hosts in the time of a synctest bubble. What happens on it by chance follows from the seed, and for each
// direction from what was sent in it before, so that other directions do not matter.
type fabric struct {
	seed uint64
	mu   struct {
		sync.Mutex
		listeners map[string]*fabricListener
		ways      map[way]*fabricWay
		silent    map[string]bool // hosts without power: nobody refuses a connection
		conns     []*fabricConn   // those which at least one side has not closed
		changed   chan struct{}
	}
}

type fabricWay struct {
	condition
	rng *rand.Rand
}

func newFabric(seed uint64) *fabric {
	f := &fabric{seed: seed}
	f.mu.listeners, f.mu.ways, f.mu.silent = map[string]*fabricListener{}, map[way]*fabricWay{}, map[string]bool{}
	f.mu.changed = make(chan struct{})
	return f
}

func (f *fabric) wayLocked(w way) *fabricWay {
	if f.mu.ways[w] == nil {
		f.mu.ways[w] = &fabricWay{condition: condition{latency: 200 * time.Microsecond}, rng: rand.New(rand.NewPCG(f.seed, xxhash.Sum64String(w.from+">"+w.to)))}
	}
	return f.mu.ways[w]
}

func (f *fabric) tellLocked() {
	close(f.mu.changed)
	f.mu.changed = make(chan struct{})
}

// fabricListener is an open port.
type fabricListener struct {
	f      *fabric
	addr   memAddr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

type memAddr string

func (a memAddr) Network() string { return "fabric" }
func (a memAddr) String() string  { return string(a) }

func (f *fabric) listen(addr string) (net.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.listeners[addr] != nil {
		return nil, fmt.Errorf("cannot listen at %q: the address is in use", addr)
	}
	l := &fabricListener{f: f, addr: memAddr(addr), conns: make(chan net.Conn, 64), closed: make(chan struct{})}
	f.mu.listeners[addr] = l
	return l, nil
}

// Accept implements net.Listener.
func (l *fabricListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *fabricListener) Addr() net.Addr { return l.addr }

// Close implements net.Listener. Connections which nobody has accepted are reset.
func (l *fabricListener) Close() error {
	l.once.Do(func() {
		l.f.mu.Lock()
		delete(l.f.mu.listeners, string(l.addr))
		l.f.mu.Unlock()
		close(l.closed)
		for {
			select {
			case conn := <-l.conns:
				_ = conn.Close()
			default:
				return
			}
		}
	})
	return nil
}

// dialer returns the Dialer of a host.
func (f *fabric) dialer(from string) transport.Dialer {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		host, _, _ := strings.Cut(addr, ":")
		there, back := way{from, host}, way{host, from}
		f.mu.Lock()
		trip := f.wayLocked(there).latency + f.wayLocked(back).latency
		f.mu.Unlock()
		timer := time.NewTimer(trip)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		for {
			conn, changed, err := f.connect(there, addr)
			if conn != nil || err != nil {
				return conn, err
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// connect opens a connection. Without one and an error, nothing arrives at the host until something has changed.
func (f *fabric) connect(there way, addr string) (net.Conn, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, l := f.wayLocked(there), f.mu.listeners[addr]
	switch {
	case w.blocked || f.wayLocked(way{there.to, there.from}).blocked || f.mu.silent[there.to]:
		return nil, f.mu.changed, nil
	case l == nil:
		return nil, nil, fmt.Errorf("cannot dial %q: %w", addr, syscall.ECONNREFUSED)
	}
	c := f.openLocked(there, l)
	if c == nil {
		return nil, nil, fmt.Errorf("cannot dial %q: %w", addr, syscall.ECONNREFUSED)
	}
	if w.doubled {
		switch w.rng.IntN(3) {
		case 0: // the server has one which nobody uses
			f.openLocked(there, l)
		case 1: // and one which is closed at once
			if other := f.openLocked(there, l); other != nil {
				go func() { _ = other.client.Close() }()
			}
		default: // the client does not hear of it
			go func() { _ = c.client.Close() }()
			return nil, nil, fmt.Errorf("cannot dial %q: %w", addr, syscall.ETIMEDOUT)
		}
	}
	return c.client, nil, nil
}

func (f *fabric) openLocked(there way, l *fabricListener) *fabricConn {
	back := way{there.to, there.from}
	c := &fabricConn{f: f, forth: f.pipeLocked(there), back: f.pipeLocked(back)}
	c.forth.conn, c.back.conn = c, c
	c.client = &fabricEnd{conn: c, in: c.back, out: c.forth, local: memAddr(there.from), remote: l.addr}
	c.server = &fabricEnd{conn: c, in: c.forth, out: c.back, local: l.addr, remote: memAddr(there.from)}
	select {
	case l.conns <- c.server:
	default:
		return nil
	}
	f.mu.conns = append(f.mu.conns, c)
	return c
}

func (f *fabric) pipeLocked(w way) *pipe {
	fw := f.wayLocked(w)
	p := &pipe{way: w}
	p.mu.condition, p.mu.left, p.mu.rng = fw.condition, -1, rand.New(rand.NewPCG(fw.rng.Uint64(), 0))
	return p
}

// pipes calls do for all directions of open connections which are chosen.
func (f *fabric) pipes(chosen func(w way) bool, do func(p *pipe)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pipesLocked(chosen, do)
}

func (f *fabric) pipesLocked(chosen func(w way) bool, do func(p *pipe)) {
	for _, c := range f.mu.conns {
		for _, p := range []*pipe{c.forth, c.back} {
			if chosen(p.way) {
				do(p)
			}
		}
	}
}

// set changes a direction, for open connections too.
func (f *fabric) set(w way, change func(c *condition)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fw := f.wayLocked(w)
	change(&fw.condition)
	f.pipesLocked(func(other way) bool { return other == w }, func(p *pipe) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mu.condition = fw.condition
		p.tellLocked()
	})
	f.tellLocked()
}

// reset breaks all connections between two hosts, or all of one when the other is empty.
func (f *fabric) reset(a, b string) {
	f.pipes(func(w way) bool {
		return w.from == a && (w.to == b || b == "") || w.to == a && (w.from == b || b == "")
	}, func(p *pipe) { p.fail(syscall.ECONNRESET) })
}

// cut takes a host off the network. When it does so silently, its connections are not reset: nobody hears anything.
func (f *fabric) cut(host string, silently bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.silent[host] = silently
	f.pipesLocked(func(w way) bool { return w.from == host || w.to == host }, func(p *pipe) {
		if !silently {
			p.fail(syscall.ECONNRESET)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mu.dead = true
	})
	for addr := range f.mu.listeners {
		if strings.HasPrefix(addr, host+":") {
			delete(f.mu.listeners, addr) // its process still has to close it
		}
	}
}

// join brings a host back. It knows nothing of the connections it had, and says so.
func (f *fabric) join(host string) {
	f.reset(host, "")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.silent[host] = false
	f.tellLocked()
}

// fabricConn is a connection.
type fabricConn struct {
	f              *fabric
	forth, back    *pipe
	client, server *fabricEnd
	ends           struct {
		sync.Mutex
		closed int
	}
}

// fabricEnd is one side of a connection.
type fabricEnd struct {
	conn          *fabricConn
	in, out       *pipe
	local, remote memAddr
	once          sync.Once
}

var _ net.Conn = (*fabricEnd)(nil)

// Read implements net.Conn.
func (e *fabricEnd) Read(b []byte) (int, error) { return e.in.read(b) }

// Write implements net.Conn.
func (e *fabricEnd) Write(b []byte) (int, error) { return e.out.write(b) }

// LocalAddr implements net.Conn.
func (e *fabricEnd) LocalAddr() net.Addr { return e.local }

// RemoteAddr implements net.Conn.
func (e *fabricEnd) RemoteAddr() net.Addr { return e.remote }

// SetDeadline implements net.Conn.
func (e *fabricEnd) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (e *fabricEnd) SetReadDeadline(t time.Time) error {
	return e.in.change(func() { e.in.mu.readBy = t })
}

// SetWriteDeadline implements net.Conn.
func (e *fabricEnd) SetWriteDeadline(t time.Time) error {
	return e.out.change(func() { e.out.mu.writeBy = t })
}

// Close implements net.Conn.
func (e *fabricEnd) Close() error {
	e.once.Do(func() {
		_ = e.in.change(func() {
			e.in.mu.readerClosed = true
			e.in.mu.segments, e.in.mu.size = nil, 0
		})
		_ = e.out.change(func() {
			e.out.mu.writerClosed = true
			e.out.pushLocked(nil)
		})
		c := e.conn
		c.ends.Lock()
		c.ends.closed++
		last := c.ends.closed == 2
		c.ends.Unlock()
		if last {
			c.f.mu.Lock()
			c.f.mu.conns = slices.DeleteFunc(c.f.mu.conns, func(other *fabricConn) bool { return other == c })
			c.f.mu.Unlock()
		}
	})
	return nil
}

// pipe is one direction of a connection.
type pipe struct {
	way  way
	conn *fabricConn
	mu   struct {
		sync.Mutex
		condition
		rng          *rand.Rand
		segments     []segment
		size         int // bytes in segments
		lastAt       time.Time
		left         int64 // bytes after which the connection breaks; below 0: it does not
		writerClosed bool
		readerClosed bool
		dead         bool  // nothing ever arrives
		broken       error // what both sides get
		readBy       time.Time
		writeBy      time.Time
		changed      chan struct{} // nil: nobody waits
	}
}

// segment arrives at some time. One without bytes is the end.
type segment struct {
	b  []byte
	at time.Time
}

func (p *pipe) tellLocked() {
	if p.mu.changed != nil {
		close(p.mu.changed)
		p.mu.changed = nil
	}
}

func (p *pipe) change(do func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	p.tellLocked()
	return nil
}

// fail breaks a direction. What has arrived can be read before; what is held never arrives.
func (p *pipe) fail(err error) {
	_ = p.change(func() {
		if p.mu.broken == nil {
			p.mu.broken = err
		}
		if p.mu.blocked || p.mu.dead {
			p.mu.segments, p.mu.size = nil, 0
		}
	})
}

func (p *pipe) pushLocked(b []byte) {
	at := time.Now().Add(p.mu.latency + time.Duration(p.mu.rng.Int64N(int64(p.mu.latency/2)+1000)))
	if p.mu.rate > 0 {
		at = at.Add(time.Duration(len(b)) * time.Second / time.Duration(p.mu.rate))
	}
	if at.Before(p.mu.lastAt) {
		at = p.mu.lastAt
	}
	p.mu.lastAt = at
	p.mu.segments = append(p.mu.segments, segment{slices.Clone(b), at})
	p.mu.size += len(b)
}

// waitLocked gives up the lock until something changes or the time has come.
func (p *pipe) waitLocked(until time.Time) {
	if p.mu.changed == nil {
		p.mu.changed = make(chan struct{})
	}
	changed := p.mu.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	if until.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		m := &p.mu
		until := m.readBy
		switch {
		case m.readerClosed:
			return 0, net.ErrClosed
		case len(m.segments) > 0 && !m.dead && !m.blocked:
			if at := m.segments[0].at; passed(at) {
				return p.takeLocked(b)
			} else if until.IsZero() || at.Before(until) {
				until = at
			}
		case m.broken != nil:
			return 0, m.broken
		}
		if passed(m.readBy) {
			return 0, os.ErrDeadlineExceeded
		}
		p.waitLocked(until)
	}
}

func (p *pipe) takeLocked(b []byte) (int, error) {
	s := &p.mu.segments[0]
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.b)
	if s.b = s.b[n:]; len(s.b) == 0 {
		p.mu.segments = p.mu.segments[1:]
	}
	p.mu.size -= n
	p.tellLocked()
	return n, nil
}

func (p *pipe) write(b []byte) (written int, err error) {
	broke := false
	defer func() {
		if broke {
			p.conn.forth.fail(syscall.ECONNRESET)
			p.conn.back.fail(syscall.ECONNRESET)
		}
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		m := &p.mu
		switch {
		case m.writerClosed:
			return written, net.ErrClosed
		case m.broken != nil:
			return written, m.broken
		case m.readerClosed && !m.blocked && !m.dead:
			return written, syscall.EPIPE
		case passed(m.writeBy):
			return written, os.ErrDeadlineExceeded
		case m.size >= sendBuffer:
			p.waitLocked(m.writeBy)
			continue
		}
		n := min(len(b), sendBuffer-m.size)
		if m.left >= 0 {
			n = int(min(int64(n), m.left))
			m.left -= int64(n)
			broke = m.left == 0
		}
		p.pushLocked(b[:n])
		p.tellLocked()
		b, written = b[n:], written+n
		if broke {
			return written, syscall.ECONNRESET
		}
	}
	return written, nil
}
