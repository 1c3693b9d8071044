package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLog is a logger whose records a test can look at.
type testLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *testLog) logger(t testing.TB) *logger.Logger {
	out, err := logger.New(&logger.Config{}, l, metrics.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually polls until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// testService answers requests whose first byte says what to do:
// e echoes; s streams frames of 1000 bytes for ever; w waits for the end of its context;
// b blocks until the test releases it; d answers with its deadline; the digits give errors of that kind.
type testService struct {
	sent    atomic.Int64 // bytes by s
	waiting atomic.Int64
	ended   atomic.Int64
	release chan struct{}
	closed  atomic.Int64
	order   struct {
		sync.Mutex
		requests []string
	}
}

func (s *testService) session(string) Session { return &testSession{s} }

type testSession struct{ *testService }

func (s *testSession) Close() { s.closed.Add(1) }

func (s *testSession) Accept(payload []byte) (Call, error) {
	if len(payload) == 0 {
		return nil, errkind.New(errkind.Corrupt, "empty request")
	}
	s.order.Lock()
	s.order.requests = append(s.order.requests, string(payload))
	s.order.Unlock()
	if payload[0] == '!' {
		return nil, errkind.New(errkind.Unsupported, "what?")
	}
	return &testCall{s.testService, bytes.Clone(payload)}, nil
}

type testCall struct {
	*testService
	request []byte
}

func (c *testCall) Release() {}

func (c *testCall) Serve(ctx context.Context, out *Responder) error {
	switch b := c.request[0]; b {
	case 'e':
		if err := out.Send(c.request); err != nil {
			return err
		}
		out.Finish([]byte("end"))
		return nil
	case 's':
		for frame := make([]byte, 1000); ; c.sent.Add(int64(len(frame))) {
			if err := out.Send(frame); err != nil {
				c.ended.Add(1)
				return err
			}
		}
	case 'w':
		c.waiting.Add(1)
		<-ctx.Done()
		c.ended.Add(1)
		return ctx.Err()
	case 'b':
		c.waiting.Add(1)
		<-c.release
		return nil
	case 'd':
		deadline, ok := ctx.Deadline()
		out.Finish(fmt.Appendf(nil, "%t %t", ok, time.Until(deadline) > 30*time.Minute))
		return nil
	default:
		return errkind.New(errkind.Kind(b-'0'), "error %d", b-'0').WithRetryAfter(1500 * time.Millisecond)
	}
}

type text string

func (r text) AppendRequest(dst []byte, _ uint64) ([]byte, error) { return append(dst, r...), nil }

type fixture struct {
	t       testing.TB
	network *MemoryNetwork
	service *testService
	server  *Server
	log     *testLog
}

// newFixture runs a server at address "node" of a memory network.
func newFixture(t *testing.T, change func(o *ServerOptions)) *fixture {
	f := &fixture{t: t, network: NewMemoryNetwork(), service: &testService{release: make(chan struct{})}, log: &testLog{}}
	f.server = f.serve(change)
	return f
}

func (f *fixture) serve(change func(o *ServerOptions)) *Server {
	f.t.Helper()
	o := ServerOptions{Role: RoleInsert, NewSession: f.service.session, Logger: f.log.logger(f.t)}
	if change != nil {
		change(&o)
	}
	s := NewServer(o)
	ln, err := f.network.Listen("node")
	if err != nil {
		f.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	f.t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			f.t.Errorf("Serve returns %v", err)
		}
	})
	return s
}

func (f *fixture) client(change func(o *ClientOptions)) *Client {
	o := ClientOptions{Addr: "node", Role: RoleInsert, Dial: f.network.Dial, Logger: f.log.logger(f.t)}
	if change != nil {
		change(&o)
	}
	c := NewClient(o)
	f.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return c
}

