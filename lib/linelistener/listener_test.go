package linelistener

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store keeps lines in memory.
type store struct {
	mu    sync.Mutex
	lines []string
	calls int
	gate  chan struct{} // nil: open; each call takes a value
	err   error
}

func (s *store) take(ctx context.Context, text []byte) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		return s.err
	}
	s.lines = append(s.lines, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
	return nil
}

func (s *store) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

type fixture struct {
	*Server
	*store
	set  *metrics.Set
	stop func()
}

func start(t *testing.T, o Options, s *store, args ...string) *fixture {
	t.Helper()
	o.Config = &Config{}
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	o.Config.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, set: metrics.NewSet()}
	o.Name, o.Flag, o.Addr, o.Logger, o.Metrics = "test", "testListenAddr", "127.0.0.1:0", logger.Discard(), f.set
	if s != nil {
		o.Store = s.take
	}
	if o.MaxLine == 0 {
		o.MaxLine = 1 << 20
	}
	var err error
	for range 10 { // the port which is free for TCP may not be for UDP
		if f.Server, err = Start(o); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	f.stop = sync.OnceFunc(func() { _ = f.Stop() })
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) dial(t *testing.T, network string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) counter(name string) uint64 { return f.set.Counter(name).Get() }

func (f *fixture) at(family, more string) string {
	return fmt.Sprintf("%s{name=%q, addr=%q%s}", family, "test", f.Addr(), more)
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20s", what)
		}
	}
}

func TestLinesAreStoredAtOnce(t *testing.T) {
	f := start(t, Options{}, &store{})
	conn := f.dial(t, "tcp")
	write(t, conn, "one\ntw")
	eventually(t, "a line is stored while the next one has begun", func() bool { return slices.Equal(f.got(), []string{"one"}) })
	write(t, conn, "o\nthree")
	eventually(t, "the next one", func() bool { return len(f.got()) == 2 })
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last one", func() bool { return slices.Equal(f.got(), []string{"one", "two", "three"}) })
	if n := f.counter(`vm_ingestserver_requests_total{type="test", name="write", net="tcp"}`); n != 1 {
		t.Errorf("%d requests", n)
	}
	if n := f.counter(f.at("vm_tcplistener_read_bytes_total", "")); n != 13 {
		t.Errorf("%d bytes", n)
	}
}

// TestPieces writes random lines, some too long, in random pieces over several connections.
func TestPieces(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const maxLine = 20_000
	f := start(t, Options{MaxLine: maxLine}, &store{})
	var want []string
	var senders sync.WaitGroup
	for i := range 3 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		var text strings.Builder
		for j := range 300 {
			line := fmt.Sprint(i, " ", j, " ", strings.Repeat("x", rng.IntN(1000)))
			if rng.IntN(50) == 0 {
				line = fmt.Sprint("long ", strings.Repeat("y", maxLine+rng.IntN(8*maxLine)))
			} else {
				want = append(want, line)
			}
			text.WriteString(line + "\n")
		}
		conn := f.dial(t, "tcp")
		senders.Go(func() {
			for b := []byte(text.String()); len(b) > 0; {
				n := min(len(b), 1+rng.IntN([]int{10, 3000, 200_000}[rng.IntN(3)]))
				if _, err := conn.Write(b[:n]); err != nil {
					t.Error(err)
					return
				}
				b = b[n:]
			}
			_ = conn.Close()
		})
	}
	senders.Wait()
	f.stop()
	var got []string
	for _, line := range f.got() {
		if !strings.HasPrefix(line, "long") {
			got = append(got, line)
		} else if len(line) <= maxLine {
			t.Errorf("the beginning of a long line has %d bytes, so that it may pass for a whole one", len(line))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d lines; want %d", len(got), len(want))
	}
}

