package transport

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/certfiles"
	"vmcluster/lib/certfiles/certtest"
)

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// securePair is tcpPair with TLS.
func securePair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	files := certtest.NewCA(t, "ca").Write(t, t.TempDir(), certtest.Leaf{})
	server, err := certfiles.NewServer(*demanding(files), certfiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := certfiles.NewClient(*settings(files), certfiles.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, b = tcpPair(t)
	near := newSecureConn(a, func(wire net.Conn) *tls.Conn { return tls.Client(wire, client("127.0.0.1")) })
	far := newSecureConn(b, func(wire net.Conn) *tls.Conn { return tls.Server(wire, server) })
	ended := make(chan error, 1)
	go func() { ended <- far.shakeHands() }()
	if err := errors.Join(near.shakeHands(), <-ended); err != nil {
		t.Fatal(err)
	}
	return near, far
}

type writtenLink struct {
	*link
	written atomic.Int64
	done    chan struct{}
	ended   chan error
}

func newWrittenLink(conn net.Conn) *writtenLink {
	w := &writtenLink{done: make(chan struct{}), ended: make(chan error, 1)}
	count := linkCounters{read: func(int) {}, written: func(n int) { w.written.Add(int64(n)) }}
	w.link = newLink(conn, 1<<20, time.Minute, &bytesutil.Pool{}, count)
	go func() { w.ended <- w.writeLoop(w.done, time.Minute, 0) }()
	return w
}

// TestOutboxKeepsOrder has many goroutines add frames, some in a hurry, to a peer that reads late and slowly: all frames
// arrive once, those of a goroutine in their order.
func TestOutboxKeepsOrder(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testOutboxKeepsOrder(t, tcpPair) })
	t.Run("tls", func(t *testing.T) { testOutboxKeepsOrder(t, securePair) })
}

func testOutboxKeepsOrder(t *testing.T, pair func(t *testing.T) (a, b net.Conn)) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a, b := pair(t)
	w := newWrittenLink(a)
	const senders, frames = 4, 500
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for n := range frames {
				payload := binary.BigEndian.AppendUint32(nil, uint32(n))
				payload = append(payload, bytes.Repeat([]byte{byte(n)}, rng.IntN(30000))...)
				send := w.send
				if rng.IntN(3) > 0 {
					send = w.sendNow
				}
				if err := send(frameData, uint32(i), payload); err != nil {
					t.Error(err)
				}
			}
		})
	}
	// What the system does not take is left to the write loop.
	eventually(t, "the network takes no more", func() bool {
		w.out.mu.Lock()
		defer w.out.mu.Unlock()
		return w.out.mu.stuck || w.out.mu.writing && len(w.out.mu.pending) >= w.out.limit
	})
	var next [senders]uint32
	reader, buf, total := io.Reader(b), &bytesutil.Buffer{}, int64(0)
	for range senders * frames {
		f, err := readFrame(reader, buf, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		total += int64(frameHeaderSize + len(f.payload))
		if n := binary.BigEndian.Uint32(f.payload); n != next[f.stream] || bytes.Count(f.payload[4:], []byte{byte(n)}) != len(f.payload)-4 {
			t.Fatalf("got frame %d of %d; want %d", n, f.stream, next[f.stream])
		}
		next[f.stream]++
	}
	wg.Wait()
	close(w.done)
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
	// Bytes are counted after they have been written, so the last ones may have arrived before.
	if got := w.written.Load(); got != total {
		t.Errorf("%d bytes were counted; want %d", got, total)
	}
}

// TestHurryOnBrokenConnection leaves the error to the write loop, which ends with it.
func TestHurryOnBrokenConnection(t *testing.T) {
	for _, pair := range []func(t *testing.T) (a, b net.Conn){tcpPair, securePair} {
		a, _ := pair(t)
		w := newWrittenLink(a)
		_ = a.Close()
		if err := w.sendNow(frameData, 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-w.ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the write loop ends with %v", err)
		}
	}
}

// TestLastRecord writes a frame to a peer over TLS that reads only when the system takes no more: the records which TLS has made already arrive without
// anything being sent after them.
func TestLastRecord(t *testing.T) {
	a, b := securePair(t)
	w := newWrittenLink(a)
	stuck := func() bool {
		w.out.mu.Lock()
		defer w.out.mu.Unlock()
		return w.out.mu.stuck && !w.out.mu.writing
	}
	// There is no write loop for now, so nobody but the sender writes.
	close(w.done)
	<-w.ended
	sent := 0
	for ; !stuck(); sent++ {
		if err := w.sendNow(frameData, 1, make([]byte, writeChunk-frameHeaderSize)); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.out.pendingBytes(); n > 0 {
		t.Fatalf("%d bytes are pending; TLS should have them all", n)
	}
	w.done = make(chan struct{})
	go func() { w.ended <- w.writeLoop(w.done, time.Minute, 0) }()
	w.out.flush()
	if err := b.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	reader, buf := io.Reader(b), &bytesutil.Buffer{}
	for i := range sent {
		if _, err := readFrame(reader, buf, 1<<20); err != nil {
			t.Fatalf("frame %d of %d: %s", i+1, sent, err)
		}
	}
	close(w.done)
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
}

// TestHurryAfterDeadline: the deadline of an ordinary write does not end what is written at once after it has passed.
func TestHurryAfterDeadline(t *testing.T) {
	a, b := tcpPair(t)
	w := newWrittenLink(a)
	const timeout = 5 * time.Millisecond
	for err := w.write([]byte("1"), timeout); err != nil; err = w.write([]byte("1"), timeout) {
		if !errors.Is(err, os.ErrDeadlineExceeded) { // the machine is slow
			t.Fatal(err)
		}
	}
	start := time.Now()
	eventually(t, "the deadline has passed", func() bool { return time.Since(start) > 2*timeout })
	if n, _ := w.out.try([]byte("2")); n != 1 {
		t.Errorf("%d bytes were written", n)
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(b, got); err != nil || string(got) != "12" {
		t.Errorf("got %q, %v", got, err)
	}
	close(w.done)
	<-w.ended
}
