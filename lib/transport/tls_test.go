package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/certfiles"
	"vmcluster/lib/certfiles/certtest"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
)

// secureFixture runs a server at a port of the system; nil settings mean plain TCP.
type secureFixture struct {
	*fixture
	addr string
}

func newSecureFixture(t testing.TB, s *certfiles.Settings, change func(o *ServerOptions)) *secureFixture {
	t.Helper()
	f := &fixture{t: t, service: &testService{release: make(chan struct{})}, log: &testLog{}}
	o := ServerOptions{Role: RoleInsert, NewSession: f.service.session, Logger: f.log.logger(t)}
	if s != nil {
		var err error
		if o.Config.TLS, err = certfiles.NewServer(*s, certfiles.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&o)
	}
	f.server = NewServer(o)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(ln) }()
	t.Cleanup(func() {
		f.server.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve returns %v", err)
		}
	})
	return &secureFixture{f, ln.Addr().String()}
}

func (f *secureFixture) client(s *certfiles.Settings) *Client {
	f.t.Helper()
	var config func(host string) *tls.Config
	if s != nil {
		var err error
		if config, err = certfiles.NewClient(*s, certfiles.Options{}); err != nil {
			f.t.Fatal(err)
		}
	}
	return f.fixture.client(func(o *ClientOptions) {
		o.Addr, o.Dial, o.Config.TLS = f.addr, nil, config
		o.Config.HandshakeTimeout, o.Config.MaxBackoff = flagvalue.Duration(20*time.Second), flagvalue.Duration(50*time.Millisecond)
	})
}

func settings(f certtest.Files) *certfiles.Settings {
	return &certfiles.Settings{Flag: "-cluster.tls", CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA}
}

func demanding(f certtest.Files) *certfiles.Settings {
	s := settings(f)
	s.DemandClientCert = true
	return s
}

// TestSecureCalls runs small and large calls, streams and cancellations over TLS.
func TestSecureCalls(t *testing.T) {
	files := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	f := newSecureFixture(t, demanding(files), nil)
	c := f.client(settings(files))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				request := fmt.Sprintf("e %d %d %s", i, j, strings.Repeat("x", rand.IntN(100_000)))
				if got, err := call(c, request); err != nil || got != request+"end" {
					t.Errorf("got %d bytes, %v; want %d", len(got), err, len(request)+3)
				}
			}
		})
	}
	stream, err := c.Start(context.Background(), text("s"))
	if err != nil {
		t.Fatal(err)
	}
	for read := 0; read < 5<<20; {
		payload, _, err := stream.Recv(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		read += len(payload)
	}
	stream.Close()
	wg.Wait()
	eventually(t, "the cancelled stream ends", func() bool { return f.service.ended.Load() == 1 })
	if err := f.server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if n := c.opts.Metrics.HandshakeErrors.Get(); n != 0 {
		t.Errorf("%d handshakes failed", n)
	}
}

// TestHandshakesFail has each side come with what the other one does not take: both say why and which flag to look at, and nobody hangs.
func TestHandshakesFail(t *testing.T) {
	ours, theirs := certtest.NewCA(t, "ours"), certtest.NewCA(t, "theirs")
	node := ours.Write(t, t.TempDir(), certtest.Leaf{})
	foreign, expired := theirs.Write(t, t.TempDir(), certtest.Leaf{}), ours.Write(t, t.TempDir(), certtest.Leaf{NotAfter: time.Now().Add(-time.Hour)})
	elsewhere := ours.Write(t, t.TempDir(), certtest.Leaf{Hosts: []string{"elsewhere"}})
	foreign.CA = node.CA
	for name, c := range map[string]struct {
		server, client *certfiles.Settings
		fault          string // of calls
		log            string
	}{
		"plain client":        {demanding(node), nil, "the node speaks TLS only: set -cluster.tls here", "the peer does not use TLS: set -cluster.tls at vminsert"},
		"plain server":        {nil, settings(node), "the node does not speak TLS: set -cluster.tls there", "this node was started without -cluster.tls; set it here"},
		"no certificate":      {demanding(node), &certfiles.Settings{CAFile: node.CA}, "check -cluster.tlsCertFile and -cluster.tlsKeyFile here", "see -cluster.tlsCertFile at vminsert"},
		"foreign certificate": {demanding(node), settings(foreign), "the node refuses TLS with us", "signed by unknown authority; see -cluster.tlsCAFile here"},
		"expired certificate": {demanding(node), settings(expired), "the node refuses TLS with us", "has expired"},
		"foreign server":      {settings(foreign), &certfiles.Settings{CAFile: node.CA}, "cannot trust the certificate of the node", "see -cluster.tlsCAFile at vminsert"},
		"other name":          {settings(elsewhere), &certfiles.Settings{CAFile: node.CA}, "set -cluster.tlsServerName", "see -cluster.tlsCAFile at vminsert"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newSecureFixture(t, c.server, nil)
			client := f.client(c.client)
			_, err := call(client, "e")
			wantKind(t, err, errkind.Unavailable, f.addr, c.fault)
			eventually(t, "the server logs it", func() bool { return strings.Contains(f.log.String(), c.log) })
			if client.opts.Metrics.HandshakeErrors.Get() == 0 || f.server.opts.Metrics.HandshakeErrors.Get() == 0 {
				t.Error("it is not counted")
			}
			if n := f.server.Conns(); n != 0 || len(f.service.order.requests) > 0 {
				t.Errorf("the server has %d connections and got %q", n, f.service.order.requests)
			}
		})
	}
}