// call makes a call and returns everything that was answered.
func call(c *Client, request string) (string, error) {
	s, err := c.Start(context.Background(), text(request))
	if err != nil {
		return "", err
	}
	defer s.Close()
	var out strings.Builder
	for {
		payload, last, err := s.Recv(context.Background())
		if err != nil {
			return out.String(), err
		}
		out.Write(payload)
		if last {
			return out.String(), nil
		}
	}
}

func wantKind(t *testing.T, err error, kind errkind.Kind, texts ...string) {
	t.Helper()
	if errkind.Of(err) != kind {
		t.Errorf("got error %v of kind %s; want %s", err, errkind.Of(err), kind)
		return
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not mention %q", err, s)
		}
	}
}

func TestConcurrentCalls(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range 20 {
				request := fmt.Sprintf("e %d %d %s", i, j, strings.Repeat("x", rand.IntN(3000)))
				if got, err := call(c, request); err != nil || got != request+"end" {
					t.Errorf("got %q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	for _, want := range []string{"accepted vminsert conn from", "processing vminsert conn from", `successfully dialed -storageNode="node"`} {
		if n := strings.Count(f.log.String(), want); n != 1 {
			t.Errorf("%d log records with %q; want 1 in:\n%s", n, want, f.log)
		}
	}
	_ = c.Close()
	eventually(t, "the end of the connection is logged", func() bool {
		return strings.Contains(f.log.String(), "closing vminsert conn from") && f.server.Conns() == 0 && f.service.closed.Load() == 1
	})
	_, err := call(c, "e")
	wantKind(t, err, errkind.Unavailable, `"node"`)
}

// orderedRequest notes in which order requests are encoded.
type orderedRequest struct {
	next *int
}

func (r *orderedRequest) AppendRequest(dst []byte, conn uint64) ([]byte, error) {
	*r.next++
	return fmt.Appendf(dst, "e%d", *r.next), nil
}

func TestOrderOfEncodingIsOrderOfArrival(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	next := 0
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				s, err := c.Start(context.Background(), &orderedRequest{next: &next})
				if err != nil {
					t.Error(err)
					return
				}
				if _, _, err := s.Recv(context.Background()); err != nil {
					t.Error(err)
				}
				s.Close()
			}
		})
	}
	wg.Wait()
	for i, got := range f.service.order.requests {
		if want := fmt.Sprintf("e%d", i+1); got != want {
			t.Fatalf("request %d is %s; want %s", i, got, want)
		}
	}
}

func TestErrorKindsTravel(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	for kind := errkind.Internal; kind <= errkind.Unsupported; kind++ {
		_, err := call(c, string(rune('0'+kind)))
		wantKind(t, err, kind, fmt.Sprintf("error %d", kind), `"node"`)
		if errkind.RetryAfterOf(err) != 1500*time.Millisecond {
			t.Errorf("retry hint of %s is %s", kind, errkind.RetryAfterOf(err))
		}
	}
	_, err := call(c, "!")
	wantKind(t, err, errkind.Unsupported, "what?")
	if got, err := call(c, "e"); got != "eend" || err != nil {
		t.Errorf("the connection does not outlive errors: %v", err)
	}
	_, err = call(c, "")
	wantKind(t, err, errkind.Unavailable)
	eventually(t, "the corrupt request is logged", func() bool { return strings.Contains(f.log.String(), "empty request") })
}

