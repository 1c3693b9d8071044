package clustertest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fabricPair is a connection between hosts a and b.
type fabricPair struct {
	t              *testing.T
	f              *fabric
	client, server net.Conn
}

// onFabric runs a test of the network itself.
func onFabric(t *testing.T, do func(p *fabricPair)) {
	synctest.Test(t, func(t *testing.T) {
		p := &fabricPair{t: t, f: newFabric(1)}
		ln, err := p.f.listen("b:1")
		if err != nil {
			t.Fatal(err)
		}
		if p.client, err = p.f.dialer("a")(context.Background(), "b:1"); err != nil {
			t.Fatal(err)
		}
		if p.server, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		do(p)
		for _, c := range []io.Closer{p.client, p.server, ln} {
			_ = c.Close() // has no errors
		}
		if len(p.f.mu.conns) > 0 {
			t.Errorf("%d connections are left", len(p.f.mu.conns))
		}
	})
}

func (p *fabricPair) send(text string) error {
	_, err := io.WriteString(p.client, text)
	return err
}

// want reads within a minute at the server.
func (p *fabricPair) want(text string, cause error) {
	p.t.Helper()
	_ = p.server.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 100)
	n, err := p.server.Read(buf)
	if string(buf[:n]) != text || !errors.Is(err, cause) {
		p.t.Errorf("read %q, %v; want %q, %v", buf[:n], err, text, cause)
	}
}

func TestFabric(t *testing.T) {
	there := way{"a", "b"}
	for name, do := range map[string]func(p *fabricPair){
		"end of the stream": func(p *fabricPair) {
			_ = p.send("x")
			_ = p.client.Close()
			p.want("x", nil)
			p.want("", io.EOF)
		},
		"what is held arrives later": func(p *fabricPair) {
			p.f.set(there, func(c *condition) { c.blocked = true })
			_ = p.send("x")
			p.want("", os.ErrDeadlineExceeded)
			p.f.set(there, func(c *condition) { c.blocked = false })
			p.want("x", nil)
		},
		"what is held is lost": func(p *fabricPair) {
			p.f.set(there, func(c *condition) { c.blocked = true })
			_ = p.send("x")
			p.f.reset("b", "a")
			p.f.set(there, func(c *condition) { c.blocked = false })
			p.want("", syscall.ECONNRESET)
		},
		"torn": func(p *fabricPair) {
			p.f.pipes(func(w way) bool { return w == there }, func(x *pipe) { _ = x.change(func() { x.mu.left = 2 }) })
			if err := p.send("xyz"); !errors.Is(err, syscall.ECONNRESET) {
				p.t.Errorf("the sender gets %v", err)
			}
			p.want("xy", nil)
			p.want("", syscall.ECONNRESET)
		},
		"power failure": func(p *fabricPair) {
			p.f.cut("b", true)
			if err := p.send("x"); err != nil {
				p.t.Errorf("the sender hears of it: %v", err)
			}
			p.want("", os.ErrDeadlineExceeded)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, err := p.f.dialer("a")(ctx, "b:1"); !errors.Is(err, context.DeadlineExceeded) {
				p.t.Errorf("a host without power answers %v", err)
			}
			p.f.join("b")
			p.want("", syscall.ECONNRESET)
		},
		"full buffer": func(p *fabricPair) {
			_ = p.client.SetWriteDeadline(time.Now().Add(time.Second))
			if n, err := p.client.Write(make([]byte, 2*sendBuffer)); n != sendBuffer || !errors.Is(err, os.ErrDeadlineExceeded) {
				p.t.Errorf("%d bytes are taken, %v", n, err)
			}
		},
		"latency and bandwidth": func(p *fabricPair) {
			p.f.set(there, func(c *condition) { c.latency, c.rate = time.Second, 10 })
			began := time.Now()
			_ = p.send("0123456789")
			p.want("0123456789", nil)
			if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
				p.t.Errorf("it takes %s", took)
			}
		},
		"refused": func(p *fabricPair) {
			if _, err := p.f.dialer("a")(context.Background(), "b:2"); !errors.Is(err, syscall.ECONNREFUSED) {
				p.t.Errorf("nobody listens: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { onFabric(t, do) })
	}
}