// TestStrangersOfTLS sends something else than TLS: there is no byte of the protocol in the answer.
func TestStrangersOfTLS(t *testing.T) {
	files := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	h := goldenHello()
	h.role = RoleInsert
	for _, c := range []struct {
		first  []byte
		answer string
		log    string
	}{
		{h.appendTo(nil), string(protocolAlert()), "the peer does not use TLS"},
		{[]byte("GET /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 Bad Request", "cannot serve HTTP request"},
		{[]byte("DELETE /x HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 Bad Request", "cannot serve HTTP request"},
		{bytes.Repeat([]byte{7}, 200_000), string(protocolAlert()), "does not speak the protocol between cluster nodes"},
	} {
		f := newSecureFixture(t, demanding(files), nil)
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = conn.Write(c.first) }() // the server does not read all of it
		answer, err := io.ReadAll(conn)
		_ = conn.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasPrefix(string(answer), c.answer) || bytes.Contains(answer, []byte(magic)) {
			t.Errorf("%.20q is answered %q, %v", c.first, answer, err)
		}
		eventually(t, "it is logged", func() bool { return strings.Contains(f.log.String(), c.log) })
	}
}

// TestOptionalTLS has clients with TLS and without at one port, and such as are let in by neither.
func TestOptionalTLS(t *testing.T) {
	files := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	foreign := certtest.NewCA(t, "other").Write(t, t.TempDir(), certtest.Leaf{})
	f := newSecureFixture(t, demanding(files), func(o *ServerOptions) { o.Config.TLSOptional = true })
	plain, secure := f.client(nil), f.client(settings(files))
	for _, c := range []*Client{plain, secure, plain} {
		request := "e " + strings.Repeat("x", 100_000)
		if got, err := call(c, request); err != nil || got != request+"end" {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	if all, without := f.server.Conns(), f.server.PlainConns(); all != 2 || without != 1 {
		t.Errorf("%d of %d connections are without TLS; want 1 of 2", without, all)
	}
	stranger := settings(foreign)
	stranger.CAFile = files.CA
	if _, err := call(f.client(stranger), "e"); err == nil {
		t.Error("a foreign certificate is taken")
	}
	if err := plain.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the plain connection is gone", func() bool { return f.server.PlainConns() == 0 && f.server.Conns() == 1 })
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("HTTP is answered %q, %v", answer, err)
	}
}

// TestSilentPeersOfTLS has peers which connect and say nothing, or stop in the middle: the deadline of the handshake ends both.
func TestSilentPeersOfTLS(t *testing.T) {
	files := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	f := newSecureFixture(t, settings(files), func(o *ServerOptions) { o.Config.HandshakeTimeout = flagvalue.Duration(50 * time.Millisecond) })
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0x16, 3, 1, 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server gives up", func() bool { return f.server.opts.Metrics.HandshakeErrors.Get() == 1 })

	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	config, err := certfiles.NewClient(certfiles.Settings{CAFile: files.CA}, certfiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(ClientOptions{Addr: mute.Addr().String(), Role: RoleInsert, Config: ClientConfig{TLS: config, HandshakeTimeout: flagvalue.Duration(50 * time.Millisecond)}})
	_, err = call(c, "e")
	wantKind(t, err, errkind.Unavailable, "cannot agree on TLS", "timeout")
	_ = c.Close()
	// Close does not wait for the handshake.
	c = NewClient(ClientOptions{Addr: mute.Addr().String(), Role: RoleInsert, Config: ClientConfig{TLS: config, HandshakeTimeout: flagvalue.Duration(time.Hour)}})
	_ = c.Close()
	f.server.Close()
}