func TestDeadlineTravels(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	s, err := c.Start(ctx, text("d"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if payload, last, err := s.Recv(ctx); string(payload) != "true true" || !last || err != nil {
		t.Errorf("the server sees deadline %q, %t, %v", payload, last, err)
	}
	if got, err := call(c, "d"); got != "false false" || err != nil {
		t.Errorf("without deadline the server sees %q, %v", got, err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	w, err := c.Start(short, text("w"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, _, err = w.Recv(context.Background())
	wantKind(t, err, errkind.Timeout)
}

func TestCancel(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions) { o.Config.MaxStreams = 2 })
	c := f.client(nil)
	// More calls than there are streams: cancelled ones make room.
	for i := range 10 {
		s, err := c.Start(context.Background(), text("w"))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the call runs", func() bool { return f.service.waiting.Load() == int64(i+1) })
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, _, err = s.Recv(ctx)
		wantKind(t, err, errkind.Canceled)
		s.Close()
		s.Close()
		eventually(t, "the call is cancelled at the server", func() bool { return f.service.ended.Load() == int64(i+1) })
	}
	if c.opts.Metrics.ConnectionErrors.Get() != 0 {
		t.Error("cancelling calls cost the connection")
	}
}

func TestStartWaitsForStream(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions) { o.Config.MaxStreams = 1 })
	c := f.client(nil)
	s, err := c.Start(context.Background(), text("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err = c.Start(ctx, text("e"))
	wantKind(t, err, errkind.Timeout)
	close(f.service.release)
	if got, err := call(c, "e"); got != "eend" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestSlowReader has a reader which does not read: the server stops after a
// window, other calls go on, and reading goes on where it stopped.
func TestSlowReader(t *testing.T) {
	f := newFixture(t, nil)
	const window = 20000
	c := f.client(func(o *ClientOptions) { o.Config.WindowBytes = window })
	s, err := c.Start(context.Background(), text("s"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the window is used up", func() bool { return f.service.sent.Load() >= window })
	for range 100 {
		if got, err := call(c, "e"); got != "eend" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if n := f.service.sent.Load(); n > window+1000 {
		t.Errorf("the server sent %d bytes ahead of a reader with a window of %d", n, window)
	}
	for read := 0; read < 10*window; {
		payload, _, err := s.Recv(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		read += len(payload)
	}
	s.Close()
	eventually(t, "the server stops", func() bool { return f.service.ended.Load() == 1 })
}

func TestServerDies(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	s, err := c.Start(context.Background(), text("w"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the call runs", func() bool { return f.service.waiting.Load() == 1 })
	f.server.Close()
	_, _, err = s.Recv(context.Background())
	wantKind(t, err, errkind.Unavailable, `"node"`)
	s.Close()
	eventually(t, "dialling fails", func() bool { return c.opts.Metrics.DialErrors.Get() > 0 })
	_, err = call(c, "e")
	wantKind(t, err, errkind.Unavailable, `"node"`, "nobody listens")
	if c.Reachable() {
		t.Error("a dead node counts as reachable")
	}
	f.serve(nil)
	eventually(t, "the node is reachable again", c.Reachable)
	if got, err := call(c, "e"); got != "eend" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if !strings.Contains(f.log.String(), `dialed -storageNode="node" again`) {
		t.Error("connecting again is not logged")
	}
}

// blackHole is a connection which swallows everything once told to.
type blackHole struct {
	net.Conn
	on *atomic.Bool
}

func (b blackHole) Write(p []byte) (int, error) {
	if b.on.Load() {
		return len(p), nil
	}
	return b.Conn.Write(p)
}

func TestHalfOpen(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions) { o.Config.IdleTimeout = flagvalue.Duration(time.Second) })
	var on atomic.Bool
	c := f.client(func(o *ClientOptions) {
		o.Config.UserTimeout = flagvalue.Duration(time.Second)
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			if on.Load() {
				return nil, errors.New("no route")
			}
			conn, err := f.network.Dial(ctx, addr)
			return blackHole{conn, &on}, err
		}
	})
	s, err := c.Start(context.Background(), text("w"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, "the call runs", func() bool { return f.service.waiting.Load() == 1 })
	on.Store(true)
	// Either side may notice first, and tells nobody over a dead network.
	_, _, err = s.Recv(context.Background())
	wantKind(t, err, errkind.Unavailable, `"node"`)
	eventually(t, "the server ends the call", func() bool { return f.service.ended.Load() == 1 && f.server.Conns() == 0 })
}

// A node that worked for long and falls silent, as one does which stands still, costs a caller the time it takes to notice, and those after it nothing,
// although new connections are taken: by the system, for a process which does not run.
func TestNobodyWaitsForSilentNodeToGreet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		var on atomic.Bool
		c := f.client(func(o *ClientOptions) {
			o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := f.network.Dial(ctx, addr)
				return blackHole{conn, &on}, err
			}
		})
		if _, err := call(c, "e"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		on.Store(true)
		began := time.Now()
		_, err := call(c, "e")
		wantKind(t, err, errkind.Unavailable, "no answer for 3s")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the first call took %s", took)
		}
		for range 100 {
			began = time.Now()
			_, err = call(c, "e")
			wantKind(t, err, errkind.Unavailable, `"node"`)
			if took := time.Since(began); took > 0 {
				t.Fatalf("a call after that took %s", took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		on.Store(false)
		time.Sleep(10 * time.Second)
		if _, err := call(c, "e"); err != nil {
			t.Error(err)
		}
	})
}

func TestSilentServer(t *testing.T) {
	n := NewMemoryNetwork()
	ln, err := n.Listen("node")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			_, err = readHello(conn)
		}
		if err == nil {
			_, err = conn.Write((&helloReply{version: 1, role: RoleInsert, maxStreams: 1, maxFrame: 1000}).appendTo(nil))
		}
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
		_, _ = io.Copy(io.Discard, conn) // reads but never answers
	}()
	log := &testLog{}
	c := NewClient(ClientOptions{Addr: "node", Role: RoleInsert, Dial: n.Dial, Logger: log.logger(t),
		Config: ClientConfig{UserTimeout: flagvalue.Duration(100 * time.Millisecond)}})
	_, err = call(c, "e")
	wantKind(t, err, errkind.Unavailable, "no answer for 100ms")
	_ = c.Close()
	_ = ln.Close()
	_ = (<-accepted).Close()
}

func TestIdleConnectionStays(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(func(o *ClientOptions) { o.Config.PingInterval = flagvalue.Duration(5 * time.Millisecond) })
	for range 3 {
		if _, err := call(c, "e"); err != nil {
			t.Fatal(err)
		}
		before := f.server.opts.Metrics.ReadBytes.Get()
		eventually(t, "pings arrive", func() bool { return f.server.opts.Metrics.ReadBytes.Get() > before+5*frameHeaderSize })
	}
	if c.opts.Metrics.ConnectionErrors.Get() != 0 {
		t.Error("an idle connection was lost")
	}
}

func TestShutdown(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	s, err := c.Start(context.Background(), text("b"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the call runs", func() bool { return f.service.waiting.Load() == 1 })
	done := make(chan error, 1)
	go func() { done <- f.server.Shutdown(context.Background()) }()
	eventually(t, "new calls are refused", func() bool {
		_, err := call(c, "e")
		return errkind.Of(err) == errkind.Draining
	})
	if c.Reachable() {
		t.Error("a node which is shutting down counts as reachable")
	}
	close(f.service.release)
	if _, last, err := s.Recv(context.Background()); err != nil || !last {
		t.Errorf("the call under way ends with %t, %v", last, err)
	}
	s.Close()
	if err := <-done; err != nil {
		t.Errorf("Shutdown returns %v", err)
	}
	if c.opts.Metrics.ConnectionErrors.Get() != 0 {
		t.Error("a graceful stop counts as a lost connection")
	}
	// Until it is back, the node is one which has shut down and not one which cannot be reached for some reason.
	eventually(t, "dialling has failed twice", func() bool { return c.opts.Metrics.DialErrors.Get() > 1 })
	_, err = call(c, "e")
	wantKind(t, err, errkind.Draining, `"node"`, "it has shut down", "nobody listens")
	again := f.serve(nil)
	eventually(t, "the node is reachable again", c.Reachable)
	again.Close()
	eventually(t, "the node is gone", func() bool { return !c.Reachable() })
	_, err = call(c, "e")
	wantKind(t, err, errkind.Unavailable, `"node"`)
}

// TestShutdownSpread checks that connections which were not told yet are served on.
func TestShutdownSpread(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions) { o.Config.ShutdownSpread = flagvalue.Duration(time.Hour) })
	clients := []*Client{f.client(nil), f.client(nil)}
	for _, c := range clients {
		if _, err := call(c, "e"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.server.Shutdown(ctx) }()
	told := 0
	eventually(t, "one client is told", func() bool {
		told = 1
		if !clients[0].Reachable() {
			told = 0
		}
		return !clients[told].Reachable()
	})
	if got, err := call(clients[1-told], "e"); got != "eend" || err != nil {
		t.Errorf("the client whose turn has not come gets %q, %v", got, err)
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown returns %v", err)
	}
}

func TestShutdownGivesUp(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	s, err := c.Start(context.Background(), text("w"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	eventually(t, "the call runs", func() bool { return f.service.waiting.Load() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := f.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returns %v", err)
	}
	_, _, err = s.Recv(context.Background())
	wantKind(t, err, errkind.Unavailable)
}

func TestCloseEndsCalls(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	s, err := c.Start(context.Background(), text("w"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Recv(context.Background())
	wantKind(t, err, errkind.Unavailable, "closed by this process")
	eventually(t, "the server ends the call", func() bool { return f.service.ended.Load() == f.service.waiting.Load() })
}

func TestRequestTooLarge(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions) { o.Config.MaxFrame = 1000 })
	c := f.client(nil)
	_, err := call(c, "e"+strings.Repeat("x", 1000))
	wantKind(t, err, errkind.TooLarge, "at most 1000")
	eventually(t, "the client is back", func() bool {
		got, err := call(c, "e")
		return got == "eend" && err == nil
	})
}

// TestNothingFollowsRequestTooLarge checks that requests which were encoded behind one that cannot be
// sent are not sent either: the peer lacks what it would have learned from it.
func TestNothingFollowsRequestTooLarge(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	o := ClientOptions{Addr: "node"}
	o.setDefaults()
	cc := newClientConn(&Client{opts: o}, near, helloReply{maxStreams: 2, maxFrame: 1000})
	s := &ClientStream{conn: cc, id: 1}
	_, err := cc.out.add(func(dst []byte) ([]byte, error) {
		return cc.appendRequest(dst, s, context.Background(), text(strings.Repeat("x", 1000)))
	})
	wantKind(t, err, errkind.TooLarge)
	wantKind(t, cc.send(framePing, 0, nil), errkind.Unavailable, "node")
}

func TestLimiter(t *testing.T) {
	set := metrics.NewSet()
	l := NewLimiter(1, time.Millisecond, "-someFlag")
	l.Register(set, "vm_test", "")
	if err := l.Acquire(context.Background()); err != nil {
		t.Fatal(err)
	}
	err := l.Acquire(context.Background())
	wantKind(t, err, errkind.Overloaded, "-someFlag")
	if errkind.RetryAfterOf(err) < time.Second {
		t.Errorf("no hint when to try again in %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantKind(t, l.Acquire(ctx), errkind.Canceled)
	var out bytes.Buffer
	if err := set.Write(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vm_test_current 1", "vm_test_capacity 1", "vm_test_limit_reached_total 2", "vm_test_limit_timeout_total 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	l.Release()
	if err := l.Acquire(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestDefaultPort(t *testing.T) {
	for in, want := range map[string]string{"host": "host:8400", "host:1": "host:1", "1.2.3.4": "1.2.3.4:8400", "[::1]": "[::1]:8400", "[::1]:7": "[::1]:7", "::1": "[::1]:8400"} {
		if got := withPort(in, RoleInsert); got != want {
			t.Errorf("%s becomes %s; want %s", in, got, want)
		}
	}
	if got := withPort("host", RoleSelect); got != "host:8401" {
		t.Errorf("got %s", got)
	}
}
