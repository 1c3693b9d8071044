package transport

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
)

var update = flag.Bool("update", false, "rewrite golden files")

func goldenHello() hello {
	return hello{minVersion: 1, maxVersion: 1, role: RoleSelect, capabilities: CapabilityZstd, window: 1 << 20, maxFrame: 32 << 20}
}

func goldenReply() helloReply {
	return helloReply{version: 1, role: RoleSelect, maxStreams: 256, maxFrame: 32 << 20}
}

// TestGolden keeps the bytes of version 1 as they are.
func TestGolden(t *testing.T) {
	h, reply := goldenHello(), goldenReply()
	refusal := helloReply{status: errkind.Draining, role: RoleInsert, maxStreams: 32, maxFrame: 1 << 20, text: "the node is shutting down"}
	for name, got := range map[string][]byte{
		"hello":   h.appendTo(nil),
		"reply":   reply.appendTo(nil),
		"refusal": refusal.appendTo(nil),
		"frame":   appendFrame(nil, frameData, 7, []byte("payload")),
		"error":   AppendError(nil, errkind.New(errkind.Overloaded, "too much").WithRetryAfter(5*time.Second)),
	} {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(got) != string(want) {
			t.Errorf("%s is now\n%s\nand was\n%s", name, hex.Dump(got), want)
		}
	}
	if got, err := readHello(bytes.NewReader(h.appendTo(nil))); err != nil || got != h {
		t.Errorf("hello is read as %+v, %v", got, err)
	}
	for _, r := range []helloReply{reply, refusal} {
		if got, err := readHelloReply(bytes.NewReader(r.appendTo(nil))); err != nil || got != r {
			t.Errorf("reply is read as %+v, %v", got, err)
		}
	}
	f, err := readFrame(bytes.NewReader(appendFrame(nil, frameData, 7, []byte("payload"))), &bytesutil.Buffer{}, 100)
	if err != nil || f.kind != frameData || f.stream != 7 || string(f.payload) != "payload" {
		t.Errorf("frame is read as %+v, %v", f, err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	h, reply := goldenHello(), goldenReply()
	reply.text = "some text"
	for name, c := range map[string]struct {
		good []byte
		read func(r io.Reader) error
	}{
		"hello": {h.appendTo(nil), func(r io.Reader) error { _, err := readHello(r); return err }},
		"reply": {reply.appendTo(nil), func(r io.Reader) error { _, err := readHelloReply(r); return err }},
		"frame": {appendFrame(nil, frameData, 7, []byte("payload")), func(r io.Reader) error {
			_, err := readFrame(r, &bytesutil.Buffer{}, 100)
			return err
		}},
	} {
		if err := c.read(bytes.NewReader(c.good)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i := range c.good {
			bad := bytes.Clone(c.good)
			bad[i] ^= 0x10
			if err := c.read(bytes.NewReader(bad)); err == nil {
				t.Errorf("%s with a changed byte %d is taken", name, i)
			}
			if err := c.read(bytes.NewReader(c.good[:i])); err == nil {
				t.Errorf("%s cut at %d is taken", name, i)
			}
		}
	}
	if _, err := readFrame(bytes.NewReader(appendFrame(nil, frameData, 1, make([]byte, 101))), &bytesutil.Buffer{}, 100); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a frame larger than allowed gives %v", err)
	}
}

func TestErrorCodec(t *testing.T) {
	for _, err := range []error{errors.New("plain"), io.EOF, errkind.New(errkind.ReadOnly, "%s", strings.Repeat("long ", 10000))} {
		got := ParseError(AppendError(nil, err))
		if errkind.Of(got) != errkind.Of(err) || !strings.HasPrefix(err.Error(), got.Error()) || len(got.Error()) > maxErrorText {
			t.Errorf("got %.50v of kind %s", got, errkind.Of(got))
		}
	}
	if got := ParseError([]byte{200, 0, 'x'}); errkind.Of(got) != errkind.Internal {
		t.Errorf("an unknown kind becomes %s", errkind.Of(got))
	}
	if got := ParseError([]byte{0, 0}); got == nil || errkind.Of(got) == errkind.OK {
		t.Error("an error of kind OK is no error any more")
	}
}

// dialRaw connects to the server of a fixture without a client.
func dialRaw(t *testing.T, f *fixture) net.Conn {
	t.Helper()
	conn, err := f.network.Dial(t.Context(), "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestStrangers(t *testing.T) {
	for _, c := range []struct{ first, answer, log string }{
		{"GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request", "cannot serve HTTP request: this port speaks the protocol between cluster nodes; send HTTP to the port in -httpListenAddr"},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "", "TLS"},
		{"\x00\x01garbage ", "", `peer which starts with "\x00\x01garbag"`},
	} {
		f := newFixture(t, nil)
		conn := dialRaw(t, f)
		go func() { _, _ = io.WriteString(conn, c.first) }() // the server does not read all of it
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), c.answer) {
			t.Errorf("%q is answered %q, %v", c.first, answer, err)
		}
		eventually(t, "it is logged", func() bool { return strings.Contains(f.log.String(), c.log) })
		if _, err := call(f.client(nil), "e"); err != nil {
			t.Errorf("after a stranger the server answers %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t, nil)
	for _, c := range []struct {
		change func(h *hello)
		kind   errkind.Kind
		text   string
	}{
		{func(h *hello) { h.role = RoleSelect }, errkind.BadRequest, "this port is for vminsert and was dialled by vmselect"},
		{func(h *hello) { h.minVersion, h.maxVersion = 2, 3 }, errkind.Unsupported, "version 2..3"},
		{func(h *hello) { h.window = 0 }, errkind.BadRequest, "window"},
	} {
		h := goldenHello()
		h.role = RoleInsert
		c.change(&h)
		conn := dialRaw(t, f)
		if _, err := conn.Write(h.appendTo(nil)); err != nil {
			t.Fatal(err)
		}
		reply, err := readHelloReply(conn)
		if err != nil || reply.status != c.kind || !strings.Contains(reply.text, c.text) {
			t.Errorf("got %+v, %v; want kind %s and %q", reply, err, c.kind, c.text)
		}
		if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after a refusal the server sends %d bytes, %v", n, err)
		}
	}
	c := f.client(func(o *ClientOptions) { o.Role = RoleSelect })
	_, err := call(c, "e")
	wantKind(t, err, errkind.Unavailable, "check the port")
	// A newer client which still speaks version 1 is served, with the capabilities both have.
	h := goldenHello()
	h.role, h.maxVersion, h.capabilities = RoleInsert, 9, ^uint64(0)
	if reply := f.server.opts.answer(h, false); reply.status != errkind.OK || reply.version != 1 || reply.capabilities != 0 {
		t.Errorf("a newer client gets %+v", reply)
	}
	if reply := f.server.opts.answer(h, true); reply.status != errkind.Draining {
		t.Errorf("while shutting down a client gets %+v", reply)
	}
}

func TestClientOfSomethingElse(t *testing.T) {
	n := NewMemoryNetwork()
	ln, err := n.Listen("node")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n")
			_ = conn.Close()
		}
	}()
	c := NewClient(ClientOptions{Addr: "node", Role: RoleInsert, Dial: n.Dial, Config: ClientConfig{HandshakeTimeout: flagvalue.Duration(time.Second)}})
	_, err = call(c, "e")
	wantKind(t, err, errkind.Unavailable, "HTTP/1.1", "check host and port")
	if c.opts.Metrics.HandshakeErrors.Get() == 0 {
		t.Error("a failed hello is not counted")
	}
	_ = c.Close()
	_ = ln.Close()
	<-done
}

