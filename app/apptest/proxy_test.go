package apptest

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between two processes as a network does: it may hold back what one side says, or both, be slow, and break connections. It never
// loses a byte of a connection which goes on afterwards, as TCP does not.
type proxy struct {
	addr, target string
	up, down     lane // towards the target, and back
	ln           net.Listener
	quit         chan struct{}
	wg           sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// lane is one direction of all connections of a proxy.
type lane struct {
	mu        sync.Mutex
	held      chan struct{} // nil while bytes pass; closed when they do again
	latency   time.Duration
	perSecond int // bytes; 0 means no limit
}

// startProxy starts a proxy before an address.
func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{addr: freeAddr(t), target: target, quit: make(chan struct{}), conns: map[net.Conn]bool{}}
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	p.ln = ln
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		close(p.quit)
		p.ln.Close()
		p.reset()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(conn) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer p.forget(client)
	if !p.know(client) || !p.up.wait(p.quit) { // a connection cannot be made through a network which does not pass anything on
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer p.forget(server)
	if !p.know(server) {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(server, client, &p.up) })
	pumps.Go(func() { p.pump(client, server, &p.down) })
	pumps.Wait()
}

// know notes a connection, so that it can be broken, and reports whether it may go on.
func (p *proxy) know(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	select {
	case <-p.quit:
		return false
	default:
		return true
	}
}

func (p *proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	conn.Close()
}

// reset breaks all connections. New ones are taken.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.(*net.TCPConn).SetLinger(0) // so that the other side is told of a broken connection, not of its end
		conn.Close()
	}
}

// chunk is some bytes on their way, or the end of the connection, which travels as they do.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pump carries the bytes of one direction.
func (p *proxy) pump(dst, src net.Conn, l *lane) {
	way := make(chan chunk, 64)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(way)
		for buf := make([]byte, 16<<10); ; {
			n, err := src.Read(buf)
			select {
			case way <- chunk{bytes.Clone(buf[:n]), time.Now().Add(l.delay())}:
			case <-p.quit:
				return
			}
			if err != nil {
				return
			}
		}
	})
	for c := range way {
		if !l.wait(p.quit) || !p.sleep(time.Until(c.due)+l.transfer(len(c.bytes))) {
			break
		}
		if _, err := dst.Write(c.bytes); err != nil {
			break
		}
	}
	dst.Close()
	src.Close()
	for range way {
	}
	reader.Wait()
}

func (p *proxy) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.quit:
		return false
	}
}

// partition lets nothing pass in either direction.
func (p *proxy) partition() {
	p.up.hold()
	p.down.hold()
}

// slow makes both directions slow.
func (p *proxy) slow(latency time.Duration, perSecond int) {
	for _, l := range []*lane{&p.up, &p.down} {
		l.mu.Lock()
		l.latency, l.perSecond = latency, perSecond
		l.mu.Unlock()
	}
}

// heal ends all faults.
func (p *proxy) heal() {
	p.slow(0, 0)
	p.up.pass()
	p.down.pass()
}

// hold lets nothing pass, silently.
func (l *lane) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(chan struct{})
	}
}

func (l *lane) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}

// wait waits until bytes may pass and reports whether they may, which they may not when the proxy ends.
func (l *lane) wait(quit <-chan struct{}) bool {
	for {
		l.mu.Lock()
		held := l.held
		l.mu.Unlock()
		if held == nil {
			return true
		}
		select {
		case <-held:
		case <-quit:
			return false
		}
	}
}

func (l *lane) delay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latency
}

// transfer returns how long so many bytes take.
func (l *lane) transfer(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perSecond == 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(l.perSecond)
}

// TestProxy: the faults are what they are called.
func TestProxy(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	p := startProxy(t, ln.Addr().String())
	client, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	server := <-accepted
	pass := func(from, to net.Conn, text string, arrives bool) {
		t.Helper()
		if _, err := from.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if !arrives {
			return
		}
		buf := make([]byte, len(text))
		_ = to.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(to, buf); err != nil || string(buf) != text {
			t.Fatalf("%q arrives as %q, %v", text, buf, err)
		}
	}
	pass(client, server, "there", true)
	pass(server, client, "back", true)
	p.up.hold()
	pass(client, server, "held", false)
	pass(server, client, "back", true)
	_ = server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := server.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes pass a direction which is held", n)
	}
	p.heal()
	pass(client, server, "", true)
	buf := make([]byte, 4)
	_ = server.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "held" {
		t.Errorf("after the fault %q arrives, %v", buf, err)
	}
	const latency = 30 * time.Millisecond
	p.slow(latency, 1<<20)
	began := time.Now()
	pass(client, server, "slow", true)
	if took := time.Since(began); took < latency {
		t.Errorf("a slow proxy took %s", took)
	}
	p.reset()
	for _, conn := range []net.Conn{client, server} {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(buf); err == nil {
			t.Error("a connection which was reset goes on")
		}
		conn.Close()
	}
}
