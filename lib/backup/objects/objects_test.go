package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
)

func TestLocations(t *testing.T) {
	for text, want := range map[string]Location{
		"b": {Bucket: "b"}, "b/": {Bucket: "b"}, "b/x": {Bucket: "b", Dir: "x"}, "b/x/y/": {Bucket: "b", Dir: "x/y"}, "b//x": {Bucket: "b", Dir: "x"}, "b/..x/y.": {Bucket: "b", Dir: "..x/y."},
	} {
		l, err := ParseLocation(text)
		if err != nil || l != want {
			t.Errorf("%q: %v, %v", text, l, err)
		}
		if got := l.Key(l.Name("a/b")); got != "a/b" {
			t.Errorf("%q: the key becomes %q", text, got)
		}
	}
	for _, text := range []string{"", "/x", "b/..", "b/x/../y", "b/./x", "b/x//y", "b/../../x"} {
		if l, err := ParseLocation(text); err == nil {
			t.Errorf("%q is %v", text, l)
		}
	}
}

// FuzzParseLocation: what is accepted is printed as a text of the same location, below which all names are.
func FuzzParseLocation(f *testing.F) {
	for _, s := range []string{"b/x/y", "b//", "b/../x", "b", "ü/ä"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLocation(text)
		if err != nil {
			return
		}
		again, err := ParseLocation(l.String())
		if err != nil || again != l {
			t.Errorf("%q is %q, which is %q, %v", text, l, again, err)
		}
		if name := l.Name("k"); !strings.HasPrefix(name, l.Prefix()) || strings.HasPrefix(name, "/") || strings.Contains("/"+name, "/../") {
			t.Errorf("%q has the name %q", text, name)
		}
	})
}

func TestParts(t *testing.T) {
	var b Buffers
	for _, c := range [][2]int64{{0, 4}, {1, 4}, {4, 4}, {5, 4}, {8, 4}, {11, 4}, {3, 100}} {
		size, part := c[0], c[1]
		data := bytes.Repeat([]byte("abcdefgh"), 2)[:size]
		var got []byte
		n, last := 0, 0
		err := b.Each(iotest.OneByteReader(bytes.NewReader(data)), size, part, func(p Part) error {
			if p.Number != n || p.Offset != int64(len(got)) || int64(len(p.Bytes)) > part || len(p.Bytes) == 0 && size > 0 {
				t.Errorf("part %d of %d bytes in parts of %d: %+v", n, size, part, p)
			}
			if n++; p.Last {
				last++
			}
			got = append(got, p.Bytes...)
			return nil
		})
		if err != nil || !bytes.Equal(got, data) || last != 1 {
			t.Errorf("%d bytes in parts of %d: %q, %d last, %v", size, part, got, last, err)
		}
	}
	// A request which goes on reading after its part has gone gets nothing of the next one.
	var late io.Reader
	if err := b.Each(strings.NewReader("abc"), 3, 3, func(p Part) error { late = p.Reader(p.Bytes); return nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(late); len(got) > 0 || err == nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got := PartBytes(1<<40, 16<<20, 10_000); got*10_000 < 1<<40 || got > 110<<20 {
		t.Errorf("parts of a terabyte have %d bytes", got)
	}
}

// TestReader reads objects over connections which break at random.
func TestReader(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	o := Options{Attempts: 4, MaxPause: time.Nanosecond}
	for range 300 {
		data := make([]byte, rng.IntN(100))
		for i := range data {
			data[i] = byte(i)
		}
		open := func(_ context.Context, offset int64, version string) (Opened, error) {
			if offset > 0 && version != "v1" {
				t.Errorf("opened at %d as version %q", offset, version)
			}
			rest := data[offset:]
			body := io.MultiReader(bytes.NewReader(rest[:rng.IntN(len(rest)+1)]), iotest.ErrReader(io.ErrUnexpectedEOF))
			if rng.IntN(3) == 0 || len(rest) < 3 {
				body = bytes.NewReader(rest)
			}
			if rng.IntN(2) == 0 {
				body = iotest.DataErrReader(body)
			}
			return Opened{Body: io.NopCloser(body), Size: int64(len(data)), Version: "v1"}, nil
		}
		r, err := NewReader(t.Context(), &o, open)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || err == nil && !bytes.Equal(got, data) || !bytes.HasPrefix(data, got) {
			t.Fatalf("got %v of %v, %v", got, data, err)
		}
	}
}

// TestReaderGivesUp: what does not get on fails after so many attempts, what is too long at once.
func TestReaderGivesUp(t *testing.T) {
	o := Options{Attempts: 3, MaxPause: time.Nanosecond}
	opened := 0
	empty := func(context.Context, int64, string) (Opened, error) {
		opened++
		return Opened{Body: io.NopCloser(strings.NewReader("")), Size: 5}, nil
	}
	r, err := NewReader(t.Context(), &o, empty)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) || opened != 3 {
		t.Errorf("opened %d times, %v", opened, err)
	}
	long := func(context.Context, int64, string) (Opened, error) {
		return Opened{Body: io.NopCloser(strings.NewReader("too long")), Size: 5}, nil
	}
	if r, err = NewReader(t.Context(), &o, long); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("got %v", err)
	}
}

// TestPause: the pauses of all attempts make up most of a minute.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Options
		o.SetDefaults()
		start := time.Now()
		for failed := 1; failed < o.Attempts; failed++ {
			if err := o.Pause(t.Context(), failed); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d < 25*time.Second || d > time.Minute {
			t.Errorf("all pauses take %s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := o.Pause(ctx, 100); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// pipes is a listener whose connections are pipes, so that time can be that of a bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// TestSilence: a request may take as long as it likes while bytes move, in whichever direction.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung, p := make(chan struct{}), &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hang" {
				<-hung
				return
			}
			n, _ := io.Copy(io.Discard, r.Body)
			for range 9 {
				time.Sleep(time.Minute)
				_, _ = fmt.Fprintln(w, n)
				w.(http.Flusher).Flush()
			}
		})}
		go server.Serve(p)
		defer server.Close()
		defer close(hung)
		o := Options{Silence: 2 * time.Minute, Dial: p.dial}
		transport := NewTransport(&o)
		defer transport.CloseIdleConnections()
		client, start := &http.Client{Transport: transport}, time.Now()
		slow, feed := io.Pipe()
		go func() {
			for range 30 {
				time.Sleep(time.Minute)
				_, _ = feed.Write(make([]byte, 8<<10))
			}
			_ = feed.Close()
		}()
		resp, err := client.Post("http://store/slow", "", slow)
		if err != nil {
			t.Fatalf("a slow body: %s", err)
		}
		data, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(data) != strings.Repeat("245760\n", 9) {
			t.Errorf("a slow answer: %q, %v", data, err)
		}
		if d := time.Since(start); d < 39*time.Minute {
			t.Errorf("it took %s only: the test tests nothing", d)
		}
		start = time.Now()
		var timeout net.Error
		if _, err := client.Get("http://store/hang"); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("a request which is not answered: %v", err)
		}
		if d := time.Since(start); d < 2*time.Minute || d > 5*time.Minute {
			t.Errorf("it is given up after %s", d)
		}
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