// TestBadFrames sends damage after a good hello: the server closes the connection and says why.
func TestBadFrames(t *testing.T) {
	good := appendFrame(nil, frameRequest, 1, []byte("\x00\x00\x00\x00b"))
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	for name, c := range map[string]struct {
		frames []byte
		log    string
	}{
		"checksum":     {damaged, "checksum"},
		"huge":         {[]byte("\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"), "at most"},
		"unknown kind": {appendFrame(nil, 99, 1, nil), "unknown kind 99"},
		"short":        {appendFrame(nil, frameRequest, 1, []byte("x")), "want at least 4"},
		"bad credit":   {appendFrame(nil, frameCredit, 1, []byte("x")), "credit"},
		"twice":        {append(bytes.Clone(good), good...), "opened twice"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			defer close(f.service.release)
			conn := dialRaw(t, f)
			h := goldenHello()
			h.role = RoleInsert
			go func() { _, _ = conn.Write(append(h.appendTo(nil), c.frames...)) }() // the server may close before it has read all
			if _, err := readHelloReply(conn); err != nil {
				t.Fatal(err)
			}
			if name == "twice" {
				go func() { f.service.release <- struct{}{} }()
			}
			if _, err := io.ReadAll(conn); err != nil {
				t.Errorf("the connection is not closed: %v", err)
			}
			eventually(t, "it is logged", func() bool { return strings.Contains(f.log.String(), c.log) })
		})
	}
}

func TestTooManyStreams(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions) { o.Config.MaxStreams = 2 })
	defer close(f.service.release)
	conn := dialRaw(t, f)
	h := goldenHello()
	h.role = RoleInsert
	out := h.appendTo(nil)
	for i := range 3 {
		out = appendFrame(out, frameRequest, uint32(i+1), []byte("\x00\x00\x00\x00b"))
	}
	go func() { _, _ = conn.Write(out) }() // the answer tells whether it arrived
	if _, err := readHelloReply(conn); err != nil {
		t.Fatal(err)
	}
	got, err := readFrame(conn, &bytesutil.Buffer{}, 1<<20)
	if err != nil || got.kind != frameError || got.stream != 3 || errkind.Of(ParseError(got.payload)) != errkind.Overloaded {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameData, 7, []byte("payload")))
	f.Add([]byte("\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readFrame(bytes.NewReader(data), &bytesutil.Buffer{}, 1000)
		if err != nil {
			return
		}
		again, err := readFrame(bytes.NewReader(appendFrame(nil, got.kind, got.stream, got.payload)), &bytesutil.Buffer{}, 1000)
		if err != nil || again.kind != got.kind || again.stream != got.stream || !bytes.Equal(again.payload, got.payload) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}

func FuzzReadHello(f *testing.F) {
	h, reply := goldenHello(), goldenReply()
	f.Add(h.appendTo(nil))
	f.Add(reply.appendTo(nil))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := readHello(bytes.NewReader(data)); err == nil {
			if again, err := readHello(bytes.NewReader(got.appendTo(nil))); err != nil || again != got {
				t.Fatalf("%+v became %+v, %v", got, again, err)
			}
		}
		_, _ = readHelloReply(bytes.NewReader(data)) // must not panic
	})
}

func FuzzParseError(f *testing.F) {
	f.Add(AppendError(nil, errkind.New(errkind.Overloaded, "too much").WithRetryAfter(5*time.Second)))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := ParseError(data)
		if errkind.Of(err) == errkind.OK {
			t.Fatalf("%q gives no error", data)
		}
	})
}