func TestHTTPAtTheSamePort(t *testing.T) {
	s := &store{}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte(r.Method+" "), body...))
	})
	f := start(t, Options{HTTP: answer}, s)
	client := &http.Client{Transport: &http.Transport{}}
	for _, method := range []string{"POST", "POST", "PUT"} { // over one connection
		req, err := http.NewRequest(method, "http://"+f.Addr().String()+"/x", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if _ = resp.Body.Close(); err != nil || string(body) != method+" body" {
			t.Errorf("%s: %q, error %v", method, body, err)
		}
	}
	conn := f.dial(t, "tcp")
	write(t, conn, "put x\n")
	eventually(t, "a line", func() bool { return slices.Contains(f.got(), "put x") })
	client.CloseIdleConnections()
	f = start(t, Options{HTTP: answer}, nil)
	resp, err := http.Post("http://"+f.Addr().String(), "", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

func TestDatagrams(t *testing.T) {
	s := &store{gate: make(chan struct{}, 1000)}
	f := start(t, Options{}, s)
	conn := f.dial(t, "udp")
	write(t, conn, "first")
	drops := f.at("vm_udplistener_dropped_datagrams_total", "")
	big := strings.Repeat("x", 60_000) + "\n"
	sent := 0
	eventually(t, "datagrams are dropped while the storage stands still", func() bool {
		write(t, conn, big)
		sent++
		return f.counter(drops) > 0
	})
	for range cap(s.gate) {
		s.gate <- struct{}{}
	}
	eventually(t, "the others are stored", func() bool { n := len(f.got()); return n > 0 && n >= maxWaiting/len(big) })
	write(t, conn, "last\n")
	eventually(t, "datagrams are taken again", func() bool { return slices.Contains(f.got(), "last") })
	f.stop()
	if n := f.counter(`vm_ingestserver_requests_total{type="test", name="write", net="udp"}`); int(n) > sent+2 || n < 3 {
		t.Errorf("%d datagrams counted of %d", n, sent)
	}
}

// TestBackPressure checks that a sender has to wait when lines are not stored.
func TestBackPressure(t *testing.T) {
	s := &store{gate: make(chan struct{})}
	f := start(t, Options{}, s)
	conn := f.dial(t, "tcp")
	line := []byte(strings.Repeat("x", 999) + "\n")
	total := 0
	eventually(t, "the sender has to wait", func() bool {
		if err := conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Write(bytes.Repeat(line, 1000))
		total += n
		return err != nil
	})
	close(s.gate)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is stored", func() bool { return len(f.got()) >= total/len(line) })
}

// TestStopStoresWhatWasRead checks that all that senders had written is stored by the time Stop returns.
func TestStopStoresWhatWasRead(t *testing.T) {
	f := start(t, Options{}, &store{})
	const lines = 20_000
	tcp, udp := f.dial(t, "tcp"), f.dial(t, "udp")
	write(t, tcp, strings.Repeat("tcp line\n", lines)+"unfinished")
	write(t, udp, "udp line")
	f.stop()
	got := f.got()
	if len(got) != lines+1 || !slices.Contains(got, "udp line") || slices.Contains(got, "unfinished") {
		t.Errorf("%d lines", len(got))
	}
	if _, err := net.Dial("tcp", f.Addr().String()); err == nil {
		t.Error("it still accepts")
	}
}

func TestErrorsAreCounted(t *testing.T) {
	s := &store{err: errors.New("no")}
	f := start(t, Options{}, s)
	conn, datagrams := f.dial(t, "tcp"), f.dial(t, "udp")
	write(t, conn, "a\n")
	write(t, datagrams, "b\n")
	for _, network := range []string{"tcp", "udp"} {
		eventually(t, "an error of "+network, func() bool {
			return f.counter(fmt.Sprintf(`vm_ingestserver_request_errors_total{type="test", name="write", net=%q}`, network)) == 1
		})
	}
	s.mu.Lock()
	s.err = nil
	s.mu.Unlock()
	write(t, conn, "c\n")
	eventually(t, "the connection lives on", func() bool { return slices.Equal(f.got(), []string{"c"}) })
}

func TestIdle(t *testing.T) {
	f := start(t, Options{}, &store{}, "-ingestserver.idleTimeout=50ms")
	conn := f.dial(t, "tcp")
	write(t, conn, "unfinished")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("error %v; want the end of the connection", err)
	}
	eventually(t, "the connection is gone", func() bool { return f.open.Load() == 0 })
	if got := f.got(); len(got) > 0 {
		t.Errorf("lines %q", got)
	}
}

// TestBroken checks that what a broken connection has begun is not taken for a line.
func TestBroken(t *testing.T) {
	f := start(t, Options{}, &store{})
	conn := f.dial(t, "tcp")
	write(t, conn, "a\nbroken off")
	eventually(t, "the line before", func() bool { return slices.Contains(f.got(), "a") })
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil || conn.Close() != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is gone", func() bool { return f.open.Load() == 0 })
	if got := f.got(); !slices.Equal(got, []string{"a"}) || f.counter(f.at("vm_tcplistener_errors_total", `, type="read"`)) != 1 {
		t.Errorf("lines %q", got)
	}
}

func TestTooManyConnections(t *testing.T) {
	f := start(t, Options{}, &store{}, "-ingestserver.maxConns=1")
	first := f.dial(t, "tcp")
	write(t, first, "a\n")
	eventually(t, "the first", func() bool { return len(f.got()) == 1 })
	if _, err := f.dial(t, "tcp").Read(make([]byte, 1)); err == nil {
		t.Error("the second connection is served")
	}
	if n := f.counter(f.at("vm_tcplistener_errors_total", `, type="accept"`)); n != 1 {
		t.Errorf("%d errors", n)
	}
}

func TestPortTaken(t *testing.T) {
	f := start(t, Options{}, &store{})
	_, err := Start(Options{Config: &Config{}, Addr: f.Addr().String(), Flag: "xListenAddr", Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err == nil || !strings.Contains(err.Error(), "-xListenAddr") || !strings.Contains(err.Error(), "taken by another process") {
		t.Errorf("error %v", err)
	}
}
